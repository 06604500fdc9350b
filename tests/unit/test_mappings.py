"""Names in the configuration's mappings that are nowhere, as far as no cloud is needed for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest

from pumphouse.config.settings import Mappings
from pumphouse.errors import ConfigError
from pumphouse.plan import mappings
from pumphouse.plan.mappings import check_mappings
from pumphouse.tasks import KINDS
from pumphouse.tasks.keystone import user
from pumphouse.tasks.kind import Names


def cloud(*names: str, ids: Collection[str] = (), is_admin: bool = True, services: bool = True) -> Any:
    return SimpleNamespace(
        name="cloud", names=names, ids=ids, is_admin=is_admin, has=lambda service: services, extensions=()
    )


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds that ask a cloud of this file; servers have other zones than volumes."""

    def told(asked: Any, wanted: Collection[str]) -> Names:
        return Names(asked.names, asked.ids)

    one = {"roles": told, "flavors": told, "external_networks": told, "availability_zones": told}
    other = {"availability_zones": lambda asked, wanted: Names(["of-volumes"])}
    known = {"role": replace(KINDS["role"], mapped_names=one)}
    known |= {"volume": replace(KINDS["volume"], mapped_names=other)}
    monkeypatch.setattr(mappings, "KINDS", known)


def problems(source: Any, destination: Any, **mapped: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        check_mappings(source, destination, mapped)
    assert caught.value.exit_code == 2
    return caught.value.problems


def test_every_mapping_of_the_configuration_is_checked() -> None:
    checked = {name for kind in KINDS.values() for name in kind.mapped_names}
    assert checked == {field.name for field in fields(Mappings)}
    assert all(kind.mapping in kind.mapped_names for kind in KINDS.values() if kind.mapping)


def test_what_is_there_is_no_problem() -> None:
    mapped = {"roles": {"a": "b"}, "availability_zones": {"a": "of-volumes"}, "external_networks": {"a": "i"}}
    assert check_mappings(cloud("a"), cloud("b", ids=["i"]), mapped) == ()


def test_both_sides_are_told_of_at_once_with_what_was_meant() -> None:
    found = problems(cloud("member"), cloud("reader"), roles={"mebmer": "raeder", "member": "zzz"})
    assert found == (
        "mappings.roles: the source has no 'mebmer': did you mean 'member'?",
        "mappings.roles: 'mebmer' is mapped to 'raeder', which the destination does not have: did you mean 'reader'?",
        "mappings.roles: 'member' is mapped to 'zzz', which the destination does not have",
    )


def test_an_id_can_be_on_the_right_alone() -> None:
    found = problems(cloud("public", ids=["i"]), cloud("ext", ids=["j"]), external_networks={"i": "j"})
    assert found == ("mappings.external_networks: the source has no 'i'",)


def test_what_may_have_gone_from_the_source_is_noted() -> None:
    mapped = {"flavors": {"smal": "big"}, "availability_zones": {"was": "of-volumes"}}
    assert check_mappings(cloud("small"), cloud("big"), mapped) == (
        "mappings.flavors: the source has no 'smal': did you mean 'small'?",
        "mappings.availability_zones: the source has no 'was'",
    )


@pytest.mark.parametrize("shown", [cloud(is_admin=False), cloud(services=False)])
def test_a_cloud_that_does_not_show_its_names_is_not_asked(shown: Any) -> None:
    assert check_mappings(shown, shown, {"roles": {"a": "b"}}) == ()


def test_users_that_a_long_list_leaves_out_are_asked_for_by_name() -> None:
    there = {"d": ["ann", "bob", "zoe"], "e": ["eve"]}

    def listed(domain: str, name: str = "") -> list[Any]:
        found = [other for other in there[domain] if other == name] if name else there[domain][:2]
        return [SimpleNamespace(name=other) for other in found]

    domains = SimpleNamespace(list=lambda: [SimpleNamespace(id=i, name=i) for i in there])
    keystone = SimpleNamespace(domains=domains, users=SimpleNamespace(list=listed))
    found = user.KIND.mapped_names["users"](
        SimpleNamespace(keystone=keystone, is_admin=True), {"zoe", "bob", "nobody"}
    )
    assert set(found.names) == {"ann", "bob", "zoe", "eve"}

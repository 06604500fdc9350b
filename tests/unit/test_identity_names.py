"""How names, ids and roles of one cloud are recognised in another, as far as no cloud is needed for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keystoneauth1.exceptions import BadRequest
from keystoneclient.v3.role_assignments import RoleAssignment
from keystoneclient.v3.roles import Role

from pumphouse.errors import ConfigError
from pumphouse.model import Ref, Twin
from pumphouse.tasks.base import Search, differs_in_case, named
from pumphouse.tasks.keystone import assignment, role
from pumphouse.tasks.keystone.common import assignment_id, by_name
from pumphouse.tasks.keystone.user import _without
from pumphouse.tasks.nova import keypair

NOWHERE: Any = None
ID = st.text("0123456789abcdef", min_size=1, max_size=64)
LDAP_ID = st.text(min_size=1, max_size=64)


def search(**mappings: dict[str, str]) -> Search:
    return Search(NOWHERE, {}, {"roles": {}, **mappings}, NOWHERE, {})


def make_role(name: str, **fields: Any) -> Role:
    return Role(None, {"id": f"id of {name}", "name": name, "domain_id": None, **fields})


def twins(name: str, *there: str, **mappings: dict[str, str]) -> list[Twin]:
    roles = by_name(make_role(other) for other in there)
    return role._twins(search(**mappings), role._record(make_role(name), []), roles, {})


def test_a_role_is_the_one_of_its_name() -> None:
    assert twins("auditor", "auditor", "Auditor", "member") == [Twin("id of auditor", ours=True)]
    assert twins("auditor", "member") == []


def test_a_role_whose_name_differs_in_case_is_not_certain() -> None:
    (twin,) = twins("auditor", "Auditor", "member")
    assert (twin.id, twin.ours) == ("id of Auditor", False)
    assert twin.differences == ("name is 'Auditor', source has 'auditor'",)


def test_the_old_member_role_becomes_member_only_where_there_is_no_old_one() -> None:
    assert [(twin.id, twin.ours) for twin in twins("_member_", "member")] == [("id of member", True)]
    assert [twin.id for twin in twins("_member_", "member", "_member_")] == ["id of _member_"]
    assert [twin.id for twin in twins("_member_", "member", "user", roles={"_member_": "user"})] == [
        "id of user"
    ]
    assert twins("_member_", "reader") == []


@pytest.mark.parametrize("name", ["admin", "Admin", "service"])
def test_a_role_with_power_over_the_cloud_is_neither_carried_nor_mapped_to(name: str) -> None:
    assert role._record(make_role(name), []).skip
    with pytest.raises(ConfigError, match="which a migration never grants"):
        twins("boss", name, roles={"boss": name})


def test_a_mapping_to_nothing_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"mappings\.roles: 'a' is mapped to 'b'") as caught:
        named(search(roles={"a": "b"}), "roles", "a", {"a": [1]})
    assert caught.value.hint == "create it there, or correct the mapping"


def test_only_case_makes_names_doubtful() -> None:
    assert differs_in_case("Straße", "STRASSE")
    assert not differs_in_case("member", "member")
    assert not differs_in_case("member", "_member_")


@given(tenant_id=ID, user_id=LDAP_ID, role_id=ID)
def test_an_assignment_is_found_again_by_its_id(tenant_id: str, user_id: str, role_id: str) -> None:
    scope = {"project": {"id": tenant_id}}
    item = RoleAssignment(None, {"scope": scope, "user": {"id": user_id}, "role": {"id": role_id}})
    place = {"project": tenant_id, "user": user_id, "os_inherit_extension_inherited": False}
    assert assignment._split(assignment_id(item)) == (role_id, place)
    inherited = {**scope, "OS-INHERIT:inherited_to": "projects"}
    below = RoleAssignment(None, {"scope": inherited, "user": {"id": user_id}, "role": {"id": role_id}})
    assert assignment_id(below) == f"{assignment_id(item)}.inherited"
    assert assignment._split(assignment_id(below)) == (
        role_id,
        {**place, "os_inherit_extension_inherited": True},
    )
    of_group = RoleAssignment(None, {"scope": scope, "group": {"id": tenant_id}, "role": {"id": role_id}})
    place = {"project": tenant_id, "group": tenant_id, "os_inherit_extension_inherited": False}
    assert assignment._split(assignment_id(of_group)) == (role_id, place)


@given(user_id=LDAP_ID, name=st.text("abc @._-", min_size=1))
def test_the_owner_of_a_keypair_is_among_those_asked(user_id: str, name: str) -> None:
    record = keypair._record(user_id, {"name": name, "type": "ssh", "fingerprint": "f", "public_key": "k"})
    assert user_id in keypair._owners(record.ref.id)
    assert (record.needs, record.part_of) == ((Ref("user", user_id),), Ref("user", user_id))


def test_an_error_never_repeats_a_password() -> None:
    error = BadRequest("'s3cret' does not match the rules", http_status=400)
    assert "s3cret" not in _without("s3cret", error)
    assert "does not match the rules" in _without("s3cret", error)

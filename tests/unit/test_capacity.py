"""What of a plan the limits of a destination refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pumphouse.model import Action, Ref, Step
from pumphouse.plan.capacity import refuse_excess
from tests.unit.memory import step
from tests.unit.test_services import TENANT, PlainCloud, connect, there

__all__ = ["connect", "there"]

QUOTAS = f"/compute/v2.1/os-quota-sets/{TENANT}"
TWIN = Ref("tenant", "t")


def with_data(item: Step, **data: Any) -> Step:
    return replace(item, record=replace(item.record, data=data))


def plan(twin_id: str | None, *others: Step) -> dict[Ref, Step]:
    tenant = replace(step("tenant", "t"), destination_id=twin_id)
    flavor = with_data(step("flavor", "f", action=Action.REUSE), vcpus=4, ram=512)
    servers = [with_data(step("server", name), flavor_id="f") for name in ("a", "b")]
    return {item.ref: item for item in (tenant, flavor, *servers, *others)}


def conflicts(cloud: Any, steps: dict[Ref, Step]) -> dict[str, str]:
    found = refuse_excess(steps, cloud, TWIN, {})
    return {ref.id: s.reason for ref, s in found.items() if s.action is Action.CONFLICT}


@pytest.fixture
def cloud(there: PlainCloud, connect: Any) -> Any:
    there.catalog.append(("compute", "/compute/v2.1"))
    there.offer("/compute", "2.1", "2.60")
    limits = {"id": TENANT, "instances": 2, "cores": 8, "ram": -1}
    there.answers[f"{QUOTAS}/defaults"] = {"quota_set": limits}
    return connect()


def test_the_defaults_are_what_a_new_tenant_has(cloud: Any, there: PlainCloud) -> None:
    assert conflicts(cloud, plan(None)) == {}
    third = with_data(step("server", "c"), flavor_id="f")
    # Three servers, and twelve cores for eight.
    assert conflicts(cloud, plan(None, third)).keys() == {"a", "b", "c"}


def test_the_tenants_own_limits_come_before_anything_that_they_limit(cloud: Any) -> None:
    third = with_data(step("server", "c"), flavor_id="f")
    carried = {"tenant_id": "t", "service": "compute", "limits": {"instances": 1, "cores": -1}}
    quota = with_data(step("quota", "t.compute"), **carried, used={"instances": 3})
    assert conflicts(cloud, plan(None, third, quota)) == {}


@pytest.mark.parametrize(("in_use", "refused"), [(0, set()), (1, {"a", "b"})])
def test_what_is_in_use_counts(cloud: Any, there: PlainCloud, in_use: int, refused: set[str]) -> None:
    told = {"limit": 2, "in_use": in_use, "reserved": 0}
    there.answers[f"{QUOTAS}/detail"] = {"quota_set": {"id": TENANT, "instances": told}}
    found = conflicts(cloud, plan(TENANT))
    assert found.keys() == refused
    assert all(f"2, of which {in_use} are in use, and the plan needs 2 more" in why for why in found.values())


def test_a_login_that_is_not_told_of_limits_is_refused_nothing(cloud: Any, there: PlainCloud) -> None:
    there.answers[f"{QUOTAS}/detail"] = 403
    assert conflicts(cloud, plan(TENANT)) == {}


@pytest.mark.parametrize(("limit", "refused"), [(10, {"v", "s"}), (11, set()), (-1, set())])
def test_a_volume_may_be_too_large_by_itself(
    there: PlainCloud, connect: Any, limit: int, refused: set[str]
) -> None:
    there.catalog.append(("volumev3", "/volumev3"))
    there.offer("/volumev3", "3", "3.70")
    limits = {"id": TENANT, "volumes": -1, "gigabytes": -1, "per_volume_gigabytes": limit}
    there.answers[f"/volumev3/v3/os-quota-sets/{TENANT}/defaults"] = {"quota_set": limits}
    volumes = [with_data(step("volume", "v"), size=11), with_data(step("volume_snapshot", "s"), size=11)]
    small = with_data(step("volume", "w"), size=10)
    tenant = step("tenant", "t")
    found = conflicts(connect(), {item.ref: item for item in (tenant, *volumes, small)})
    assert found.keys() == refused
    assert all(
        "per_volume_gigabytes at the destination is 10, and this has 11" in why for why in found.values()
    )


def test_a_group_of_servers_may_have_too_many(cloud: Any, there: PlainCloud) -> None:
    limits = {"id": TENANT, "server_groups": 10, "server_group_members": 2}
    there.answers[f"{QUOTAS}/defaults"] = {"quota_set": limits}
    groups = [with_data(step("server_group", name), members=list(name)) for name in ("ab", "abc")]
    found = conflicts(cloud, {item.ref: item for item in (step("tenant", "t"), *groups)})
    assert found.keys() == {"abc"}
    assert "server_group_members at the destination is 2, and this has 3" in found["abc"]

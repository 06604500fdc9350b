"""Address groups, and what single tenants may use of another's, between two real Neutrons."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pumphouse.cloud import Cloud, call, get_all
from pumphouse.model import Action, Json
from pumphouse.tasks.neutron.common import ADDRESS_GROUPS, NETWORKS, SECURITY_GROUPS
from tests.real.neutron_world import World, decisions, everything, neutron_world

pytestmark = pytest.mark.exhaustive

ADDRESSES = ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]


@pytest.fixture
def world(lab: Any) -> Iterator[World]:
    with neutron_world(lab) as found:
        yield found


def seed(world: World) -> SimpleNamespace:
    """A rule for a group of addresses; a network, a security group and those addresses shared with others."""
    offices = world.make(ADDRESS_GROUPS, name="büros", description="alle", addresses=ADDRESSES)
    web = world.make(SECURITY_GROUPS, name="web")
    rule = {
        "security_group_id": web["id"],
        "direction": "ingress",
        "protocol": "tcp",
        "remote_address_group_id": offices["id"],
    }
    call(world.source.neutron, "POST", "/security-group-rules", {"security_group_rule": rule})
    lan, _ = world.network("10.7.0.0/24")
    partner, lonely = world.project(world.source, "-partner"), world.project(world.source, "-lonely")
    share(world, "network", lan, partner)
    share(world, "network", lan, lonely)
    share(world, "security_group", web, partner)
    share(world, "address_group", offices, "*")
    return SimpleNamespace(offices=offices, web=web, lan=lan, partner=partner, lonely=lonely)


def share(world: World, kind: str, item: Json, target: str) -> None:
    policy = {"object_type": kind, "object_id": item["id"], "action": "access_as_shared"}
    owner = {"project_id": world.tenant_id, "target_tenant": target}
    call(world.source.neutron, "POST", "/rbac-policies", {"rbac_policy": {**policy, **owner}})


def shares(cloud: Cloud, tenant_id: str) -> list[tuple[str, str]]:
    listed = get_all(cloud.neutron, "/rbac-policies", "rbac_policies", project_id=tenant_id)
    return sorted((policy["object_type"], policy["target_tenant"]) for policy in listed)


def test_they_arrive_and_a_second_time_makes_nothing(world: World) -> None:
    seeded = seed(world)
    partner = world.project(world.destination, "-partner")
    by_hand = world.carry()
    first = by_hand.steps()
    by_hand.run(first)
    tenant_id = world.twin_tenant()
    (offices,) = [g for g in ADDRESS_GROUPS.all(world.destination) if g["project_id"] == tenant_id]
    assert (offices["name"], offices["description"]) == ("büros", "alle")
    assert sorted(offices["addresses"]) == ADDRESSES
    web = world.twin(SECURITY_GROUPS, seeded.web)
    remotes = [rule["remote_address_group_id"] for rule in web["security_group_rules"]]
    assert sorted(filter(None, remotes)) == [offices["id"]]
    expected = [("address_group", "*"), ("network", partner), ("security_group", partner)]
    assert shares(world.destination, tenant_id) == expected
    unshared = f"it is not shared with tenant {world.tag}-lonely, which is not at the destination"
    assert [step.reason.partition(":")[0] for step in first.values() if step.action is Action.SKIP] == [
        unshared
    ]

    before = everything(world.destination)
    again = by_hand.steps()
    assert set(decisions(again).values()) == {Action.REUSE, Action.SKIP}
    lonely = world.project(world.destination, "-lonely")
    by_hand.run(by_hand.steps())
    assert ("network", lonely) in shares(world.destination, tenant_id)
    before["tenant"] = everything(world.destination)["tenant"]
    expected = sorted([*expected, ("network", lonely)])
    by_hand.run(first)
    assert everything(world.destination) == before
    assert shares(world.destination, tenant_id) == expected


def test_a_failure_takes_back_all(world: World) -> None:
    seed(world)
    world.project(world.destination, "-partner")
    before = everything(world.destination)
    policies = get_all(world.destination.neutron, "/rbac-policies", "rbac_policies")
    by_hand = world.carry()
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    assert everything(world.destination) == before
    assert get_all(world.destination.neutron, "/rbac-policies", "rbac_policies") == policies


def test_other_addresses_under_the_same_name_are_a_conflict(world: World) -> None:
    seeded = seed(world)
    by_hand = world.carry()
    kinds = ("domain", "tenant")
    by_hand.run({ref: step for ref, step in by_hand.steps().items() if ref.kind in kinds})
    other = {"name": "büros", "addresses": ["10.0.0.0/8"], "project_id": world.twin_tenant()}
    ADDRESS_GROUPS.create(world.destination, other)
    step = world.step("address_group", seeded.offices)
    assert step.action is Action.CONFLICT
    assert "addresses is ['10.0.0.0/8']" in step.reason
    assert NETWORKS.all(world.destination, project_id=world.twin_tenant()) == []

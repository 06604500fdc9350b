"""Networks between two real Neutrons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from keystoneauth1.exceptions import BadRequest

from pumphouse.errors import ConflictError
from pumphouse.model import Action, Json
from pumphouse.tasks.base import stamp_tag
from pumphouse.tasks.neutron.common import NETWORKS, PORTS, _unknown, is_stamped
from pumphouse.tasks.neutron.network import FIELDS, EnsureNetwork
from tests.real.neutron_world import World, decisions, everything, made, neutron_world, same

pytestmark = pytest.mark.exhaustive

ODD: Json = {
    "name": 'büro & "lab"',
    "description": "über alles",
    "mtu": 1333,
    "port_security_enabled": False,
    "admin_state_up": False,
    "shared": True,
    "dns_domain": "odd.example.",
}


@pytest.fixture
def world(lab: Any) -> Iterator[World]:
    with neutron_world(lab) as found:
        yield found


def external(world: World, cloud: Any, name: str) -> Json:
    project = world.project(cloud, f"-{name}")
    return NETWORKS.create(cloud, {"name": name, "router:external": True, "project_id": project})


def ensure(world: World, steps: Any, item: Json) -> tuple[EnsureNetwork, Json, Json]:
    """The task that makes a network, with what it is given."""
    (step,) = [step for ref, step in steps.items() if ref.id == item["id"]]
    found = world.carry()
    task: EnsureNetwork = found.kinds["network"].tasks(found.migration, step)[1]
    task.notes = []  # as its execute begins
    ensured = {f"tenant-{world.tenant_id}-ensured": {"id": world.twin_tenant(), "made": False}}
    return task, step.record.data, ensured


def test_every_field_arrives_and_a_second_time_makes_nothing(world: World) -> None:
    odd = world.make(NETWORKS, tags=["b", "a=1"], **ODD)
    plain = world.make(NETWORKS)
    by_hand = world.carry()
    first = by_hand.steps()
    by_hand.run(first)
    assert same(odd, world.twin(NETWORKS, odd), FIELDS)
    assert same(plain, world.twin(NETWORKS, plain), FIELDS)

    before = everything(world.destination)
    again = by_hand.steps()
    assert set(decisions(again).values()) == {Action.REUSE}
    assert [step.notes for ref, step in again.items() if ref.kind == "network"] == [(), ()]
    assert made(by_hand.run(again)) == []
    by_hand.run(first)
    assert everything(world.destination) == before


def test_a_failure_takes_back_all(world: World) -> None:
    world.network()
    before = everything(world.destination)
    by_hand = world.carry()
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    assert everything(world.destination) == before


def test_one_of_the_same_name_is_a_conflict_until_the_policy_decides(world: World) -> None:
    mine = world.make(NETWORKS, name="lan", mtu=1400)
    world.carry().run({ref: s for ref, s in world.carry().steps().items() if ref.kind != "network"})
    there = NETWORKS.create(
        world.destination, {"name": "lan", "mtu": 1300, "project_id": world.twin_tenant()}
    )
    step = world.step("network", mine)
    assert step.action is Action.CONFLICT
    assert "mtu is 1300, source has 1400" in step.reason
    assert world.step("network", mine, "reuse").destination_id == there["id"]
    step = world.step("network", mine, "rename")
    assert (step.action, step.name) == (Action.CREATE, f"lan-{mine['id'][:8]}")
    world.migrate("rename")
    assert world.twin(NETWORKS, mine)["name"] == step.name


def test_an_external_network_is_found_by_its_name_or_its_mapping_and_never_made(world: World) -> None:
    name = f"{world.tag}-public"
    old = external(world, world.source, name)
    world.make(PORTS, network_id=old["id"])
    NETWORKS.create(
        world.destination,
        {"name": name, "shared": True, "project_id": world.project(world.destination, "-decoy")},
    )
    step = world.step("network", old)
    assert (step.action, step.reason.split(":")[0]) == (
        Action.CONFLICT,
        "an external network is never created",
    )
    new = external(world, world.destination, f"{world.tag}-internet")
    step = world.step("network", old, external_networks={name: new["name"]})
    assert (step.action, step.destination_id) == (Action.REUSE, new["id"])
    twin = external(world, world.destination, name)
    assert world.step("network", old).destination_id == twin["id"]
    external(world, world.destination, new["name"] + "2")
    NETWORKS.update(world.destination, new["id"], name=name)
    assert "2 candidates" in world.step("network", old).reason


def test_the_network_of_another_tenant_is_found_shared_or_by_its_stamp(world: World) -> None:
    owner = world.project(world.source, "-owner")
    name = f"{world.tag}-common"
    old = NETWORKS.create(world.source, {"name": name, "shared": True, "project_id": owner})
    world.make(PORTS, network_id=old["id"])
    step = world.step("network", old)
    assert (step.action, step.reason.split(":")[0]) == (
        Action.CONFLICT,
        f"belongs to tenant {world.tag}-owner",
    )
    new = {"name": name, "shared": True, "project_id": world.project(world.destination, "-owner")}
    there = NETWORKS.create(world.destination, new)
    assert world.step("network", old).destination_id == there["id"]
    NETWORKS.create(world.destination, new)
    assert "2 candidates" in world.step("network", old).reason
    NETWORKS.put(world.destination, there["id"], "tags", tags=[stamp_tag(old["id"])])
    assert world.step("network", old).destination_id == there["id"]


def test_one_that_a_dead_run_left_is_finished_and_not_made_again(world: World) -> None:
    mine = world.make(NETWORKS, tags=["kept"], name="lan", description="mine")
    by_hand = world.carry()
    first = by_hand.steps()
    by_hand.run({ref: step for ref, step in first.items() if ref.kind != "network"})
    task, data, ensured = ensure(world, first, mine)
    left = task.create(data, ensured)

    step = world.step("network", mine)
    assert (step.action, step.destination_id) == (Action.CREATE, left)
    assert step.reason.startswith("at the destination, but unfinished")
    result = task.execute(data, **ensured)
    assert result == {"id": left, "made": True, "notes": []}
    assert same(mine, world.twin(NETWORKS, mine), FIELDS)
    assert world.step("network", mine).action is Action.REUSE


def test_two_of_the_same_stamp_are_a_conflict(world: World) -> None:
    mine = world.make(NETWORKS, name="lan")
    by_hand = world.carry()
    first = by_hand.steps()
    by_hand.run({ref: step for ref, step in first.items() if ref.kind != "network"})
    task, data, ensured = ensure(world, first, mine)
    ids = {task.create(data, ensured), task.create(data, ensured)}
    assert "2 candidates" in world.step("network", mine).reason
    with pytest.raises(ConflictError, match="2 networks of the destination carry the stamp") as caught:
        task.execute(data, **ensured)
    assert all(i in str(caught.value) for i in ids)


def test_what_the_destination_does_not_know_is_left_out_and_noted(world: World) -> None:
    with pytest.raises(BadRequest) as caught:
        NETWORKS.create(world.destination, {"name": "x", "colour": 1, "taste": 2})
    assert _unknown(caught.value) == {"colour", "taste"}

    mine = world.make(NETWORKS, name="lan")
    by_hand = world.carry()
    first = by_hand.steps()
    by_hand.run({ref: step for ref, step in first.items() if ref.kind != "network"})
    task, data, ensured = ensure(world, first, mine)
    result = task.execute({**data, "availability_zone_hints": ["moon"]}, **ensured)
    assert result["notes"] == [
        "availability zone hint moon is not carried: the destination has no such zone for networks"
    ]


def test_only_the_networks_of_the_tenant_are_its_own(world: World) -> None:
    mine = world.make(NETWORKS, name="lan")
    other = world.project(world.source, "-other")
    NETWORKS.create(world.source, {"name": "lan", "project_id": other, "shared": True})
    steps = world.carry().steps()
    assert [ref.id for ref in steps if ref.kind == "network"] == [mine["id"]]
    world.migrate()
    assert is_stamped(world.twin(NETWORKS, mine) | {"tags": [stamp_tag(mine["id"])]}, mine["id"])

"""Trunks between two real Neutrons."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pumphouse.model import Action, Json
from pumphouse.tasks.neutron.common import PORTS, TRUNKS
from pumphouse.tasks.neutron.trunk import FIELDS
from tests.real.neutron_world import World, decisions, everything, neutron_world, same

pytestmark = pytest.mark.exhaustive


@pytest.fixture
def world(lab: Any) -> Iterator[World]:
    with neutron_world(lab) as found:
        yield found


def seed(world: World) -> SimpleNamespace:
    """A trunk of two subports, and one of none that has no name."""
    lan, _ = world.network("10.6.0.0/24")
    ports = [world.make(PORTS, name=f"p{n}", network_id=lan["id"]) for n in range(4)]
    sub_ports = [
        {"port_id": port["id"], "segmentation_type": "vlan", "segmentation_id": number}
        for number, port in zip((7, 4000), ports[1:3], strict=True)
    ]
    wide = world.make(
        TRUNKS,
        ["a", "b=1"],
        name='bündel "1"',
        description="vielspurig",
        port_id=ports[0]["id"],
    )
    TRUNKS.put(world.source, wide["id"], "add_subports", sub_ports=sub_ports)
    TRUNKS.update(world.source, wide["id"], admin_state_up=False)
    wide["admin_state_up"] = False
    return SimpleNamespace(wide=wide, bare=world.make(TRUNKS, port_id=ports[3]["id"]), ports=ports)


def subports(world: World, trunk: Json) -> list[tuple[str, str, int]]:
    """The subports of a trunk of the destination by the names of their ports."""
    names = {port["id"]: port["name"] for port in PORTS.all(world.destination)}
    return sorted(
        (names[s["port_id"]], s["segmentation_type"], s["segmentation_id"]) for s in trunk["sub_ports"]
    )


def test_every_field_arrives_and_a_second_time_makes_nothing(world: World) -> None:
    seeded = seed(world)
    by_hand = world.carry()
    first = by_hand.steps()
    by_hand.run(first)
    twin = world.twin(TRUNKS, seeded.wide)
    assert same(seeded.wide, twin, FIELDS)
    assert subports(world, twin) == [("p1", "vlan", 7), ("p2", "vlan", 4000)]
    assert twin["port_id"] == world.twin(PORTS, seeded.ports[0])["id"]
    assert same(seeded.bare, world.twin(TRUNKS, seeded.bare), FIELDS)
    before = everything(world.destination)
    again = by_hand.steps()
    assert set(decisions(again).values()) == {Action.REUSE}
    assert {step.notes for ref, step in again.items() if ref.kind == "trunk"} == {()}
    by_hand.run(first)
    assert everything(world.destination) == before


def test_a_failure_takes_back_all(world: World) -> None:
    seed(world)
    before = everything(world.destination)
    by_hand = world.carry()
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    assert everything(world.destination) == before


def test_what_a_trunk_lacks_is_named_and_finished(world: World) -> None:
    seeded = seed(world)
    world.migrate()
    twin = world.twin(TRUNKS, seeded.wide)
    TRUNKS.update(world.destination, twin["id"], admin_state_up=True)
    gone = world.twin(PORTS, seeded.ports[1])["id"]
    TRUNKS.put(world.destination, twin["id"], "remove_subports", sub_ports=[{"port_id": gone}])
    step = world.step("trunk", seeded.wide)
    assert step.reason.endswith(f"it lacks subport {seeded.ports[1]['id']}")
    by_hand = world.carry()
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    assert len(world.twin(TRUNKS, seeded.wide)["sub_ports"]) == 1
    by_hand.run(by_hand.steps())
    assert subports(world, world.twin(TRUNKS, seeded.wide)) == [("p1", "vlan", 7), ("p2", "vlan", 4000)]

"""Routers between two real Neutrons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pumphouse.errors import ConflictError
from pumphouse.model import Action, Json, Ref
from pumphouse.tasks.neutron.common import NETWORKS, PORTS, ROUTERS, SUBNETS
from pumphouse.tasks.neutron.router import FIELDS
from pumphouse.tasks.neutron.router_links import disconnect, interfaces
from tests.real.neutron_world import World, decisions, everything, neutron_world, same

pytestmark = pytest.mark.exhaustive

ROUTE = {"destination": "192.0.2.0/24", "nexthop": "10.1.0.77"}


@pytest.fixture
def world(lab: Any) -> Iterator[World]:
    with neutron_world(lab) as found:
        for cloud in (found.source, found.destination):
            owner = {"project_id": found.project(cloud, "-owner")}
            public = NETWORKS.create(cloud, {"name": f"{found.tag}-public", "router:external": True, **owner})
            SUBNETS.create(
                cloud, {"network_id": public["id"], "cidr": "203.0.113.0/24", "ip_version": 4, **owner}
            )
        yield found


def public(cloud: Any, world: World) -> Json:
    (found,) = NETWORKS.all(cloud, name=f"{world.tag}-public")
    return found


def seed(world: World) -> Json:
    """A router with a gateway, interfaces by gateway address and by another, two of IPv6, and a route."""
    front, front_v4 = world.network("10.1.0.0/24", name="front")
    front_v6 = [
        world.make(SUBNETS, network_id=front["id"], cidr=cidr, ip_version=6)
        for cidr in ("fd00:1::/64", "fd00:2::/64")
    ]
    back, _ = world.network("10.2.0.0/24", name="back")
    gateway = {"network_id": public(world.source, world)["id"], "enable_snat": False}
    edge = world.make(
        ROUTERS,
        ["a"],
        name="edge",
        description="Tür",
        admin_state_up=False,
        external_gateway_info=gateway,
    )
    port = world.make(PORTS, name="leg", network_id=back["id"], fixed_ips=[{"ip_address": "10.2.0.250"}])
    for what in [{"subnet_id": s["id"]} for s in (front_v4, *front_v6)] + [{"port_id": port["id"]}]:
        ROUTERS.put(world.source, edge["id"], "add_router_interface", **what)
    ROUTERS.update(world.source, edge["id"], routes=[ROUTE])
    return edge


def ips(cloud: Any, router: Json) -> list[list[str]]:
    ports = interfaces(cloud, [router["id"]])[router["id"]]
    return sorted(sorted(fixed["ip_address"] for fixed in port["fixed_ips"]) for port in ports)


def test_a_router_arrives_connected_and_a_second_time_makes_nothing(world: World) -> None:
    edge = seed(world)
    by_hand = world.carry()
    first = by_hand.steps()
    notes = first[Ref("router", edge["id"])].notes
    assert [note.split(": ")[1] for note in notes] == ["the destination chooses another"]
    by_hand.run(first)
    twin = world.twin(ROUTERS, edge)
    assert same(edge, twin, FIELDS)
    assert ips(world.destination, twin) == ips(world.source, edge)
    assert ips(world.source, edge) == [["10.1.0.1"], ["10.2.0.250"], ["fd00:1::", "fd00:2::"]]
    assert twin["routes"] == [ROUTE]
    gateway = twin["external_gateway_info"]
    assert (gateway["network_id"], gateway["enable_snat"]) == (public(world.destination, world)["id"], False)
    leg = next(p for p in interfaces(world.destination, [twin["id"]])[twin["id"]] if p["name"])
    assert (leg["name"], leg["description"]) == ("leg", "")

    before = everything(world.destination)
    again = by_hand.steps()
    assert set(decisions(again).values()) == {Action.REUSE}
    assert again[Ref("router", edge["id"])].notes == ()
    by_hand.run(first)
    assert everything(world.destination) == before


def test_a_failure_takes_back_all(world: World) -> None:
    seed(world)
    before = everything(world.destination)
    by_hand = world.carry()
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    assert everything(world.destination) == before


def test_a_router_is_connected_to_subnets_that_were_there_before(world: World) -> None:
    edge = seed(world)
    by_hand = world.carry()
    by_hand.run({ref: step for ref, step in by_hand.steps().items() if ref.kind != "router"})
    by_hand.run(by_hand.steps())
    assert len(ips(world.destination, world.twin(ROUTERS, edge))) == 3


def test_what_a_router_lacks_is_named_and_finished(world: World) -> None:
    edge = seed(world)
    world.migrate()
    twin = world.twin(ROUTERS, edge)
    ROUTERS.update(world.destination, twin["id"], routes=[], external_gateway_info=None)
    ports = interfaces(world.destination, [twin["id"]])[twin["id"]]
    for port in ports:
        if port["fixed_ips"][0]["ip_address"].startswith("10.2"):
            disconnect(world.destination, twin["id"], {"port_id": port["id"]})
        six = {fixed["ip_address"]: fixed["subnet_id"] for fixed in port["fixed_ips"]}.get("fd00:2::")
        if six:
            disconnect(world.destination, twin["id"], {"subnet_id": six})
    step = world.step("router", edge)
    assert (step.action, step.destination_id) == (Action.CREATE, twin["id"])
    assert step.reason.endswith(
        "no interface 10.2.0.250, no interface fd00:2::, no external gateway, "
        "no route to 192.0.2.0/24 by 10.1.0.77"
    )
    by_hand = world.carry()
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    assert ips(world.destination, twin) == [["10.1.0.1"], ["fd00:1::"]]
    by_hand.run(by_hand.steps())
    assert world.step("router", edge).action is Action.REUSE
    assert ips(world.destination, twin) == ips(world.source, edge)


def test_an_interface_whose_address_is_taken_names_who_has_it_and_leaves_nothing(world: World) -> None:
    edge = seed(world)
    by_hand = world.carry()
    by_hand.run({ref: step for ref, step in by_hand.steps().items() if ref.kind != "router"})
    back = next(
        n for n in NETWORKS.all(world.destination, project_id=world.twin_tenant()) if n["name"] == "back"
    )
    fields = {"network_id": back["id"], "fixed_ips": [{"ip_address": "10.2.0.250"}]}
    taken = PORTS.create(world.destination, {**fields, "project_id": world.twin_tenant()})
    before = everything(world.destination)
    with pytest.raises(ConflictError, match=rf"is taken: port {taken['id']} has .* and 10\.2\.0\.250"):
        by_hand.run(by_hand.steps())
    assert everything(world.destination) == before
    assert world.step("router", edge).action is Action.CREATE


def test_the_port_of_an_interface_that_a_dead_run_left_is_used(world: World) -> None:
    edge = seed(world)
    by_hand = world.carry()
    by_hand.run({ref: step for ref, step in by_hand.steps().items() if ref.kind != "router"})
    steps = by_hand.steps()
    data = steps[Ref("router", edge["id"])].record.data
    leg = next(i for i in data["interfaces"] if i["name"] == "leg")
    back = next(
        n for n in NETWORKS.all(world.destination, project_id=world.twin_tenant()) if n["name"] == "back"
    )
    task = by_hand.kinds["router"].tasks(by_hand.migration, steps[Ref("router", edge["id"])])[2]
    there = {**leg, "network_id": back["id"], "project_id": world.twin_tenant()}
    there["fixed_ips"] = [{"subnet_id": back["subnets"][0], "ip_address": "10.2.0.250"}]
    left = task._create_port(there)
    by_hand.run(steps)
    twin = world.twin(ROUTERS, edge)
    assert left in [port["id"] for port in interfaces(world.destination, [twin["id"]])[twin["id"]]]

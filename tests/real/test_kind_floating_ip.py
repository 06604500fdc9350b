"""Floating IPs and their port forwardings between two real Neutrons."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pumphouse.cloud import call
from pumphouse.model import Action, Json, Ref
from pumphouse.tasks.neutron.common import FLOATING_IPS, NETWORKS, PORTS, ROUTERS, SUBNETS
from pumphouse.tasks.neutron.floating_ip import FIELDS
from pumphouse.tasks.neutron.port_forwardings import listed
from tests.real.neutron_world import World, decisions, everything, neutron_world, same

pytestmark = pytest.mark.exhaustive

POOL = "203.0.113.0/24"
ADDRESS = "203.0.113.77"


@pytest.fixture
def world(lab: Any) -> Iterator[World]:
    with neutron_world(lab) as found:
        for cloud in (found.source, found.destination):
            owner = {"project_id": found.project(cloud, "-owner")}
            public = NETWORKS.create(cloud, {"name": f"{found.tag}-public", "router:external": True, **owner})
            SUBNETS.create(cloud, {"network_id": public["id"], "cidr": POOL, "ip_version": 4, **owner})
        yield found


def public(cloud: Any, world: World) -> Json:
    (found,) = NETWORKS.all(cloud, name=f"{world.tag}-public")
    return found


def seed(world: World) -> SimpleNamespace:
    """A port with two addresses, and floating IPs: to its second address, forwarding ports, and unused."""
    lan, subnet = world.network("10.5.0.0/24")
    edge = world.make(
        ROUTERS, name="edge", external_gateway_info={"network_id": public(world.source, world)["id"]}
    )
    ROUTERS.put(world.source, edge["id"], "add_router_interface", subnet_id=subnet["id"])
    ips = [{"ip_address": "10.5.0.10"}, {"ip_address": "10.5.0.11"}]
    port = world.make(PORTS, name="vip", network_id=lan["id"], fixed_ips=ips)
    inner = world.make(PORTS, name="inner", network_id=lan["id"], fixed_ips=[{"ip_address": "10.5.0.20"}])
    network = {"floating_network_id": public(world.source, world)["id"]}
    fields: Json = {"description": "Tür", "dns_name": "www", "dns_domain": "shop.example."}
    to_port = {"port_id": port["id"], "fixed_ip_address": "10.5.0.11", "floating_ip_address": ADDRESS}
    found = SimpleNamespace(port=port, inner=inner)
    found.used = world.make(FLOATING_IPS, ["a", "b=1"], **network, **fields, **to_port)
    found.unused = world.make(FLOATING_IPS, **network)
    found.shared = world.make(FLOATING_IPS, **network)
    forward(
        world, found.shared, inner, protocol="tcp", internal_port=22, external_port=2222, description="sh"
    )
    forward(
        world,
        found.shared,
        inner,
        protocol="udp",
        internal_port_range="6000:6009",
        external_port_range="6000:6009",
    )
    return found


def forward(world: World, floating_ip: Json, port: Json, **fields: Any) -> None:
    where = {"internal_port_id": port["id"], "internal_ip_address": port["fixed_ips"][0]["ip_address"]}
    path = f"/floatingips/{floating_ip['id']}/port_forwardings"
    call(world.source.neutron, "POST", path, {"port_forwarding": {**where, **fields}})


def forwardings(cloud: Any, floating_ip: Json) -> list[tuple[Any, ...]]:
    return sorted(
        (
            item["protocol"],
            item["internal_ip_address"],
            item["internal_port_range"],
            item["external_port_range"],
            item["description"],
        )
        for item in listed(cloud, floating_ip["id"])
    )


def test_every_field_arrives_and_a_second_time_makes_nothing(world: World) -> None:
    seeded = seed(world)
    by_hand = world.carry()
    first = by_hand.steps()
    by_hand.run(first)
    twin = world.twin(FLOATING_IPS, seeded.used)
    assert same(seeded.used, twin, (*FIELDS, "floating_ip_address", "fixed_ip_address"))
    assert twin["port_id"] == world.twin(PORTS, seeded.port)["id"]
    assert twin["router_id"] is not None
    for unused in (seeded.unused, seeded.shared):
        actual = world.twin(FLOATING_IPS, unused)
        assert same(unused, actual, (*FIELDS, "floating_ip_address", "port_id"))
    twin = world.twin(FLOATING_IPS, seeded.shared)
    assert forwardings(world.destination, twin) == forwardings(world.source, seeded.shared)
    assert len(forwardings(world.destination, twin)) == 2

    before = everything(world.destination)
    again = by_hand.steps()
    assert set(decisions(again).values()) == {Action.REUSE}
    assert [step.notes for ref, step in again.items() if ref.kind == "floating_ip"] == [(), (), ()]
    by_hand.run(first)
    assert everything(world.destination) == before


def test_a_failure_takes_back_all(world: World) -> None:
    seed(world)
    before = everything(world.destination)
    by_hand = world.carry()
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    assert everything(world.destination) == before


def test_where_the_address_is_taken_another_is_and_that_is_said(world: World) -> None:
    seeded = seed(world)
    stranger = {"project_id": world.project(world.destination, "-stranger"), "floating_ip_address": ADDRESS}
    network_id = public(world.destination, world)["id"]
    taken = FLOATING_IPS.create(world.destination, {"floating_network_id": network_id, **stranger})
    results = world.migrate()
    twin = world.twin(FLOATING_IPS, seeded.used)
    assert twin["floating_ip_address"] not in (ADDRESS, taken["floating_ip_address"])
    (note,) = results[f"floating_ip-{seeded.used['id']}-ensured"]["notes"]
    assert note.startswith(f"its address is {twin['floating_ip_address']} and not {ADDRESS}: ")
    step = world.step("floating_ip", seeded.used)
    assert step.action is Action.REUSE
    assert step.notes == (f"differs: its address is {twin['floating_ip_address']}, source has {ADDRESS}",)


def test_an_address_that_was_reserved_for_the_tenant_is_used_and_outlives_a_failure(world: World) -> None:
    seeded = seed(world)
    by_hand = world.carry()
    by_hand.run({ref: step for ref, step in by_hand.steps().items() if ref.kind != "floating_ip"})
    owner = {"project_id": world.twin_tenant(), "floating_ip_address": ADDRESS}
    network_id = public(world.destination, world)["id"]
    reserved = FLOATING_IPS.create(world.destination, {"floating_network_id": network_id, **owner})
    step = world.step("floating_ip", seeded.used)
    assert (step.action, step.destination_id) == (Action.CREATE, reserved["id"])
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    (left,) = FLOATING_IPS.owned(world.destination, world.twin_tenant())
    assert (left["id"], left["port_id"]) == (reserved["id"], None)
    by_hand.run(by_hand.steps())
    assert world.twin(FLOATING_IPS, seeded.used)["id"] == reserved["id"]
    assert world.step("floating_ip", seeded.used).action is Action.REUSE


def test_one_that_leads_to_something_else_is_a_conflict(world: World) -> None:
    seeded = seed(world)
    by_hand = world.carry()
    by_hand.run({ref: step for ref, step in by_hand.steps().items() if ref.kind != "floating_ip"})
    inner = world.twin(PORTS, seeded.inner)
    owner = {"project_id": world.twin_tenant(), "floating_ip_address": ADDRESS, "port_id": inner["id"]}
    network_id = public(world.destination, world)["id"]
    FLOATING_IPS.create(world.destination, {"floating_network_id": network_id, **owner})
    step = by_hand.steps("reuse")[Ref("floating_ip", seeded.used["id"])]
    assert step.action in (Action.CONFLICT, Action.REUSE)
    assert f"it leads to port {inner['id']}" in step.reason


def test_what_one_lacks_is_named_and_finished(world: World) -> None:
    seeded = seed(world)
    world.migrate()
    shared, used = world.twin(FLOATING_IPS, seeded.shared), world.twin(FLOATING_IPS, seeded.used)
    gone = next(item for item in listed(world.destination, shared["id"]) if item["protocol"] == "tcp")
    call(world.destination.neutron, "DELETE", f"/floatingips/{shared['id']}/port_forwardings/{gone['id']}")
    FLOATING_IPS.update(world.destination, used["id"], port_id=None)
    assert world.step("floating_ip", seeded.used).reason.endswith("unfinished: it leads to no port")
    reason = world.step("floating_ip", seeded.shared).reason
    assert reason.endswith("lacks the forwarding tcp 2222 to 10.5.0.20 22")
    world.migrate()
    assert {world.step("floating_ip", item).action for item in (seeded.used, seeded.shared)} == {Action.REUSE}
    assert len(forwardings(world.destination, shared)) == 2

"""What is added to resources that were there before a run, and is taken back also when nobody knows what was added."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pumphouse.cloud import call
from pumphouse.model import Json, Ref
from pumphouse.tasks import KINDS
from pumphouse.tasks.neutron.common import (
    FLOATING_IPS,
    NETWORKS,
    PORTS,
    ROUTERS,
    SECURITY_GROUPS,
    SUBNETS,
    TRUNKS,
)
from pumphouse.tasks.neutron.port_forwardings import listed
from pumphouse.tasks.neutron.router_links import interfaces
from tests.real.neutron_world import World, neutron_world


@pytest.fixture(scope="module")
def world(lab: Any) -> Iterator[World]:
    with neutron_world(lab) as found:
        for cloud in (found.source, found.destination):
            owner = {"project_id": found.project(cloud, "-owner")}
            public = NETWORKS.create(cloud, {"name": f"{found.tag}-public", "router:external": True, **owner})
            SUBNETS.create(
                cloud, {"network_id": public["id"], "cidr": "203.0.113.0/24", "ip_version": 4, **owner}
            )
        yield found


@pytest.fixture(scope="module")
def sources(world: World) -> dict[str, Json]:
    """What of the source is added to, by kind."""
    lan, subnet = world.network("10.5.0.0/24")
    (public,) = NETWORKS.all(world.source, name=f"{world.tag}-public")
    gateway = {"network_id": public["id"]}
    edge = world.make(ROUTERS, name="edge", external_gateway_info=gateway)
    ROUTERS.put(world.source, edge["id"], "add_router_interface", subnet_id=subnet["id"])
    inner = world.make(ROUTERS, name="inner")
    back, back_subnet = world.network("10.6.0.0/24")
    leg = world.make(PORTS, name="leg", network_id=lan["id"], fixed_ips=[{"ip_address": "10.5.0.250"}])
    ROUTERS.put(world.source, inner["id"], "add_router_interface", port_id=leg["id"])
    ROUTERS.put(world.source, inner["id"], "add_router_interface", subnet_id=back_subnet["id"])
    routes = [{"destination": "192.0.2.0/24", "nexthop": "10.6.0.77"}]
    ROUTERS.update(world.source, inner["id"], routes=routes)
    ports = [world.make(PORTS, name=f"p{n}", network_id=back["id"]) for n in range(2)]
    trunk = world.make(TRUNKS, name="wide", port_id=ports[0]["id"])
    vlan = {"port_id": ports[1]["id"], "segmentation_type": "vlan", "segmentation_id": 7}
    TRUNKS.put(world.source, trunk["id"], "add_subports", sub_ports=[vlan])
    served = world.make(PORTS, name="served", network_id=lan["id"])
    address = world.make(FLOATING_IPS, floating_network_id=public["id"])
    forwarding = {
        "internal_port_id": served["id"],
        "internal_ip_address": served["fixed_ips"][0]["ip_address"],
        **{"protocol": "tcp", "internal_port": 22, "external_port": 2222},
    }
    path = f"/floatingips/{address['id']}/port_forwardings"
    call(world.source.neutron, "POST", path, {"port_forwarding": forwarding})
    group = world.make(SECURITY_GROUPS, name="web")
    rule = {"direction": "ingress", "protocol": "tcp", "port_range_min": 80, "port_range_max": 80}
    call(
        world.source.neutron,
        "POST",
        "/security-group-rules",
        {"security_group_rule": {**rule, "security_group_id": group["id"], "project_id": world.tenant_id}},
    )
    return {"router": inner, "trunk": trunk, "floating_ip": address, "security_group": group}


@pytest.fixture(scope="module")
def carried(world: World, sources: dict[str, Json]) -> SimpleNamespace:
    """The tenant, carried: how, the steps, and all results of their tasks."""
    by_hand = world.carry()
    steps = by_hand.steps()
    return SimpleNamespace(by_hand=by_hand, steps=steps, results=by_hand.run(steps))


def rules(world: World, item_id: str) -> Any:
    group = SECURITY_GROUPS.items(world.destination, [item_id])[item_id]
    return sorted((r["direction"], r["ethertype"], str(r["protocol"])) for r in group["security_group_rules"])


def subports(world: World, item_id: str) -> Any:
    return TRUNKS.items(world.destination, [item_id])[item_id]["sub_ports"]


def routes(world: World, item_id: str) -> Any:
    return ROUTERS.items(world.destination, [item_id])[item_id]["routes"]


def links(world: World, item_id: str) -> Any:
    ports = interfaces(world.destination, [item_id])[item_id]
    return sorted(fixed["ip_address"] for port in ports for fixed in port["fixed_ips"])


def forwardings(world: World, item_id: str) -> Any:
    return [(item["protocol"], item["external_port"]) for item in listed(world.destination, item_id)]


# The routes of a router are taken away before its interfaces, which they need.
@pytest.mark.parametrize(
    ("kind", "verb", "seen"),
    [
        ("security_group", "rules-ensured", rules),
        ("trunk", "subports-ensured", subports),
        ("floating_ip", "forwarded", forwardings),
        ("router", "routed", routes),
        ("router", "connected", links),
    ],
)
def test_what_an_attempt_added_that_nobody_heard_of_again_is_taken_back(
    world: World,
    sources: dict[str, Json],
    carried: SimpleNamespace,
    kind: str,
    verb: str,
    seen: Callable[[World, str], Any],
) -> None:
    ref, results = Ref(kind, sources[kind]["id"]), carried.results
    twin_id = results[f"{ref.kind}-{ref.id}-ensured"]["id"]

    def new_task() -> tuple[Any, dict[str, Any]]:
        made = KINDS[kind].tasks(carried.by_hand.migration, carried.steps[ref])
        item = next(item for item in made if item.name == f"{ref.kind}-{ref.id}-{verb}")
        return item, {name: results[symbol] for name, symbol in item.rebind.items() if symbol in results}

    item, arguments = new_task()
    if verb == "connected":
        ROUTERS.update(world.destination, twin_id, routes=[])
    assert item.revert(result=results[item.name], **arguments) is None
    without = seen(world, twin_id)
    died, _ = new_task()
    died.execute(**arguments)
    assert seen(world, twin_id) != without
    again, _ = new_task()
    again.begun, again.before = True, died.before
    assert again.revert(result=None, **arguments) is None
    assert seen(world, twin_id) == without

    died, _ = new_task()
    died.execute(**arguments)
    resumed, _ = new_task()
    resumed.begun, resumed.before = True, died.before
    result = resumed.execute(**arguments)
    reverting, _ = new_task()
    assert reverting.revert(result=result, **arguments) is None
    assert seen(world, twin_id) == without

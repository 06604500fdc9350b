"""What other tenants own and a tenant lives on: it is said, it is usable, and no stranger's stamp stands for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pumphouse.cloud import Cloud, call
from pumphouse.model import Action, Json, Ref
from pumphouse.tasks.base import stamp_tag
from pumphouse.tasks.neutron.common import (
    ADDRESS_GROUPS,
    FLOATING_IPS,
    NETWORKS,
    PORTS,
    ROUTERS,
    SECURITY_GROUPS,
    SUBNETS,
    Collection,
    held_ips,
    list_shares,
)
from pumphouse.tasks.neutron.router_links import interfaces
from tests.real.neutron_world import World, neutron_world


@pytest.fixture
def world(lab: Any) -> Iterator[World]:
    with neutron_world(lab) as found:
        yield found


def share(cloud: Cloud, kind: str, item: Json, target: str) -> None:
    policy = {"object_type": kind, "object_id": item["id"], "action": "access_as_shared"}
    owner = {"project_id": item["project_id"], "target_tenant": target}
    call(cloud.neutron, "POST", "/rbac-policies", {"rbac_policy": {**policy, **owner}})


def stranger(world: World, collection: Collection, old: Json, **fields: Any) -> Json:
    """What a stranger at the destination tags with the stamp of somebody else's resource at the source."""
    project = world.project(world.destination, f"-stranger-{collection.name}")
    made = collection.create(world.destination, {"project_id": project, **fields})
    collection.put(world.destination, made["id"], "tags", tags=[stamp_tag(old["id"])])
    return made


def corporate_port(world: World) -> tuple[str, Json, Json]:
    """A tenant that shares a network with the tenant of the world, and a port of that one in it."""
    owner = world.project(world.source, "-owner")
    lan, _ = world.network("10.8.0.0/24", name="corp", project_id=owner)
    share(world.source, "network", lan, world.tenant_id)
    return owner, lan, world.make(PORTS, network_id=lan["id"], device_id="x", device_owner="compute:nova")


def test_a_network_that_another_tenant_shares_is_shared_before_a_port_needs_it(world: World) -> None:
    owner, lan, port = corporate_port(world)
    assert world.step("network", lan).reason == (
        f"belongs to tenant {world.tag}-owner: migrate that tenant first, or share a network of this name there"
    )
    theirs = world.carry(owner)
    theirs.run(theirs.steps())
    world.migrate()
    (twin,) = NETWORKS.all(world.destination, name="corp", project_id=world.twin_tenant(owner))
    assert world.twin(PORTS, port)["network_id"] == twin["id"]
    (given,) = list_shares(world.destination, object_id=twin["id"])
    assert (given["target_tenant"], given["project_id"]) == (world.twin_tenant(), twin["project_id"])
    steps = world.carry().steps()
    assert {s.action for s in steps.values()} == {Action.REUSE}
    again = theirs.steps()
    assert {s.action for ref, s in again.items() if ref.kind == "rbac_policy"} == {Action.REUSE}


def test_routers_and_ports_of_others_in_the_networks_of_a_tenant_are_noted(world: World) -> None:
    lan, subnet = world.network("10.9.0.0/24", name="app")
    other, _ = world.network("10.10.0.0/24", name="quiet")
    owner = world.project(world.source, "-netops")
    edge = world.make(ROUTERS, name="corp-edge", project_id=owner)
    ROUTERS.put(world.source, edge["id"], "add_router_interface", subnet_id=subnet["id"])
    world.make(PORTS, network_id=lan["id"], project_id=owner)
    mine = world.make(ROUTERS, name="mine")
    leg = world.make(PORTS, network_id=lan["id"], fixed_ips=[{"ip_address": "10.9.0.9"}], project_id=owner)
    ROUTERS.put(world.source, mine["id"], "add_router_interface", port_id=leg["id"])
    steps = world.carry().steps()
    assert steps[Ref("network", lan["id"])].notes == (
        f"its gateway 10.9.0.1 is router corp-edge of tenant {world.tag}-netops: not carried: migrate that tenant "
        "after this one, or connect another at the destination",
        "1 port of other tenants in it: migrate those tenants, too",
    )
    assert steps[Ref("network", other["id"])].notes == ()


def test_a_stamp_in_a_stranger_s_project_is_no_twin(world: World) -> None:
    _, lan, port = corporate_port(world)
    twin_tenant = world.make_tenant()
    evil = stranger(world, NETWORKS, lan, name="evil")
    share(world.destination, "network", evil, twin_tenant)
    assert world.step("network", lan).action is Action.CONFLICT
    assert world.step("port", port).destination_id is None

    mine, _ = world.network("10.9.0.0/24", name="mine")
    vip = world.make(PORTS, network_id=mine["id"], fixed_ips=[{"ip_address": "10.9.0.50"}])
    by_hand = world.carry()
    by_hand.run(
        {
            ref: s
            for ref, s in by_hand.steps().items()
            if ref in (Ref("network", mine["id"]),)
            or (ref.kind == "subnet" and s.record.data["network_id"] == mine["id"])
            or ref.kind in ("domain", "tenant")
        }
    )
    elsewhere = [{"ip_address": "10.9.0.60"}]  # one that Neutron chooses may be the very one of the port
    stranger(world, PORTS, vip, network_id=world.twin(NETWORKS, mine)["id"], fixed_ips=elsewhere)
    planned = world.step("port", vip)
    assert (planned.action, planned.destination_id) == (Action.CREATE, None), planned.reason


@pytest.mark.exhaustive
def test_no_stranger_s_group_router_or_addresses_stand_for_those_of_another_tenant(world: World) -> None:
    owner = world.project(world.source, "-owner")
    group = world.make(SECURITY_GROUPS, name="corp", project_id=owner)
    addresses = {"name": "offices", "addresses": ["192.0.2.7/32"]}
    offices = world.make(ADDRESS_GROUPS, **addresses, project_id=owner)
    mine = world.make(SECURITY_GROUPS, name="mine")
    rule = {"security_group_id": mine["id"], "direction": "ingress", "remote_address_group_id": offices["id"]}
    call(world.source.neutron, "POST", "/security-group-rules", {"security_group_rule": rule})
    public = world.external(world.source, "203.0.113.0/24")
    lan, subnet = world.network("10.9.0.0/24")
    edge = world.make(ROUTERS, project_id=owner, external_gateway_info={"network_id": public["id"]})
    ROUTERS.put(world.source, edge["id"], "add_router_interface", subnet_id=subnet["id"])
    port = world.make(PORTS, network_id=lan["id"], security_groups=[group["id"]])
    world.make(FLOATING_IPS, floating_network_id=public["id"], port_id=port["id"])
    world.external(world.destination, "203.0.113.0/24")
    stranger(world, SECURITY_GROUPS, group, name="corp")
    stranger(world, ROUTERS, edge, name="corp")
    theirs = world.project(world.destination, "-stranger")
    made = ADDRESS_GROUPS.create(world.destination, {**addresses, "project_id": theirs})
    call(
        world.destination.neutron,
        "POST",
        "/rbac-policies",
        {
            "rbac_policy": {
                "object_type": "address_group",
                "object_id": made["id"],
                "action": "access_as_shared",
                "target_tenant": "*",
            }
        },
    )
    steps = world.carry().steps()
    for ref in (
        Ref("security_group", group["id"]),
        Ref("router", edge["id"]),
        Ref("address_group", offices["id"]),
    ):
        assert (steps[ref].action, steps[ref].reason.split(":")[0]) == (
            Action.CONFLICT,
            f"belongs to tenant {world.tag}-owner",
        )
    twin = world.project(world.destination, "-owner")
    for collection, old in ((SECURITY_GROUPS, group), (ROUTERS, edge)):
        found = collection.create(world.destination, {"name": "ours", "project_id": twin})
        collection.put(world.destination, found["id"], "tags", tags=[stamp_tag(old["id"])])
        assert world.step("security_group" if old is group else "router", old).destination_id == found["id"]


@pytest.mark.exhaustive
def test_what_cannot_be_is_a_note_and_not_the_end_of_a_router(world: World) -> None:
    public = world.external(world.source, "203.0.113.0/24")
    lan, subnet = world.network("10.9.0.0/24")
    mode = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    world.make(SUBNETS, network_id=lan["id"], cidr="fd00:1::/64", ip_version=6, **mode)
    edge = world.make(ROUTERS, name="edge", external_gateway_info={"network_id": public["id"]})
    leg = world.make(PORTS, network_id=lan["id"], fixed_ips=[{"ip_address": "10.9.0.254"}])
    assert len(leg["fixed_ips"]) == 2
    ROUTERS.put(world.source, edge["id"], "add_router_interface", port_id=leg["id"])
    far = {"destination": "192.0.2.0/24", "nexthop": "203.0.113.9"}
    near = {"destination": "198.51.100.0/24", "nexthop": "10.9.0.77"}
    ROUTERS.update(world.source, edge["id"], routes=[far, near])
    port = world.make(
        PORTS, network_id=lan["id"], fixed_ips=[{"subnet_id": subnet["id"]}], device_id="my-vip-7"
    )
    floating = world.make(FLOATING_IPS, floating_network_id=public["id"], port_id=port["id"])
    address = floating["floating_ip_address"]
    world.external(world.destination, "198.18.0.0/24")
    by_hand = world.carry()
    first = by_hand.steps()
    route = (
        "its route to 192.0.2.0/24 by 203.0.113.9 is not carried: "
        "the router is not connected to that next hop at the destination"
    )
    elsewhere = (
        f"its address {address} is not carried: the external network of the destination does not have it, "
        "and gives another"
    )
    assert first[Ref("router", edge["id"])].notes[-1] == route
    assert first[Ref("floating_ip", floating["id"])].notes == (elsewhere,)
    results = by_hand.run(first)
    assert results[f"router-{edge['id']}-routed"]["notes"] == [route]
    assert results[f"floating_ip-{floating['id']}-ensured"]["notes"][0] == elsewhere
    twin = world.twin(ROUTERS, edge)
    assert twin["routes"] == [near]
    (there,) = interfaces(world.destination, [twin["id"]])[twin["id"]]
    assert held_ips(there) == held_ips(leg)
    assert world.twin(PORTS, port)["device_id"] == "my-vip-7"
    assert world.twin(FLOATING_IPS, floating)["port_id"] == world.twin(PORTS, port)["id"]
    again = by_hand.steps()
    assert {step.action for step in again.values()} == {Action.REUSE}
    assert again[Ref("router", edge["id"])].notes == (f"differs: {route}",)


@pytest.mark.exhaustive
def test_a_router_that_can_have_no_gateway_arrives_without_one(world: World) -> None:
    public = world.external(world.source, "203.0.113.0/24")
    _, subnet = world.network("10.9.0.0/24")
    edge = world.make(ROUTERS, name="edge", external_gateway_info={"network_id": public["id"]})
    ROUTERS.put(world.source, edge["id"], "add_router_interface", subnet_id=subnet["id"])
    full = world.external(world.destination, "198.18.0.0/30")  # the one address that it can give is taken
    PORTS.create(world.destination, {"network_id": full["id"], "project_id": full["project_id"]})
    results = world.migrate()
    (note,) = results[f"router-{edge['id']}-ensured"]["notes"]
    assert note.startswith("its external gateway is not carried: ")
    twin = world.twin(ROUTERS, edge)
    assert twin["external_gateway_info"] is None
    assert len(interfaces(world.destination, [twin["id"]])[twin["id"]]) == 1
    assert world.step("router", edge).reason.endswith("unfinished: no external gateway")


@pytest.mark.exhaustive
def test_things_with_fifty_tags_arrive_with_all_of_them(world: World) -> None:
    tags = [f"t{number:02}" for number in range(50)]
    lan = world.make(NETWORKS, tags, name="full", description="much")
    bare = world.make(PORTS, tags, network_id=lan["id"])
    by_hand = world.carry()
    first = by_hand.steps()
    assert "at the end of its description" in first[Ref("network", lan["id"])].notes[0]
    by_hand.run(first)
    (twin,) = NETWORKS.all(world.destination, project_id=world.twin_tenant())
    assert sorted(twin["tags"]) == tags
    (port,) = PORTS.all(world.destination, network_id=twin["id"])
    assert sorted(port["tags"]) == tags
    again = by_hand.steps()
    assert {step.action for step in again.values()} == {Action.REUSE}
    assert again[Ref("port", bare["id"])].notes == ()
    by_hand.run(first)
    assert len(NETWORKS.all(world.destination, project_id=world.twin_tenant())) == 1

"""Subnets between two real Neutrons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pumphouse.model import Action, Json
from pumphouse.tasks.neutron.common import NETWORKS, PORTS, SUBNETS
from pumphouse.tasks.neutron.subnet import FIELDS
from tests.real.neutron_world import World, decisions, everything, neutron_world, same

pytestmark = pytest.mark.exhaustive

FORMS: dict[str, Json] = {
    "without a gateway": {"cidr": "10.1.0.0/24", "gateway_ip": None, "enable_dhcp": False},
    "with all": {
        "cidr": "10.2.0.0/20",
        "gateway_ip": "10.2.15.254",
        "allocation_pools": [
            {"start": "10.2.8.0", "end": "10.2.9.0"},
            {"start": "10.2.0.9", "end": "10.2.0.99"},
        ],
        "dns_nameservers": ["192.0.2.9", "192.0.2.1"],
        "host_routes": [
            {"destination": "198.51.100.0/24", "nexthop": "10.2.0.7"},
            {"destination": "192.0.2.0/24", "nexthop": "10.2.0.8"},
        ],
        "service_types": ["compute:nova"],
        "description": "mit Ümlaut",
    },
    "with its own": {"cidr": "10.3.0.0/24"},
    "six": {"cidr": "fd00:1::/64", "ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"},
    "six by hand": {"cidr": "fd00:2::/64", "gateway_ip": None, "dns_nameservers": ["2001:db8::53"]},
}


@pytest.fixture
def world(lab: Any) -> Iterator[World]:
    with neutron_world(lab) as found:
        yield found


def test_every_field_arrives_and_a_second_time_makes_nothing(world: World) -> None:
    lan = world.make(NETWORKS, name="lan")
    wanted = [
        world.make(
            SUBNETS,
            [name, "t"],
            name=name,
            network_id=lan["id"],
            ip_version=6 if ":" in f["cidr"] else 4,
            **f,
        )
        for name, f in FORMS.items()
    ]
    world.migrate()
    for item in wanted:
        twin = world.twin(SUBNETS, item)
        assert same(_sorted(item), _sorted(twin), FIELDS)
        assert twin["network_id"] == world.twin(NETWORKS, lan)["id"]
    before = everything(world.destination)
    steps = world.carry().steps()
    assert set(decisions(steps).values()) == {Action.REUSE}
    assert {step.notes for step in steps.values()} == {()}
    world.migrate()
    assert everything(world.destination) == before


def _sorted(subnet: Json) -> Json:
    return {**subnet, **{f: sorted(subnet[f], key=str) for f in ("allocation_pools", "host_routes")}}


def test_a_subnet_that_an_administrator_made_on_the_tenants_network_comes_along(world: World) -> None:
    lan = world.make(NETWORKS, name="lan")
    admins = world.project(world.source, "-admins")
    theirs = world.make(SUBNETS, network_id=lan["id"], cidr="10.1.0.0/24", ip_version=4, project_id=admins)
    world.migrate()
    assert world.twin(SUBNETS, theirs)["cidr"] == "10.1.0.0/24"


def test_the_same_addresses_in_a_reused_network(world: World) -> None:
    lan, mine = world.network("10.1.0.0/24")
    tenant = {ref: s for ref, s in world.carry().steps().items() if ref.kind in ("domain", "tenant")}
    world.carry().run(tenant)
    owner = {"project_id": world.twin_tenant()}
    there = NETWORKS.create(world.destination, {"name": lan["name"], **owner})
    fields = {"network_id": there["id"], "cidr": "10.1.0.0/24", "ip_version": 4, **owner}
    other = SUBNETS.create(world.destination, {**fields, "enable_dhcp": False})
    assert world.step("subnet", mine).action is Action.CREATE, "the network itself is in conflict"
    step = world.step("subnet", mine, "reuse")
    assert (step.action, step.destination_id) == (Action.REUSE, other["id"])
    assert "enable_dhcp is False, source has True" in step.reason
    SUBNETS.update(world.destination, other["id"], enable_dhcp=True)
    step = world.step("subnet", mine, "reuse")
    assert (step.reason, step.destination_id) == ("already at the destination", other["id"])


def test_the_subnet_of_anothers_network_is_found_by_its_addresses(world: World) -> None:
    owner, name = world.project(world.source, "-owner"), f"{world.tag}-common"
    old = NETWORKS.create(world.source, {"name": name, "shared": True, "project_id": owner})
    fields = {"cidr": "10.1.0.0/24", "ip_version": 4}
    subnet = SUBNETS.create(world.source, {**fields, "network_id": old["id"], "project_id": owner})
    world.make(PORTS, network_id=old["id"])
    project = {"project_id": world.project(world.destination, "-owner")}
    new = NETWORKS.create(world.destination, {"name": name, "shared": True, **project})
    step = world.step("subnet", subnet)
    assert (step.action, "no subnet of these addresses" in step.reason) == (Action.CONFLICT, True)
    there = SUBNETS.create(world.destination, {**fields, "network_id": new["id"], **project})
    assert world.step("subnet", subnet).destination_id == there["id"]

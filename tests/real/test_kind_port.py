"""Ports between two real Neutrons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from pumphouse.errors import ConflictError
from pumphouse.model import Action, Json, Ref
from pumphouse.tasks.neutron import port
from pumphouse.tasks.neutron.common import NETWORKS, PORTS, SECURITY_GROUPS, SUBNETS
from pumphouse.tasks.neutron.port import FIELDS, _data
from tests.real.neutron_world import World, decisions, everything, neutron_world, same

pytestmark = pytest.mark.exhaustive

REFERENCES = ("fixed_ips", "security_groups")
MAC = "fa:16:3e:00:be:ef"


@pytest.fixture
def world(lab: Any) -> Iterator[World]:
    with neutron_world(lab) as found:
        yield found


def virtual_ip(world: World, network: Json, **fields: Any) -> Json:
    group = world.make(SECURITY_GROUPS, name="web")
    all_fields = {
        "name": "vip",
        "description": "für alle",
        "network_id": network["id"],
        "mac_address": MAC,
        "fixed_ips": [{"ip_address": "10.9.0.77"}, {"ip_address": "10.9.0.78"}],
        "allowed_address_pairs": [
            {"ip_address": "10.9.0.200"},
            {"ip_address": "10.8.0.0/16", "mac_address": MAC},
        ],
        "extra_dhcp_opts": [
            {"opt_name": "ntp-server", "opt_value": "192.0.2.1", "ip_version": 4},
            {"opt_name": "bootfile-name", "opt_value": "pxelinux.0", "ip_version": 4},
        ],
        "security_groups": [group["id"]],
        "admin_state_up": False,
        "binding:vnic_type": "macvtap",
        "dns_name": "shop",
        **fields,
    }
    return world.make(PORTS, ["x", "y"], **all_fields)


def test_every_field_arrives_and_a_second_time_makes_nothing(world: World) -> None:
    lan, subnet = world.network()
    vip = virtual_ip(world, lan)
    server = {"device_id": str(uuid4()), "device_owner": "compute:nova"}
    open_port = world.make(
        PORTS, network_id=lan["id"], port_security_enabled=False, security_groups=[], **server
    )
    by_hand = world.carry()
    steps = by_hand.steps()
    assert steps[Ref("port", vip["id"])].record.part_of is None
    attached = steps[Ref("port", open_port["id"])].record
    assert attached.part_of == Ref("server", server["device_id"])
    assert attached.name == open_port["fixed_ips"][0]["ip_address"]
    by_hand.run(steps)
    for item in (vip, open_port):
        twin = world.twin(PORTS, item)
        assert same(_data(item), _data(twin), [field for field in FIELDS if field not in REFERENCES])
        assert twin["device_owner"] == ""
        assert {f["ip_address"] for f in twin["fixed_ips"]} == {f["ip_address"] for f in item["fixed_ips"]}
        assert {f["subnet_id"] for f in twin["fixed_ips"]} == {world.twin(SUBNETS, subnet)["id"]}
    groups = [world.twin(SECURITY_GROUPS, {"id": i})["id"] for i in vip["security_groups"]]
    assert (world.twin(PORTS, vip)["security_groups"], world.twin(PORTS, open_port)["security_groups"]) == (
        groups,
        [],
    )

    before = everything(world.destination)
    again = by_hand.steps()
    assert set(decisions(again).values()) == {Action.REUSE}
    assert {step.notes for step in again.values()} == {()}
    by_hand.run(steps)
    assert everything(world.destination) == before


def test_a_failure_takes_back_all(world: World) -> None:
    lan, _ = world.network()
    virtual_ip(world, lan)
    before = everything(world.destination)
    by_hand = world.carry()
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    assert everything(world.destination) == before


def test_an_automatic_ipv6_address_follows_from_the_mac(world: World) -> None:
    lan = world.make(NETWORKS, name="lan")
    six = {"ip_version": 6, "network_id": lan["id"]}
    slaac = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    world.make(SUBNETS, cidr="fd00:1::/64", **six, **slaac)
    world.make(SUBNETS, cidr="fd00:2::/64", **six)
    port = world.make(PORTS, network_id=lan["id"])
    world.migrate()
    wanted, twin = (sorted(f["ip_address"] for f in p["fixed_ips"]) for p in (port, world.twin(PORTS, port)))
    assert wanted == twin
    assert len(wanted) == 2


@pytest.mark.parametrize("held", [{"mac_address": MAC}, {"fixed_ips": [{"ip_address": "10.9.0.77"}]}])
def test_an_address_that_another_port_has_is_a_conflict_in_the_plan_and_in_the_run(
    world: World, held: Json
) -> None:
    lan, _ = world.network()
    vip = virtual_ip(world, lan)
    by_hand = world.carry()
    steps = by_hand.steps()
    by_hand.run({ref: step for ref, step in steps.items() if ref.kind != "port"})
    before = everything(world.destination)
    twin = world.twin(NETWORKS, lan)
    owner = {"project_id": world.twin_tenant(), "device_owner": "network:dhcp", "device_id": "agent"}
    holder = PORTS.create(world.destination, {"network_id": twin["id"], **owner, **held})
    step = world.step("port", vip)
    assert step.action is Action.CONFLICT
    assert f"port {holder['id']} of network:dhcp agent has" in step.reason
    with pytest.raises(ConflictError, match=f"is taken: port {holder['id']} of network:dhcp agent has"):
        by_hand.run(
            {ref: s for ref, s in by_hand.steps().items() if ref.kind != "port"}
            | {Ref("port", vip["id"]): steps[Ref("port", vip["id"])]}
        )
    PORTS.delete(world.destination, holder["id"])
    assert everything(world.destination) == before


def test_ports_that_services_made_for_themselves_are_left_out(world: World) -> None:
    lan, _ = world.network()
    balancer = world.make(PORTS, network_id=lan["id"], device_owner="Octavia", device_id="lb-1")
    world.make(PORTS, network_id=lan["id"], device_owner="network:dhcp", device_id="agent")
    steps = world.carry().steps()
    assert {str(ref): step.reason for ref, step in steps.items() if ref.kind == "port"} == {
        f"port/{balancer['id']}": "made by and for Octavia lb-1"
    }


def test_the_port_of_another_tenant_is_not_made_and_needs_nothing_of_that_tenant(world: World) -> None:
    owner = world.project(world.source, "-owner")
    lan, _ = world.network()
    theirs = world.make(PORTS, network_id=lan["id"], project_id=owner, description="theirs")
    record = port.fetch(world.source, [theirs["id"], str(uuid4())])[theirs["id"]]
    assert record.needs == ()
    assert record.must_exist.startswith(f"belongs to tenant {world.tag}-owner: migrate that tenant first")
    assert record.data["description"] == "theirs"

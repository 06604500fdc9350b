"""The sample tenant is really there, with every field that a migration has to carry."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from openstack.connection import Connection

from lab import Lab, LabError
from lab.disks import server_disk, sha512, volume_file
from lab.populate import Sample, populate, remove
from lab.sample.base import MIB, connect, get, put
from lab.sample.identity import UNFINISHED
from lab.sample.inventory import inventory
from lab.sample.sizes import Sizes

pytestmark = pytest.mark.exhaustive

NAME = "shop"


@pytest.fixture(scope="module")
def admin(lab: Lab) -> Connection:
    return connect(lab.clouds_yaml, "source")


@pytest.fixture(scope="module")
def sample(lab: Lab) -> Iterator[Sample]:
    yield populate(lab.clouds_yaml, NAME, Sizes())
    remove(lab.clouds_yaml, NAME)


@pytest.fixture(scope="module")
def servers(admin: Connection, sample: Sample) -> dict[str, dict[str, Any]]:
    path = f"/servers/detail?all_tenants=1&project_id={sample.tenant_id}"
    return {server["name"]: server for server in get(admin.compute, path)["servers"]}


@pytest.fixture(scope="module")
def ports(admin: Connection, sample: Sample) -> dict[str, dict[str, Any]]:
    return _listed(admin, "ports", sample.tenant_id)


def _listed(admin: Connection, collection: str, tenant_id: str) -> dict[str, dict[str, Any]]:
    items = get(admin.network, f"/{collection}?project_id={tenant_id}")[collection.replace("-", "_")]
    return {item["name"]: item for item in items}


def test_project_users_and_roles(admin: Connection, sample: Sample) -> None:
    project = get(admin.identity, f"/projects/{sample.tenant_id}")["project"]
    assert project["name"] == NAME
    assert project["description"]
    assert UNFINISHED not in project["tags"]
    assert len(project["tags"]) == 3
    users = {user["name"]: user for user in get(admin.identity, "/users")["users"]}
    assert users["shop.alice"]["email"] == "alice@shop.example"
    assert users["shop.alice"]["enabled"]
    assert users["shop.alice"]["default_project_id"] == sample.tenant_id
    assert users["shop.alice"]["options"] == {"ignore_password_expiry": True}
    assert not users["shop.carol"]["enabled"]
    assert users["shop.carol"]["description"]
    members = get(admin.identity, f"/groups/{sample.made['group']['shop.ops']}/users")["users"]
    assert [member["name"] for member in members] == ["shop.bob"]


def test_role_assignments(admin: Connection, sample: Sample) -> None:
    path = f"/role_assignments?scope.project.id={sample.tenant_id}&include_names"
    found = {
        (
            (grant.get("user") or grant["group"])["name"],
            grant["role"]["name"],
            grant["scope"].get("OS-INHERIT:inherited_to"),
        )
        for grant in get(admin.identity, path)["role_assignments"]
    }
    assert found >= {
        ("shop.alice", "member", None),
        ("shop.alice", "shop.operator", None),
        ("shop.bob", "reader", None),
        ("shop.carol", "reader", None),
        ("shop.ops", "member", None),
        ("shop.ops", "shop.operator", "projects"),
    }


def test_quotas_are_not_the_defaults(admin: Connection, sample: Sample) -> None:
    for service, path, key in (
        (admin.compute, "/os-quota-sets/{}", "instances"),
        (admin.block_storage, "/os-quota-sets/{}", "volumes"),
        (admin.network, "/quotas/{}", "port"),
    ):
        limits = get(service, path.format(sample.tenant_id))
        assert (limits.get("quota_set") or limits["quota"])[key] > 0


def test_images(admin: Connection, sample: Sample) -> None:
    ids = sample.made["image"]
    images = {name: get(admin.image, f"/images/{image_id}") for name, image_id in ids.items()}
    assert set(images) == {"base", "appliance", "shared", "kernel", "legacy", "withdrawn"}
    assert len({image["os_hash_value"] for image in images.values()}) == len(images)
    assert {image["owner"] for image in images.values()} == {sample.tenant_id}
    assert images["base"]["hw_machine_type"] == "q35"
    assert images["base"]["min_disk"] == 1
    assert images["base"]["visibility"] == "private"
    assert set(images["base"]["tags"]) == {"golden", "linux"}
    assert images["appliance"]["disk_format"] == "qcow2"
    assert images["appliance"]["protected"]
    assert images["legacy"]["os_hidden"]
    assert images["legacy"]["kernel_id"] == ids["kernel"]
    assert images["withdrawn"]["status"] == "deactivated"
    shared = get(admin.image, f"/images/{ids['shared']}/members")["members"]
    assert [(member["member_id"], member["status"]) for member in shared] == [
        (sample.made["project"]["shop.partner"], "accepted")
    ]


def test_flavor_and_keypairs(admin: Connection, sample: Sample) -> None:
    flavor_id = sample.made["flavor"]["shop.tiny"]
    flavor = get(admin.compute, f"/flavors/{flavor_id}")["flavor"]
    assert not flavor["os-flavor-access:is_public"]
    assert flavor["description"]
    assert flavor["swap"] == 32
    assert flavor["extra_specs"]["quota:disk_read_iops_sec"] == "500"
    access = get(admin.compute, f"/flavors/{flavor_id}/os-flavor-access")["flavor_access"]
    assert {entry["tenant_id"] for entry in access} == set(sample.made["project"].values())
    assert set(sample.made["keypair"]) == {"shop.alice/laptop", "shop.bob/badge"}
    bob = get(admin.compute, f"/os-keypairs?user_id={sample.made['user']['shop.bob']}")["keypairs"]
    assert bob[0]["keypair"]["type"] == "x509"


def test_networks_and_subnets(admin: Connection, sample: Sample) -> None:
    networks = _listed(admin, "networks", sample.tenant_id)
    assert {network["mtu"] for network in networks.values()} == {1400, 1350, 1300, 1280}
    assert not networks["storage"]["port_security_enabled"]
    assert not networks["quarantine"]["admin_state_up"]
    assert all(network["description"] and len(network["tags"]) == 2 for network in networks.values())
    assert networks["front"]["dns_domain"] == "shop.example."
    subnets = _listed(admin, "subnets", sample.tenant_id)
    assert len(subnets) == 2 * len(networks)
    assert subnets["back-v4"]["gateway_ip"] is None
    assert subnets["back-v6"]["gateway_ip"] is None
    assert subnets["front-v4"]["gateway_ip"] == "10.10.0.254"
    assert len(subnets["front-v4"]["allocation_pools"]) == 2
    assert subnets["front-v4"]["dns_nameservers"] == ["192.0.2.53", "198.51.100.53"]
    assert subnets["front-v4"]["host_routes"] == [{"destination": "198.51.100.0/24", "nexthop": "10.10.0.9"}]
    assert subnets["front-v6"]["ipv6_ra_mode"] == "dhcpv6-stateful"
    assert not subnets["storage-v4"]["enable_dhcp"]
    assert subnets["storage-v6"]["service_types"] == ["compute:backup"]
    assert all(subnet["description"] and len(subnet["tags"]) == 2 for subnet in subnets.values())


def test_router(admin: Connection, sample: Sample) -> None:
    router = _listed(admin, "routers", sample.tenant_id)["edge"]
    assert router["routes"] == [{"destination": "192.0.2.0/24", "nexthop": "10.10.0.77"}]
    assert router["external_gateway_info"]["external_fixed_ips"]
    assert not router["external_gateway_info"]["enable_snat"]
    path = f"/ports?device_id={router['id']}&device_owner=network:router_interface"
    addresses = {ip["ip_address"] for port in get(admin.network, path)["ports"] for ip in port["fixed_ips"]}
    assert addresses == {"10.10.0.254", "fd00:a::fe", "10.11.0.253"}


def test_security_groups(admin: Connection, sample: Sample) -> None:
    groups = _listed(admin, "security-groups", sample.tenant_id)
    assert set(groups) == {"default", "web", "db", "odd", "stateless"}
    assert not groups["stateless"]["stateful"]
    rules = {name: group["security_group_rules"] for name, group in groups.items()}
    remotes = {
        (name, rule["remote_group_id"])
        for name in ("web", "db")
        for rule in rules[name]
        if rule["remote_group_id"]
    }
    assert remotes == {("web", groups["db"]["id"]), ("web", groups["web"]["id"]), ("db", groups["web"]["id"])}
    assert [rule["protocol"] for rule in rules["db"] if rule["direction"] == "egress"] == ["udp"]
    assert any(rule["remote_ip_prefix"] == "198.51.100.0/24" for rule in rules["default"])
    odd = {
        (rule["protocol"], rule["port_range_min"], rule["port_range_max"])
        for rule in rules["odd"]
        if rule["direction"] == "ingress"
    }
    assert odd == {
        ("icmp", 8, 0),
        ("icmp", 3, None),
        ("ipv6-icmp", 128, None),
        ("112", None, None),
        ("sctp", 2905, 2910),
        (None, None, None),
        ("udp", None, None),
    }


def test_the_detached_port(ports: dict[str, dict[str, Any]]) -> None:
    vip = ports["vip"]
    assert not vip["device_id"]
    assert not vip["admin_state_up"]
    assert vip["binding:vnic_type"] == "macvtap"
    assert {ip["ip_address"] for ip in vip["fixed_ips"]} == {"10.10.0.240", "fd00:a::f0"}
    assert len(vip["allowed_address_pairs"]) == 2
    assert vip["dns_name"] == "shop"
    assert len(vip["tags"]) == 2
    assert {option["opt_name"] for option in vip["extra_dhcp_opts"]} == {"bootfile-name", "ntp-server"}


def test_servers(sample: Sample, servers: dict[str, dict[str, Any]]) -> None:
    assert {name: server["status"] for name, server in servers.items()} == {
        "web": "ACTIVE",
        "batch": "SHUTOFF",
        "db": "ACTIVE",
        "vault": "ACTIVE",
    }
    web = servers["web"]
    assert web["metadata"]["shop_role"] == "web"
    assert set(web["tags"]) == {"sample", "role-web"}
    assert b"#cloud-config" in base64.b64decode(web["OS-EXT-SRV-ATTR:user_data"])
    assert web["description"] == "Shop front"
    assert web["OS-EXT-SRV-ATTR:hostname"] == "web-1"
    assert web["key_name"] == "laptop"
    assert web["config_drive"] == "True"
    assert web["flavor"]["original_name"] == "shop.tiny" != servers["db"]["flavor"]["original_name"]
    assert {group["name"] for group in web["security_groups"]} == {"web", "default"}
    assert servers["batch"]["locked"]
    assert servers["batch"]["user_id"] == sample.made["user"]["shop.bob"]


def test_nics_come_in_their_order(
    admin: Connection, servers: dict[str, dict[str, Any]], ports: dict[str, dict[str, Any]]
) -> None:
    assert list(servers["web"]["addresses"]) == ["back", "front", "storage"]
    attached = get(admin.compute, f"/servers/{servers['web']['id']}/os-interface")["interfaceAttachments"]
    assert {nic["mac_addr"] for nic in attached} == {
        ports[name]["mac_address"] for name in ("web-back", "web-front", "web-storage")
    }
    assert {ip["ip_address"] for ip in ports["web-front"]["fixed_ips"]} == {"10.10.1.1", "fd00:a::101"}
    assert not ports["web-storage"]["port_security_enabled"]


def test_volumes_and_floating_ip(
    admin: Connection, sample: Sample, servers: dict[str, dict[str, Any]], ports: dict[str, dict[str, Any]]
) -> None:
    listed = get(admin.block_storage, f"/volumes/detail?all_tenants=1&project_id={sample.tenant_id}")[
        "volumes"
    ]
    volumes = {volume["name"]: volume for volume in listed}
    assert {name: volume["status"] for name, volume in volumes.items()} == {
        "data": "in-use",
        "archive": "available",
        "logs": "in-use",
        "seed": "available",
        "root": "in-use",
    }
    assert volumes["data"]["attachments"][0]["server_id"] == servers["db"]["id"]
    assert volumes["logs"]["attachments"][0]["device"] == "/dev/sdc"  # with the prefix of the root
    assert volumes["root"]["attachments"][0]["server_id"] == servers["vault"]["id"]
    assert volumes["archive"]["metadata"]["shop_volume"] == "archive"
    assert volumes["archive"]["description"]
    assert volumes["archive"]["metadata"]["readonly"] == "True"
    assert volumes["archive"]["bootable"] == "false"
    assert volumes["seed"]["bootable"] == "true"
    assert volumes["seed"]["volume_image_metadata"]["hw_watchdog_action"] == "reset"
    listed = get(admin.network, f"/floatingips?project_id={sample.tenant_id}")["floatingips"]
    floating_ip, door = sorted(listed, key=lambda item: item["port_id"] is None)
    assert [forwarding["external_port"] for forwarding in door["port_forwardings"]] == [2222]
    assert floating_ip["port_id"] == ports["db-front"]["id"]
    assert floating_ip["status"] == "ACTIVE"
    assert floating_ip["description"]
    assert len(floating_ip["tags"]) == 2


def test_disks_hold_more_than_their_image(
    lab: Lab, admin: Connection, sample: Sample, servers: dict[str, dict[str, Any]]
) -> None:
    from_image = {name: server["id"] for name, server in servers.items() if server["image"]}
    assert set(from_image) == {"web", "batch", "db"}
    hashes = {
        name: sha512(server_disk(lab.dir, "source", server_id)) for name, server_id in from_image.items()
    }
    images = {
        get(admin.image, f"/images/{image_id}")["os_hash_value"] for image_id in sample.made["image"].values()
    }
    assert len(set(hashes.values())) == 3
    assert not images & set(hashes.values())


def test_a_changed_qcow2_disk_is_still_one(lab: Lab, servers: dict[str, dict[str, Any]]) -> None:
    disk = server_disk(lab.dir, "source", servers["batch"]["id"])
    subprocess.run(["qemu-img", "check", "-f", "qcow2", disk], check=True, capture_output=True)


def test_every_volume_holds_bytes_of_its_own(lab: Lab, sample: Sample) -> None:
    written = set()
    for volume_id in sample.made["volume"].values():
        with volume_file(lab.dir, "source", volume_id).open("rb") as file:
            file.seek(MIB)
            written.add(file.read(MIB))
    assert len(written) == 5
    assert bytes(MIB) not in written


def test_a_second_time_changes_nothing(lab: Lab, sample: Sample) -> None:
    said: list[str] = []
    again = populate(lab.clouds_yaml, NAME, say=said.append)
    assert said == ["tenant shop exists in source; nothing to do"]
    assert again.summary() == sample.summary()


def test_passwords_are_kept_from_view(sample: Sample) -> None:
    shown = repr(sample) + json.dumps(sample.summary())
    assert sample.passwords
    assert not [secret for secret in sample.passwords.values() if secret in shown]


def test_a_small_one_comes_and_goes_without_a_trace(lab: Lab, admin: Connection) -> None:
    small = populate(lab.clouds_yaml, "small", Sizes.small())
    assert [len(small.made[kind]) for kind in ("user", "image", "network", "router", "server", "volume")] == [
        1,
        1,
        1,
        1,
        1,
        0,
    ]
    remove(lab.clouds_yaml, "small")
    left = inventory(admin, "small", small.tenant_id)
    del (
        left["project"],
        left["security_group"],
    )  # the first is the id asked for; Neutron makes the second when asked
    assert not any(left.values())
    assert not get(admin.identity, "/projects?name=small")["projects"]


def test_a_half_made_one_is_made_anew(lab: Lab, admin: Connection) -> None:
    first = populate(lab.clouds_yaml, "half", Sizes.small())
    put(admin.identity, f"/projects/{first.tenant_id}/tags", tags=[UNFINISHED])
    second = populate(lab.clouds_yaml, "half", Sizes.small())
    assert second.tenant_id != first.tenant_id
    assert len(second.made["server"]) == 1
    remove(lab.clouds_yaml, "half")


def test_the_command_prints_json(lab: Lab, sample: Sample) -> None:
    command = [sys.executable, "-m", "lab", "--dir", str(lab.dir), "populate", "--name", NAME, "-f", "json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == sample.summary()


@pytest.mark.parametrize("name", ["", "a.b", "with space", "x" * 41])
def test_a_name_that_cannot_be_a_prefix_is_refused(lab: Lab, name: str) -> None:
    with pytest.raises(LabError, match="use up to 40 letters"):
        populate(lab.clouds_yaml, name)

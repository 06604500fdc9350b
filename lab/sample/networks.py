"""The sample's networks, subnets, their pool, router, ports and floating IP."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.layout import LabError
from lab.sample.base import Tenant, extends, get, names, post, put, together

NETWORKS = ("front", "back", "storage", "quarantine")
FORMS: dict[str, dict[str, Any]] = {
    "front": {"description": "Where customers come in", "mtu": 1400, "dns_domain": "shop.example."},
    "back": {"description": "Databases; no way out of its own", "mtu": 1350},
    "storage": {"description": "Unfiltered", "mtu": 1300, "port_security_enabled": False},
    "quarantine": {"description": "Switched off", "mtu": 1280, "admin_state_up": False},
}
SERVER_GROUPS = {"web": ("web", "default"), "batch": ("db",), "db": ("db", "odd", "default"), "": ("web",)}
FIRST_HOST = 257  # of the servers: above the subnets' first pool, below their second
# The pool that the IPv4 subnet of quarantine is allocated from.
POOL = {
    "name": "cellar",
    "description": "Addresses for what nobody reaches",
    "prefixes": ["10.13.0.0/16", "10.213.0.0/16"],
    "default_prefixlen": 22,
    "min_prefixlen": 18,
    "max_prefixlen": 28,
    "default_quota": 16384,
}
ROUTE = {"destination": "192.0.2.0/24", "nexthop": "10.10.0.77"}


@dataclass(frozen=True)
class Networks:
    """Ids by name: networks, their subnets by IP version, and the router."""

    ids: dict[str, str]
    subnets: dict[str, dict[int, str]]
    router_id: str
    external_id: str

    def fixed_ips(self, network: str, host: int) -> list[dict[str, str]]:
        """An address of each IP version (of storage, whose IPv6 serves others, of one): the `host`-th."""
        index = list(self.ids).index(network)
        return [
            {"subnet_id": subnet_id, "ip_address": address(index, version, host)}
            for version, subnet_id in self.subnets[network].items()
            if (network, version) != ("storage", 6)
        ]


def address(index: int, version: int, host: int) -> str:
    """The `host`-th address of a subnet of the network at an index."""
    if version == 6:
        return f"fd00:{index + 10:x}::{host:x}"
    return f"10.{index + 10}.{host // 256}.{host % 256}"


def mac(*seed: str) -> str:
    """A MAC address that is always the same for the same seed, of the range that is Neutron's own."""
    digest = hashlib.sha256("/".join(seed).encode()).digest()
    return "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in digest[:3])


def make_networks(tenant: Tenant) -> Networks:
    """Create the networks with two subnets each, one of a pool, and the router between the first two and the world."""
    wanted = names(NETWORKS, "net", tenant.sizes.networks)
    ids = _create(tenant, "networks", [{"name": name, **FORMS.get(name, {})} for name in wanted])
    bodies = [subnet for index, name in enumerate(wanted) for subnet in _subnets(index, name, ids[name])]
    if "quarantine" in ids:
        (pooled,) = (subnet for subnet in bodies if subnet["name"] == "quarantine-v4")
        pooled["subnetpool_id"] = _make_pool(tenant)
    subnet_ids = _create(tenant, "subnets", bodies)
    subnets = {name: {version: subnet_ids[f"{name}-v{version}"] for version in (4, 6)} for name in wanted}
    external_id = _external_network(tenant)
    networks = Networks(ids, subnets, _router(tenant, external_id), external_id)
    _join(tenant, networks)
    tag(tenant, "routers", {"edge": networks.router_id})
    return networks


def _create(tenant: Tenant, collection: str, bodies: list[dict[str, Any]]) -> dict[str, str]:
    """Create all in one call, tag each; returns ids by name in the order given."""
    made = post(tenant.owner.network, f"/{collection}", **{collection: bodies})[collection]
    by_name = {resource["name"]: resource["id"] for resource in made}
    ids = {body["name"]: by_name[body["name"]] for body in bodies}
    tag(tenant, collection, ids)
    return ids


def _make_pool(tenant: Tenant) -> str:
    pool_id = str(post(tenant.owner.network, "/subnetpools", subnetpool=POOL)["subnetpool"]["id"])
    tag(tenant, "subnetpools", {POOL["name"]: pool_id})
    return pool_id


def _subnets(index: int, name: str, network_id: str) -> list[dict[str, Any]]:
    v4: dict[str, Any] = {
        "name": f"{name}-v4",
        "network_id": network_id,
        "ip_version": 4,
        "cidr": f"10.{index + 10}.0.0/20",
        "description": f"IPv4 of {name}",
        "allocation_pools": [_pool(index, 4, 64, 200), _pool(index, 4, 1024, 3839)],
    }
    v6: dict[str, Any] = {
        "name": f"{name}-v6",
        "network_id": network_id,
        "ip_version": 6,
        "cidr": f"fd00:{index + 10:x}::/64",
        "description": f"IPv6 of {name}",
        "allocation_pools": [_pool(index, 6, 0x4000, 0x7FFF)],
    }
    if name == "front":
        host_routes = [{"destination": "198.51.100.0/24", "nexthop": address(index, 4, 9)}]
        v4 |= {
            "gateway_ip": address(index, 4, 254),
            "host_routes": host_routes,
            "dns_nameservers": ["192.0.2.53", "198.51.100.53"],
        }
        v6 |= {
            "gateway_ip": address(index, 6, 254),
            "dns_nameservers": ["2001:db8::53"],
            "ipv6_ra_mode": "dhcpv6-stateful",
            "ipv6_address_mode": "dhcpv6-stateful",
        }
    if name == "back":
        v4 |= {"gateway_ip": None}
        v6 |= {"gateway_ip": None}
    if name == "storage":
        v4 |= {"enable_dhcp": False}
        v6 |= {"enable_dhcp": False, "service_types": ["compute:backup"]}
    return [v4, v6]


def _pool(index: int, version: int, first: int, last: int) -> dict[str, str]:
    return {"start": address(index, version, first), "end": address(index, version, last)}


def _external_network(tenant: Tenant) -> str:
    found = get(tenant.admin.network, "/networks?router:external=true")["networks"]
    if not found:
        raise LabError("the cloud has no external network; give it one first")
    return str(found[0]["id"])


def _router(tenant: Tenant, external_id: str) -> str:
    """Made by the administrator: to switch SNAT off is not the tenant's to do."""
    router = {
        "name": "edge",
        "description": "To the world",
        "project_id": tenant.id,
        "external_gateway_info": {"network_id": external_id, "enable_snat": False},
    }
    return str(post(tenant.admin.network, "/routers", router=router)["router"]["id"])


def _join(tenant: Tenant, networks: Networks) -> None:
    """Connect front by its gateways, back (which has none) by a port; then set the route."""
    path = f"/routers/{networks.router_id}"
    for subnet_id in networks.subnets["front"].values():
        put(tenant.owner.network, f"{path}/add_router_interface", subnet_id=subnet_id)
    if "back" in networks.ids:
        fixed_ip = networks.fixed_ips("back", 253)[0]
        port = {"name": "edge-back", "network_id": networks.ids["back"], "fixed_ips": [fixed_ip]}
        port_id = post(tenant.owner.network, "/ports", port=port)["port"]["id"]
        put(tenant.owner.network, f"{path}/add_router_interface", port_id=port_id)
    put(tenant.owner.network, path, router={"routes": [ROUTE]})


def tag(tenant: Tenant, collection: str, ids: dict[str, str]) -> None:
    """Give each resource two tags, one of them its own."""
    together(
        lambda name: put(
            tenant.owner.network, f"/{collection}/{ids[name]}/tags", tags=["sample", f"{collection}-{name}"]
        ),
        list(ids),
    )


def server_ports(
    tenant: Tenant, networks: Networks, groups: dict[str, str], nics: dict[str, list[str]]
) -> dict[str, list[str]]:
    """Create the ports of all servers in one call; returns each server's port ids in the order of its NICs.

    nics: names of networks by server.
    """
    bodies = [
        _server_port(tenant, networks, server, FIRST_HOST + index, network, groups)
        for index, server in enumerate(nics)
        for network in nics[server]
    ]
    ids = _create(tenant, "ports", bodies)
    return {server: [ids[f"{server}-{network}"] for network in nics[server]] for server in nics}


def _server_port(
    tenant: Tenant, networks: Networks, server: str, host: int, network: str, groups: dict[str, str]
) -> dict[str, Any]:
    wanted = SERVER_GROUPS.get(server, SERVER_GROUPS[""])
    group_ids = [groups[name] for name in wanted if name in groups]
    return {
        "name": f"{server}-{network}",
        "network_id": networks.ids[network],
        "description": f"{server} on {network}",
        "mac_address": mac(tenant.name, server, network),
        "fixed_ips": networks.fixed_ips(network, host),
        # Made with others, such a port got the group default in Train, and could then not be changed any more.
        "security_groups": group_ids if network != "storage" else [],
    }


def make_virtual_ip(tenant: Tenant, networks: Networks, group_ids: Sequence[str]) -> str:
    """Create a port that no server has, with all that a port can have."""
    pairs = [
        {"ip_address": address(0, 4, 240), "mac_address": mac(tenant.name, "vrrp")},
        {"ip_address": "10.10.8.0/24", "mac_address": mac(tenant.name, "vip")},
    ]
    options = [
        {"opt_name": "bootfile-name", "opt_value": "pxelinux.0", "ip_version": 4},
        {"opt_name": "ntp-server", "opt_value": "192.0.2.123", "ip_version": 4},
    ]
    port = {
        "name": "vip",
        "network_id": networks.ids["front"],
        "description": "Virtual IP of the front pair",
        "mac_address": mac(tenant.name, "vip"),
        "fixed_ips": networks.fixed_ips("front", 240),
        "allowed_address_pairs": pairs,
        "extra_dhcp_opts": options,
        "security_groups": group_ids,
        "admin_state_up": False,
        "binding:vnic_type": "macvtap",
        "dns_name": "shop",
        "dns_domain": "vip.example.",
    }
    port_id = str(post(tenant.owner.network, "/ports", port=port)["port"]["id"])
    tag(tenant, "ports", {"vip": port_id})
    return port_id


def make_floating_ip(tenant: Tenant, networks: Networks, port_id: str) -> str:
    """Create a floating IP on a port; returns its address."""
    body = {
        "floating_network_id": networks.external_id,
        "port_id": port_id,
        "description": "Where the shop is found",
        "dns_name": "www",
        "dns_domain": "shop.example.",
    }
    made = post(tenant.owner.network, "/floatingips", floatingip=body)["floatingip"]
    tag(tenant, "floatingips", {"shop": made["id"]})
    return str(made["floating_ip_address"])


def make_forwarding(tenant: Tenant, networks: Networks, port_id: str) -> None:
    """Create a floating IP that forwards a port of TCP, and leads to no port itself."""
    body = {"floating_network_id": networks.external_id, "description": "Back door"}
    made = post(tenant.owner.network, "/floatingips", floatingip=body)["floatingip"]
    tag(tenant, "floatingips", {"door": made["id"]})
    port = get(tenant.owner.network, f"/ports/{port_id}")["port"]
    forwarding = {
        "protocol": "tcp",
        "external_port": 2222,
        "internal_port": 22,
        "internal_port_id": port_id,
        "internal_ip_address": next(f["ip_address"] for f in port["fixed_ips"] if "." in f["ip_address"]),
    }
    if extends(tenant.admin.network, "floating-ip-port-forwarding-description"):
        forwarding["description"] = "For those on call"
    path = f"/floatingips/{made['id']}/port_forwardings"
    post(tenant.owner.network, path, port_forwarding=forwarding)


def make_trunk(tenant: Tenant, networks: Networks, port_id: str) -> None:
    """Make a port that no server has booted with yet a trunk, with a subport on the back network."""
    subport = {"name": "web-tagged", "network_id": networks.ids["back"], "description": "Tagged 42"}
    made = post(tenant.owner.network, "/ports", port=subport)["port"]
    sub_ports = [{"port_id": made["id"], "segmentation_type": "vlan", "segmentation_id": 42}]
    trunk = {"name": "bundle", "description": "Two in one", "port_id": port_id, "sub_ports": sub_ports}
    trunk_id = post(tenant.owner.network, "/trunks", trunk=trunk)["trunk"]["id"]
    tag(tenant, "trunks", {"bundle": trunk_id})


def share(tenant: Tenant, networks: Networks) -> None:
    """Let the partner use the front network."""
    policy = {"object_type": "network", "object_id": networks.ids["front"], "action": "access_as_shared"}
    body = {**policy, "target_tenant": tenant.partner_id}
    post(tenant.owner.network, "/rbac-policies", rbac_policy=body)

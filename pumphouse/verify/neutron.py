"""Neutron: networks and all that hangs on them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pumphouse.cloud import Cloud, get_all, or_none
from pumphouse.model import Json, Ref
from pumphouse.verify.compare import Field, Item, Kind, Named
from pumphouse.verify.fields import (
    STAMP,
    all_of,
    counted,
    ordered,
    plain,
    ref,
    reference,
    refs,
    renamed,
    tag_stamp,
    tags,
    unordered,
    zones,
)

_TAGS = Field("tags", tags)
_OWNER = reference("owner", "tenant", "project_id")
_ANYWHERE = ("0.0.0.0/0", "::/0")
# Where the stamp is when it is one tag too many.
_STAMP_AT_END = re.compile(rf" ?\({STAMP}=[^()]*\)$")
# The kinds that a share names otherwise.
_SHARED_KINDS = {"subnetpool": "subnet_pool"}


def _network_identity(raw: Json) -> Any:
    """External networks are the cloud's, and known by their names; so are those that another tenant shares."""
    if raw.get("router:external"):
        return "external", Named("external_networks", raw["name"])
    return (Ref("tenant", raw["project_id"]), raw["name"]) if raw["name"] else None


def _number(name: str) -> Field:
    """A number that Neutron writes as text at times."""
    return Field(name, lambda raw: int(raw[name]))


def _pools(raw: Json) -> frozenset[Any]:
    return frozenset((pool["start"], pool["end"]) for pool in raw["allocation_pools"])


def _host_routes(raw: Json) -> frozenset[Any]:
    return frozenset((route["destination"], route["nexthop"]) for route in raw["host_routes"])


def _fixed_ips(raw: Json) -> frozenset[Any]:
    return frozenset((Ref("subnet", fixed["subnet_id"]), fixed["ip_address"]) for fixed in raw["fixed_ips"])


def _pairs(raw: Json) -> frozenset[Any]:
    # Neutron fills in the port's own MAC address where none is given.
    return frozenset(
        (pair["ip_address"], pair["mac_address"]) for pair in raw.get("allowed_address_pairs") or ()
    )


def _dhcp_options(raw: Json) -> frozenset[Any]:
    options = raw.get("extra_dhcp_opts") or ()
    return frozenset((o["opt_name"], o["opt_value"], o.get("ip_version", 4)) for o in options)


def _rules(raw: Json) -> frozenset[Any]:
    return frozenset(map(_rule, raw["security_group_rules"]))


def _rule(rule: Json) -> tuple[Any, ...]:
    """A rule by all that it says; every address and no prefix mean the same."""
    prefix = rule["remote_ip_prefix"]
    prefix = None if prefix in (None, *_ANYWHERE) else str(ipaddress.ip_network(prefix, strict=False))
    return (
        rule["direction"],
        rule["ethertype"],
        rule["protocol"],
        rule["port_range_min"],
        rule["port_range_max"],
        prefix,
        ref("security_group", rule["remote_group_id"]),
        ref("address_group", rule.get("remote_address_group_id")),
        rule["description"] or "",
        tags(rule),
    )


def _gateway(raw: Json) -> Any:
    info = raw.get("external_gateway_info")
    return (Ref("network", info["network_id"]), info.get("enable_snat")) if info else None


def _gateway_ips(raw: Json) -> Any:
    info = raw.get("external_gateway_info") or {}
    return frozenset(fixed["ip_address"] for fixed in info.get("external_fixed_ips") or ())


def _outside(_wanted: Any, _actual: Any) -> str:
    return "addresses of an external network are the destination's to give"


def _device(raw: Json) -> Any:
    """What a port belongs to; a user may write anything there for a port that no service uses."""
    owner, device_id = raw["device_owner"], raw["device_id"]
    kind = {"compute": "server", "trunk": "trunk"}.get(owner.partition(":")[0])
    return ref(kind, device_id) if kind else (owner, device_id) if owner or device_id else None


def _subports(raw: Json) -> frozenset[Any]:
    return frozenset(
        (Ref("port", sub["port_id"]), sub["segmentation_type"], sub["segmentation_id"])
        for sub in raw["sub_ports"]
    )


def _forwardings(raw: Json) -> frozenset[Any]:
    return frozenset(
        (
            f["protocol"],
            f.get("external_port") or f.get("external_port_range"),
            f.get("internal_port") or f.get("internal_port_range"),
            Ref("port", f["internal_port_id"]),
            f["internal_ip_address"],
            f.get("description") or "",
        )
        for f in raw.get("forwardings", ())
    )


@dataclass(frozen=True)
class Floating:
    """A floating address, and the addresses that its network has."""

    address: str
    subnets: frozenset[str] = field(compare=False)

    def __str__(self) -> str:
        return self.address

    def has(self, other: str) -> bool:
        """Whether its network has another address, too."""
        return any(ipaddress.ip_address(other) in ipaddress.ip_network(cidr) for cidr in self.subnets)


def _elsewhere(wanted: Floating, actual: Floating) -> str:
    given = "the destination's network does not have that address; DNS and whoever knows it need the other"
    return "" if actual.has(wanted.address) else given


NETWORK = Kind(
    "network",
    (
        *plain(
            "name", "description", "admin_state_up", "mtu", "port_security_enabled", "shared", "dns_domain"
        ),
        zones("availability_zone_hints"),
        renamed("external", "router:external"),
        Field("gateways of others", lambda raw: raw["gateways"]),
        _OWNER,
        _TAGS,
    ),
    _network_identity,
    {"provider attributes": "they are the cloud's", "QoS policy": "policies are not migrated"},
)
SUBNET_POOL = Kind(
    "subnet_pool",
    (
        *plain("name", "description", "ip_version", "default_quota", "shared"),
        *(_number(name) for name in ("default_prefixlen", "min_prefixlen", "max_prefixlen")),
        unordered("prefixes"),
        _OWNER,
        _TAGS,
    ),
    lambda raw: (Ref("tenant", raw["project_id"]), raw["name"]) if raw["name"] else None,
    {
        "address scope": "scopes are not migrated",
        "is_default": "which pool is the default of a cloud is that cloud's to say",
    },
)
SUBNET = Kind(
    "subnet",
    (
        reference("network", "network", "network_id"),
        reference("subnet_pool", "subnet_pool", "subnetpool_id"),
        *plain("name", "description", "cidr", "ip_version", "gateway_ip", "enable_dhcp"),
        Field("allocation_pools", _pools),
        ordered("dns_nameservers"),
        Field("host_routes", _host_routes),
        *plain("ipv6_ra_mode", "ipv6_address_mode"),
        unordered("service_types"),
        _OWNER,
        _TAGS,
    ),
    lambda raw: (Ref("network", raw["network_id"]), raw["cidr"]),
)
ADDRESS_GROUP = Kind(
    "address_group",
    (*plain("name", "description"), unordered("addresses")),
    lambda raw: raw["name"] or None,
)
SECURITY_GROUP = Kind(
    "security_group",
    (*plain("name", "description", "stateful"), Field("rules", _rules), _TAGS),
    lambda raw: (Ref("tenant", raw["project_id"]), raw["name"]),
)
RBAC_POLICY = Kind(
    "rbac_policy",
    (Field("object, target and action", lambda raw: _policy(raw)),),
    lambda raw: _policy(raw),
)
ROUTER = Kind(
    "router",
    (
        *plain("name", "description", "admin_state_up"),
        Field("external gateway", _gateway),
        Field("gateway addresses", _gateway_ips, _outside),
        Field("interfaces", lambda raw: raw["interfaces"]),
        Field("routes", lambda raw: _host_routes({"host_routes": raw["routes"]})),
        unordered("availability_zone_hints"),
        _TAGS,
    ),
    lambda raw: raw["name"] or None,
    {"distributed, ha": "which of them a tenant gets is the destination's policy"},
)
PORT = Kind(
    "port",
    (
        reference("network", "network", "network_id"),
        *plain("name", "description", "mac_address", "admin_state_up"),
        Field("fixed_ips", _fixed_ips),
        Field("security_groups", lambda raw: refs("security_group", raw["security_groups"])),
        *plain("port_security_enabled", "binding:vnic_type", "dns_name", "dns_domain"),
        Field("allowed_address_pairs", _pairs),
        Field("extra_dhcp_opts", _dhcp_options),
        Field("device", _device),
        _TAGS,
    ),
    lambda raw: (Ref("network", raw["network_id"]), raw["mac_address"]),
    {"QoS policy": "policies are not migrated"},
)
TRUNK = Kind(
    "trunk",
    (
        *plain("name", "description", "admin_state_up"),
        reference("port", "port", "port_id"),
        Field("sub_ports", _subports),
        _TAGS,
    ),
    lambda raw: Ref("port", raw["port_id"]),
)
FLOATING_IP = Kind(
    "floating_ip",
    (
        reference("external network", "network", "floating_network_id"),
        Field("address", lambda raw: Floating(raw["floating_ip_address"], raw["subnets"]), _elsewhere),
        reference("port", "port", "port_id"),
        *plain("fixed_ip_address", "description", "dns_name", "dns_domain"),
        Field("port forwardings", _forwardings),
        _TAGS,
    ),
    lambda raw: ref("port", raw["port_id"]),
)
QOS_POLICIES, ADDRESS_SCOPES = COUNTED = counted("qos_policies"), counted("address_scopes")
KINDS = (
    *(NETWORK, SUBNET_POOL, SUBNET, ADDRESS_GROUP, SECURITY_GROUP, RBAC_POLICY),
    *(ROUTER, PORT, TRUNK, FLOATING_IP, *COUNTED),
)
_PATHS = {
    "networks": "/networks",
    "subnetpools": "/subnetpools",
    "subnets": "/subnets",
    "address_groups": "/address-groups",
    "rbac_policies": "/rbac-policies",
    "routers": "/routers",
    "ports": "/ports",
    "trunks": "/trunks",
    "floatingips": "/floatingips",
    "policies": "/qos/policies",
    "address_scopes": "/address-scopes",
}
_UNCARRIED = {QOS_POLICIES: "policies", ADDRESS_SCOPES: "address_scopes"}
# What the tenant may use without owning it.
_OF_ALL = ("networks", "subnets", "subnetpools")
# Networking API: the owners of the ports that join a network to a router; a replica has the same addresses.
_LINKS = (
    "network:router_interface",
    "network:router_interface_distributed",
    "network:ha_router_replicated_interface",
)
_IDS_PER_CALL = 50


def read(cloud: Cloud, tenant_id: str) -> dict[str, list[Item]]:
    """What a tenant has of a Neutron, and the networks that it may use."""
    if not cloud.has("network"):
        return {}
    neutron = cloud.neutron
    # The groups of the operator's project are asked for too: Neutron makes the default group of the first
    # project that is named, and reading a tenant is not to change it.
    groups = get_all(neutron, "/security-groups", "security_groups", project_id=[cloud.project_id, tenant_id])
    with ThreadPoolExecutor() as pool:
        found = dict(zip(_PATHS, pool.map(lambda key: _list(neutron, key, tenant_id), _PATHS), strict=True))
    ports = found["ports"]
    mine = [network["id"] for network in found["networks"] if network["project_id"] == tenant_id]
    routers = {router["id"]: router for router in found["routers"]}
    links = _links(neutron, "network_id", mine) + _links(neutron, "device_id", list(routers))
    for router in found["routers"]:
        router["interfaces"] = _addresses(link for link in links if link["device_id"] == router["id"])
    for network in found["networks"]:
        network["gateways"] = _addresses(
            link for link in links if link["network_id"] == network["id"] and link["device_id"] not in routers
        )
    for floating_ip in found["floatingips"]:
        network_id = floating_ip["floating_network_id"]
        floating_ip["subnets"] = frozenset(
            subnet["cidr"] for subnet in found["subnets"] if subnet["network_id"] == network_id
        )
        if floating_ip.get("port_forwardings"):
            path = f"/floatingips/{floating_ip['id']}/port_forwardings"
            floating_ip["forwardings"] = get_all(neutron, path, "port_forwardings")
    kinds = {
        NETWORK: found["networks"],
        SUBNET_POOL: found["subnetpools"],
        SUBNET: found["subnets"],
        ADDRESS_GROUP: found["address_groups"],
        SECURITY_GROUP: [group for group in groups if group["project_id"] == tenant_id],
        RBAC_POLICY: [policy for policy in found["rbac_policies"] if not _is_external(policy)],
        ROUTER: found["routers"],
        PORT: [port for port in ports if not port["device_owner"].startswith("network:")],
        TRUNK: found["trunks"],
        FLOATING_IP: found["floatingips"],
    }
    items = {kind.name: [_item(kind, raw, tenant_id) for raw in listed] for kind, listed in kinds.items()}
    names = {kind: [raw["name"] or raw["id"] for raw in found[key]] for kind, key in _UNCARRIED.items()}
    return items | {kind.name: all_of(kind, tenant_id, each) for kind, each in names.items()}


def _list(neutron: Any, key: str, tenant_id: str) -> list[Json]:
    """The items of a collection; none where the cloud does not have the extension."""
    filters = {} if key in _OF_ALL else {"project_id": tenant_id}
    items = or_none(get_all, neutron, _PATHS[key], key, **filters) or []
    return [item for item in items if key in _OF_ALL or item["project_id"] == tenant_id]


def _links(neutron: Any, field_name: str, ids: list[str]) -> list[Json]:
    """The ports of routers by one of their fields, of whichever project: an administrator's are in their own."""
    chunks = [ids[n : n + _IDS_PER_CALL] for n in range(0, len(ids), _IDS_PER_CALL)]
    ports = [port for chunk in chunks for port in get_all(neutron, "/ports", "ports", **{field_name: chunk})]
    return [port for port in ports if port["device_owner"] in _LINKS]


def _addresses(links: Iterable[Json]) -> frozenset[Any]:
    """The inside addresses of routers."""
    return frozenset(
        (Ref("network", link["network_id"]), *fixed) for link in links for fixed in _fixed_ips(link)
    )


def _is_external(policy: Json) -> bool:
    """Whether it says no more than that a network is external, which is a field of that."""
    return bool(policy["action"] == "access_as_external" and policy["target_tenant"] == "*")


def _policy(raw: Json) -> tuple[Any, ...]:
    target, object_type = raw["target_tenant"], str(raw["object_type"])
    return (
        object_type,
        Ref(_SHARED_KINDS.get(object_type, object_type), raw["object_id"]),
        target if target == "*" else Ref("tenant", target),
        raw["action"],
    )


def _item(kind: Kind, raw: Json, tenant_id: str) -> Item:
    name = raw.get("name") or raw.get("floating_ip_address") or raw.get("mac_address") or ""
    if kind is RBAC_POLICY:
        name = f"{raw['action']} to {raw['target_tenant']}"
    stamp = tag_stamp(raw) or str(raw.get("description") or "").partition(f"{STAMP}=")[2].rstrip(")")
    raw = (
        {**raw, "description": _STAMP_AT_END.sub("", raw.get("description") or "")}
        if "description" in raw
        else raw
    )
    owned = raw["project_id"] == tenant_id
    automatic = kind is SECURITY_GROUP and name == "default" and _rules(raw) == _automatic(raw["id"])
    return kind.item(raw, raw["id"], name=name, stamp=stamp, owned=owned, tolerated=automatic)


def _automatic(group_id: str) -> frozenset[Any]:
    """The rules of the group that Neutron makes in each tenant that somebody looks at."""
    itself, rest = Ref("security_group", group_id), (None, None, None, None)
    ways: tuple[tuple[str, Ref | None], ...] = (("egress", None), ("ingress", itself))
    return frozenset(
        (way, version, *rest, group, None, "", frozenset())
        for version in ("IPv4", "IPv6")
        for way, group in ways
    )

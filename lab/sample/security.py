"""The sample's security groups and their rules."""

from __future__ import annotations

from typing import Any

from lab.sample.base import Tenant, delete, extends, get, names, post, together
from lab.sample.networks import tag

GROUPS = ("web", "db", "odd", "stateless")
DESCRIPTIONS = {
    "web": "Front servers",
    "db": "Databases: nothing leaves but what is named",
    "odd": "Protocols seldom seen",
    "stateless": "Without connection tracking",
}
OFFICES = ["192.0.2.128/25", "198.51.100.7/32", "2001:db8:7::/48"]
# A remote group is named here; the rule gets its id. So it is with the addresses of the offices.
RULES: dict[str, list[dict[str, Any]]] = {
    "default": [
        {
            "protocol": "tcp",
            "port_range_min": 22,
            "port_range_max": 22,
            "remote_ip_prefix": "198.51.100.0/24",
            "description": "Operators",
        }
    ],
    "web": [
        {"protocol": "tcp", "port_range_min": 80, "port_range_max": 443, "remote_ip_prefix": "0.0.0.0/0"},
        {"protocol": "tcp", "port_range_min": 8080, "port_range_max": 8090, "remote": "db"},
        {"remote": "web", "description": "Anything among themselves"},
        {"protocol": "tcp", "port_range_min": 9090, "port_range_max": 9090, "addresses": "offices"},
        {
            "ethertype": "IPv6",
            "protocol": "tcp",
            "port_range_min": 443,
            "port_range_max": 443,
            "remote_ip_prefix": "2001:db8::/32",
        },
    ],
    "db": [
        {
            "protocol": "tcp",
            "port_range_min": 5432,
            "port_range_max": 5432,
            "remote": "web",
            "description": "Only the front asks",
        },
        {
            "direction": "egress",
            "protocol": "udp",
            "port_range_min": 53,
            "port_range_max": 53,
            "remote_ip_prefix": "192.0.2.53/32",
        },
    ],
    "odd": [
        {"protocol": "icmp", "port_range_min": 8, "port_range_max": 0, "description": "Echo request"},
        {"protocol": "icmp", "port_range_min": 3, "description": "A type alone"},
        {"ethertype": "IPv6", "protocol": "ipv6-icmp", "port_range_min": 128},
        {"protocol": "112", "description": "VRRP by number"},
        {"protocol": "sctp", "port_range_min": 2905, "port_range_max": 2910},
        {"ethertype": "IPv6", "description": "Any protocol"},
        {"protocol": "udp"},
    ],
    "stateless": [{"protocol": "tcp", "port_range_min": 53, "port_range_max": 53}],
}


def make_security_groups(tenant: Tenant, default_id: str) -> dict[str, str]:
    """Create the groups, then their rules, which may refer to any; returns ids by name, default's too."""
    wanted = names(GROUPS, "group", tenant.sizes.security_groups)
    stateless = extends(tenant.admin.network, "stateful-security-group")
    bodies = [
        {"name": name, "description": DESCRIPTIONS.get(name, "One more")}
        | ({"stateful": name != "stateless"} if stateless else {})
        for name in wanted
    ]
    made = post(tenant.owner.network, "/security-groups", security_groups=bodies)["security_groups"]
    ids = {group["name"]: str(group["id"]) for group in made}
    tag(tenant, "security-groups", ids)
    ids["default"] = default_id
    if tenant.sizes.security_groups > 1 and extends(tenant.admin.network, "address-group"):
        ids["offices"] = _offices(tenant)
    _close(tenant, [group for group in made if group["name"] == "db"])
    together(lambda group: _add_rules(tenant, group, ids), [*wanted, "default"])
    return ids


def _offices(tenant: Tenant) -> str:
    """Create a group of addresses; returns its id."""
    group = {"name": "offices", "description": "Where the team works", "addresses": OFFICES}
    return str(post(tenant.owner.network, "/address-groups", address_group=group)["address_group"]["id"])


def _add_rules(tenant: Tenant, group: str, ids: dict[str, str]) -> None:
    """One call for each group: Neutron refuses rules of several."""
    rules = [
        _rule(group, rule, ids)
        for rule in RULES.get(group, RULES["stateless"])
        if {rule.get("remote", group), rule.get("addresses", group)} <= ids.keys()
    ]
    post(tenant.owner.network, "/security-group-rules", security_group_rules=rules)


def default_group(tenant: Tenant) -> str:
    """The id of the group that Neutron makes when a project is first touched."""
    path = f"/security-groups?name=default&project_id={tenant.id}"
    return str(get(tenant.owner.network, path)["security_groups"][0]["id"])


def _close(tenant: Tenant, groups: list[dict[str, Any]]) -> None:
    """Remove the rules that Neutron gives a new group: everything may leave."""
    rule_ids = [rule["id"] for group in groups for rule in group["security_group_rules"]]
    delete(tenant.owner.network, "security-group-rules", rule_ids)


def _rule(group: str, rule: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    body = {"direction": "ingress", "ethertype": "IPv4", **rule, "security_group_id": ids[group]}
    for name, field in (("remote", "remote_group_id"), ("addresses", "remote_address_group_id")):
        if name in body:
            body[field] = ids[body.pop(name)]
    return body

"""The least that moves networks and security groups: a script with the bulk calls of Neutron, and nothing besides.

It knows no tenant that is already there, no failure, no resume and no revert, and says nothing: it is what
`bench.metadata` compares Pumphouse with.

    python -m bench.bare CLOUDS_YAML TENANT_ID NAME
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import requests
import yaml

NETWORK = ("name", "description", "admin_state_up", "mtu", "port_security_enabled")
SUBNET = ("name", "description", "cidr", "ip_version", "gateway_ip", "enable_dhcp", "allocation_pools")
RULE = ("direction", "ethertype", "protocol", "port_range_min", "port_range_max", "remote_ip_prefix")


class Api:
    """One cloud: a token and its catalog."""

    def __init__(self, entry: dict[str, Any]) -> None:
        auth = entry["auth"]
        user = {
            "name": auth["username"],
            "password": auth["password"],
            "domain": {"name": auth["user_domain_name"]},
        }
        project = {"name": auth["project_name"], "domain": {"name": auth["project_domain_name"]}}
        body = {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": project},
        }
        self._http = requests.Session()
        answer = self._http.post(f"{auth['auth_url']}/auth/tokens", json={"auth": body}, timeout=60)
        answer.raise_for_status()
        self._http.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
        token = answer.json()["token"]
        self.domain_id = token["project"]["domain"]["id"]
        self._urls = {entry["type"]: entry["endpoints"][0]["url"] for entry in token["catalog"]}

    def __call__(self, service: str, method: str, path: str, body: Any = None) -> Any:
        """The JSON that a call answers."""
        base = self._urls[service].rstrip("/")
        answer = self._http.request(method, f"{base}{path}", json=body, timeout=600)
        answer.raise_for_status()
        return answer.json()


def copy(source: Api, destination: Api, tenant_id: str, name: str) -> None:
    """Make the tenant, its networks with their subnets, and its security groups with their rules."""

    def listed(collection: str) -> list[Any]:
        path = f"/v2.0/{collection.replace('_', '-')}?project_id={tenant_id}"
        found = source("network", "GET", path)[collection]
        return [item for item in found if item["project_id"] == tenant_id and item["name"] != "default"]

    def made(collection: str, items: list[Any]) -> list[Any]:
        body = {collection: [{**item, "project_id": project_id} for item in items]}
        path = f"/v2.0/{collection.replace('_', '-')}"
        found: list[Any] = destination("network", "POST", path, body)[collection]
        return found

    networks, subnets, groups = map(listed, ("networks", "subnets", "security_groups"))
    project = {"name": name, "domain_id": destination.domain_id}
    project_id = destination("identity", "POST", "/projects", {"project": project})["project"]["id"]
    twins = made("networks", [_cut(network, NETWORK) for network in networks])
    ids = {network["id"]: twin["id"] for network, twin in zip(networks, twins, strict=True)}
    made("subnets", [{**_cut(s, SUBNET), "network_id": ids[s["network_id"]]} for s in subnets])
    twins = made("security_groups", [_cut(group, ("name", "description")) for group in groups])
    for group, twin in zip(groups, twins, strict=True):
        rules = [rule for rule in group["security_group_rules"] if rule["direction"] == "ingress"]
        made(
            "security_group_rules", [{**_cut(rule, RULE), "security_group_id": twin["id"]} for rule in rules]
        )


def _cut(item: Any, fields: tuple[str, ...]) -> dict[str, Any]:
    return {field: item[field] for field in fields if item[field] is not None}


def main() -> int:
    """Copy the tenant of a lab's source to its destination."""
    clouds_yaml, tenant_id, name = sys.argv[1:]
    clouds = yaml.safe_load(Path(clouds_yaml).read_text())["clouds"]
    copy(Api(clouds["source"]), Api(clouds["destination"]), tenant_id, name)
    return 0


if __name__ == "__main__":
    sys.exit(main())

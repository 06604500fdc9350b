"""What somebody does to a tenant's twin, and how `pumphouse verify` has to name it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from openstack.connection import Connection

from lab.populate import Sample
from lab.sample.base import get, post, put, send, until
from lab.sample.servers import _ssh_key


@dataclass(frozen=True)
class There:
    """The tenant's twin at the destination, for those who break it."""

    admin: Connection
    shop: Sample
    tenant_id: str

    def find(self, service: Any, collection: str, name: str, path: str = "") -> Any:
        """The item of that name; of the tenant where items have one."""
        items = get(service, path or f"/{collection}")[collection.replace("-", "_")]
        owners = (None, self.tenant_id)
        return next(
            i for i in items if i["name"] == name and i.get("project_id", i.get("tenant_id")) in owners
        )

    def network(self, collection: str, name: str) -> str:
        """The id of something of Neutron's."""
        return str(self.find(self.admin.network, collection, name)["id"])

    def keystone(self, collection: str, name: str) -> str:
        """The id of something of Keystone's."""
        items = get(self.admin.identity, f"/{collection}")[collection]
        return str(next(item["id"] for item in items if item["name"] == name))

    def server(self, name: str) -> Any:
        """A server."""
        path = f"/servers/detail?all_tenants=1&project_id={self.tenant_id}"
        return self.find(self.admin.compute, "servers", name, path)

    def patch(self, collection: str, name: str, **fields: Any) -> None:
        """Change something of Keystone's."""
        path = f"/{collection}/{self.keystone(collection, name)}"
        send(self.admin.identity, "PATCH", path, **{collection.removesuffix("s"): fields})


def rename_tenant(there: There) -> None:
    there.patch("projects", there.shop.name, description="another")


def forget_role(there: There) -> None:
    there.patch("roles", f"{there.shop.name}.operator", description="another")


def readdress_user(there: There) -> None:
    there.patch("users", f"{there.shop.name}.alice", email="alice@elsewhere.example")


def join_group(there: There) -> None:
    user, group = (
        there.keystone(*what)
        for what in (("users", f"{there.shop.name}.carol"), ("groups", f"{there.shop.name}.ops"))
    )
    put(there.admin.identity, f"/groups/{group}/users/{user}")


def revoke(there: There) -> None:
    user, role = there.keystone("users", f"{there.shop.name}.carol"), there.keystone("roles", "reader")
    send(there.admin.identity, "DELETE", f"/projects/{there.tenant_id}/users/{user}/roles/{role}")


def grant(there: There) -> None:
    user, role = there.keystone("users", f"{there.shop.name}.alice"), there.keystone("roles", "reader")
    put(there.admin.identity, f"/projects/{there.tenant_id}/users/{user}/roles/{role}")


def limit_cores(there: There) -> None:
    put(there.admin.compute, f"/os-quota-sets/{there.tenant_id}", quota_set={"cores": 1234})


def limit_routers(there: There) -> None:
    put(there.admin.network, f"/quotas/{there.tenant_id}", quota={"router": 99})


def limit_gigabytes(there: There) -> None:
    put(there.admin.block_storage, f"/os-quota-sets/{there.tenant_id}", quota_set={"gigabytes": 4321})


def turn_flavor(there: There) -> None:
    path = f"/flavors/{there.shop.name}.tiny/os-extra_specs/shop:rack"
    there.admin.compute.put(path, json={"shop:rack": "right"}).raise_for_status()


def replace_key(there: There) -> None:
    user = there.keystone("users", f"{there.shop.name}.alice")
    send(there.admin.compute, "DELETE", f"/os-keypairs/laptop?user_id={user}")
    key = {"name": "laptop", "type": "ssh", "public_key": _ssh_key("another"), "user_id": user}
    post(there.admin.compute, "/os-keypairs", keypair=key)


def relabel_image(there: There) -> None:
    (image,) = there.admin.image.images(owner=there.tenant_id, name="base")
    there.admin.image.update_image(image, os_version="13")


def another_image(there: There) -> None:
    there.admin.image.post("/images", json={"name": "stray", "owner": there.tenant_id}).raise_for_status()


def describe_network(there: There) -> None:
    path = f"/networks/{there.network('networks', 'quarantine')}"
    put(there.admin.network, path, network={"description": "Switched on"})


def forget_nameserver(there: There) -> None:
    path = f"/subnets/{there.network('subnets', 'front-v4')}"
    put(there.admin.network, path, subnet={"dns_nameservers": ["198.51.100.53", "192.0.2.53"]})


def narrow_pool(there: There) -> None:
    path = f"/subnetpools/{there.network('subnetpools', 'cellar')}"
    put(there.admin.network, path, subnetpool={"default_quota": 8192, "min_prefixlen": 20})


def admit_office(there: There) -> None:
    path = f"/address-groups/{there.network('address-groups', 'offices')}/add_addresses"
    put(there.admin.network, path, addresses=["203.0.113.0/24"])


def close_port(there: There) -> None:
    group = there.find(there.admin.network, "security-groups", "odd")
    rule = next(rule for rule in group["security_group_rules"] if rule["protocol"] == "sctp")
    send(there.admin.network, "DELETE", f"/security-group-rules/{rule['id']}")


def unshare(there: There) -> None:
    policies = get(there.admin.network, f"/rbac-policies?project_id={there.tenant_id}")["rbac_policies"]
    (policy,) = (policy for policy in policies if policy["action"] == "access_as_shared")
    send(there.admin.network, "DELETE", f"/rbac-policies/{policy['id']}")


def lose_route(there: There) -> None:
    put(there.admin.network, f"/routers/{there.network('routers', 'edge')}", router={"routes": []})


def lose_pair(there: There) -> None:
    path = f"/ports/{there.network('ports', 'vip')}"
    put(there.admin.network, path, port={"allowed_address_pairs": [{"ip_address": "10.10.8.0/24"}]})


def lose_subport(there: There) -> None:
    trunk = there.find(there.admin.network, "trunks", "bundle")
    subports = [{"port_id": trunk["sub_ports"][0]["port_id"]}]
    put(there.admin.network, f"/trunks/{trunk['id']}/remove_subports", sub_ports=subports)


def lose_forwarding(there: There) -> None:
    path = f"/floatingips?project_id={there.tenant_id}"
    (floating_ip,) = (
        ip for ip in get(there.admin.network, path)["floatingips"] if ip["description"] == "Back door"
    )
    base = f"/floatingips/{floating_ip['id']}/port_forwardings"
    (forwarding,) = get(there.admin.network, base)["port_forwardings"]
    send(there.admin.network, "DELETE", f"{base}/{forwarding['id']}")


def another_group(there: There) -> None:
    with_role = there.admin.identity
    user, role = there.admin.current_user_id, there.keystone("roles", "member")
    path = f"/projects/{there.tenant_id}/users/{user}/roles/{role}"
    put(with_role, path)
    scoped = there.admin.connect_as_project({"id": there.tenant_id})
    scoped.compute.default_microversion = "2.64"
    post(scoped.compute, "/os-server-groups", server_group={"name": "stray", "policy": "affinity"})
    send(with_role, "DELETE", path)


def annotate_server(there: There) -> None:
    path = f"/servers/{there.server('web')['id']}/metadata"
    post(there.admin.compute, path, metadata={"shop_role": "another"})


def start_server(there: There) -> None:
    server_id = there.server("batch")["id"]
    post(there.admin.compute, f"/servers/{server_id}/action", **{"os-start": None})
    until(lambda: there.server("batch")["status"] == "ACTIVE", "server started")


def annotate_volume(there: There) -> None:
    path = f"/volumes/detail?all_tenants=1&project_id={there.tenant_id}"
    (volume,) = (v for v in get(there.admin.block_storage, path)["volumes"] if v["name"] == "data")
    put(there.admin.block_storage, f"/volumes/{volume['id']}/metadata/keep", meta={"keep": "1 day"})


@dataclass(frozen=True)
class Break:
    """What somebody does to the tenant's twin, and how verify has to name it."""

    act: Callable[[There], None]
    kind: str
    name: str
    fields: tuple[str, ...] = ()
    verdict: str = "different"


BREAKS = [
    Break(rename_tenant, "tenant", "{shop}", ("description",)),
    Break(forget_role, "role", "{shop}.operator", ("description",)),
    Break(readdress_user, "user", "{shop}.alice", ("email",)),
    Break(join_group, "group", "{shop}.ops", ("members",)),
    Break(revoke, "assignment", "reader of user {shop}.carol", (), "missing"),
    Break(grant, "assignment", "reader of user {shop}.alice", (), "extra"),
    Break(limit_cores, "quota", "compute cores", ("limit",)),
    Break(limit_routers, "quota", "network router", ("limit",)),
    Break(limit_gigabytes, "quota", "volume gigabytes", ("limit",)),
    Break(turn_flavor, "flavor", "{shop}.tiny", ("extra_specs",)),
    Break(replace_key, "keypair", "laptop", ("public_key", "fingerprint")),
    Break(relabel_image, "image", "base", ("properties",)),
    Break(another_image, "image", "stray", (), "extra"),
    Break(describe_network, "network", "quarantine", ("description",)),
    Break(forget_nameserver, "subnet", "front-v4", ("dns_nameservers",)),
    Break(narrow_pool, "subnet_pool", "cellar", ("default_quota", "min_prefixlen")),
    Break(admit_office, "address_group", "offices", ("addresses",)),
    Break(close_port, "security_group", "odd", ("rules",)),
    Break(unshare, "rbac_policy", "access_as_shared to {partner}", (), "missing"),
    Break(lose_route, "router", "edge", ("routes",)),
    Break(lose_pair, "port", "vip", ("allowed_address_pairs",)),
    Break(lose_subport, "trunk", "bundle", ("sub_ports",)),
    Break(lose_forwarding, "floating_ip", "{door}", ("port forwardings",)),
    Break(another_group, "server_group", "stray", (), "extra"),
    Break(annotate_server, "server", "web", ("metadata",)),
    Break(start_server, "server", "batch", ("status",)),
    Break(annotate_volume, "volume", "data", ("metadata",)),
]


def bad_fields(item: dict[str, Any]) -> tuple[str, ...]:
    return tuple(found["field"] for found in item["differences"] if not found["excuse"])

"""A tenant that is small enough to be moved hundreds of times, and what makes two of its copies the same."""

from __future__ import annotations

import base64
import json
import re
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from openstack.connection import Connection

from lab import Lab
from lab.disks import server_disk, sha512, write_bytes
from lab.sample.base import MIB, connect, content, get, post, put, until, warm
from lab.sample.inventory import remove_tenant
from tests.real.listing import Listing, listing

IMAGE_MIB = 2
DISK_OFFSET_BYTES = MIB // 2
# What is another at every creation, or at every change.
_VOLATILE = {
    *("created_at", "updated_at", "created", "updated", "OS-SRV-USG:launched_at", "revision_number", "links"),
    *(
        "hostId",
        "OS-EXT-SRV-ATTR:reservation_id",
        "OS-EXT-SRV-ATTR:instance_name",
        "progress",
        "self",
        "file",
    ),
    *(
        "provider:segmentation_id",
        "password_expires_at",
        "schema",
        "direct_url",
        "OS-EXT-STS:task_state",
        "standard_attr_id",
    ),
}
# Ids and MAC addresses.
_CHANGING = re.compile(
    r"\b(?:[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}|[0-9a-f]{2}(?::[0-9a-f]{2}){5})\b"
)


@dataclass(frozen=True)
class World:
    """The tenant, and all that must not be seen anywhere.

    server_id: of its one server, whose disk is not what its image is.
    """

    lab: Lab
    name: str
    tenant_id: str
    server_id: str
    secrets: tuple[str, ...] = field(repr=False)

    def listing(self, cloud: str) -> Listing:
        """All of a cloud, with what no API shows: the bytes of the servers' disks."""
        found = listing(self.lab.clouds_yaml, cloud)
        for key in found:
            kind, _, item_id = key.partition("/")
            if kind == "servers":
                found[key] = found[key] | {"disk": _disk(self.lab.dir, cloud, item_id)}
        return {key: _calm(item) for key, item in found.items()}

    def server_status(self) -> str:
        """The source's server, as Nova has it."""
        connection = connect(self.lab.clouds_yaml, "source")
        return str(get(connection.compute, f"/servers/{self.server_id}")["server"]["status"])

    def clean(self) -> None:
        """Remove what came of it at the destination, and let the source's server run again."""
        remove_tenant(connect(self.lab.clouds_yaml, "destination"), self.name)
        if self.server_status() == "SHUTOFF":
            compute = connect(self.lab.clouds_yaml, "source").compute
            post(compute, f"/servers/{self.server_id}/action", **{"os-start": None})
            until(lambda: self.server_status() == "ACTIVE", "the source's server started")

    def remove(self) -> None:
        """Remove it from both clouds."""
        for cloud in ("source", "destination"):
            remove_tenant(connect(self.lab.clouds_yaml, cloud), self.name)


def make_world(lab: Lab) -> World:
    """Make it at the source, by the APIs that everybody has."""
    name = f"faults-{uuid.uuid4().hex[:6]}"
    admin = connect(lab.clouds_yaml, "source")
    password, token = (f"Secret-{secrets.token_hex(12)}-aA1" for _ in range(2))
    project = {"name": name, "domain_id": "default", "description": "Small, and moved again and again"}
    tenant_id = str(post(admin.identity, "/projects", project=project)["project"]["id"])
    member = _member(admin, name, tenant_id, password)
    post(member.compute, "/os-keypairs", keypair={"name": f"{name}-laptop", "public_key": _public_key()})
    port_id = _port(member)
    server_id = _server(
        member, name, port_id, _image(member, name), user_data=f"#!/bin/sh\necho {token} > /root/token\n"
    )
    until(lambda: _status(member, server_id) == "ACTIVE", "the server runs")
    write_bytes(server_disk(lab.dir, "source", server_id), DISK_OFFSET_BYTES, b"written by the guest")
    return World(lab, name, tenant_id, server_id, (password, token))


def _member(admin: Connection, name: str, tenant_id: str, password: str) -> Connection:
    """A user with a role of his own making, logged in."""
    user = {
        "name": f"{name}.alice",
        "password": password,
        "domain_id": "default",
        "email": "alice@example.com",
    }
    user_id = post(admin.identity, "/users", user=user)["user"]["id"]
    role_id = post(admin.identity, "/roles", role={"name": f"{name}.keeper"})["role"]["id"]
    roles = get(admin.identity, "/roles?name=member")["roles"]
    for role in (role_id, roles[0]["id"]):
        put(admin.identity, f"/projects/{tenant_id}/users/{user_id}/roles/{role}")
    login = {
        "username": user["name"],
        "password": password,
        "project_id": tenant_id,
        "user_domain_id": "default",
    }
    auth = {**login, "auth_url": admin.config.get_auth_args()["auth_url"]}
    return warm(Connection(auth=auth, region_name=admin.config.region_name, identity_api_version="3"))


def _public_key() -> str:
    key = Ed25519PrivateKey.generate().public_key()
    return f"{key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} alice"


def _port(member: Connection) -> str:
    """A network with a subnet and a router, a security group with rules, and a port on both."""
    neutron = member.network
    network_id = post(neutron, "/networks", network={"name": "front", "mtu": 1400})["network"]["id"]
    cidr = {"cidr": "10.77.0.0/24", "ip_version": 4, "dns_nameservers": ["192.0.2.53"]}
    subnet_id = post(neutron, "/subnets", subnet={"name": "front-4", "network_id": network_id, **cidr})[
        "subnet"
    ]["id"]
    router_id = post(neutron, "/routers", router={"name": "edge"})["router"]["id"]
    put(neutron, f"/routers/{router_id}/add_router_interface", subnet_id=subnet_id)
    group = {"name": "web", "description": "Front servers"}
    group_id = post(neutron, "/security-groups", security_group=group)["security_group"]["id"]
    tcp = {"security_group_id": group_id, "direction": "ingress", "protocol": "tcp"}
    rules = [{**tcp, "port_range_min": port, "port_range_max": port} for port in (80, 443)]
    post(neutron, "/security-group-rules", security_group_rules=rules)
    port = {"name": "web-0", "network_id": network_id, "security_groups": [group_id]}
    return str(post(neutron, "/ports", port=port)["port"]["id"])


def _image(member: Connection, name: str) -> str:
    body = {
        "name": "base",
        "disk_format": "raw",
        "container_format": "bare",
        "min_disk": 1,
        "os_distro": "debian",
    }
    image_id = str(post(member.image, "/images", **body)["id"])
    headers = {"Content-Type": "application/octet-stream"}
    answer = member.image.put(
        f"/images/{image_id}/file", data=b"".join(content(name, IMAGE_MIB)), headers=headers
    )
    answer.raise_for_status()
    return image_id


def _server(member: Connection, name: str, port_id: str, image_id: str, user_data: str) -> str:
    flavors = get(member.compute, "/flavors/detail")["flavors"]
    flavor = min((each for each in flavors if each["disk"]), key=lambda each: (each["disk"], each["ram"]))
    server = {
        "name": "web",
        "flavorRef": flavor["id"],
        "imageRef": image_id,
        "key_name": f"{name}-laptop",
        "metadata": {"shop_role": "web"},
        "user_data": base64.b64encode(user_data.encode()).decode(),
        "networks": [{"port": port_id}],
    }
    return str(post(member.compute, "/servers", server=server)["server"]["id"])


def _status(connection: Connection, server_id: str) -> str:
    return str(get(connection.compute, f"/servers/{server_id}")["server"]["status"])


def _disk(lab_dir: Path, cloud: str, server_id: str) -> str | None:
    path = server_disk(lab_dir, cloud, server_id)
    return sha512(path) if path.exists() else None


def _calm(value: Any) -> Any:
    """The same without what changes by itself."""
    if isinstance(value, dict):
        return {key: _calm(item) for key, item in value.items() if key not in _VOLATILE}
    return [_calm(item) for item in value] if isinstance(value, list) else value


def shape(whole: Listing, keys: Iterable[str], lasting: Listing) -> list[str]:
    """Some of the resources of a cloud, each as one line with names instead of ids, in a fixed order.

    lasting: another cloud's listing, whose ids and addresses are kept, because they were carried.
    """
    kept = json.dumps(lasting)
    names = {
        item["id"]: f"<{key.split('/')[0]} {item.get('name')}>" for key, item in whole.items() if "id" in item
    }

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return sorted(map(plain, value), key=repr)
        return _CHANGING.sub(_name, value) if isinstance(value, str) else value

    def _name(found: re.Match[str]) -> str:
        return found[0] if found[0] in kept else names.get(found[0], "<?>")

    return sorted(f"{key.split('/')[0]} {json.dumps(plain(whole[key]), sort_keys=True)}" for key in keys)

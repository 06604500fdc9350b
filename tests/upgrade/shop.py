"""The tenant that the files of the earlier release are about, at the source or as that release made it elsewhere."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from openstack.connection import Connection

from lab.sample.base import get, post, put, until, warm

NAME = "upgrade-shop"
STAMP = "pumphouse_source_id"
KEYPAIR = "laptop"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL0r4EXYQoj8yTMOQ4wXrWx3ZWFy5mWkm3Lr2Gx3oTzA alice"
BYTES = b"an image of a few bytes\n" * 100

Ids = dict[str, str]


class Shop:
    """Makes the resources of the tenant in one cloud.

    sources: the ids at the source, for resources that carry the stamp of an earlier run; none at the source.
    """

    def __init__(self, admin: Connection, sources: Mapping[str, str] | None = None) -> None:
        self._admin, self._sources = admin, sources
        self.ids = lasting(admin)
        self._password = secrets.token_urlsafe(16)
        self._identity()
        self._member = self._log_in()

    def make_all(self) -> Ids:
        """Make all that there is; returns the ids by what they are of."""
        self.keypair()
        self.groups()
        self.volume()
        self.network()
        self.image()
        self.subnet()
        self.port()
        self.server()
        return self.ids

    def make_half(self) -> Ids:
        """Make what the killed run had made: a network that is not complete, an image without bytes, no server."""
        self.keypair()
        self.groups()
        self.volume()
        self.network(complete=False)
        self.image(complete=False)
        return self.ids

    def _identity(self) -> None:
        """The project and its one user."""
        identity = self._admin.identity
        project = {"name": NAME, "domain_id": "default", "description": "A shop", "tags": ["small"]}
        project |= self._property("project")
        self.ids["project"] = str(post(identity, "/projects", project=project)["project"]["id"])
        user = {"name": f"{NAME}.alice", "password": self._password, "domain_id": "default"}
        user |= {
            "email": "alice@example.com",
            "default_project_id": self.ids["project"],
            **self._property("user"),
        }
        self.ids["user"] = str(post(identity, "/users", user=user)["user"]["id"])
        put(identity, "/projects/{project}/users/{user}/roles/{role}".format_map(self.ids))

    def _log_in(self) -> Connection:
        login = {"username": f"{NAME}.alice", "password": self._password, "user_domain_id": "default"}
        return warm(self._admin.connect_as(**login, project_id=self.ids["project"]))

    def keypair(self) -> None:
        """Her keypair."""
        keypair = {"name": KEYPAIR, "public_key": PUBLIC_KEY, "type": "ssh"}
        post(self._member.compute, "/os-keypairs", keypair=keypair)

    def groups(self) -> None:
        """The default security group, which Neutron makes, and one with a rule."""
        network = self._member.network
        listed = get(network, f"/security-groups?project_id={self.ids['project']}&name=default")
        self.ids["default_group"] = str(listed["security_groups"][0]["id"])
        self._make("group", "security_group", name="web", description="What others see")
        rule = {"direction": "ingress", "protocol": "tcp", "port_range_min": 443, "port_range_max": 443}
        rule |= {"security_group_id": self.ids["group"]}
        post(network, "/security-group-rules", security_group_rule=rule)

    def network(self, *, complete: bool = True) -> None:
        """The network; one that is not complete has its stamp where its description will be."""
        description = "" if complete else f"{STAMP}={self._sources['network']}"  # type: ignore[index]
        self._make("network", "network", tag=complete, name="lan", description=description)

    def subnet(self) -> None:
        """The subnet."""
        fields = {"network_id": self.ids["network"], "ip_version": 4, "cidr": "10.9.0.0/24"}
        self._make("subnet", "subnet", name="lan-4", **fields)

    def port(self) -> None:
        """The server's port, with addresses that are the same in each cloud."""
        fixed_ips = [{"subnet_id": self.ids["subnet"], "ip_address": "10.9.0.20"}]
        fields = {"network_id": self.ids["network"], "security_groups": [self.ids["group"]]}
        fields |= {"mac_address": "fa:16:3e:00:09:20", "fixed_ips": fixed_ips}
        self._make("port", "port", name="web-0", **fields)

    def image(self, *, complete: bool = True) -> None:
        """The image; one that is not complete has no bytes."""
        image = self._member.image
        body = {"name": "base", "disk_format": "raw", "container_format": "bare", "min_disk": 1}
        self.ids["image"] = str(post(image, "/images", **body, **self._property("image"))["id"])
        if complete:
            headers = {"Content-Type": "application/octet-stream"}
            image.put(f"/images/{self.ids['image']}/file", data=BYTES, headers=headers).raise_for_status()

    def volume(self) -> None:
        """The volume, which is attached to nothing."""
        storage = self._member.block_storage
        volume = {"name": "data", "size": 1, "metadata": self._property("volume")}
        self.ids["volume"] = str(post(storage, "/volumes", volume=volume)["volume"]["id"])
        path = f"/volumes/{self.ids['volume']}"
        until(lambda: get(storage, path)["volume"]["status"] == "available", "the volume is there")

    def server(self) -> None:
        """The server."""
        compute = self._member.compute
        server = {"name": "web", "flavorRef": self.ids["flavor"], "imageRef": self.ids["image"]}
        server |= {"networks": [{"port": self.ids["port"]}], "key_name": KEYPAIR}
        server |= {"metadata": self._property("server")}
        self.ids["server"] = str(post(compute, "/servers", server=server)["server"]["id"])
        path = f"/servers/{self.ids['server']}"
        until(lambda: get(compute, path)["server"]["status"] == "ACTIVE", "the server runs")

    def _make(self, role: str, kind: str, *, tag: bool = True, **fields: Any) -> None:
        """Something of Neutron's."""
        network, collection = self._member.network, f"/{kind.replace('_', '-')}s"
        self.ids[role] = str(post(network, collection, **{kind: fields})[kind]["id"])
        if self._sources and tag:
            put(network, f"{collection}/{self.ids[role]}/tags", tags=[f"{STAMP}={self._sources[role]}"])

    def _property(self, role: str) -> dict[str, str]:
        return {STAMP: self._sources[role]} if self._sources else {}


def lasting(admin: Connection) -> Ids:
    """The ids of what a cloud has by itself and the tenant uses."""
    flavors = get(admin.compute, "/flavors")["flavors"]
    roles = get(admin.identity, "/roles?name=member")["roles"]
    flavor = next(flavor["id"] for flavor in flavors if flavor["name"] == "m1.tiny")
    return {"flavor": str(flavor), "role": str(roles[0]["id"]), "operator": str(admin.current_user_id)}

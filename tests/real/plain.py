"""A tenant of plain things, so many of each kind: quicker to make than the sample tenant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab import Lab
from lab.sample.base import Tenant, connect, get, post, together
from lab.sample.identity import finish, make_tenant
from lab.sample.inventory import remove_tenant
from lab.sample.servers import wait_for_servers
from lab.sample.sizes import Sizes
from lab.sample.volumes import wait_for_volumes

FLAVOR = "m1.tiny"


@contextmanager
def plain_tenant(lab: Lab, name: str, count: int) -> Iterator[Tenant]:
    """A tenant with one user, and so many images, networks, routers, groups, ports, volumes and servers.

    At the end it is removed from both clouds.
    """
    try:
        yield make(lab, name, count)
    finally:
        for cloud in ("source", "destination"):
            remove_tenant(connect(lab.clouds_yaml, cloud), name)


def make(lab: Lab, name: str, count: int) -> Tenant:
    """Make it at the source."""
    sizes = Sizes(users=1, images=1, networks=count, security_groups=count, volumes=count, servers=count)
    tenant = make_tenant(connect(lab.clouds_yaml, "source"), name, sizes)
    numbers = [f"{number:02}" for number in range(count)]
    ports = _networks(tenant, numbers)
    images = together(lambda number: _image(tenant, number), numbers)
    volumes = together(lambda number: _volume(tenant, number), numbers)
    servers = together(lambda number, port_id: _server(tenant, number, port_id, images[0]), numbers, ports)
    wait_for_volumes(tenant, "available", set(volumes))
    wait_for_servers(tenant, dict.fromkeys(servers, "ACTIVE"))
    finish(tenant)
    return tenant


def _networks(tenant: Tenant, numbers: list[str]) -> list[str]:
    """Networks with a subnet, a router and a port each, and security groups; returns the ids of the ports."""
    network = tenant.owner.network
    get(network, f"/security-groups?project_id={tenant.id}")  # two first calls at once would make it twice
    made = post(network, "/networks", networks=[{"name": f"net-{n}"} for n in numbers])["networks"]
    subnets = [
        {"name": f"subnet-{n}", "network_id": item["id"], "ip_version": 4, "cidr": f"10.9.{int(n)}.0/24"}
        for n, item in zip(numbers, made, strict=True)
    ]
    subnet_ids = [subnet["id"] for subnet in post(network, "/subnets", subnets=subnets)["subnets"]]
    groups = [{"name": f"group-{n}", "description": "plain"} for n in numbers]
    group_ids = [
        g["id"] for g in post(network, "/security-groups", security_groups=groups)["security_groups"]
    ]
    for n, subnet_id in zip(numbers, subnet_ids, strict=True):
        router = post(network, "/routers", router={"name": f"router-{n}"})["router"]
        network.put(f"/routers/{router['id']}/add_router_interface", json={"subnet_id": subnet_id})
    ports = [
        {"name": f"port-{n}", "network_id": item["id"], "security_groups": [group_id]}
        for n, item, group_id in zip(numbers, made, group_ids, strict=True)
    ]
    return [port["id"] for port in post(network, "/ports", ports=ports)["ports"]]


def _image(tenant: Tenant, number: str) -> str:
    image = tenant.owner.image
    body = {"name": f"image-{number}", "disk_format": "raw", "container_format": "bare"}
    image_id = str(post(image, "/images", **body)["id"])
    headers = {"Content-Type": "application/octet-stream"}
    image.put(f"/images/{image_id}/file", data=f"image {number}".encode() * 100, headers=headers)
    return image_id


def _volume(tenant: Tenant, number: str) -> str:
    volume = {"name": f"volume-{number}", "size": 1}
    return str(post(tenant.owner.block_storage, "/volumes", volume=volume)["volume"]["id"])


def _server(tenant: Tenant, number: str, port_id: str, image_id: str) -> str:
    compute = tenant.owner.compute
    flavors = {flavor["name"]: flavor["id"] for flavor in get(compute, "/flavors")["flavors"]}
    server = {
        "name": f"server-{number}",
        "flavorRef": flavors[FLAVOR],
        "imageRef": image_id,
        "networks": [{"port": port_id}],
    }
    return str(post(compute, "/servers", server=server)["server"]["id"])

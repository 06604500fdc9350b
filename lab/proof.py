"""What a tenant is as its users see it, read with openstacksdk: to be compared before and after a migration."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from openstack.connection import Connection

from lab import disks
from lab.sample.base import connect

# The metadata key and property by which a migration knows its own; not the tenant's.
STAMP = "pumphouse_source_id"
Facts = dict[str, Any]


def facts(lab_dir: Path, cloud: str, tenant_id: str) -> dict[str, Facts]:
    """The servers, volumes and images of a tenant by `<kind> <name>`, without what has to differ between two clouds."""
    connection = connect(lab_dir / "clouds.yaml", cloud)
    ports = _ports(connection, tenant_id)
    groups = {group.id: group.name for group in connection.network.security_groups(project_id=tenant_id)}
    servers = list(connection.compute.servers(all_projects=True, project_id=tenant_id))
    names = {server.id: server.name for server in servers}
    volumes = list(connection.block_storage.volumes(all_projects=True, project_id=tenant_id))
    disks_of = {server.id: _disks(server, volumes) for server in servers}
    found = {
        f"server {s.name}": _server(s, ports[s.id], groups)
        | {"disk": _disk(lab_dir, cloud, s.id), "volumes": disks_of[s.id]}
        for s in servers
    }
    found |= {
        f"volume {volume.name}": _volume(volume, names) | {"SHA-512": _volume_hash(lab_dir, cloud, volume.id)}
        for volume in volumes
    }
    return found | {f"image {image.name}": _image(image) for image in _images(connection, tenant_id)}


def compare(before: dict[str, Facts], after: dict[str, Facts]) -> list[str]:
    """What of the tenant is missing or different afterwards, one line each."""
    missing = [f"{name} is missing" for name in before.keys() - after.keys()]
    return sorted(missing) + [
        f"{name}: {fact} was {before[name][fact]!r}, is {after[name][fact]!r}"
        for name in sorted(before.keys() & after.keys())
        for fact in before[name]
        if before[name][fact] != after[name][fact]
    ]


def _server(server: Any, ports: list[Any], groups: dict[str, str]) -> Facts:
    return {
        "status": server.status,
        "description": server.description,
        "metadata": {key: value for key, value in server.metadata.items() if key != STAMP},
        "tags": sorted(server.tags or []),
        "key": server.key_name,
        "user data": server.user_data,
        "config drive": bool(server.has_config_drive),
        "flavor": server.flavor.original_name,
        "addresses": {
            name: sorted(address["addr"] for address in _fixed(server, name)) for name in server.addresses
        },
        "NICs": sorted(port.mac_address for port in ports),
        "security groups": sorted({groups[group] for port in ports for group in port.security_group_ids}),
    }


def _disks(server: Any, volumes: list[Any]) -> list[tuple[str, str, bool]]:
    """The volumes of a server by the names of their devices, and whether they go with the server."""
    kept = {volume["id"]: volume["delete_on_termination"] for volume in server.attached_volumes}
    attached = [
        (attachment["device"], volume.name, kept[volume.id])
        for volume in volumes
        for attachment in volume.attachments
        if attachment["server_id"] == server.id
    ]
    return sorted(attached)


def _volume(volume: Any, servers: dict[str, str]) -> Facts:
    image = volume.volume_image_metadata or {}
    return {
        "status": volume.status,
        "description": volume.description,
        "GiB": volume.size,
        "type": volume.volume_type,
        "zone": volume.availability_zone,
        "bootable": volume.is_bootable,
        "multiattach": volume.is_multiattach,
        "servers": sorted(servers[attachment["server_id"]] for attachment in volume.attachments),
        "metadata": {key: value for key, value in volume.metadata.items() if key != STAMP},
        # The id of the image it was made from means nothing in another cloud.
        "image metadata": {key: value for key, value in image.items() if key != "image_id"},
    }


def _volume_hash(lab_dir: Path, cloud: str, volume_id: str) -> str:
    return disks.sparse_sha512(disks.volume_file(lab_dir, cloud, volume_id))


def _fixed(server: Any, network: str) -> list[Any]:
    return [address for address in server.addresses[network] if address["OS-EXT-IPS:type"] == "fixed"]


def _ports(connection: Connection, tenant_id: str) -> dict[str, list[Any]]:
    ports: dict[str, list[Any]] = defaultdict(list)
    for port in connection.network.ports(project_id=tenant_id):
        ports[port.device_id].append(port)
    return ports


def _images(connection: Connection, tenant_id: str) -> list[Any]:
    return [
        image
        for hidden in (False, True)
        for image in connection.image.images(owner=tenant_id, is_hidden=hidden)
    ]


def _image(image: Any) -> Facts:
    return {
        "status": image.status,
        "SHA-512": image.hash_value,
        "format": (image.disk_format, image.container_format),
        "visibility": image.visibility,
        "protected": image.is_protected,
        "hidden": image.is_hidden,
        "tags": sorted(image.tags),
        "properties": {key: value for key, value in image.properties.items() if key not in (STAMP, "stores")},
    }


def _disk(lab_dir: Path, cloud: str, server_id: str) -> str | None:
    """The SHA-512 of a server's root disk; None for one that boots from a volume."""
    path = disks.server_disk(lab_dir, cloud, server_id)
    return disks.sha512(path) if path.exists() else None

"""Everything that an administrator can list of a cloud, to see what a command has changed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab.sample.base import connect

Listing = dict[str, dict[str, Any]]

# The changes between two listings that are the same.
NOTHING: dict[str, list[str]] = {"added": [], "removed": [], "changed": []}

COLLECTIONS = {
    "identity": [
        ("/projects", "projects"),
        ("/users", "users"),
        ("/groups", "groups"),
        ("/roles", "roles"),
        ("/role_assignments", "role_assignments"),
    ],
    "compute": [
        ("/servers/detail?all_tenants=1", "servers"),
        ("/flavors/detail?is_public=None", "flavors"),
        ("/os-keypairs", "keypairs"),
        ("/os-server-groups?all_projects=1", "server_groups"),
    ],
    "image": [("/images?visibility=all", "images"), ("/images?visibility=all&os_hidden=true", "images")],
    "network": [
        (f"/{name.replace('_', '-')}", name)
        for name in ("networks", "subnets", "ports", "routers", "security_groups", "floatingips")
    ],
    "block_storage": [
        ("/volumes/detail?all_tenants=1", "volumes"),
        ("/snapshots/detail?all_tenants=1", "snapshots"),
    ],
}


def listing(clouds_yaml: Path, cloud: str) -> Listing:
    """Every resource by `<collection>/<id>`, with all that the cloud says of it."""
    connection = connect(clouds_yaml, cloud)
    asked = [(service, *item) for service, items in COLLECTIONS.items() for item in items]
    with ThreadPoolExecutor() as pool:
        answers = pool.map(lambda item: getattr(connection, item[0]).get(item[1]).json()[item[2]], asked)
    return {
        f"{key}/{_id(item)}": _ordered(item)
        for (_, _, key), items in zip(asked, answers, strict=True)
        for item in items
    }


def _ordered(value: Any) -> Any:
    """Lists in a fixed order: Neutron gives the rules of a security group in any."""
    if isinstance(value, dict):
        return {key: _ordered(item) for key, item in value.items()}
    return sorted(map(_ordered, value), key=repr) if isinstance(value, list) else value


def _id(item: dict[str, Any]) -> str:
    if "id" in item:
        return str(item["id"])
    if "keypair" in item:
        return str(item["keypair"]["name"])
    return "/".join(str(item[part]) for part in ("user", "group", "role", "scope") if part in item)


def changes(before: Listing, after: Listing) -> dict[str, list[str]]:
    """What was added, removed and changed, by id."""
    both = before.keys() & after.keys()
    return {
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "changed": sorted(key for key in both if before[key] != after[key]),
    }

"""Everything that an administrator can list of a cloud, to see what a command has changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from openstack.connection import Connection
from openstack.exceptions import NotFoundException
from openstack.proxy import Proxy

from lab.sample.base import connect, get

Item = dict[str, Any]
Listing = dict[str, Item]

# The changes between two listings that are the same.
NOTHING: dict[str, list[str]] = {"added": [], "removed": [], "changed": []}

# What one call lists.
COLLECTIONS = {
    "identity": [
        (f"/{name}", name) for name in ("domains", "projects", "users", "groups", "roles", "role_assignments")
    ],
    "compute": [
        ("/servers/detail?all_tenants=1", "servers"),
        ("/flavors/detail?is_public=None", "flavors"),
        ("/os-server-groups?all_projects=1", "server_groups"),
    ],
    "image": [("/images?visibility=all", "images"), ("/images?visibility=all&os_hidden=true", "images")],
    "network": [
        (f"/{name.replace('_', '-')}", name)
        for name in (
            *("networks", "subnets", "subnetpools", "ports", "routers", "floatingips", "trunks"),
            *("security_groups", "address_groups", "rbac_policies"),
        )
    ],
    "block_storage": [
        ("/types?is_public=None", "volume_types"),
        ("/volumes/detail?all_tenants=1", "volumes"),
        ("/snapshots/detail?all_tenants=1", "snapshots"),
    ],
}
# Which collection of a listing has what a resource of a kind becomes at the destination, by Pumphouse's id of it.
SHOWN_IN = {
    "domain": "domains",
    "role": "roles",
    "tenant": "projects",
    "quota": "quotas",
    "user": "users",
    "group": "groups",
    "membership": "memberships",
    "assignment": "role_assignments",
    "flavor": "flavors",
    "keypair": "keypairs",
    "image": "images",
    "network": "networks",
    "subnet_pool": "subnetpools",
    "subnet": "subnets",
    "address_group": "address_groups",
    "security_group": "security_groups",
    "rbac_policy": "rbac_policies",
    "router": "routers",
    "port": "ports",
    "trunk": "trunks",
    "server_group": "server_groups",
    "volume": "volumes",
    "volume_snapshot": "volumes",
    "server": "servers",
    "floating_ip": "floatingips",
    # The state of a project has its id.
    "tenant_state": "projects",
}


def listing(clouds_yaml: Path, cloud: str) -> Listing:
    """Every resource by `<collection>/<id>`, with all that the cloud says of it."""
    connection = connect(clouds_yaml, cloud)
    asked = [(service, *item) for service, items in COLLECTIONS.items() for item in items]
    with ThreadPoolExecutor() as pool:
        limits = pool.submit(_neutron_limits, connection)
        answers = pool.map(lambda item: get(getattr(connection, item[0]), item[1])[item[2]], asked)
        found = {
            f"{key}/{_id(item)}": item
            for (_, _, key), items in zip(asked, answers, strict=True)
            for item in items
        }
        parts = [
            *pool.map(lambda user_id: _keypairs(connection, user_id), _ids(found, "users")),
            *pool.map(lambda group_id: _memberships(connection, group_id), _ids(found, "groups")),
            *pool.map(lambda image: _members(connection, image), _of(found, "images")),
            *pool.map(lambda flavor: _access(connection, flavor), _of(found, "flavors")),
            _limits(connection, pool, _ids(found, "projects")),
            limits.result(),
        ]
    return {key: _ordered(item) for part in (found, *parts) for key, item in part.items()}


def _of(found: Listing, collection: str) -> list[Item]:
    return [item for key, item in found.items() if key.startswith(f"{collection}/")]


def _ids(found: Listing, collection: str) -> list[str]:
    return [item["id"] for item in _of(found, collection)]


def _keypairs(connection: Connection, user_id: str) -> Listing:
    """Those of one user: Nova lists no others with them."""
    items = _items(connection.compute, f"/os-keypairs?user_id={user_id}", "keypairs")
    return {f"keypairs/{user_id}.{item['keypair']['name']}": item["keypair"] for item in items}


def _memberships(connection: Connection, group_id: str) -> Listing:
    users = _items(connection.identity, f"/groups/{group_id}/users", "users")
    return {f"memberships/{group_id}.{user['id']}": {"group": group_id, "user": user["id"]} for user in users}


def _members(connection: Connection, image: Item) -> Listing:
    """The projects that an image is shared with."""
    if image["visibility"] != "shared":
        return {}
    members = _items(connection.image, f"/images/{image['id']}/members", "members")
    return {f"image_members/{image['id']}.{member['member_id']}": member for member in members}


def _access(connection: Connection, flavor: Item) -> Listing:
    """The projects that may use a private flavor."""
    if flavor["os-flavor-access:is_public"]:
        return {}
    path = f"/flavors/{flavor['id']}/os-flavor-access"
    access = _items(connection.compute, path, "flavor_access")
    return {f"flavor_access/{flavor['id']}.{item['tenant_id']}": item for item in access}


def _limits(connection: Connection, pool: ThreadPoolExecutor, project_ids: list[str]) -> Listing:
    """Those limits of projects in Nova and Cinder that are not the defaults."""
    services = {"compute": connection.compute, "volume": connection.block_storage}
    defaults = {name: _default_limits(service) for name, service in services.items()}

    def limits_set(quota: tuple[str, str]) -> Item:
        project_id, name = quota
        limits = get(services[name], f"/os-quota-sets/{project_id}")["quota_set"]
        return {limit: value for limit, value in limits.items() if value != defaults[name].get(limit, value)}

    quotas = [(project_id, name) for project_id in project_ids for name in services]
    found = zip(quotas, pool.map(limits_set, quotas), strict=True)
    return {f"quotas/{project_id}.{name}": limits for (project_id, name), limits in found if limits}


def _default_limits(service: Proxy) -> Item:
    """The limits of projects that nobody has set any for."""
    limits: Item = get(service, "/os-quota-class-sets/default")["quota_class_set"]
    return {name: limit for name, limit in limits.items() if name != "id"}


def _neutron_limits(connection: Connection) -> Listing:
    """The limits in Neutron of all projects for which any were set, also of those that are gone."""
    quotas = get(connection.network, "/quotas")["quotas"]
    return {f"quotas/{quota['project_id']}.network": quota for quota in quotas}


def _items(service: Proxy, path: str, key: str) -> Iterable[Item]:
    """The items of a collection; none of what has gone since it was listed."""
    try:
        items: list[Item] = get(service, path)[key]
    except NotFoundException:
        return []
    return items


def _ordered(value: Any) -> Any:
    """Lists in a fixed order: Neutron gives the rules of a security group in any."""
    if isinstance(value, dict):
        return {key: _ordered(item) for key, item in value.items()}
    return sorted(map(_ordered, value), key=repr) if isinstance(value, list) else value


def _id(item: Item) -> str:
    return str(item["id"]) if "id" in item else ".".join(_parts_of_grant(item))


def _parts_of_grant(item: Item) -> Iterator[str]:
    """A role assignment as Pumphouse names it: where, to whom, which role, whether it is inherited."""
    scope = item["scope"]
    inherited = scope.get("OS-INHERIT:inherited_to")
    (place,) = (scope[name] for name in ("project", "domain", "system") if name in scope)
    yield str(place.get("id", "system"))
    yield f"group={item['group']['id']}" if "group" in item else item["user"]["id"]
    yield item["role"]["id"]
    if inherited:
        yield "inherited"


def changes(before: Listing, after: Listing) -> dict[str, list[str]]:
    """What was added, removed and changed, by id."""
    both = before.keys() & after.keys()
    return {
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "changed": sorted(key for key in both if before[key] != after[key]),
    }

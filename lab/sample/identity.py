"""The sample's projects, users, group and roles, and the tenant's quotas."""

from __future__ import annotations

import secrets
from typing import Any

from openstack.connection import Connection

from lab.sample.base import Tenant, get, names, post, put, together, warm
from lab.sample.sizes import Sizes

UNFINISHED = "sample-unfinished"
USERS = ("alice", "bob", "carol")


def make_tenant(admin: Connection, name: str, sizes: Sizes) -> Tenant:
    """Create the project with its users, group, roles and quotas, and log in as those who may create things.

    The project is tagged as unfinished until finish() says otherwise, so that a half-made one can be told.
    """
    project_id = _project(admin, name, "Sample tenant: a small shop and all it needs.", [UNFINISHED])
    partner_id = (
        _project(admin, f"{name}.partner", "Uses an image of the sample tenant.", [])
        if sizes.images > 2
        else None
    )
    passwords = {user: secrets.token_urlsafe(16) for user in names(USERS, "user", sizes.users)}
    user_ids = dict(
        zip(
            passwords,
            together(lambda user: _user(admin, name, project_id, user, passwords[user]), list(passwords)),
            strict=True,
        )
    )
    _grant(admin, name, project_id, user_ids)
    set_quotas(admin, project_id, sizes)
    members = tuple(
        _log_in(admin, f"{name}.{user}", passwords[user], project_id) for user in user_ids if user != "carol"
    )
    return Tenant(name, project_id, sizes, admin, members, user_ids, partner_id, passwords)


def finish(tenant: Tenant) -> None:
    """Give the project its own tags: it is complete."""
    put(tenant.admin.identity, f"/projects/{tenant.id}/tags", tags=["sample", "team-shop", "cost=4711"])


def _project(admin: Connection, name: str, description: str, tags: list[str]) -> str:
    project = {"name": name, "description": description, "domain_id": "default", "tags": tags}
    return str(post(admin.identity, "/projects", project=project)["project"]["id"])


def _user(admin: Connection, name: str, project_id: str, user: str, password: str) -> str:
    """Create a user; carol left the team, so hers is disabled."""
    body = {
        "name": f"{name}.{user}",
        "password": password,
        "enabled": user != "carol",
        "domain_id": "default",
        "email": f"{user}@{name}.example",
        "description": f"{user.capitalize()} of the shop's team",
        "default_project_id": project_id,
        "options": {"ignore_password_expiry": True},
    }
    return str(post(admin.identity, "/users", user=body)["user"]["id"])


def _grant(admin: Connection, name: str, project_id: str, user_ids: dict[str, str]) -> None:
    """Alice is member and operator, bob reader and by his group member, carol reader, all others members."""
    roles = {role["name"]: role["id"] for role in get(admin.identity, "/roles")["roles"]}
    roles["operator"] = _role(admin, name)
    grants = [(user, {"bob": "reader", "carol": "reader"}.get(user, "member")) for user in user_ids]
    for user, role in [*grants, ("alice", "operator")]:
        put(admin.identity, f"/projects/{project_id}/users/{user_ids[user]}/roles/{roles[role]}")
    if "bob" in user_ids:
        _grant_group(admin, name, project_id, user_ids["bob"], roles)


def _role(admin: Connection, name: str) -> str:
    role = {"name": f"{name}.operator", "description": "May operate the shop"}
    return str(post(admin.identity, "/roles", role=role)["role"]["id"])


def _grant_group(admin: Connection, name: str, project_id: str, user_id: str, roles: dict[str, str]) -> None:
    group: dict[str, Any] = {"name": f"{name}.ops", "description": "Those on call", "domain_id": "default"}
    group_id = post(admin.identity, "/groups", group=group)["group"]["id"]
    put(admin.identity, f"/groups/{group_id}/users/{user_id}")
    put(admin.identity, f"/projects/{project_id}/groups/{group_id}/roles/{roles['member']}")
    put(
        admin.identity,
        f"/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{roles['operator']}"
        "/inherited_to_projects",
    )


def _log_in(admin: Connection, username: str, password: str, project_id: str) -> Connection:
    return warm(
        admin.connect_as(
            username=username, password=password, user_domain_id="default", project_id=project_id
        )
    )


def set_quotas(admin: Connection, project_id: str, sizes: Sizes) -> None:
    """Set limits in Nova, Cinder and Neutron that no default has and that the sizes fit in."""
    servers, volumes = sizes.servers + 1, sizes.volumes + 1
    put(
        admin.compute,
        f"/os-quota-sets/{project_id}",
        quota_set={
            "instances": servers + 17,
            "cores": 4 * servers + 23,
            "ram": 4096 * servers + 777,
            "metadata_items": 77,
            "server_groups": 7,
        },
    )
    put(
        admin.block_storage,
        f"/os-quota-sets/{project_id}",
        quota_set={
            "volumes": volumes + 19,
            "snapshots": volumes + 21,
            "gigabytes": (volumes + 19) * sizes.volume_gib + 111,
        },
    )
    put(
        admin.network,
        f"/quotas/{project_id}",
        quota={
            "network": sizes.networks + 13,
            "subnet": 2 * sizes.networks + 26,
            "port": 4 * servers + 55,
            "router": 9,
            "floatingip": 8,
            "security_group": sizes.security_groups + 14,
            "security_group_rule": 10 * sizes.security_groups + 222,
        },
    )

"""Keystone: the tenant, its users and groups, roles and assignments."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pumphouse.cloud import Cloud, call, get_all
from pumphouse.model import Json, Ref
from pumphouse.tasks.base import STAMP
from pumphouse.verify.compare import Field, Item, Kind, Named
from pumphouse.verify.fields import mapped, plain, ref, reference, refs, tags

# What no migration grants, and whose accounts it never moves.
PRIVILEGED = ("admin", "service")


def _parent(raw: Json) -> Any:
    """The project above; None for one of its domain."""
    return None if raw.get("parent_id") in (None, raw["domain_id"]) else Ref("tenant", raw["parent_id"])


def _enabled(wanted: Any, actual: Any) -> str:
    return "it has to be enabled when its password is set" if wanted and not actual else ""


def _options(raw: Json) -> Json:
    # A role or project that is immutable is so again when the migration has ended.
    return dict(raw.get("options") or {})


_DOMAIN = reference("domain", "domain", "domain_id")
_OPTIONS = Field("options", _options)

DOMAIN = Kind("domain", (), lambda raw: Named("domains", raw["name"]), shared=True)
TENANT = Kind(
    "tenant",
    (
        *plain("name", "description", "enabled"),
        _DOMAIN,
        Field("parent", _parent),
        Field("tags", tags),
        _OPTIONS,
    ),
    lambda raw: (raw["name"], Ref("domain", raw["domain_id"])),
)
ROLE = Kind(
    "role",
    (mapped("name", "roles", "name"), *plain("description"), _DOMAIN, _OPTIONS),
    lambda raw: (Named("roles", raw["name"]), ref("domain", raw.get("domain_id"))),
    {"implied roles": "they are rules of the cloud, not of the tenant"},
    shared=True,
)
USER = Kind(
    "user",
    (
        mapped("name", "users", "name"),
        *plain("email", "description"),
        Field("enabled", lambda raw: raw["enabled"], _enabled),
        reference("default project", "tenant", "default_project_id"),
        _DOMAIN,
        _OPTIONS,
    ),
    lambda raw: (Named("users", raw["name"]), Ref("domain", raw["domain_id"])),
    {"password": "Keystone tells it to nobody"},
    shared=True,
)
GROUP = Kind(
    "group",
    (
        *plain("name", "description"),
        _DOMAIN,
        Field("members", lambda raw: refs("user", raw["members"])),
    ),
    lambda raw: (raw["name"], Ref("domain", raw["domain_id"])),
    shared=True,
)
ASSIGNMENT = Kind(
    "assignment",
    (Field("actor, role and inheritance", lambda raw: _grant(raw)),),
    lambda raw: _grant(raw),
)
KINDS = (DOMAIN, TENANT, ROLE, USER, GROUP, ASSIGNMENT)


def read(cloud: Cloud, tenant_id: str) -> dict[str, list[Item]]:
    """All of a Keystone that a tenant may refer to, and what is the tenant's own."""
    keystone = cloud.adapter("identity")
    paths = {key: f"/{key}" for key in ("domains", "projects", "roles", "users", "groups")}
    paths["role_assignments"] = f"/role_assignments?scope.project.id={tenant_id}&include_names=true"
    with ThreadPoolExecutor() as pool:
        found = dict(zip(paths, pool.map(lambda key: get_all(keystone, paths[key], key), paths), strict=True))
    grants = [g for g in found["role_assignments"] if g["scope"].get("project", {}).get("id") == tenant_id]
    groups = {g["group"]["id"] for g in grants if "group" in g}
    found["roles"] += _domain_roles(keystone, found["roles"], grants)
    for group in found["groups"]:
        path = f"/groups/{group['id']}/users"
        group["members"] = (
            [u["id"] for u in get_all(keystone, path, "users")] if group["id"] in groups else []
        )
    names = {user["id"]: user["name"] for user in found["users"]}
    services = _services(keystone)
    return {
        "domain": [_item(DOMAIN, raw, owned=False) for raw in found["domains"]],
        "tenant": [_tenant(raw, tenant_id) for raw in found["projects"]],
        "role": [_item(ROLE, raw, owned=False) for raw in found["roles"]],
        "user": [
            _item(USER, raw, owned=False, not_expected=_account(raw["id"], cloud, services))
            for raw in found["users"]
        ],
        "group": [_item(GROUP, raw, owned=False) for raw in found["groups"]],
        "assignment": [_assignment(raw, names, cloud, services) for raw in grants],
    }


def _item(kind: Kind, raw: Json, **options: Any) -> Item:
    return kind.item(raw, raw["id"], name=raw["name"], stamp=raw.get(STAMP) or "", **options)


def _tenant(raw: Json, tenant_id: str) -> Item:
    mine = raw["id"] == tenant_id
    return _item(
        TENANT,
        raw,
        owned=mine,
        not_expected="" if mine else "another tenant, which is not at the destination",
    )


def _grant(raw: Json) -> tuple[Any, ...]:
    actor = Ref("user", raw["user"]["id"]) if "user" in raw else Ref("group", raw["group"]["id"])
    return actor, Ref("role", raw["role"]["id"]), "OS-INHERIT:inherited_to" in raw["scope"]


def _assignment(raw: Json, names: Json, cloud: Cloud, services: set[str]) -> Item:
    actor, role, inherited = _grant(raw)
    who = names.get(actor.id, "") if actor.kind == "user" else raw["group"]["name"]
    name = f"{raw['role']['name']} of {actor.kind} {who or actor.id}{', inherited' * inherited}"
    refused = _account(actor.id, cloud, services)
    if not who:
        refused = f"its {actor.kind} no longer exists"
    elif raw["role"]["name"].lower() in PRIVILEGED:
        refused = f"the role {raw['role']['name']} is never granted by a migration"
    item_id = ".".join((actor.kind, actor.id, role.id, *["inherited"] * inherited))
    return ASSIGNMENT.item(raw, item_id, name=name, not_expected=refused, tolerated=bool(refused))


def _account(user_id: str, cloud: Cloud, services: set[str]) -> str:
    """Whose account a user is that no migration moves; empty for all others."""
    if user_id == cloud.user_id:
        return "the operator's own account"
    return "the account of a service" if user_id in services else ""


def _services(keystone: Any) -> set[str]:
    """The users that hold the role `service` anywhere, or any role on a project of the services."""
    roles = get_all(keystone, "/roles", "roles", name="service")
    projects = [
        p for name in ("service", "services") for p in get_all(keystone, "/projects", "projects", name=name)
    ]
    queries = [f"role.id={role['id']}" for role in roles] + [f"scope.project.id={p['id']}" for p in projects]
    grants = [g for q in queries for g in get_all(keystone, f"/role_assignments?{q}", "role_assignments")]
    return {grant["user"]["id"] for grant in grants if "user" in grant}


def _domain_roles(keystone: Any, listed: list[Json], grants: list[Json]) -> list[Json]:
    """The roles of single domains that are granted: Keystone lists them by domain only."""
    known = {role["id"] for role in listed}
    return [
        call(keystone, "GET", f"/roles/{role_id}")["role"]
        for role_id in sorted({grant["role"]["id"] for grant in grants} - known)
    ]


def twin_tenant(cloud: Cloud, source: Cloud, tenant_id: str, domains: Any) -> Json | None:
    """The destination's project made from a tenant, or else the one of its name in the mapped domain."""
    keystone, theirs = source.adapter("identity"), cloud.adapter("identity")
    wanted = call(keystone, "GET", f"/projects/{tenant_id}")["project"]
    domain = call(keystone, "GET", f"/domains/{wanted['domain_id']}")["domain"]["name"]
    projects = get_all(theirs, "/projects", "projects")
    names = {d["id"]: d["name"] for d in get_all(theirs, "/domains", "domains")}
    stamped = [p for p in projects if p.get(STAMP) == tenant_id]
    named = [
        p
        for p in projects
        if (p["name"], names.get(p["domain_id"])) == (wanted["name"], domains.get(domain, domain))
    ]
    return next(iter(stamped or named), None)

"""Keystone: the tenant, its users and groups, roles and assignments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pumphouse.cloud import Cloud, call, get_all, or_none
from pumphouse.errors import http_status
from pumphouse.model import Json, Ref
from pumphouse.verify.compare import NOT_KNOWN, Field, Item, Kind, Named
from pumphouse.verify.fields import (
    STAMP,
    all_of,
    counted,
    mapped,
    others,
    plain,
    ref,
    reference,
    refs,
    tags,
)

# What no migration grants, and whose accounts it never moves.
PRIVILEGED = ("admin", "service")
_NO_ROLE = "it has no role in the tenant that a migration grants"


def _parent(raw: Json) -> Any:
    """The project above; None for one of its domain."""
    return None if raw.get("parent_id") in (None, raw["domain_id"]) else Ref("tenant", raw["parent_id"])


def _default_project(raw: Json) -> Any:
    """The tenant; another project only by its name, because it is not the tenant's to bring it."""
    project_id, other = raw.get("default_project_id"), raw["other_default"]
    return Named("tenants", other) if other else ref("tenant", project_id)


def _of_another(wanted: Any, actual: Any) -> str:
    return "it is another tenant" if isinstance(wanted, Named) and actual is None else ""


def _options(raw: Json) -> Json:
    # A role or project that is immutable is so again when the migration has ended.
    return dict(raw.get("options") or {})


_DOMAIN = reference("domain", "domain", "domain_id")
_OPTIONS = Field("options", _options)
# What Keystone itself says of anything.
_OWN = ("id", "name", "description", "enabled", "domain_id", "options", "links")

DOMAIN = Kind("domain", (), lambda raw: Named("domains", raw["name"]), shared=True)
TENANT = Kind(
    "tenant",
    (
        *plain("name", "description", "enabled"),
        _DOMAIN,
        Field("parent", _parent),
        Field("tags", tags),
        _OPTIONS,
        Field("extra attributes", others(*_OWN, "parent_id", "is_domain", "tags")),
    ),
    lambda raw: (raw["name"], Ref("domain", raw["domain_id"])),
)
ROLE = Kind(
    "role",
    (
        mapped("name", "roles", "name"),
        *plain("description"),
        _DOMAIN,
        _OPTIONS,
        Field("extra attributes", others(*_OWN)),
    ),
    lambda raw: (Named("roles", raw["name"]), ref("domain", raw.get("domain_id"))),
    {"implied roles": "they are rules of the cloud, not of the tenant"},
    shared=True,
)
USER = Kind(
    "user",
    (
        mapped("name", "users", "name"),
        *plain("email", "description", "enabled"),
        Field("default project", _default_project, _of_another),
        _DOMAIN,
        _OPTIONS,
        Field(
            "extra attributes",
            others(*_OWN, "email", "default_project_id", "other_default", "password_expires_at"),
        ),
    ),
    lambda raw: (Named("users", raw["name"]), Ref("domain", raw["domain_id"])),
    {"password": "Keystone tells it to nobody", "password_expires_at": "the destination's rules say when"},
    shared=True,
)
GROUP = Kind(
    "group",
    (
        *plain("name", "description"),
        _DOMAIN,
        Field("members", lambda raw: refs("user", raw["members"])),
        Field("extra attributes", others(*_OWN, "members")),
    ),
    lambda raw: (raw["name"], Ref("domain", raw["domain_id"])),
    shared=True,
)
ASSIGNMENT = Kind(
    "assignment",
    (Field("actor, role and inheritance", lambda raw: _grant(raw)),),
    lambda raw: _grant(raw),
)
TRUSTS, APPLICATIONS, EC2 = COUNTED = (
    *(counted("trusts"), counted("application_credentials"), counted("ec2_credentials")),
)
KINDS = (DOMAIN, TENANT, ROLE, USER, GROUP, ASSIGNMENT, *COUNTED)


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
        listed = get_all(keystone, path, "users") if group["id"] in groups else []
        group["members"] = [user["id"] for user in listed]
    names = {user["id"]: user["name"] for user in found["users"]}
    projects = {project["id"]: project["name"] for project in found["projects"]}
    for user in found["users"]:
        project_id = user.get("default_project_id")
        user["other_default"] = None if project_id == tenant_id else projects.get(project_id)
    accounts = _accounts(keystone, cloud)
    granted = [g for g in grants if g["role"]["name"].lower() not in PRIVILEGED]
    mine = {g[actor]["id"] for g in granted for actor in ("user", "group") if actor in g}
    mine |= {user_id for group in found["groups"] if group["id"] in mine for user_id in group["members"]}
    return {
        "domain": [_item(DOMAIN, raw, owned=False) for raw in found["domains"]],
        "tenant": [_item(TENANT, raw, owned=raw["id"] == tenant_id) for raw in found["projects"]],
        "role": [_item(ROLE, raw, owned=False) for raw in found["roles"]],
        "user": [_actor(USER, raw, mine, accounts) for raw in found["users"]],
        "group": [_actor(GROUP, raw, mine, accounts) for raw in found["groups"]],
        "assignment": [_assignment(raw, names, accounts) for raw in grants],
    }


def read_credentials(cloud: Cloud, tenant_id: str, users: Collection[str]) -> dict[str, list[Item]]:
    """By what the users of a tenant let others and programs act in it; only they themselves can make that anew."""
    keystone = cloud.adapter("identity")

    def mine(path: str, key: str, **query: str) -> list[Json]:
        listed = or_none(get_all, keystone, path, key, **query) or []
        return [item for item in listed if item["project_id"] == tenant_id]

    def trusts() -> list[str]:
        return [f"of user {trust['trustor_user_id']}" for trust in mine("/OS-TRUST/trusts", "trusts")]

    def applications() -> list[str]:
        key = "application_credentials"
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda user_id: mine(f"/users/{user_id}/{key}", key), users))
        return [
            f"{item['name']} of user {user_id}"
            for user_id, items in zip(users, found, strict=True)
            for item in items
        ]

    def ec2() -> list[str]:
        return [f"of user {item['user_id']}" for item in mine("/credentials", "credentials", type="ec2")]

    looks = {TRUSTS: trusts, APPLICATIONS: applications, EC2: ec2}
    return {kind.name: _counted(kind, tenant_id, look) for kind, look in looks.items()}


def _counted(kind: Kind, tenant_id: str, look: Callable[[], list[str]]) -> list[Item]:
    """How many there are; not known where the login is not shown them, as trusts are not to application credentials."""
    try:
        return all_of(kind, tenant_id, look())
    except Exception as error:
        if http_status(error) != 403:
            raise
    why = "not known: the login is not shown whether there are any"
    return [kind.item({"number": NOT_KNOWN}, tenant_id, not_expected=why, tolerated=True)]


def _item(kind: Kind, raw: Json, **options: Any) -> Item:
    return kind.item(raw, raw["id"], name=raw["name"], stamp=raw.get(STAMP) or "", **options)


def _actor(kind: Kind, raw: Json, mine: Collection[str], accounts: Mapping[str, str]) -> Item:
    refused = accounts.get(raw["id"], "" if raw["id"] in mine else _NO_ROLE)
    return _item(kind, raw, owned=False, not_expected=refused)


def _grant(raw: Json) -> tuple[Any, ...]:
    actor = Ref("user", raw["user"]["id"]) if "user" in raw else Ref("group", raw["group"]["id"])
    return actor, Ref("role", raw["role"]["id"]), "OS-INHERIT:inherited_to" in raw["scope"]


def _assignment(raw: Json, names: Json, accounts: Mapping[str, str]) -> Item:
    actor, role, inherited = _grant(raw)
    who = names.get(actor.id, "") if actor.kind == "user" else raw["group"]["name"]
    name = f"{raw['role']['name']} of {actor.kind} {who or actor.id}{', inherited' * inherited}"
    account = accounts.get(actor.id, "") if who else f"its {actor.kind} no longer exists"
    refused = account
    if not account and raw["role"]["name"].lower() in PRIVILEGED:
        refused = f"the role {raw['role']['name']} is never granted by a migration"
    item_id = ".".join((actor.kind, actor.id, role.id, *["inherited"] * inherited))
    return ASSIGNMENT.item(raw, item_id, name=name, not_expected=refused, tolerated=bool(account))


def _accounts(keystone: Any, cloud: Cloud) -> dict[str, str]:
    """Whose account a user is that no migration moves: the operator's, and those of the services.

    A service's account holds the role `service` anywhere, or the role `admin` on a project of the services.
    """
    roles = {
        name: [role["id"] for role in get_all(keystone, "/roles", "roles", name=name)] for name in PRIVILEGED
    }
    projects = [
        p["id"]
        for name in ("service", "services")
        for p in get_all(keystone, "/projects", "projects", name=name)
    ]
    queries = [f"role.id={role_id}" for role_id in roles["service"]]
    queries += [f"role.id={role_id}&scope.project.id={p}" for role_id in roles["admin"] for p in projects]
    grants = [g for q in queries for g in get_all(keystone, f"/role_assignments?{q}", "role_assignments")]
    services = {grant["user"]["id"] for grant in grants if "user" in grant}
    return {
        **dict.fromkeys(services, "the account of a service"),
        cloud.user_id: "the operator's own account",
    }


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

"""What the kinds of Keystone share: the grants of a tenant, and who is never migrated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pumphouse.cloud import call
from pumphouse.errors import CloudError, http_status
from pumphouse.model import Json
from pumphouse.tasks.base import MARK, REFUSED, STAMP, BaseEnsureTask, Ensured, unlike

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

# Keystone's default policies give these roles power over more than one tenant.
PRIVILEGED_ROLES = frozenset({"admin", "service"})
SERVICE_PROJECTS = frozenset({"service", "services"})
# The accounts of the services as the installation guides of OpenStack name them.
SERVICE_USERS = frozenset(
    {
        *(
            "aodh",
            "barbican",
            "ceilometer",
            "cinder",
            "cloudkitty",
            "cyborg",
            "designate",
            "glance",
            "gnocchi",
        ),
        *(
            "heat",
            "ironic",
            "keystone",
            "magnum",
            "manila",
            "masakari",
            "mistral",
            "neutron",
            "nova",
            "octavia",
        ),
        *("placement", "swift", "trove", "vitrage", "watcher", "zaqar", "zun"),
    }
)
# What Keystone itself has of a resource, or had in its API 2.0; all else are extra attributes, which whoever makes a
# resource may give it (https://docs.openstack.org/api-ref/identity/v3/).
_OWN = frozenset(
    {
        *(
            "id",
            "name",
            "description",
            "domain_id",
            "enabled",
            "links",
            "options",
            "tags",
            "extra",
            STAMP,
            MARK,
        ),
        *("parent_id", "parents", "subtree", "is_domain"),
        *("default_project_id", "email", "federated", "password", "original_password", "password_expires_at"),
        *("tenantId", "tenant_id", "username"),
    }
)
_EMPTY: tuple[Any, ...] = (None, "", [], {})
INHERITED = "inherited"
GROUP = "group="
INHERITED_TO = "OS-INHERIT:inherited_to"


@dataclass(frozen=True)
class Grant:
    """A role that a user or a group has on a tenant, or by inheritance on the projects below it.

    assignment_id: see `assignment_id`.
    actor_kind: `user` or `group`.
    refusal: why it is not migrated; empty when it is.
    answer: as Keystone has it.
    is_missed: whether the tenant loses something where it is not migrated.
    """

    assignment_id: str
    tenant_id: str
    actor_kind: str
    actor_id: str
    actor_name: str
    role_id: str
    role_name: str
    inherited: bool
    refusal: str
    answer: Json
    is_missed: bool


def grants(cloud: Cloud, tenant_id: str) -> list[Grant]:
    """The roles that users and groups have on a tenant.

    Raises CloudError when Keystone does not tell their names, which it does since API 3.6 (Mitaka).
    """
    protected, found = protected_users(cloud), assignments(cloud, tenant_id, include_names=True)
    if any("name" not in item.role for item in found):
        raise CloudError(
            f"the Keystone of {cloud.name} does not tell the names of who has a role on the tenant",
            "it is older than Mitaka (API 3.6), the oldest that a tenant can be moved from or to",
        )
    return [_grant(item, protected) for item in found]


def assignments(cloud: Cloud, tenant_id: str, **options: Any) -> list[Any]:
    """Keystone's role assignments on a tenant, for itself or for the projects below it."""
    listed = cloud.keystone.role_assignments.list(project=tenant_id, **options)
    return [item for item in listed if item.scope.get("project", {}).get("id") == tenant_id]


def assignment_id(item: Any) -> str:
    """The address of an assignment, which has no id: `<tenant id>.<user id>.<role id>`, and `.inherited`.

    That of a group has `group=` before the group's id.
    """
    inherited = [INHERITED] if INHERITED_TO in item.scope else []
    actor = item.user["id"] if is_of_user(item) else f"{GROUP}{item.group['id']}"
    return ".".join((item.scope["project"]["id"], actor, item.role["id"], *inherited))


def is_of_user(item: Any) -> bool:
    """Whether an assignment is that of a user, and not of a group."""
    return hasattr(item, "user")


def carried_users(cloud: Cloud, tenant_id: str) -> set[str]:
    """The ids of the users who have a role on the tenant that is migrated, by themselves or by a group.

    A login that is not an administrator's knows of nobody but itself.
    """
    if not cloud.is_admin:
        return {cloud.user_id}
    users = _actors(grants(cloud, tenant_id), "user")
    return users | {user_id for members in carried_groups(cloud, tenant_id).values() for user_id in members}


def carried_groups(cloud: Cloud, tenant_id: str) -> dict[str, list[str]]:
    """The groups that have a role on the tenant that is migrated, each with the ids of its users; a call each."""
    protected = protected_users(cloud)
    groups = _actors(grants(cloud, tenant_id), "group")
    members = {i: [user.id for user in cloud.keystone.users.list(group=i)] for i in sorted(groups)}
    return {i: sorted(user_id for user_id in ids if user_id not in protected) for i, ids in members.items()}


def _actors(found: Iterable[Grant], kind: str) -> set[str]:
    return {grant.actor_id for grant in found if not grant.refusal and grant.actor_kind == kind}


def protected_users(cloud: Cloud) -> dict[str, str]:
    """The accounts that run a cloud, with what they are: its services' and the one that is logged in.

    A service's account holds the role `service`, or is named like a service and has a role on its project.
    A login that is not an administrator's is a user of its tenant, and knows of no other.
    """
    if not cloud.is_admin:
        return {}
    holders = set()
    for role in _of_name(cloud.keystone.roles, "service"):
        listed = cloud.keystone.role_assignments.list(role=role)
        holders |= {item.user["id"] for item in listed if hasattr(item, "user")}
    for name in sorted(SERVICE_PROJECTS):
        for project in _of_name(cloud.keystone.projects, name):
            members = filter(is_of_user, assignments(cloud, project.id, include_names=True))
            holders |= {item.user["id"] for item in members if item.user["name"] in SERVICE_USERS}
    return {**dict.fromkeys(holders, "the account of a service"), cloud.user_id: "the operator's own account"}


def visible_projects(cloud: Cloud) -> list[Any]:
    """All projects; for a login that is not an administrator's, those that its user has a role on."""
    of_user = {} if cloud.is_admin else {"user": cloud.user_id}
    return list(cloud.keystone.projects.list(**of_user))


def tenant_names(cloud: Cloud) -> dict[str, str]:
    """The names of the tenants that the login sees, by their ids."""
    return {project.id: project.name for project in visible_projects(cloud)}


def visible_domains(cloud: Cloud) -> dict[str, str]:
    """The names of all domains by id; for a login that is not an administrator's, of those in its token."""
    if cloud.is_admin:
        return {domain.id: domain.name for domain in cloud.keystone.domains.list()}
    access = cloud.access
    return {
        access.project_domain_id: access.project_domain_name,
        access.user_domain_id: access.user_domain_name,
    }


def twin_tenant(destination: Cloud, tenant_id: str, name: str | None) -> str | None:
    """The destination's tenant that was made from one of the source, or else the only one of its name."""
    return twin_tenants(destination, {tenant_id: name}).get(tenant_id)


def twin_tenants(destination: Cloud, names: Mapping[str, str | None]) -> dict[str, str]:
    """The destination's tenants of those of the source that have one, as `twin_tenant` tells it.

    names: the name of each tenant of the source by its id; None where it is not known.
    """
    projects = visible_projects(destination) if names else []
    stamped = {getattr(project, STAMP, None): str(project.id) for project in projects}
    found = {}
    for tenant_id, name in names.items():
        same_name = [str(project.id) for project in projects if project.name == name]
        twins = [stamped[tenant_id]] if tenant_id in stamped else same_name
        if len(twins) == 1:
            found[tenant_id] = twins[0]
    return found


def by_name(items: Iterable[Any]) -> dict[str, list[Any]]:
    """Keystone's resources by their names."""
    found: dict[str, list[Any]] = defaultdict(list)
    for item in items:
        found[item.name].append(item)
    return dict(found)


def with_extra(data: Json, raw: Mapping[str, Any]) -> Json:
    """The data of a resource with the extra attributes that its operators gave it, as `extra` where it has some.

    raw: the resource as Keystone tells it.
    """
    extra = {name: raw[name] for name in sorted(raw) if name not in _OWN and raw[name] is not None}
    return {**data, "extra": extra} if extra else data


def with_attributes(data: Json) -> Json:
    """The data of a resource with its extra attributes beside its own."""
    return {**data.get("extra", {}), **data}


def lacking(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> Json:
    """What a resource has none of, as an update would set it; what it has another of was somebody's choice.

    Nothing of one that is immutable, because it takes no update.
    """
    if (actual.get("options") or {}).get("immutable"):
        return {}
    found = {n: value for n, value in wanted.items() if value not in _EMPTY and actual.get(n) in _EMPTY}
    if missing := set(wanted.get("tags") or ()) - set(actual.get("tags") or ()):
        found["tags"] = sorted({*actual.get("tags", ()), *missing})
    theirs = actual.get("options") or {}
    if options := {name: v for name, v in (wanted.get("options") or {}).items() if name not in theirs}:
        found["options"] = options
    return found


def unfinished(wanted: Mapping[str, Any], actual: Mapping[str, Any], source_id: str) -> str:
    """What a resource lacks that a migration made; empty for what others made."""
    if actual.get(STAMP) != source_id or not (found := lacking(wanted, actual)):
        return ""
    return f"{', '.join(sorted(found))} not set"


class EnsureAttributes(BaseEnsureTask):
    """Finds or creates a resource of Keystone with all its attributes, the extra ones too.

    api_name: what Keystone's API calls it, e.g. `project`.
    """

    api_name: str

    def execute(self, data: Json, **ensured: Ensured) -> Ensured:
        """Find or create it; a note on each attribute that Keystone does not take."""
        self.is_new, self.notes = False, list[str]()
        return {**super().execute(data, **ensured), "notes": self.notes}

    def attributes(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """What it is made with, by the names of Keystone's API; without what is empty, and without its stamp."""
        raise NotImplementedError

    def create(self, data: Json, ensured: Mapping[str, Ensured], **secrets: str | None) -> str:
        """A new resource, with its stamp.

        secrets: what else it is made with, and Keystone does not tell.
        """
        wanted, extra = self.attributes(data, ensured), data.get("extra", {})
        marked = {MARK: self.mark} if self.mark else {}
        body = {**wanted, **marked, STAMP: data["id"], **{k: v for k, v in secrets.items() if v is not None}}
        try:
            made = self._send("POST", "", {**extra, **body})
        except Exception as error:
            if http_status(error) != 400 or not extra:
                raise
            made = self._send("POST", "", body)
        self.is_new, self.made_id = True, str(made["id"])
        # Of what Keystone knows under other names, such as a parent, it tells; of a password it does not.
        asked = {**extra, **wanted, **{k: v for k, v in secrets.items() if v is not None and k in made}}
        if wrong := unlike(asked, made):
            made = self._corrected(self.made_id, wrong) or made
        untold = [name for name in unlike(asked, made) if made.get(name) in _EMPTY]
        self.notes += [
            f"its {name} is not carried: the destination's Keystone does not take it" for name in untold
        ]
        return self.accept(self.made_id, {k: v for k, v in asked.items() if k not in untold}, made)

    def _corrected(self, resource_id: str, wrong: Json) -> Json | None:
        """What there is after an update; None where Keystone takes none, as of what is immutable."""
        try:
            return self._send("PATCH", resource_id, wrong)
        except Exception as error:
            if http_status(error) not in REFUSED:
                raise
            return None

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Ensured]) -> None:
        """Give it what it lacks, where an earlier run made it."""
        if self.is_new:
            return
        actual = call(self.cloud.adapter("identity"), "GET", self._path(destination_id))[self.api_name]
        missing = lacking({**data.get("extra", {}), **self.attributes(data, ensured)}, actual)
        if missing and actual.get(STAMP) == data["id"]:
            self._send("PATCH", destination_id, missing)

    def is_marked(self, destination_id: str) -> bool:
        """Whether this task has made the resource."""
        actual = call(self.cloud.adapter("identity"), "GET", self._path(destination_id))[self.api_name]
        return bool(actual.get(MARK) == self.mark)

    def _send(self, method: str, resource_id: str, body: Json) -> Json:
        path = self._path(resource_id)
        answer: Json = call(self.cloud.adapter("identity"), method, path, {self.api_name: body})[
            self.api_name
        ]
        return answer

    def _path(self, resource_id: str) -> str:
        return f"/{self.api_name}s/{resource_id}".rstrip("/")


def unmark(api_name: str) -> Callable[[Cloud, str], None]:
    """What takes the marks of a migration off a resource of Keystone.

    api_name: what Keystone's API calls it, e.g. `project`.
    """

    def take_off(cloud: Cloud, resource_id: str) -> None:
        identity, path = cloud.adapter("identity"), f"/{api_name}s/{resource_id}"
        found = call(identity, "GET", path)[api_name]
        if marks := {mark: None for mark in (STAMP, MARK) if found.get(mark) is not None}:
            call(identity, "PATCH", path, {api_name: marks})

    return take_off


def of_others(cloud: Cloud, tenant_id: str, user_ids: Collection[str]) -> dict[str, str]:
    """Why users stay when a tenant goes: those who run the cloud, and those who have roles elsewhere, by groups too."""
    listed = cloud.keystone.role_assignments.list()
    elsewhere = [item for item in listed if item.scope.get("project", {}).get("id") != tenant_id]
    holders = {item.user["id"] for item in elsewhere if is_of_user(item)}
    for group_id in {item.group["id"] for item in elsewhere if not is_of_user(item)}:
        holders |= {user.id for user in cloud.keystone.users.list(group=group_id)}
    found = dict.fromkeys(holders, "the user has roles elsewhere") | protected_users(cloud)
    return {user_id: found[user_id] for user_id in user_ids if user_id in found}


def _of_name(manager: Any, name: str) -> list[Any]:
    return [item for item in manager.list(name=name) if item.name == name]


def _grant(item: Any, protected: dict[str, str]) -> Grant:
    actor = item.user if is_of_user(item) else item.group
    return Grant(
        assignment_id=assignment_id(item),
        tenant_id=item.scope["project"]["id"],
        actor_kind="user" if is_of_user(item) else "group",
        actor_id=actor["id"],
        actor_name=actor["name"],
        role_id=item.role["id"],
        role_name=item.role["name"],
        inherited=INHERITED_TO in item.scope,
        refusal=_refusal(item, actor, protected),
        answer=item.to_dict(),
        is_missed=bool(actor["name"]) and actor["id"] not in protected,
    )


def _refusal(item: Any, actor: dict[str, str], protected: dict[str, str]) -> str:
    if actor["id"] in protected:
        return f"{actor['name']} is {protected[actor['id']]}"
    # With include_names Keystone gives an empty name to whoever is no longer there.
    if not actor["name"]:
        return f"its {'user' if is_of_user(item) else 'group'} no longer exists"
    if item.role["name"].casefold() in PRIVILEGED_ROLES:
        return f"the role {item.role['name']} is never granted by a migration; grant it by hand where wanted"
    return ""

"""Role assignments: what a user or a group may do in the tenant, or by inheritance in projects below it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.cloud.rights import Rights
from pumphouse.errors import MadeOtherwiseError
from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    ASK,
    BaseEnsureTask,
    BaseRetrieveTask,
    Ensured,
    Migration,
    Search,
    ensure,
    ensured_id,
    retrieve,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.keystone.common import (
    GROUP,
    INHERITED,
    INHERITED_TO,
    Grant,
    assignment_id,
    assignments,
    grants,
    is_of_user,
)
from pumphouse.tasks.kind import Kind

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "assignment"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The roles that users and groups have on the tenant."""
    return [_record(grant) for grant in grants(source, tenant_id)]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The assignments of the given ids, each as `assignment_id` has it."""
    records = [record for tenant_id in _tenants(ids) for record in discover(source, tenant_id)]
    return {record.ref.id: record for record in records if record.ref.id in ids}


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The same assignment of what user or group, role and tenant are at the destination."""
    parts = {record.ref: [search.ids.get(need, "") for need in record.needs] for record in records}
    wanted = {r.ref: _join(r.data, *parts[r.ref]) for r in records if all(parts[r.ref])}
    there = _read(search.destination, wanted.values())
    return {ref: [Twin(found, ours=True)] for ref, found in wanted.items() if found in there}


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the assignment and grant it."""
    line = f"grant {step.record.title}"
    return [
        retrieve(RetrieveAssignment, migration, step),
        ensure(EnsureAssignment, [migration.destination], step, line=line),
    ]


class RetrieveAssignment(BaseRetrieveTask):
    """Reads an assignment of the source, so that none is granted that was taken back since."""

    def retrieve(self, resource_id: str) -> Json:
        """The ids of its tenant, its user or group, and its role."""
        return self.cloud.batch(_read).get(resource_id)


class EnsureAssignment(BaseEnsureTask):
    """Grants a role to a user or a group on the tenant."""

    shared = True

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The assignment, if it is granted already."""
        found = _id(data, ensured)
        return found if self.cloud.batch(_read).has(found) else None

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Grant it; MadeOtherwiseError where it is not there afterwards, because the answer tells nothing."""
        created = _id(data, ensured)
        role_id, place = _split(created)
        self.cloud.keystone.roles.grant(role_id, **place)
        if not self.cloud.batch(_read).has(created):
            raise MadeOtherwiseError("the destination did not grant the role as it was asked to", ASK)
        return created

    def remove(self, destination_id: str) -> None:
        """Take it back."""
        role_id, place = _split(destination_id)
        self.cloud.keystone.roles.revoke(role_id, **place)


def _read(cloud: Cloud, ids: Collection[str]) -> dict[str, Json]:
    """Those of the assignments that there are, by id."""
    listed = [item for tenant_id in _tenants(ids) for item in assignments(cloud, tenant_id)]
    return {found: _data(item) for item in listed if (found := assignment_id(item)) in ids}


def _tenants(ids: Iterable[str]) -> list[str]:
    return sorted({found.partition(".")[0] for found in ids})


def _data(item: Any) -> Json:
    kind, actor = ("user", item.user) if is_of_user(item) else ("group", item.group)
    return {
        "id": assignment_id(item),
        "tenant_id": item.scope["project"]["id"],
        "actor_kind": kind,
        "actor_id": actor["id"],
        "role_id": item.role["id"],
        "inherited": INHERITED_TO in item.scope,
    }


def _id(data: Json, ensured: Mapping[str, Ensured]) -> str:
    kinds = (("tenant", "tenant_id"), (data["actor_kind"], "actor_id"), ("role", "role_id"))
    return _join(data, *(ensured_id(ensured, kind, data[field]) for kind, field in kinds))


def _join(data: Json, tenant_id: str, actor_id: str, role_id: str) -> str:
    """The address of the assignment with the destination's ids."""
    actor = f"{GROUP}{actor_id}" if data["actor_kind"] == "group" else actor_id
    return ".".join((tenant_id, actor, role_id, *([INHERITED] if data["inherited"] else [])))


def _split(assignment_id: str) -> tuple[str, Json]:
    """The role, and where it is granted to whom, as Keystone's client takes them."""
    # A user from LDAP may have dots in its id; the ids of projects and roles are hexadecimal.
    direct = assignment_id.removesuffix(f".{INHERITED}")
    tenant_id, _, rest = direct.partition(".")
    actor_id, _, role_id = rest.rpartition(".")
    is_group = actor_id.startswith(GROUP)
    actor = {"group" if is_group else "user": actor_id.removeprefix(GROUP)}
    return role_id, {
        "project": tenant_id,
        **actor,
        "os_inherit_extension_inherited": direct != assignment_id,
    }


def _record(grant: Grant) -> Record:
    data = {
        "id": grant.assignment_id,
        "tenant_id": grant.tenant_id,
        "actor_kind": grant.actor_kind,
        "actor_id": grant.actor_id,
        "role_id": grant.role_id,
        "inherited": grant.inherited,
    }
    actor = Ref(grant.actor_kind, grant.actor_id)
    needs = (Ref("tenant", grant.tenant_id), actor, Ref("role", grant.role_id))
    below = " for the projects below" if grant.inherited else ""
    name = f"of the role {grant.role_name} to {grant.actor_name or grant.actor_id}{below}"
    return Record(
        Ref(NAME, grant.assignment_id),
        name,
        data,
        needs,
        part_of=actor,
        skip=grant.refusal,
        answer=grant.answer,
        settled=not grant.is_missed,
    )


KIND = Kind(
    NAME,
    "identity",
    discover,
    fetch,
    find,
    tasks,
    rights=Rights.ADMINISTRATORS_SEE,
    recognised="itself",
    fields=Fields(
        carried="scope/OS-INHERIT:inherited_to",
        mapped={
            "scope/project/id": "the tenant's twin",
            "user/id": "the user's twin",
            "group/id": "the group's twin",
            "role/id": "the role's twin",
        },
        derived="links scope/project/name scope/project/domain user/name user/domain group/name group/domain "
        "role/name role/domain",
        summary="of users and groups on the tenant, and inherited ones for the projects below it",
    ),
)

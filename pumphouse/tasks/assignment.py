"""Role assignments: what a user may do in the tenant."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    BaseEnsureTask,
    BaseRetrieveTask,
    Migration,
    Search,
    ensure,
    ensured_id,
    retrieve,
)
from pumphouse.tasks.keystone import Grant, assignment_id, assignments, grants

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "assignment"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The roles that users have on the tenant by themselves; those of groups are not among them."""
    return [_record(grant) for grant in grants(source, tenant_id)]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The assignments of the given ids, each `<tenant id>.<user id>.<role id>`."""
    records = [record for tenant_id in _tenants(ids) for record in discover(source, tenant_id)]
    return {record.ref.id: record for record in records if record.ref.id in ids}


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The same assignment of what user, role and tenant are at the destination."""
    parts = {record.ref: [search.ids.get(need, "") for need in record.needs] for record in records}
    wanted = {ref: ".".join(ids) for ref, ids in parts.items() if all(ids)}
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
        """The ids of its tenant, its user and its role."""
        return self.cloud.batch(_read).get(resource_id)


class EnsureAssignment(BaseEnsureTask):
    """Grants a role to a user on the tenant."""

    shared = True

    def find(self, data: Json, ensured: Mapping[str, Json]) -> str | None:
        """The assignment, if it is granted already."""
        found = _id(data, ensured)
        return found if found in _read(self.cloud, [found]) else None

    def create(self, data: Json, ensured: Mapping[str, Json]) -> str:
        """Grant it."""
        created = _id(data, ensured)
        tenant_id, user_id, role_id = _split(created)
        self.cloud.keystone.roles.grant(role_id, user=user_id, project=tenant_id)
        return created

    def remove(self, destination_id: str) -> None:
        """Take it back."""
        tenant_id, user_id, role_id = _split(destination_id)
        self.cloud.keystone.roles.revoke(role_id, user=user_id, project=tenant_id)


def _read(cloud: Cloud, ids: Collection[str]) -> dict[str, Json]:
    """Those of the assignments that there are, by id."""
    listed = [item for tenant_id in _tenants(ids) for item in assignments(cloud, tenant_id)]
    return {found: _data(item) for item in listed if (found := assignment_id(item)) in ids}


def _tenants(ids: Iterable[str]) -> list[str]:
    return sorted({found.partition(".")[0] for found in ids})


def _data(item: Any) -> Json:
    return {
        "id": assignment_id(item),
        "tenant_id": item.scope["project"]["id"],
        "user_id": item.user["id"],
        "role_id": item.role["id"],
    }


def _id(data: Json, ensured: Mapping[str, Json]) -> str:
    parts = (("tenant", data["tenant_id"]), ("user", data["user_id"]), ("role", data["role_id"]))
    return ".".join(ensured_id(ensured, kind, source_id) for kind, source_id in parts)


def _split(assignment_id: str) -> tuple[str, str, str]:
    # A user from LDAP may have dots in its id; the ids of projects and roles are hexadecimal.
    tenant_id, _, rest = assignment_id.partition(".")
    user_id, _, role_id = rest.rpartition(".")
    return tenant_id, user_id, role_id


def _record(grant: Grant) -> Record:
    data = {
        "id": grant.assignment_id,
        "tenant_id": grant.tenant_id,
        "user_id": grant.user_id,
        "role_id": grant.role_id,
    }
    user = Ref("user", grant.user_id)
    needs = (Ref("tenant", grant.tenant_id), user, Ref("role", grant.role_id))
    name = f"of the role {grant.role_name} to {grant.user_name or grant.user_id}"
    return Record(Ref(NAME, grant.assignment_id), name, data, needs, part_of=user, skip=grant.refusal)

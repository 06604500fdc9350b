"""Role assignments: what a user may do in the tenant."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

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
from pumphouse.tasks.keystone import Grant, grants

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "assignment"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The roles that users have on the tenant by themselves; those of groups are not among them."""
    return [_record(grant) for grant in grants(source, tenant_id)]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The assignments of the given ids, each `<tenant id>.<user id>.<role id>`."""
    tenants = {assignment_id.partition(".")[0] for assignment_id in ids}
    records = [record for tenant_id in sorted(tenants) for record in discover(source, tenant_id)]
    return {record.ref.id: record for record in records if record.ref.id in ids}


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The same assignment of what user, role and tenant are at the destination."""
    held = cache(lambda tenant_id: _held(search.destination, tenant_id))
    found: dict[Ref, list[Twin]] = {}
    for record in records:
        tenant_id, user_id, role_id = (search.ids.get(need) for need in record.needs)
        if tenant_id and (user_id, role_id) in held(tenant_id):
            found[record.ref] = [Twin(f"{tenant_id}.{user_id}.{role_id}", ours=True)]
    return found


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
        return self.cloud.batch(fetch).get(resource_id).data


class EnsureAssignment(BaseEnsureTask):
    """Grants a role to a user on the tenant."""

    shared = True

    def find(self, data: Json, ensured: Mapping[str, Json]) -> str | None:
        """The assignment, if it is granted already."""
        tenant_id, user_id, role_id = ids = _ids(data, ensured)
        return ".".join(ids) if (user_id, role_id) in _held(self.cloud, tenant_id) else None

    def create(self, data: Json, ensured: Mapping[str, Json]) -> str:
        """Grant it."""
        tenant_id, user_id, role_id = ids = _ids(data, ensured)
        self.cloud.keystone.roles.grant(role_id, user=user_id, project=tenant_id)
        return ".".join(ids)

    def remove(self, destination_id: str) -> None:
        """Take it back."""
        tenant_id, user_id, role_id = _split(destination_id)
        self.cloud.keystone.roles.revoke(role_id, user=user_id, project=tenant_id)


def _held(cloud: Cloud, tenant_id: str) -> set[tuple[str, str]]:
    """Which user has which role on the tenant itself."""
    return {(grant.user_id, grant.role_id) for grant in grants(cloud, tenant_id) if not grant.inherited}


def _ids(data: Json, ensured: Mapping[str, Json]) -> tuple[str, str, str]:
    return (
        ensured_id(ensured, "tenant", data["tenant_id"]),
        ensured_id(ensured, "user", data["user_id"]),
        ensured_id(ensured, "role", data["role_id"]),
    )


def _split(assignment_id: str) -> tuple[str, str, str]:
    # A user from LDAP may have dots in its id; the ids of projects and roles are hexadecimal.
    tenant_id, _, rest = assignment_id.partition(".")
    user_id, _, role_id = rest.rpartition(".")
    return tenant_id, user_id, role_id


def _record(grant: Grant) -> Record:
    parts = [grant.tenant_id, grant.user_id, grant.role_id, *(["inherited"] if grant.inherited else [])]
    data = {
        "id": ".".join(parts),
        "tenant_id": grant.tenant_id,
        "user_id": grant.user_id,
        "role_id": grant.role_id,
        "inherited": grant.inherited,
    }
    user = Ref("user", grant.user_id)
    needs = (Ref("tenant", grant.tenant_id), user, Ref("role", grant.role_id))
    name = f"of the role {grant.role_name} to {grant.user_name or grant.user_id}"
    return Record(Ref(NAME, data["id"]), name, data, needs, part_of=user, skip=grant.refusal)

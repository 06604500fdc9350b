"""A disabled tenant is made enabled, filled, and disabled when everything else is done."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from taskflow import task

from pumphouse.cloud.rights import Rights
from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    STAMP,
    BaseEnsureTask,
    Ensured,
    Migration,
    Search,
    ensure,
    ensured_id,
    retrieve_record,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.kind import Kind

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "tenant_state"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The state of the tenant, if it is disabled."""
    return list(fetch(source, [tenant_id]).values())


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The states of those tenants that are disabled."""
    projects = [source.keystone.projects.get(tenant_id) for tenant_id in ids]
    return {project.id: _record(project.id, project.name) for project in projects if not project.enabled}


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The state of the twin; a tenant that this migration has not made is left as it is."""
    return {record.ref: _twins(search, record.ref.id) for record in records}


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Disable the tenant."""
    line = f"disable tenant {step.record.name}, as it is at the source"
    return [
        retrieve_record(fetch, migration, step),
        ensure(EnsureTenantState, [migration.destination], step, line=line),
    ]


class EnsureTenantState(BaseEnsureTask):
    """Disables the project at the destination, which an administrator may have done as well."""

    shared = True

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The project, when it is disabled already."""
        project = self.cloud.keystone.projects.get(ensured_id(ensured, "tenant", data["id"]))
        return None if project.enabled else str(project.id)

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Disable the project."""
        tenant_id = ensured_id(ensured, "tenant", data["id"])
        project = self.cloud.keystone.projects.update(tenant_id, enabled=False)
        return self.accept(tenant_id, {"enabled": False}, project.to_dict())

    def remove(self, destination_id: str) -> None:
        """Enable the project again."""
        self.cloud.keystone.projects.update(destination_id, enabled=True)


def _record(tenant_id: str, name: str) -> Record:
    needs = (Ref("tenant", tenant_id),)
    return Record(Ref(NAME, tenant_id), name, {"id": tenant_id, "name": name}, needs, last=True)


def _twins(search: Search, tenant_id: str) -> list[Twin]:
    twin_id = search.ids.get(Ref("tenant", tenant_id))
    if twin_id is None:
        return []
    project = search.destination.keystone.projects.get(twin_id)
    ours = getattr(project, STAMP, None) == tenant_id
    return [Twin(twin_id, ours=True, unfinished="still enabled" if ours and project.enabled else "")]


KIND = Kind(
    NAME,
    "identity",
    discover,
    fetch,
    find,
    tasks,
    rights=Rights.ADMINISTRATORS_MAKE,
    not_compared="whether the tenant is enabled is compared",
    left_out_note="the tenant is disabled at the source: it is enabled at the destination until all of it is migrated",
    recognised="itself",
    fields=Fields(carried="enabled", summary="last of all"),
)

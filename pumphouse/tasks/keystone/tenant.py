"""The tenant itself: a Keystone project."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from taskflow import task
from taskflow.patterns import graph_flow

from pumphouse.cloud import or_none
from pumphouse.cloud.rights import Rights
from pumphouse.errors import ConflictError
from pumphouse.model import Json, Record, Ref, Step, Twin, symbol
from pumphouse.tasks.base import (
    STAMP,
    BaseRetrieveTask,
    Ensured,
    Migration,
    Search,
    differences,
    ensure,
    retrieve,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.keystone.common import EnsureAttributes, unfinished, unmark, with_attributes, with_extra
from pumphouse.tasks.kind import Kind, removal

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "tenant"
FIELDS = ("name", "description", "domain_id", "tags", "options")


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The tenant."""
    return list(fetch(source, [tenant_id]).values())


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The tenants of the given ids; Keystone lists no projects by id, and a migration reads one."""
    return {
        i: _record(project, _parent(source, project))
        for i in ids
        if (project := or_none(source.keystone.projects.get, i))
    }


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records, with a note where the parent is not at the destination."""
    return [
        replace(record, notes=(*record.notes, _orphaned(record.data)))
        if record.data["parent"] and not _parent_twin(search, record)
        else record
        for record in records
    ]


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The project that carries the stamp, else the one of the same name in the mapped domain."""
    return {record.ref: _twins(search, record) for record in records}


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the tenant and make it; enabled, because a disabled one could not be filled."""
    return [
        retrieve(RetrieveTenant, migration, step),
        ensure(EnsureTenant, [migration.destination], step),
    ]


class RetrieveTenant(BaseRetrieveTask):
    """Reads a project of the source."""

    def retrieve(self, resource_id: str) -> Json:
        """Its fields as Keystone has them."""
        return self.cloud.batch(fetch).get(resource_id).data


class EnsureTenant(EnsureAttributes):
    """Finds or creates the project at the destination; one of the same name that is not ours is a conflict."""

    api_name = "project"

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The project that carries the stamp."""
        twins = _candidates(self.cloud, data["name"], _domain_id(data, ensured), data["id"])
        ours = [project for project in twins if getattr(project, STAMP, None) == data["id"]]
        if twins and not ours:
            raise ConflictError(
                f"the destination already has a tenant named {data['name']!r}",
                "set policies.on_conflict to reuse or rename, or rename that tenant",
            )
        return ours[0].id if ours else None

    def attributes(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """Its name, domain, description, tags and options."""
        domain_id = _domain_id(data, ensured)
        optional = {"description": data["description"], "tags": data["tags"], "options": data["options"]}
        fields = {"name": data["name"], "domain_id": domain_id}
        return fields | {name: value for name, value in optional.items() if value}

    def create(self, data: Json, ensured: Mapping[str, Ensured], **secrets: str | None) -> str:
        """A new enabled project below the twin of its parent; a note says when that is not there."""
        return super().create(data, ensured, parent_id=self._parent_id(data, ensured), **secrets)

    def remove(self, destination_id: str) -> None:
        """Delete the project; one that was made immutable, as at the source, has to be released first."""
        project = self.cloud.keystone.projects.get(destination_id)
        if project.to_dict().get("options", {}).get("immutable"):
            self.cloud.keystone.projects.update(project, options={"immutable": None})
        self.cloud.keystone.projects.delete(destination_id)

    def _parent_id(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The twin of the parent; None for a project of the domain."""
        parent = data.get("parent")
        if parent is None:
            return None
        found = _candidates(self.cloud, parent["name"], _domain_id(data, ensured), parent["id"])
        if len(found) == 1:
            return str(found[0].id)
        self.notes.append(_orphaned(data))
        return None


def migrate_tenant(src: Cloud, dst: Cloud, store: Json, tenant_id: str) -> tuple[graph_flow.Flow, Json]:
    """A flow that makes one tenant, to be run by itself or as part of a flow composed by hand.

    Returns the flow and the store to run it with; the result is `tenant-<id>-ensured`.
    """
    ref = Ref(NAME, tenant_id)
    id_symbol, retrieved = symbol(ref, "id"), symbol(ref, "retrieved")
    flow = graph_flow.Flow(f"migrate-{NAME}-{tenant_id}")
    flow.add(
        RetrieveTenant(src, provides=retrieved, rebind=[id_symbol]),
        EnsureTenant(dst, provides=symbol(ref, "ensured"), rebind=[retrieved]),
    )
    return flow, {**store, id_symbol: tenant_id}


def _parent(source: Cloud, project: Any) -> Any:
    """The project that a project is a child of; None when it is one of the domain."""
    is_child = source.is_admin and project.parent_id not in (None, project.domain_id)
    return or_none(source.keystone.projects.get, project.parent_id) if is_child else None


def _record(project: Any, parent: Any = None) -> Record:
    raw = project.to_dict()
    data = {
        **{name: raw.get(name) for name in ("id", "name", "description", "enabled", "domain_id")},
        "parent": {"id": parent.id, "name": parent.name} if parent else None,
        # Since Queens, and since Train.
        "tags": sorted(raw.get("tags") or ()),
        "options": raw.get("options") or {},
    }
    needs = (Ref("domain", project.domain_id),)
    return Record(Ref(NAME, project.id), project.name, with_extra(data, raw), needs, answer=raw)


def _orphaned(data: Json) -> str:
    return (
        f"its parent {data['parent']['name']} is not at the destination: it is a project of the domain there"
    )


def _parent_twin(search: Search, record: Record) -> bool:
    parent, domain = record.data["parent"], Ref("domain", record.data["domain_id"])
    if not search.destination.is_admin or domain not in search.ids:
        return True  # nothing is made there
    return len(_candidates(search.destination, parent["name"], search.ids[domain], parent["id"])) == 1


def _twins(search: Search, record: Record) -> list[Twin]:
    if not search.destination.is_admin:
        return [_own_twin(search, record)]
    domain = Ref("domain", record.data["domain_id"])
    if domain not in search.ids:
        return []
    candidates = _candidates(search.destination, record.name, search.ids[domain], record.ref.id)
    return [_twin(project, record, search.ids[domain]) for project in candidates]


def _twin(project: Any, record: Record, domain_id: str) -> Twin:
    wanted = {**with_attributes(record.data), "domain_id": domain_id}
    fields = (*FIELDS, *record.data.get("extra", ()))
    found = differences(wanted, with_attributes(_record(project).data), fields)
    lacks = unfinished({field: wanted[field] for field in fields}, project.to_dict(), record.ref.id)
    return Twin(project.id, getattr(project, STAMP, None) == record.ref.id, found, lacks)


def _own_twin(search: Search, record: Record) -> Twin:
    """The project that the destination's login is scoped to, unless it was made from another tenant."""
    project = search.destination.keystone.projects.get(search.destination.project_id)
    made_from = getattr(project, STAMP, record.ref.id)
    if made_from != record.ref.id:
        return Twin(project.id, ours=False, differences=(f"it was made from tenant {made_from}",))
    # A member has no say in the domain.
    found = differences(record.data, _record(project).data, [f for f in FIELDS if f != "domain_id"])
    return Twin(project.id, ours=True, differences=found)


def _candidates(cloud: Cloud, name: str, domain_id: str, source_id: str) -> list[Any]:
    """The stamped projects of a domain, or else the one of that name."""
    projects = cloud.keystone.projects.list(domain=domain_id)
    stamped = [project for project in projects if getattr(project, STAMP, None) == source_id]
    return stamped or [project for project in projects if project.name == name]


def _domain_id(data: Json, ensured: Mapping[str, Ensured]) -> str:
    """The destination's domain; the source's own id where a flow composed by hand maps none."""
    domain = ensured.get(symbol(Ref("domain", data["domain_id"]), "ensured"))
    return str(domain["id"]) if domain else str(data["domain_id"])


KIND = Kind(
    NAME,
    "identity",
    discover,
    fetch,
    find,
    tasks,
    rights=Rights.ADMINISTRATORS_MAKE,
    adapt=adapt,
    renamable=True,
    recognised="stamp; else a name in a domain is a conflict",
    unmark=unmark("project"),
    remove=removal(EnsureTenant),
    fields=Fields(
        carried="name description enabled tags options *",
        mapped={"domain_id": "the domain's twin", "parent_id": "the project of the parent's name"},
        derived="id is_domain links pumphouse_*",
        summary="extra attributes; a disabled tenant is disabled when all is done",
    ),
)

"""Groups of users that have a role on the tenant: matched by domain and name, made where there is none."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.cloud.rights import Rights
from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    Ensured,
    Migration,
    Search,
    differences,
    differs_in_case,
    ensure,
    ensured_id,
    retrieve_record,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.keystone.common import (
    EnsureAttributes,
    by_name,
    carried_groups,
    unfinished,
    unmark,
    with_attributes,
    with_extra,
)
from pumphouse.tasks.kind import Kind, always

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "group"
FIELDS = ("name", "description")


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The groups that have a role on the tenant that is migrated."""
    return list(fetch(source, carried_groups(source, tenant_id)).values())


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The groups of the given ids."""
    groups = source.keystone.groups.list() if ids else []
    return {group.id: _record(group) for group in groups if group.id in ids}


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The group of the same name in the mapped domain (unique there)."""
    groups = cache(lambda domain_id: by_name(search.destination.keystone.groups.list(domain=domain_id)))
    found: dict[Ref, list[Twin]] = {}
    for record in records:
        domain_id = search.ids.get(Ref("domain", record.data["domain_id"]))
        if domain_id is not None:
            names = [n for n in groups(domain_id) if n.casefold() == record.name.casefold()]
            same = [group for name in names for group in groups(domain_id)[name]]
            found[record.ref] = [_twin(record, group) for group in same]
    return found


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the group and make it, empty."""
    return [retrieve_record(fetch, migration, step), ensure(EnsureGroup, [migration.destination], step)]


class EnsureGroup(EnsureAttributes):
    """Finds or creates the group of the same name; its stamp says that its members may be added."""

    api_name = "group"
    shared = True

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The group of this name in the mapped domain."""
        domain_id = ensured_id(ensured, "domain", data["domain_id"])
        groups = self.cloud.keystone.groups.list(domain=domain_id, name=data["name"])
        return next((str(group.id) for group in groups if group.name == data["name"]), None)

    def attributes(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """Its name, domain and description."""
        domain_id = ensured_id(ensured, "domain", data["domain_id"])
        return {"name": data["name"], "domain_id": domain_id, "description": data["description"] or ""}

    def remove(self, destination_id: str) -> None:
        """Delete the group."""
        self.cloud.keystone.groups.delete(destination_id)


def _data(group: Any) -> Json:
    raw = group.to_dict()
    data = {name: raw.get(name) for name in ("id", "name", "description", "domain_id")}
    return with_extra(data, raw)


def _record(group: Any) -> Record:
    return Record(
        Ref(NAME, group.id),
        group.name,
        _data(group),
        (Ref("domain", group.domain_id),),
        answer=group.to_dict(),
    )


def _twin(record: Record, group: Any) -> Twin:
    wanted, fields = with_attributes(record.data), (*FIELDS, *record.data.get("extra", ()))
    found = differences(wanted, with_attributes(_data(group)), fields)
    lacks = unfinished({field: wanted[field] for field in fields}, group.to_dict(), record.ref.id)
    return Twin(group.id, not differs_in_case(group.name, record.name), found, lacks)


KIND = Kind(
    NAME,
    "identity",
    discover,
    fetch,
    find,
    tasks,
    rights=Rights.ADMINISTRATORS_SEE,
    common=always,
    recognised="name in its domain",
    unmark=unmark("group"),
    stays="other tenants may use it",
    fields=Fields(
        carried="name description *",
        mapped={"domain_id": "the domain's twin"},
        derived="id links pumphouse_*",
        summary="extra attributes",
    ),
)

"""Domains: found at the destination by mapping or by name, never created."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from taskflow import task

from pumphouse.model import Record, Ref, Step, Twin
from pumphouse.tasks.base import Migration, Search
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.keystone.common import visible_domains
from pumphouse.tasks.kind import Kind, Names

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "domain"
MISSING = "no such domain at the destination: create it, or name another in mappings.domains"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """A tenant owns no domain."""
    return []


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The domains of the given ids."""
    names = visible_domains(source)
    return {i: _record(i, names[i]) for i in ids if i in names}


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The domain of the mapped name, or of the same name (unique in a cloud); else a member's own."""
    by_name = {name: domain_id for domain_id, name in visible_domains(search.destination).items()}
    wanted = {record.ref: search.mappings["domains"].get(record.name, record.name) for record in records}
    found = {ref: [Twin(by_name[name], ours=True)] for ref, name in wanted.items() if name in by_name}
    if search.destination.is_admin:
        return found
    own = search.destination.access
    instead = Twin(own.project_domain_id, ours=True, differences=(f"it is {own.project_domain_name}",))
    return {ref: found.get(ref, [instead]) for ref in wanted}


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Nothing is ever made of a domain."""
    return []


def _names(cloud: Cloud, wanted: Collection[str]) -> Names:
    return Names(visible_domains(cloud).values())


def _record(domain_id: str, name: str) -> Record:
    return Record(Ref(NAME, domain_id), name, {"id": domain_id, "name": name}, must_exist=MISSING)


KIND = Kind(
    NAME,
    "identity",
    discover,
    fetch,
    find,
    tasks,
    mapping="domains",
    mapped_names={"domains": _names},
    not_compared="a migration makes none: the domain of each project, user, group and role is compared",
    recognised="mapping or name",
    fields=Fields(
        mapped={"name": "mappings.domains, else the same name"},
        derived="id description enabled tags options links",
        summary="never created",
    ),
)

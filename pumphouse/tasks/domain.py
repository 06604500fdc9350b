"""Domains: found at the destination by mapping or by name, never created."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from taskflow import task

from pumphouse.model import Record, Ref, Step, Twin
from pumphouse.tasks.base import Migration, Search

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "domain"
MISSING = "no such domain at the destination: create it, or name another in mappings.domains"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """A tenant owns no domain."""
    return []


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The domains of the given ids."""
    domains = {domain.id: domain for domain in source.keystone.domains.list()}
    return {i: _record(domains[i].id, domains[i].name) for i in ids if i in domains}


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The domain of the mapped name, or of the same name (unique in a cloud)."""
    by_name = {domain.name: domain.id for domain in search.destination.keystone.domains.list()}
    wanted = {record.ref: search.mappings["domains"].get(record.name, record.name) for record in records}
    return {ref: [Twin(by_name[name], ours=True)] for ref, name in wanted.items() if name in by_name}


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Nothing is ever made of a domain."""
    return []


def _record(domain_id: str, name: str) -> Record:
    return Record(Ref(NAME, domain_id), name, {"id": domain_id, "name": name}, must_exist=MISSING)

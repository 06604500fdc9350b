"""Address groups: lists of addresses that the rules of security groups refer to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from taskflow import task

from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    BaseEnsureTask,
    Ensured,
    Migration,
    Search,
    differences,
    ensure,
    ensured_id,
    retrieve_record,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.kind import Kind, removal
from pumphouse.tasks.neutron.common import (
    ADDRESS_GROUPS,
    DERIVED,
    TWIN_TENANT,
    dependencies,
    of_others,
    trusted,
)

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "address_group"
FIELDS = ("name", "description", "addresses")
REMEDY = "take it out of the rules of security groups"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The address groups that the tenant owns; none where the cloud does not have the extension."""
    return [_record(group) for group in owned(source, tenant_id)]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The groups of the given ids, as those of others: to be found at the destination, not made."""
    return dependencies(source, _read(source, ids).values(), REMEDY)


def _read(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    return {i: _record(group) for i, group in ADDRESS_GROUPS.items(source, ids).items()}


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The group of the same name in the tenant; of another tenant's, one that is equal and may be trusted."""
    found = ADDRESS_GROUPS.all(search.destination) if records else []
    foreign = {r.ref: r for r in records if r.must_exist}
    equal = {ref: [g for g in found if g["addresses"] and _is_equal(r, g)] for ref, r in foreign.items()}
    return {r.ref: _twins(search, r, found) for r in records if not r.must_exist} | {
        ref: [Twin(group["id"], ours=True) for group in groups]
        for ref, groups in trusted(search, equal, foreign.values()).items()
    }


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the group and make it."""
    return [
        retrieve_record(_read, migration, step),
        ensure(EnsureAddressGroup, [migration.destination], step),
    ]


class EnsureAddressGroup(BaseEnsureTask):
    """Finds or creates the group; Neutron has no tags for these, so that only their values tell them."""

    shared = True

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The equal group of the tenant."""
        groups = owned(self.cloud, ensured_id(ensured, "tenant", data["project_id"]))
        same = [group for group in groups if not differences(data, _data(group), FIELDS)]
        return str(same[0]["id"]) if same else None

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Make the group with its addresses."""
        fields = {field: data[field] for field in FIELDS}
        asked = {**fields, "project_id": ensured_id(ensured, "tenant", data["project_id"])}
        made = ADDRESS_GROUPS.create(self.cloud, asked)
        return self.accept(made["id"], asked, made, partial(self._update, made["id"]))

    def _update(self, group_id: str, fields: Json) -> Json:
        return ADDRESS_GROUPS.update(self.cloud, group_id, **fields)

    def remove(self, destination_id: str) -> None:
        """Delete the group."""
        ADDRESS_GROUPS.remove(self.cloud, destination_id)


def owned(cloud: Cloud, tenant_id: str) -> list[Json]:
    """The address groups of a tenant."""
    return [group for group in ADDRESS_GROUPS.all(cloud) if group["project_id"] == tenant_id]


def _data(group: Json) -> Json:
    fields = {field: group[field] for field in ("id", "name", "description", "project_id")}
    return {**fields, "addresses": sorted(group["addresses"])}


def _record(group: Json) -> Record:
    tenant = Ref("tenant", group["project_id"])
    return Record(Ref(NAME, group["id"]), group["name"], _data(group), (tenant,), answer=group)


def _twins(search: Search, record: Record, groups: Sequence[Json]) -> list[Twin]:
    tenant_id = search.ids.get(Ref("tenant", record.data["project_id"]))
    same = [g for g in groups if g["project_id"] == tenant_id and g["name"] == record.name]
    return [
        Twin(group["id"], not found, found)
        for group in same
        for found in [differences(record.data, _data(group), FIELDS)]
    ]


def _is_equal(record: Record, group: Json) -> bool:
    return not differences(record.data, _data(group), ("name", "addresses"))


KIND = Kind(
    NAME,
    "network",
    discover,
    fetch,
    find,
    tasks,
    extension="address-group",
    renamable=True,
    recognised="all its values, in the tenant",
    remove=removal(EnsureAddressGroup),
    shared=of_others,
    fields=Fields(carried="name description addresses", mapped=TWIN_TENANT, derived=f"{DERIVED} shared"),
)

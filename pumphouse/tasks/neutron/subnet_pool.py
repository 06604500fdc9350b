"""Subnet pools: prefixes of the tenant that subnets are allocated from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from taskflow import task

from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    Ensured,
    Migration,
    Search,
    differences,
    ensure,
    retrieve_record,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.kind import Kind, removal
from pumphouse.tasks.neutron.common import (
    DERIVED,
    SUBNET_POOLS,
    TWIN_TENANT,
    EnsureItem,
    as_allowed,
    candidates,
    carried,
    common_data,
    dependencies,
    of_others,
    stamped_twins,
    strangers_in,
    tag_notes,
    twin,
    unmark,
)

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "subnet_pool"
LENGTHS = ("default_prefixlen", "min_prefixlen", "max_prefixlen")
# Neutron tells the IP version by the prefixes, and takes none.
CREATED = ("prefixes", *LENGTHS, "shared")
FIELDS = ("name", "description", "tags", "ip_version", "default_quota", *CREATED)
REMEDY = "take back what is shared of it"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The subnet pools that the tenant owns; none where the cloud does not have the extension."""
    return [_record(pool) for pool in SUBNET_POOLS.owned(source, tenant_id)]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The pools of the given ids, as those of others: to be found at the destination, not made."""
    return dependencies(source, _read(source, ids).values(), REMEDY)


def _read(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    return {i: _record(pool) for i, pool in SUBNET_POOLS.items(source, ids).items()}


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records with notes on what only an administrator may set."""
    return as_allowed(search, SUBNET_POOLS, records)


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The stamped pool, or that of the same name; another tenant's by its stamp only."""
    owned = [record for record in records if not record.must_exist]
    found = candidates(search, SUBNET_POOLS, owned)
    twins = {
        r.ref: [twin(item, r, differences(r.data, _data(item), FIELDS)) for item in found[r.ref]]
        for r in owned
    }
    return twins | stamped_twins(search, SUBNET_POOLS, [r for r in records if r.must_exist])


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the pool and make it."""
    return [
        retrieve_record(_read, migration, step),
        ensure(EnsureSubnetPool, [migration.destination], step),
    ]


class EnsureSubnetPool(EnsureItem):
    """Finds or creates the pool; it is in no address scope, and the default of nobody."""

    collection = SUBNET_POOLS

    def fields(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """Its prefixes and its limits; Neutron refuses a quota that is null."""
        quota = data["default_quota"]
        return {**carried(data, CREATED), **({} if quota is None else {"default_quota": quota})}


def _data(pool: Json) -> Json:
    """Its fields; Neutron writes some lengths as text."""
    return {
        **common_data(pool),
        **{field: pool[field] for field in ("ip_version", "default_quota", "shared")},
        **{field: int(pool[field]) for field in LENGTHS},
        "prefixes": sorted(pool["prefixes"]),
    }


def _record(pool: Json) -> Record:
    needs = (Ref("tenant", pool["project_id"]),)
    data = _data(pool)
    return Record(Ref(NAME, pool["id"]), pool["name"], data, needs, notes=tag_notes(data), answer=pool)


KIND = Kind(
    NAME,
    "network",
    discover,
    fetch,
    find,
    tasks,
    extension="subnet_allocation",
    adapt=adapt,
    strangers=partial(strangers_in, SUBNET_POOLS),
    renamable=True,
    unmark=partial(unmark, SUBNET_POOLS),
    remove=removal(EnsureSubnetPool),
    shared=of_others,
    fields=Fields(
        carried="name description tags ip_version prefixes default_prefixlen min_prefixlen max_prefixlen "
        "default_quota shared",
        mapped=TWIN_TENANT,
        derived=DERIVED,
        noted={
            "is_default": "it is the default subnet pool of its IP version at the source: that is not carried, "
            "the destination keeps its own default",
            "address_scope_id": "its address scope {value} is not carried: it arrives without one",
        },
        summary="pools of others are not carried",
    ),
)

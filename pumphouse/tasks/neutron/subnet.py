"""Subnets: part of their network, in which no two can have the same addresses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from taskflow import task

from pumphouse.model import Json, Record, Ref, Step, Twin, symbol
from pumphouse.tasks.base import Ensured, Migration, Search, differences, ensure, ensured_id, retrieve_record
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.kind import Kind, removal
from pumphouse.tasks.neutron.allocation import own_pools, without_pool
from pumphouse.tasks.neutron.common import (
    DERIVED,
    NETWORKS,
    SUBNETS,
    TWIN_TENANT,
    EnsureItem,
    as_allowed,
    carried,
    common_data,
    is_stamped,
    left_by,
    strangers_in,
    tag_notes,
    twin,
    unmark,
)

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "subnet"
CREATED = (
    "cidr",
    "ip_version",
    "gateway_ip",
    "enable_dhcp",
    "allocation_pools",
    "dns_nameservers",
    "host_routes",
)
# Sent only when they are set: Neutron refuses null modes, and service types where it has no such extension.
OPTIONAL = ("ipv6_ra_mode", "ipv6_address_mode", "service_types")
FIELDS = ("name", "description", "tags", *CREATED, *OPTIONAL)
BESIDE = (
    "its subnet pool is not carried: its network at the destination has subnets that are not of that pool"
)
MISSING = "its network at the destination has no subnet of these addresses: make one there"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The subnets of all networks that are the tenant's to make, whoever made the subnet."""
    networks = {n["id"]: n for n in NETWORKS.owned(source, tenant_id) if not n.get("router:external")}
    ids = {subnet_id for network in networks.values() for subnet_id in network["subnets"]}
    subnets = {subnet["id"]: subnet for subnet in SUBNETS.owned(source, tenant_id) if subnet["id"] in ids}
    subnets |= SUBNETS.items(source, ids - subnets.keys())
    without = without_pool(subnets.values(), own_pools(source, tenant_id, subnets.values()))
    return [_record(s, networks[s["network_id"]], without.get(i, "")) for i, s in subnets.items()]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The subnets of the given ids, as those of others: to be found at the destination, not made."""
    subnets = SUBNETS.items(source, ids)
    networks = NETWORKS.items(source, {subnet["network_id"] for subnet in subnets.values()})
    return {i: _dependency(subnet, networks[subnet["network_id"]]) for i, subnet in subnets.items()}


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records with notes on what only an administrator of the destination may set."""
    return as_allowed(search, SUBNETS, records)


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The subnet of the network's twin that carries the stamp, or else the one of the same addresses."""
    networks = {record.ref: search.ids.get(_network(record)) for record in records}
    by_network: dict[str | None, list[Json]] = {}
    taken = set[str]()
    for subnet in SUBNETS.by(search.destination, "network_id", {n for n in networks.values() if n}):
        by_network.setdefault(subnet["network_id"], []).append(subnet)
    return {
        r.ref: _twins(search, r, left_by(search, r, by_network.get(networks[r.ref], []), taken))
        for r in records
    }


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the subnet and make it."""
    return [
        retrieve_record(fetch, migration, step),
        ensure(EnsureSubnet, [migration.destination], step),
    ]


class EnsureSubnet(EnsureItem):
    """Finds or creates the subnet."""

    collection = SUBNETS
    stamped_last = True

    def is_left(self, item: Json, data: Json, ensured: Mapping[str, Ensured]) -> bool:
        """Whether it has the addresses in the network's twin, too; no other can have them."""
        network_id = ensured_id(ensured, "network", data["network_id"])
        return super().is_left(item, data, ensured) and bool(item["network_id"] == network_id)

    def fields(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """Everything explicitly: a gateway that is null is none, one that is absent would be made up."""
        network_id = ensured_id(ensured, "network", data["network_id"])
        return {
            **carried(data, CREATED),
            **{field: data[field] for field in OPTIONAL if data.get(field)},
            **self._pool(data, network_id, ensured),
            "network_id": network_id,
        }

    def _pool(self, data: Json, network_id: str, ensured: Mapping[str, Ensured]) -> Json:
        """The twin of its pool, if it needs one: what it does not need is not among what is ensured."""
        pool = ensured.get(symbol(_pool(data), "ensured"))
        if pool is None:
            return {}
        beside = SUBNETS.all(self.cloud, network_id=network_id, ip_version=data["ip_version"])
        if any(subnet["subnetpool_id"] != pool["id"] for subnet in beside):
            self.notes.append(BESIDE)
            return {}
        return {"subnetpool_id": pool["id"]}


def _data(subnet: Json, network: Json) -> Json:
    """Its fields; whoever made it, it belongs to the tenant of its network."""
    return {
        **common_data(subnet),
        **carried(subnet, (*CREATED, *OPTIONAL)),
        "allocation_pools": sorted(subnet["allocation_pools"], key=str),
        "host_routes": sorted(subnet["host_routes"], key=str),
        "network_id": subnet["network_id"],
        "subnetpool_id": subnet.get("subnetpool_id"),
        "project_id": network["project_id"],
    }


def _record(subnet: Json, network: Json, without_pool: str) -> Record:
    ref = Ref("network", subnet["network_id"])
    data, notes = _data(subnet, network), (without_pool,) if without_pool else ()
    pools = (_pool(data),) if data["subnetpool_id"] and not without_pool else ()
    needs = (Ref("tenant", network["project_id"]), ref, *pools)
    return Record(
        Ref(NAME, subnet["id"]),
        subnet["name"],
        data,
        needs,
        part_of=ref,
        notes=(*tag_notes(data), *notes),
        answer=subnet,
    )


def _dependency(subnet: Json, network: Json) -> Record:
    ref = Ref("network", subnet["network_id"])
    data = _data(subnet, network)
    return Record(
        Ref(NAME, subnet["id"]), subnet["name"], data, (ref,), ref, must_exist=MISSING, answer=subnet
    )


def _network(record: Record) -> Ref:
    return Ref("network", record.data["network_id"])


def _pool(data: Json) -> Ref:
    return Ref("subnet_pool", data.get("subnetpool_id") or "")


def _twins(search: Search, record: Record, subnets: Iterable[Json]) -> list[Twin]:
    """Of the subnets of one network: the stamped one, or the one that has the record's addresses."""
    stamped = [subnet for subnet in subnets if is_stamped(subnet, record.ref.id)]
    same = stamped or [subnet for subnet in subnets if subnet["cidr"] == record.data["cidr"]]
    return [_twin(search, record, subnet) for subnet in same]


def _twin(search: Search, record: Record, subnet: Json) -> Twin:
    wanted = {**record.data, "name": subnet["name"]} if record.must_exist else record.data
    fields = [field for field in FIELDS if field in record.data]
    actual = _data(subnet, {"project_id": subnet["project_id"]})
    other_pool = () if record.must_exist else _pool_difference(search, record, subnet)
    found = twin(subnet, record, (*differences(wanted, actual, fields), *other_pool))
    if record.must_exist or not found.differences:
        return Twin(found.id, True, found.differences, found.unfinished)
    return found


def _pool_difference(search: Search, record: Record, subnet: Json) -> tuple[str, ...]:
    """Whether the subnet comes from the twin of the record's pool, or from none where that is not carried."""
    pool, actual = _pool(record.data), subnet.get("subnetpool_id")
    if pool not in record.needs:
        return (f"subnetpool_id is {actual!r}, source has none that is carried",) if actual else ()
    if actual and actual == search.ids.get(pool):
        return ()
    return (f"subnetpool_id is {actual!r}, not the twin of {pool.id!r}",)


KIND = Kind(
    NAME,
    "network",
    discover,
    fetch,
    find,
    tasks,
    adapt=adapt,
    strangers=partial(strangers_in, SUBNETS),
    unmark=partial(unmark, SUBNETS),
    stamped_last=True,
    remove=removal(EnsureSubnet),
    fields=Fields(
        carried="name description cidr ip_version gateway_ip enable_dhcp allocation_pools dns_nameservers host_routes "
        "ipv6_ra_mode ipv6_address_mode service_types tags",
        mapped={
            **TWIN_TENANT,
            "network_id": "the network's twin",
            "subnetpool_id": "the subnet pool's twin",
        },
        derived=f"{DERIVED} router:external",
        noted={
            "segment_id": "its network segment {value} is not carried: the destination chooses",
            "dns_publish_fixed_ip": "that its addresses are published in the DNS is not carried",
            "leak_routes": "that its routes leak is not carried",
        },
        summary="one of a pool of the tenant is allocated from the pool's twin, with its own addresses",
    ),
)

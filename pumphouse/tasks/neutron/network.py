"""Networks: those of the tenant are made anew; external ones, and those of other tenants, must exist."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.cloud import get_all
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
from pumphouse.tasks.kind import Found, Kind, Names, matching, removal
from pumphouse.tasks.neutron.common import (
    DERIVED,
    NETWORKS,
    NO_QOS,
    TWIN_TENANT,
    EnsureItem,
    as_allowed,
    candidates,
    carried,
    common_data,
    dependencies,
    stamped_twins,
    strangers_in,
    tag_notes,
    twin,
    unmark,
    used_networks,
)
from pumphouse.tasks.neutron.neighbours import neighbour_notes

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "network"
CREATED = ("admin_state_up", "mtu", "port_security_enabled", "shared")
# Sent only when they are set: many clouds do not have the extension that knows them.
OPTIONAL = ("dns_domain",)
FIELDS = ("name", "description", "tags", *CREATED, *OPTIONAL)
# The alias of the extension that lists zones.
ZONES = "availability_zone"
EXTERNAL = "an external network is never created: name the destination's in mappings.external_networks"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The networks that the tenant owns."""
    networks = NETWORKS.owned(source, tenant_id)
    own = [network["id"] for network in networks if not network.get("router:external")]
    neighbours = neighbour_notes(source, tenant_id, own) if own else {}
    return [_record(network, neighbours.get(network["id"], ())) for network in networks]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The networks of the given ids, as those of others: to be found at the destination, not made."""
    found = _read(source, ids).values()
    external = {record.ref.id: record for record in found if record.data["external"]}
    others = [record for record in found if not record.data["external"]]
    return external | dependencies(source, others, "share a network of this name there")


def _read(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    return {i: _record(network, ()) for i, network in NETWORKS.items(source, ids).items()}


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records with notes on what only an administrator of the destination may set."""
    return as_allowed(search, NETWORKS, records)


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The stamped network or that of the same name; an external or shared one by its name or its mapping."""
    owned = [record for record in records if not record.must_exist]
    found = candidates(search, NETWORKS, owned)
    twins = {r.ref: [twin(item, r, _differences(r, item)) for item in found[r.ref]] for r in owned}
    return twins | _external_twins(search, records) | _shared_twins(search, records)


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the network and make it."""
    zones = migration.settings["mappings"]["availability_zones"]
    return [
        retrieve_record(_read, migration, step),
        ensure(EnsureNetwork, [migration.destination], step, zones=zones),
    ]


class EnsureNetwork(EnsureItem):
    """Finds or creates the network; the destination chooses what carries it.

    zones: the names of availability zones at the destination by those of the source.
    """

    collection = NETWORKS
    stamped_last = True

    def __init__(self, *args: Any, zones: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zones = zones or {}

    def fields(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """All but the provider's attributes."""
        optional = {field: data[field] for field in OPTIONAL if data.get(field)}
        return {**carried(data, CREATED), **optional, **self._zone_hints(data)}

    def _zone_hints(self, data: Json) -> Json:
        if not data["availability_zone_hints"]:
            return {}
        zones = get_all(self.cloud.neutron, "/availability_zones", "availability_zones")
        known = {zone["name"] for zone in zones if zone["resource"] == NAME}
        # One mapping serves all services, and often only Nova has the zones that it names.
        wanted = [
            next((name for name in (self.zones.get(zone), zone) if name in known), zone)
            for zone in data["availability_zone_hints"]
        ]
        self.notes += [
            f"availability zone hint {zone} is not carried: the destination has no such zone for networks"
            for zone in wanted
            if zone not in known
        ]
        hints = [zone for zone in wanted if zone in known]
        return {"availability_zone_hints": hints} if hints else {}


def _data(network: Json) -> Json:
    return {
        **common_data(network),
        **carried(network, (*CREATED, *OPTIONAL)),
        "external": network.get("router:external", False),
        "availability_zone_hints": network.get("availability_zone_hints", []),
    }


def _record(network: Json, neighbours: Iterable[str]) -> Record:
    ref, name, data = Ref(NAME, network["id"]), network["name"], _data(network)
    if network.get("router:external"):
        return Record(ref, name, data, must_exist=EXTERNAL, answer=network)
    needs = (Ref("tenant", network["project_id"]),)
    return Record(ref, name, data, needs, notes=(*tag_notes(data), *neighbours), answer=network)


def _differences(record: Record, item: Json) -> tuple[str, ...]:
    return differences(record.data, _data(item), [field for field in FIELDS if field in record.data])


def _external_twins(search: Search, records: Iterable[Record]) -> dict[Ref, list[Twin]]:
    wanted = [record for record in records if record.must_exist and record.data["external"]]
    if not wanted:
        return {}
    found = NETWORKS.all(search.destination, **{"router:external": True})
    names = search.mappings["external_networks"]
    return {
        r.ref: _only([n for n in found if names.get(r.name, r.name) in (n["name"], n["id"])]) for r in wanted
    }


def _shared_twins(search: Search, records: Iterable[Record]) -> dict[Ref, list[Twin]]:
    """What carries the stamp, or else the one shared network of that name."""
    wanted = [record for record in records if record.must_exist and not record.data["external"]]
    stamped = stamped_twins(search, NETWORKS, wanted)
    rest = [record for record in wanted if not stamped[record.ref]]
    found = NETWORKS.all(search.destination, shared=True) if rest else []
    return stamped | {r.ref: _only([n for n in found if r.name and n["name"] == r.name]) for r in rest}


def _only(networks: Sequence[Json]) -> list[Twin]:
    """One is certain; of several none is."""
    return [Twin(network["id"], ours=len(networks) == 1) for network in networks]


def _names(cloud: Cloud, wanted: Collection[str]) -> Names:
    networks = NETWORKS.all(cloud, **{"router:external": True})
    return Names([item["name"] for item in networks], [item["id"] for item in networks])


def _zone_names(cloud: Cloud, wanted: Collection[str]) -> Names:
    """The zones of networks and those of routers."""
    if ZONES not in cloud.extensions:
        return Names([])
    return Names(
        [zone["name"] for zone in get_all(cloud.neutron, "/availability_zones", "availability_zones")]
    )


def find_anywhere(source: Cloud, wanted: Json) -> list[Found]:
    """The networks of that id or name, in whichever tenant."""
    return matching(NETWORKS.all(source, **wanted), wanted, "project_id")


def shared(cloud: Cloud, tenant_id: str, records: Sequence[Record]) -> dict[Ref, str]:
    """Why networks of a tenant stay: others use them."""
    used = used_networks(cloud, tenant_id, [record.ref.id for record in records])
    return {record.ref: used[record.ref.id] for record in records if record.ref.id in used}


KIND = Kind(
    NAME,
    "network",
    discover,
    fetch,
    find,
    tasks,
    renamable=True,
    adapt=adapt,
    mapping="external_networks",
    mapped_names={"external_networks": _names, "availability_zones": _zone_names},
    nameable=True,
    strangers=partial(strangers_in, NETWORKS),
    find_anywhere=find_anywhere,
    recognised="stamp; external networks by mapping or name; those of other tenants by the stamp in their twin, or the one shared with all of that name",
    unmark=partial(unmark, NETWORKS),
    stamped_last=True,
    remove=removal(EnsureNetwork),
    shared=shared,
    fields=Fields(
        carried="description admin_state_up mtu port_security_enabled shared dns_domain tags",
        mapped={
            **TWIN_TENANT,
            "name": "mappings.external_networks for an external one, else itself",
            "router:external": "mappings.external_networks",
            "availability_zone_hints": "mappings.availability_zones, else the same name",
        },
        derived=f"{DERIVED} status subnets availability_zones ipv4_address_scope ipv6_address_scope l2_adjacency "
        "provider:network_type provider:segmentation_id",
        noted={
            **NO_QOS,
            "provider:physical_network": "it lies on physical network {value} at the source: "
            "that is not carried, the destination makes an ordinary network of the tenant",
            "segments": "its segments are not carried: the destination makes an ordinary network of the tenant",
            "vlan_transparent": "that it lets VLAN tags through is not carried",
            "qinq": "that it nests VLANs is not carried",
            "is_default": "that it is the default external network is not carried",
            "project_default": "that it is the default network of the tenant is not carried",
            "pvlan": "that it is a private VLAN is not carried: its ports see each other at the destination",
        },
        summary="external networks are never created",
    ),
)

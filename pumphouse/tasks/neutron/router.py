"""Routers: the router with its gateway, then its interfaces, then its static routes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from taskflow import task

from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    Ensured,
    Migration,
    Search,
    counted,
    differences,
    ensure,
    ensured_id,
    retrieve_record,
    symbol,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.kind import Kind
from pumphouse.tasks.neutron.common import (
    DERIVED,
    NO_QOS,
    ROUTERS,
    TWIN_TENANT,
    EnsureItem,
    candidates,
    carried,
    common_data,
    dependency,
    not_allowed,
    stamped_twins,
    strangers_in,
    twin,
)
from pumphouse.tasks.neutron.router_links import (
    EnsureRouterInterfaces,
    EnsureRouterRoutes,
    addresses,
    disconnect,
    interfaces,
)

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "router"
FIELDS = ("name", "description", "admin_state_up", "tags")
REMEDY = "make a router there"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The routers that the tenant owns, with their interfaces."""
    return list(_records(source, ROUTERS.owned(source, tenant_id)).values())


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The routers of the given ids, as those of others: to be found at the destination, not made."""
    records = _records(source, ROUTERS.items(source, ids).values())
    return {i: dependency(record, REMEDY) for i, record in records.items()}


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records with a note where only an administrator of the destination may switch source NAT off."""
    note = not_allowed("source NAT, which is off,")
    return [replace(r, notes=(*r.notes, note)) if _is_beyond(search, r) else r for r in records]


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The router of the tenant's twin that carries the stamp, or else that of the same name."""
    owned = [record for record in records if not record.must_exist]
    found = candidates(search, ROUTERS, owned)
    ports = interfaces(search.destination, [item["id"] for items in found.values() for item in items])
    twins = {r.ref: [_twin(search, r, item, ports[item["id"]]) for item in found[r.ref]] for r in owned}
    return twins | stamped_twins(search, ROUTERS, [r for r in records if r.must_exist])


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the router, make it, connect it, and when it is connected set its routes."""
    ref, data, title = step.ref, step.record.data, step.record.title
    retrieved, ensured, connected = (symbol(ref, verb) for verb in ("retrieved", "ensured", "connected"))
    return [
        retrieve_record(fetch, migration, step),
        ensure(EnsureRouter, [migration.destination], step),
        EnsureRouterInterfaces(
            migration.destination,
            provides=connected,
            rebind={"data": retrieved},
            requires=[ensured, *(symbol(need, "ensured") for need in step.record.needs)],
            line=f"connect {title} to {counted(len(data['interfaces']), 'network')}",
        ),
        EnsureRouterRoutes(
            migration.destination,
            provides=symbol(ref, "routed"),
            rebind={"data": retrieved, "router": connected},
            line=f"give {title} its {counted(len(data['routes']), 'static route')}",
        ),
    ]


class EnsureRouter(EnsureItem):
    """Finds or creates the router with its gateway to the mapped external network."""

    collection = ROUTERS
    complete = False

    def fields(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """Its state and its gateway; the destination chooses the gateway's own address."""
        return {"admin_state_up": data["admin_state_up"], **_gateway(self.cloud, data, ensured)}

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Ensured]) -> None:
        """Set the tags; and the gateway of a router that an earlier run made."""
        super().finish(destination_id, data, ensured)
        gateway = _gateway(self.cloud, data, ensured)
        if gateway and not self.fresh:
            self.collection.update(self.cloud, destination_id, **gateway)

    def remove(self, destination_id: str) -> None:
        """Delete the router and whatever it is connected by."""
        self.collection.update(self.cloud, destination_id, routes=[])
        for port in interfaces(self.cloud, [destination_id])[destination_id]:
            disconnect(self.cloud, destination_id, {"port_id": port["id"]})
        super().remove(destination_id)


def _is_beyond(search: Search, record: Record) -> bool:
    gateway = record.data["external_gateway"] or {}
    return not gateway.get("enable_snat", True) and not search.destination.is_admin


def _gateway(cloud: Cloud, data: Json, ensured: Mapping[str, Ensured]) -> Json:
    gateway = data["external_gateway"]
    if not gateway:
        return {}
    network_id = ensured_id(ensured, "network", gateway["network_id"])
    own = ["enable_snat"] if cloud.is_admin else []
    return {"external_gateway_info": {**carried(gateway, own), "network_id": network_id}}


def _records(source: Cloud, routers: Collection[Json]) -> dict[str, Record]:
    ports = interfaces(source, [router["id"] for router in routers])
    return {router["id"]: _record(router, ports[router["id"]]) for router in routers}


def _record(router: Json, ports: Sequence[Json]) -> Record:
    data = _data(router, ports)
    networks = {port["network_id"] for port in ports}
    if data["external_gateway"]:
        networks.add(data["external_gateway"]["network_id"])
    subnets = {subnet_id for port in ports for subnet_id, _ in addresses(port)}
    needs = (
        Ref("tenant", router["project_id"]),
        *(Ref("network", i) for i in sorted(networks)),
        *(Ref("subnet", i) for i in sorted(subnets)),
    )
    answer = {**router, "interfaces": ports}
    return Record(
        Ref(NAME, router["id"]), router["name"], data, needs, notes=tuple(_notes(router)), answer=answer
    )


def _data(router: Json, ports: Iterable[Json]) -> Json:
    interfaces = [
        {
            **carried(port, ("id", "name", "description", "network_id", "fixed_ips")),
            "project_id": router["project_id"],
        }
        for port in ports
    ]
    return {
        **common_data(router),
        "admin_state_up": router["admin_state_up"],
        "external_gateway": router.get("external_gateway_info"),
        "interfaces": sorted(interfaces, key=lambda interface: str(interface["id"])),
        "routes": sorted(router.get("routes", ()), key=str),
    }


def _notes(router: Json) -> Iterable[str]:
    if len(router.get("external_gateways", ())) > 1:
        yield "only the first of its external gateways is carried: add the others"


def _twin(search: Search, record: Record, router: Json, ports: Sequence[Json]) -> Twin:
    missing = _missing(search, record, router, ports)
    found = (*differences(record.data, _data(router, ports), FIELDS), *missing)
    return twin(router, record, found, ", ".join(missing))


def _missing(search: Search, record: Record, router: Json, ports: Sequence[Json]) -> list[str]:
    """What of the record the router lacks, in words."""
    there = {address for port in ports for address in addresses(port)}
    wanted = [address for interface in record.data["interfaces"] for address in addresses(interface)]
    lacking = [ip for subnet_id, ip in wanted if (search.ids.get(Ref("subnet", subnet_id)), ip) not in there]
    missing = [f"no interface {ip}" for ip in sorted(lacking)]
    if record.data["external_gateway"] and not router.get("external_gateway_info"):
        missing.append("no external gateway")
    routes = [route for route in record.data["routes"] if route not in router.get("routes", ())]
    return missing + [f"no route to {route['destination']} by {route['nexthop']}" for route in routes]


KIND = Kind(
    NAME,
    "network",
    discover,
    fetch,
    find,
    tasks,
    renamable=True,
    adapt=adapt,
    strangers=partial(strangers_in, ROUTERS),
    fields=Fields(
        carried="name description admin_state_up tags routes external_gateway_info/enable_snat interfaces/name "
        "interfaces/description interfaces/fixed_ips/ip_address",
        mapped={
            **TWIN_TENANT,
            "external_gateway_info/network_id": "the external network's twin",
            "external_gateways": "the first of them is carried",
            "interfaces/network_id": "the network's twin",
            "interfaces/fixed_ips/subnet_id": "the subnet's twin",
        },
        derived=f"{DERIVED} status availability_zones enable_snat external_gateway_info/external_fixed_ips/subnet_id "
        "interfaces/*",
        noted={
            "external_gateway_info/external_fixed_ips/ip_address": "its external address {value} is not carried: "
            "the destination chooses another",
            **{f"external_gateway_info/{field}": why for field, why in NO_QOS.items()},
            "interfaces/tags": "the tags of its interfaces are not carried: {value}",
            **{f"interfaces/{field}": f"of an interface: {why}" for field, why in NO_QOS.items()},
            "distributed": "that it is distributed is not carried: the destination's default applies",
            "ha": "that it is highly available is not carried: the destination's default applies",
            "availability_zone_hints": "availability zone hints {value} are not carried",
            "flavor_id": "its flavor {value} is not carried: the destination's default applies",
            "service_type_id": "its service type {value} is not carried: the destination's default applies",
            "conntrack_helpers": "its helpers for connection tracking are not carried: add them",
            "enable_ndp_proxy": "that it answers for IPv6 neighbours is not carried: switch it on",
            "enable_default_route_bfd": "that it watches its default routes is not carried: switch it on",
            "enable_default_route_ecmp": "that it uses several default routes is not carried: switch it on",
            "evpn_vni": "its EVPN network {value} is not carried",
        },
    ),
)

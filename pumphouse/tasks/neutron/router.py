"""Routers: the router with its gateway, then its interfaces, then its static routes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from taskflow import task

from pumphouse.errors import explain, http_status
from pumphouse.model import Json, Record, Ref, Step, Twin, symbol
from pumphouse.tasks.base import (
    REFUSED,
    Ensured,
    Migration,
    Search,
    as_asked,
    differences,
    ensure,
    ensured_id,
    retrieve_record,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.kind import Kind, removal
from pumphouse.tasks.neutron.common import (
    DERIVED,
    NO_QOS,
    ROUTERS,
    SUBNETS,
    TWIN_TENANT,
    EnsureItem,
    blocks,
    candidates,
    carried,
    common_data,
    dependencies,
    held_ips,
    is_within,
    not_allowed,
    stamped_twins,
    strangers_in,
    tag_notes,
    twin,
    unmark,
    used_networks,
)
from pumphouse.tasks.neutron.router_links import (
    EnsureRouterInterfaces,
    EnsureRouterRoutes,
    addresses,
    disconnect,
    interfaces,
    unreachable,
)
from pumphouse.words import counted

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "router"
FIELDS = ("name", "description", "admin_state_up", "tags")
REMEDY = "make a router there"
NO_GATEWAY = "its external gateway is not carried: {}"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The routers that the tenant owns, with their interfaces."""
    return list(_records(source, ROUTERS.owned(source, tenant_id)).values())


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The routers of the given ids, as those of others: to be found at the destination, not made."""
    return dependencies(source, _read(source, ids).values(), REMEDY)


def _read(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    return _records(source, ROUTERS.items(source, ids).values())


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records with notes on what an administrator only may do, and on routes that lead nowhere there."""
    outer = {search.ids.get(_external(r)) for r in records if r.data["outer_routes"]} - {None}
    subnets = SUBNETS.by(search.destination, "network_id", {i for i in outer if i})
    return [replace(r, notes=(*r.notes, *_notes_there(search, r, subnets))) for r in records]


def _notes_there(search: Search, record: Record, subnets: Iterable[Json]) -> Iterable[str]:
    if _is_beyond(search, record):
        yield not_allowed("source NAT, which is off,")
    external = search.ids.get(_external(record))
    near = blocks(subnet for subnet in subnets if subnet["network_id"] == external)
    yield from (unreachable(r) for r in record.data["outer_routes"] if not is_within(r["nexthop"], near))


def _external(record: Record) -> Ref:
    return Ref("network", (record.data["external_gateway"] or {}).get("network_id", ""))


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The router of the tenant's twin that carries the stamp, or else that of the same name."""
    owned = [record for record in records if not record.must_exist]
    found = candidates(search, ROUTERS, owned)
    there = [item for items in found.values() for item in items]
    ports = interfaces(search.destination, [item["id"] for item in there])
    subnets = SUBNETS.items(search.destination, _subnets(there, ports))
    twins = {
        r.ref: [_twin(search, r, item, ports[item["id"]], subnets) for item in found[r.ref]] for r in owned
    }
    return twins | stamped_twins(search, ROUTERS, [r for r in records if r.must_exist])


def _subnets(routers: Iterable[Json], ports: Mapping[str, Iterable[Json]]) -> set[str]:
    """The subnets that routers are connected to, by their gateways, too."""
    outer = [fixed for router in routers for fixed in _external_addresses(router)]
    inner = [fixed for router in routers for port in ports[router["id"]] for fixed in port["fixed_ips"]]
    return {fixed["subnet_id"] for fixed in (*outer, *inner)}


def _external_addresses(router: Json) -> Sequence[Json]:
    found: Sequence[Json] = (router.get("external_gateway_info") or {}).get("external_fixed_ips", ())
    return found


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the router, make it, connect it, and when it is connected set its routes."""
    ref, data, title = step.ref, step.record.data, step.record.title
    retrieved, ensured, connected = (symbol(ref, verb) for verb in ("retrieved", "ensured", "connected"))
    return [
        retrieve_record(_read, migration, step),
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

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Make the router; without a gateway where it cannot have one."""
        try:
            return super().create(data, ensured)
        except Exception as error:
            if not data["external_gateway"] or http_status(error) not in REFUSED:
                raise
            refusal = explain(error).what
        created = super().create({**data, "external_gateway": None}, ensured)
        self.notes.append(NO_GATEWAY.format(refusal))
        return created

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Ensured]) -> None:
        """Set the tags; and the gateway of a router that an earlier run made."""
        super().finish(destination_id, data, ensured)
        gateway = _gateway(self.cloud, data, ensured)
        if not gateway or self.fresh:
            return
        try:
            as_asked(gateway, self.collection.update(self.cloud, destination_id, **gateway))
        except Exception as error:
            if http_status(error) not in REFUSED:
                raise
            self.notes.append(NO_GATEWAY.format(explain(error).what))

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
    routed = [router for router in routers if router.get("routes")]
    inner = {i for router in routed for port in ports[router["id"]] for i, _ in addresses(port)}
    subnets = SUBNETS.items(source, inner)
    return {router["id"]: _record(router, ports[router["id"]], subnets) for router in routers}


def _record(router: Json, ports: Sequence[Json], subnets: Mapping[str, Json]) -> Record:
    """A router with its interfaces; subnets: those of routers with routes, by id."""
    data = _data(router, ports)
    near = blocks(subnets[i] for port in ports for i, _ in addresses(port) if i in subnets)
    data["outer_routes"] = [route for route in data["routes"] if not is_within(route["nexthop"], near)]
    networks = {port["network_id"] for port in ports}
    if data["external_gateway"]:
        networks.add(data["external_gateway"]["network_id"])
    inner = {subnet_id for port in ports for subnet_id, _ in addresses(port)}
    needs = (
        Ref("tenant", router["project_id"]),
        *(Ref("network", i) for i in sorted(networks)),
        *(Ref("subnet", i) for i in sorted(inner)),
    )
    answer = {**router, "interfaces": ports}
    return Record(
        Ref(NAME, router["id"]),
        router["name"],
        data,
        needs,
        notes=(*tag_notes(data), *_notes(router)),
        answer=answer,
    )


def _data(router: Json, ports: Iterable[Json]) -> Json:
    interfaces = [
        {
            **carried(port, ("id", "name", "description", "network_id", "fixed_ips")),
            **({"mac_address": port["mac_address"]} if ":" in str(held_ips(port)) else {}),
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


def _twin(
    search: Search, record: Record, router: Json, ports: Sequence[Json], subnets: Mapping[str, Json]
) -> Twin:
    near = blocks(subnets[i] for i in _subnets([router], {router["id"]: ports}) if i in subnets)
    lacking = [route for route in record.data["routes"] if route not in router.get("routes", ())]
    routes = [route for route in lacking if is_within(route["nexthop"], near)]
    # An interface that is missing is made first, and its routes then.
    missing = _missing(search, record, router, ports)
    missing += [f"no route to {route['destination']} by {route['nexthop']}" for route in routes]
    never = [unreachable(route) for route in lacking if route not in routes]
    found = (*differences(record.data, _data(router, ports), FIELDS), *missing, *never)
    return twin(router, record, found, ", ".join(missing))


def _missing(search: Search, record: Record, router: Json, ports: Sequence[Json]) -> list[str]:
    """What of the record the router is not connected to, in words."""
    there = {address for port in ports for address in addresses(port)}
    wanted = [address for interface in record.data["interfaces"] for address in addresses(interface)]
    lacking = [ip for subnet_id, ip in wanted if (search.ids.get(Ref("subnet", subnet_id)), ip) not in there]
    missing = [f"no interface {ip}" for ip in sorted(lacking)]
    if record.data["external_gateway"] and not router.get("external_gateway_info"):
        missing.append("no external gateway")
    return missing


def shared(cloud: Cloud, tenant_id: str, records: Sequence[Record]) -> dict[Ref, str]:
    """Why routers of a tenant stay: others may have ports on a network that they connect."""
    ports = interfaces(cloud, [record.ref.id for record in records])
    networks = {i: {port["network_id"] for port in found} for i, found in ports.items()}
    used = used_networks(cloud, tenant_id, set().union(*networks.values()))
    why = "it connects a network that other tenants use"
    return {record.ref: why for record in records if networks[record.ref.id] & used.keys()}


KIND = Kind(
    NAME,
    "network",
    discover,
    fetch,
    find,
    tasks,
    extension="router",
    renamable=True,
    adapt=adapt,
    strangers=partial(strangers_in, ROUTERS),
    unmark=partial(unmark, ROUTERS),
    remove=removal(EnsureRouter),
    shared=shared,
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
        summary="static routes to next hops that it is connected to; routers of others that are gateways of the tenant's networks are notes",
    ),
)

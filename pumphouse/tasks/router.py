"""Routers: the router with its gateway, then its interfaces, then its static routes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.errors import ConflictError, http_status
from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    BaseCloudTask,
    BaseRetrieveTask,
    Migration,
    Search,
    differences,
    ensure,
    ensured_id,
    retrieve,
    stamp_tag,
    symbol,
    undo,
)
from pumphouse.tasks.neutron import (
    PORTS,
    ROUTERS,
    SUBNETS,
    EnsureItem,
    candidates,
    carried,
    common_data,
    describe_holder,
    finish,
    held_ips,
    holder,
    qos_notes,
    twin,
)

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "router"
RENAMABLE = True
FIELDS = ("name", "description", "admin_state_up", "tags")
INTERFACE_OWNERS = (
    "network:router_interface",
    "network:router_interface_distributed",
    "network:ha_router_replicated_interface",
)


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The routers that the tenant owns, with their interfaces."""
    return list(_records(source, ROUTERS.owned(source, tenant_id)).values())


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The routers of the given ids."""
    return _records(source, ROUTERS.items(source, ids).values())


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The router of the tenant's twin that carries the stamp, or else that of the same name."""
    found = candidates(search, ROUTERS, records)
    ports = _interfaces(search.destination, [item["id"] for items in found.values() for item in items])
    return {r.ref: [_twin(search, r, item, ports[item["id"]]) for item in found[r.ref]] for r in records}


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the router, make it, connect it, and when it is connected set its routes."""
    ref, data, title = step.ref, step.record.data, step.record.title
    retrieved, ensured, connected = (symbol(ref, verb) for verb in ("retrieved", "ensured", "connected"))
    return [
        retrieve(RetrieveRouter, migration, step),
        ensure(EnsureRouter, [migration.destination], step),
        EnsureRouterInterfaces(
            migration.destination,
            provides=connected,
            rebind={"data": retrieved},
            requires=[ensured, *(symbol(need, "ensured") for need in step.record.needs)],
            line=f"connect {title} to {len(data['interfaces'])} networks",
        ),
        EnsureRouterRoutes(
            migration.destination,
            provides=symbol(ref, "routed"),
            rebind={"data": retrieved, "router": connected},
            line=f"give {title} its {len(data['routes'])} static routes",
        ),
    ]


class RetrieveRouter(BaseRetrieveTask):
    """Reads a router of the source with its interfaces."""

    def retrieve(self, resource_id: str) -> Json:
        """Its fields as Neutron has them."""
        return self.cloud.batch(fetch).get(resource_id).data


class EnsureRouter(EnsureItem):
    """Finds or creates the router with its gateway to the mapped external network."""

    collection = ROUTERS
    complete = False

    def fields(self, data: Json, ensured: Mapping[str, Json]) -> Json:
        """Its state and its gateway; the destination chooses the gateway's own address."""
        return {"admin_state_up": data["admin_state_up"], **_gateway(data, ensured)}

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Json]) -> None:
        """Set the tags; and the gateway of a router that an earlier run made."""
        super().finish(destination_id, data, ensured)
        gateway = _gateway(data, ensured)
        if gateway and not self.fresh:
            self.collection.update(self.cloud, destination_id, **gateway)

    def remove(self, destination_id: str) -> None:
        """Delete the router and whatever it is connected by."""
        self.collection.update(self.cloud, destination_id, routes=[])
        for port in _interfaces(self.cloud, [destination_id])[destination_id]:
            _disconnect(self.cloud, destination_id, port["id"])
        super().remove(destination_id)


class EnsureRouterInterfaces(BaseCloudTask):
    """Connects a router to the subnets that it lacks, with the same addresses."""

    def execute(self, data: Json, **ensured: Json) -> Json:
        """Add what is missing. Provides the ids of the ports that were added."""
        router_id = ensured_id(ensured, NAME, data["id"])
        there = {ip for port in _interfaces(self.cloud, [router_id])[router_id] for ip in _addresses(port)}
        wanted = [_mapped(interface, ensured) for interface in data["interfaces"]]
        subnets = SUBNETS.items(self.cloud, {i for interface in wanted for i, _ in _addresses(interface)})
        added: list[str] = []
        try:
            for interface in wanted:
                if not _addresses(interface) <= there:
                    added += self._connect(router_id, interface, subnets)
        except BaseException:
            self._undo(router_id, added)
            raise
        return {"id": router_id, "added": added}

    def revert(self, result: Any, **_: Any) -> None:
        """Disconnect what was connected."""
        if isinstance(result, dict):
            self._undo(result["id"], result["added"])

    def _undo(self, router_id: str, port_ids: Iterable[str]) -> None:
        for port_id in port_ids:
            undo(self.name, _disconnect, self.cloud, router_id, port_id)

    def _connect(self, router_id: str, interface: Json, subnets: Mapping[str, Json]) -> list[str]:
        """By subnet where the address is the subnet's gateway, which is one call; else by a port of its own."""
        addresses = _addresses(interface)
        if all(subnets[subnet_id]["gateway_ip"] == ip for subnet_id, ip in addresses):
            answers = [
                self._add(router_id, interface, subnet_id=subnet_id) for subnet_id, _ in sorted(addresses)
            ]
            return sorted({answer["port_id"] for answer in answers})
        return [self._connect_port(router_id, interface)]

    def _connect_port(self, router_id: str, interface: Json) -> str:
        stamp = stamp_tag(interface["id"])
        left = PORTS.all(self.cloud, network_id=interface["network_id"], description=stamp, device_id="")
        port_id = left[0]["id"] if left else self._create_port(interface, stamp)
        try:
            self._add(router_id, interface, port_id=port_id)
        except BaseException:
            undo(self.name, PORTS.delete, self.cloud, port_id)
            raise
        finish(self.cloud, PORTS, port_id, interface)
        return str(port_id)

    def _create_port(self, interface: Json, stamp: str) -> str:
        fields = carried(interface, ("network_id", "fixed_ips", "project_id", "name"))
        try:
            return str(PORTS.create(self.cloud, {**fields, "description": stamp})["id"])
        except Exception as error:
            self._explain(error, interface)
            raise

    def _add(self, router_id: str, interface: Json, **what: str) -> Json:
        try:
            return ROUTERS.put(self.cloud, router_id, "add_router_interface", **what)
        except Exception as error:
            self._explain(error, interface)
            raise

    def _explain(self, error: Exception, interface: Json) -> None:
        """Name the port that has the address, when that is the reason; raises ConflictError."""
        if http_status(error) not in (400, 409):
            return
        port = holder(self.cloud, interface["network_id"], held_ips(interface))
        if port is not None:
            raise ConflictError(
                f"the address of the router's interface is taken: {describe_holder(port)}",
                "free that address",
            ) from error


class EnsureRouterRoutes(BaseCloudTask):
    """Sets the static routes, which completes the router."""

    def execute(self, data: Json, router: Json) -> Json:
        """Add the routes that are missing. Provides those that were there before."""
        before = self.cloud.batch(ROUTERS.items).get(router["id"]).get("routes", [])
        missing = [route for route in data["routes"] if route not in before]
        routes = {"routes": [*before, *missing]} if missing else {}
        finish(self.cloud, ROUTERS, router["id"], data, **routes)
        return {"id": router["id"], "before": before if missing else None}

    def revert(self, result: Any, **_: Any) -> None:
        """Set the routes that were there before."""
        if isinstance(result, dict) and result["before"] is not None:
            undo(self.name, self._set, result["id"], result["before"])

    def _set(self, router_id: str, routes: Sequence[Json]) -> None:
        ROUTERS.update(self.cloud, router_id, routes=routes)


def _gateway(data: Json, ensured: Mapping[str, Json]) -> Json:
    gateway = data["external_gateway"]
    if not gateway:
        return {}
    network_id = ensured_id(ensured, "network", gateway["network_id"])
    return {"external_gateway_info": {**carried(gateway, ["enable_snat"]), "network_id": network_id}}


def _mapped(interface: Json, ensured: Mapping[str, Json]) -> Json:
    """The interface with the destination's ids."""
    fixed_ips = [
        {**fixed, "subnet_id": ensured_id(ensured, "subnet", fixed["subnet_id"])}
        for fixed in interface["fixed_ips"]
    ]
    return {
        **interface,
        "fixed_ips": fixed_ips,
        "network_id": ensured_id(ensured, "network", interface["network_id"]),
        "project_id": ensured_id(ensured, "tenant", interface["project_id"]),
    }


def _disconnect(cloud: Cloud, router_id: str, port_id: str) -> None:
    ROUTERS.put(cloud, router_id, "remove_router_interface", port_id=port_id)


def _addresses(interface: Json) -> set[tuple[str, str]]:
    return {(fixed["subnet_id"], fixed["ip_address"]) for fixed in interface["fixed_ips"]}


def _interfaces(cloud: Cloud, router_ids: Collection[str]) -> dict[str, list[Json]]:
    """The ports by which routers are connected, by router."""
    ports = PORTS.by(cloud, "device_id", router_ids)
    connected = [port for port in ports if port["device_owner"] in INTERFACE_OWNERS]
    return {i: [port for port in connected if port["device_id"] == i] for i in router_ids}


def _records(source: Cloud, routers: Collection[Json]) -> dict[str, Record]:
    ports = _interfaces(source, [router["id"] for router in routers])
    return {router["id"]: _record(router, ports[router["id"]]) for router in routers}


def _record(router: Json, ports: Sequence[Json]) -> Record:
    data = _data(router, ports)
    networks = {port["network_id"] for port in ports}
    if data["external_gateway"]:
        networks.add(data["external_gateway"]["network_id"])
    subnets = {subnet_id for port in ports for subnet_id, _ in _addresses(port)}
    needs = (
        Ref("tenant", router["project_id"]),
        *(Ref("network", i) for i in sorted(networks)),
        *(Ref("subnet", i) for i in sorted(subnets)),
    )
    return Record(Ref(NAME, router["id"]), router["name"], data, needs, notes=tuple(_notes(router)))


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
    gateway = router.get("external_gateway_info") or {}
    for fixed in gateway.get("external_fixed_ips", ()):
        yield f"its external address {fixed['ip_address']} is not carried: the destination chooses another"
    if len(router.get("external_gateways", ())) > 1:
        yield "only the first of its external gateways is carried: add the others"
    for field, what in (("distributed", "distributed"), ("ha", "highly available")):
        if router.get(field):
            yield f"that it is {what} is not carried: the destination's default applies"
    if router.get("availability_zone_hints"):
        yield f"availability zone hints {', '.join(router['availability_zone_hints'])} are not carried"
    yield from qos_notes(gateway)


def _twin(search: Search, record: Record, router: Json, ports: Sequence[Json]) -> Twin:
    missing = _missing(search, record, router, ports)
    found = (*differences(record.data, _data(router, ports), FIELDS), *missing)
    return twin(router, record, found, ", ".join(missing))


def _missing(search: Search, record: Record, router: Json, ports: Sequence[Json]) -> list[str]:
    """What of the record the router lacks, in words."""
    there = {address for port in ports for address in _addresses(port)}
    wanted = [address for interface in record.data["interfaces"] for address in _addresses(interface)]
    lacking = [ip for subnet_id, ip in wanted if (search.ids.get(Ref("subnet", subnet_id)), ip) not in there]
    missing = [f"no interface {ip}" for ip in sorted(lacking)]
    if record.data["external_gateway"] and not router.get("external_gateway_info"):
        missing.append("no external gateway")
    routes = [route for route in record.data["routes"] if route not in router.get("routes", ())]
    return missing + [f"no route to {route['destination']} by {route['nexthop']}" for route in routes]

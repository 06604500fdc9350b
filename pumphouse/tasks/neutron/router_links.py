"""What a router is connected by: its interfaces, and then its static routes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any

from pumphouse.errors import ConflictError, MadeOtherwiseError, http_status
from pumphouse.model import Json
from pumphouse.tasks.base import (
    ASK,
    BaseCloudTask,
    Ensured,
    ensured_id,
    in_doubt,
    kept_result,
    stamp_tag,
    why_not_undone,
)
from pumphouse.tasks.neutron.common import (
    AUTOMATIC,
    PORTS,
    ROUTERS,
    SUBNETS,
    asked_addresses,
    blocks,
    carried,
    describe_holder,
    finish,
    held_ips,
    holder,
    is_within,
)

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

INTERFACE_OWNERS = (
    "network:router_interface",
    "network:router_interface_distributed",
    "network:ha_router_replicated_interface",
)


class EnsureRouterInterfaces(BaseCloudTask):
    """Connects a router to the subnets that it lacks, with the same addresses."""

    def execute(self, data: Json, **ensured: Ensured) -> Json:
        """Add what is missing. Provides what was added: a subnet or a port each."""
        router_id = ensured_id(ensured, ROUTERS.name, data["id"])
        wanted = [_mapped(interface, ensured) for interface in data["interfaces"]]
        ports = self.cloud.batch(interfaces).get(router_id)
        self._complete(ports, wanted)
        self.journal_before({port["id"]: sorted(i for i, _ in addresses(port)) for port in ports})
        there = {ip for port in ports for ip in addresses(port)}
        subnets = SUBNETS.items(self.cloud, {i for interface in wanted for i, _ in addresses(interface)})
        for interface in wanted:
            self._connect(router_id, interface, sorted(addresses(interface) - there), subnets)
        ports = self.cloud.batch(interfaces).get(router_id)
        there = {ip for port in ports for ip in addresses(port)}
        lacking = {ip for interface in wanted for ip in addresses(interface)} - there
        # Of subnets with automatic addresses Neutron takes none.
        if missing := [ip for i, ip in sorted(lacking) if subnets[i]["ipv6_address_mode"] not in AUTOMATIC]:
            raise MadeOtherwiseError(
                f"the destination gave the router no interface {', '.join(missing)}", ASK
            )
        return {"id": router_id, "added": self._added(ports, wanted)}

    def revert(self, result: Any, data: Json, **ensured: Ensured) -> Json | None:
        """Disconnect what was connected; a router that was made is disconnected when it is removed."""
        if isinstance(result, dict):
            return kept_result(*self._disconnect(result["id"], result["added"]))
        if self.before is None:
            return None
        wanted = [_mapped(interface, ensured) for interface in data["interfaces"]]
        router_id = ensured_id(ensured, ROUTERS.name, data["id"])
        return kept_result(
            why_not_undone(self.name, self._disconnect_unknown, router_id, wanted),
            why_not_undone(self.name, self._remove_unconnected, wanted),
        )

    def _disconnect(self, router_id: str, added: Iterable[Json]) -> list[str]:
        return [why_not_undone(self.name, disconnect, self.cloud, router_id, link) for link in added]

    def _disconnect_unknown(self, router_id: str, wanted: Sequence[Json]) -> None:
        for link in self._added(interfaces(self.cloud, [router_id])[router_id], wanted):
            disconnect(self.cloud, router_id, link)

    def _added(self, ports: Iterable[Json], wanted: Sequence[Json]) -> list[Json]:
        """Those of the router's ports with wanted addresses that it did not have before the first attempt."""
        ours = {ip for interface in wanted for ip in addresses(interface)}
        return [link for port in ports for link in self._new_links(port, addresses(port) & ours)]

    def _new_links(self, port: Json, wanted: Iterable[tuple[str, str]]) -> list[Json]:
        """A port that was not there; of one that was, the subnets to which Neutron has let it lead since."""
        subnets = {subnet_id for subnet_id, _ in wanted}
        if port["id"] not in self.before:
            return [{"port_id": port["id"]}] if subnets else []
        # Earlier releases noted the ports alone.
        had = self.before[port["id"]] if isinstance(self.before, dict) else subnets
        return [{"subnet_id": subnet_id} for subnet_id in sorted(subnets - set(had))]

    def _remove_unconnected(self, wanted: Sequence[Json]) -> None:
        """Delete the ports that were made to connect the router by and did not get to it."""
        for interface in wanted:
            for port in self._unconnected(interface):
                PORTS.remove(self.cloud, port["id"])

    def _unconnected(self, interface: Json) -> list[Json]:
        """The ports of the tenant that an attempt made for an interface and did not connect."""
        fields = ("network_id", "project_id")
        stamp = {"description": stamp_tag(interface["id"]), "device_id": ""}
        return PORTS.all(self.cloud, **{field: interface[field] for field in fields}, **stamp)

    def _complete(self, ports: Iterable[Json], wanted: Sequence[Json]) -> None:
        """Give those ports their own description that an earlier attempt connected and did no more with."""
        stamps = {stamp_tag(interface["id"]): interface for interface in wanted}
        for port in ports:
            if port["description"] in stamps:
                finish(self.cloud, PORTS, port["id"], stamps[port["description"]])

    def _connect(
        self, router_id: str, interface: Json, missing: Sequence[tuple[str, str]], subnets: Mapping[str, Json]
    ) -> None:
        """By subnet where the address is the subnet's gateway, which is one call; else by a port."""
        if all(subnets[subnet_id]["gateway_ip"] == ip for subnet_id, ip in missing):
            for subnet_id, _ in missing:
                self._connect_subnet(router_id, interface, subnet_id)
        else:
            self._connect_port(router_id, interface)

    def _connect_subnet(self, router_id: str, interface: Json, subnet_id: str) -> None:
        try:
            self._add(router_id, {"subnet_id": subnet_id})
        except Exception as error:
            self._explain(error, interface)
            raise

    def _add(self, router_id: str, link: Json) -> None:
        """Connect; a call that did so without an answer, or before it was repeated, is none that failed."""
        try:
            ROUTERS.put(self.cloud, router_id, "add_router_interface", **link)
        except Exception as error:
            if not in_doubt(error) and http_status(error) not in (400, 409):
                raise
            ports = interfaces(self.cloud, [router_id])[router_id]
            subnets = {subnet_id for port in ports for subnet_id, _ in addresses(port)}
            if (
                link.get("port_id") not in {port["id"] for port in ports}
                and link.get("subnet_id") not in subnets
            ):
                raise

    def _connect_port(self, router_id: str, interface: Json) -> None:
        left = self._unconnected(interface)
        port_id = left[0]["id"] if left else self._create_port(interface)
        try:
            self._add(router_id, {"port_id": port_id})
        except BaseException:
            why_not_undone(self.name, PORTS.delete, self.cloud, port_id)
            raise
        finish(self.cloud, PORTS, port_id, interface)

    def _create_port(self, interface: Json) -> str:
        fields = {
            **carried(interface, ("network_id", "project_id", "name")),
            **asked_addresses(self.cloud, interface),
            "description": stamp_tag(interface["id"]),
        }
        try:
            return str(PORTS.create(self.cloud, fields)["id"])
        except Exception as error:
            made = self._unconnected(interface) if in_doubt(error) else []
            if made:
                return str(made[0]["id"])
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
        """Add the routes that are missing and can be. Provides those that were there before."""
        there = self.cloud.batch(ROUTERS.items).get(router["id"]).get("routes", [])
        before = self.journal_before(there)
        missing = [route for route in data["routes"] if route not in there]
        near = self._neighbours(router["id"]) if missing else []
        added = [route for route in missing if is_within(route["nexthop"], near)]
        routes = {"routes": [*there, *added]} if added else {}
        finish(self.cloud, ROUTERS, router["id"], data, **routes)
        has_added = any(route not in before for route in (*there, *added) if route in data["routes"])
        return {
            "id": router["id"],
            "before": before if has_added else None,
            "notes": [unreachable(route) for route in missing if route not in added],
        }

    def _neighbours(self, router_id: str) -> list[IPv4Network | IPv6Network]:
        """What the router is connected to, its gateway included: of other next hops Neutron takes no route."""
        ports = PORTS.by(self.cloud, "device_id", [router_id])
        return blocks(SUBNETS.items(self.cloud, {i for port in ports for i, _ in addresses(port)}).values())

    def revert(self, result: Any, data: Json, router: Json, **_: Any) -> Json | None:
        """Take the routes away that were added; those of a router that was made go with it."""
        before = result["before"] if isinstance(result, dict) else self.before
        if before is None:
            return None
        added = [route for route in data["routes"] if route not in before]
        return kept_result(why_not_undone(self.name, self._take_away, router["id"], added))

    def _take_away(self, router_id: str, added: Sequence[Json]) -> None:
        for router in ROUTERS.items(self.cloud, [router_id]).values():
            left = [route for route in router.get("routes", []) if route not in added]
            if len(left) < len(router.get("routes", [])):
                ROUTERS.update(self.cloud, router_id, routes=left)


def _mapped(interface: Json, ensured: Mapping[str, Ensured]) -> Json:
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


def unreachable(route: Json) -> str:
    """What to say of a route that a router cannot have at the destination."""
    return (
        f"its route to {route['destination']} by {route['nexthop']} is not carried: "
        "the router is not connected to that next hop at the destination"
    )


def disconnect(cloud: Cloud, router_id: str, link: Json) -> None:
    """Take a subnet or a port away from a router: `{"subnet_id": ...}` or `{"port_id": ...}`."""
    ROUTERS.put(cloud, router_id, "remove_router_interface", **link)


def addresses(interface: Json) -> set[tuple[str, str]]:
    """The subnets and addresses of an interface."""
    return {(fixed["subnet_id"], fixed["ip_address"]) for fixed in interface["fixed_ips"]}


def interfaces(cloud: Cloud, router_ids: Collection[str]) -> dict[str, list[Json]]:
    """The ports by which routers are connected, by router."""
    ports = PORTS.by(cloud, "device_id", router_ids)
    connected = [port for port in ports if port["device_owner"] in INTERFACE_OWNERS]
    return {i: [port for port in connected if port["device_id"] == i] for i in router_ids}

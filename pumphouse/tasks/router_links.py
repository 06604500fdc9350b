"""What a router is connected by: its interfaces, and then its static routes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pumphouse.errors import ConflictError, http_status
from pumphouse.model import Json
from pumphouse.tasks.base import BaseCloudTask, ensured_id, stamp_tag, undo
from pumphouse.tasks.neutron import (
    PORTS,
    ROUTERS,
    SUBNETS,
    carried,
    describe_holder,
    finish,
    held_ips,
    holder,
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

    def execute(self, data: Json, **ensured: Json) -> Json:
        """Add what is missing. Provides what was added: a subnet or a port each."""
        router_id = ensured_id(ensured, ROUTERS.name, data["id"])
        there = {ip for port in interfaces(self.cloud, [router_id])[router_id] for ip in addresses(port)}
        wanted = [_mapped(interface, ensured) for interface in data["interfaces"]]
        subnets = SUBNETS.items(self.cloud, {i for interface in wanted for i, _ in addresses(interface)})
        added: list[Json] = []
        try:
            for interface in wanted:
                missing = sorted(addresses(interface) - there)
                for link in self._connect(router_id, interface, missing, subnets):
                    added.append(link)  # one by one, so that a failure leaves none behind
        except BaseException:
            self._undo(router_id, added)
            raise
        return {"id": router_id, "added": added}

    def revert(self, result: Any, **_: Any) -> None:
        """Disconnect what was connected."""
        if isinstance(result, dict):
            self._undo(result["id"], result["added"])

    def _undo(self, router_id: str, added: Iterable[Json]) -> None:
        for link in added:
            undo(self.name, disconnect, self.cloud, router_id, link)

    def _connect(
        self, router_id: str, interface: Json, missing: Sequence[tuple[str, str]], subnets: Mapping[str, Json]
    ) -> Iterator[Json]:
        """By subnet where the address is the subnet's gateway, which is one call; else by a port."""
        if all(subnets[subnet_id]["gateway_ip"] == ip for subnet_id, ip in missing):
            for subnet_id, _ in missing:
                yield self._connect_subnet(router_id, interface, subnet_id)
        else:
            yield self._connect_port(router_id, interface)

    def _connect_subnet(self, router_id: str, interface: Json, subnet_id: str) -> Json:
        try:
            ROUTERS.put(self.cloud, router_id, "add_router_interface", subnet_id=subnet_id)
        except Exception as error:
            self._explain(error, interface)
            raise
        return {"subnet_id": subnet_id}

    def _connect_port(self, router_id: str, interface: Json) -> Json:
        stamp = stamp_tag(interface["id"])
        left = PORTS.all(self.cloud, network_id=interface["network_id"], description=stamp, device_id="")
        port_id = left[0]["id"] if left else self._create_port(interface, stamp)
        try:
            ROUTERS.put(self.cloud, router_id, "add_router_interface", port_id=port_id)
        except BaseException:
            undo(self.name, PORTS.delete, self.cloud, port_id)
            raise
        finish(self.cloud, PORTS, port_id, interface)
        return {"port_id": port_id}

    def _create_port(self, interface: Json, stamp: str) -> str:
        fields = carried(interface, ("network_id", "fixed_ips", "project_id", "name"))
        try:
            return str(PORTS.create(self.cloud, {**fields, "description": stamp})["id"])
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

"""What a router is connected by: its interfaces, and then its static routes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pumphouse.errors import ConflictError, http_status
from pumphouse.model import Json
from pumphouse.tasks.base import (
    BaseCloudTask,
    Ensured,
    ensured_id,
    in_doubt,
    kept_result,
    stamp_tag,
    why_not_undone,
)
from pumphouse.tasks.neutron.common import (
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

    def execute(self, data: Json, **ensured: Ensured) -> Json:
        """Add what is missing. Provides what was added: a subnet or a port each."""
        router_id = ensured_id(ensured, ROUTERS.name, data["id"])
        wanted = [_mapped(interface, ensured) for interface in data["interfaces"]]
        ports = interfaces(self.cloud, [router_id])[router_id]
        self._complete(ports, wanted)
        there = {ip for port in ports for ip in addresses(port)}
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

    def revert(self, result: Any, data: Json, **ensured: Ensured) -> Json | None:
        """Disconnect what was connected; a router that was made is disconnected when it is removed."""
        if isinstance(result, dict):
            return kept_result(*self._undo(result["id"], result["added"]))
        return kept_result(
            why_not_undone(
                self.name, self._remove_unconnected, [_mapped(i, ensured) for i in data["interfaces"]]
            )
        )

    def _undo(self, router_id: str, added: Iterable[Json]) -> list[str]:
        return [why_not_undone(self.name, disconnect, self.cloud, router_id, link) for link in added]

    def _remove_unconnected(self, wanted: Sequence[Json]) -> None:
        """Delete the ports that were made to connect the router by and did not get to it."""
        for port in PORTS.by(self.cloud, "description", [stamp_tag(interface["id"]) for interface in wanted]):
            if not port["device_id"]:
                PORTS.remove(self.cloud, port["id"])

    def _complete(self, ports: Iterable[Json], wanted: Sequence[Json]) -> None:
        """Give those ports their own description that an earlier attempt connected and did no more with."""
        stamps = {stamp_tag(interface["id"]): interface for interface in wanted}
        for port in ports:
            if port["description"] in stamps:
                finish(self.cloud, PORTS, port["id"], stamps[port["description"]])

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
            self._add(router_id, {"subnet_id": subnet_id})
        except Exception as error:
            self._explain(error, interface)
            raise
        return {"subnet_id": subnet_id}

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

    def _connect_port(self, router_id: str, interface: Json) -> Json:
        stamp = stamp_tag(interface["id"])
        left = PORTS.all(self.cloud, network_id=interface["network_id"], description=stamp, device_id="")
        port_id = left[0]["id"] if left else self._create_port(interface, stamp)
        try:
            self._add(router_id, {"port_id": port_id})
        except BaseException:
            why_not_undone(self.name, PORTS.delete, self.cloud, port_id)
            raise
        finish(self.cloud, PORTS, port_id, interface)
        return {"port_id": port_id}

    def _create_port(self, interface: Json, stamp: str) -> str:
        fields = carried(interface, ("network_id", "fixed_ips", "project_id", "name"))
        try:
            return str(PORTS.create(self.cloud, {**fields, "description": stamp})["id"])
        except Exception as error:
            made = PORTS.by(self.cloud, "description", [stamp]) if in_doubt(error) else []
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
        """Add the routes that are missing. Provides those that were there before."""
        before = self.cloud.batch(ROUTERS.items).get(router["id"]).get("routes", [])
        missing = [route for route in data["routes"] if route not in before]
        routes = {"routes": [*before, *missing]} if missing else {}
        finish(self.cloud, ROUTERS, router["id"], data, **routes)
        return {"id": router["id"], "before": before if missing else None}

    def revert(self, result: Any, **_: Any) -> Json | None:
        """Set the routes that were there before; those of a router that was made go with it."""
        if not isinstance(result, dict) or result["before"] is None:
            return None
        return kept_result(why_not_undone(self.name, self._set, result["id"], result["before"]))

    def _set(self, router_id: str, routes: Sequence[Json]) -> None:
        ROUTERS.update(self.cloud, router_id, routes=routes)


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

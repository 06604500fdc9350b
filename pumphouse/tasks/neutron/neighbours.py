"""What other tenants have in the networks of a tenant: above all the routers that are its gateways."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from pumphouse.model import Json
from pumphouse.tasks.keystone.common import tenant_names
from pumphouse.tasks.neutron.common import PORTS, ROUTERS, SUBNETS
from pumphouse.tasks.neutron.router_links import INTERFACE_OWNERS
from pumphouse.words import counted

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

_LEFT = "not carried: migrate that tenant after this one, or connect another at the destination"


def neighbour_notes(source: Cloud, tenant_id: str, network_ids: Collection[str]) -> dict[str, list[str]]:
    """What to say of each network of a tenant in which others have something, by the network's id."""
    ports = [port for port in PORTS.by(source, "network_id", network_ids) if _is_others(port, tenant_id)]
    routers = ROUTERS.items(source, {p["device_id"] for p in ports if p["device_owner"] in INTERFACE_OWNERS})
    # An administrator may have connected a router of the tenant itself.
    ports = [p for p in ports if routers.get(p["device_id"], {}).get("project_id") != tenant_id]
    if not ports:
        return {}
    names, gateways = tenant_names(source), _gateways(source, ports)
    found: dict[str, list[str]] = defaultdict(list)
    for port in ports:
        found[port["network_id"]] += _gateway_notes(port, routers, gateways, names)
    for network_id in network_ids:
        count = sum(
            p["network_id"] == network_id and p["device_owner"] not in INTERFACE_OWNERS for p in ports
        )
        if count:
            found[network_id].append(
                f"{counted(count, 'port')} of other tenants in it: migrate those tenants, too"
            )
    return found


def _is_others(port: Json, tenant_id: str) -> bool:
    """Whether it is another tenant's, and not one that Neutron made, e.g. for DHCP."""
    owner = port["device_owner"]
    return port["project_id"] != tenant_id and (owner in INTERFACE_OWNERS or not owner.startswith("network:"))


def _gateways(source: Cloud, ports: Collection[Json]) -> set[tuple[str, str]]:
    """The subnets in which the ports are, with their gateways."""
    subnets = SUBNETS.items(source, {fixed["subnet_id"] for port in ports for fixed in port["fixed_ips"]})
    return {(i, str(subnet["gateway_ip"])) for i, subnet in subnets.items()}


def _gateway_notes(
    port: Json, routers: Mapping[str, Json], gateways: Collection[tuple[str, str]], names: Mapping[str, str]
) -> Iterator[str]:
    router = routers.get(port["device_id"])
    is_router = port["device_owner"] in INTERFACE_OWNERS
    owner = (router or port)["project_id"]
    what = f"router {(router or {}).get('name') or port['device_id']}" if is_router else f"port {port['id']}"
    for fixed in port["fixed_ips"]:
        is_gateway = (fixed["subnet_id"], fixed["ip_address"]) in gateways
        if is_gateway or is_router:
            place = "gateway" if is_gateway else "address"
            yield f"its {place} {fixed['ip_address']} is {what} of tenant {names.get(owner, owner)}: {_LEFT}"

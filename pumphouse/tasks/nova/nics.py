"""The NICs of a server: in which order its guest counts them, and those that it lacks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from pumphouse.cloud import call
from pumphouse.errors import http_status
from pumphouse.model import Json
from pumphouse.tasks.nova.common import supports

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

# From Pike on, diagnostics name the NICs in the same way whatever the hypervisor is.
NIC_DETAILS = "2.48"
UNTOLD = "Nova does not tell in which order its NICs are"
# What Nova answers where the hypervisor tells nothing, or the guest does not run, or the login may not ask.
_NOT_TOLD = (400, 403, 404, 409, 501)


def in_nic_order(cloud: Cloud, server: Json, ports: Iterable[Json]) -> tuple[list[Json], bool]:
    """The ports of a server in the order of its NICs, and whether Nova tells it.

    Nova lists addresses by the names of networks, each name where its first NIC is: that tells the order as long
    as no name with several NICs is followed by another. Otherwise its diagnostics tell it, of a guest that runs
    (compute API 2.48).
    """
    known = sorted(ports, key=lambda port: str(port["id"]))
    macs = [str(port["mac_address"]) for port in known]
    listed = _listed(server, macs)
    flat = [mac for group in listed for mac in group]
    is_told = sorted(flat) == sorted(macs) and all(len(group) == 1 for group in listed[:-1])
    if not is_told and sorted(told := _diagnosed(cloud, server)) == sorted(macs):
        flat, is_told = told, True
    return sorted(known, key=lambda port: _position(flat, port["mac_address"])), is_told


def _listed(server: Json, macs: Collection[str]) -> list[list[str]]:
    """The MAC addresses by the names of networks, in Nova's order."""
    addresses = server["addresses"].values()
    listed = [list(dict.fromkeys(a["OS-EXT-IPS-MAC:mac_addr"] for a in group)) for group in addresses]
    left = set(macs) - {mac for group in listed for mac in group}
    # A network on which the server has a NIC without an address is listed, too.
    return [group or list(left) for group in listed] if len(left) == listed.count([]) == 1 else listed


def _diagnosed(cloud: Cloud, server: Json) -> list[str]:
    if server["status"] != "ACTIVE" or not supports(cloud, NIC_DETAILS):
        return []
    try:
        told = call(cloud.adapter("compute"), "GET", f"/servers/{server['id']}/diagnostics")
    except Exception as error:
        if http_status(error) in _NOT_TOLD:
            return []
        raise
    return [nic["mac_address"] for nic in told["nic_details"]]


def _position(macs: Sequence[str], mac: str) -> int:
    return macs.index(mac) if mac in macs else len(macs)


def untold(ports: Sequence[Json]) -> str:
    """What to say of a server whose NICs are in an order that Nova does not tell."""
    order = ", ".join(str(port["mac_address"]) for port in ports)
    return (
        f"{UNTOLD}, only which are on networks of one name: they arrive as {order}. It tells administrators while "
        "the server runs: start it and plan again, or compare with its guest"
    )


def nic_tags(cloud: Cloud, server_id: str) -> dict[str, str]:
    """The tags of a server's NICs by the ids of their ports; Nova shows them since 2.70 (Train)."""
    if not supports(cloud, "2.70"):
        return {}
    listed = call(cloud.adapter("compute"), "GET", f"/servers/{server_id}/os-interface")
    return {nic["port_id"]: nic["tag"] for nic in listed["interfaceAttachments"] if nic.get("tag")}

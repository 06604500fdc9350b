"""Whether a booted server is what Nova was asked for: some of that Nova drops without a word."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pumphouse.cloud import call
from pumphouse.model import Json
from pumphouse.tasks.base import differences
from pumphouse.tasks.cinder.common import attach, wait_until_in_use
from pumphouse.tasks.neutron.common import PORTS
from pumphouse.tasks.nova.common import list_flavors, own_metadata, own_tags, supports
from pumphouse.tasks.nova.nics import in_nic_order, nic_tags

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

# What a server has under the name under which it is asked for.
_PLAIN = ("name", "description", "accessIPv4", "accessIPv6")
# From Stein on, an interface and a volume can be attached with a tag.
ATTACHED_TAGS = "2.49"


def give_nics(cloud: Cloud, server_id: str, port_ids: Sequence[str], tags: Mapping[str, str]) -> list[Json]:
    """Attach the ports that a server lacks; returns those that it has.

    tags: the tags of its NICs, by the ids of the ports.
    """
    has = PORTS.by(cloud, "device_id", [server_id]) if port_ids else []
    missing = set(port_ids) - {port["id"] for port in has}
    for port_id in (i for i in port_ids if i in missing):
        tag = {"tag": tags[port_id]} if port_id in tags and supports(cloud, ATTACHED_TAGS) else {}
        nic = {"interfaceAttachment": {"port_id": port_id, **tag}}
        call(cloud.adapter("compute"), "POST", f"/servers/{server_id}/os-interface", nic)
    return PORTS.by(cloud, "device_id", [server_id]) if missing else has


def give_volumes(cloud: Cloud, server_id: str, volumes: Sequence[Json]) -> list[Json]:
    """Attach the volumes that a server lacks; returns its attachments as Nova lists them."""
    if not volumes:
        return []
    has = _attachments(cloud, server_id)
    missing = {volume["id"] for volume in volumes} - {attached["volumeId"] for attached in has}
    for volume in (v for v in volumes if v["id"] in missing):
        attach(cloud, volume["id"], server_id, volume["device"])
        wait_until_in_use(cloud, volume["id"], title=f"volume {volume['id']} becoming attached")
    return _attachments(cloud, server_id) if missing else has


def _attachments(cloud: Cloud, server_id: str) -> list[Json]:
    path = f"/servers/{server_id}/os-volume_attachments"
    attached: list[Json] = call(cloud.adapter("compute"), "GET", path)["volumeAttachments"]
    return attached


def unlike(
    cloud: Cloud,
    server: Json,
    asked: Json,
    ports: Sequence[Json],
    attached: Sequence[Json],
    tags: Mapping[str, str],
) -> Iterator[str]:
    """In what a server that has just come up is not what Nova was asked for, one phrase each.

    asked: the create call, without what only serves it.
    ports, attached: what the server has by now.
    tags: those of its NICs, by the ids of the ports.
    """
    yield from differences(asked, server, [field for field in _PLAIN if field in asked])
    actual = {
        "metadata": own_metadata(server["metadata"]),
        "tags": own_tags(server),
        "availability_zone": server.get("OS-EXT-AZ:availability_zone"),
    }
    yield from differences(asked, actual, [field for field in actual if asked.get(field)])
    if asked["config_drive"] and not server["config_drive"]:
        yield "it has no config drive"
    yield from _wrong_flavor(cloud, server["flavor"], asked["flavorRef"])
    yield from _wrong_nics(cloud, server, [nic["port"] for nic in asked["networks"]], ports, tags)
    for disk in asked.get("block_device_mapping_v2", ()):
        yield from _wrong_disk(disk, {item["volumeId"]: item for item in attached})


def _wrong_flavor(cloud: Cloud, told: Json, flavor_id: str) -> Iterator[str]:
    """What is wrong with the flavor as a server tells of it: by its id, or since 2.47 (Pike) by all but that."""
    wanted = {"id": flavor_id}
    if "original_name" in told:
        flavor = cloud.batch(_flavors_by_id).get(flavor_id)
        wanted = {
            "original_name": flavor["name"],
            **{size: flavor[size] for size in ("ram", "vcpus", "disk")},
        }
    yield from (f"of its flavor {found}" for found in differences(wanted, told, wanted))


def _flavors_by_id(cloud: Cloud, ids: Collection[str]) -> dict[str, Json]:
    return {flavor["id"]: flavor for flavor in list_flavors(cloud) if flavor["id"] in ids}


def _wrong_nics(
    cloud: Cloud, server: Json, port_ids: Sequence[str], ports: Sequence[Json], tags: Mapping[str, str]
) -> Iterator[str]:
    ordered, is_told = in_nic_order(cloud, server, ports)
    actual = [port["id"] for port in ordered]
    if sorted(actual) != sorted(port_ids) or (is_told and actual != port_ids):
        yield f"its NICs are ports {actual}, asked for were {port_ids}"
    if tags and supports(cloud, "2.70"):
        yield from differences({"NIC tags": tags}, {"NIC tags": nic_tags(cloud, server["id"])}, ["NIC tags"])


def _wrong_disk(disk: Json, attached: Mapping[str, Json]) -> Iterator[str]:
    if disk["source_type"] != "volume":
        return
    actual = attached.get(disk["uuid"])
    if actual is None:
        yield f"volume {disk['uuid']} is not attached"
        return
    fields = [field for field in ("tag", "delete_on_termination") if field in disk and field in actual]
    yield from (f"of volume {disk['uuid']} {found}" for found in differences(disk, actual, fields))


def is_member(cloud: Cloud, server_id: str, group_id: str) -> bool:
    """Whether a server is in a server group."""
    group = call(cloud.adapter("compute"), "GET", f"/os-server-groups/{group_id}")["server_group"]
    return server_id in group["members"]


def chosen(server: Json, data: Json, attached: Sequence[Json], volumes: Collection[Json]) -> Iterator[str]:
    """What Nova has chosen otherwise than the source's did, and may: notes.

    volumes: those of the source's server, with their ids at the destination.
    """
    hostname = server.get("OS-EXT-SRV-ATTR:hostname")
    if data["hostname"] and hostname and hostname != data["hostname"]:
        yield f"its hostname is {hostname} and not {data['hostname']}, which the destination's Nova does not take"
    if server["config_drive"] and not data["config_drive"]:
        yield "it has a config drive, and the source's has none"
    devices: dict[str, Any] = {item["volumeId"]: item.get("device") for item in attached}
    for volume in volumes:
        device = devices.get(volume["id"])
        if device and volume["device"] and device != volume["device"]:
            yield f"its volume {volume['id']} is {device} for Nova there, and was {volume['device']}"

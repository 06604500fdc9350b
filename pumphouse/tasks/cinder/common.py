"""What the kinds of Cinder share: lists, types, zones, waiting, deleting."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pumphouse.cloud import call, get_all, or_none
from pumphouse.cloud.wait import wait_for
from pumphouse.errors import WaitError, http_status
from pumphouse.model import Json
from pumphouse.tasks.base import STAMP

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

VOLUMES, SNAPSHOTS = "volumes", "snapshots"
# The metadata keys of what exists only for the length of a copy, and of what is not complete yet; each
# has as its value the attempt that made it.
ATTEMPT, UNFINISHED = "pumphouse_attempt", "pumphouse_unfinished"
# A volume of some terabytes takes hours where storage copies it block by block.
COPY_TIMEOUT_S = 24 * 3600.0
STATE_TIMEOUT_S = 600.0
_OWNER = {
    VOLUMES: "os-vol-tenant-attr:tenant_id",
    SNAPSHOTS: "os-extended-snapshot-attributes:project_id",
}
# What Cinder shows among a volume's metadata and keeps elsewhere.
_ADMIN_METADATA = ("readonly", "attached_mode")
# The states in which Cinder is at work, and which it leaves by itself.
_BUSY = ("creating", "downloading", "uploading", "detaching", "attaching", "backing-up", "reserved")


def owned(cloud: Cloud, what: str, tenant_id: str) -> list[Json]:
    """All volumes or snapshots of a tenant; none where the cloud has no Cinder."""
    if not cloud.has("block-storage"):
        return []
    items = get_all(cloud.cinder, f"/{what}/detail", what, all_tenants=1, project_id=tenant_id)
    return [item for item in items if item.get(_OWNER[what], tenant_id) == tenant_id]


def volumes_by_key(cloud: Cloud, keys: Collection[str]) -> dict[str, Json]:
    """Volumes by `<tenant id>/<volume id>`, with one list call for each tenant."""
    return _by_key(cloud, VOLUMES, keys)


def snapshots_by_key(cloud: Cloud, keys: Collection[str]) -> dict[str, Json]:
    """Snapshots by `<tenant id>/<snapshot id>`, with one list call for each tenant."""
    return _by_key(cloud, SNAPSHOTS, keys)


def _by_key(cloud: Cloud, what: str, keys: Collection[str]) -> dict[str, Json]:
    tenants = {key.partition("/")[0] for key in keys}
    return {f"{tenant}/{item['id']}": item for tenant in tenants for item in owned(cloud, what, tenant)}


_FETCH = {VOLUMES: volumes_by_key, SNAPSHOTS: snapshots_by_key}


def own_metadata(volume: Json) -> Json:
    """The metadata without what Cinder and migrations put there."""
    others = (STAMP, ATTEMPT, UNFINISHED, *_ADMIN_METADATA)
    return {key: value for key, value in volume["metadata"].items() if key not in others}


def is_readonly(volume: Json) -> bool:
    """Whether nobody may write to it."""
    return str(volume["metadata"].get("readonly")).lower() == "true"


def act(cloud: Cloud, volume_id: str, action: str, **arguments: Any) -> Json:
    """Have Cinder do something with a volume, e.g. `os-set_bootable`; returns what it answers."""
    return call(cloud.cinder, "POST", f"/volumes/{volume_id}/action", {action: arguments})


def volume_types(cloud: Cloud) -> dict[str, Json]:
    """All volume types by name, private ones too."""
    return {kind["name"]: kind for kind in get_all(cloud.cinder, "/types", "volume_types", is_public="None")}


def default_type(cloud: Cloud) -> str:
    """The type that a volume gets which asks for none; empty where there is none (before Train)."""
    found = or_none(call, cloud.cinder, "GET", "/types/default")
    return str(found["volume_type"]["name"]) if found else ""


def zones(cloud: Cloud, *, also_down: bool = False) -> list[str]:
    """The names of the availability zones that take volumes, or also of those that take none at the moment."""
    found = call(cloud.cinder, "GET", "/os-availability-zone")["availabilityZoneInfo"]
    return [zone["zoneName"] for zone in found if also_down or zone["zoneState"]["available"]]


def at_destination(name: str | None, mapping: Mapping[str, str], there: Iterable[str]) -> str | None:
    """The name that stands for a source's type or zone: the mapped one, else the same; None when it is not there."""
    wanted = mapping.get(name or "", name)
    return wanted if wanted is not None and wanted in there else None


def zone_at_destination(zone: str | None, mapping: Mapping[str, str], there: Collection[str]) -> str | None:
    """The zone that stands for one of the source: the mapped one, else the same; None where neither is there.

    One mapping serves Nova, Neutron and Cinder, and often only Nova has the zones that it names.
    """
    return next((name for name in (mapping.get(zone or ""), zone) if name in there), None)


def zone_notes(zone: str | None, mapping: Mapping[str, str], there: Collection[str]) -> list[str]:
    """What a plan says of a zone that a service of the destination does not have; nothing where it has it."""
    wanted, found = mapping.get(zone or "", zone), zone_at_destination(zone, mapping, there)
    if not zone or found == wanted:
        return []
    if found:
        return [f"its availability zone {zone} is mapped to {wanted}, which is not there: it stays {found}"]
    chosen = "which chooses one (mappings.availability_zones names another)"
    return [f"its availability zone {wanted} is not at the destination, {chosen}"]


def is_multiattach(volume_type: Json) -> bool:
    """Whether volumes of a type can be attached to several servers."""
    return str((volume_type.get("extra_specs") or {}).get("multiattach", "")).lower() == "<is> true"


def wait_for_item(
    cloud: Cloud,
    what: str,
    tenant_id: str,
    item_id: str,
    done: Callable[[Json], bool],
    *,
    title: str,
    timeout_s: float = COPY_TIMEOUT_S,
) -> Json:
    """Wait until a volume or snapshot is as it shall be; WaitError when it disappears or fails."""

    def is_done(item: Json | None) -> bool:
        if item is None:
            raise WaitError(f"{title}: it has disappeared from the {cloud.name}", "run it again")
        if item["status"].startswith("error"):
            raise WaitError(
                f"{title}: its status became {item['status']}",
                f"ask for Cinder's reason: openstack volume message list --resource-id {item_id}",
            )
        return done(item)

    batch = cloud.batch(_FETCH[what])
    return wait_for(batch, f"{tenant_id}/{item_id}", is_done, title=title, timeout_s=timeout_s) or {}


def wait_until_available(cloud: Cloud, what: str, tenant_id: str, item_id: str, *, title: str) -> Json:
    """Wait until a volume or snapshot is there and nothing is done with it."""
    return wait_for_item(
        cloud, what, tenant_id, item_id, lambda item: bool(item["status"] == "available"), title=title
    )


def attach(cloud: Cloud, volume_id: str, server_id: str, device: str | None) -> None:
    """Have Nova attach a volume under a name, or under another where it does not take that one."""
    create = cloud.nova.volumes.create_server_volume
    try:
        create(server_id, volume_id, device)
    except Exception as error:
        # The name is taken at the destination, or no hypervisor of it lets it be chosen.
        if http_status(error) not in (400, 409) or not device:
            raise
        create(server_id, volume_id)


def wait_until_in_use(cloud: Cloud, volume_id: str, *, title: str) -> None:
    """Wait until a volume is attached."""
    wait_for_item(
        cloud,
        VOLUMES,
        call(cloud.cinder, "GET", f"/volumes/{volume_id}")["volume"][_OWNER[VOLUMES]],
        volume_id,
        lambda item: bool(item["status"] == "in-use"),
        title=title,
        timeout_s=COPY_TIMEOUT_S,
    )


def remove(cloud: Cloud, what: str, tenant_id: str, item_id: str) -> None:
    """Delete a volume or snapshot when Cinder is done with it, and wait until it is gone."""
    batch, key, title = cloud.batch(_FETCH[what]), f"{tenant_id}/{item_id}", f"deletion of {what} {item_id}"

    def is_idle(item: Json | None) -> bool:
        return item is None or item["status"] not in (*_BUSY, "in-use", "deleting")

    def is_gone(item: Json | None) -> bool:
        if item is not None and item["status"] == "error_deleting":
            raise WaitError(f"Cinder could not delete {what} {item_id}", "ask the cloud's administrator why")
        return item is None

    _wait_out(batch, key, lambda item: is_idle(item) or _is_going(item), title)
    try:
        call(cloud.cinder, "DELETE", f"/{what}/{item_id}")
    except Exception as error:
        # It is gone, or on its way: with the server that it was to be deleted with.
        if http_status(error) not in (400, 404) or not _is_going(_now(batch, key)):
            raise
    _wait_out(batch, key, is_gone, title)


def _wait_out(batch: Any, key: str, done: Callable[[Json | None], bool], title: str) -> None:
    wait_for(batch, key, done, title=title, timeout_s=STATE_TIMEOUT_S)


def _is_going(item: Json | None) -> bool:
    return item is None or item["status"] == "deleting"


def _now(batch: Any, key: str) -> Json | None:
    try:
        found: Json = batch.get(key)
    except KeyError:
        return None
    return found

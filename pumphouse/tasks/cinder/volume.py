"""Volumes: made from images of their bytes, and attached as they were where their server is there already."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

from taskflow import task

from pumphouse.cloud import call, get_all
from pumphouse.errors import ConfigError, http_status
from pumphouse.model import Json, Record, Ref, Step, Twin, symbol
from pumphouse.tasks.base import BaseRetrieveTask, Migration, Search, differences, ensure, retrieve
from pumphouse.tasks.cinder.common import (
    ATTEMPT,
    VOLUMES,
    at_destination,
    default_type,
    is_multiattach,
    is_readonly,
    own_metadata,
    owned,
    remove,
    volume_types,
    zone_notes,
    zones,
)
from pumphouse.tasks.cinder.volume_copy import copy_tasks, image_of, removal_task, temporaries
from pumphouse.tasks.cinder.volume_format import with_formats
from pumphouse.tasks.cinder.volume_make import (
    MIGRATABLE,
    WITHOUT_IMAGE,
    AttachVolume,
    CompleteVolume,
    EnsureVolume,
    candidates,
    is_bootable,
    is_twin,
    stamp_of,
    unfinished_why,
    unmark,
    volumes_of_id,
)
from pumphouse.tasks.fields import Fields, Noted
from pumphouse.tasks.glance.common import BOOT_IMAGES, MIGRATIONS
from pumphouse.tasks.kind import Found, Kind, Names, matching

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "volume"
FIELDS = ("name", "description", "size", "metadata", "image_metadata", "bootable", "readonly")
# Ids of images of the source, which mean nothing at the destination.
_REFERENCES = ("image_id", *BOOT_IMAGES)
_GIB = 1 << 30


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The volumes of the tenant, without those that a migration makes for a while; three calls."""
    volumes = [volume for volume in owned(source, VOLUMES, tenant_id) if ATTEMPT not in volume["metadata"]]
    types = volume_types(source) if volumes else {}
    attached = any(volume["status"] == "in-use" for volume in volumes)
    limits = call(source.cinder, "GET", "/limits")["limits"]["absolute"] if attached else {}
    records = [_record(volume, tenant_id, types.get(volume["volume_type"], {})) for volume in volumes]
    return [replace(record, skip=record.skip or _no_room(record.data, limits)) for record in records]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """Volumes by id, one call each: Cinder lists by id only one."""
    types = volume_types(source)
    found = [volume for volume_id in ids for volume in volumes_of_id(source, volume_id)]
    owner = "os-vol-tenant-attr:tenant_id"
    records = [_record(v, v.get(owner, source.project_id), types.get(v["volume_type"], {})) for v in found]
    return {record.ref.id: record for record in records}


def apply_policies(record: Record, policies: Mapping[str, Any]) -> Record:
    """The record with a note where it is copied while its server writes to it."""
    if policies["source_servers"] == "stop" or not record.data["attachments"]:
        return record
    note = "its server is not stopped: it arrives as after a loss of power at the time of the copy"
    return replace(record, notes=(*record.notes, note))


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records with what the destination's types and zones make of them: notes, or why they cannot be made."""
    if not records:
        return []
    types, default = volume_types(search.destination), default_type(search.destination)
    there = zones(search.destination)
    arriving = [_arriving(record, search.mappings, types, default, there) for record in records]
    return with_formats(search, arriving)


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The volume that carries the stamp, else those of the same name; not what a run left half made."""
    tenants = {record.ref: search.ids.get(Ref("tenant", record.data["tenant_id"])) for record in records}
    volumes = {t: owned(search.destination, VOLUMES, t) for t in set(tenants.values()) if t}
    return {record.ref: _twins(record, volumes.get(tenants[record.ref] or "", [])) for record in records}


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the volume, copy its bytes through an image, make it; attach it; clean up."""
    ref, title, data = step.ref, step.record.title, step.record.data
    mappings = migration.settings["mappings"]
    is_new = step.destination_id is None
    create = ensure(
        EnsureVolume,
        [migration.destination],
        step,
        needs=[Ref("tenant", data["tenant_id"])],
        **(image_of(migration, step) if is_new else WITHOUT_IMAGE),
        types=mappings["volume_types"],
        zones=mappings["availability_zones"],
    )
    attach = [
        AttachVolume(
            migration.destination,
            provides=symbol(ref, f"attached-{attached['server_id']}"),
            rebind=[
                symbol(ref, "retrieved"),
                symbol(ref, "ensured"),
                symbol(Ref("server", attached["server_id"]), "ensured"),
            ],
            line=f"see that {title} is attached to its server",
            device=attached["device"],
        )
        for attached in data["attachments"]
    ]
    removal = removal_task(migration, step)
    complete = CompleteVolume(
        migration.destination,
        source_id=ref.id,
        provides=symbol(ref, "completed"),
        rebind=[symbol(ref, "ensured"), removal.name],
        requires=[item.name for item in attach],
        line=f"mark {title} as complete",
    )
    # Until its server is complete too, a later run must not take it for the disk of today.
    complete.after = tuple(
        symbol(Ref("server", attached["server_id"]), "completed") for attached in data["attachments"]
    )
    copies = copy_tasks(migration, step) if is_new else []
    return [retrieve(RetrieveVolume, migration, step), *copies, create, *attach, removal, complete]


def changed(cloud: Cloud, destination_id: str, since: datetime) -> str:
    """When the volume of the destination was changed last, if that was after an aware time; else empty."""
    for volume in volumes_of_id(cloud, destination_id):
        at = volume["updated_at"]
        # Cinder gives its times in UTC and without saying so.
        if at and datetime.fromisoformat(at).replace(tzinfo=UTC) > since:
            return f"updated at {at}"
    return ""


class RetrieveVolume(BaseRetrieveTask):
    """Reads a volume of the source."""

    def execute(self, resource_id: str) -> Json:
        """Its fields, and a name for the attempt."""
        return {**self.retrieve(resource_id), "attempt": uuid4().hex}

    def retrieve(self, resource_id: str) -> Json:
        """Its fields."""
        return self.cloud.batch(fetch).get(resource_id).data


def _data(volume: Json) -> Json:
    image_metadata = volume.get("volume_image_metadata", {})
    return {
        **{key: volume[key] for key in ("id", "size", "status", "volume_type", "availability_zone")},
        "name": volume["name"] or "",
        "description": volume["description"],
        "metadata": own_metadata(volume),
        "image_metadata": {
            key: value for key, value in image_metadata.items() if key not in (*_REFERENCES, *MIGRATIONS)
        },
        "bootable": is_bootable(volume),
        "readonly": is_readonly(volume),
        "multiattach": volume["multiattach"],
        "encrypted": volume["encrypted"],
        "attachments": sorted(
            (
                {"server_id": a["server_id"], "device": a["device"]}
                for a in volume["attachments"]
                if a["server_id"]
            ),
            key=lambda attached: str(attached["server_id"]),
        ),
    }


def _record(volume: Json, tenant_id: str, volume_type: Json) -> Record:
    data = {**_data(volume), "tenant_id": tenant_id}
    servers = [Ref("server", attached["server_id"]) for attached in data["attachments"]]
    return Record(
        Ref(NAME, volume["id"]),
        data["name"],
        data,
        (Ref("tenant", tenant_id), *servers),
        part_of=servers[0] if servers else None,
        size_bytes=volume["size"] * _GIB,
        notes=tuple(_notes(volume, volume_type)),
        skip=_skip(volume),
        answer=volume,
    )


def _skip(volume: Json) -> str:
    if volume["status"] not in MIGRATABLE:
        return f"its status is {volume['status']}: bring it to available or in-use, then plan again"
    if volume["encrypted"]:
        return (
            "it is encrypted, and its key lies in the source's Barbican: "
            "retype it to a type without encryption, or copy its files in a guest"
        )
    return ""


def _no_room(data: Json, limits: Json) -> str:
    """Why the operator's project at the source has no room for the snapshot and the clone of what is attached.

    limits: the absolute limits of that project (Block Storage API v3); -1 is none.
    """
    if data["status"] != "in-use":
        return ""
    # By default (no_snapshot_gb_quota) snapshots count like volumes.
    needed = (
        ("GiB", "maxTotalVolumeGigabytes", "totalGigabytesUsed", 2 * data["size"]),
        ("volumes", "maxTotalVolumes", "totalVolumesUsed", 1),
        ("snapshots", "maxTotalSnapshots", "totalSnapshotsUsed", 1),
    )
    for what, most, used, number in needed:
        left = limits.get(most, -1) - limits.get(used, 0)
        if limits.get(most, -1) >= 0 and number > left:
            return (
                f"the copies of it at the source take {number} {what} of the quota of the operator's project, "
                f"which has {max(left, 0)} left: raise that"
            )
    return ""


def _notes(volume: Json, volume_type: Json) -> Iterable[str]:
    references = [key for key in _REFERENCES if key in volume.get("volume_image_metadata", {})]
    if references:
        yield f"from which image it was made ({', '.join(references)}) is not carried: the id is the source's"
    if volume_type.get("qos_specs_id"):
        yield f"the QoS of its type {volume['volume_type']} is not carried: give it to the destination's type"


def _arriving(
    record: Record,
    mappings: Mapping[str, Mapping[str, str]],
    types: Mapping[str, Json],
    default: str,
    there: Collection[str],
) -> Record:
    data, notes = record.data, list(record.notes)
    name = at_destination(data["volume_type"], _types(mappings["volume_types"], data, types), types)
    if data["volume_type"] and name is None:
        notes.append(
            f"its type {data['volume_type']} is not at the destination: it becomes {default}, the default "
            "(mappings.volume_types chooses another)"
        )
    notes += zone_notes(data["availability_zone"], mappings["availability_zones"], there)
    lost = data["multiattach"] and not is_multiattach(types.get(name or default, {}))
    if lost and len(data["attachments"]) > 1:
        several = (
            f"it is attached to several servers, which type {name or default} of the destination forbids"
        )
        return replace(record, must_exist=f"{several}: map its type to one with multiattach")
    if lost:
        notes.append(
            f"type {name or default} of the destination does not let it be attached to several servers"
        )
    return replace(record, notes=tuple(notes))


def _types(mapping: Mapping[str, str], data: Json, types: Mapping[str, Json]) -> Mapping[str, str]:
    """The mapping of types; ConfigError when it names for a volume what the destination does not have."""
    wanted = mapping.get(data["volume_type"] or "")
    if wanted and wanted not in types:
        problem = f"mappings.volume_types: {data['volume_type']!r} is mapped to {wanted!r}, which the destination does not have"
        raise ConfigError([problem], "create it there, or correct the mapping")
    return mapping


def _twins(record: Record, volumes: Iterable[Json]) -> list[Twin]:
    return [_twin(record, volume) for volume in candidates(record, volumes)]


def _twin(record: Record, volume: Json) -> Twin:
    found = differences(record.data, _data(volume), FIELDS)
    if volume["status"].startswith("error"):
        found = (f"its status is {volume['status']}", *found)
    return Twin(volume["id"], is_twin(volume, record.ref.id), found, unfinished_why(record, volume))


def strangers(cloud: Cloud, tenant_id: str) -> list[str]:
    """The volumes of a tenant that no migration has made."""
    return [item["id"] for item in owned(cloud, VOLUMES, tenant_id) if not stamp_of(item)]


def find_anywhere(source: Cloud, wanted: Json) -> list[Found]:
    """The volumes of that id or name, in whichever tenant."""
    if not source.has("block-storage"):
        return []
    if "id" in wanted:
        items = _volume(source, wanted["id"])
    else:
        items = get_all(source.cinder, "/volumes/detail", "volumes", all_tenants=1, **wanted)
    return matching(items, wanted, "os-vol-tenant-attr:tenant_id")


def _volume(source: Cloud, volume_id: str) -> list[Json]:
    """The volume of that id, of whichever tenant: Cinder's lists know no filter by id."""
    try:
        return [call(source.cinder, "GET", f"/volumes/{quote(volume_id, safe='')}")["volume"]]
    except Exception as error:
        if http_status(error) in (400, 404):
            return []
        raise


KIND = Kind(
    NAME,
    "block-storage",
    discover,
    fetch,
    find,
    tasks,
    moved_by=("image",),
    mapped_names={
        "volume_types": lambda cloud, wanted: Names(volume_types(cloud)),
        "availability_zones": lambda cloud, wanted: Names(zones(cloud, also_down=True)),
    },
    renamable=True,
    acts_in_tenant=True,
    apply_policies=apply_policies,
    adapt=adapt,
    changed=changed,
    nameable=True,
    strangers=strangers,
    temporaries=temporaries,
    find_anywhere=find_anywhere,
    unmark=unmark,
    remove=lambda cloud, record: remove(cloud, VOLUMES, record.data["tenant_id"], record.ref.id),
    fields=Fields(
        carried="name description size status metadata bootable multiattach volume_image_metadata attachments/device",
        mapped={
            "volume_type": "mappings.volume_types, else the same name",
            "availability_zone": "mappings.availability_zones, else the same name",
            "os-vol-tenant-attr:tenant_id": "the tenant's twin",
            "attachments/server_id": "the server's twin",
        },
        derived="id links user_id created_at updated_at encrypted volume_type_id consumes_quota migration_status "
        "os-vol-mig-status-attr:migstat os-vol-mig-status-attr:name_id os-vol-host-attr:host provider_id "
        "shared_targets service_uuid cluster_name attachments/id attachments/attachment_id attachments/volume_id "
        "attachments/host_name attachments/attached_at",
        noted={
            "snapshot_id": "that it was made of snapshot {value} is not carried",
            "source_volid": "that it was made of volume {value} is not carried",
            "consistencygroup_id": "its consistency group is not carried: make a group at the destination",
            "group_id": "its group is not carried: make a group at the destination",
            "encryption_key_id": "its key {value} is not carried: it lies in the source's Barbican",
            "replication_status": Noted(
                "its replication is not carried: give it a type that replicates",
                (None, "disabled", "not-capable"),
            ),
            "os-volume-replication:driver_data": "what its storage keeps of its replication is not carried",
            "os-volume-replication:extended_status": "what its storage keeps of its replication is not carried",
        },
        summary="bytes; read-only; attached to its servers under the same device names",
    ),
)

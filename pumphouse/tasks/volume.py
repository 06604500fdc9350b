"""Volumes: made from images of their bytes, and attached as they were where their server is there already."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from taskflow import task

from pumphouse.cloud import call
from pumphouse.errors import ConfigError, ConflictError, PumphouseError, http_status
from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    STAMP,
    BaseCloudTask,
    BaseEnsureTask,
    BaseRetrieveTask,
    Migration,
    Search,
    differences,
    ensure,
    ensured_id,
    kept,
    retrieve,
    symbol,
    undo,
)
from pumphouse.tasks.cinder import (
    ATTEMPT,
    COPY_TIMEOUT_S,
    UNFINISHED,
    VOLUMES,
    act,
    at_destination,
    default_type,
    has_cinder,
    is_multiattach,
    is_readonly,
    own_metadata,
    owned,
    remove,
    volume_types,
    wait_for_item,
    wait_until_available,
    zones,
)
from pumphouse.tasks.volume_copy import IMAGE, UPLOADED, copy_tasks, removal_task

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "volume"
ACTS_IN_TENANT = True
RENAMABLE = True
FIELDS = ("name", "description", "size", "metadata", "image_metadata", "bootable", "readonly")
_MIGRATABLE = ("available", "in-use")
# Ids of images of the source, which mean nothing at the destination.
_REFERENCES = ("image_id", "kernel_id", "ramdisk_id")
_GIB = 1 << 30


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The volumes of the tenant, without those that a migration makes for a while; two list calls."""
    volumes = [volume for volume in owned(source, VOLUMES, tenant_id) if ATTEMPT not in volume["metadata"]]
    types = volume_types(source) if volumes else {}
    return [_record(volume, tenant_id, types.get(volume["volume_type"], {})) for volume in volumes]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """Volumes by id, one call each: Cinder lists by id only one."""
    types = volume_types(source)
    found = [volume for volume_id in ids for volume in _volumes(source, volume_id)]
    owner = "os-vol-tenant-attr:tenant_id"
    records = [_record(v, v.get(owner, source.project_id), types.get(v["volume_type"], {})) for v in found]
    return {record.ref.id: record for record in records}


def under(record: Record, policies: Mapping[str, Any]) -> Record:
    """The record with a note where it is copied while its server writes to it."""
    if policies["source_servers"] == "stop" or not record.data["attachments"]:
        return record
    note = "its server is not stopped: it arrives as after a loss of power at the time of the copy"
    return replace(record, notes=(*record.notes, note))


def arriving(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records with what the destination's types and zones make of them: notes, or why they cannot be made."""
    if not records:
        return []
    if not has_cinder(search.destination):
        return [replace(record, must_exist="the destination has no Cinder") for record in records]
    types, default = volume_types(search.destination), default_type(search.destination)
    there = zones(search.destination)
    return [_arriving(record, search.mappings, types, default, there) for record in records]


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
        also_requires=[symbol(ref, IMAGE), symbol(ref, UPLOADED)] if is_new else [],
        image_symbol=symbol(ref, IMAGE) if is_new else None,
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
    for volume in _volumes(cloud, destination_id):
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


class EnsureVolume(BaseEnsureTask):
    """Finds or creates the volume at the destination, in the tenant's name, from the image made for it.

    image_symbol: the task that gives the image; None where the volume has to be there.
    types, zones: the mappings.
    """

    def __init__(
        self,
        *cloud: Cloud,
        image_symbol: str | None,
        types: Mapping[str, str],
        zones: Mapping[str, str],
        **kwargs: Any,
    ) -> None:
        super().__init__(*cloud, **kwargs)
        self.image_symbol = image_symbol
        self.types = types
        self.zones = zones

    def find(self, data: Json, ensured: Mapping[str, Json]) -> str | None:
        """The stamped volume; what another attempt left half made, or Cinder could not fill, is removed."""
        tenant_id, ids = _tenant(data, ensured), []
        for volume in self._stamped(data, ensured):
            if _is_left(volume, data["attempt"]):
                remove(self.cloud, VOLUMES, tenant_id, volume["id"])
            else:
                ids.append(str(volume["id"]))
        if len(ids) > 1:
            raise ConflictError(
                f"{len(ids)} volumes of the destination carry the stamp of {data['id']}: {', '.join(ids)}",
                "delete those that are not in use",
            )
        return ids[0] if ids else None

    def leftovers(self, data: Json, ensured: Mapping[str, Json]) -> list[str]:
        """The stamped volumes that were not completed, in whatever state they are."""
        return [volume["id"] for volume in self._stamped(data, ensured) if UNFINISHED in volume["metadata"]]

    def _stamped(self, data: Json, ensured: Mapping[str, Json]) -> list[Json]:
        there = owned(self.cloud, VOLUMES, _tenant(data, ensured))
        return [volume for volume in there if _is_twin(volume, data["id"]) and volume["status"] != "deleting"]

    def create(self, data: Json, ensured: Mapping[str, Json]) -> str:
        """Have Cinder make it from the image."""
        if self.image_symbol is None:
            raise PumphouseError(
                f"volume {data['name'] or data['id']} is no longer at the destination", "plan again"
            )
        tenant_id, body = _tenant(data, ensured), self._body(data, ensured[self.image_symbol]["id"])
        with self.cloud.in_tenant(tenant_id) as tenant_cloud:
            try:
                made = call(tenant_cloud.cinder, "POST", "/volumes", {"volume": body})
            except Exception as error:
                # Where the operator's role was taken away meanwhile, Cinder itself answers 401, or 400, 403 or
                # 404 for what Glance answered it; nothing was made then.
                refused = http_status(error) in (400, 401, 403, 404)
                if not refused or not self.cloud.renew_tenant(tenant_id):
                    raise
                made = call(tenant_cloud.cinder, "POST", "/volumes", {"volume": body})
        return str(made["volume"]["id"])

    def _body(self, data: Json, image_id: str) -> Json:
        body = {
            "name": data["name"],
            "description": data["description"],
            "size": data["size"],
            "volume_type": at_destination(data["volume_type"], self.types, volume_types(self.cloud)),
            "availability_zone": at_destination(data["availability_zone"], self.zones, zones(self.cloud)),
            "metadata": {**data["metadata"], STAMP: data["id"], UNFINISHED: data["attempt"]},
            "imageRef": image_id,
        }
        return {key: value for key, value in body.items() if value is not None}

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Json]) -> None:
        """Wait until it has its bytes, and give it what Cinder took from the image or leaves unset."""
        title = f"volume {data['name'] or data['id']} being filled"
        volume = wait_for_item(
            self.cloud,
            VOLUMES,
            _tenant(data, ensured),
            destination_id,
            lambda found: found["status"] in _MIGRATABLE,
            title=title,
        )
        _set_image_metadata(self.cloud, volume, data["image_metadata"])
        if _is_bootable(volume) != data["bootable"]:
            act(self.cloud, destination_id, "os-set_bootable", bootable=data["bootable"])
        if is_readonly(volume) != data["readonly"] and volume["status"] == "available":
            act(self.cloud, destination_id, "os-update_readonly_flag", readonly=data["readonly"])

    def remove(self, destination_id: str) -> None:
        """Delete the volume when its server has let it go."""
        volume = _volume(self.cloud, destination_id)
        remove(self.cloud, VOLUMES, volume["os-vol-tenant-attr:tenant_id"], destination_id)


class AttachVolume(BaseCloudTask):
    """Attaches the volume to its server at the destination, unless the server was booted with it.

    device: the name that the server knows it by.
    """

    def __init__(self, cloud: Cloud, *, device: str | None, **kwargs: Any) -> None:
        super().__init__(cloud, **kwargs)
        self.device = device

    def execute(self, data: Json, volume: Json, server: Json) -> Json:
        """Attach it and wait; provides whether it had to."""
        attached = self._is_attached(volume["id"], server["id"])
        if not attached:
            self._attach(volume["id"], server["id"])
        title = f"volume {data['name'] or data['id']} becoming attached"
        found = _volume(self.cloud, volume["id"])
        wait_for_item(
            self.cloud,
            VOLUMES,
            found["os-vol-tenant-attr:tenant_id"],
            volume["id"],
            lambda item: bool(item["status"] == "in-use"),
            title=title,
            timeout_s=COPY_TIMEOUT_S,
        )
        return {"id": volume["id"], "made": not attached}

    def revert(self, result: Any, data: Json, volume: Json, server: Json, **_: Any) -> Json | None:
        """Detach it, if this attached it; what is not known to be is undone with the server or the volume."""
        made = isinstance(result, dict) and result["made"]
        return kept(undo(self.name, self._detach, volume["id"], server["id"])) if made else None

    def _is_attached(self, volume_id: str, server_id: str) -> bool:
        found = self.cloud.nova.volumes.get_server_volumes(server_id)
        return any(attachment.volumeId == volume_id for attachment in found)

    def _attach(self, volume_id: str, server_id: str) -> None:
        attach = self.cloud.nova.volumes.create_server_volume
        try:
            attach(server_id, volume_id, self.device)
        except Exception as error:
            # The name is taken at the destination, or no hypervisor of it lets it be chosen.
            if http_status(error) not in (400, 409) or not self.device:
                raise
            attach(server_id, volume_id)

    def _detach(self, volume_id: str, server_id: str) -> None:
        self.cloud.nova.volumes.delete_server_volume(server_id, volume_id)
        volume = _volume(self.cloud, volume_id)
        tenant_id = volume["os-vol-tenant-attr:tenant_id"]
        title = f"volume {volume_id} becoming detached"
        wait_until_available(self.cloud, VOLUMES, tenant_id, volume_id, title=title)


class CompleteVolume(BaseCloudTask):
    """Takes the mark off a volume that says that something is left to do for it."""

    def execute(self, volume: Json, removed: Json, **_: Any) -> Json:
        """Delete the metadata key."""
        try:
            call(self.cloud.cinder, "DELETE", f"/volumes/{volume['id']}/metadata/{UNFINISHED}")
        except Exception as error:
            if http_status(error) != 404:
                raise
        return {"id": volume["id"]}


def _volumes(cloud: Cloud, volume_id: str) -> list[Json]:
    """The volume of that id, if there is one."""
    try:
        return [_volume(cloud, volume_id)]
    except Exception as error:
        if http_status(error) == 404:
            return []
        raise


def _volume(cloud: Cloud, volume_id: str) -> Json:
    found: Json = call(cloud.cinder, "GET", f"/volumes/{volume_id}")["volume"]
    return found


def _tenant(data: Json, ensured: Mapping[str, Json]) -> str:
    return ensured_id(ensured, "tenant", data["tenant_id"])


def _set_image_metadata(cloud: Cloud, volume: Json, wanted: Json) -> None:
    """Replace what a volume says of the image that it was made from."""
    actual = volume.get("volume_image_metadata", {})
    for key in sorted(actual.keys() - wanted.keys()):
        act(cloud, volume["id"], "os-unset_image_metadata", key=key)
    missing = {key: value for key, value in wanted.items() if actual.get(key) != value}
    if missing:
        act(cloud, volume["id"], "os-set_image_metadata", metadata=missing)


def _is_bootable(volume: Json) -> bool:
    return str(volume["bootable"]).lower() == "true"


def _data(volume: Json) -> Json:
    image_metadata = volume.get("volume_image_metadata", {})
    return {
        **{key: volume[key] for key in ("id", "size", "status", "volume_type", "availability_zone")},
        "name": volume["name"] or "",
        "description": volume["description"],
        "metadata": own_metadata(volume),
        "image_metadata": {key: value for key, value in image_metadata.items() if key not in _REFERENCES},
        "bootable": _is_bootable(volume),
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
    )


def _skip(volume: Json) -> str:
    if volume["status"] not in _MIGRATABLE:
        return f"its status is {volume['status']}: bring it to available or in-use, then plan again"
    if volume["encrypted"]:
        return (
            "it is encrypted, and its key lies in the source's Barbican: "
            "retype it to a type without encryption, or copy its files in a guest"
        )
    return ""


def _notes(volume: Json, volume_type: Json) -> Iterable[str]:
    references = [key for key in _REFERENCES if key in volume.get("volume_image_metadata", {})]
    if references:
        yield f"from which image it was made ({', '.join(references)}) is not carried: the id is the source's"
    if volume_type.get("qos_specs_id"):
        yield f"the QoS of its type {volume['volume_type']} is not carried: give it to the destination's type"
    if volume.get("consistencygroup_id"):
        yield "its consistency group is not carried: make a group at the destination"
    if volume.get("replication_status") not in (None, "disabled", "not-capable"):
        yield "its replication is not carried: give it a type that replicates"


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
    zone = data["availability_zone"]
    if at_destination(zone, mappings["availability_zones"], there) is None:
        notes.append(f"its availability zone {zone} is not at the destination, which chooses one")
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
    """The stamped volume, or else those of the same name that are not the twins of others."""
    sound = [volume for volume in volumes if volume["status"] != "deleting" and not _is_left(volume, "")]
    ours = [volume for volume in sound if _is_twin(volume, record.ref.id)]
    others = [v for v in sound if STAMP not in v["metadata"] and record.name and v["name"] == record.name]
    return [_twin(record, volume) for volume in ours or others]


def _is_twin(volume: Json, source_id: str) -> bool:
    return bool(volume["metadata"].get(STAMP) == source_id and ATTEMPT not in volume["metadata"])


def _is_left(volume: Json, attempt: str) -> bool:
    """Whether a volume was left half made: by another attempt before any server had it, or by Cinder."""
    made_by = volume["metadata"].get(UNFINISHED)
    if made_by is None or volume["attachments"]:
        return False
    return bool(made_by != attempt or volume["status"].startswith("error"))


def _twin(record: Record, volume: Json) -> Twin:
    found = differences(record.data, _data(volume), FIELDS)
    if volume["status"].startswith("error"):
        found = (f"its status is {volume['status']}", *found)
    unfinished = "an earlier run ended before it was complete" if UNFINISHED in volume["metadata"] else ""
    return Twin(volume["id"], _is_twin(volume, record.ref.id), found, unfinished)

"""Snapshots of volumes, where a policy asks for them: each arrives as a volume of its own with the bytes of then.

Cinder cannot be given a snapshot of a volume as that was earlier, only volumes; nobody has to have them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from taskflow import task

from pumphouse.cloud import call, or_none
from pumphouse.model import Json, Record, Ref, Step, Twin, symbol
from pumphouse.tasks.base import STAMP, BaseRetrieveTask, Migration, Search, ensure, retrieve
from pumphouse.tasks.cinder.common import ATTEMPT, SNAPSHOTS, VOLUMES, own_metadata, owned, remove
from pumphouse.tasks.cinder.volume_copy import copy_tasks, image_of, removal_task
from pumphouse.tasks.cinder.volume_format import with_formats
from pumphouse.tasks.cinder.volume_make import (
    WITHOUT_IMAGE,
    CompleteVolume,
    EnsureVolume,
    candidates,
    is_bootable,
    is_twin,
    unfinished_why,
    unmark,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.kind import Kind

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "volume_snapshot"
_GIB = 1 << 30
_OWNER = "os-extended-snapshot-attributes:project_id"
NOT_ASKED = "snapshots of volumes are carried only when policies.volume_snapshots is copy"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The snapshots of the tenant's volumes, without those that a migration takes for a while."""
    snapshots = [s for s in owned(source, SNAPSHOTS, tenant_id) if ATTEMPT not in s["metadata"]]
    volumes = {v["id"]: v for v in owned(source, VOLUMES, tenant_id)} if snapshots else {}
    return [_record(snapshot, tenant_id, volumes.get(snapshot["volume_id"], {})) for snapshot in snapshots]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """Snapshots by id, two calls each: Cinder lists by id only one."""
    return {snapshot_id: record for snapshot_id in ids for record in _records(source, snapshot_id)}


def apply_policies(record: Record, policies: Mapping[str, Any]) -> Record:
    """The record as the policy for snapshots makes it."""
    policy = policies.get("volume_snapshots")
    return record if policy == "copy" else replace(record, skip=NOT_ASKED, settled=policy == "leave")


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The volume that carries the stamp, else those of the same name; not what a run left half made."""
    tenants = {record.ref: search.ids.get(Ref("tenant", record.data["tenant_id"])) for record in records}
    volumes = {t: owned(search.destination, VOLUMES, t) for t in set(tenants.values()) if t}
    return {record.ref: _twins(record, volumes.get(tenants[record.ref] or "", [])) for record in records}


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the snapshot, make a volume of it, copy that through an image; clean up."""
    ref, title, mappings = step.ref, step.record.title, migration.settings["mappings"]
    is_new = step.destination_id is None
    create = ensure(
        EnsureVolume,
        [migration.destination],
        step,
        line=f"create a volume with the bytes of {title}",
        **(image_of(migration, step) if is_new else WITHOUT_IMAGE),
        types=mappings["volume_types"],
        zones=mappings["availability_zones"],
    )
    removal = removal_task(migration, step)
    complete = CompleteVolume(
        migration.destination,
        source_id=ref.id,
        provides=symbol(ref, "completed"),
        rebind=[symbol(ref, "ensured"), removal.name],
        line=f"mark the volume of {title} as complete",
    )
    copies = copy_tasks(migration, step) if is_new else []
    return [retrieve(RetrieveVolumeSnapshot, migration, step), *copies, create, removal, complete]


class RetrieveVolumeSnapshot(BaseRetrieveTask):
    """Reads a snapshot of the source, as the volume that it becomes."""

    def execute(self, resource_id: str) -> Json:
        """Its fields, and a name for the attempt."""
        return {**self.retrieve(resource_id), "attempt": uuid4().hex}

    def retrieve(self, resource_id: str) -> Json:
        """Its fields."""
        return self.cloud.batch(fetch).get(resource_id).data


def _records(source: Cloud, snapshot_id: str) -> list[Record]:
    snapshot = or_none(_get, source, f"/snapshots/{snapshot_id}", "snapshot")
    volume = snapshot and or_none(_get, source, f"/volumes/{snapshot['volume_id']}", "volume")
    return [_record(snapshot, snapshot.get(_OWNER, source.project_id), volume)] if snapshot and volume else []


def _get(source: Cloud, path: str, key: str) -> Json:
    found: Json = call(source.cinder, "GET", path)[key]
    return found


def _record(snapshot: Json, tenant_id: str, volume: Json) -> Record:
    data = {
        **{key: snapshot[key] for key in ("id", "size", "status", "description", "volume_id")},
        "name": snapshot["name"] or "",
        "tenant_id": tenant_id,
        "metadata": own_metadata(snapshot),
        "volume_type": volume.get("volume_type"),
        "availability_zone": volume.get("availability_zone"),
        "bootable": is_bootable(volume) if volume else False,
        "image_metadata": {},
        "readonly": False,
        "attachments": [],
    }
    return Record(
        Ref(NAME, snapshot["id"]),
        data["name"],
        data,
        (Ref("tenant", tenant_id),),
        size_bytes=snapshot["size"] * _GIB,
        notes=(f"the snapshot of volume {snapshot['volume_id']} becomes a volume with its bytes",),
        skip=_skip(snapshot, volume),
        answer=snapshot,
    )


def _skip(snapshot: Json, volume: Json) -> str:
    if snapshot["status"] != "available":
        return f"its status is {snapshot['status']}: bring it to available, then plan again"
    if volume.get("encrypted"):
        return "its volume is encrypted, and the key lies in the source's Barbican"
    return ""


def _twins(record: Record, volumes: Sequence[Json]) -> list[Twin]:
    return [_twin(record, volume) for volume in candidates(record, volumes)]


def _twin(record: Record, volume: Json) -> Twin:
    unfinished = unfinished_why(record, volume)
    return Twin(volume["id"], is_twin(volume, record.ref.id), unfinished=unfinished)


def strangers(cloud: Cloud, tenant_id: str) -> list[str]:
    """The snapshots of a tenant that no migration has made."""
    return [item["id"] for item in owned(cloud, SNAPSHOTS, tenant_id) if STAMP not in item["metadata"]]


KIND = Kind(
    NAME,
    "block-storage",
    discover,
    fetch,
    find,
    tasks,
    moved_by=("image",),
    renamable=True,
    acts_in_tenant=True,
    apply_policies=apply_policies,
    adapt=with_formats,
    strangers=strangers,
    unmark=unmark,
    remove=lambda cloud, record: remove(cloud, SNAPSHOTS, record.data["tenant_id"], record.ref.id),
    becomes="volume",
    fields=Fields(
        carried="name description size metadata",
        mapped={"os-extended-snapshot-attributes:project_id": "the tenant's twin"},
        derived="id status volume_id user_id created_at updated_at consumes_quota "
        "os-extended-snapshot-attributes:progress",
        noted={"group_snapshot_id": "that it belongs to the group snapshot {value} is not carried"},
        summary="becomes a volume with its bytes where `policies.volume_snapshots` is `copy`",
    ),
)

"""The root disk of a server: an image taken at the source and copied, gone from both sides when it has served."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.cloud.wait import wait_for
from pumphouse.errors import PumphouseError, WaitError, explain
from pumphouse.model import Json, Step, symbol
from pumphouse.tasks.base import (
    NAME_MAX_LENGTH,
    STAMP,
    BaseCloudsTask,
    BaseCloudTask,
    Migration,
    create_or_find,
    kept_result,
    persistently,
    why_not_removed,
    why_not_undone,
)
from pumphouse.tasks.glance.common import (
    BOOT_IMAGES,
    EnsureImage,
    UploadImage,
    image_data,
    images_by_id,
    is_snapshot,
    list_images,
)
from pumphouse.tasks.kind import Temporary
from pumphouse.tasks.nova.common import wait_until_idle
from pumphouse.tasks.nova.shelved import FindShelvedImage, is_shelved
from pumphouse.words import size

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

TAKEN, RETRIEVED, ENSURED, UPLOADED, REMOVED = (
    "snapshot-taken",
    "snapshot-retrieved",
    "snapshot-ensured",
    "snapshot-uploaded",
    "snapshot-removed",
)
# The properties that say of which attempt a snapshot is, and, at the destination, of which server.
ATTEMPT, SERVER = "pumphouse_attempt", "pumphouse_server_id"
PREFIX = "pumphouse-"
# An image of a disk of some terabytes takes hours where storage copies it block by block.
SNAPSHOT_TIMEOUT_S = 24 * 3600.0


def copy_tasks(migration: Migration, step: Step, still: str) -> list[task.Task]:
    """The tasks before a server boots from the snapshot of its disk.

    still: the symbol of the task after which the disk does not change any more.
    """
    ref, title = step.ref, step.record.title
    boot_images = [need for need in step.record.needs if need.kind == "image"]
    taken, retrieved, ensured = (symbol(ref, verb) for verb in (TAKEN, RETRIEVED, ENSURED))
    server, tenant = symbol(ref, "retrieved"), _tenant_symbol(step)
    clouds, is_kept = (migration.source, migration.destination), is_shelved(step.record.data)
    take, line = (
        (FindShelvedImage, f"find the image of {title}, which is shelved")
        if is_kept
        else (TakeSnapshot, f"take a snapshot of {title}")
    )
    return [
        take(migration.source, provides=taken, rebind=[server, still], line=line),
        RetrieveSnapshot(
            migration.source,
            boot_images=[need.id for need in boot_images],
            provides=retrieved,
            rebind=[server, taken],
            line=f"read the snapshot of {title}",
        ),
        EnsureImage(
            migration.destination,
            provides=ensured,
            rebind={"data": retrieved},
            requires=[tenant, *(symbol(need, "ensured") for need in boot_images)],
            line=f"create an image for the snapshot of {title}",
        ),
        UploadImage(
            *clouds,
            migration.transfers,
            provides=symbol(ref, UPLOADED),
            rebind=[retrieved, ensured],
            line=f"copy the snapshot of {title}, at most {size(step.record.size_bytes)}",
        ),
    ]


def temporaries(source: Cloud) -> list[Temporary]:
    """The snapshots of servers that tasks have taken for as long as a copy takes."""
    images = list_images(source, owner=source.project_id)
    return [
        Temporary(
            f"image {image['id']} ({image['name']})",
            image[STAMP],
            image[ATTEMPT],
            partial(source.glance.images.delete, image["id"]),
        )
        for image in images
        if str(image["name"]).startswith(PREFIX)
        and is_snapshot(image)
        and image.get(ATTEMPT)
        and image.get(STAMP) == image["instance_uuid"]
    ]


def removal_tasks(migration: Migration, step: Step, settled: str) -> list[task.Task]:
    """The task after a server has come to its state; none when the snapshots are to be kept."""
    if migration.policies["keep_snapshots"]:
        return []
    removed, server = symbol(step.ref, REMOVED), symbol(step.ref, "retrieved")
    line = f"remove the snapshot of {step.record.title} from both clouds"
    clouds = migration.source, migration.destination
    return [RemoveSnapshot(*clouds, provides=removed, rebind=[server, settled], line=line)]


def _tenant_symbol(step: Step) -> str:
    """The symbol of the tenant that a step needs."""
    return next(symbol(need, "ensured") for need in step.record.needs if need.kind == "tenant")


class TakeSnapshot(BaseCloudTask):
    """Takes an image of a server's disk at the source.

    Only the attempt that the server was read for may use it: one of an earlier attempt, or of an earlier run,
    would have the disk as it was then.
    """

    def execute(self, data: Json, still: Json) -> Json:
        """Take it, unless this attempt has before it died, and wait for it; provides its id."""
        image_id = self._find(data) or self._take(data)
        self._wait(data, image_id)
        return {"id": image_id}

    def revert(self, result: Any, data: Json, **_: Any) -> Json | None:
        """Delete it, also when it is not finished."""
        if isinstance(result, dict):
            return kept_result(why_not_undone(self.name, self.cloud.glance.images.delete, result["id"]))
        return kept_result(why_not_undone(self.name, self._remove_all, data))

    def _remove_all(self, data: Json) -> None:
        for image in self._of_attempt(data):
            self.cloud.glance.images.delete(image["id"])

    def _of_attempt(self, data: Json) -> list[Mapping[str, Any]]:
        return list_images(self.cloud, **{STAMP: data["id"], ATTEMPT: data["attempt"]})

    def _find(self, data: Json) -> str | None:
        usable = (
            image for image in self._of_attempt(data) if image["status"] in ("active", "queued", "saving")
        )
        newest = max(usable, key=lambda image: str(image["created_at"]), default=None)
        return str(newest["id"]) if newest else None

    def _take(self, data: Json) -> str:
        """Have Nova take it, when it is done with what it may still do for an attempt that died."""
        wait_until_idle(self.cloud, data["tenant_id"], data["id"])
        name = f"{PREFIX}{data['name']}"[:NAME_MAX_LENGTH]
        stamps = {STAMP: data["id"], ATTEMPT: data["attempt"]}

        def create() -> str:
            return str(self.cloud.nova.servers.create_image(data["id"], name, metadata=stamps))

        return create_or_find(create, lambda: self._find(data))

    def _wait(self, data: Json, image_id: str) -> None:
        def done(image: Mapping[str, Any] | None) -> bool:
            if image is None or image["status"] in ("killed", "deleted", "pending_delete"):
                raise WaitError(
                    f"the source's Nova gave up the snapshot of server {data['name']}",
                    f"look for the reason in: openstack server event list {data['id']}",
                )
            return bool(image["status"] == "active")

        batch = self.cloud.batch(images_by_id)
        wait_for(batch, image_id, done, title=f"snapshot of {data['name']}", timeout_s=SNAPSHOT_TIMEOUT_S)


class RetrieveSnapshot(BaseCloudTask):
    """Reads the image record of a server's snapshot, as one of the server's tenant.

    boot_images: the ids of the kernel and ramdisk images that the plan carries for it.
    """

    def __init__(self, cloud: Cloud, *, boot_images: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(cloud, **kwargs)
        self.boot_images = boot_images

    def execute(self, server: Json, taken: Json) -> Json:
        """Its fields; KeyError when it is gone."""
        image = self.cloud.batch(images_by_id).get(taken["id"])
        data = image_data(image)
        unseen = [data[key] for key in BOOT_IMAGES if data.get(key, "") not in ("", *self.boot_images)]
        if unseen:
            raise PumphouseError(
                f"server {server['name']} boots by images outside its disk that only administrators are shown: "
                + ", ".join(unseen),
                "set policies.root_disk to image for it, or use the login of an administrator of the source",
            )
        properties = {**data["properties"], SERVER: server["id"], ATTEMPT: server["attempt"]}
        return {**data, "properties": properties, "owner": server["tenant_id"], "visibility": "private"}


class RemoveSnapshot(BaseCloudsTask):
    """Removes the snapshots of a server that have served, at both clouds, also those of attempts that died."""

    def execute(self, data: Json, settled: Json) -> Json:
        """Delete them; what cannot be deleted is a note, because the server has arrived all the same."""
        notes = _delete_all(self.source, **{STAMP: data["id"]})
        notes += _delete_all(self.destination, **{SERVER: data["id"]})
        return {"notes": notes}


def _delete_all(cloud: Cloud, **stamp: str) -> list[str]:
    try:
        images = persistently(list_images, cloud, **stamp)
    except Exception as error:
        return [f"its snapshots at the {cloud.name} could not be looked for: {explain(error)}"]
    (source_id,) = stamp.values()
    return [note for image in images if _is_ours(image, source_id) and (note := _delete(cloud, image["id"]))]


def _is_ours(image: Mapping[str, Any], source_id: str) -> bool:
    # A snapshot that a user takes of the server at the destination inherits the properties of the image it
    # was booted from, and says which server it is of.
    return image.get("instance_uuid") in (None, source_id)


def _delete(cloud: Cloud, image_id: str) -> str:
    why = why_not_removed(cloud.glance.images.delete, image_id)
    return f"its snapshot {image_id} stays behind at the {cloud.name}: {why}" if why else ""

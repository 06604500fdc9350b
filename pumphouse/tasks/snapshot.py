"""The root disk of a server: an image taken at the source and copied, gone from both sides when it has served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.errors import PumphouseError, WaitError, explain, http_status
from pumphouse.model import Json, Step
from pumphouse.tasks.base import STAMP, BaseCloudsTask, BaseCloudTask, Migration, symbol, undo
from pumphouse.tasks.glance import EnsureImage, UploadImage, image_data, images_by_id, list_images
from pumphouse.wait import wait_for

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

TAKEN, RETRIEVED, ENSURED, UPLOADED, REMOVED = (
    "snapshot-taken",
    "snapshot-retrieved",
    "snapshot-ensured",
    "snapshot-uploaded",
    "snapshot-removed",
)
# An image of a disk of some terabytes takes hours where storage copies it block by block.
SNAPSHOT_TIMEOUT_S = 24 * 3600.0


def snapshot_tasks(
    migration: Migration, step: Step, still: str, settled: str
) -> tuple[list[task.Task], list[task.Task]]:
    """The tasks before a server boots from the snapshot of its disk, and those after.

    still: the symbol of the task after which the disk does not change any more.
    settled: the symbol of the task after which the snapshot is not needed any more.
    """
    ref, title = step.ref, step.record.title
    taken, retrieved, ensured = (symbol(ref, verb) for verb in (TAKEN, RETRIEVED, ENSURED))
    server, tenant = symbol(ref, "retrieved"), _tenant_symbol(step)
    clouds = migration.source, migration.destination
    first: list[task.Task] = [
        TakeSnapshot(
            migration.source, provides=taken, rebind=[server, still], line=f"take a snapshot of {title}"
        ),
        RetrieveSnapshot(
            migration.source, provides=retrieved, rebind=[server, taken], line=f"read the snapshot of {title}"
        ),
        EnsureImage(
            migration.destination,
            provides=ensured,
            rebind={"data": retrieved},
            requires=[tenant],
            line=f"create an image for the snapshot of {title}",
        ),
        UploadImage(
            *clouds,
            migration.transfers,
            provides=symbol(ref, UPLOADED),
            rebind=[retrieved, ensured],
            line=f"copy the snapshot of {title}, at most {step.record.size_bytes} bytes",
        ),
    ]
    if migration.policies["keep_snapshots"]:
        return first, []
    removed = symbol(ref, REMOVED)
    line = f"remove the snapshot of {title} from both clouds"
    return first, [RemoveSnapshot(*clouds, provides=removed, rebind=[taken, ensured, settled], line=line)]


def _tenant_symbol(step: Step) -> str:
    """The symbol of the tenant that a step needs."""
    return next(symbol(need, "ensured") for need in step.record.needs if need.kind == "tenant")


class TakeSnapshot(BaseCloudTask):
    """Takes an image of a server's disk at the source."""

    def execute(self, data: Json, still: Json) -> Json:
        """Take it, unless one is under way or there, and wait for it; provides its id."""
        image_id = self._find(data["id"]) or self._take(data)
        try:
            self._wait(data, image_id)
        except BaseException:
            undo(self.name, self.cloud.glance.images.delete, image_id)
            raise
        return {"id": image_id}

    def revert(self, result: Any, **_: Any) -> None:
        """Delete it."""
        if isinstance(result, dict):
            undo(self.name, self.cloud.glance.images.delete, result["id"])

    def _find(self, server_id: str) -> str | None:
        images = list_images(self.cloud, **{STAMP: server_id})
        usable = [image["id"] for image in images if image["status"] in ("active", "queued", "saving")]
        return str(usable[0]) if usable else None

    def _take(self, data: Json) -> str:
        name = f"pumphouse-{data['name']}"
        return str(self.cloud.nova.servers.create_image(data["id"], name, metadata={STAMP: data["id"]}))

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
    """Reads the image record of a server's snapshot, as one of the server's tenant."""

    def execute(self, server: Json, taken: Json) -> Json:
        """Its fields; KeyError when it is gone."""
        image = self.cloud.batch(images_by_id).get(taken["id"])
        if image.get("kernel_id"):
            raise PumphouseError(
                f"server {server['name']} boots by a kernel image outside its disk, which is not carried",
                "set policies.root_disk to image for it",
            )
        return {**image_data(image), "owner": server["tenant_id"], "visibility": "private"}


class RemoveSnapshot(BaseCloudsTask):
    """Removes a snapshot that has served, at the source and at the destination."""

    def execute(self, taken: Json, ensured: Json, settled: Json) -> Json:
        """Delete both; what cannot be deleted is a note, because the server has arrived all the same."""
        notes = [_delete(self.source, taken["id"]), _delete(self.destination, ensured["id"])]
        return {"notes": [note for note in notes if note]}


def _delete(cloud: Cloud, image_id: str) -> str:
    try:
        cloud.glance.images.delete(image_id)
    except Exception as error:
        if http_status(error) != 404:
            return f"its snapshot {image_id} stays behind at the {cloud.name}: {explain(error)}"
    return ""

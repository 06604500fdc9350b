"""The way of a volume's bytes: an image of it at the source, copied, gone from both sides when it has served.

What is attached cannot be made an image of: a snapshot of it is taken, and a volume made from that. These
belong to the operator's own project, so that the tenant's quota need not hold them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from taskflow import task
from taskflow.types.notifier import register_deregister

from pumphouse.cloud import call
from pumphouse.cloud.wait import wait_for
from pumphouse.errors import ConversionError, explain, http_status
from pumphouse.model import Json, Ref, Step, symbol
from pumphouse.tasks.base import (
    STAMP,
    BaseCloudsTask,
    BaseCloudTask,
    Ensured,
    Migration,
    create_or_find,
    kept_result,
    persistently,
    why_not_removed,
    why_not_undone,
)
from pumphouse.tasks.cinder.common import (
    ATTEMPT,
    COPY_TIMEOUT_S,
    SNAPSHOTS,
    STATE_TIMEOUT_S,
    VOLUMES,
    act,
    owned,
    remove,
    volumes_by_key,
    wait_until_available,
)
from pumphouse.tasks.cinder.volume_format import (
    QCOW2,
    QCOW2_SIZE_END,
    RAW,
    check_size,
    copied_as,
    may_fall_back,
)
from pumphouse.tasks.glance.common import EnsureImage, UploadImage, image_data, images_by_id, list_images
from pumphouse.tasks.glance.transfer import read_head
from pumphouse.tasks.kind import Temporary
from pumphouse.words import size

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

SNAPSHOT, CLONE, EXPORTED, READ, IMAGE, UPLOADED, REMOVED = (
    "snapshot-taken",
    "cloned",
    "exported",
    "image-retrieved",
    "image-ensured",
    "image-uploaded",
    "copies-removed",
)
# The property that says, at the destination, of which volume an image is.
VOLUME = "pumphouse_volume_id"
# How a note begins on a volume that is copied otherwise than planned.
RAW_AFTER_ALL = "copied as raw after all"

# What served: its title, the cloud it is at, and what deletes it.
Copy = tuple[str, "Cloud", Callable[[], Any]]


def copy_tasks(migration: Migration, step: Step) -> list[task.Task]:
    """The tasks before a volume is made from an image of it."""
    ref, title, source = step.ref, step.record.title, migration.source
    tenant = symbol(Ref("tenant", step.record.data["tenant_id"]), "ensured")
    exported, read, image = (symbol(ref, verb) for verb in (EXPORTED, READ, IMAGE))
    disk_format = copied_as(migration, step.record)
    return [
        *_still_tasks(source, step),
        ExportVolume(
            source,
            provides=exported,
            rebind=[symbol(ref, "retrieved"), _origin(step)],
            disk_format=disk_format,
            unconverted=migration.unconverted if may_fall_back(migration, step.record) else None,
            line=f"make an image of {title} at the source, as {disk_format}",
        ),
        RetrieveExport(
            source,
            provides=read,
            rebind=[symbol(ref, "retrieved"), exported],
            line=f"read the image of {title}",
        ),
        EnsureImage(
            migration.destination,
            provides=image,
            rebind={"data": read},
            requires=[tenant],
            line=f"create an image for {title}",
        ),
        UploadImage(
            source,
            migration.destination,
            migration.transfers,
            provides=symbol(ref, UPLOADED),
            rebind=[read, image],
            line=f"copy the image of {title}, at most {size(step.record.size_bytes)}",
        ),
    ]


def image_of(migration: Migration, step: Step) -> dict[str, Any]:
    """What the task that makes a volume is given to make it from its image, once that is copied."""
    image, read, uploaded = (symbol(step.ref, verb) for verb in (IMAGE, READ, UPLOADED))
    given = {"image_symbol": image, "also_requires": [image, uploaded], "raw_copy": None}
    if not may_fall_back(migration, step.record):
        return given
    needed = [image, read, uploaded, _origin(step)]
    return {**given, "also_requires": needed, "raw_copy": RawCopy(migration, step)}


def _origin(step: Step) -> str:
    """The symbol of the volume that an image is made of: the volume itself, or its clone."""
    return symbol(step.ref, CLONE if _must_be_cloned(step) else "retrieved")


def _must_be_cloned(step: Step) -> bool:
    return step.ref.kind != "volume" or step.record.data["status"] != "available"


def removal_task(migration: Migration, step: Step) -> task.Task:
    """The task after a volume has its bytes."""
    return RemoveCopies(
        migration.source,
        migration.destination,
        provides=symbol(step.ref, REMOVED),
        rebind=[symbol(step.ref, "retrieved"), symbol(step.ref, "ensured")],
        line=f"remove the copies of {step.record.title} from both clouds",
    )


def temporaries(source: Cloud) -> list[Temporary]:
    """The images, clones and snapshots that tasks have made at the source for as long as a copy takes."""
    if not source.has("block-storage"):
        return []
    images = list_images(source, owner=source.project_id)
    exports = [(image, found) for image in images if (found := _EXPORT.fullmatch(image["name"] or ""))]
    return [
        *(
            Temporary(f"image {image['id']} ({image['name']})", found[1], found[2], _image(source, image)[2])
            for image, found in exports
        ),
        *(copy for what in (VOLUMES, SNAPSHOTS) for copy in _temporary_copies(source, what)),
    ]


def _temporary_copies(source: Cloud, what: str) -> Iterator[Temporary]:
    """The clones are listed before the snapshots that they were made from."""
    for item in owned(source, what, source.project_id):
        source_id = item["metadata"].get(STAMP)
        if _attempt(item) and item["name"] == f"pumphouse-{source_id}":
            delete = partial(remove, source, what, source.project_id, item["id"])
            yield Temporary(f"{what.removesuffix('s')} {item['id']}", source_id, _attempt(item), delete)


def _still_tasks(source: Cloud, step: Step) -> list[BaseCloudTask]:
    """The tasks that make a volume that can be made an image of; none when it is one itself."""
    if not _must_be_cloned(step):
        return []
    ref, title = step.ref, step.record.title
    retrieved, taken = symbol(ref, "retrieved"), symbol(ref, SNAPSHOT)
    clone = f"make a volume from {'the snapshot of ' if ref.kind == 'volume' else ''}{title} at the source"
    if ref.kind != "volume":
        return [CloneVolume(source, provides=symbol(ref, CLONE), rebind=[retrieved, retrieved], line=clone)]
    snapshot = SnapshotVolume(
        source, provides=taken, rebind=[retrieved], line=f"take a snapshot of {title} at the source"
    )
    servers = {attached["server_id"] for attached in step.record.data["attachments"]}
    snapshot.after = tuple(symbol(Ref("server", server_id), "stopped") for server_id in sorted(servers))
    return [snapshot, CloneVolume(source, provides=symbol(ref, CLONE), rebind=[retrieved, taken], line=clone)]


class _Copy(BaseCloudTask):
    """Makes a snapshot or a volume at the source; only the attempt that the volume was read for may use it."""

    what: ClassVar[str]

    def ensure(self, data: Json, path: str, **body: Any) -> Json:
        """Make it, unless this attempt has before it died, and wait for it; provides its id and tenant."""
        item_id = self._find(data) or self._make(data, path, body)
        tenant_id = self.cloud.project_id
        title = f"{self.what} made for volume {data['name'] or data['id']}"
        wait_until_available(self.cloud, self.what, tenant_id, item_id, title=title)
        return {"id": item_id, "tenant_id": tenant_id}

    def revert(self, data: Json, **_: Any) -> Json | None:
        """Delete it, also when it is not finished."""
        return kept_result(why_not_undone(self.name, self._remove_all, data))

    def _remove_all(self, data: Json) -> None:
        for item in self._of_attempt(data):
            remove(self.cloud, self.what, self.cloud.project_id, item["id"])

    def _of_attempt(self, data: Json) -> list[Json]:
        return [item for item in _copies(self.cloud, self.what, data) if _attempt(item) == data["attempt"]]

    def _find(self, data: Json) -> str | None:
        usable = [item for item in self._of_attempt(data) if item["status"] in ("available", "creating")]
        return str(usable[0]["id"]) if usable else None

    def _make(self, data: Json, path: str, body: Mapping[str, Any]) -> str:
        stamps = {STAMP: data["id"], ATTEMPT: data["attempt"]}
        item = {"name": f"pumphouse-{data['id']}", "metadata": stamps, **body}
        key = path.removeprefix("/").removesuffix("s")

        def create() -> str:
            return str(call(self.cloud.cinder, "POST", path, {key: item})[key]["id"])

        return create_or_find(create, lambda: self._find(data))


class SnapshotVolume(_Copy):
    """Takes a snapshot of a volume at the source, although it is attached."""

    what = SNAPSHOTS

    def execute(self, data: Json) -> Json:
        """Take it and wait for it."""
        return self.ensure(data, "/snapshots", volume_id=data["id"], force=True)


class CloneVolume(_Copy):
    """Makes a volume from a snapshot at the source."""

    what = VOLUMES

    def execute(self, data: Json, snapshot: Json) -> Json:
        """Make it and wait for it."""
        return self.ensure(data, "/volumes", snapshot_id=snapshot["id"], size=data["size"])


class ExportVolume(BaseCloudTask):
    """Has Cinder make an image of a volume at the source.

    disk_format: the format of it.
    unconverted: where it is noted why volumes of a type are copied as raw after all; None where they are not.
    """

    def __init__(
        self, cloud: Cloud, *, disk_format: str, unconverted: dict[str, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(cloud, **kwargs)
        self.disk_format = disk_format
        self.unconverted = unconverted

    def execute(self, data: Json, origin: Json) -> Json:
        """Make it, unless this attempt has before it died, and wait for it; provides its id."""
        if self.unconverted is None:
            return {"id": self.export(data, origin, self.disk_format)}
        kind = data["volume_type"] or ""
        if kind not in self.unconverted and not self._find(data, RAW):
            try:
                return {"id": self.export(data, origin, self.disk_format)}
            except Exception as error:
                if not is_refusal(error):
                    raise
                why = f"the {self.cloud.name} makes no {self.disk_format} of it: {explain(error)}"
                self.unconverted[kind] = why
                self._wait_free(origin)
        why = self.unconverted.get(kind, "an interrupted attempt of this run had to")
        return {"id": self.export(data, origin, RAW), "notes": [f"{RAW_AFTER_ALL}: {why}"]}

    def export(self, data: Json, origin: Json, disk_format: str) -> str:
        """Make the image in a format, unless there is one of this attempt, and wait for it; returns its id."""
        image_id = self._find(data, disk_format) or self._export(data, origin, disk_format)
        self._wait(data, image_id)
        self._wait_free(origin)
        if disk_format == QCOW2:
            check_size(read_head(self.cloud, image_id, QCOW2_SIZE_END), data)
        return image_id

    def revert(self, data: Json, origin: Json, **_: Any) -> Json | None:
        """Delete it, also when it is not finished, and wait until the volume is free."""
        return kept_result(
            why_not_undone(self.name, self._remove_all, data),
            why_not_undone(self.name, self._wait_free, origin),
        )

    def _remove_all(self, data: Json) -> None:
        for image in self._of_attempt(data):
            self.cloud.glance.images.delete(image["id"])

    def _wait_free(self, origin: Json) -> None:
        wait_for(
            self.cloud.batch(volumes_by_key),
            f"{origin['tenant_id']}/{origin['id']}",
            lambda volume: volume is None or volume["status"] != "uploading",
            title=f"volume {origin['id']}: the end of its upload",
            timeout_s=STATE_TIMEOUT_S,
        )

    def _of_attempt(self, data: Json) -> list[Mapping[str, Any]]:
        return list_images(self.cloud, owner=self.cloud.project_id, name=_image_name(data, data["attempt"]))

    def _find(self, data: Json, disk_format: str) -> str | None:
        usable = [
            image
            for image in self._of_attempt(data)
            if image["status"] in ("active", "queued", "saving") and image["disk_format"] == disk_format
        ]
        return str(usable[0]["id"]) if usable else None

    def _export(self, data: Json, origin: Json, disk_format: str) -> str:
        body = {"image_name": _image_name(data, data["attempt"]), "disk_format": disk_format}

        def create() -> str:
            made = act(self.cloud, origin["id"], "os-volume_upload_image", container_format="bare", **body)
            return str(made["os-volume_upload_image"]["image_id"])

        return create_or_find(create, lambda: self._find(data, disk_format))

    def _wait(self, data: Json, image_id: str) -> None:
        title = f"image of volume {data['name'] or data['id']}"

        def done(image: Mapping[str, Any] | None) -> bool:
            if image is None or image["status"] in ("killed", "deleted", "pending_delete"):
                raise ConversionError(
                    f"the source's Cinder gave up the {title}",
                    f"ask for its reason: openstack volume message list --resource-id {data['id']}",
                )
            return bool(image["status"] == "active")

        wait_for(self.cloud.batch(images_by_id), image_id, done, title=title, timeout_s=COPY_TIMEOUT_S)


class RetrieveExport(BaseCloudTask):
    """Reads the image record of a volume's bytes, as one of the volume's tenant."""

    def execute(self, data: Json, exported: Json) -> Json:
        """Its fields without all that it took over from the volume, which the volume will bring itself."""
        image = image_data(self.cloud.batch(images_by_id).get(exported["id"]))
        own = {key: value for key, value in image.items() if key not in ("kernel_id", "ramdisk_id")}
        plain = {"properties": {VOLUME: data["id"]}, "min_disk": 0, "min_ram": 0, "tags": []}
        return {**own, **plain, "owner": data["tenant_id"], "visibility": "private"}


class RawCopy:
    """Copies a volume once more, as raw, where the destination could make no volume of the first image.

    The snapshot and the clone that the first was made of serve again.
    """

    def __init__(self, migration: Migration, step: Step) -> None:
        source, destination = migration.source, migration.destination
        names = {verb: symbol(step.ref, f"raw-{verb}") for verb in (EXPORTED, READ, IMAGE, UPLOADED)}
        self.unconverted = migration.unconverted
        self.read = symbol(step.ref, READ)
        self._origin = _origin(step)
        self._export = ExportVolume(source, provides=names[EXPORTED], disk_format=RAW)
        self._read = RetrieveExport(source, provides=names[READ])
        self._image = EnsureImage(destination, provides=names[IMAGE])
        self._upload = UploadImage(source, destination, migration.transfers, provides=names[UPLOADED])

    def make(
        self, data: Json, ensured: Mapping[str, Any], on_progress: Callable[[str, Any], Any]
    ) -> tuple[Ensured, int]:
        """The image at the destination, and how many bytes were copied."""
        exported = self._export.execute(data, ensured[self._origin])
        read = self._read.execute(data, exported)
        image = self._image.execute(read, **ensured)
        with register_deregister(self._upload.notifier, task.EVENT_UPDATE_PROGRESS, on_progress):
            copied = self._upload.execute(read, {**image})
        return image, copied["size_bytes"]

    def remove(self, data: Json) -> Iterator[str]:
        """Remove its image at the destination; yields why it stays. That at the source goes with the first one."""
        return _clear_away(partial(_destination_images, self._image.cloud), data)


class RemoveCopies(BaseCloudsTask):
    """Removes what served to copy a volume, at both clouds, also what attempts that died left there."""

    def execute(self, data: Json, volume: Json) -> Json:
        """Delete it; what cannot be deleted is a note, because the volume has arrived all the same."""
        finds = (
            self._exports,
            partial(_destination_images, self.destination),
            partial(self._copies, VOLUMES),
            partial(self._copies, SNAPSHOTS),
        )
        return {"notes": [note for find in finds for note in _clear_away(find, data)]}

    def _exports(self, data: Json) -> list[Copy]:
        prefix = _image_name(data, "")
        mine = list_images(self.source, owner=self.source.project_id)
        return [_image(self.source, image) for image in mine if (image["name"] or "").startswith(prefix)]

    def _copies(self, what: str, data: Json) -> list[Copy]:
        arguments = (self.source, what, self.source.project_id)
        return [
            (f"{what} {item['id']}", self.source, partial(remove, *arguments, item["id"]))
            for item in _copies(self.source, what, data)
        ]


def is_refusal(error: Exception) -> bool:
    """Whether Cinder does not take a format: it says so at once, or gives up."""
    return isinstance(error, ConversionError) or http_status(error) == 400


def _destination_images(destination: Cloud, data: Json) -> list[Copy]:
    return [_image(destination, image) for image in list_images(destination, **{VOLUME: data["id"]})]


def _image(cloud: Cloud, image: Mapping[str, Any]) -> Copy:
    return f"image {image['id']}", cloud, partial(cloud.glance.images.delete, image["id"])


def _clear_away(find: Callable[[Json], list[Copy]], data: Json) -> Iterator[str]:
    """Remove what served to copy a volume; yields why something stays behind."""
    try:
        copies = persistently(find, data)
    except Exception as error:
        yield f"copies of it could not be looked for: {explain(error)}"
        return
    for title, cloud, delete in copies:
        if why := why_not_removed(delete):
            yield f"{title}, a copy, stays behind at the {cloud.name}: {why}"


_EXPORT = re.compile("pumphouse-volume-(.+)-([0-9a-f]{32})")


def _image_name(data: Json, attempt: str) -> str:
    # Cinder takes no properties for an image that it makes: the name has to say what it is.
    return f"pumphouse-volume-{data['id']}-{attempt}"


def _copies(cloud: Cloud, what: str, data: Json) -> list[Json]:
    items = owned(cloud, what, cloud.project_id)
    return [item for item in items if item["metadata"].get(STAMP) == data["id"] and _attempt(item)]


def _attempt(item: Json) -> str:
    return str(item["metadata"].get(ATTEMPT, ""))

"""What the kinds that move bytes through Glance share: listing, custom properties, the copy."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from taskflow import task

from pumphouse.cloud import call, or_none
from pumphouse.cloud.wait import wait_for
from pumphouse.errors import TransferError, WaitError, http_status
from pumphouse.model import Json, Ref, symbol
from pumphouse.tasks.base import (
    STAMP,
    BaseCloudsTask,
    BaseEnsureTask,
    Ensured,
    differences,
    ensured_id,
    only_twin,
    stamp_tag,
    stamped,
    stamps_among,
    without_stamps,
)
from pumphouse.tasks.glance.transfer import Hashes, TransferLimits, copy_image

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

LOG = logging.getLogger(__name__)

# What an image is while Glance takes bytes, also from a connection of which it does not know that it is dead.
RECEIVING = ("saving", "uploading", "importing")
RECEIVING_TIMEOUT_S = 120.0
MIGRATABLE = ("active", "deactivated")
FIELDS = (
    "name",
    "disk_format",
    "container_format",
    "min_disk",
    "min_ram",
    "visibility",
    "protected",
    "os_hidden",
)
HASHES = ("size", "os_hash_algo", "os_hash_value", "checksum")
# The images that a server boots by besides this one.
BOOT_IMAGES = ("kernel_id", "ramdisk_id")
# What Glance writes itself and refuses from others (its reserved properties), beside what starts with `os_glance_`.
_GLANCES = {
    "id", "owner", "status", "tags", "created_at", "updated_at", "virtual_size", "file", "self", "schema",
    "direct_url", "location", "locations", "stores", "deleted", "deleted_at", *FIELDS, *HASHES,
}  # fmt: skip
# With all four of them Glance would look for the certificate in its own Barbican.
SIGNATURE = tuple(f"img_signature{part}" for part in ("", "_hash_method", "_key_type", "_certificate_uuid"))
# The key of the bytes of an image that Cinder made of an encrypted volume.
ENCRYPTION = ("cinder_encryption_key_id", "cinder_encryption_key_deletion_policy")
# What migrations write.
MIGRATIONS = (STAMP, "pumphouse_attempt", "pumphouse_server_id", "pumphouse_volume_id")
# What only means something at the source: other images, snapshots of volumes, keys, and what migrations write.
_REFERENCES = {*BOOT_IMAGES, "block_device_mapping", *SIGNATURE, *ENCRYPTION, *MIGRATIONS}
# What Nova writes into the snapshot of a server; on any other image it is its owner's.
NOVAS = (
    "base_image_ref", "bdm_v2", "boot_roles", "clean_attempts", "image_location", "image_state", "image_type",
    "instance_owner", "instance_uuid", "owner_id", "owner_project_name", "owner_user_name", "user_id",
)  # fmt: skip
# What Nova calls the image of a server that it shelves, behind the server's name.
SHELVED = "-shelved"
# Those that an image may have, one after the other, for a Glance that cannot be asked for all.
_VISIBILITIES = ("public", "community", "shared", "private")
# What is answered where a Glance, or what stands before it, does not give the schema of an image.
_NO_SCHEMA = (403, 404)
# How many properties and how many tags an image may have, as Glance is delivered (image_property_quota, image_tag_quota).
QUOTA = 128
ASK = "ask the administrator of the destination's Glance why"
_IDS_PER_CALL = 50
# How long the upload of another run is waited for: for its turn, and for its bytes at a slow rate.
_START_S = 600.0
_SLOW_BYTES_PER_S = 1 << 20
_CLOCK_STEP_S = 1.0


def takes(cloud: Cloud, disk_format: str) -> bool:
    """Whether a Glance takes images of a disk format, by the schema that it gives of them; not where it gives none."""
    try:
        schema = call(cloud.adapter("image"), "GET", "/schemas/image")
    except Exception as error:
        if http_status(error) not in _NO_SCHEMA:
            raise
        return False
    return disk_format in schema["properties"]["disk_format"].get("enum", [disk_format])


def list_images(cloud: Cloud, **filters: str) -> list[Mapping[str, Any]]:
    """All images that pass; Glance lists hidden ones, which it has since 17.0.0 (Rocky), only by themselves."""
    wanted = {"visibility": "all", **filters}
    found = [*_listed(cloud, wanted), *_listed(cloud, {**wanted, "os_hidden": "true"})]
    return list({image["id"]: image for image in found}.values())


def _listed(cloud: Cloud, filters: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """What Glance lists; of each visibility by itself where it does not know `all`, as before 18.0.0 (Stein)."""
    try:
        return list(cloud.glance.images.list(filters=dict(filters)))
    except Exception as error:
        if http_status(error) != 400:
            raise
        if filters["visibility"] == "all":
            each = [_listed(cloud, {**filters, "visibility": one}) for one in _VISIBILITIES]
            return [image for images in each for image in images]
        # There are community images since 14.0.0 (Ocata).
        if filters["visibility"] == "community":
            return []
        raise


def images_by_id(cloud: Cloud, ids: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """The images of the given ids, those that exist, by id."""
    ordered = sorted(ids)
    chunks = [ordered[n : n + _IDS_PER_CALL] for n in range(0, len(ordered), _IDS_PER_CALL)]
    found = [image for chunk in chunks for image in list_images(cloud, id=f"in:{','.join(chunk)}")]
    return {image["id"]: image for image in found}


def is_snapshot(image: Mapping[str, Any]) -> bool:
    """Whether Nova made an image, of a server."""
    return image.get("image_type") in ("snapshot", "backup") and bool(image.get("instance_uuid"))


def is_disk_of_shelved(cloud: Cloud, image: Mapping[str, Any]) -> bool:
    """Whether an image is what Nova keeps of a server for as long as that is shelved; Nova is asked where it may be."""
    if not is_snapshot(image) or not str(image["name"]).endswith(SHELVED) or not cloud.has("compute"):
        return False
    server = or_none(cloud.nova.servers.get, image["instance_uuid"])
    return server is not None and server.status.startswith("SHELVED")


def custom_properties(image: Mapping[str, Any]) -> Json:
    """The properties that somebody gave an image, without those that a cloud writes itself."""
    left_out = _GLANCES | _REFERENCES | (set(NOVAS) if is_snapshot(image) else set())
    return {
        key: value
        for key, value in image.items()
        if key not in left_out and not key.startswith("os_glance_") and value is not None
    }


def stamp_of(image: Mapping[str, Any]) -> str:
    """The source's id in the stamp of an image, a property or a tag; empty when it has none of its own.

    Nova copies the properties of an image to the snapshots of the servers that booted from it.
    """
    values = [str(image.get(STAMP) or ""), *stamps_among(image["tags"])]
    own = [stamped(value, image["id"]) for value in values if "/" in value or not is_snapshot(image)]
    return next(filter(None, own), "")


def is_twin(image: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Whether an image was made from one of the source; one that is complete has its bytes."""
    complete = image["status"] in MIGRATABLE
    return stamp_of(image) == data["id"] and not (complete and content_differences(data, image))


def image_data(image: Mapping[str, Any]) -> Json:
    """What of an image is to be carried, references as the source's ids."""
    return {
        "id": image["id"],
        "owner": image["owner"],
        "status": image["status"],
        **{key: image.get(key) for key in (*FIELDS, *HASHES)},
        **{key: image[key] for key in BOOT_IMAGES if image.get(key)},
        "tags": without_stamps(image["tags"]),
        "properties": custom_properties(image),
    }


def content_differences(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> tuple[str, ...]:
    """How the bytes of two images differ, by size and by a hash that both have."""
    fields = [field for field in HASHES if wanted.get(field) and actual.get(field)]
    if wanted.get("os_hash_algo") != actual.get("os_hash_algo"):
        fields = [field for field in fields if not field.startswith("os_hash")]
    return differences(wanted, actual, ["size", *(field for field in fields if field != "size")])


def remove(cloud: Cloud, image_id: str) -> None:
    """Delete an image, also one that is protected."""
    if cloud.glance.images.get(image_id)["protected"]:
        cloud.glance.images.update(image_id, protected=False)
    cloud.glance.images.delete(image_id)


def unmark(cloud: Cloud, image_id: str) -> None:
    """Take the marks of a migration off an image."""
    image = cloud.batch(images_by_id).get(image_id)
    tags = without_stamps(image["tags"])
    changes: Json = {} if len(tags) == len(image["tags"]) else {"tags": tags}
    if marks := [mark for mark in MIGRATIONS if mark in image]:
        changes["remove_props"] = marks
    if changes:
        cloud.glance.images.update(image_id, **changes)


class EnsureImage(BaseEnsureTask):
    """Finds or creates the image record: private and unprotected until its bytes are there.

    It notes the id of what it is going to make, which Glance lets it choose: nothing else is its own.

    common: whether the runs of several tenants may need it.
    """

    def __init__(self, *args: Any, common: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.common = common

    def execute(self, data: Json, **ensured: Ensured) -> Ensured:
        """Find or create the image; of two that runs beside each other have made, one gives way."""
        result = super().execute(data, **ensured)
        if not self.common or not result["made"] or not self._gives_way(result["id"], data, ensured):
            return result
        self.remove(result["id"])
        self.journal(False)
        return self.execute(data, **ensured)

    def _gives_way(self, image_id: str, data: Json, ensured: Mapping[str, Ensured]) -> bool:
        """Whether another run has the bytes of the image already, or began before this one and may be at work."""
        # Glance tells times in whole seconds: after one, two runs of the same second both see both images.
        self.cloud.batch(_images_by_owner).pause(_CLOCK_STEP_S)
        mine = self.cloud.glance.images.get(image_id)
        if mine["status"] in MIGRATABLE:
            return False
        return any(
            other["status"] in MIGRATABLE or (_age(other) < _age(mine) and _left_s(other, data) > 0)
            for other in self._others(data, ensured)
        )

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The image that this run noted, or the stamped one; its own whose upload died cannot be filled and is removed."""
        mine = images_by_id(self.cloud, [self.before]).get(self.before) if self.before else None
        if mine is not None and mine["status"] in ("queued", *MIGRATABLE):
            return str(mine["id"])
        if mine is not None:
            self.cloud.glance.images.delete(mine["id"])
        others = self._others(data, ensured)
        if not self.common:
            return only_twin("image", data["id"], [str(image["id"]) for image in others])
        if complete := [image for image in others if image["status"] in MIGRATABLE]:
            return str(min(complete, key=_age)["id"])
        uploading = [image for image in others if _left_s(image, data) > 0]
        if not uploading:
            return None
        self._wait_for_other(min(uploading, key=_age), data)
        return self.find(data, ensured)

    def _others(self, data: Json, ensured: Mapping[str, Ensured]) -> list[Mapping[str, Any]]:
        """The twins that this run has not made."""
        there = self.cloud.batch(_images_by_owner).get(self._owner(data, ensured))
        usable = [image for image in there if image["status"] in ("queued", *RECEIVING, *MIGRATABLE)]
        return [image for image in usable if is_twin(image, data) and image["id"] != self.before]

    def _wait_for_other(self, image: Mapping[str, Any], data: Json) -> None:
        """Wait for the bytes that another run uploads, as long as it may be at work."""

        def done(now: Mapping[str, Any] | None) -> bool:
            return now is None or now["status"] in MIGRATABLE

        title, batch = f"image {image['id']}: the upload of another run", self.cloud.batch(images_by_id)
        LOG.info("%s is waited for", title)
        with suppress(WaitError):
            wait_for(batch, image["id"], done, title=title, timeout_s=_left_s(image, data))

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """A queued image with the stamp as a property, or as a tag where Glance lets it have no more properties."""
        image_id = str(uuid4())
        self.journal(before=image_id)
        fields = {
            key: data[key]
            for key in ("name", "disk_format", "container_format", "min_disk", "min_ram", "tags")
        }
        parts = {key: ensured_id(ensured, "image", data[key]) for key in BOOT_IMAGES if data.get(key)}
        owner, stamp = self._owner(data, ensured), f"{data['id']}/{image_id}"
        wanted = {
            **data["properties"],
            **fields,
            **parts,
            "id": image_id,
            "owner": owner,
            "visibility": "private",
        }
        images, asked = self.cloud.glance.images, {**wanted, STAMP: stamp}
        try:
            made = images.create(**asked)
        except Exception as error:
            if http_status(error) != 413:
                raise
            asked = {**wanted, "tags": [*data["tags"], stamp_tag(stamp)]}
            made = images.create(**asked)
        return self.accept(image_id, asked, made, lambda wrong: images.update(image_id, **wrong))

    def _is_ours(self, found: str) -> bool:
        return bool(found == self.before)

    def _take(self, found: str, made: bool, data: Json, ensured: Mapping[str, Ensured]) -> Ensured:
        return super()._take(found, found == self.before, data, ensured)

    def leftovers(self, data: Json, ensured: Mapping[str, Ensured]) -> list[str]:
        """The image that this run noted."""
        return [self.before] if self.before else []

    def _owner(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """The destination's tenant of an image; one of other tenants becomes the operator's."""
        tenant = ensured.get(symbol(Ref("tenant", data["owner"]), "ensured"))
        return str(tenant["id"]) if tenant else self.cloud.project_id

    def remove(self, destination_id: str) -> None:
        """Delete the image, also when it is protected by now."""
        remove(self.cloud, destination_id)


class UploadImage(BaseCloudsTask):
    """Copies an image's bytes from the source's Glance to the destination's."""

    def __init__(self, source: Cloud, destination: Cloud, limits: TransferLimits, **kwargs: Any) -> None:
        super().__init__(source, destination, **kwargs)
        self.limits = limits

    def execute(self, data: Json, image: Json) -> Json:
        """Copy and check; nothing when the destination has the same bytes.

        Raises BrokenOffError where a connection breaks: whoever runs the task executes it again.
        """
        actual = self._at_rest(image["id"])
        return self._arrived(data, actual) if actual["status"] in MIGRATABLE else self._copy(data, image)

    def _at_rest(self, image_id: str) -> Mapping[str, Any]:
        """The image, when Glance no longer waits for the bytes of an attempt that broke off or died."""

        def done(image: Mapping[str, Any] | None) -> bool:
            if image is None:
                raise TransferError(f"image {image_id} has disappeared from the destination", "run it again")
            return image["status"] not in RECEIVING

        batch, title = self.destination.batch(images_by_id), f"image {image_id}: the end of an earlier upload"
        return wait_for(batch, image_id, done, title=title, timeout_s=RECEIVING_TIMEOUT_S) or {}

    def _arrived(self, data: Json, actual: Mapping[str, Any]) -> Json:
        """What an earlier attempt has copied, if it is all right."""
        found = content_differences(data, actual)
        if found:
            what = f"image {actual['id']} at the destination has other bytes: {'; '.join(found)}"
            raise TransferError(what, "revert the run, which removes the image, and start it again")
        return {"size_bytes": 0}

    def _copy(self, data: Json, image: Json) -> Json:
        self.report_bytes(0, data["size"])
        copied = copy_image(
            self.source,
            self.destination,
            data["id"],
            image["id"],
            size_bytes=data["size"],
            expected=Hashes.of(data),
            limits=self.limits,
            on_progress=lambda done: self.report_bytes(done, data["size"]),
        )
        return {"size_bytes": copied.size_bytes, copied.algorithm: copied.digest}

    def report_bytes(self, done_bytes: int, size_bytes: int) -> None:
        """Tell those who listen how far it is."""
        fraction = min(1.0, done_bytes / size_bytes) if size_bytes else 1.0
        told = {"progress": fraction, "bytes": done_bytes, "of_bytes": size_bytes}
        self.notifier.notify(task.EVENT_UPDATE_PROGRESS, told)


def _images_by_owner(cloud: Cloud, owners: Collection[str]) -> dict[str, list[Mapping[str, Any]]]:
    return {owner: list_images(cloud, owner=owner) for owner in owners}


def _age(image: Mapping[str, Any]) -> tuple[str, str]:
    """What the older of two images has less of."""
    return image["created_at"], image["id"]


def _left_s(image: Mapping[str, Any], data: Json) -> float:
    """How long another run may be at work on an image: nobody can ask Glance how far an upload is."""
    since = datetime.now(UTC) - datetime.fromisoformat(image["updated_at"])
    return _START_S + (data["size"] or 0) / _SLOW_BYTES_PER_S - since.total_seconds()

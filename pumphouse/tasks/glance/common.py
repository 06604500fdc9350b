"""What the kinds that move bytes through Glance share: listing, custom properties, the copy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.cloud.wait import wait_for
from pumphouse.errors import TransferError
from pumphouse.model import Json, Ref
from pumphouse.tasks.base import (
    STAMP,
    BaseCloudsTask,
    BaseEnsureTask,
    Ensured,
    differences,
    ensured_id,
    symbol,
)
from pumphouse.tasks.glance.transfer import Hashes, TransferLimits, copy_image

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

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
# What a cloud writes into an image about itself (Image API v2 and the snapshots of Nova and Cinder).
_OWN = {
    "id", "owner", "status", "tags", "created_at", "updated_at", "virtual_size", "file", "self", "schema",
    "direct_url", "locations", "stores", "base_image_ref", "instance_uuid", "image_type", "image_location",
    "image_state", "user_id", "block_device_mapping", "boot_roles", "kernel_id", "ramdisk_id", "owner_id",
    "owner_project_name", "owner_user_name", STAMP,
}  # fmt: skip
_OWN_PREFIXES = ("os_glance_", "os_hash_", "img_signature", "cinder_encryption_key_", "pumphouse_")
_IDS_PER_CALL = 50


def list_images(cloud: Cloud, **filters: str) -> list[Mapping[str, Any]]:
    """All images that pass; Glance lists hidden ones only by themselves."""
    asked = [{"visibility": "all", **filters, "os_hidden": hidden} for hidden in ("false", "true")]
    return [image for wanted in asked for image in cloud.glance.images.list(filters=wanted)]


def images_by_id(cloud: Cloud, ids: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """The images of the given ids, those that exist, by id."""
    ordered = sorted(ids)
    chunks = [ordered[n : n + _IDS_PER_CALL] for n in range(0, len(ordered), _IDS_PER_CALL)]
    found = [image for chunk in chunks for image in list_images(cloud, id=f"in:{','.join(chunk)}")]
    return {image["id"]: image for image in found}


def custom_properties(image: Mapping[str, Any]) -> Json:
    """The properties that somebody gave an image, without those that a cloud writes itself."""
    return {key: value for key, value in image.items() if _is_custom(key) and value is not None}


def image_data(image: Mapping[str, Any]) -> Json:
    """What of an image is to be carried, references as the source's ids."""
    return {
        "id": image["id"],
        "owner": image["owner"],
        "status": image["status"],
        **{key: image.get(key) for key in (*FIELDS, *HASHES)},
        **{key: image[key] for key in BOOT_IMAGES if image.get(key)},
        "tags": sorted(image["tags"]),
        "properties": custom_properties(image),
    }


def content_differences(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> tuple[str, ...]:
    """How the bytes of two images differ, by size and by a hash that both have."""
    fields = [field for field in HASHES if wanted.get(field) and actual.get(field)]
    if wanted.get("os_hash_algo") != actual.get("os_hash_algo"):
        fields = [field for field in fields if not field.startswith("os_hash")]
    return differences(wanted, actual, ["size", *(field for field in fields if field != "size")])


class EnsureImage(BaseEnsureTask):
    """Finds or creates the image record: private and unprotected until its bytes are there."""

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The stamped image; one whose upload died in the middle cannot be filled and is removed."""
        owner = _owner(data, ensured)
        for image in list_images(self.cloud, **({"owner": owner} if owner else {}), **{STAMP: data["id"]}):
            if image["status"] in ("queued", *MIGRATABLE):
                return str(image["id"])
            self.cloud.glance.images.delete(image["id"])
        return None

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """A queued image with the stamp as a property."""
        owner = _owner(data, ensured)
        fields = {
            key: data[key]
            for key in ("name", "disk_format", "container_format", "min_disk", "min_ram", "tags")
        }
        parts = {key: ensured_id(ensured, "image", data[key]) for key in BOOT_IMAGES if data.get(key)}
        image = self.cloud.glance.images.create(
            **{**data["properties"], **fields, **parts, STAMP: data["id"]},
            **({"owner": owner} if owner else {}),
            visibility="private",
        )
        return str(image["id"])

    def leftovers(self, data: Json, ensured: Mapping[str, Ensured]) -> list[str]:
        """The stamped images, in whatever state they are."""
        owner = _owner(data, ensured)
        found = list_images(self.cloud, **({"owner": owner} if owner else {}), **{STAMP: data["id"]})
        return [str(image["id"]) for image in found]

    def remove(self, destination_id: str) -> None:
        """Delete the image, also when it is protected by now."""
        if self.cloud.glance.images.get(destination_id)["protected"]:
            self.cloud.glance.images.update(destination_id, protected=False)
        self.cloud.glance.images.delete(destination_id)


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
        self.notifier.notify(task.EVENT_UPDATE_PROGRESS, {"progress": fraction, "bytes": done_bytes})


def _is_custom(key: str) -> bool:
    own = key in _OWN or key in FIELDS or key in HASHES
    return not own and not key.startswith(_OWN_PREFIXES)


def _owner(data: Json, ensured: Mapping[str, Ensured]) -> str | None:
    """The destination's tenant of an image; None for one of other tenants, which becomes the operator's."""
    tenant = ensured.get(symbol(Ref("tenant", data["owner"]), "ensured"))
    return str(tenant["id"]) if tenant else None

"""What the kinds that move bytes through Glance share: listing, custom properties, the copy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.cloud.wait import wait_for
from pumphouse.errors import PumphouseError, TransferError
from pumphouse.model import Json, Ref
from pumphouse.tasks.base import (
    STAMP,
    BaseCloudsTask,
    BaseEnsureTask,
    Ensured,
    differences,
    ensured_id,
    stamp_tag,
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
# What Glance says of an image itself, and takes from nobody as a property (Image API v2).
_GLANCES = frozenset(
    {
        "id", "owner", "status", "tags", "created_at", "updated_at", "virtual_size", "file", "self", "schema",
        "direct_url", "locations", "stores", *BOOT_IMAGES, *FIELDS, *HASHES,
    }
)  # fmt: skip
_LEFT_PREFIXES = ("os_glance_", "cinder_encryption_key_", "pumphouse_")
# What Nova writes into the snapshot that it takes of a server; in any other image it is its owner's.
_NOVAS = frozenset(
    {
        "base_image_ref", "image_location", "image_state", "image_type", "instance_uuid", "user_id", "boot_roles",
        "block_device_mapping", "bdm_v2", "owner_id", "owner_project_name", "owner_user_name",
    }
)  # fmt: skip
# What names a key or certificate in the source's Barbican.
SIGNATURE = frozenset(
    {"img_signature", "img_signature_hash_method", "img_signature_key_type", "img_signature_certificate_uuid"}
)
# Glance's default of image_property_quota: where the owner has used it up, our stamp is a tag.
_PROPERTIES_MAX = 128
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
    """The properties that are carried: all that Glance takes, but for those that speak of the source alone."""
    left = _GLANCES | SIGNATURE | set(novas_properties(image))
    return {
        key: value
        for key, value in image.items()
        if key not in left and not key.startswith(_LEFT_PREFIXES) and value is not None
    }


def novas_properties(image: Mapping[str, Any]) -> list[str]:
    """What Nova wrote into an image of the server that it is a snapshot of; nothing where it is none."""
    return sorted(_NOVAS & image.keys()) if _is_snapshot(image) else []


def stamp_of(image: Mapping[str, Any]) -> str:
    """The id of the image of the source that an image was made from; empty where no migration made it.

    A snapshot that Nova took of a server has the stamp of the image that the server was booted from.
    """
    if _is_snapshot(image):
        return ""
    tags = (tag.removeprefix(f"{STAMP}=") for tag in image["tags"] if tag.startswith(f"{STAMP}="))
    return str(image.get(STAMP) or next(tags, ""))


def list_stamped(cloud: Cloud, data: Json, **filters: str) -> list[Mapping[str, Any]]:
    """The images that pass and were made from one of the source."""
    asked = {"tag": stamp_tag(data["id"])} if _is_full(data) else {STAMP: data["id"]}
    return [image for image in list_images(cloud, **filters, **asked) if stamp_of(image) == data["id"]]


def image_data(image: Mapping[str, Any]) -> Json:
    """What of an image is to be carried, references as the source's ids."""
    return {
        "id": image["id"],
        "owner": image["owner"],
        "status": image["status"],
        **{key: image.get(key) for key in (*FIELDS, *HASHES)},
        **{key: image[key] for key in BOOT_IMAGES if image.get(key)},
        "tags": sorted(tag for tag in image["tags"] if not tag.startswith(STAMP)),
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
        for image in self._stamped(data, ensured):
            if image["status"] in ("queued", *MIGRATABLE):
                return str(image["id"])
            self.cloud.glance.images.delete(image["id"])
        return None

    def _stamped(self, data: Json, ensured: Mapping[str, Ensured]) -> list[Mapping[str, Any]]:
        """Those in the tenant's twin, or the operator's own: in another tenant anybody can have stamped one."""
        return list_stamped(self.cloud, data, owner=_owner(data, ensured) or self.cloud.project_id)

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """A queued image with the stamp."""
        owner = _owner(data, ensured)
        fields = {
            key: data[key] for key in ("name", "disk_format", "container_format", "min_disk", "min_ram")
        }
        parts = {key: ensured_id(ensured, "image", data[key]) for key in BOOT_IMAGES if data.get(key)}
        stamp = (
            {"tags": [*data["tags"], stamp_tag(data["id"])]}
            if _is_full(data)
            else {"tags": data["tags"], STAMP: data["id"]}
        )
        wanted = {
            **{**data["properties"], **fields, **parts, **stamp},
            **({"owner": owner} if owner else {}),
            "visibility": "private",
        }
        image = self.cloud.glance.images.create(**wanted)
        if lacking := {key: wanted[key] for key in _lacking(image, wanted)}:
            image = self.cloud.glance.images.update(image["id"], **lacking)
        if refused := _lacking(image, wanted):
            what = f"image {image['id']}: the destination's Glance did not take {', '.join(refused)}"
            raise PumphouseError(what, "ask the cloud's administrator for its rules on image properties")
        return str(image["id"])

    def leftovers(self, data: Json, ensured: Mapping[str, Ensured]) -> list[str]:
        """The stamped images, in whatever state they are."""
        return [str(image["id"]) for image in self._stamped(data, ensured)]

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


def _is_snapshot(image: Mapping[str, Any]) -> bool:
    """Whether Nova made an image of a server's disk."""
    return image.get("image_type") == "snapshot" and "instance_uuid" in image


def _lacking(image: Mapping[str, Any], wanted: Json) -> list[str]:
    """The fields in which an image is not what Glance was asked for."""

    def value(fields: Mapping[str, Any], key: str) -> Any:
        return sorted(fields.get(key) or ()) if key == "tags" else fields.get(key) or None

    return sorted(key for key in wanted if value(image, key) != value(wanted, key))


def _is_full(data: Json) -> bool:
    """Whether an image has no room for one more property."""
    return len(data["properties"]) >= _PROPERTIES_MAX


def _owner(data: Json, ensured: Mapping[str, Ensured]) -> str | None:
    """The destination's tenant of an image; None for one of other tenants, which becomes the operator's."""
    tenant = ensured.get(symbol(Ref("tenant", data["owner"]), "ensured"))
    return str(tenant["id"]) if tenant else None

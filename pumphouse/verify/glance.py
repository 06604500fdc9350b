"""Glance: images with their properties, members and bytes."""

from __future__ import annotations

import hashlib
from typing import Any

from pumphouse.cloud import Cloud, get_all
from pumphouse.errors import PumphouseError
from pumphouse.model import Json, Ref
from pumphouse.tasks.base import STAMP
from pumphouse.verify.compare import Field, Item, Kind
from pumphouse.verify.fields import OURS, plain, reference, tags

# Image API v2: what a cloud writes into an image itself.
_OWN = {
    "id", "name", "owner", "status", "tags", "created_at", "updated_at", "virtual_size", "file", "self", "schema",
    "direct_url", "locations", "stores", "base_image_ref", "instance_uuid", "image_type", "image_location",
    "image_state", "user_id", "block_device_mapping", "boot_roles", "kernel_id", "ramdisk_id", "disk_format",
    "container_format", "min_disk", "min_ram", "visibility", "protected", "os_hidden", "size", "checksum",
    "os_hash_algo", "os_hash_value", "owner_id", "owner_project_name", "owner_user_name", "members", "bytes",
}  # fmt: skip
_OWN_PREFIXES = (OURS, "os_glance_", "img_signature", "cinder_encryption_key_")
_WITHOUT_BYTES = ("queued", "saving", "uploading", "importing", "killed", "deleted", "pending_delete")
CHUNK_BYTES = 1024 * 1024


def _properties(raw: Json) -> Json:
    return {
        key: value
        for key, value in raw.items()
        if key not in _OWN and not key.startswith(_OWN_PREFIXES) and value is not None
    }


def _kept_private(wanted: Any, actual: Any) -> str:
    # Which of the forms a user may set is the destination's policy.
    return (
        "the destination's policy may refuse it"
        if wanted in ("public", "community") and actual == "private"
        else ""
    )


def _hash(raw: Json) -> Any:
    algorithm, value = raw.get("os_hash_algo"), raw.get("os_hash_value")
    return (algorithm, value) if value else None


def _other_algorithm(wanted: Any, actual: Any) -> str:
    comparable = wanted and actual and wanted[0] == actual[0]
    return "" if comparable else "the clouds hash by different algorithms: the checksum is compared"


def _unhashed(wanted: Any, actual: Any) -> str:
    return "" if wanted and actual else "one of the clouds has no checksum of it"


IMAGE = Kind(
    "image",
    (
        *plain("name", "status", "disk_format", "container_format", "min_disk", "min_ram"),
        Field("properties", _properties),
        Field("tags", tags),
        Field("visibility", lambda raw: raw["visibility"], _kept_private),
        *plain("protected", "os_hidden"),
        reference("owner", "tenant", "owner"),
        reference("kernel_id", "image", "kernel_id"),
        reference("ramdisk_id", "image", "ramdisk_id"),
        Field(
            "members",
            lambda raw: frozenset((Ref("tenant", m["member_id"]), m["status"]) for m in raw["members"]),
        ),
        *plain("size"),
        Field("hash", _hash, _other_algorithm),
        Field("checksum", lambda raw: raw.get("checksum"), _unhashed),
        Field("bytes", lambda raw: raw.get("bytes")),
    ),
    lambda raw: (
        (raw["name"], _hash(raw) or raw.get("checksum")) if raw.get("checksum") or _hash(raw) else None
    ),
)
KINDS = (IMAGE,)


def read(cloud: Cloud, tenant_id: str, *, deep: bool) -> list[Item]:
    """All images, because the tenant's servers may use those of others; the bytes of its own when deep."""
    if not cloud.has("image"):
        return []
    glance = cloud.adapter("image")
    asked = [{"visibility": "all", "os_hidden": hidden, "limit": 500} for hidden in ("false", "true")]
    images = [image for query in asked for image in get_all(glance, "/images", "images", **query)]
    for image in images:
        mine = image["owner"] == tenant_id
        shared = mine and image["visibility"] == "shared"
        image["members"] = get_all(glance, f"/images/{image['id']}/members", "members") if shared else []
        if deep and mine and image["status"] == "active":
            image["bytes"] = sha512(glance, image["id"])
    return [_item(image, tenant_id) for image in images]


def _item(raw: Json, tenant_id: str) -> Item:
    refused = f"its status is {raw['status']}: it has no bytes" if raw["status"] in _WITHOUT_BYTES else ""
    # A snapshot on its way from a server's disk to its twin's belongs to the migration.
    temporary = f"{OURS}attempt" in raw
    if temporary:
        refused = "a temporary image of a migration"
    return IMAGE.item(
        raw,
        raw["id"],
        name=raw["name"] or "",
        stamp=raw.get(STAMP) or "",
        owned=raw["owner"] == tenant_id,
        not_expected=refused,
        temporary=temporary,
    )


def sha512(glance: Any, image_id: str) -> str:
    """The hash of an image's bytes, read as they come and kept nowhere."""
    digest = hashlib.sha512()
    response = glance.get(f"/images/{image_id}/file", stream=True, raise_exc=False)
    try:
        if response.status_code not in (200, 204):
            raise PumphouseError(
                f"the bytes of image {image_id} cannot be read: Glance answers {response.status_code}"
            )
        for chunk in response.iter_content(CHUNK_BYTES):
            digest.update(chunk)
    finally:
        response.close()
    return digest.hexdigest()

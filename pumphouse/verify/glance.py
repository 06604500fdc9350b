"""Glance: images with their properties, members and bytes."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from pumphouse.cloud import Cloud, call, get_all, or_none
from pumphouse.errors import PumphouseError, http_status
from pumphouse.model import Json, Ref
from pumphouse.verify.compare import Field, Item, Kind
from pumphouse.verify.fields import ATTEMPT, STAMP, own_stamp, plain, reference, tag_stamp, tags

# Image API v2: what Glance itself says of an image, and refuses from anybody else.
_GLANCES = {
    "id", "name", "owner", "status", "tags", "created_at", "updated_at", "virtual_size", "file", "self", "schema",
    "direct_url", "locations", "stores", "kernel_id", "ramdisk_id", "disk_format", "container_format", "min_disk",
    "min_ram", "visibility", "protected", "os_hidden", "size", "checksum", "os_hash_algo", "os_hash_value", STAMP,
}  # fmt: skip
_RESERVED = "os_glance_"
# Where nobody's property can be: what the listing of images does not tell.
_MEMBERS, _BYTES = f"{_RESERVED}members", f"{_RESERVED}bytes"
# What Nova writes into the snapshot that it makes of a server; on any other image it is its owner's.
_NOVAS = {
    "base_image_ref", "image_location", "image_state", "image_type", "instance_uuid", "user_id", "boot_roles",
    "block_device_mapping", "bdm_v2", "owner_id", "owner_project_name", "owner_user_name", "clean_attempts",
}  # fmt: skip
# There is nothing in them; and one that is being written is lost like any other.
_EMPTY = ("queued", "killed", "deleted", "pending_delete")
_VISIBILITIES = ("public", "community", "shared", "private")
CHUNK_BYTES = 1024 * 1024
READ_ATTEMPTS = 4


def _properties(raw: Json) -> Json:
    return {
        key: value
        for key, value in raw.items()
        if key not in _GLANCES and not key.startswith(_RESERVED) and value is not None
    }


def _is_snapshot(properties: Json) -> bool:
    return properties.get("image_type") in ("snapshot", "backup") and "instance_uuid" in properties


def _of_the_server(wanted: Any, actual: Any) -> str:
    lost = {key for key in wanted.keys() | actual.keys() if wanted.get(key) != actual.get(key)}
    is_only_novas = _is_snapshot(wanted) and lost <= _NOVAS and not lost & actual.keys()
    return "Nova wrote it into the snapshot of a server, of which it speaks" if is_only_novas else ""


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
        Field("properties", _properties, _of_the_server),
        Field("tags", tags),
        *plain("visibility", "protected", "os_hidden"),
        reference("owner", "tenant", "owner"),
        reference("kernel_id", "image", "kernel_id"),
        reference("ramdisk_id", "image", "ramdisk_id"),
        Field(
            "members",
            lambda raw: frozenset((Ref("tenant", m["member_id"]), m["status"]) for m in raw[_MEMBERS]),
        ),
        *plain("size"),
        Field("hash", _hash, _other_algorithm),
        Field("checksum", lambda raw: raw.get("checksum"), _unhashed),
        Field("bytes", lambda raw: raw.get(_BYTES)),
    ),
    lambda raw: (
        (raw["name"], _hash(raw) or raw.get("checksum")) if raw.get("checksum") or _hash(raw) else None
    ),
)
KINDS = (IMAGE,)


def read(cloud: Cloud, tenant_id: str, *, deep: bool) -> list[Item]:
    """All images, because the tenant's servers may use those of others; the bytes of its own when deep.

    But for those that are the disks of shelved servers: they come and go with these.
    """
    if not cloud.has("image"):
        return []
    glance = cloud.adapter("image")
    # Before Rocky Glance takes os_hidden for a property, which no image has.
    listed = [*_listed(glance, "all"), *_listed(glance, "all", os_hidden="true")]
    images = [
        image
        for image in {image["id"]: image for image in listed}.values()
        if not _is_of_shelved(cloud, image)
    ]
    with ThreadPoolExecutor() as pool:
        members = pool.map(lambda image: _members(glance, image, tenant_id), images)
        for image, found in zip(images, members, strict=True):
            image[_MEMBERS] = found
    for image in images:
        if deep and image["owner"] == tenant_id and image["status"] == "active":
            image[_BYTES] = sha512(glance, image["id"])
    return [_item(image, tenant_id) for image in images]


def _listed(glance: Any, visibility: str, **query: str) -> list[Json]:
    """The images of a visibility; of each by itself where Glance does not know `all`, as before Stein."""
    try:
        return get_all(glance, "/images", "images", visibility=visibility, limit=500, **query)
    except Exception as error:
        # There are community images since Ocata.
        if http_status(error) != 400 or visibility not in ("all", "community"):
            raise
    each = _VISIBILITIES if visibility == "all" else ()
    return [image for one in each for image in _listed(glance, one, **query)]


def _members(glance: Any, image: Json, tenant_id: str) -> list[Json]:
    """Who an image of the tenant is shared with: no list tells it of several."""
    if image["owner"] != tenant_id or image["visibility"] != "shared":
        return []
    return get_all(glance, f"/images/{image['id']}/members", "members")


def _is_of_shelved(cloud: Cloud, raw: Json) -> bool:
    """Whether Nova keeps an image for as long as a server is shelved: it names it so, and tells of none by its id."""
    if not _is_snapshot(raw) or not str(raw["name"]).endswith("-shelved") or not cloud.has("compute"):
        return False
    server = or_none(call, cloud.adapter("compute"), "GET", f"/servers/{raw['instance_uuid']}")
    return server is not None and server["server"]["status"].startswith("SHELVED")


def _item(raw: Json, tenant_id: str) -> Item:
    refused = f"its status is {raw['status']}: it has no bytes" if raw["status"] in _EMPTY else ""
    # A snapshot on its way from a server's disk to its twin's belongs to the migration.
    temporary = ATTEMPT in raw
    if temporary:
        refused = "a temporary image of a migration"
    # Nova copies the properties of the image that a server booted from into the server's snapshots.
    stamp = raw.get(STAMP) or tag_stamp(raw)
    # In the earlier form, which does not tell.
    is_copied = _is_snapshot(raw) and "/" not in stamp
    return IMAGE.item(
        raw,
        raw["id"],
        name=raw["name"] or "",
        stamp="" if is_copied else own_stamp(stamp, raw["id"]),
        owned=raw["owner"] == tenant_id,
        not_expected=refused,
        temporary=temporary,
    )


@retry(
    retry=retry_if_exception_type(requests.RequestException),
    stop=stop_after_attempt(READ_ATTEMPTS),
    wait=wait_exponential(),
    reraise=True,
)
def sha512(glance: Any, image_id: str) -> str:
    """The hash of an image's bytes, read as they come and kept nowhere; again where a connection breaks."""
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

"""Cinder: volumes, and what of them is left behind."""

from __future__ import annotations

from typing import Any

from pumphouse.cloud import Cloud, get_all
from pumphouse.model import Json, Ref
from pumphouse.tasks.base import STAMP
from pumphouse.verify.compare import Field, Item, Kind
from pumphouse.verify.fields import OURS, mapped, plain, renamed

# What Cinder itself keeps among a volume's metadata, and writes about the image that a volume came from.
_ADMIN = ("readonly", "attached_mode")
_PROVENANCE = ("image_id", "signature_verified")
_NOT_ASKED = "snapshots are not migrated unless asked for"
_TEMPORARY = f"{OURS}attempt"


def _metadata(raw: Json) -> Json:
    return {k: v for k, v in raw["metadata"].items() if k not in _ADMIN and not k.startswith(OURS)}


def _image_metadata(raw: Json) -> Json:
    found = raw.get("volume_image_metadata") or {}
    return {k: v for k, v in found.items() if k not in _PROVENANCE and not k.startswith(OURS)}


def _attachments(raw: Json) -> frozenset[Any]:
    return frozenset((Ref("server", a["server_id"]), a.get("device")) for a in raw["attachments"])


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"


def _encrypted(wanted: Any, _actual: Any) -> str:
    return "the key is the source's; the destination's volume type decides" if wanted else ""


VOLUME = Kind(
    "volume",
    (
        *plain("name", "description", "status", "size"),
        mapped("type", "volume_types", "volume_type"),
        mapped("availability_zone", "availability_zones", "availability_zone"),
        Field("bootable", lambda raw: _is_true(raw["bootable"])),
        *plain("multiattach"),
        Field("readonly", lambda raw: _is_true(raw["metadata"].get("readonly"))),
        Field("encrypted", lambda raw: bool(raw.get("encrypted")), _encrypted),
        Field("metadata", _metadata),
        Field("image metadata", _image_metadata),
        Field("attachments", _attachments),
    ),
    lambda raw: raw["name"] or None,
    {"bytes": "Cinder tells no hash of them, and to read them it has to write an image"},
)
# Compared with the volume that it becomes.
SNAPSHOT = Kind(
    "volume_snapshot",
    (*plain("name", "description"), renamed("size", "size"), Field("metadata", _metadata)),
    lambda raw: raw["id"],
)
KINDS = (VOLUME, SNAPSHOT)


def read(cloud: Cloud, tenant_id: str) -> dict[str, list[Item]]:
    """The volumes and snapshots of a tenant."""
    if not cloud.has("block-storage"):
        return {}
    cinder = cloud.cinder
    query = {"all_tenants": 1, "project_id": tenant_id}
    volumes = get_all(cinder, "/volumes/detail", "volumes", **query)
    snapshots = get_all(cinder, "/snapshots/detail", "snapshots", **query)
    owner = "os-extended-snapshot-attributes:project_id"
    volumes = [v for v in volumes if v["os-vol-tenant-attr:tenant_id"] == tenant_id]
    return {
        "volume": [_item(VOLUME, v) for v in volumes],
        "volume_snapshot": [
            *(_item(SNAPSHOT, s, _NOT_ASKED) for s in snapshots if s.get(owner, tenant_id) == tenant_id),
            *(_item(SNAPSHOT, v, owned=False) for v in volumes if STAMP in v["metadata"]),
        ],
    }


def _item(kind: Kind, raw: Json, refused: str = "", *, owned: bool = True) -> Item:
    temporary = _TEMPORARY in raw["metadata"]
    if temporary:
        refused = "a temporary one of a migration"
    elif raw["status"].startswith("error"):
        refused = f"its status is {raw['status']}"
    stamp = raw["metadata"].get(STAMP, "")
    return kind.item(
        raw,
        raw["id"],
        name=raw["name"] or "",
        stamp=stamp,
        owned=owned,
        not_expected=refused,
        temporary=temporary,
    )

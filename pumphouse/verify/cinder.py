"""Cinder: volumes, and what of them is left behind."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pumphouse.cloud import Cloud, call, get_all, or_none
from pumphouse.errors import http_status
from pumphouse.model import Json, Ref
from pumphouse.verify.compare import Field, Item, Kind
from pumphouse.verify.fields import ATTEMPT, STAMP, all_of, counted, mapped, metadata, own_stamp, plain, zones

# What Cinder itself keeps among a volume's metadata, and writes about the image that a volume came from.
_ADMIN = ("readonly", "attached_mode")
_PROVENANCE = ("image_id", "signature_verified")
_LEFT = "policies.volume_snapshots leaves it"
_BEING_DELETED = ("deleting", "error_deleting", "deleted")
# Block Storage API: the volumes of each group in the list (Pike).
_GROUPS_SINCE = "3.25"


def _metadata(raw: Json) -> Json:
    return {k: v for k, v in metadata(raw).items() if k not in _ADMIN}


def _image_metadata(raw: Json) -> Json:
    return {k: v for k, v in metadata(raw, "volume_image_metadata").items() if k not in _PROVENANCE}


def _attachments(raw: Json) -> frozenset[Any]:
    return frozenset((Ref("server", a["server_id"]), a.get("device")) for a in raw["attachments"])


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"


VOLUME = Kind(
    "volume",
    (
        *plain("name", "description", "status", "size"),
        mapped("type", "volume_types", "volume_type"),
        zones("availability_zone"),
        Field("bootable", lambda raw: _is_true(raw["bootable"])),
        *plain("multiattach"),
        Field("readonly", lambda raw: _is_true(raw["metadata"].get("readonly"))),
        Field("encrypted", lambda raw: bool(raw.get("encrypted"))),
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
    (
        *plain("name", "description", "size"),
        mapped("type", "volume_types", "volume_type"),
        Field("bootable", lambda raw: _is_true(raw.get("bootable"))),
        Field("metadata", _metadata),
    ),
    lambda raw: raw["id"],
)
BACKUPS, GROUPS = COUNTED = counted("volume_backups"), counted("volume_groups")
KINDS = (VOLUME, SNAPSHOT, *COUNTED)


def read(cloud: Cloud, tenant_id: str, *, snapshots_left: bool) -> dict[str, list[Item]]:
    """The volumes and snapshots of a tenant, and how many backups and groups of volumes it has."""
    if not cloud.has("block-storage"):
        return {}
    cinder = cloud.cinder
    query = {"all_tenants": 1, "project_id": tenant_id}
    volumes = get_all(cinder, "/volumes/detail", "volumes", **query)
    snapshots = get_all(cinder, "/snapshots/detail", "snapshots", **query)
    backups = or_none(get_all, cinder, "/backups/detail", "backups", **query) or []
    owner = "os-extended-snapshot-attributes:project_id"
    volumes = [v for v in volumes if v["os-vol-tenant-attr:tenant_id"] == tenant_id]
    by_id = {volume["id"]: volume for volume in volumes}
    inherited = ("volume_type", "bootable")
    snapshots = [
        {**{key: by_id.get(s["volume_id"], {}).get(key) for key in inherited}, **s}
        for s in snapshots
        if s.get(owner, tenant_id) == tenant_id
    ]
    refused = _LEFT if snapshots_left else ""
    return {
        "volume": [_item(VOLUME, v) for v in volumes],
        "volume_snapshot": [
            *(_item(SNAPSHOT, s, refused) for s in snapshots),
            *(_item(SNAPSHOT, v, owned=False) for v in volumes if STAMP in v["metadata"]),
        ],
        "volume_backups": all_of(BACKUPS, tenant_id, _names(backups)),
        "volume_groups": all_of(GROUPS, tenant_id, _names(_groups(cinder, by_id))),
    }


def _groups(cinder: Any, volumes: Collection[str]) -> list[Json]:
    """The generic groups that have any of the volumes; none where Cinder is older than they are."""
    query = {"all_tenants": 1, "list_volume": "true"}
    try:
        found = call(cinder, "GET", "/groups/detail", params=query, microversion=_GROUPS_SINCE)["groups"]
    except Exception as error:
        if http_status(error) not in (404, 406):
            raise
        return []
    return [group for group in found if set(group.get("volumes") or ()) & set(volumes)]


def _names(found: Collection[Json]) -> list[str]:
    return [str(raw.get("name") or raw["id"]) for raw in found]


def _item(kind: Kind, raw: Json, refused: str = "", *, owned: bool = True) -> Item:
    temporary = ATTEMPT in raw["metadata"]
    if temporary:
        refused = "a temporary one of a migration"
    elif raw["status"] in _BEING_DELETED:
        refused = f"its status is {raw['status']}"
    stamp = own_stamp(raw["metadata"].get(STAMP, ""), raw["id"])
    return kind.item(
        raw,
        raw["id"],
        name=raw["name"] or "",
        stamp=stamp,
        owned=owned,
        not_expected=refused,
        temporary=temporary,
    )

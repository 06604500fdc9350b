"""The tasks that make a volume of an image at the destination, and attach it where its server is there already."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from pumphouse.cloud import Cloud, call, or_none
from pumphouse.errors import PumphouseError, WaitError, explain, http_status
from pumphouse.model import Json, Record
from pumphouse.tasks.base import (
    ASK,
    STAMP,
    BaseCloudTask,
    BaseEnsureTask,
    Ensured,
    as_asked,
    create_in_tenant,
    ensured_id,
    kept_result,
    only_twin,
    stamped,
    why_not_undone,
)
from pumphouse.tasks.cinder.common import (
    ATTEMPT,
    UNFINISHED,
    VOLUMES,
    act,
    at_destination,
    attach,
    is_readonly,
    owned,
    remove,
    volume_types,
    wait_for_item,
    wait_until_available,
    wait_until_in_use,
    zone_at_destination,
    zones,
)
from pumphouse.tasks.cinder.volume_copy import RAW_AFTER_ALL, RawCopy
from pumphouse.tasks.cinder.volume_format import RAW

LOG = logging.getLogger(__name__)

# The states in which a volume has its bytes and nobody is at work on them.
MIGRATABLE = ("available", "in-use")
# What Cinder answers who has no role in the tenant any more, or what Glance then answered Cinder.
REFUSALS = (400, 401, 403, 404)
# For administrators the back end that a volume was given to; None before.
_HOST = "os-vol-host-attr:host"
# Where nothing is made, because it is there.
WITHOUT_IMAGE: dict[str, Any] = {"image_symbol": None, "raw_copy": None}


class EnsureVolume(BaseEnsureTask):
    """Finds or creates the volume at the destination, in the tenant's name, from the image made for it.

    image_symbol: the task that gives the image; None where the volume has to be there.
    raw_copy: makes another image, where Cinder makes no volume of that one; None where there is to be no other.
    types, zones: the mappings.
    """

    adopts_unfinished = True

    def __init__(
        self,
        *cloud: Cloud,
        image_symbol: str | None,
        raw_copy: RawCopy | None,
        types: Mapping[str, str],
        zones: Mapping[str, str],
        **kwargs: Any,
    ) -> None:
        super().__init__(*cloud, **kwargs)
        self.image_symbol = image_symbol
        self.raw_copy = raw_copy
        self.types = types
        self.zones = zones

    def execute(self, data: Json, **ensured: Any) -> Ensured:
        """Find or create the volume; from a raw image where Cinder makes none of the image that was planned."""
        if self.raw_copy is None or ensured[self.raw_copy.read]["disk_format"] == RAW:
            return super().execute(data, **ensured)
        try:
            return super().execute(data, **ensured)
        except Exception as error:
            if not self._is_refusal(error, data, ensured):
                raise
            why = f"the {self.cloud.name} makes no volume of the first image: {explain(error)}"
            LOG.info("volume %s: %s", data["id"], why)
            self.raw_copy.unconverted[data["volume_type"] or ""] = why
        image, size_bytes = self.raw_copy.make(data, ensured, self.notifier.notify)
        result = super().execute(data, **{**ensured, str(self.image_symbol): image})
        return {**result, "size_bytes": size_bytes, "notes": [f"{RAW_AFTER_ALL}: {why}"]}

    def _is_refusal(self, error: Exception, data: Json, ensured: Mapping[str, Ensured]) -> bool:
        """Whether Cinder refused the image, or failed on it at a back end; not where no back end had room."""
        there = self._stamped(data, ensured)
        if http_status(error) == 400:
            return not there
        return isinstance(error, WaitError) and any(_failed_at_back_end(volume) for volume in there)

    def revert(self, result: Any, data: Json, **ensured: Any) -> Json | None:
        """Remove the volume as any Ensure task does, and the image that it may have had to make."""
        kept = super().revert(result, data, **ensured) or {}
        made_from_first = isinstance(result, dict) and "notes" not in result
        left = self.raw_copy.remove(data) if self.raw_copy and not made_from_first else ()
        return kept_result(kept.get("kept", ""), *left)

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The stamped volume; what another attempt left half made, or Cinder could not fill, is removed."""
        tenant_id, ids = _tenant(data, ensured), []
        for volume in self._stamped(data, ensured):
            if is_left(volume, data["attempt"]):
                remove(self.cloud, VOLUMES, tenant_id, volume["id"])
            else:
                ids.append(str(volume["id"]))
        return only_twin("volume", data["id"], ids)

    def leftovers(self, data: Json, ensured: Mapping[str, Ensured]) -> list[str]:
        """The stamped volumes that were not completed, in whatever state they are."""
        return [volume["id"] for volume in self._stamped(data, ensured) if UNFINISHED in volume["metadata"]]

    def _stamped(self, data: Json, ensured: Mapping[str, Ensured]) -> list[Json]:
        there = owned(self.cloud, VOLUMES, _tenant(data, ensured))
        return [volume for volume in there if is_twin(volume, data["id"]) and volume["status"] != "deleting"]

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Have Cinder make it from the image."""
        if self.image_symbol is None:
            raise PumphouseError(
                f"volume {data['name'] or data['id']} is no longer at the destination", "plan again"
            )
        tenant_id, body = _tenant(data, ensured), self._body(data, ensured[self.image_symbol]["id"])

        def create(cloud: Cloud) -> Json:
            made: Json = call(cloud.cinder, "POST", "/volumes", {"volume": body})["volume"]
            return made

        def update(fields: Json) -> Json:
            found: Json = call(self.cloud.cinder, "PUT", f"/volumes/{made['id']}", {"volume": fields})[
                "volume"
            ]
            return found

        made = create_in_tenant(self.cloud, tenant_id, REFUSALS, create)
        asked = {key: value for key, value in body.items() if key != "imageRef"}
        return self.accept(str(made["id"]), asked, made, update)

    def _body(self, data: Json, image_id: str) -> Json:
        body = {
            "name": data["name"],
            "description": data["description"],
            "size": data["size"],
            "volume_type": at_destination(data["volume_type"], self.types, volume_types(self.cloud)),
            "availability_zone": zone_at_destination(
                data["availability_zone"], self.zones, zones(self.cloud)
            ),
            "metadata": {**data["metadata"], STAMP: data["id"], UNFINISHED: data["attempt"]},
            "imageRef": image_id,
        }
        return {key: value for key, value in body.items() if value is not None}

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Ensured]) -> None:
        """Wait until it has its bytes, and give it what Cinder took from the image or leaves unset."""
        title = f"volume {data['name'] or data['id']} being filled"
        volume = wait_for_item(
            self.cloud,
            VOLUMES,
            _tenant(data, ensured),
            destination_id,
            lambda found: found["status"] in MIGRATABLE,
            title=title,
        )
        if metadata := {k: v for k, v in data["metadata"].items() if k not in volume["metadata"]}:
            call(self.cloud.cinder, "POST", f"/volumes/{destination_id}/metadata", {"metadata": metadata})
        _set_image_metadata(self.cloud, volume, data["image_metadata"])
        if is_bootable(volume) != data["bootable"]:
            act(self.cloud, destination_id, "os-set_bootable", bootable=data["bootable"])
        if is_readonly(volume) != data["readonly"] and volume["status"] == "available":
            act(self.cloud, destination_id, "os-update_readonly_flag", readonly=data["readonly"])
        made = _volume(self.cloud, destination_id)
        if UNFINISHED in volume["metadata"]:
            as_asked({"bootable": data["bootable"]}, {"bootable": is_bootable(made)})
        if missing := lacking(data, made):
            raise PumphouseError(
                f"volume {data['name'] or data['id']} at the destination lacks {missing}", ASK
            )

    def remove(self, destination_id: str) -> None:
        """Delete the volume when its server has let it go."""
        volume = _volume(self.cloud, destination_id)
        remove(self.cloud, VOLUMES, volume["os-vol-tenant-attr:tenant_id"], destination_id)


class AttachVolume(BaseCloudTask):
    """Attaches the volume to its server at the destination, unless the server was booted with it.

    device: the name that the server knows it by.
    """

    def __init__(self, cloud: Cloud, *, device: str | None, **kwargs: Any) -> None:
        super().__init__(cloud, **kwargs)
        self.device = device

    def execute(self, data: Json, volume: Json, server: Json) -> Json:
        """Attach it and wait; provides whether it had to."""
        attached = self._is_attached(volume["id"], server["id"])
        if not attached:
            attach(self.cloud, volume["id"], server["id"], self.device)
        title = f"volume {data['name'] or data['id']} becoming attached"
        wait_until_in_use(self.cloud, volume["id"], title=title)
        return {"id": volume["id"], "made": not attached}

    def revert(self, result: Any, data: Json, volume: Json, server: Json, **_: Any) -> Json | None:
        """Detach it, if this attached it; what is not known to be is undone with the server or the volume."""
        made = isinstance(result, dict) and result["made"]
        return (
            kept_result(why_not_undone(self.name, self._detach, volume["id"], server["id"])) if made else None
        )

    def _is_attached(self, volume_id: str, server_id: str) -> bool:
        found = self.cloud.nova.volumes.get_server_volumes(server_id)
        return any(attachment.volumeId == volume_id for attachment in found)

    def _detach(self, volume_id: str, server_id: str) -> None:
        self.cloud.nova.volumes.delete_server_volume(server_id, volume_id)
        volume = _volume(self.cloud, volume_id)
        tenant_id = volume["os-vol-tenant-attr:tenant_id"]
        title = f"volume {volume_id} becoming detached"
        wait_until_available(self.cloud, VOLUMES, tenant_id, volume_id, title=title)


class CompleteVolume(BaseCloudTask):
    """Takes the mark off a volume that says that something is left to do for it.

    source_id: the id that its stamp names, from then on with its own beside it.
    """

    def __init__(self, cloud: Cloud, *, source_id: str, **kwargs: Any) -> None:
        super().__init__(cloud, **kwargs)
        self.source_id = source_id

    def execute(self, volume: Json, removed: Json, **_: Any) -> Json:
        """Write the stamp and delete the metadata key."""
        stamp = {STAMP: f"{self.source_id}/{volume['id']}"}
        call(self.cloud.cinder, "POST", f"/volumes/{volume['id']}/metadata", {"metadata": stamp})
        or_none(call, self.cloud.cinder, "DELETE", f"/volumes/{volume['id']}/metadata/{UNFINISHED}")
        return {"id": volume["id"]}


def unmark(cloud: Cloud, volume_id: str) -> None:
    """Take the marks of a migration off a volume."""
    for mark in {STAMP, UNFINISHED} & _volume(cloud, volume_id)["metadata"].keys():
        or_none(call, cloud.cinder, "DELETE", f"/volumes/{volume_id}/metadata/{mark}")


def volumes_of_id(cloud: Cloud, volume_id: str) -> list[Json]:
    """The volume of that id, if there is one."""
    found = or_none(call, cloud.cinder, "GET", f"/volumes/{volume_id}")
    return [found["volume"]] if found else []


def _volume(cloud: Cloud, volume_id: str) -> Json:
    found: Json = call(cloud.cinder, "GET", f"/volumes/{volume_id}")["volume"]
    return found


def _tenant(data: Json, ensured: Mapping[str, Ensured]) -> str:
    return ensured_id(ensured, "tenant", data["tenant_id"])


def _set_image_metadata(cloud: Cloud, volume: Json, wanted: Json) -> None:
    """Replace what a new volume says of the image that it was made from; give another what it lacks."""
    actual = volume.get("volume_image_metadata", {})
    for key in sorted(actual.keys() - wanted.keys()) if UNFINISHED in volume["metadata"] else ():
        act(cloud, volume["id"], "os-unset_image_metadata", key=key)
    missing = {key: value for key, value in wanted.items() if actual.get(key) != value}
    if missing:
        as_asked(missing, act(cloud, volume["id"], "os-set_image_metadata", metadata=missing)["metadata"])


def lacking(data: Json, volume: Json) -> str:
    """What of a record a volume does not have, in words; what somebody has changed of it is not lacking."""
    image_metadata = volume.get("volume_image_metadata", {})
    found = {
        "metadata": sorted(data["metadata"].keys() - volume["metadata"].keys()),
        "image metadata": sorted(data["image_metadata"].keys() - image_metadata.keys()),
        "being bootable": [""] if data["bootable"] and not is_bootable(volume) else [],
    }
    return "; ".join(f"{what} {', '.join(names)}".strip() for what, names in found.items() if names)


def is_bootable(volume: Json) -> bool:
    return str(volume["bootable"]).lower() == "true"


def stamp_of(volume: Json) -> str:
    """The source's id in the stamp of a volume; empty when it has none of its own: a backup gives its metadata to
    what is made of it."""
    return stamped(volume["metadata"].get(STAMP, ""), volume["id"])


def is_twin(volume: Json, source_id: str) -> bool:
    return stamp_of(volume) == source_id and ATTEMPT not in volume["metadata"]


def candidates(record: Record, volumes: Iterable[Json]) -> list[Json]:
    """The stamped volume, or else those of the same name that are not the twins of others."""
    sound = [volume for volume in volumes if volume["status"] != "deleting" and not is_left(volume, "")]
    ours = [volume for volume in sound if is_twin(volume, record.ref.id)]
    others = [v for v in sound if not stamp_of(v) and record.name and v["name"] == record.name]
    return ours or others


def unfinished_why(record: Record, volume: Json) -> str:
    """What is left to do for a twin; empty when it is nothing."""
    if UNFINISHED in volume["metadata"]:
        return "an earlier run ended before it was complete"
    missing = lacking(record.data, volume) if record.data["status"] in MIGRATABLE else ""
    return f"it lacks {missing}" if missing else ""


def _failed_at_back_end(volume: Json) -> bool:
    return volume["status"].startswith("error") and volume.get(_HOST, True) is not None


def is_left(volume: Json, attempt: str) -> bool:
    """Whether a volume was left half made: by another attempt before any server had it, or by Cinder."""
    made_by = volume["metadata"].get(UNFINISHED)
    if made_by is None or volume["attachments"]:
        return False
    return bool(made_by != attempt or volume["status"].startswith("error"))

"""In which format the bytes of a volume travel, where the configuration leaves that to Pumphouse.

As qcow2 what was never written stays behind, and most Cinders compress the rest (image_compress_on_upload); as raw
every byte of the size travels. No API tells how much of a volume was written, so that what qcow2 would not make smaller
cannot be known before: of a volume that is full it is larger by 0.02 %, its tables. A Cinder may refuse to convert
(image_conversion_disable), or lack the room for it, which nobody can ask it beforehand: then raw it is, for all
volumes of that type in the run.

What a volume holds may itself look like the image of a disk, such as a file of qcow2 that somebody wrote to it. Cinder
lets qemu-img guess the format of what it converts, so that the image that it then makes is of that inner disk. Its size
tells, unless that is the size of the volume, too.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pumphouse.errors import ConfigError, ConversionError
from pumphouse.model import CopyFormat, Json, Record
from pumphouse.tasks.base import Migration, Search
from pumphouse.tasks.cinder.common import at_destination, default_type, volume_types
from pumphouse.tasks.glance.common import takes

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

AUTO, QCOW2, RAW = "auto", "qcow2", "raw"
# The magic, what does not matter here, and the size of the disk.
_QCOW2_MAGIC, _QCOW2_HEAD = b"QFI\xfb", ">4s20xQ"
QCOW2_SIZE_END = struct.calcsize(_QCOW2_HEAD)


def with_formats(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records of volumes, or of snapshots of them, with the formats that they will be copied in.

    Raises ConfigError when policies.raw_volume_types names a type that the destination does not have.
    """
    if not records:
        return []
    policy, raw_types = search.policies["volume_format"], search.policies.get("raw_volume_types", ())
    if policy != AUTO:
        given = CopyFormat(policy, f"policies.volume_format is {policy}")
        return [replace(record, copied_as=given) for record in records]
    types = volume_types(search.destination)
    _check_types(raw_types, types)
    general = _format(search.source, search.destination)
    default = default_type(search.destination)
    mapping = search.mappings["volume_types"]
    named = [at_destination(r.data["volume_type"], mapping, types) or default for r in records]
    return [
        replace(record, copied_as=_for_type(name) if name in raw_types else general)
        for record, name in zip(records, named, strict=True)
    ]


def copied_as(migration: Migration, record: Record) -> str:
    """The format that a plan has chosen; before there was a choice, plans had but the policy."""
    if record.copied_as:
        return record.copied_as.name
    policy = str(migration.policies.get("volume_format", RAW))
    return RAW if policy == AUTO else policy


def check_size(head: bytes, data: Json) -> None:
    """Raise ConversionError where an image, of which these are the first bytes, is not of a volume but of something in it.

    The layout is that of https://www.qemu.org/docs/master/interop/qcow2.html
    """
    magic, size_bytes = struct.unpack(_QCOW2_HEAD, head.ljust(QCOW2_SIZE_END, b"\0"))
    if magic != _QCOW2_MAGIC or size_bytes != data["size"] << 30:
        raise ConversionError(
            f"what Cinder made of volume {data['name'] or data['id']} is the image of {size_bytes} bytes, and the volume "
            f"has {data['size'] << 30}: what it holds looks like the image of a disk",
            "set policies.volume_format to raw for it",
        )


def may_fall_back(migration: Migration, record: Record) -> bool:
    """Whether a volume travels as raw where a cloud turns out not to take it as planned."""
    return migration.policies.get("volume_format") == AUTO and copied_as(migration, record) == QCOW2


def _check_types(raw_types: Iterable[str], there: Collection[str]) -> None:
    if unknown := [name for name in raw_types if name not in there]:
        problem = (
            f"policies.raw_volume_types: the destination has no volume type {', '.join(map(repr, unknown))}"
        )
        raise ConfigError([problem], f"expected some of {', '.join(sorted(there))}")


def _for_type(name: str) -> CopyFormat:
    return CopyFormat(RAW, f"policies.raw_volume_types has its type {name}")


def _format(source: Cloud, destination: Cloud) -> CopyFormat:
    for cloud in (source, destination):
        if not takes(cloud, QCOW2):
            return CopyFormat(RAW, f"Glance of the {cloud.name} lists no {QCOW2} among its formats")
    return CopyFormat(QCOW2, "what was never written stays behind")

"""Whether the bytes of images are what their format says: told by the first of them, before anything is copied."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from oslo_utils.imageutils.format_inspector import ALL_FORMATS, InspectWrapper

from pumphouse.errors import http_status
from pumphouse.model import Obstacle, Step

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

# The marks of an ISO 9660 file, which come last of all formats, end at 34,822.
_FIRST_BYTES = 64 << 10
_AT_ONCE = 4
# Whatever is in an image of these, Glance takes it for a disk; it looks into no other container.
_CONTAINER, _ANYTHING = "bare", "raw"


def mismatches(source: Cloud, images: Iterable[Step]) -> Iterator[Obstacle]:
    """The images that Glance refuses once their last byte has come, as it does by default in newer releases.

    It is what `set_data` of glance/location.py does where `require_image_format_match` is set. The first bytes of each
    image are read, and no others.
    """
    looked_into = [step for step in images if step.record.data.get("container_format") == _CONTAINER]
    looked_into = [step for step in looked_into if step.record.size_bytes]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        heads = pool.map(lambda step: _head(source, step.ref.id), looked_into)
        for step, head in zip(looked_into, heads, strict=True):
            found, said = _format(head), step.record.data.get("disk_format")
            if head and not _is_taken(found, str(said)):
                yield Obstacle(
                    f"image {step.record.name or step.ref.id} is said to be {said}, and its first bytes are those of "
                    f"{found}: Glance refuses that behind the last byte, unless it is an old one",
                    "make the image again with its right disk_format and leave this one out, or unset "
                    "require_image_format_match in glance-api.conf of the destination",
                    is_certain=False,
                )


def _head(source: Cloud, image_id: str) -> bytes:
    """The first bytes of an image; none where this login does not get them."""
    wanted = {"Range": f"bytes=0-{_FIRST_BYTES - 1}", "Accept-Encoding": "identity"}
    try:
        with source.adapter("image").get(f"/images/{image_id}/file", stream=True, headers=wanted) as response:
            head: bytes = response.raw.read(_FIRST_BYTES)
    except Exception as error:
        # Such as one whose bytes are gone, or that is deactivated: a copy says more of it.
        if (http_status(error) or 500) >= 500:
            raise
        return b""
    return head


def _format(head: bytes) -> str:
    """What the beginning of an image is; several names where it could be several."""
    inspected = InspectWrapper(io.BytesIO(head))
    inspected.read(len(head))
    inspected.close()
    return "+".join(sorted(map(str, inspected.formats or ())))


def _is_taken(found: str, said: str) -> bool:
    if found == "gpt+iso":
        found = "iso"
    if "+" in found:
        return False
    # What is no disk, such as a kernel, is not looked into.
    is_other = found == _ANYTHING and said not in ALL_FORMATS
    return found == said or said == _ANYTHING or is_other

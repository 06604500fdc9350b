"""How fast bytes go from one cloud to the other: measured with an image, and remembered on this machine."""

from __future__ import annotations

import io
import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pumphouse.tasks.base import persistently
from pumphouse.tasks.glance.transfer import Hashes, TransferLimits, copy_image

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

SIZE_BYTES = 64 << 20
_PIECE_BYTES = 1 << 20
_FILE = "speed.json"
_NAME = "pumphouse-speed"


def measure(source: Cloud, destination: Cloud) -> tuple[float, float]:
    """Bytes per second of one copy from the source to the destination, and of one back; the images are removed."""
    with ExitStack() as made:
        first = _image(source, made)
        # Bytes that nobody can make smaller.
        source.glance.images.upload(
            first, io.BytesIO(os.urandom(_PIECE_BYTES) * (SIZE_BYTES // _PIECE_BYTES))
        )
        second = _image(destination, made)
        there = _timed(source, destination, first, second)
        return there, _timed(destination, source, second, _image(source, made))


def remember(folder: Path, source: str, destination: str, bytes_per_s: float) -> None:
    """Keep a speed for the estimates of later plans."""
    known = {**_read(folder), f"{source} to {destination}": bytes_per_s}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FILE).write_text(json.dumps(known, indent=2))


def remembered(folder: Path, source: str, destination: str) -> float | None:
    """The speed that was measured last; None where none was."""
    found = _read(folder).get(f"{source} to {destination}")
    return found if isinstance(found, int | float) and found > 0 else None


def _image(cloud: Cloud, made: ExitStack) -> str:
    image = cloud.glance.images.create(name=_NAME, disk_format="raw", container_format="bare")
    made.callback(persistently, cloud.glance.images.delete, image["id"])
    return str(image["id"])


def _timed(source: Cloud, destination: Cloud, image_id: str, copy_id: str) -> float:
    expected = Hashes.of(source.glance.images.get(image_id))
    began_s = time.monotonic()
    copy_image(
        source,
        destination,
        image_id,
        copy_id,
        size_bytes=SIZE_BYTES,
        expected=expected,
        limits=TransferLimits(1),
        on_progress=lambda _: None,
    )
    return SIZE_BYTES / (time.monotonic() - began_s)


def _read(folder: Path) -> dict[str, float]:
    try:
        found = json.loads((folder / _FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

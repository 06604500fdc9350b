"""The bytes behind servers and volumes, and writing to them as a guest would."""

from __future__ import annotations

import hashlib
from pathlib import Path


def server_disk(lab_dir: Path, cloud: str, server_id: str) -> Path:
    """The root disk of a server that boots from an image."""
    return lab_dir / cloud / "nova" / "instances" / server_id / "disk"


def volume_file(lab_dir: Path, cloud: str, volume_id: str) -> Path:
    """The bytes of a volume: a sparse raw file of the volume's size."""
    return lab_dir / cloud / "cinder" / "volumes" / volume_id


def write_bytes(path: Path, offset: int, data: bytes) -> str:
    """Write into a disk or volume at an offset in bytes; the SHA-512 of the whole file afterwards."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    return sha512(path)


def sha512(path: Path) -> str:
    """The SHA-512 of a file in hexadecimal: what Glance keeps as os_hash_value of the same bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()

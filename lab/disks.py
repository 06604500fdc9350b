"""The bytes behind servers and volumes, and writing to them as a guest would."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

BLOCK_BYTES = 1 << 20


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


def sparse_sha512(path: Path) -> str:
    """The SHA-512 of a file's blocks that are not zero, with their places: the same for the same bytes.

    A volume's file is nearly all holes, which are not read.
    """
    found = hashlib.sha512(str(path.stat().st_size).encode())
    with path.open("rb", buffering=0) as file:
        for offset in _data_blocks(file.fileno(), path.stat().st_size):
            block = os.pread(file.fileno(), BLOCK_BYTES, offset)
            if block.strip(b"\0"):
                found.update(offset.to_bytes(8, "big") + block)
    return found.hexdigest()


def _data_blocks(file: int, size_bytes: int) -> Iterator[int]:
    """The offsets of the blocks that are not wholly in a hole."""
    offset = 0
    while offset < size_bytes:
        try:
            offset = os.lseek(file, offset, os.SEEK_DATA) // BLOCK_BYTES * BLOCK_BYTES
        except OSError:  # only a hole is left
            return
        yield offset
        offset += BLOCK_BYTES

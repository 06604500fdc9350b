"""How much of each kind a sample tenant has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

IMAGE_MIB_MAX = 512  # with the bytes written after boot it still fits the flavors' disks of one GiB


def _size(default: int, least: int, most: int, meaning: str) -> Any:
    return field(default=default, metadata={"least": least, "most": most, "help": meaning})


@dataclass(frozen=True)
class Sizes:
    """Counts and sizes; a count takes the forms that tell most first and plain ones after them."""

    users: int = _size(3, 1, 200, "Users: alice, bob (by a group), carol (disabled), plain ones.")
    images: int = _size(
        6,
        1,
        500,
        "Images: base, appliance (qcow2, protected), shared, kernel, "
        "legacy (hidden), withdrawn (deactivated), plain ones.",
    )
    networks: int = _size(4, 1, 200, "Networks of two subnets: front, back, storage, quarantine, plain ones.")
    security_groups: int = _size(4, 1, 500, "Security groups: web, db, odd, stateless, plain ones.")
    volumes: int = _size(
        4,
        0,
        500,
        "Volumes: data (attached), archive (read-only), seed (bootable), logs (attached), plain ones.",
    )
    servers: int = _size(
        3, 1, 500, "Servers: web (three NICs), batch (SHUTOFF), db (volumes, floating IP), plain ones."
    )
    image_mib: int = _size(4, 1, IMAGE_MIB_MAX, "MiB of random bytes in each image.")
    disk_mib: int = _size(2, 1, IMAGE_MIB_MAX, "MiB written after boot to each raw disk and volume.")
    volume_gib: int = _size(1, 1, 1024, "GiB of each volume (their files are sparse).")
    boot_from_volume: bool = True

    @classmethod
    def small(cls) -> Sizes:
        """The least that still has a server on a router's network: made in a few seconds."""
        return cls(
            users=1,
            images=1,
            networks=1,
            security_groups=1,
            volumes=0,
            servers=1,
            image_mib=1,
            disk_mib=1,
            boot_from_volume=False,
        )

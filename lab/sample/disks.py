"""What the sample's guests would write: bytes on every disk that are in no image."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import NamedTemporaryFile

from lab.sample.base import MIB, Tenant, content, together
from lab.sample.servers import FROM_VOLUME

QCOW2_MAGIC = b"QFI\xfb"
OFFSET_BYTES = MIB // 2  # the first bytes stay, as a guest's boot loader would


def server_disk(cloud_dir: Path, server_id: str) -> Path:
    """The file that is the root disk of a server which was booted from an image."""
    return cloud_dir / "nova" / "instances" / server_id / "disk"


def volume_file(cloud_dir: Path, volume_id: str) -> Path:
    """The file that holds a volume's bytes."""
    return cloud_dir / "cinder" / "volumes" / volume_id


def write_disks(tenant: Tenant, cloud_dir: Path, servers: dict[str, str], volumes: dict[str, str]) -> None:
    """Change bytes on every server's disk and every volume, seeded by their names."""
    files = {
        f"server/{name}": server_disk(cloud_dir, server_id)
        for name, server_id in servers.items()
        if name != FROM_VOLUME
    }
    files |= {f"volume/{name}": volume_file(cloud_dir, volume_id) for name, volume_id in volumes.items()}
    mib = tenant.sizes.disk_mib
    together(lambda seed: _write(files[seed], f"{tenant.name}/{seed}", mib), list(files))


def _write(path: Path, seed: str, mib: int) -> None:
    with path.open("r+b") as disk:
        if disk.read(len(QCOW2_MAGIC)) == QCOW2_MAGIC:
            _write_qcow2(path, seed)
            return
        disk.seek(OFFSET_BYTES)
        disk.writelines(content(seed, mib))


def _write_qcow2(path: Path, seed: str) -> None:
    """Write through the format, which ends where the image did: within its size."""
    with NamedTemporaryFile() as pattern:
        pattern.writelines(content(seed, 1))
        pattern.flush()
        write = f"write -s {pattern.name} {OFFSET_BYTES} {MIB // 2}"
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", write, path], check=True, capture_output=True)

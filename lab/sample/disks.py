"""What the sample's guests would write: bytes on every disk that are in no image."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import NamedTemporaryFile

from lab.disks import server_disk, volume_file
from lab.sample.base import MIB, Tenant, content, together
from lab.sample.servers import FROM_VOLUME

QCOW2_MAGIC = b"QFI\xfb"
OFFSET_BYTES = MIB // 2  # the first bytes stay, as a guest's boot loader would


def write_disks(tenant: Tenant, lab_dir: Path, servers: dict[str, str], volumes: dict[str, str]) -> None:
    """Change bytes on every server's disk and every volume, seeded by their names."""
    cloud = tenant.admin.name
    files = {
        f"server/{name}": server_disk(lab_dir, cloud, server_id)
        for name, server_id in servers.items()
        if name != FROM_VOLUME
    }
    files |= {f"volume/{name}": volume_file(lab_dir, cloud, volume_id) for name, volume_id in volumes.items()}
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

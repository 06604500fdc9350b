"""A volume backend without devices: every volume and every snapshot is a sparse raw file."""
# ruff: noqa: ARG002 - the methods' arguments are those of Cinder's driver interface

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from cinder.image import image_utils
from cinder.volume import driver, volume_utils
from oslo_config import cfg

GIB = 1024**3
OPTIONS = [cfg.StrOpt("lab_volumes_dir", help="The directory of the volumes' files.")]


class SparseFileDriver(driver.VolumeDriver):
    """Volumes as files named by their ids in lab_volumes_dir, snapshots with `snapshot-` before the id."""

    VERSION = "1"
    CI_WIKI_NAME = "none"

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.configuration.append_config_values(OPTIONS)
        self._directory = Path(self.configuration.lab_volumes_dir)

    def check_for_setup_error(self) -> None:
        """Make the directory of the volumes."""
        self._directory.mkdir(parents=True, exist_ok=True)

    def local_path(self, volume: Any) -> str:
        """The file of a volume."""
        return str(self._directory / volume.id)

    def _snapshot_path(self, snapshot: Any) -> str:
        return str(self._directory / f"snapshot-{snapshot.id}")

    def create_volume(self, volume: Any) -> None:
        """Make an empty file of the volume's size."""
        self._resize(volume, volume.size)

    def delete_volume(self, volume: Any) -> None:
        """Remove the volume's file."""
        _remove(self.local_path(volume))

    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Let the volume's file grow."""
        self._resize(volume, new_size)

    def create_snapshot(self, snapshot: Any) -> None:
        """Copy the volume as it is now."""
        _copy_sparse(self.local_path(snapshot.volume), self._snapshot_path(snapshot))

    def delete_snapshot(self, snapshot: Any) -> None:
        """Remove the snapshot's file."""
        _remove(self._snapshot_path(snapshot))

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> None:
        """Copy a snapshot into a new volume."""
        _copy_sparse(self._snapshot_path(snapshot), self.local_path(volume))
        self._resize(volume, volume.size)

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> None:
        """Copy a volume into a new one."""
        _copy_sparse(self.local_path(src_vref), self.local_path(volume))
        self._resize(volume, volume.size)

    def revert_to_snapshot(self, context: Any, volume: Any, snapshot: Any) -> None:
        """Give a volume the bytes of its snapshot."""
        self.create_volume_from_snapshot(volume, snapshot)

    def copy_image_to_volume(
        self, context: Any, volume: Any, image_service: Any, image_id: str, **options: Any
    ) -> None:
        """Fill a volume from an image, whatever the image's format."""
        path = self.local_path(volume)
        image_utils.fetch_to_raw(
            context, image_service, image_id, path, "1M", size=volume.size, run_as_root=False, **options
        )  # fmt: skip
        # The conversion leaves a file of the image's size.
        self._resize(volume, volume.size)

    def copy_volume_to_image(self, context: Any, volume: Any, image_service: Any, image_meta: Any) -> None:
        """Upload a volume's bytes in the format that the image asks for."""
        _upload(context, image_service, image_meta, self.local_path(volume), volume)

    def ensure_export(self, context: Any, volume: Any) -> None:
        """Nothing to export: the file is there."""

    def create_export(self, context: Any, volume: Any, connector: Any) -> None:
        """Nothing to export: the file is there."""

    def remove_export(self, context: Any, volume: Any) -> None:
        """Nothing was exported."""

    def initialize_connection(self, volume: Any, connector: Any, **options: Any) -> dict[str, Any]:
        """Where the volume's bytes are."""
        return {"driver_volume_type": "local", "data": {"device_path": self.local_path(volume)}}

    def terminate_connection(self, volume: Any, connector: Any, **options: Any) -> None:
        """Nothing was connected."""

    def get_volume_stats(self, refresh: bool = False) -> dict[str, Any]:
        """What the scheduler chooses by: room without end."""
        return {
            "volume_backend_name": self.configuration.volume_backend_name,
            "vendor_name": "Pumphouse",
            "driver_version": self.VERSION,
            "storage_protocol": "file",
            "total_capacity_gb": "infinite",
            "free_capacity_gb": "infinite",
            "provisioned_capacity_gb": 0,
            "reserved_percentage": 0,
            "thin_provisioning_support": True,
            "multiattach": True,
        }

    def _resize(self, volume: Any, size_gib: int) -> None:
        with open(self.local_path(volume), "ab") as file:
            file.truncate(size_gib * GIB)


def _copy_sparse(source: str, target: str) -> None:
    subprocess.run(
        ["cp", "--sparse=always", "--reflink=auto", source, target], check=True, capture_output=True
    )


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        Path(path).unlink()


def _upload(context: Any, image_service: Any, image_meta: Any, path: str, volume: Any) -> None:
    if hasattr(volume_utils, "upload_volume"):
        volume_utils.upload_volume(context, image_service, image_meta, path, volume, run_as_root=False)
    else:  # before Ussuri
        image_utils.upload_volume(context, image_service, image_meta, path, run_as_root=False)

"""A lab: two independent real OpenStack clouds on this machine, named `source` and `destination`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from lab import config, machine, processes
from lab.layout import (
    CLOUDS,
    LabCloud,
    LabError,
    default_dir,
    locked,
    make_clouds,
    read_clouds,
    write_private,
)
from lab.progress import Say, step

__all__ = ["Lab", "LabCloud", "LabError"]


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


class Lab:
    """Two clouds in one directory.

    directory: without it the user's default lab (see layout.default_dir).
    say: what is told about the progress; stderr by default.
    """

    def __init__(self, directory: Path | str | None = None, say: Say = _say):
        self.dir = Path(directory or default_dir()).expanduser().absolute()
        self._say = say

    @property
    def clouds_yaml(self) -> Path:
        """The file with both clouds' credentials, for openstacksdk and Pumphouse."""
        return self.dir / "clouds.yaml"

    def clouds(self) -> list[LabCloud]:
        """Both clouds; LabError if the lab was never made."""
        return read_clouds(self.dir)

    def cloud_dir(self, name: str) -> Path:
        """The directory of one cloud: its logs, its images, its disks."""
        return self.dir / name

    def is_up(self) -> bool:
        """Whether every process of both clouds runs."""
        return (self.dir / "lab.json").exists() and all(process for _, _, process in self.status())

    def status(self) -> list[tuple[LabCloud, str, Any]]:
        """Each service of each cloud with its process, None if it does not run."""
        found = [(cloud, processes.find(cloud)) for cloud in self.clouds()]
        return [(cloud, name, running.get(name)) for cloud, running in found for name in processes.NAMES]

    def up(self, port_base: int | None = None, releases: Mapping[str, str] | None = None) -> bool:
        """Make what is missing and start what is not running; False if all was running already.

        port_base, releases: see layout.make_clouds.
        """
        if self.is_up() and self.clouds_yaml.exists():
            make_clouds(
                self.dir, port_base, releases
            )  # only reads what is there, and says if other was asked for
            return False
        from lab import boot  # openstacksdk alone takes longer to load than all that the other commands do

        with locked(self.dir):
            clouds = make_clouds(self.dir, port_base, releases)
            made = {cloud.name: machine.prepare(self._say, cloud.release) for cloud in clouds}
            with step(self._say, f"starting {' and '.join(CLOUDS)}"):
                _both(lambda cloud: boot.up(cloud, *made[cloud.name]), clouds)
        write_private(self.clouds_yaml, yaml.safe_dump(_clouds_yaml(clouds), sort_keys=False))
        return True

    def down(self, purge: bool = False) -> int:
        """End all processes, and with purge remove the lab's directory; the number of processes ended."""
        ended = sum(processes.stop(cloud) for cloud in self.clouds())
        if purge:
            shutil.rmtree(self.dir)
        return ended

    def reset(self) -> None:
        """Put both clouds back to what they were when they were made: furnished, without tenants."""
        from lab import boot

        with locked(self.dir), step(self._say, f"resetting {' and '.join(CLOUDS)}"):
            _both(lambda cloud: boot.reset(cloud, machine.venv_dir(cloud.release)), self.clouds())


def _both(work: Callable[[LabCloud], None], clouds: list[LabCloud]) -> None:
    with ThreadPoolExecutor(len(clouds)) as pool:
        list(pool.map(work, clouds))


def _clouds_yaml(clouds: list[LabCloud]) -> dict[str, Any]:
    entries = {
        cloud.name: {
            "auth_type": "password",
            "auth": config.administrator(cloud),
            "region_name": config.REGION,
            "identity_api_version": 3,
        }
        for cloud in clouds
    }
    return {"clouds": entries}

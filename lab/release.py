"""The releases of OpenStack that a cloud of a lab can be of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent / "releases"  # each release's packages


@dataclass(frozen=True)
class Release:
    """A release, and in what it differs for a lab.

    python: the version of the Python that its packages run on.
    green_threads: Nova, Neutron and Cinder run on eventlet, as all did before native threads (2025.2).
    compiled: some of its packages have no wheel for this Python: a C compiler makes them.
    volume_path: of Cinder in the catalog; before Yoga it wants the project in each address.
    """

    name: str
    python: str = "3.11"
    green_threads: bool = True
    compiled: bool = True
    volume_path: str = "/v3"

    @property
    def requirements(self) -> Path:
        """What is installed to have its services."""
        return DATA / self.name / "requirements.txt"

    @property
    def constraints(self) -> Path:
        """The version of each package that comes along."""
        return DATA / self.name / "constraints.txt"


NEWEST = Release("newest", green_threads=False, compiled=False)
WALLABY = Release("wallaby", python="3.8", volume_path="/v3/%(project_id)s")
TRAIN = Release("train", python="3.7", volume_path="/v3/%(project_id)s")
RELEASES = {
    release.name: release
    for release in (NEWEST, Release("epoxy"), Release("caracal"), Release("zed"), WALLABY, TRAIN)
}

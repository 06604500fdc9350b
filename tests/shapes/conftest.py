"""A tenant, and a load balancer in front of the clouds that it moves between."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from lab.populate import Sample, populate
from lab.sample.base import Sizes
from tests.real.conftest import discard, lab
from tests.real.runner import Runner
from tests.shapes.certificates import Certificates, make_certificates
from tests.shapes.front import Front, clouds_file, fronted
from tests.shapes.shapes import Shape

__all__ = ["lab"]

OUTAGE_S = 30


@pytest.fixture(scope="session")
def shared_front(lab: Lab) -> Iterator[Front]:
    with fronted(lab) as front:
        yield front


@pytest.fixture
def front(shared_front: Front) -> Iterator[Front]:
    """The load balancer, with nothing odd about the clouds behind it."""
    shared_front.reset()
    yield shared_front
    shared_front.reset()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def tenant(lab: Lab) -> Iterator[Sample]:
    """A tenant with a server that boots from an image, one that boots from a volume, and a router."""
    sizes = Sizes(
        users=1, images=1, networks=1, security_groups=2, volumes=1, servers=1, image_mib=1, disk_mib=1
    )
    sample = populate(lab.clouds_yaml, f"shapes-{uuid.uuid4().hex[:6]}", sizes)
    yield sample
    discard(lab, sample.name)


class Operator(Runner):
    """Somebody whose clouds are behind the load balancer."""

    def __init__(self, front: Front, lab: Lab, folder: Path) -> None:
        super().__init__(lab, folder)
        self._front, self._place = front, folder

    def sees(self, shape: Shape) -> None:
        """Have the clouds look like those of a shape."""
        front = self._front
        front.traits, front.leaves_links, front.idle_s = shape.traits, shape.leaves_links, shape.idle_s
        front.rules = shape.rules()
        file = clouds_file(front, self.lab, self._place / "clouds.yaml", shape.changes)
        config = self.write_config(self._place / "pumphouse.yaml", file)
        config.write_text(f"{config.read_text()}limits: {{outage_s: {OUTAGE_S}}}\n")


@pytest.fixture
def operator(front: Front, lab: Lab, tmp_path: Path) -> Operator:
    return Operator(front, lab, tmp_path)

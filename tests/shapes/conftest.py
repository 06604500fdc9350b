"""A tenant, and a load balancer in front of the clouds that it moves between."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import Lab
from lab.populate import Sample, populate, remove
from lab.sample.base import Sizes
from tests.real.conftest import discard, lab
from tests.real.listing import Listing, listing
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
    """A tenant with a server that boots from an image, one from a volume, a router, a floating IP and a trunk."""
    sizes = Sizes(
        users=1, images=1, networks=2, security_groups=2, volumes=1, servers=1, image_mib=1, disk_mib=1
    )
    sample = populate(lab.clouds_yaml, f"shapes-{uuid.uuid4().hex[:6]}", sizes)
    yield sample
    discard(lab, sample.name)


class Operator(Runner):
    """Somebody whose clouds are behind the load balancer."""

    def __init__(self, front: Front, lab: Lab, folder: Path) -> None:
        super().__init__(lab, folder)
        self._front, self._place = front, folder

    def sees(self, shape: Shape, **mappings: dict[str, str]) -> None:
        """Have the clouds look like those of a shape; mappings: the configuration's."""
        front = self._front
        front.traits, front.leaves_links, front.idle_s = shape.traits, shape.leaves_links, shape.idle_s
        front.rules = shape.rules()
        file = clouds_file(front, self.lab, self._place / "clouds.yaml", shape.changes)
        config = self.write_config(self._place / "pumphouse.yaml", file)
        more = f"limits: {{outage_s: {OUTAGE_S}}}\nmappings: {json.dumps(mappings)}\n"
        config.write_text(config.read_text() + more)


@pytest.fixture
def operator(front: Front, lab: Lab, tmp_path: Path) -> Operator:
    return Operator(front, lab, tmp_path)


@pytest.fixture
def empty(lab: Lab, tenant: Sample) -> Iterator[Listing]:
    """What the destination has without the tenant, of which nothing stays whatever a test has come to."""
    yield listing(lab.clouds_yaml, "destination")
    remove(lab.clouds_yaml, tenant.name, cloud="destination")


@dataclass(frozen=True)
class Arrival:
    """What became of a tenant: see Shape."""

    exit_code: int = 0
    failed: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    different: frozenset[str] = frozenset()

    @classmethod
    def of(cls, shape: Shape) -> Arrival:
        """What is to become of it between clouds of a shape."""
        return cls(shape.exit_code, *map(frozenset, (shape.failed, shape.missing, shape.different)))


def arrival(operator: Operator, tenant: Sample) -> Arrival:
    """Migrate a tenant, of which something has to arrive, and verify it."""
    migrated = operator.start("migrate", "tenant", tenant.name, "--yes", "-f", "json").wait().expect(0, 3)
    assert "created" in migrated.json["summary"]
    failed = {item["kind"] for item in migrated.json["resources"] if item["outcome"] == "failed"}
    verified = operator.start("verify", "tenant", tenant.name, "-f", "json").wait().expect(0, 6)
    missing = {item["kind"] for item in verified.json["resources"] if item["outcome"] == "missing"}
    different = {
        f"{item['kind']}.{found['field']}"
        for item in verified.json["resources"]
        for found in item["differences"]
        if not found["excuse"]
    }
    different |= {item["kind"] for item in verified.json["resources"] if item["outcome"] == "extra"}
    assert verified.code == (6 if missing | different else 0)
    return Arrival(migrated.code, *map(frozenset, (failed, missing, different)))

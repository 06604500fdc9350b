"""The lab that the tests against real clouds share."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from lab.populate import Sample, populate, remove
from lab.sample.base import connect, post
from lab.sample.sizes import Sizes

# Labs that end with the session: to remove what is in them takes as long as to make it.
THROWN_AWAY: set[Path] = set()


def discard(lab: Lab, name: str) -> None:
    """Remove a sample tenant from both clouds, unless they go with all that is in them."""
    if lab.dir in THROWN_AWAY:
        return
    for cloud in ("source", "destination"):
        remove(lab.clouds_yaml, name, cloud=cloud)


def make_partner(lab: Lab, sample: Sample) -> None:
    """Have the destination know the tenant that a sample shares with."""
    partner = {"name": f"{sample.name}.partner", "domain_id": "default"}
    post(connect(lab.clouds_yaml, "destination").identity, "/projects", project=partner)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The running lab that $PUMPHOUSE_LAB_DIR names, else one of the session's own."""
    directory = os.environ.get("PUMPHOUSE_LAB_DIR")
    if directory:
        yield Lab(directory)
        return
    lab = Lab(tmp_path_factory.mktemp("lab"))
    THROWN_AWAY.add(lab.dir)
    try:
        lab.up()
        # For the other folders of tests in the same session.
        os.environ["PUMPHOUSE_LAB_DIR"] = str(lab.dir)
        yield lab
    finally:
        os.environ.pop("PUMPHOUSE_LAB_DIR", None)
        lab.down(purge=True)


@pytest.fixture(scope="session")
def small(lab: Lab) -> Iterator[Sample]:
    """A tenant with one server, for tests that leave it as it is or move it by a state store of their own."""
    sample = populate(lab.clouds_yaml, f"shared-{uuid.uuid4().hex[:6]}", Sizes.small())
    yield sample
    discard(lab, sample.name)

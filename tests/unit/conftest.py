"""What several files of unit tests share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import HealthCheck, settings
from taskflow.persistence.base import Backend

from pumphouse import tasks
from pumphouse.store import open_store
from tests.unit.memory import KINDS, World

# How long an example takes tells of the machine.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def world() -> Iterator[World]:
    """A destination in memory, with its kinds instead of OpenStack's."""
    real = dict(tasks.KINDS)
    tasks.KINDS.clear()
    tasks.KINDS.update(KINDS)
    yield World()
    tasks.KINDS.clear()
    tasks.KINDS.update(real)


@pytest.fixture
def store() -> Iterator[Backend]:
    """A state store in memory."""
    with closing(open_store("memory://")) as opened:
        yield opened

"""What several files of unit tests share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from taskflow.persistence.base import Backend

from pumphouse import flows
from pumphouse.plan import make as plan
from pumphouse.run import execute as run
from pumphouse.run import record as runs
from pumphouse.run import revert
from pumphouse.store import open_store
from tests.unit.memory import KINDS, World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A destination in memory, with its kinds instead of OpenStack's."""
    for module in (plan, flows, run, runs, revert):
        monkeypatch.setattr(module, "KINDS", KINDS)
    return World()


@pytest.fixture
def store() -> Iterator[Backend]:
    """A state store in memory."""
    with closing(open_store("memory://")) as opened:
        yield opened

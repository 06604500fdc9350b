"""What several files of unit tests share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

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


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, the home as well, with nothing of the machine's; loggers are put back."""
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.setenv(name, str(tmp_path / "home" / name.lower()))
    for name in ("PUMPHOUSE_CONFIG", "OS_CLIENT_CONFIG_FILE", "NO_COLOR", "PUMPHOUSE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    loggers = [logging.getLogger(), logging.getLogger("pumphouse")]
    before = [(each, list(each.handlers), each.level) for each in loggers]
    yield tmp_path
    for each, handlers, level in before:
        each.handlers[:] = handlers
        each.setLevel(level)
    logging.captureWarnings(False)

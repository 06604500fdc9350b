"""A tenant of a thousand servers: what a process holds does not grow with what it has done."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pumphouse.model import Plan, Ref, State
from pumphouse.run import revert
from pumphouse.run.events import Event, OutcomeReported
from pumphouse.run.execute import execute_run
from pumphouse.run.record import create_run, find_book, load_run
from pumphouse.run.summary import list_runs, run_data
from pumphouse.store import open_store
from tests.unit.memory import TENANT, World, migration, planned, step

FEW = 8
TASKS = 8
SWEPT_AFTER = 10 * TASKS
# What is read, recorded and reported of a server; an engine that is not let go has twice as much.
PER_SERVER_BYTES = 40 << 10


class Sweeper:
    """A listener that keeps nothing, and has garbage collected: only what is held counts."""

    def __init__(self) -> None:
        self._reported = 0

    def __call__(self, event: Event) -> None:
        """Collect garbage now and then."""
        self._reported += isinstance(event, OutcomeReported)
        if isinstance(event, OutcomeReported) and self._reported % SWEPT_AFTER == 0:
            gc.collect()


def plan_of(servers: int) -> Plan:
    """A plan of so many servers, each a unit of TASKS tasks."""
    steps = [TENANT]
    for number in range(servers):
        whole = Ref("server", f"s{number}")
        parts = [step("thing", f"s{number}-{part}", TENANT.ref, part_of=whole) for part in range(1, TASKS)]
        steps += [*parts, step(whole.kind, whole.id, TENANT.ref, *(part.ref for part in parts))]
    return planned(*steps)


def peaks(folder: Path, world: World, servers: int) -> dict[str, int]:
    """The most bytes that each part of the life of a run takes, besides what was there when it began."""
    found: dict[str, int] = {}

    def measured(what: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        result = work(*args, **kwargs)
        found[what] = tracemalloc.get_traced_memory()[1] - before
        return result

    there, stop = migration(world), threading.Event()
    with closing(open_store(f"sqlite:///{folder}/{servers}.db")) as store:
        run_id = measured("record", create_run, store, plan_of(servers)).id
        run = measured("load", load_run, store, find_book(store, run_id))
        report = measured("execute", execute_run, run, there, Sweeper(), stop)
        assert report.count() == {State.CREATED: 1 + TASKS * servers}
        assert [item["run"] for item in measured("list", list_runs, store)] == [run.id]
        assert len(measured("show", run_data, run)["units"]) == 1 + servers
        reverts = measured("plan the revert", revert.plan_revert, run, there, force=False)
        report = measured("revert", revert.revert_run, run, there, reverts, Sweeper(), stop)
        assert report.count() == {State.REVERTED: 1 + TASKS * servers}
    return found


@pytest.fixture(autouse=True)
def _traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(revert, "clock_difference_s", lambda cloud: 0.0)
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("servers", [40, pytest.param(1000, marks=pytest.mark.exhaustive)])
def test_memory_does_not_grow_with_what_is_done(tmp_path: Path, world: World, servers: int) -> None:
    few, many = peaks(tmp_path, world, FEW), peaks(tmp_path, world, servers)
    per_server = {what: (many[what] - few[what]) // (servers - FEW) for what in few}
    assert max(per_server.values()) < PER_SERVER_BYTES, per_server
    assert world.things == set()

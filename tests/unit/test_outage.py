"""Tasks in an outage, and tasks that wait when the run is to end: a kind that lives in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import wraps

import pytest
from keystoneauth1 import exceptions
from taskflow.persistence.base import Backend

from pumphouse.errors import BrokenOffError, OutageError
from pumphouse.model import Ref, State
from pumphouse.run import revert
from pumphouse.run.record import create_run, find_book, load_run
from tests.unit.memory import TENANT, Make, World, execute, planned, reason, states, step
from tests.unit.test_resume_revert import undo

ONE = step("thing", "one", TENANT.ref)
TWO = step("thing", "two", ONE.ref)
LOST = [exceptions.ConnectFailure("cut"), exceptions.BadGateway(), BrokenOffError("broke off")]


def failing(name: str, *errors: Exception) -> Callable[[str], None]:
    """What raises these errors, one after the other, when something of that name is made or undone."""
    left = list(errors)

    def call(called: str) -> None:
        if called == name and left:
            raise left.pop(0)

    return call


@pytest.fixture(autouse=True)
def _short(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.outages.limit_s = 0.4
    monkeypatch.setattr(revert, "clock_difference_s", lambda cloud: 0.0)


@pytest.mark.parametrize("error", LOST)
def test_a_task_is_executed_again_and_nothing_is_undone(
    store: Backend, world: World, error: Exception
) -> None:
    world.on_make = failing("one", error, error)
    report, _ = execute(create_run(store, planned(TENANT, ONE, TWO)), world)
    assert set(states(report).values()) == {State.CREATED}
    assert world.log == ["t", "one", "two"]


def test_a_task_fails_after_the_limit_and_what_it_waited_for_is_said(store: Backend, world: World) -> None:
    world.on_make = failing("one", *[exceptions.BadGateway("no backend")] * 1000)
    start_s = time.monotonic()
    report, _ = execute(create_run(store, planned(TENANT, ONE, TWO)), world)
    assert states(report) == {"t": State.CREATED, "one": State.FAILED, "two": State.BLOCKED}
    assert "no backend" in reason(report, "one")
    assert time.monotonic() - start_s >= 0.4


@pytest.mark.parametrize("error", [OutageError("away for long"), exceptions.Forbidden()])
def test_what_waiting_does_not_mend_fails_at_once(store: Backend, world: World, error: Exception) -> None:
    world.outages.limit_s = 3600
    world.on_make = failing("one", error)
    report, _ = execute(create_run(store, planned(TENANT, ONE)), world)
    assert states(report)["one"] is State.FAILED


def test_an_undo_is_called_again_and_says_what_stays_after_the_limit(store: Backend, world: World) -> None:
    recorded = create_run(store, planned(TENANT, ONE, TWO))
    execute(recorded, world)
    world.on_undo = failing("two", *LOST)
    report, _ = undo(recorded, world)
    assert set(states(report).values()) == {State.REVERTED}
    recorded = create_run(store, planned(TENANT, ONE, TWO))
    execute(recorded, world)
    world.on_undo = failing("two", *[exceptions.BadGateway("no backend")] * 1000)
    report, _ = undo(recorded, world)
    assert states(report)["two"] is State.KEPT
    assert "thing-two-ensured: the cloud answered 502: no backend" in reason(report, "two")
    world.on_undo = lambda name: None
    report, _ = undo(load_run(store, find_book(store, recorded.id)), world)
    assert set(states(report).values()) == {State.REVERTED}


@pytest.mark.parametrize("on_failure", ["revert", "keep"])
def test_what_waits_when_the_run_is_to_end_begins_again_with_it(
    store: Backend, world: World, on_failure: str
) -> None:
    world.outages.limit_s = 3600
    stop = threading.Event()

    def wait(name: str) -> None:
        if name == "one":
            threading.Timer(0.1, stop.set).start()
            world.outages.pause(60)

    world.on_make = wait
    recorded = create_run(store, planned(TENANT, ONE, TWO, on_failure=on_failure))
    report, _ = execute(recorded, world, stop)
    assert states(report) == {"t": State.CREATED, "one": State.PENDING, "two": State.PENDING}
    assert recorded.book.meta["state"] == "SUSPENDED"
    assert world.log == ["t"]
    world.on_make = lambda name: None
    report, _ = execute(load_run(store, find_book(store, recorded.id)), world)
    assert set(states(report).values()) == {State.CREATED}
    assert world.log == ["t", "one", "two"]


def test_an_undo_that_waits_when_the_run_is_to_end_is_done_by_the_next(store: Backend, world: World) -> None:
    recorded = create_run(store, planned(TENANT, ONE, TWO))
    execute(recorded, world)
    stop = threading.Event()

    def wait(name: str) -> None:
        if name == "one":
            stop.set()
            world.outages.pause(60)

    world.on_undo = wait
    report, _ = undo(recorded, world, stop=stop)
    assert states(report) == {"t": State.PENDING, "one": State.PENDING, "two": State.REVERTED}
    assert recorded.book.meta["state"] == "REVERTING"
    world.on_undo = lambda name: None
    report, _ = undo(load_run(store, find_book(store, recorded.id)), world)
    assert world.things == set()
    assert states(report)["t"] is states(report)["one"] is State.REVERTED


@pytest.mark.parametrize("on_failure", ["revert", "keep"])
def test_what_is_otherwise_at_the_source_until_the_run_goes_on_is_said(
    store: Backend, world: World, monkeypatch: pytest.MonkeyPatch, on_failure: str
) -> None:
    make = Make.execute
    stopping = wraps(make)(lambda *args, **given: {**make(*args, **given), "meanwhile": "it is stopped"})
    monkeypatch.setattr(Make, "execute", stopping)
    part = step("thing", "part", TENANT.ref, part_of=Ref("server", "whole"))
    whole = step("server", "whole", TENANT.ref, part.ref)
    world.failing = {"whole"}
    report, _ = execute(create_run(store, planned(TENANT, part, whole, on_failure=on_failure)), world)
    assert states(report)["part"] is State.FAILED
    assert reason(report, "part").endswith("; it is stopped") is (on_failure == "keep")
    assert not reason(report, "whole").endswith("; it is stopped")

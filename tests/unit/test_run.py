"""Runs of plans with a kind that lives in memory: order, isolation of failures, interruption."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from taskflow.persistence.base import Backend

from pumphouse import flows
from pumphouse.errors import PumphouseError, UsageError
from pumphouse.model import Action, Outcome, Record, Ref, Report, State, Step, Unit
from pumphouse.run import engine
from pumphouse.run.events import Event, LimitsChanged
from pumphouse.run.execute import execute_run
from pumphouse.run.outcomes import executed_outcomes
from pumphouse.run.record import ask_limits, create_run, find_book, load_run
from pumphouse.store import open_store
from tests.unit import memory
from tests.unit.memory import (
    LIMITS,
    TENANT,
    RecordingListener,
    World,
    migration,
    planned,
    reason,
    states,
    step,
)


def execute(
    world: World, *steps: Step, stop: threading.Event | None = None, url: str = "memory://", **cfg: Any
) -> tuple[Report, RecordingListener]:
    with closing(open_store(url)) as store:
        return memory.execute(create_run(store, planned(*steps, **cfg)), world, stop)


def test_what_is_needed_comes_first_and_everybody_is_told(world: World) -> None:
    one = step("thing", "one", TENANT.ref)
    two = step("thing", "two", one.ref)
    report, listener = execute(world, two, one, TENANT)
    assert world.log == ["t", "one", "two"]
    assert set(states(report).values()) == {State.CREATED}
    assert [outcome.destination_id for outcome in report.outcomes] == ["new-t", "new-one", "new-two"]
    assert [outcome.notes for outcome in report.outcomes] == [("t is new",), ("one is new",), ("two is new",)]
    assert listener.lines == ["make t", "make one", "make two"]
    assert {outcome.ref for outcome in listener.outcomes} == {TENANT.ref, one.ref, two.ref}


def test_a_failed_unit_is_undone_as_a_whole_and_blocks_only_what_needs_it(world: World) -> None:
    whole = step("server", "whole", TENANT.ref)
    part = step("thing", "part", TENANT.ref, part_of=whole.ref)
    whole = step("server", "whole", TENANT.ref, part.ref)
    later = step("thing", "later", whole.ref)
    other = step("thing", "other", TENANT.ref)
    world.failing = {"whole"}
    report, _ = execute(world, TENANT, whole, part, later, other)
    assert states(report) == {
        "t": State.CREATED,
        "part": State.FAILED,
        "whole": State.FAILED,
        "later": State.BLOCKED,
        "other": State.CREATED,
    }
    assert world.things == {"t", "other"}
    assert reason(report, "whole") == "whole does not work; mend it"
    assert reason(report, "part") == "undone, because server whole failed"
    assert "server whole" in reason(report, "later")


def test_what_is_reused_has_no_task_and_gives_its_id(world: World) -> None:
    reused = step("tenant", "t", action=Action.REUSE, destination_id="old-t")
    skipped = step("thing", "s", action=Action.SKIP)
    report, listener = execute(world, reused, skipped, step("thing", "one", reused.ref))
    assert states(report) == {"t": State.REUSED, "s": State.SKIPPED, "one": State.CREATED}
    assert listener.lines == ["make one"]


def test_access_to_the_tenant_is_held_until_the_end_and_given_back(world: World) -> None:
    held: list[int] = []
    world.on_make = lambda name: held.append(world.tenants_in_use)
    servers = [step("server", f"s{n}", TENANT.ref) for n in range(3)]
    execute(world, TENANT, *servers)
    assert held[0] == 0
    assert min(held[1:]) >= 1
    assert world.tenants_in_use == 0
    assert "enter new-t" in world.log


def test_a_role_that_cannot_be_taken_back_does_not_cost_the_report(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def stuck(_world: World, tenant_id: str) -> Iterator[None]:
        yield
        raise PumphouseError(f"the role in {tenant_id} was not taken back", "remove it")

    monkeypatch.setattr(World, "in_tenant", stuck)
    report, _ = execute(world, TENANT, step("server", "s", TENANT.ref))
    assert set(states(report).values()) == {State.CREATED}
    assert "the role in new-t was not taken back; remove it" in caplog.text


def test_an_interrupted_run_finishes_what_runs_and_starts_nothing_else(world: World) -> None:
    stop = threading.Event()
    world.on_make = lambda name: stop.set() if name == "one" else None
    one = step("thing", "one", TENANT.ref)
    report, _ = execute(world, TENANT, one, step("thing", "two", one.ref), stop=stop)
    assert states(report) == {"t": State.CREATED, "one": State.CREATED, "two": State.PENDING}
    assert reason(report, "two") == "not started"


def test_when_the_time_is_over_what_is_under_way_is_finished_and_nothing_else_is_begun(
    store: Backend, world: World
) -> None:
    begun = datetime.now(UTC)
    until = begun + timedelta(hours=1)
    run = create_run(store, planned(TENANT, step("thing", "one", TENANT.ref)))
    late_once_the_tenant_is_made = SimpleNamespace(
        now=lambda _: begun + timedelta(hours=2 * len(world.things))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pumphouse.run.execute.datetime", late_once_the_tenant_is_made)
        report = execute_run(run, migration(world), RecordingListener(), threading.Event(), until=until)
    assert states(report) == {"t": State.CREATED, "one": State.PENDING}
    assert run.book.meta["state"] == "SUSPENDED"
    report, _ = memory.execute(run, world)
    assert report.count() == {State.CREATED: 2}


def test_what_would_not_be_done_in_time_is_not_begun_nor_what_needs_it_and_the_rest_is(
    store: Backend, world: World
) -> None:
    """A disk of 600 GiB takes hours, by the estimate."""
    big = step("server", "big", TENANT.ref)
    big = replace(big, record=replace(big.record, size_bytes=600 << 30))
    after, small = step("thing", "after", big.ref), step("thing", "small", TENANT.ref)
    run = create_run(store, planned(TENANT, big, after, small))
    until = datetime.now(UTC) + timedelta(hours=1)
    report = execute_run(run, migration(world), RecordingListener(), threading.Event(), until=until)
    assert states(report) == {
        "t": State.CREATED,
        "small": State.CREATED,
        "big": State.PENDING,
        "after": State.PENDING,
    }
    assert re.fullmatch(
        r"not started, because it takes about \d+ h( \d+ min)?, which is until after \d\d:\d\d",
        reason(report, "big"),
    )
    assert reason(report, "after") == "not started, because what it needs was not"
    assert run.book.meta["state"] == "SUSPENDED"
    # What is done stays so, whatever the time is.
    late = datetime.now(UTC) - timedelta(hours=1)
    again = execute_run(run, migration(world), RecordingListener(), threading.Event(), until=late)
    assert (states(again)["small"], states(again)["big"]) == (State.CREATED, State.PENDING)
    report, _ = memory.execute(run, world)
    assert report.count() == {State.CREATED: 4}


def sized(item: Step) -> Step:
    """A step that copies bytes."""
    return replace(item, record=replace(item.record, size_bytes=1))


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/state.db", "dir://{}/state"])
def test_limits_that_are_asked_for_are_taken_over_while_a_run_goes_on(
    url: str, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two slots let four units copy at a time; with three the fifth and the sixth begin beside these four."""
    monkeypatch.setattr("pumphouse.run.execute._LIMITS_POLL_S", 0.01)
    monkeypatch.setitem(LIMITS, "workers", 16)
    url = url.format(tmp_path)
    four, six = threading.Barrier(5), threading.Barrier(7)
    names = [f"d{number}" for number in range(6)]
    asked = threading.Event()

    def on_make(name: str) -> None:
        if name in names:
            if not asked.is_set():
                four.wait(10)
            six.wait(10)

    world.on_make = on_make
    listener = RecordingListener()
    disks = [sized(step("thing", name, TENANT.ref)) for name in names]
    with closing(open_store(url)) as store, closing(open_store(url)) as other, ThreadPoolExecutor(1) as pool:
        # The database in memory is that of its store alone.
        other = store if url == "memory://" else other
        run = create_run(store, planned(TENANT, *disks))
        with pytest.raises(UsageError, match="is PENDING: no process copies anything"):
            ask_limits(other, find_book(other, run.id), {"transfers": 3})
        moving = migration(world)
        running = pool.submit(execute_run, run, moving, listener, threading.Event())
        four.wait(10)
        asked.set()
        ask_limits(other, find_book(other, run.id), {"transfers": 3, "bytes_per_second": 9})
        six.wait(10)
        assert running.result(10).count() == {State.CREATED: 7}
        assert [e for e in listener.events if isinstance(e, LimitsChanged)] == [LimitsChanged(3, 9)]
        assert moving.transfers.chunk_bytes == 1 << 14
        # What was asked of an earlier process is not asked of the next one.
        quiet = RecordingListener()
        execute_run(run, migration(world), quiet, threading.Event())
        assert not any(isinstance(event, LimitsChanged) for event in quiet.events)


def test_an_interrupted_run_starts_no_unit_that_waits_for_a_thread(world: World) -> None:
    stop = threading.Event()
    world.on_make = lambda name: stop.set() if name.startswith("n") else None
    things = [step("thing", f"n{n}", TENANT.ref) for n in range(40)]
    report, _ = execute(world, TENANT, *things, stop=stop)
    assert len(world.tries) <= 1 + LIMITS["workers"]
    assert report.count()[State.PENDING] >= len(things) - LIMITS["workers"]


def test_a_run_is_interrupted_while_an_engine_is_not_ready_to_be_suspended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, asked = threading.Event(), threading.Event()
    compile_flow, suspend = engine.Engine.compile, engine.Engine.suspend

    def compile_late(self: engine.Engine) -> None:
        stop.set()
        assert asked.wait(10)
        compile_flow(self)

    def suspend_early(self: engine.Engine) -> None:
        try:
            suspend(self)
        finally:
            asked.set()

    monkeypatch.setattr(engine.Engine, "compile", compile_late)
    monkeypatch.setattr(engine.Engine, "suspend", suspend_early)
    report, _ = execute(world, TENANT, step("thing", "one", TENANT.ref), stop=stop)
    assert states(report)["one"] is State.PENDING


def test_a_listener_that_raises_does_not_hurt_a_run(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Event) -> None:
        raise ValueError(f"{event} cannot be shown")

    things = [step("thing", f"n{n}", TENANT.ref) for n in range(40)]
    with closing(open_store("memory://")) as store:
        run = create_run(store, planned(TENANT, *things))
        report = execute_run(run, migration(world), broken, threading.Event())
        assert run.book.meta["state"] == "SUCCESS"
    assert report.count() == {State.CREATED: 41}
    assert [record.levelname for record in caplog.records if "cannot be shown" in record.message].count(
        "ERROR"
    ) == 1


def test_an_error_in_a_unit_s_thread_ends_the_run_after_all_that_runs_and_it_can_be_resumed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(unit: Unit, detail: Any) -> list[Outcome]:
        if unit.name == "thing/n1":
            raise RuntimeError("a mistake of ours")
        return executed_outcomes(unit, detail)

    things = [step("thing", f"n{n}", TENANT.ref) for n in range(40)]
    with closing(open_store("memory://")) as store:
        run, listener = create_run(store, planned(TENANT, *things)), RecordingListener()
        with monkeypatch.context() as patch:
            patch.setattr("pumphouse.run.execute.executed_outcomes", broken)
            with pytest.raises(RuntimeError, match="a mistake of ours"):
                execute_run(run, migration(world), listener, threading.Event())
        assert {outcome.state for outcome in listener.outcomes} <= {State.CREATED, State.PENDING}
        assert len(world.tries) < len(things)
        report, _ = memory.execute(load_run(store, run.book), world)
    assert report.count() == {State.CREATED: 41}
    assert len(world.tries) == 41


def test_an_error_of_our_own_fails_the_unit_and_not_the_run(world: World) -> None:
    broken = step("thing", "broken", Ref("thing", "never planned"))
    report, _ = execute(world, TENANT, broken)
    assert states(report) == {"t": State.CREATED, "broken": State.FAILED}


def test_many_units_at_once_all_arrive(world: World) -> None:
    things = [step("thing", f"n{n:03}", TENANT.ref) for n in range(200)]
    report, _ = execute(world, TENANT, *things)
    assert report.count() == {State.CREATED: 201}
    assert len(world.things) == 201


def test_the_tasks_of_a_unit_are_listed_without_being_executed(world: World) -> None:
    one = step("thing", "one", TENANT.ref)
    unit = Unit("u", (step("thing", "two", one.ref), one))
    assert [item.line for item in flows.ordered_tasks(flows.unit_flow(migration(world), unit))] == [
        "make one",
        "make two",
    ]
    assert flows.ordered_tasks(flows.unit_flow(migration(world), Unit("empty", ()))) == []
    assert world.things == set()


@pytest.mark.parametrize(
    ("failing", "stopping", "state", "units"),
    [
        ("", "", "SUCCESS", {"tenant/t": "SUCCESS", "thing/one": "SUCCESS", "thing/two": "SUCCESS"}),
        ("one", "", "FAILURE", {"tenant/t": "SUCCESS", "thing/one": "REVERTED", "thing/two": None}),
        ("", "one", "SUSPENDED", {"tenant/t": "SUCCESS", "thing/one": "SUCCESS", "thing/two": None}),
    ],
)
def test_a_run_is_recorded(
    failing: str, stopping: str, state: str, units: dict[str, str | None], world: World, tmp_path: Path
) -> None:
    stop = threading.Event()
    world.failing = {failing}
    world.on_make = lambda name: stop.set() if name == stopping else None
    url = f"sqlite:///{tmp_path}/state.db"
    one = step("thing", "one", TENANT.ref)
    report, _ = execute(world, TENANT, one, step("thing", "two", one.ref), stop=stop, url=url)
    with closing(open_store(url)) as store, closing(store.get_connection()) as connection:
        (book,) = connection.get_logbooks()
    assert book.uuid.startswith(report.run)
    assert len(report.run) == 8
    assert book.meta["state"] == state
    assert {flow.meta["unit"]: flow.state for flow in book if "unit" in flow.meta} == units


def test_fail_fast_starts_nothing_after_the_first_failure(world: World) -> None:
    world.failing = {"bad"}
    chain = [step("thing", "n0", TENANT.ref)]
    for n in range(1, 30):
        chain.append(step("thing", f"n{n}", chain[-1].ref))
    plan = planned(TENANT, step("thing", "bad", TENANT.ref), *chain, fail_fast=True)
    with closing(open_store("memory://")) as store:
        recorded = create_run(store, plan)
        report, _ = memory.execute(recorded, world)
    assert states(report)["bad"] is State.FAILED
    assert State.PENDING in states(report).values()
    assert recorded.book.meta["state"] == "FAILURE"


def test_a_failed_unit_that_is_kept_stays_as_it_is(world: World) -> None:
    part = step("thing", "part", TENANT.ref, part_of=Ref("server", "whole"))
    whole = step("server", "whole", TENANT.ref, part.ref)
    world.failing = {"whole"}
    report, _ = execute(world, TENANT, part, whole, on_failure="keep")
    assert states(report) == {"t": State.CREATED, "part": State.FAILED, "whole": State.FAILED}
    assert reason(report, "part") == "left as it is, because server whole failed"
    assert world.things == {"t", "part"}


def test_what_a_service_repeats_of_a_secret_is_not_recorded(world: World, tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        if name == "one":
            try:
                raise ValueError("{'user_data': 'aHVzaA=='}")
            except ValueError as error:
                raise PumphouseError("the cloud has {'user_data': 'aHVzaA=='}") from error

    world.on_make = refuse
    path = tmp_path / "state.db"
    report, _ = execute(world, TENANT, step("thing", "one", TENANT.ref), url=f"sqlite:///{path}")
    assert reason(report, "one") == "the cloud has {'user_data': '***'}"
    assert [file.name for file in tmp_path.iterdir() if b"aHVzaA==" in file.read_bytes()] == []
    assert b"the cloud has" in path.read_bytes()


def test_what_is_blocked_names_what_failed_and_not_its_id(world: World) -> None:
    whole = replace(step("thing", "a-long-id", TENANT.ref), record=Record(Ref("thing", "a-long-id"), "front"))
    part = step("thing", "part", part_of=whole.ref)
    world.failing = {"part"}
    report, _ = execute(world, TENANT, whole, part, step("server", "web", whole.ref))
    assert reason(report, "web") == "needs thing front, which failed"

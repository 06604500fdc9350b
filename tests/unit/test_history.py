"""Lists and details of recorded runs, as people and programs get them."""

from __future__ import annotations

import io
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from taskflow import states
from taskflow.persistence.base import Backend
from taskflow.persistence.models import TaskDetail

from pumphouse.cli.runs import STATES
from pumphouse.run import lock, summary
from pumphouse.run.record import FINALIZE_FAILURE, FINALIZE_STATES, FINALIZED, create_run, lock_name
from pumphouse.run.resume import left_to_do, report_so_far
from pumphouse.run.revert import plan_revert
from pumphouse.run.summary import list_runs, run_data
from pumphouse.show import runs as tables
from pumphouse.show.console import PrintableConsole
from pumphouse.show.ending import print_ending
from pumphouse.show.runs import print_left, print_list, print_revert, print_run
from tests.unit.memory import TENANT, World, execute, migration, planned, step

ONE = step("thing", "one", TENANT.ref)
TWO = step("thing", "two", ONE.ref)


@pytest.fixture(autouse=True)
def working(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the locks that are held by somebody."""
    held: set[str] = set()
    monkeypatch.setattr(lock, "is_locked", lambda store, name: name in held)
    return held


def printed(show: object, *args: object) -> str:
    out = io.StringIO()
    show(*args, PrintableConsole(file=out, width=400))
    return out.getvalue()


def test_runs_are_listed_newest_first_and_filtered(store: Backend, world: World) -> None:
    first = create_run(store, planned(TENANT))
    execute(first, world)
    world.failing = {"one"}
    second = create_run(store, planned(TENANT, ONE))
    execute(second, world)
    assert [run["run"] for run in list_runs(store)] == [second.id, first.id]
    assert [run["run"] for run in list_runs(store, state="failure")] == [second.id]
    assert list_runs(store, tenant="t") == list_runs(store)
    assert list_runs(store, tenant="u") == []
    assert list_runs(store, since=datetime.now(UTC) + timedelta(seconds=1)) == []
    assert list_runs(store, since=datetime.now(UTC) - timedelta(hours=1)) == list_runs(store)
    text = printed(print_list, list_runs(store))
    assert all(word in text for word in (first.id, second.id, "SUCCESS", "FAILURE"))
    assert printed(print_list, []) == "no runs\n"


def test_a_run_whose_process_is_gone_is_interrupted(store: Backend, world: World, working: set[str]) -> None:
    recorded = create_run(store, planned(TENANT))
    recorded.begin("RUNNING")
    assert list_runs(store)[0]["state"] == "INTERRUPTED"
    working.add(lock_name(recorded.book.meta))
    assert list_runs(store)[0]["state"] == "RUNNING"


def test_a_run_is_shown_with_its_tasks_and_why_they_failed(store: Backend, world: World) -> None:
    recorded = create_run(store, planned(TENANT, ONE, TWO))
    world.failing = {"one"}
    execute(recorded, world)
    data = run_data(recorded)
    tasks = {task["name"]: task for unit in data["units"] for task in unit["tasks"]}
    assert tasks["tenant-t-ensured"]["state"] == "SUCCESS"
    assert tasks["tenant-t-ensured"]["id"] == "new-t"
    assert tasks["thing-one-ensured"]["state"] == "REVERTED"
    assert tasks["thing-one-ensured"]["reason"] == "one does not work; mend it"
    assert {item["name"]: item["outcome"] for item in data["resources"]} == {
        "t": "created",
        "one": "failed",
        "two": "blocked",
    }
    text = printed(print_run, data)
    assert "thing one" in text
    assert "one does not work; mend it" in text


def test_of_a_thousand_failures_as_many_are_shown_as_can_be_read(store: Backend, world: World) -> None:
    things = [step("thing", f"n{number}", TENANT.ref) for number in range(25)]
    world.failing = {thing.name for thing in things}
    recorded = create_run(store, planned(TENANT, *things))
    execute(recorded, world)
    text = printed(print_run, run_data(recorded))
    assert text.count("does not work; mend it") == 20
    assert f"and 5 more: pumphouse runs show {recorded.id} --tasks" in text
    report = report_so_far(recorded)
    text = printed(print_left, recorded, left_to_do(report))
    assert "left 25 of 26 resources" in text
    assert f"and 5 more: pumphouse runs show {recorded.id} -f json" in text


def test_a_run_that_goes_on_is_shown_as_far_as_it_is(store: Backend, world: World) -> None:
    recorded, seen = create_run(store, planned(TENANT, ONE)), []
    world.on_make = lambda name: name == "one" and seen.append(run_data(recorded))
    execute(recorded, world, threading.Event())
    found = {task["name"]: task["state"] for unit in seen[0]["units"] for task in unit["tasks"]}
    assert found == {"tenant-t-ensured": "SUCCESS", "thing-one-ensured": "RUNNING"}
    assert [item["outcome"] for item in seen[0]["resources"]] == ["created", "pending"]


def test_every_state_that_has_a_colour_is_a_state() -> None:
    known = {name for name, value in vars(states).items() if name == value}
    assert tables._COLOURS.keys() <= known | {summary.INTERRUPTED, summary.CONFLICT, *FINALIZE_STATES}


def test_runs_can_be_asked_for_by_every_state_that_is_shown() -> None:
    assert tables._COLOURS.keys() <= {*STATES}


def test_of_a_finalized_run_nothing_is_offered_that_is_refused(store: Backend, world: World) -> None:
    recorded = create_run(store, planned(TENANT, ONE))
    execute(recorded, world)
    assert f"pumphouse revert {recorded.id}" in printed(print_ending, run_data(recorded))
    for state, goes_on in ((FINALIZE_FAILURE, True), (FINALIZED, False)):
        recorded.end(state)
        text = printed(print_ending, run_data(recorded))
        assert "pumphouse revert" not in text
        assert (f"pumphouse finalize {recorded.id}" in text) == goes_on


def test_what_a_revert_will_do_is_listed(
    store: Backend, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pumphouse.run.revert.clock_difference_s", lambda cloud: 0.0)
    recorded = create_run(store, planned(TENANT, ONE))
    execute(recorded, world)
    text = printed(print_revert, recorded, plan_revert(recorded, migration(world), force=False))
    assert text.index("remove thing one (new-one)") < text.index("remove tenant t (new-t)")
    assert "nothing to undo" in printed(print_revert, recorded, [])


def done(name: str, seconds: int, result: dict[str, Any]) -> TaskDetail:
    """A task that took a second."""
    atom = TaskDetail(name, name)
    atom.put(states.SUCCESS, result)
    atom.meta = {
        f"{what}_at": f"2026-11-27T02:00:{seconds + more:02}+00:00"
        for more, what in enumerate(("started", "ended"))
    }
    return atom


def test_copied_bytes_hashes_and_downtime_are_those_of_the_tasks(store: Backend, world: World) -> None:
    plan = planned(TENANT, step("server", "web", TENANT.ref), step("server", "still", TENANT.ref))
    run = create_run(store, plan)
    tasks = {
        "web": [
            done("server-web-stopped", 1, {"ran": True}),
            done("server-web-snapshot-uploaded", 3, {"size_bytes": 5, "sha512": "ab"}),
            done("server-web-settled", 9, {}),
        ],
        "still": [
            done("server-still-stopped", 1, {"ran": False}),
            done("server-still-image-uploaded", 3, {"size_bytes": 0}),
            done("server-still-settled", 9, {}),
        ],
    }
    with closing(store.get_connection()) as connection:
        for name, atoms in tasks.items():
            detail = run.detail(f"server/{name}")
            for atom in atoms:
                detail.add(atom)
            connection.update_flow_details(detail)
    data = run_data(run)
    found = {item["name"]: item for item in data["resources"]}
    assert (found["web"]["copied_bytes"], found["web"]["hashes"]) == (5, {"sha512": "ab"})
    assert (found["web"]["source_stopped"], found["web"]["downtime_s"]) == (True, 9.0)
    assert (found["still"]["hashes"], found["still"]["source_stopped"], found["still"]["downtime_s"]) == (
        {},
        False,
        None,
    )
    assert (data["copied_bytes"], data["copying_s"]) == (5, 1.0)

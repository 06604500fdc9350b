"""The records of old runs are removed, unless something is left to be done with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from taskflow.exceptions import NotFound
from taskflow.persistence.base import Backend

from pumphouse.run.lock import locked
from pumphouse.run.prune import old_runs, remove_runs
from pumphouse.run.record import create_run, list_books, lock_name, run_id
from pumphouse.store import open_store
from tests.unit.memory import TENANT, World, execute, planned, step

ONE = step("thing", "one", TENANT.ref)


@pytest.fixture(params=["sqlite:///{}/state.db", "dir://{}/state", "memory://"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    with closing(open_store(request.param.format(tmp_path))) as opened:
        yield opened


def test_what_was_reverted_or_made_nothing_is_removed_with_all_that_was_recorded(
    store: Backend, world: World
) -> None:
    made, reverted, nothing, interrupted, running = (
        create_run(store, planned(TENANT, ONE)) for _ in range(5)
    )
    for run in (made, reverted):
        execute(run, world)
    reverted.end("REVERTED")
    world.failing = {"one"}
    execute(interrupted, world)
    running.begin("RUNNING")
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert old_runs(store, later - timedelta(days=1), force=False) == []
    with locked(store, lock_name(running.book.meta), str):
        found = {run_id(run.book): run.kept_reason for run in old_runs(store, later, force=False)}
    assert found == {
        made.id: "what it made can be reverted",
        reverted.id: "",
        nothing.id: "",
        interrupted.id: "it is FAILURE and can be resumed or reverted",
        running.id: "a process works on it",
    }
    removed = [run for run in old_runs(store, later, force=False) if run.book.uuid != running.book.uuid]
    gone = list(remove_runs(store, [run for run in removed if not run.kept_reason]))
    assert {run_id(run.book) for run in gone} == {reverted.id, nothing.id}
    left = {run_id(book) for book in list_books(store)}
    assert left == {made.id, interrupted.id, running.id}
    assert len(made.all_details()) == 2


def test_nothing_is_left_of_a_run_and_one_that_is_locked_stays(store: Backend, world: World) -> None:
    run = create_run(store, planned(TENANT, ONE))
    execute(run, world)
    later = datetime.now(UTC) + timedelta(seconds=1)
    with locked(store, lock_name(run.book.meta), str):
        assert list(remove_runs(store, old_runs(store, later, force=True))) == []
    assert len(list(remove_runs(store, old_runs(store, later, force=True)))) == 1
    assert list_books(store) == []
    with closing(store.get_connection()) as connection:
        assert list(connection.get_logbooks()) == []
        with pytest.raises(NotFound):
            connection.get_flow_details(run.details["thing/one"])

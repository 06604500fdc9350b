"""What reads a SQLite file without SQLAlchemy reads the same as what writes it."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import pytest

from pumphouse.run import revert
from pumphouse.run.lock import locked
from pumphouse.run.record import create_run, find_book, load_run, lock_name
from pumphouse.run.summary import list_runs, run_data
from pumphouse.store import open_store
from pumphouse.store.sqlite_reader import SqliteReader
from tests.unit.memory import TENANT, RecordingListener, World, execute, migration, planned, step


def test_who_only_reads_a_file_reads_what_is_in_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revert, "clock_difference_s", lambda cloud: 0.0)
    url = f"sqlite:///{tmp_path}/state of ü%#.db"
    world.failing, world.stuck = {"one"}, {"two"}
    things = [step("thing", name, TENANT.ref) for name in ("one", "two", "three")]
    with closing(open_store(url)) as store:
        run = create_run(store, planned(TENANT, *things))
        execute(run, world)
        undos = revert.plan_revert(run, migration(world), force=True)
        revert.revert_run(run, migration(world), undos, RecordingListener(), threading.Event())
        reader = open_store(url, only_read=True)
        assert isinstance(reader, SqliteReader)
        found = load_run(reader, find_book(reader, "last"))
        assert run_data(found) == run_data(load_run(store, find_book(store, "last")))
        for unit in run.plan.units:
            read, written = found.detail(unit.name), run.detail(unit.name)
            assert read.to_dict() == written.to_dict()
            assert {a.name: a.to_dict() for a in read} == {a.name: a.to_dict() for a in written}


def test_who_only_reads_knows_whether_a_run_goes_on(world: World, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    with closing(open_store(url)) as store:
        run = create_run(store, planned(TENANT))
        run.begin("RUNNING")
        reader = open_store(url, only_read=True)
        assert list_runs(reader)[0]["state"] == "INTERRUPTED"
        with locked(store, lock_name(run.book.meta), str):
            assert list_runs(reader)[0]["state"] == "RUNNING"


@pytest.mark.parametrize("content", [None, b""])
def test_a_file_without_runs_is_made_for_who_only_reads(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state.db"
    if content is not None:
        path.write_bytes(content)
    with closing(open_store(f"sqlite:///{path}", only_read=True)) as store:
        assert list_runs(store) == []
    assert path.stat().st_size

"""The state store: where it keeps runs, what comes back, and what it says when it cannot be used."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from taskflow import states, task
from taskflow.exceptions import NotFound, StorageFailure
from taskflow.patterns import graph_flow
from taskflow.persistence.base import Backend
from taskflow.persistence.models import FlowDetail, LogBook, TaskDetail

from pumphouse.errors import EXIT_CONNECTION, EXIT_USAGE, PumphouseError
from pumphouse.run.engine import Engine
from pumphouse.store import open_store
from pumphouse.store.times import now
from tests.unit.books import book_of, book_with, flow_detail


class Make(task.Task):
    """Provides what an Ensure task does, and reports progress on the way where it is told to."""

    def __init__(self, name: str, progress: tuple[float, ...] = (), **kwargs: Any) -> None:
        super().__init__(name=name, provides=name, **kwargs)
        self._progress = progress

    def execute(self, **_: Any) -> dict[str, Any]:
        for fraction in self._progress:
            details = {"progress": fraction, "bytes": int(100 * fraction)}
            self.notifier.notify(task.EVENT_UPDATE_PROGRESS, details)
        return {"id": f"id of {self.name}", "made": True}


class Fail(Make):
    """Fails."""

    def execute(self, **_: Any) -> dict[str, Any]:
        raise ValueError("no room")


def execute(store: Backend, uuid: str, *tasks: task.Task, **needed: Any) -> dict[str, Any]:
    """Run tasks as one unit, and return what all of them provided."""
    with ThreadPoolExecutor(4) as executor:
        engine = load(store, uuid, executor, *tasks, **needed)
        engine.run()
        return engine.storage.fetch_all()


def load(store: Backend, uuid: str, executor: ThreadPoolExecutor, *tasks: task.Task, **needed: Any) -> Any:
    flow = graph_flow.Flow(uuid)
    flow.add(*tasks)
    detail = flow_detail(store, uuid)
    engine = Engine(flow, detail, store, {"executor": executor})
    if needed:
        engine.storage.inject(needed)
    return engine


def atoms(store: Backend, uuid: str) -> dict[str, TaskDetail]:
    return {atom.name: atom for atom in flow_detail(store, uuid)}


@pytest.fixture(params=["sqlite", "dir", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "sqlite": f"sqlite:///{tmp_path}/state/state.db",
        "dir": f"dir://{tmp_path}/state",
        "memory": "memory://",
    }[request.param]


@pytest.fixture
def store(url: str) -> Iterator[Backend]:
    with closing(open_store(url)) as opened:
        yield opened


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Backend]:
    with closing(open_store(f"sqlite:///{tmp_path}/state.db")) as opened:
        yield opened


def test_a_book_holds_its_flows(store: Backend) -> None:
    book, details = book_with(store, "a", "b")
    found = book_of(store, book.uuid)
    assert found.meta == book.meta
    assert {detail.name: detail.uuid for detail in found} == details
    assert found.created_at == book.created_at


def test_a_book_s_meta_is_saved_without_its_flows(store: Backend) -> None:
    book, details = book_with(store, "a", "b")
    execute(store, details["a"], Make("one"))
    book.meta = {**book.meta, "state": states.SUCCESS}
    with closing(store.get_connection()) as connection:
        connection.save_logbook(book.copy(retain_contents=False))
    found = book_of(store, book.uuid)
    assert found.meta["state"] == states.SUCCESS
    assert {detail.name: detail.state for detail in found} == {"a": states.SUCCESS, "b": None}
    assert atoms(store, details["a"])["one"].results == {"id": "id of one", "made": True}


def test_books_are_listed_without_and_with_what_is_in_them(store: Backend) -> None:
    uuids = {book_with(store, "a", "b")[0].uuid for _ in range(3)}
    with closing(store.get_connection()) as connection:
        assert {book.uuid: len(book) for book in connection.get_logbooks(lazy=True)} == dict.fromkeys(
            uuids, 0
        )
        assert {book.uuid: len(book) for book in connection.get_logbooks()} == dict.fromkeys(uuids, 2)


def test_a_book_with_large_tasks_in_one_flow(store: Backend) -> None:
    """As the plan of a run is: ZooKeeper would not take it at once."""
    book, details = book_with(store, "plan", tasks=12, result="x" * 100_000)
    found = atoms(store, details["plan"])
    assert {len(atom.results) for atom in found.values()} == {100_000}
    assert len(found) == 12
    with closing(store.get_connection()) as connection:
        (flow,) = connection.get_flows_for_book(book.uuid)
        assert {atom.uuid for atom in flow} == {atom.uuid for atom in found.values()}
        assert [len(flow) for flow in connection.get_flows_for_book(book.uuid, lazy=True)] == [0]


def test_what_a_flow_needs_and_provides_is_recorded(store: Backend) -> None:
    _, details = book_with(store, "a")
    two = Make("two", requires=["one", "given"])
    results = execute(store, details["a"], Make("one"), two, given={"id": "g"})
    recorded = atoms(store, details["a"])
    assert results["two"] == recorded["two"].results == {"id": "id of two", "made": True}
    assert {recorded[name].state for name in ("one", "two")} == {states.SUCCESS}
    assert flow_detail(store, details["a"]).state == states.SUCCESS


def test_a_failure_is_recorded_with_its_reason(store: Backend) -> None:
    _, details = book_with(store, "a")
    with pytest.raises(ValueError, match="no room"):
        execute(store, details["a"], Make("one"), Fail("two", requires=["one"]))
    recorded = atoms(store, details["a"])
    assert {name: atom.state for name, atom in recorded.items()} == {
        "one": states.REVERTED,
        "two": states.REVERTED,
    }
    assert recorded["two"].failure.exception_str == "no room"
    assert flow_detail(store, details["a"]).state == states.REVERTED


def test_what_is_not_recorded_is_not_found(store: Backend) -> None:
    with pytest.raises(NotFound):
        flow_detail(store, "00000000-0000-0000-0000-000000000000")


@pytest.mark.parametrize("scheme", ["sqlite", "dir"])
def test_results_survive_reopening(scheme: str, tmp_path: Path) -> None:
    where = f"{scheme}://{'/' if scheme == 'sqlite' else ''}{tmp_path}/store"
    with closing(open_store(where)) as store:
        book, details = book_with(store, "a")
        before = execute(store, details["a"], Make("one"), Make("two"))
    with closing(open_store(where)) as store:
        assert book_of(store, book.uuid).meta == book.meta
        assert {name: atom.results for name, atom in atoms(store, details["a"]).items()} == before


def test_a_finished_flow_is_not_executed_again(sqlite_store: Backend) -> None:
    _, details = book_with(sqlite_store, "a")
    execute(sqlite_store, details["a"], Make("one"))
    results = execute(sqlite_store, details["a"], Fail("one"))
    assert results["one"] == {"id": "id of one", "made": True}


def test_a_task_added_later_is_recorded_beside_the_others(sqlite_store: Backend) -> None:
    _, details = book_with(sqlite_store, "a")
    execute(sqlite_store, details["a"], Make("one"))
    flow = flow_detail(sqlite_store, details["a"])
    flow.state = states.SUSPENDED
    with closing(sqlite_store.get_connection()) as connection:
        connection.update_flow_details(flow)
    execute(sqlite_store, details["a"], Fail("one"), Make("two", requires=["one"]))
    assert {name: atom.state for name, atom in atoms(sqlite_store, details["a"]).items()} == {
        "one": states.SUCCESS,
        "two": states.SUCCESS,
    }


def test_updates_of_what_is_not_recorded_are_refused(sqlite_store: Backend) -> None:
    with closing(sqlite_store.get_connection()) as connection:
        with pytest.raises(NotFound):
            connection.update_flow_details(FlowDetail("a", "no such uuid"))
        with pytest.raises(NotFound):
            connection.update_atom_details(TaskDetail("a", "no such uuid"))


@pytest.mark.parametrize(
    ("reported", "recorded"),
    [
        ((), {}),
        ((0.4,), {"progress": 0.4, "progress_details": {"at_progress": 0.4, "details": {"bytes": 40}}}),
        ((0.4, 1.0), {"progress": 1.0, "progress_details": {"at_progress": 1.0, "details": {"bytes": 100}}}),
    ],
)
def test_reported_progress_is_recorded(
    reported: tuple[float, ...], recorded: dict[str, Any], sqlite_store: Backend
) -> None:
    _, details = book_with(sqlite_store, "a")
    execute(sqlite_store, details["a"], Make("one", reported))
    meta = atoms(sqlite_store, details["a"])["one"].meta
    assert {name: value for name, value in meta.items() if not name.endswith("_at")} == recorded


def test_the_times_of_a_task_are_recorded_with_its_states(sqlite_store: Backend) -> None:
    _, details = book_with(sqlite_store, "a")
    before = now()
    execute(sqlite_store, details["a"], Make("one"))
    meta = atoms(sqlite_store, details["a"])["one"].meta
    assert before <= meta["started_at"] <= meta["ended_at"] <= now()


def test_a_task_that_only_runs_and_ends_is_two_writes(sqlite_store: Backend) -> None:
    _, details = book_with(sqlite_store, "a")
    statements: list[str] = []
    sa.event.listen(
        sqlite_store.autocommit, "before_cursor_execute", lambda *arguments: statements.append(arguments[2])
    )
    rows: list[str] = []
    with sqlite_store.engine.connect() as connection:  # the only one of the pool
        connection.connection.driver_connection.set_trace_callback(rows.append)
    execute(sqlite_store, details["a"], *(Make(f"m{number}") for number in range(10)))
    assert sum("UPDATE atomdetails" in row for row in rows) == 20
    assert sum("INSERT INTO atomdetails" in statement for statement in statements) == 1
    assert not any("SELECT" in statement and "results" in statement for statement in statements[2:])


def test_a_connection_that_has_failed_is_not_used_again(sqlite_store: Backend) -> None:
    _, details = book_with(sqlite_store, "a", tasks=1)
    (atom,) = flow_detail(sqlite_store, details["a"])
    with sqlite_store.engine.connect() as connection:
        broken = connection.connection.driver_connection
    broken.close()
    with closing(sqlite_store.get_connection()) as connection:
        with pytest.raises(StorageFailure, match="closed database"):
            connection.update_atom_details(atom)
        assert connection.update_atom_details(atom) is atom


def test_sqlite_is_private_and_journals_ahead(tmp_path: Path) -> None:
    path = tmp_path / "made" / "state.db"
    with closing(open_store(f"sqlite:///{path}")) as store:
        book_with(store, "a")
        with store.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_dir_is_private(tmp_path: Path) -> None:
    with closing(open_store(f"dir://{tmp_path}/made")) as store:
        book_with(store, "a", tasks=1)
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("made/*/*/metadata")}
    assert modes == {0o600}


def test_dir_keeps_what_it_had_when_a_write_fails_half_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_store(f"dir://{tmp_path}")) as store:
        book, details = book_with(store, "a", tasks=1)
        (atom,) = flow_detail(store, details["a"])
        monkeypatch.setattr(os, "replace", no_space)
        atom.meta = {"later": True}
        with closing(store.get_connection()) as connection, pytest.raises(StorageFailure):
            connection.update_atom_details(atom)
        with closing(store.get_connection()) as connection, pytest.raises(StorageFailure):
            connection.save_logbook(LogBook("never seen"))
        (again,) = flow_detail(store, details["a"])
        assert again.meta == {}
        with closing(store.get_connection()) as connection:
            assert [found.uuid for found in connection.get_logbooks()] == [book.uuid]


def test_a_task_in_a_dir_that_was_linked_and_not_written_is_none(tmp_path: Path) -> None:
    """So a process leaves it that is killed while it saves a new task."""
    with closing(open_store(f"dir://{tmp_path}")) as store:
        book, details = book_with(store, "a", tasks=2)
        uuid = atoms(store, details["a"])["a-0"].uuid
        (tmp_path / "atom_details" / uuid / "metadata").unlink()
        assert [atom.name for atom in flow_detail(store, details["a"])] == ["a-1"]
        assert [len(flow) for flow in book_of(store, book.uuid)] == [1]
        execute(store, details["a"], Make("a-0"))
        assert {atom.name for atom in flow_detail(store, details["a"])} == {"a-0", "a-1"}


def no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("writes", [0, 1, 2, 5, 8, 13])
def test_a_book_in_a_dir_that_was_not_recorded_to_its_end_is_none(
    writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_store(f"dir://{tmp_path}")) as store:
        book, _ = book_with(store, "a")
        left, replace = iter(range(writes)), os.replace

        def until_full(source: str, target: str) -> None:
            if next(left, None) is None:
                no_space()
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", until_full)
            with pytest.raises(StorageFailure):
                book_with(store, "b", "c", tasks=5)
        with closing(store.get_connection()) as connection:
            assert [found.uuid for found in connection.get_logbooks(lazy=True)] == [book.uuid]


def test_many_flows_in_many_threads(sqlite_store: Backend) -> None:
    units = [f"unit-{number}" for number in range(40)]
    book, details = book_with(sqlite_store, *units)

    def run_unit(uuid: str, executor: ThreadPoolExecutor) -> None:
        load(sqlite_store, uuid, executor, *(Make(f"{uuid}-{number}") for number in range(10))).run()

    with ThreadPoolExecutor(16) as executor, ThreadPoolExecutor(16) as drivers:
        list(drivers.map(run_unit, details.values(), [executor] * len(details)))
    found = book_of(sqlite_store, book.uuid)
    assert {flow.state for flow in found} == {states.SUCCESS}
    assert sum(atom.state == states.SUCCESS for flow in found for atom in flow) == 400


def test_another_process_reads_while_this_one_writes(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(open_store(f"sqlite:///{path}")) as store, closing(sqlite3.connect(path)) as reader:
        _, details = book_with(store, "a")
        reader.execute("BEGIN")
        before = reader.execute("SELECT count(*) FROM atomdetails").fetchone()
        execute(store, details["a"], Make("one"))
        assert reader.execute("SELECT count(*) FROM atomdetails").fetchone() == before == (0,)
        reader.rollback()
        assert reader.execute("SELECT count(*) FROM atomdetails").fetchone() == (1,)


def test_a_write_waits_for_another_process(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(open_store(f"sqlite:///{path}")) as store:
        with closing(sqlite3.connect(path, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            writer = threading.Thread(target=book_with, args=(store, "a"))
            writer.start()
            writer.join(0.3)
            assert writer.is_alive()
            other.rollback()
            writer.join(10)
        with closing(store.get_connection()) as connection:
            assert len(list(connection.get_logbooks())) == 1


def test_a_look_does_not_wait_for_a_write(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(open_store(f"sqlite:///{path}")) as store:
        book, _ = book_with(store, "a")
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with closing(open_store(f"sqlite:///{path}")) as store:
            assert book_of(store, book.uuid).meta == book.meta


def test_a_file_made_by_an_earlier_release_gets_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    open_store(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as earlier:
        earlier.execute("DROP INDEX atomdetails_parent_idx")
    open_store(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as found:
        assert "atomdetails_parent_idx" in {row[1] for row in found.execute("PRAGMA index_list(atomdetails)")}


def test_processes_that_make_the_same_file_at_once(tmp_path: Path) -> None:
    code = f"from pumphouse.store import open_store; open_store('sqlite:///{tmp_path}/state.db').close()"
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(6)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [(b"", 0)] * 6


def test_a_file_made_before_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch(0o640)
    path.chmod(0o640)
    open_store(f"sqlite:///{path}").close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "not a URL; expected sqlite:////path"),
        ("u:hush@host/database", "not a URL"),
        ("redis://u:hush@host/1", "unknown kind of store 'redis'"),
        ("sqlite://", "expected sqlite:// with the path of a file"),
        ("sqlite:///:memory:", "expected sqlite:// with the path of a file"),
        ("sqlite://var/lib/state.db", "expected sqlite:// with the path of a file"),
        ("sqlite:///state.db?mode=ro", "expected sqlite:// with the path of a file"),
        ("postgresql://u:hush@host:port/d", "cannot be parsed"),
        ("postgresql://u:a@hush@host/d", "expected postgresql://user:password@host/database"),
        ("postgres://u:hush@host", "expected postgresql://user:password@host/database"),
        ("mariadb://u:hush@host", "expected mysql://user:password@host/database"),
        ("mysql+none://u:hush@host/d", "SQLAlchemy has no such driver"),
        ("zookeeper://", "expected zookeeper://host:2181"),
        ("zookeeper://u:hush@host/path", "expected zookeeper://host:2181"),
        ("dir://relative/path", "expected dir:///path"),
        ("dir:///", "expected dir:///path"),
    ],
)
def test_urls_that_are_not_usable(url: str, words: str) -> None:
    assert words in refusal(url, EXIT_USAGE)


def refusal(url: str, exit_code: int) -> str:
    """The one message about a URL, which does not have the password."""
    with pytest.raises(PumphouseError) as caught:
        open_store(url)
    assert caught.value.exit_code == exit_code
    text = f"{caught.value} {caught.value.hint}"
    assert "hush" not in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("scheme", ["sqlite:///", "dir://"])
@pytest.mark.parametrize("place", ["a-file/below", "/proc/nowhere/state"])
def test_folders_that_cannot_be_written(scheme: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    path = tmp_path / place
    assert f"{path}, cannot be opened: " in refusal(f"{scheme}{path}", EXIT_USAGE)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("remember the milk\n" * 100)
    assert f"{path}, cannot be opened: file is not a database" in refusal(f"sqlite:///{path}", EXIT_USAGE)
    assert path.read_text() == "remember the milk\n" * 100


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("postgresql://u:hush@127.0.0.1:9/d", "psycopg", "postgresql"),
        ("mariadb://u:hush@127.0.0.1:9/d", "pymysql", "mysql"),
        ("zookeeper://127.0.0.1:9/pumphouse", "kazoo", "zookeeper"),
    ],
)
def test_a_missing_driver_names_the_extra(
    url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for module in (
        "pumphouse.store.zookeeper",
        "taskflow.persistence.backends.impl_zookeeper",
        "taskflow.utils.kazoo_utils",
    ):
        monkeypatch.delitem(sys.modules, module, raising=False)
    text = refusal(url, EXIT_USAGE)
    assert f"needs the Python package {package}" in text
    assert f"pip install 'pumphouse[{extra}]'" in text


@pytest.mark.parametrize(
    ("url", "package"),
    [
        ("postgresql://u:hush@127.0.0.1:9/d", "psycopg"),
        ("mysql://u:hush@127.0.0.1:9/d", "pymysql"),
        ("zookeeper://127.0.0.1:9/pumphouse", "kazoo"),
    ],
)
def test_a_server_that_does_not_answer(url: str, package: str) -> None:
    pytest.importorskip(package)
    assert "127.0.0.1" in refusal(url, EXIT_CONNECTION)


def test_a_record_that_zookeeper_would_not_take_is_refused() -> None:
    zookeeper = pytest.importorskip("pumphouse.store.zookeeper", exc_type=ImportError)
    atom = TaskDetail("image-uploaded", "a uuid")
    atom.put(states.SUCCESS, "x" * 900_000)
    zookeeper.refuse_large(atom)
    atom.put(states.SUCCESS, "x" * 1_000_000)
    with pytest.raises(StorageFailure, match="too large for ZooKeeper"):
        zookeeper.refuse_large(atom)

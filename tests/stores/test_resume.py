"""A run that is killed, or whose store fails, goes on from each of the stores, and repeats nothing that was done."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
from taskflow import states
from tenacity import Retrying, stop_after_delay, wait_fixed

from pumphouse.errors import EXIT_FAILED
from pumphouse.model import Ref, symbol
from pumphouse.run.lock import is_locked
from pumphouse.run.record import LAST, ask_limits, create_run, find_book, load_run, lock_name
from pumphouse.store import open_store
from tests.stores.servers import PASSWORD, Server
from tests.stores.work import FAILING, lines, plan, work_apart

KILL_AT = (1, 4, 9)
# Less than the result of one task.
ROOM_BYTES = 60_000
TIMEOUT_S = 120
ALL = 12
# What is imported takes longer than what is done with it.
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["tests.stores.work"])


class Ended(NamedTuple):
    """A process that has ended: the exit code, the last line, the errors."""

    code: int
    said: str
    error: str


@dataclass
class Started:
    """A process that has begun, and writes into two files."""

    process: BaseProcess
    out: Path
    error: Path

    def wait(self) -> Ended:
        """Wait for its end."""
        self.process.join(TIMEOUT_S)
        assert self.process.exitcode is not None, "it does not end"
        return Ended(self.process.exitcode, self.out.read_text().splitlines()[-1], self.error.read_text())


class Worker:
    """Starts processes that work on the one run of a store."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.log, self._folder = url, folder / "log", folder

    def start(self, **order: int) -> Started:
        """One process."""
        out, error = (self._folder / f"{uuid4().hex}.{stream}" for stream in ("out", "error"))
        said = {"url": self.url, "log": self.log, **order}
        # A daemon: one that waits for ever, in a test that has failed, ends with the tests.
        process = FORKS.Process(
            target=work_apart, args=(out, error, dict(os.environ)), kwargs=said, daemon=True
        )
        process.start()
        return Started(process, out, error)

    def run(self, **order: int) -> Ended:
        """One process to its end."""
        return self.start(**order).wait()

    def finish(self) -> None:
        """Go on to the end, which is reached at the second attempt, because one of the tasks fails at first."""
        for _ in range(2):
            code, said, error = self.run()
            assert code == 0, error
        assert json.loads(said) == {"created": ALL}

    def done(self) -> set[str]:
        """The tasks that are recorded as done; without those of the unit that fails, which is undone as a whole."""
        with closing(open_store(self.url)) as store:
            run = load_run(store, find_book(store, LAST))
            atoms = [atom for detail in run.all_details().values() for atom in detail]
            fails = symbol(Ref("thing", FAILING), "")
            return {
                atom.name
                for atom in atoms
                if atom.state == states.SUCCESS and not atom.name.startswith(fails)
            }

    def wait_until_free(self) -> None:
        """Wait for the lock of a process that was killed; ZooKeeper keeps it until the session ends."""
        with closing(open_store(self.url)) as store:
            name = lock_name(find_book(store, LAST).meta)
            until(lambda: not is_locked(store, name))


def until(happened: Callable[[], bool]) -> None:
    """Wait for something."""

    def check() -> None:
        assert happened()

    Retrying(stop=stop_after_delay(TIMEOUT_S), wait=wait_fixed(0.1), reraise=True)(check)


def test_a_killed_run_goes_on_and_repeats_nothing_that_was_done(url: str, tmp_path: Path) -> None:
    worker = Worker(url, tmp_path)
    done: list[set[str]] = []
    for kill_at in KILL_AT:
        code, _, error = worker.run(kill_at=kill_at)
        assert code == -signal.SIGKILL, error
        done.append(worker.done())
        worker.wait_until_free()
        before = Counter(lines(worker.log))
    worker.finish()
    assert len(done[-1]) >= KILL_AT[-1] // 3
    executed = Counter(lines(worker.log))
    assert {name: executed[name] for name in done[-1]} == {name: before[name] for name in done[-1]}
    assert len(worker.done()) == 2 * (ALL - 1)
    worker.run()
    assert Counter(lines(worker.log)) == executed


def test_limits_that_another_process_asks_for_are_seen_and_survive_what_the_run_records(url: str) -> None:
    with closing(open_store(url)) as store, closing(open_store(url)) as other:
        run = create_run(store, plan())
        run.begin(states.RUNNING)
        assert run.asked_limits() is None
        ask_limits(other, find_book(other, run.id), {"transfers": 2, "bytes_per_second": None})
        run.update_meta(loans={})
        first = run.asked_limits()
        assert first is not None
        assert (first["transfers"], first["bytes_per_second"]) == (2, None)
        ask_limits(other, find_book(other, run.id), {"transfers": 2, "bytes_per_second": None})
        assert run.asked_limits() != first
        assert load_run(store, find_book(store, run.id)).plan == run.plan


def test_a_second_process_is_refused_and_told_who_has_it(url: str, tmp_path: Path) -> None:
    worker = Worker(url, tmp_path)
    first = worker.start(wait_at=3)
    until(lambda: len(lines(worker.log)) >= 3)
    code, _, error = worker.run()
    assert code == EXIT_FAILED
    assert f"process {first.process.pid} of " in error
    (tmp_path / "go").touch()
    assert first.wait().code == 0
    worker.finish()


@pytest.mark.parametrize("scheme", ["sqlite:///", "dir://"])
def test_a_store_that_is_full_stops_the_run_with_one_message(scheme: str, tmp_path: Path) -> None:
    worker = Worker(f"{scheme}{tmp_path}/state", tmp_path)
    code, _, error = worker.run(kill_at=1)
    assert code == -signal.SIGKILL, error
    sizes = [path.stat().st_size for path in tmp_path.glob("state*") if path.is_file()]
    code, _, error = worker.run(file_bytes=max(sizes, default=0) + ROOM_BYTES)
    assert code == EXIT_FAILED
    assert_told(error)
    worker.finish()


def test_a_server_that_goes_stops_the_run_which_goes_on_when_it_is_back(
    server: Server, tmp_path: Path
) -> None:
    worker = Worker(server.new_url(), tmp_path)
    process = worker.start(wait_at=5)
    until(lambda: len(lines(worker.log)) >= 5)
    server.kill()
    (tmp_path / "go").touch()
    code, _, error = process.wait()
    server.start()
    assert code == EXIT_FAILED
    assert_told(error)
    executed = Counter(lines(worker.log))
    done = worker.done()
    worker.wait_until_free()
    worker.finish()
    again = Counter(lines(worker.log))
    assert {name: again[name] for name in done} == {name: executed[name] for name in done}


def assert_told(error: str) -> None:
    """One message, with what to do next, and no password."""
    assert "pumphouse resume" in error
    assert "Traceback" not in error
    assert PASSWORD not in error

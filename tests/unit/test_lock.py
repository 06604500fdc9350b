"""The lock of one run at a time, in files; the stores that are servers have theirs tested in tests/stores."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pytest
from taskflow.persistence.base import Backend

from pumphouse.errors import EXIT_LOCKED, LockedError
from pumphouse.run.lock import is_locked, locked
from pumphouse.store import open_store

HOLD = """
import os, sys
from pumphouse.run.lock import is_locked, locked
from pumphouse.store import open_store
store = open_store("memory://")
with locked(store, "shop", str):
    print("held", flush=True)
    sys.stdin.read()
"""
HOLD_AND_FORK = HOLD.replace(
    "    sys.stdin",
    """    if os.fork() == 0:
        print("the child finds it locked:", is_locked(store, "shop"), flush=True)
    sys.stdin""",
)


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def process(code: str) -> subprocess.Popen[str]:
    """A process that goes on until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def refused(store: Backend, name: str, holder: str = "") -> str:
    """What somebody is told who comes second."""
    with pytest.raises(LockedError) as caught, locked(store, name, lambda: holder):
        raise AssertionError("locked twice")
    assert caught.value.exit_code == EXIT_LOCKED
    return str(caught.value)


def test_one_holds_it_and_others_are_told_who(store: Backend) -> None:
    assert not is_locked(store, "shop")
    with locked(store, "shop", str):
        assert is_locked(store, "shop")
        assert refused(store, "shop", "run 12345678") == "another run works on this tenant: run 12345678"
        assert f"process {os.getpid()} of " in refused(store, "shop")
        assert not is_locked(store, "another")
        with locked(store, "another", str):
            pass
    assert not is_locked(store, "shop")
    with locked(store, "shop", str):
        pass


def test_who_fails_lets_it_go(store: Backend) -> None:
    with pytest.raises(ValueError, match="no room"), locked(store, "shop", str):
        raise ValueError("no room")
    assert not is_locked(store, "shop")


def test_another_process_is_told_and_its_death_frees_it(store: Backend) -> None:
    with process(HOLD) as other:
        assert said(other) == "held"
        assert is_locked(store, "shop")
        assert f"process {other.pid} of " in refused(store, "shop")
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert not is_locked(store, "shop")
    with locked(store, "shop", str):
        assert f"process {os.getpid()} of " in refused(store, "shop")


def test_a_holder_that_has_not_written_who_it_is(store: Backend, state_home: Path) -> None:
    with locked(store, "shop", str):
        (path,) = state_home.glob("pumphouse/locks/*.lock")
        for content in (b"", b"\xff\xfe"):
            path.write_bytes(content)
            assert refused(store, "shop").startswith("another run works on this tenant")


def test_of_many_threads_one_gets_it(store: Backend) -> None:
    together = Barrier(8)

    def attempt(_: int) -> bool:
        together.wait()
        try:
            with locked(store, "shop", str):
                together.wait()
                return True
        except LockedError:
            together.wait()
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(attempt, range(8))) == [False] * 7 + [True]


def test_who_only_looks_does_not_keep_others_away(store: Backend) -> None:
    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(lambda: [is_locked(store, "shop") for _ in range(300)]) for _ in range(4)]
        while not all(look.done() for look in looks):
            with locked(store, "shop", str):
                pass
    assert sum(len(look.result()) for look in looks) == 1200


def test_a_forked_process_neither_has_it_nor_keeps_it(store: Backend) -> None:
    with process(HOLD_AND_FORK) as parent:
        assert said(parent) == "held"
        assert said(parent) == "the child finds it locked: True"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert not is_locked(store, "shop")


@pytest.mark.parametrize("scheme", ["sqlite:///", "dir://"])
def test_that_of_a_shared_store_lies_beside_it_for_all_who_may_write_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    path = tmp_path / "shared" / "state"
    with closing(open_store(f"{scheme}{path}")) as store:
        path.chmod(path.stat().st_mode | 0o660)
        assert not is_locked(store, "shop")
        with locked(store, "shop", str):
            (file,) = path.parent.glob("state.*.lock")
            assert stat.S_IMODE(file.stat().st_mode) == 0o660
            monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user's"))
            with closing(open_store(f"{scheme}{path}")) as other:
                assert is_locked(other, "shop")
                assert f"process {os.getpid()} of " in refused(other, "shop")
        assert not is_locked(store, "shop")


def test_its_files_are_private_and_tell_nothing(store: Backend, state_home: Path) -> None:
    with locked(store, "shop of alice", str):
        (path,) = state_home.glob("pumphouse/locks/*")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "shop" not in path.name
    assert path.read_bytes() == b""

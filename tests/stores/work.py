"""A run of tasks that leave a line in a log, in a process that ends or waits where it is told to.

The first process records the run, each other one goes on with it.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from taskflow import task
from taskflow.persistence.base import Backend

from pumphouse.errors import PumphouseError
from pumphouse.model import Action, Plan, Record, Ref, Step, Unit, symbol
from pumphouse.run.execute import execute_run
from pumphouse.run.lock import locked
from pumphouse.run.record import create_run, describe_owner, list_books, load_run, lock_name
from pumphouse.store import open_store
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import BaseCloudTask, Migration
from pumphouse.tasks.glance.transfer import TransferLimits
from tests.unit.memory import RecordingListener, World, made_kind

# What a store may not like: each of the things that a task reads has all of it.
ODD = {
    "text": "naïve “quotes” \N{DELIVERY TRUCK}\N{VARIATION SELECTOR-16} \N{MATHEMATICAL SCRIPT CAPITAL A}",
    "nul": "before\0after",
    "escapes": "\\u0000 \\ ' \" \r\n\t\x7f\x1b",
    "nothing": None,
    "nested": {"": [[], {}, [None, True, -1, 1.5, 2**60]], "a.b": {"c": [{"d": "e"}]}},
    "large": "0123456789abcdef" * 6_500,
}
NAMES = ("naïve \N{DELIVERY TRUCK}", 'quote\'s "and" %s {} ?', "user/with/slashes", "n" * 200)
FAILING = 'quote\'s "and" %s {} ?'
LIMITS = {"workers": 3, "transfers": 1, "bytes_per_second": None}


class Log:
    """Where tasks say that they were executed; it may end the process, or keep it waiting.

    kill_at: at which line the process kills itself.
    wait_at: at which line it waits until there is a file beside the log, named `go`.
    """

    def __init__(self, path: Path, kill_at: int = 0, wait_at: int = 0) -> None:
        self.path, self.kill_at, self.wait_at = path, kill_at, wait_at
        self._lines, self._lock = 0, threading.Lock()

    def say(self, line: str) -> None:
        """Say that a task is executed."""
        with self._lock:
            self._lines += 1
            with self.path.open("a") as file:
                file.write(f"{json.dumps(line)}\n")
            if self._lines == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            while self._lines == self.wait_at and not self.path.with_name("go").exists():
                time.sleep(0.05)


class Read(BaseCloudTask):
    """Gives what is hard to keep."""

    def execute(self, name: str) -> dict[str, Any]:
        """Give it."""
        self.cloud.say(self.name)
        return {**ODD, "name": name}


class Make(BaseCloudTask):
    """Fails unless it is given the very thing that was read, in whichever process that was."""

    def execute(self, name: str, given: dict[str, Any], **needed: Any) -> dict[str, Any]:
        """Look at it."""
        self.cloud.say(self.name)
        if given != {**ODD, "name": name}:
            raise PumphouseError(f"{name} was given something else than was read")
        if any(other["made"] is not True for other in needed.values()):
            raise PumphouseError(f"{name} was given something else than was made")
        if name == FAILING and Counter(lines(self.cloud.path))[self.name] == 1:
            raise PumphouseError("no room, this time: \N{DELIVERY TRUCK}\0")
        return {"id": f"new {name}", "made": True}


def things(migration: Migration, step: Step) -> list[task.Task]:
    """The tasks of a thing."""
    read = symbol(step.ref, "read")
    needs = [symbol(need, "ensured") for need in step.record.needs]
    inject = {"name": step.ref.id}
    make = Make(
        migration.destination,
        provides=symbol(step.ref, "ensured"),
        inject=inject,
        requires=needs,
        rebind={"given": read},
    )
    return [Read(migration.destination, provides=read, inject=inject), make]


def plan() -> Plan:
    """Three things after one another, and others beside them, each a unit."""
    refs = [Ref("thing", f"{name} {number}" if number else name) for number in range(3) for name in NAMES]
    units = []
    for ref in refs:
        needs = (Ref("thing", ref.id.removesuffix(" 2") + " 1"),) if ref.id.endswith(" 2") else ()
        step = Step(
            Record(ref, ref.id, ODD, needs), Action.CREATE, "why", ref.id, notes=("\N{DELIVERY TRUCK}",)
        )
        units.append(Unit(str(ref), (step,), tuple(map(str, needs))))
    cfg = {"on_failure": "revert", "fail_fast": False, "limits": LIMITS}
    settings = {"mappings": {}, "policies": {}}
    return Plan(Ref("tenant", "t"), "shop \N{DELIVERY TRUCK}\0", "a", "b", tuple(units), settings, cfg=cfg)


def lines(path: Path) -> list[str]:
    """The tasks that were executed so far, in order."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def go_on(store: Backend, log: Log) -> dict[str, int]:
    """Execute what is left of the only run, or begin it; how many resources are in which state then."""
    KINDS["thing"] = made_kind("thing", things)
    world: Any = World()
    world.say, world.path = log.say, log.path
    books = list_books(store)
    run = load_run(store, books[-1]) if books else create_run(store, plan())
    print("recorded", flush=True)
    migration = Migration(world, world, {"mappings": {}, "policies": {}}, TransferLimits(1))
    with locked(store, lock_name(run.book.meta), lambda: describe_owner(store, run.book.meta)):
        report = execute_run(run, migration, RecordingListener(), threading.Event())
    return {str(state): count for state, count in report.count().items()}


def work(url: str, log: Path, kill_at: int = 0, wait_at: int = 0, file_bytes: int = 0) -> None:
    """Do it, and print the states of the resources.

    file_bytes: how large a file may become, so that the store finds no room.
    """
    for name in ("taskflow", "oslo_utils", "kazoo", "sqlalchemy", "alembic"):  # as the command line has it
        logging.getLogger(name).addHandler(logging.NullHandler())
    with closing(open_store(url)) as store:
        if file_bytes:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        try:
            print(json.dumps(go_on(store, Log(log, kill_at, wait_at))))
        except PumphouseError as error:
            sys.exit(f"{error}; {error.hint}")


def work_apart(out: Path, error: Path, environment: dict[str, str], **order: Any) -> None:
    """Do it in a process of its own, which writes into files."""
    os.environ.update(environment)
    for path, stream in ((out, sys.stdout), (error, sys.stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream.fileno())
    work(**order)

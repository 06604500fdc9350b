"""Measure what a run costs besides the clouds: tasks/s, CPU per task and memory.

A plan of units of 50 tasks is recorded and executed as a migration's is, with a kind whose tasks do nothing,
or wait. Each figure is taken in a process of its own:

    python -m bench.engine --all --servers

Exit code 1 when CPU per no-op task grows by more than 1.3 from the fewest to the most, or when 200 MB are passed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from taskflow import task

from pumphouse.cloud.outage import Outages
from pumphouse.config.settings import Limits
from pumphouse.model import Action, Plan, Record, Ref, State, Step, Unit, symbol
from pumphouse.run.execute import execute_run
from pumphouse.run.record import create_run
from pumphouse.store import open_store
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import BaseCloudTask, Migration
from pumphouse.tasks.glance.transfer import TransferLimits
from tests.unit.memory import made_kind

TASKS_PER_UNIT = 50
SIZES = (100, 1_000, 10_000)
ALL_SIZES = (*SIZES, 50_000)
SERVERS = ("postgresql", "mysql")
SERVER_TASKS = 5_000
TASK_S = 0.02
MOST_CPU_GROWTH = 1.3
MOST_MEMORY_MB = 200


class Nowhere:
    """A cloud that nothing is asked of.

    task_s: how long a task takes.
    """

    def __init__(self, task_s: float) -> None:
        self.task_s = task_s
        self.loans = SimpleNamespace(on_change=None)
        self.outages = Outages("nowhere")
        self.first_task_at_s: float | None = None


class Work(BaseCloudTask):
    """Takes some time, and provides what an Ensure task provides."""

    def execute(self, **_: Any) -> dict[str, Any]:
        """Wait, as for the answer of a cloud."""
        nowhere: Any = self.cloud
        if nowhere.first_task_at_s is None:
            nowhere.first_task_at_s = time.monotonic()
        if nowhere.task_s:
            time.sleep(nowhere.task_s)
        return {"id": self.name, "made": True}


def work_tasks(migration: Migration, step: Step) -> list[task.Task]:
    """The tasks of one unit, the last of which needs another."""
    names = [symbol(step.ref, f"part-{number}") for number in range(TASKS_PER_UNIT - 1)]
    parts = [Work(migration.destination, provides=name) for name in names]
    ensured = symbol(step.ref, "ensured")
    return [*parts, Work(migration.destination, provides=ensured, requires=names[:1])]


@dataclass(frozen=True)
class Figures:
    """One line of a table; the first task is timed from before the run is recorded."""

    tasks: int
    wall_s: float
    cpu_s: float
    first_task_s: float
    grown_mb: float
    peak_mb: float

    def __str__(self) -> str:
        return (
            f"{self.tasks:8,} {self.tasks / self.wall_s:10.0f} {self.cpu_ms:12.2f} {self.wall_s:9.1f} "
            f"{self.first_task_s:13.2f} {self.grown_mb:10.0f} {self.peak_mb:9.0f}"
        )

    @property
    def cpu_ms(self) -> float:
        """CPU per task."""
        return 1000 * self.cpu_s / self.tasks


def main() -> int:
    """Print a table for tasks that do nothing, one for tasks that wait, and one for servers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="also 50,000 tasks")
    parser.add_argument("--servers", action="store_true", help="also PostgreSQL and MariaDB, started for it")
    parser.add_argument("--url", help="a state store to measure; else a new SQLite file for each figure")
    arguments = parser.parse_args()
    sizes = ALL_SIZES if arguments.all else SIZES
    found = _table("tasks that do nothing", sizes, 0, arguments.url)
    _table(f"tasks of {TASK_S * 1000:.0f} ms", sizes, TASK_S, arguments.url)
    servers = [_with_server(kind) for kind in SERVERS] if arguments.servers else []
    return _judge(found, servers)


def _table(title: str, sizes: tuple[int, ...], task_s: float, url: str | None) -> list[Figures]:
    print(f"\n{title}\n   tasks    tasks/s  CPU ms/task    wall s  first task s  +memory MB   peak MB")
    found = []
    for tasks in sizes:
        found.append(_in_new_process(tasks, task_s, url))
        print(found[-1], flush=True)
    return found


def _with_server(kind: str) -> Figures:
    from tests.stores.servers import running

    with running(kind) as server:
        return _table(f"{kind}, tasks that do nothing", (SERVER_TASKS,), 0, server.new_url())[0]


def _in_new_process(tasks: int, task_s: float, url: str | None) -> Figures:
    with (
        tempfile.TemporaryDirectory(prefix="pumphouse-bench-") as folder,
        multiprocessing.get_context("spawn").Pool(1) as pool,
    ):
        return pool.apply(_measure, (tasks, task_s, url or f"sqlite:///{folder}/state.db"))


def _measure(tasks: int, task_s: float, url: str) -> Figures:
    KINDS["work"] = made_kind("work", work_tasks)
    nowhere: Any = Nowhere(task_s)
    migration = Migration(nowhere, nowhere, {"mappings": {}, "policies": {}}, TransferLimits(1))
    with closing(open_store(url)) as store:
        before_mb, cpu_s, began_s = _peak_mb(), time.process_time(), time.monotonic()
        report = execute_run(
            create_run(store, _plan(tasks)), migration, lambda event: None, threading.Event()
        )
        ended_s = time.monotonic()
        cpu_s = time.process_time() - cpu_s
    if set(report.count()) != {State.CREATED}:
        raise SystemExit(f"not all was done: {report.count()}")
    first_task_s = nowhere.first_task_at_s - began_s
    return Figures(tasks, ended_s - began_s, cpu_s, first_task_s, _peak_mb() - before_mb, _peak_mb())


def _plan(tasks: int) -> Plan:
    refs = [Ref("work", f"{number:08d}") for number in range(-(-tasks // TASKS_PER_UNIT))]
    steps = [Step(Record(ref, ref.id, {}), Action.CREATE, "not there", ref.id) for ref in refs]
    limits = Limits()
    cfg = {
        "on_failure": "revert",
        "fail_fast": False,
        "limits": {"workers": limits.workers, "transfers": limits.transfers, "bytes_per_second": None},
    }
    units = tuple(Unit(str(step.ref), (step,)) for step in steps)
    return Plan(Ref("tenant", "bench"), "bench", "old", "new", units, {}, cfg=cfg)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _judge(found: list[Figures], servers: list[Figures]) -> int:
    growth = found[-1].cpu_ms / found[0].cpu_ms
    peak_mb = max(figures.peak_mb for figures in (*found, *servers))
    print(
        f"\nCPU per task at {found[-1].tasks:,} is {growth:.2f} of that at {found[0].tasks:,} "
        f"(at most {MOST_CPU_GROWTH}); {peak_mb:.0f} MB (at most {MOST_MEMORY_MB})"
    )
    return int(growth > MOST_CPU_GROWTH or peak_mb > MOST_MEMORY_MB)


if __name__ == "__main__":
    sys.exit(main())

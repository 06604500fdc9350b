"""Measure what the engine and the state store cost: tasks/s, CPU per task and memory.

Runs tasks as flows of 100 the way a migration runs its units: driver threads, one executor for the tasks of
all, each flow recorded in the store. Each figure is taken in a process of its own:

    python bench/engine.py --all

Exit code 1 when CPU per no-op task grows by more than 1.3 from the fewest to the most, or 200 MB are passed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from taskflow import engines, states, task
from taskflow.patterns import graph_flow
from taskflow.persistence.base import Backend

from pumphouse.config import Limits
from pumphouse.model import Plan, Ref
from pumphouse.store import flow_detail, new_run, open_store

TASKS_PER_FLOW = 100
SIZES = (100, 1_000, 10_000)
ALL_SIZES = (*SIZES, 50_000)
TASK_S = 0.02
MOST_CPU_GROWTH = 1.3
MOST_MEMORY_MB = 200


class Work(task.Task):  # type: ignore[misc]
    """Takes some time, and provides what an Ensure task provides."""

    def __init__(self, name: str, duration_s: float) -> None:
        super().__init__(name=name, provides=name)
        self._duration_s = duration_s

    def execute(self) -> dict[str, Any]:
        """Wait, as for the answer of a cloud."""
        if self._duration_s:
            time.sleep(self._duration_s)
        return {"id": self.name, "made": True}


@dataclass(frozen=True)
class Figures:
    """One line of the table; the memory is what running added, and the most the process ever had."""

    tasks: int
    wall_s: float
    cpu_s: float
    grown_mb: float
    peak_mb: float

    def __str__(self) -> str:
        return (
            f"{self.tasks:8,} {self.tasks / self.wall_s:10.0f} {self.cpu_ms:12.2f} "
            f"{self.wall_s:9.1f} {self.grown_mb:10.0f} {self.peak_mb:9.0f}"
        )

    @property
    def cpu_ms(self) -> float:
        """CPU per task."""
        return 1000 * self.cpu_s / self.tasks


def main() -> int:
    """Print a table for tasks that do nothing, and one for tasks that wait."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="also 50,000 tasks")
    parser.add_argument("--url", help="a state store to measure; else a new SQLite file for each figure")
    arguments = parser.parse_args()
    sizes = ALL_SIZES if arguments.all else SIZES
    found = _table("tasks that do nothing", sizes, 0, arguments.url)
    _table(f"tasks of {TASK_S * 1000:.0f} ms", sizes, TASK_S, arguments.url)
    return _judge(found)


def _table(title: str, sizes: tuple[int, ...], duration_s: float, url: str | None) -> list[Figures]:
    print(f"\n{title}\n   tasks    tasks/s  CPU ms/task    wall s  +memory MB   peak MB")
    found = []
    for tasks in sizes:
        found.append(_in_new_process(tasks, duration_s, url))
        print(found[-1], flush=True)
    return found


def _in_new_process(tasks: int, duration_s: float, url: str | None) -> Figures:
    with (
        tempfile.TemporaryDirectory(prefix="pumphouse-bench-") as folder,
        multiprocessing.get_context("spawn").Pool(1) as pool,
    ):
        return pool.apply(_measure, (tasks, duration_s, url or f"sqlite:///{folder}/state.db"))


def _measure(tasks: int, duration_s: float, url: str) -> Figures:
    with closing(open_store(url)) as store:
        before_mb, cpu_s, wall_s = _peak_mb(), time.process_time(), time.monotonic()
        _run(store, tasks, duration_s)
        return Figures(
            tasks,
            time.monotonic() - wall_s,
            time.process_time() - cpu_s,
            _peak_mb() - before_mb,
            _peak_mb(),
        )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _run(store: Backend, tasks: int, duration_s: float) -> None:
    workers = Limits().workers
    plan = Plan(Ref("tenant", "bench"), "bench", "old", "new", ())
    names = [f"unit-{number}" for number in range(-(-tasks // TASKS_PER_FLOW))]
    _, details = new_run(store, plan, names)
    with ThreadPoolExecutor(workers, "task") as executor, ThreadPoolExecutor(workers, "unit") as drivers:
        for state in drivers.map(partial(_run_unit, store, executor, duration_s), details.values()):
            if state != states.SUCCESS:
                raise SystemExit(f"a flow ended {state}")


def _run_unit(store: Backend, executor: ThreadPoolExecutor, duration_s: float, uuid: str) -> str:
    flow = graph_flow.Flow(uuid)
    flow.add(*(Work(f"work-{uuid}-{number}", duration_s) for number in range(TASKS_PER_FLOW)))
    detail = flow_detail(store, uuid)
    engine = engines.load(flow, flow_detail=detail, backend=store, engine="parallel", executor=executor)
    engine.run()
    return str(engine.storage.get_flow_state())


def _judge(found: list[Figures]) -> int:
    growth = found[-1].cpu_ms / found[0].cpu_ms
    peak_mb = max(figures.peak_mb for figures in found)
    print(
        f"\nCPU per task at {found[-1].tasks:,} is {growth:.2f} of that at {found[0].tasks:,} "
        f"(at most {MOST_CPU_GROWTH}); {peak_mb:.0f} MB (at most {MOST_MEMORY_MB})"
    )
    return int(growth > MOST_CPU_GROWTH or peak_mb > MOST_MEMORY_MB)


if __name__ == "__main__":
    sys.exit(main())

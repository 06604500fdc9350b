"""Measure what a state store costs: CPU per task of TaskFlow's own flows, whose tasks do nothing.

Each store as TaskFlow has it and as Pumphouse opens it, on 16 threads, the least of five processes: what else the
machine does only adds to it. The servers are started for it:

    python -m bench.store

Exit code 1 when SQLite, PostgreSQL or MariaDB take more than 2 ms of CPU per task as Pumphouse opens them.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from oslo_utils import uuidutils
from sqlalchemy.engine import make_url
from taskflow import engines, task
from taskflow.patterns import unordered_flow
from taskflow.persistence import backends
from taskflow.persistence.base import Backend
from taskflow.persistence.models import FlowDetail, LogBook

from pumphouse.run.engine import Engine
from pumphouse.store import open_store
from tests.stores.servers import running

TASKS = 1_000
# A second or two of CPU is enough to tell 30 ms from 2.
STOCK_TASKS = 100
TASKS_PER_FLOW = 100
PROCESSES = 5
THREADS = 16
MOST_CPU_MS = 2.0
DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}


class Nothing(task.Task):
    """Does nothing."""

    def execute(self) -> None:
        """Do nothing."""


def main() -> int:
    """Print a line for each store."""
    print(f"{'CPU ms/task':16} {'TaskFlow':>10} {'Pumphouse':>10}")
    print(f"{'none':16} {_least('', True, TASKS):10.2f}")
    found = {}
    for name, stock_url, url in _stores():
        stock_ms = _least(stock_url, True, STOCK_TASKS)
        found[name] = _least(url, False, TASKS)
        print(f"{name:16} {stock_ms:10.2f} {found[name]:10.2f}", flush=True)
    return int(max(found.values()) > MOST_CPU_MS)


def _stores() -> Iterator[tuple[str, str, str]]:
    """The name of each, the URL of an empty one as TaskFlow has it, and of one as Pumphouse opens it."""
    with tempfile.TemporaryDirectory(prefix="pumphouse-bench-") as folder:
        yield "SQLite", f"sqlite:///{folder}/stock.db", f"sqlite:///{folder}/state.db"
    for kind, driver in DRIVERS.items():
        with running(kind) as server:
            stock = make_url(server.new_url()).set(drivername=driver)
            yield kind, stock.render_as_string(hide_password=False), server.new_url()


def _least(url: str, stock: bool, tasks: int) -> float:
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return min(pool.apply(_cpu_ms, (url, stock, tasks)) for _ in range(PROCESSES))


def _cpu_ms(url: str, stock: bool, tasks: int) -> float:
    """CPU per task of this process, in ms; without a URL, with no store at all."""
    store = _open(url, stock) if url else None
    book = LogBook("bench")
    book.meta = {"tenant": "bench"}
    for number in range(tasks // TASKS_PER_FLOW):
        book.add(FlowDetail(f"flow-{number}", uuidutils.generate_uuid()))
    if store:
        with closing(store.get_connection()) as connection:
            connection.save_logbook(book)
    with ThreadPoolExecutor(THREADS) as executor:
        cpu_s = time.process_time()
        for detail in book:
            _run(detail, store, stock, executor)
        cpu_s = time.process_time() - cpu_s
    return 1000 * cpu_s / tasks


def _open(url: str, stock: bool) -> Backend:
    if not stock:
        return open_store(url)
    store = backends.fetch({"connection": url})
    with closing(store.get_connection()) as connection:
        connection.upgrade()
    return store


def _run(detail: FlowDetail, store: Backend | None, stock: bool, executor: ThreadPoolExecutor) -> None:
    flow = unordered_flow.Flow(detail.name)
    flow.add(*(Nothing(f"{detail.name}-{number}") for number in range(TASKS_PER_FLOW)))
    if stock:
        engine = engines.load(flow, flow_detail=detail, backend=store, engine="parallel", executor=executor)
    else:
        engine = Engine(flow, detail, store, {"executor": executor})
    engine.run()


if __name__ == "__main__":
    sys.exit(main())

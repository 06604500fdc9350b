"""A run of three days, with tokens of two minutes, outages and a pause: in the time of a clock that pauses move."""

from __future__ import annotations

import gc
import json
import logging
import threading
import tracemalloc
from collections.abc import Collection
from contextlib import closing
from itertools import pairwise
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import tenacity
from keystoneauth1.identity import v3

from pumphouse.cloud import outage, wait
from pumphouse.cloud.batch import Batch
from pumphouse.cloud.outage import Outages
from pumphouse.cloud.transport import CloudSession
from pumphouse.model import Ref, State
from pumphouse.run.record import create_run, find_book, load_run
from pumphouse.store import open_store
from tests.unit.memory import TENANT, World, execute, planned, states, step

MINUTE_S = 60.0
HOUR_S = 60 * MINUTE_S
DAY_S = 24 * HOUR_S
TOKEN_LIFE_S = 2 * MINUTE_S
CALL_S = 3.0
LOOK_EVERY_S = 8 * MINUTE_S
OUTAGE_EVERY_S = 6 * HOUR_S
OUTAGE_S = 9 * MINUTE_S
BUILD_S = 12 * HOUR_S
SERVERS = 6
PAUSED_AT_S = 33 * HOUR_S
# Two of each process.
WEIGHED_HOURS = (10, 32, 48, 70)
# Of what pytest keeps of the log, and less than a hundred bytes for each look at a server.
GROWTH_BYTES = 48 << 10
STATE_BYTES = 64 << 10
# Of each task and each outage a few; there are a hundred times as many looks.
LOG_RECORDS = 60
KEYSTONE, NOVA = "http://cloud.example/identity/v3", "http://cloud.example/compute"


class Clock(threading.Event):
    """Time that passes while somebody waits, and the event that ends all waiting."""

    def __init__(self, now_s: float = 0.0, stop_at_s: float = inf) -> None:
        super().__init__()
        self.now_s, self._stop_at_s = now_s, stop_at_s
        self._moving = threading.Lock()

    def wait(self, timeout: float | None = None) -> bool:
        with self._moving:
            self.now_s += timeout or 0.0
        if self.now_s >= self._stop_at_s:
            self.set()
        return self.is_set()


class SlowCloud(requests.adapters.BaseAdapter):
    """A Keystone whose tokens last two minutes, and a Nova that builds for half a day and goes away now and then.

    made: when each server was asked for.
    held: the bytes that this process held when WEIGHED_HOURS began.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.made: dict[str, float] = {}
        self.logins = 0
        self.away: set[int] = set()
        self.held: dict[int, int] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Do nothing."""

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        with self._lock:
            self.clock.wait(CALL_S)
            self._weigh()
            return self._answer(request)

    def _answer(self, request: requests.PreparedRequest) -> requests.Response:
        now_s = self.clock.now_s
        if request.path_url.endswith("/auth/tokens"):
            self.logins += 1
            return answer(request, 201, {"token": TOKEN}, {"X-Subject-Token": str(now_s)})
        if now_s - float(request.headers["X-Auth-Token"]) > TOKEN_LIFE_S:
            return answer(request, 401)
        if now_s % OUTAGE_EVERY_S > OUTAGE_EVERY_S - OUTAGE_S:
            self.away.add(int(now_s // OUTAGE_EVERY_S))
            return answer(request, 503)
        if request.method == "PUT":
            assert self.made.setdefault(request.path_url.rpartition("/")[2], now_s) == now_s, "made twice"
        built = {name: now_s - made_s > BUILD_S for name, made_s in self.made.items()}
        return answer(request, 200, {"servers": built})

    def _weigh(self) -> None:
        hour = int(self.clock.now_s // HOUR_S)
        if hour in WEIGHED_HOURS and hour not in self.held:
            gc.collect()
            self.held[hour] = tracemalloc.get_traced_memory()[0]


TOKEN = {
    "expires_at": "2999-01-01T00:00:00.000000Z",
    "issued_at": "2000-01-01T00:00:00.000000Z",
    "methods": ["password"],
    "user": {"id": "u", "name": "u", "domain": {"id": "default", "name": "Default"}},
    "project": {"id": "p", "name": "p", "domain": {"id": "default", "name": "Default"}},
    "roles": [],
    "catalog": [{"type": "compute", "endpoints": [{"url": NOVA, "interface": "public", "region_id": "R"}]}],
}


def answer(request: Any, status: int, body: Any = None, headers: Any = None) -> requests.Response:
    made = requests.Response()
    made.status_code, made.request, made.url = status, request, request.url
    made.headers.update({"Content-Type": "application/json", **(headers or {})})
    made._content = json.dumps(body or {}).encode()
    return made


class Process:
    """What a process has of the cloud and the clock; the lines that it says."""

    def __init__(
        self, cloud: SlowCloud, world: World, monkeypatch: pytest.MonkeyPatch, stop_at_s: float = inf
    ) -> None:
        cloud.clock = self.clock = Clock(cloud.clock.now_s, stop_at_s)
        time = SimpleNamespace(monotonic=lambda: self.clock.now_s)
        for module in (outage, wait, tenacity):
            monkeypatch.setattr(module, "time", time)
        self.said: list[str] = []
        world.outages = outages = Outages("destination")
        outages.stop, outages.say, outages.limit_s = self.clock, self.said.append, 10 * MINUTE_S
        pool = requests.Session()
        pool.mount("http://", cloud)
        login = v3.Password(KEYSTONE, username="u", password="p", user_domain_id="default", project_id="p")
        self.session = CloudSession(login, pool, outages)
        batch = Batch(self._servers, outages.pause)

        def build(name: str) -> None:
            if name == TENANT.name:
                return
            if name not in self._servers([]):
                self.session.put(f"{NOVA}/servers/{name}")
            wait.wait_for(batch, name, bool, title=name, timeout_s=DAY_S, interval_s=LOOK_EVERY_S)

        world.on_make = build

    def _servers(self, _ids: Collection[str]) -> dict[str, bool]:
        found: dict[str, bool] = self.session.get(f"{NOVA}/servers").json()["servers"]
        return found


def test_three_days(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    servers = [Ref("server", f"s{number}") for number in range(SERVERS)]
    steps = [step(one.kind, one.id, before) for before, one in pairwise([TENANT.ref, *servers])]
    state, cloud = tmp_path / "state.db", SlowCloud()
    caplog.set_level(logging.INFO, "pumphouse")
    tracemalloc.start()
    with closing(open_store(f"sqlite:///{state}")) as store:
        recorded = create_run(store, planned(TENANT, *steps))
        first = Process(cloud, world, monkeypatch, stop_at_s=PAUSED_AT_S)
        execute(recorded, world, first.clock)
        assert recorded.book.meta["state"] == "SUSPENDED"
    with closing(open_store(f"sqlite:///{state}")) as store:
        second = Process(cloud, world, monkeypatch)
        report, _ = execute(load_run(store, find_book(store, recorded.id)), world, second.clock)
    tracemalloc.stop()
    assert set(states(report).values()) == {State.CREATED}
    assert cloud.clock.now_s > 3 * DAY_S
    assert cloud.logins > 500
    assert len(cloud.away) == 12
    assert len(first.said + second.said) == 2 * len(cloud.away)
    assert len(caplog.records) < LOG_RECORDS
    held = [cloud.held[hour] for hour in WEIGHED_HOURS]
    assert max(held[1] - held[0], held[3] - held[2]) < GROWTH_BYTES
    assert state.stat().st_size < STATE_BYTES

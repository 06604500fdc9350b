"""One create call for all that is made at the same time, and what becomes of those who share one that fails."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from keystoneauth1 import exceptions

from pumphouse.cloud import transport
from pumphouse.cloud.bulk import Bulk
from pumphouse.model import Json
from pumphouse.tasks.base import stamp_tag
from pumphouse.tasks.neutron import common
from pumphouse.tasks.neutron.network import EnsureNetwork


class Factory:
    """A service that makes items, the first call of which waits until so many more are waiting.

    refused: what it makes of no item.
    silent: whether it does not answer calls of several items, after it has made them.
    """

    def __init__(self, *, refused: str = "", silent: bool = False) -> None:
        self.refused, self.silent = refused, silent
        self.calls: list[list[str]] = []
        self.made: list[str] = []
        self.begun, self.gate = threading.Event(), threading.Event()

    def send(self, names: Sequence[str]) -> list[str]:
        self.calls.append(sorted(names))
        self.begun.set()
        assert self.gate.wait(10)
        if self.refused in names:
            raise exceptions.Conflict("it is taken")
        self.made += names
        if self.silent and len(names) > 1:
            raise exceptions.ConnectFailure("no answer")
        transport.note_request_ids([f"req-{len(self.calls)}"])
        return [f"made {name}" for name in names]


def made_together(factory: Factory, names: Sequence[str]) -> list[Future[tuple[str, tuple[str, ...]]]]:
    """The first by itself, and the others while it is under way; each with the requests that it is said to have sent."""
    bulk = Bulk(factory.send)

    def make(name: str) -> tuple[str, tuple[str, ...]]:
        transport.request_ids()
        return bulk.make(name), transport.request_ids()

    with ThreadPoolExecutor(len(names)) as pool:
        futures = [pool.submit(make, names[0])]
        assert factory.begun.wait(10)
        futures += [pool.submit(make, name) for name in names[1:]]
        while len(bulk._waiting) < len(names) - 1:
            pass
        factory.gate.set()
    return futures


def test_what_is_to_be_made_while_a_call_is_under_way_is_made_by_the_next() -> None:
    factory = Factory()
    found = made_together(factory, "abcd")
    assert factory.calls == [["a"], ["b", "c", "d"]]
    assert [future.result() for future in found] == [
        ("made a", ("req-1",)),
        *((f"made {name}", ("req-2",)) for name in "bcd"),
    ]


def test_one_that_is_refused_fails_by_itself() -> None:
    factory = Factory(refused="c")
    found = made_together(factory, "abcd")
    assert [future.exception() is None for future in found] == [True, True, False, True]
    assert isinstance(found[2].exception(), exceptions.Conflict)
    assert sorted(factory.made) == ["a", "b", "d"]


class Neutron:
    """Networks in memory; a call of several is not answered, after it has made some of them or none."""

    def __init__(self, makes: int) -> None:
        self.makes = makes
        self.networks: list[Json] = []
        self.posts: list[int] = []

    def call(self, _adapter: Any, method: str, path: str, body: Json) -> Json:
        if method == "PUT":
            (there,) = (network for network in self.networks if network["id"] == path.split("/")[2])
            there |= body.get("network", body)
            return body if path.endswith("/tags") else {"network": there}
        items = body.get("networks") or [body["network"]]
        self.posts.append(len(items))
        made = [{**item, "id": f"made-{item['name']}", "tags": []} for item in items]
        self.networks += made[: self.makes] if len(items) > 1 else made
        if len(items) > 1:
            raise exceptions.ConnectFailure("no answer")
        return {"network": made[0]}

    def get_all(self, _adapter: Any, _path: str, _key: str, **filters: Any) -> list[Json]:
        wanted = filters.get("description", [])
        return [network for network in self.networks if network["description"] in wanted]


@pytest.mark.parametrize("makes", [0, 2])
def test_what_shared_a_call_without_an_answer_is_looked_for_and_then_made(
    monkeypatch: pytest.MonkeyPatch, makes: int
) -> None:
    """Nothing is made twice, and nothing is left out."""
    neutron = Neutron(makes)
    monkeypatch.setattr(common, "call", neutron.call)
    monkeypatch.setattr(common, "get_all", neutron.get_all)
    monkeypatch.setattr("pumphouse.tasks.base.LOOKS_S", (0.0,))
    gate = threading.Barrier(3)
    bulks: dict[Any, Any] = {}
    cloud: Any = SimpleNamespace(neutron=None, is_admin=True, has=lambda _: True)
    cloud.bulk = lambda send: bulks.setdefault(send, Bulk(lambda items: send(cloud, items)))
    cloud.batch = lambda fetch: SimpleNamespace(get=lambda item_id: fetch(cloud, [item_id])[item_id])
    ensured: Any = {"tenant-t-ensured": {"id": "twin", "made": True}}

    def make(name: str) -> str:
        ensure = EnsureNetwork(cloud, provides=name)
        ensure.is_first = True
        data = {"id": name, "name": name, "description": "", "tags": [], "project_id": "t"}
        gate.wait(10)
        return ensure.execute({**data, "availability_zone_hints": []}, **ensured)["id"]

    bulk = cloud.bulk(common.NETWORKS.create_all)
    with ThreadPoolExecutor(3) as pool:
        with bulk._sending:  # until all three wait
            made = [pool.submit(make, name) for name in "abc"]
            while len(bulk._waiting) < 3:
                pass
        assert sorted(future.result() for future in made) == ["made-a", "made-b", "made-c"]
    assert sorted(network["name"] for network in neutron.networks) == ["a", "b", "c"]
    assert {(n["description"], *n["tags"]) for n in neutron.networks} == {("", stamp_tag(i)) for i in "abc"}
    assert neutron.posts == [3, *[1] * (3 - makes)]

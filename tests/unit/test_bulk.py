"""One create call for all that is made at the same time, and what becomes of those who share one that fails."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from keystoneauth1 import exceptions

from pumphouse.cloud import transport
from pumphouse.cloud.bulk import Bulk
from pumphouse.model import Json, Record, Ref
from pumphouse.tasks.base import Search, stamp_tag
from pumphouse.tasks.neutron import common
from pumphouse.tasks.neutron.floating_ip import EnsureFloatingIp
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
    """Networks in memory; a call of several is not answered, after it has made some of them or none.

    dies: whether what sets tags ends the process.
    """

    def __init__(self, makes: int = 0) -> None:
        self.makes = makes
        self.dies = False
        self.networks: list[Json] = []
        self.posts: list[int] = []
        self.numbers = itertools.count()

    def call(self, _adapter: Any, method: str, path: str, body: Json) -> Json:
        if self.dies and method == "PUT":
            raise SystemExit
        if method == "PUT":
            (there,) = (n for n in self.networks if n["id"] == path.split("/")[2])
            there |= body.get("network", body)
            return body if path.endswith("/tags") else {"network": dict(there)}
        items = body.get("networks") or [body["network"]]
        self.posts.append(len(items))
        made = [{**item, "id": f"made-{next(self.numbers)}", "tags": []} for item in items]
        self.networks += made[: self.makes] if len(items) > 1 else made
        if len(items) > 1:
            raise exceptions.ConnectFailure("no answer")
        return {"network": dict(made[0])}

    def get_all(self, _adapter: Any, _path: str, _key: str, **filters: Any) -> list[Json]:
        if "project_id" in filters:
            return self.networks
        wanted = {*filters.get("description", ()), *filters.get("tags-any", "").split(",")}
        return [n for n in self.networks if wanted & {n["description"], *n["tags"]}]


def cloud_of(neutron: Neutron, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cloud in one process: what it claims and collects."""
    monkeypatch.setattr(common, "call", neutron.call)
    monkeypatch.setattr(common, "get_all", neutron.get_all)
    monkeypatch.setattr("pumphouse.tasks.base.LOOKS_S", (0.0,))
    bulks: dict[Any, Any] = {}
    claims: dict[str, str] = {}
    cloud: Any = SimpleNamespace(neutron=None, is_admin=True, has=lambda _: True)
    cloud.bulk = lambda send: bulks.setdefault(send, Bulk(lambda items: send(cloud, items)))
    cloud.batch = lambda fetch: SimpleNamespace(get=lambda item_id: fetch(cloud, [item_id])[item_id])
    cloud.claim = lambda item_id, owner: claims.setdefault(item_id, owner) == owner
    return cloud


ENSURED: Any = {"tenant-t-ensured": {"id": "twin", "made": True}}


def network(source_id: str, name: str = "") -> Json:
    fields = {"id": source_id, "name": name or source_id, "description": "", "tags": [], "project_id": "t"}
    return {**fields, "availability_zone_hints": []}


def first(cloud: Any, source_id: str) -> EnsureNetwork:
    """The task of a network in a process that is the first to execute it."""
    ensure = EnsureNetwork(cloud, provides=source_id)
    ensure.is_first = True
    return ensure


@pytest.mark.parametrize("makes", [0, 2])
def test_what_shared_a_call_without_an_answer_is_looked_for_and_then_made(
    monkeypatch: pytest.MonkeyPatch, makes: int
) -> None:
    """Nothing is made twice, and nothing is left out."""
    neutron = Neutron(makes)
    cloud = cloud_of(neutron, monkeypatch)

    def make(name: str) -> str:
        return first(cloud, name).execute(network(name), **ENSURED)["id"]

    bulk = cloud.bulk(common.NETWORKS.create_all)
    with ThreadPoolExecutor(3) as pool:
        with bulk._sending:  # until all three wait
            made = [pool.submit(make, name) for name in "abc"]
            while len(bulk._waiting) < 3:
                pass
        assert {future.result() for future in made} == {n["id"] for n in neutron.networks}
    assert sorted(n["name"] for n in neutron.networks) == ["a", "b", "c"]
    assert {(n["description"], *n["tags"]) for n in neutron.networks} == {("", stamp_tag(i)) for i in "abc"}
    assert neutron.posts == [3, *[1] * (3 - makes)]


@pytest.mark.parametrize("names", [("a", "b"), ("same", "same")])
def test_what_a_dead_process_left_without_its_stamp_is_taken_by_the_next(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]
) -> None:
    """Also of two that are the same each takes its own."""
    neutron = Neutron()
    neutron.dies = True
    for source_id, name in zip("ab", names, strict=True):
        died = first(cloud_of(neutron, monkeypatch), source_id)
        with pytest.raises(SystemExit):
            died.execute(network(source_id, name), **ENSURED)
        assert died.begun
    assert [(n["name"], n["description"], n["tags"]) for n in neutron.networks] == [
        (n, "", []) for n in names
    ]
    neutron.dies, cloud = False, cloud_of(neutron, monkeypatch)
    for source_id, name in zip("ab", names, strict=True):
        again = EnsureNetwork(cloud, provides=source_id)
        again.recall({"begun": True, "mark": "m"})
        assert again.execute(network(source_id, name), **ENSURED)["made"]
    assert len(neutron.networks) == 2
    assert {tag for n in neutron.networks for tag in n["tags"]} == {stamp_tag("a"), stamp_tag("b")}


def test_what_was_not_begun_is_not_looked_for_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of that name is somebody else's."""
    neutron = Neutron()
    cloud = cloud_of(neutron, monkeypatch)
    neutron.networks = [{"id": "theirs", "name": "a", "description": "", "tags": [], "project_id": "twin"}]
    assert EnsureNetwork(cloud, provides="a").execute(network("a"), **ENSURED)["id"] != "theirs"


def test_in_a_tenant_that_was_there_the_description_is_the_stamp_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    neutron = Neutron()
    neutron.dies = True
    there: Any = {"tenant-t-ensured": {"id": "twin", "made": False}}
    with pytest.raises(SystemExit):
        first(cloud_of(neutron, monkeypatch), "a").execute(network("a"), **there)
    assert [n["description"] for n in neutron.networks] == [stamp_tag("a")]


def test_a_plan_knows_what_an_earlier_run_left_without_its_stamp() -> None:
    record = Record(Ref("network", "a"), "a", network("a"))
    left: Json = {"id": "left", "name": "a", "description": "", "tags": []}
    search: Any = Search(None, {}, {}, None, {}, {record.ref})  # type: ignore[arg-type]
    (found,) = common.left_by(search, record, [left], set())
    assert common.is_stamped(found, "a")
    assert common.is_unfinished(found)
    for other in ({**left, "tags": ["theirs"]}, {**left, "description": "theirs"}, {**left, "name": "b"}):
        assert common.left_by(search, record, [other], set()) == [other]
    assert common.left_by(Search(None, {}, {}, None, {}), record, [left], set()) == [left]  # type: ignore[arg-type]


def test_of_several_of_one_name_that_were_left_each_is_found_once() -> None:
    """Subnets by their addresses, networks in any order."""
    nets = [Record(Ref("network", i), "same", network(i, "same")) for i in "ab"]
    left: list[Json] = [{"id": i, "name": "same", "description": "", "tags": []} for i in ("n1", "n2")]
    search: Any = Search(None, {}, {}, None, {}, {r.ref for r in nets})  # type: ignore[arg-type]
    taken: set[str] = set()
    for record in nets:
        marked = [n for n in common.left_by(search, record, left, taken) if common.is_unfinished(n)]
        assert len(marked) == 1
    assert taken == {"n1", "n2"}
    cidrs = ("10.0.0.0/24", "10.0.1.0/24")
    subnets = [Record(Ref("subnet", c), "", {**network(c, ""), "name": "", "cidr": c}) for c in cidrs]
    left = [{"id": f"of {c}", "name": "", "description": "", "tags": [], "cidr": c} for c in reversed(cidrs)]
    search = Search(None, {}, {}, None, {}, {r.ref for r in subnets})  # type: ignore[arg-type]
    for record in subnets:
        (marked_one,) = (s for s in common.left_by(search, record, left, set()) if common.is_unfinished(s))
        assert marked_one["id"] == f"of {record.ref.id}"


def test_a_floating_ip_that_was_known_by_its_address_is_stamped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody began it, and another task completes it; it is not said to be what it was not asked to be."""
    address = {"id": "there", "description": "theirs", "tags": [], "floating_ip_address": "192.0.2.1"}
    neutron = Neutron()
    neutron.networks = [address]
    cloud = cloud_of(neutron, monkeypatch)
    cloud.batch = lambda fetch: SimpleNamespace(get=lambda item_id: dict(address))
    ensure = EnsureFloatingIp(cloud, provides="ip", fresh=False)
    ensure.notes, ensure.asked, ensure.item = [], {}, {}
    data = {"id": "a", "description": "", "tags": ["mine"], "project_id": "t", "floating_network_id": "n"}
    ensure.finish("there", data, {**ENSURED, "network-n-ensured": {"id": "net", "made": False}})
    assert address["tags"] == ["mine", stamp_tag("a")]
    assert address["description"] == "theirs"

"""One list call for all who ask at the same time, and waiting built on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

import pytest

from pumphouse.cloud.batch import Batch
from pumphouse.cloud.wait import _pause_s, wait_for
from pumphouse.errors import WaitError


class Shelf:
    """A service that lists items by id and remembers how it was asked."""

    def __init__(self, items: dict[str, str]) -> None:
        self.items = items
        self.calls: list[list[str]] = []
        self.gate = threading.Event()
        self.asked = threading.Event()

    def fetch(self, ids: Collection[str]) -> dict[str, str]:
        self.calls.append(sorted(ids))
        self.asked.set()
        assert self.gate.wait(10)
        return {i: self.items[i] for i in ids if i in self.items}


def test_those_who_ask_while_a_call_is_under_way_share_the_next_one() -> None:
    shelf = Shelf({str(n): f"item {n}" for n in range(9)})
    batch = Batch(shelf.fetch)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(batch.get, "0")
        assert shelf.asked.wait(10)
        others = [pool.submit(batch.get, str(n)) for n in range(1, 9)]
        while len(batch._waiting) < 8:
            pass
        shelf.gate.set()
        assert [first.result(), *(other.result() for other in others)] == [f"item {n}" for n in range(9)]
    assert shelf.calls == [["0"], [str(n) for n in range(1, 9)]]


def test_an_item_is_read_afresh_each_time() -> None:
    shelf = Shelf({"a": "old"})
    shelf.gate.set()
    batch = Batch(shelf.fetch)
    assert batch.get("a") == "old"
    shelf.items["a"] = "new"
    assert batch.get("a") == "new"


def test_missing_item_is_a_key_error_and_a_failed_call_fails_for_all() -> None:
    def refuse(_ids: Collection[str]) -> dict[str, str]:
        raise OSError("no route")

    with pytest.raises(KeyError):
        Batch(lambda _ids: {}).get("a")
    with pytest.raises(OSError, match="no route"):
        Batch(refuse).get("a")


def test_waiting_ends_when_the_item_is_done() -> None:
    states = iter(["BUILD", "BUILD", "ACTIVE"])
    batch = Batch(lambda _ids: {"a": next(states)})
    wanted = wait_for(batch, "a", lambda s: s == "ACTIVE", title="server a", timeout_s=10, interval_s=0.01)
    assert wanted == "ACTIVE"


def test_the_time_of_an_outage_is_no_time_of_waiting() -> None:
    answers = iter(["BUILD", "BUILD", "ACTIVE"])

    def fetch(ids: Collection[str]) -> dict[str, str]:
        time.sleep(0.3)
        return dict.fromkeys(ids, next(answers))

    batch = Batch(fetch, pause=lambda seconds: None)
    assert wait_for(batch, "a", lambda s: s == "ACTIVE", title="a", timeout_s=5, interval_s=0.01) == "ACTIVE"


def test_waiting_for_what_is_gone_sees_none() -> None:
    batch: Batch[str] = Batch(lambda _ids: {})
    assert wait_for(batch, "a", lambda s: s is None, title="deletion of a", timeout_s=10) is None


def test_waiting_too_long_is_an_error_that_names_what_was_waited_for() -> None:
    batch = Batch(lambda _ids: {"a": "BUILD"})
    with pytest.raises(WaitError, match="server a becoming ACTIVE: not done after 0 s"):
        wait_for(
            batch,
            "a",
            lambda s: s == "ACTIVE",
            title="server a becoming ACTIVE",
            timeout_s=0.02,
            interval_s=0.01,
        )


@pytest.mark.parametrize(("call_s", "pause_s"), [(0.01, 0.5), (0.3, 2.0), (0.8, 4.0), (3600, 32.0)])
def test_the_longer_a_list_call_takes_the_fewer_there_are(call_s: float, pause_s: float) -> None:
    assert _pause_s(0.5, call_s) == pause_s


def test_whether_items_exist_is_asked_of_the_same_lists() -> None:
    shelf = Shelf({"a": "item"})
    shelf.gate.set()
    batch = Batch(shelf.fetch)
    assert (batch.has("a"), batch.has("b")) == (True, False)

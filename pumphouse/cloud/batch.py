"""One list call for all who ask for the same thing at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Batch(Generic[T]):
    """Reads single items through a function that fetches many.

    fetch: takes ids, returns those that exist by id. While one call of it is under way, further
    ids are collected and fetched together by the next.
    pause: waits for some seconds before an item is looked at again.
    """

    def __init__(
        self,
        fetch: Callable[[Collection[str]], Mapping[str, T]],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._fetch = fetch
        self.pause = pause
        self._waiting: dict[str, Future[T]] = {}
        self._lock = threading.Lock()
        self._fetching = threading.Lock()

    def get(self, item_id: str) -> T:
        """The item as it is now, never an answer to an earlier question; KeyError when it does not exist."""
        with self._lock:
            future = self._waiting.setdefault(item_id, Future())
        with self._fetching:
            if not future.done():
                self._fetch_waiting()
        return future.result()

    def has(self, item_id: str) -> bool:
        """Whether the item exists now."""
        try:
            self.get(item_id)
        except KeyError:
            return False
        return True

    def _fetch_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        try:
            items = self._fetch(list(waiting))
        except BaseException as error:
            for future in waiting.values():
                future.set_exception(error)
            return
        for item_id, future in waiting.items():
            if item_id in items:
                future.set_result(items[item_id])
            else:
                future.set_exception(KeyError(item_id))

"""One create call for all that is to be made of the same kind at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from pumphouse.cloud.transport import note_request_ids, request_ids
from pumphouse.errors import http_status

T = TypeVar("T")
Sent = tuple[T, tuple[str, ...]]


class SharedCallError(Exception):
    """A call of several items has failed, for the reason that is its cause.

    is_refused: whether it has done nothing.
    """

    is_refused = False


class Bulk(Generic[T]):
    """Makes single items through a function that makes many in one call, all of them or none.

    send: takes what items are to be, returns what was made in the same order. While one call of it is under
        way, further items are collected and sent together by the next.
    """

    def __init__(self, send: Callable[[Sequence[T]], Sequence[T]]) -> None:
        self._send = send
        self._waiting: list[tuple[T, Future[Sent[T]]]] = []
        self._lock = threading.Lock()
        self._sending = threading.Lock()

    def make(self, wanted: T) -> T:
        """What was made; an item that shared a call which was refused is sent again by itself.

        Raises what `send` raises, and SharedCallError where it is in doubt what a call of several has done.
        """
        future: Future[Sent[T]] = Future()
        with self._lock:
            self._waiting.append((wanted, future))
        with self._sending:
            if not future.done():
                self._send_waiting()
        try:
            made, ids = future.result()
        except SharedCallError as error:
            if not error.is_refused:
                raise
            return self._send([wanted])[0]
        note_request_ids(ids)
        return made

    def _send_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        earlier = request_ids()
        try:
            made = self._send([wanted for wanted, _ in waiting])
        except BaseException as error:
            for _, future in waiting:
                future.set_exception(error if len(waiting) == 1 else _shared(error))
            return
        finally:
            ids = request_ids()
            note_request_ids(earlier)
        for (_, future), item in zip(waiting, made, strict=True):
            future.set_result((item, ids))


def _shared(error: BaseException) -> BaseException:
    """A failure as it is raised in one of several threads; each gets one of its own."""
    if not isinstance(error, Exception):
        return error
    shared = SharedCallError(str(error))
    shared.__cause__ = error
    shared.is_refused = 400 <= (http_status(error) or 0) < 500
    return shared

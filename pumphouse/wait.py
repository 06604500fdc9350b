"""Waiting for a resource to become what it shall be, with one list call for all that wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from pumphouse.batch import Batch
from pumphouse.errors import WaitError

T = TypeVar("T")


def wait_for(
    batch: Batch[T],
    item_id: str,
    done: Callable[[T | None], bool],
    *,
    title: str,
    timeout_s: float,
    interval_s: float = 0.5,
    cancelled: threading.Event | None = None,
) -> T | None:
    """Read an item through its batch until it is done; None stands for an item that does not exist.

    done: is given the item and returns whether the waiting is over; raises when it never will be.
    title: what is waited for, in words, for the error.

    Raises WaitError after timeout_s.
    """
    cancelled = cancelled or threading.Event()
    end_s = time.monotonic() + timeout_s
    while True:
        item = _get(batch, item_id)
        if done(item):
            return item
        if time.monotonic() > end_s:
            raise WaitError(f"{title}: not done after {timeout_s:.0f} s", "look at the resource in the cloud")
        # All waiters wake at the same ticks of the clock, so that one list call serves them all.
        cancelled.wait(interval_s - time.monotonic() % interval_s)


def _get(batch: Batch[T], item_id: str) -> T | None:
    try:
        return batch.get(item_id)
    except KeyError:
        return None

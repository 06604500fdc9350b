"""Waiting for a resource to become what it shall be, with one list call for all that wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pumphouse.cloud.batch import Batch
from pumphouse.errors import WaitError

T = TypeVar("T")

# List calls take no more than a quarter of the time.
_PAUSE_PER_CALL = 4
_INTERVAL_MAX_S = 30.0


def wait_for(
    batch: Batch[T],
    item_id: str,
    done: Callable[[T | None], bool],
    *,
    title: str,
    timeout_s: float,
    interval_s: float = 0.5,
) -> T | None:
    """Read an item through its batch until it is done; None stands for an item that does not exist.

    done: is given the item and returns whether the waiting is over; raises when it never will be.
    title: what is waited for, in words, for the error.
    timeout_s: how long to wait, without the time in which the service did not answer.

    Raises WaitError after timeout_s, Interruption when nobody is to wait any more.
    """
    waited_s = 0.0
    while True:
        began_s = time.monotonic()
        item = _get(batch, item_id)
        if done(item):
            return item
        if waited_s > timeout_s:
            raise WaitError(f"{title}: not done after {timeout_s:.0f} s", "look at the resource in the cloud")
        # All who wait go on at the same multiples of the interval, so that one list call serves them all.
        now_s = time.monotonic()
        pause_s = _pause_s(interval_s, now_s - began_s)
        pause_s -= now_s % pause_s
        batch.pause(pause_s)
        waited_s += pause_s


def _pause_s(interval_s: float, call_s: float) -> float:
    """The interval, doubled until a list call that takes so long takes no more than a quarter of it.

    The multiples of a doubled interval are multiples of the interval too.
    """
    while interval_s < min(call_s * _PAUSE_PER_CALL, _INTERVAL_MAX_S):
        interval_s *= 2
    return interval_s


def _get(batch: Batch[T], item_id: str) -> T | None:
    try:
        return batch.get(item_id)
    except KeyError:
        return None

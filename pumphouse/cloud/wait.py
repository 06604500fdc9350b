"""Waiting for a resource to become what it shall be, with one list call for all that wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from pumphouse.cloud.batch import Batch
from pumphouse.errors import WaitError, explain, http_status, is_unavailable

LOG = logging.getLogger(__name__)

T = TypeVar("T")

# List calls take no more than a quarter of the time.
_PAUSE_PER_CALL = 4
_INTERVAL_MAX_S = 30.0
# Longer than the restart of a service takes, or the move of an address to another machine.
OUTAGE_S = 600.0


def wait_for(
    batch: Batch[T],
    item_id: str,
    done: Callable[[T | None], bool],
    *,
    title: str,
    timeout_s: float,
    interval_s: float = 0.5,
    outage_s: float = OUTAGE_S,
) -> T | None:
    """Read an item through its batch until it is done; None stands for an item that does not exist.

    A service that does not answer for a while is waited for: to give up would undo what took hours.

    done: is given the item and returns whether the waiting is over; raises when it never will be.
    title: what is waited for, in words, for the error.

    Raises WaitError after timeout_s, and what the service last raised when it was not there for outage_s.
    """
    end_s = time.monotonic() + timeout_s
    answered_s = time.monotonic()
    while True:
        began_s = time.monotonic()
        try:
            item = _get(batch, item_id)
            answered_s = time.monotonic()
            if done(item):
                return item
        except Exception as error:
            # A service that has lost its own database or message queue answers 500 until they are back.
            is_outage = is_unavailable(error) or http_status(error) == 500
            if not is_outage or time.monotonic() - answered_s > outage_s:
                raise
            LOG.info("%s: waiting for a service that does not answer: %s", title, explain(error))
        now_s = time.monotonic()
        if now_s > end_s:
            raise WaitError(f"{title}: not done after {timeout_s:.0f} s", "look at the resource in the cloud")
        # All who wait go on at the same multiples of the interval, so that one list call serves them all.
        pause_s = _pause_s(interval_s, now_s - began_s)
        time.sleep(pause_s - now_s % pause_s)


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

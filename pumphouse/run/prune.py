"""Removes the records of runs of which nothing is left to be gone on with or taken back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import NamedTuple

from taskflow import states
from taskflow.persistence.base import Backend
from taskflow.persistence.models import LogBook

from pumphouse.errors import LockedError
from pumphouse.run.lock import locked
from pumphouse.run.record import (
    ACTIVE_STATES,
    FINALIZE_FAILURE,
    FINALIZED,
    has_begun,
    has_loans,
    list_books,
    lock_name,
    run_id,
)
from pumphouse.run.summary import run_state


class OldRun(NamedTuple):
    """A run that ended long ago.

    kept_reason: why its record is kept; empty when it is removed.
    """

    book: LogBook
    kept_reason: str


def old_runs(store: Backend, before: datetime, *, force: bool) -> list[OldRun]:
    """The runs that were recorded before an aware time, the oldest first.

    force: keep only those that a process works on, or that have borrowed of a cloud.
    """
    books = [b for b in list_books(store) if datetime.fromisoformat(b.meta["created_at"]) < before]
    return [OldRun(book, _kept_reason(store, book, force)) for book in books]


def remove_runs(store: Backend, runs: list[OldRun]) -> Iterator[OldRun]:
    """Remove the records of runs; gives those that were removed, and not what somebody works on by now."""
    for run in runs:
        try:
            with locked(store, lock_name(run.book.meta), str), closing(store.get_connection()) as connection:
                connection.destroy_logbook(run.book.uuid)
        except LockedError:
            continue
        yield run


def _kept_reason(store: Backend, book: LogBook, force: bool) -> str:
    state = run_state(store, book)
    if state in ACTIVE_STATES:
        return "a process works on it"
    if has_loans(book):
        return f"it has borrowed of a cloud: pumphouse resume {run_id(book)} or revert gives that back"
    if force or state == states.REVERTED or not has_begun(store, book):
        return ""
    ended = {
        states.SUCCESS: "what it made can be reverted",
        FINALIZED: "it has the ids of what was moved",
        FINALIZE_FAILURE: f"it is {state} and can be finalized",
    }
    return ended.get(state, f"it is {state} and can be resumed or reverted")

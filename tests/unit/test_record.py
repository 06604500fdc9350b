"""Recorded runs of this release, of earlier ones and of later ones."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from taskflow.persistence.base import Backend
from taskflow.persistence.models import LogBook

from pumphouse import __version__
from pumphouse.errors import EXIT_USAGE, NotFoundError, UsageError
from pumphouse.plan.data import FORMAT as PLAN_FORMAT
from pumphouse.run.record import FORMAT, Run, create_run, find_book, list_books, load_run
from pumphouse.run.summary import list_runs
from tests.unit.memory import TENANT, World, planned, step

NEWER = FORMAT + 1


def recorded(store: Backend, **meta: Any) -> Run:
    """A run that is recorded with other meta; a value of None leaves the key out."""
    run = create_run(store, planned(TENANT, step("thing", "one", TENANT.ref)))
    run.book.meta = {name: value for name, value in {**run.book.meta, **meta}.items() if value is not None}
    run.update_meta()
    return run


def refusal(store: Backend, run: Run) -> str:
    """The message and the hint with which a run is not loaded."""
    with pytest.raises(UsageError) as caught:
        load_run(store, find_book(store, run.id))
    assert caught.value.exit_code == EXIT_USAGE
    return f"{caught.value}; {caught.value.hint}"


def test_a_run_is_recorded_with_the_format(store: Backend, world: World) -> None:
    run = recorded(store)
    assert find_book(store, run.id).meta["format"] == FORMAT
    assert load_run(store, find_book(store, run.id)).plan == run.plan


def test_a_run_without_a_format_is_of_the_first(store: Backend, world: World) -> None:
    run = recorded(store, format=None)
    book = find_book(store, run.id)
    assert "format" not in book.meta
    assert load_run(store, book).plan == run.plan


@pytest.mark.parametrize("given", [NEWER, "later"])
def test_a_run_of_a_newer_format_is_listed_and_not_loaded(
    store: Backend, world: World, given: object
) -> None:
    run = recorded(store, format=given, version="9.1")
    assert [row["run"] for row in list_runs(store)] == [run.id]
    assert refusal(store, run) == (
        f"run {run.id} was recorded by pumphouse 9.1 with format {given} of the state store; "
        f"this pumphouse reads {FORMAT}; use pumphouse 9.1 or a newer one for it; this is {__version__}"
    )


def test_a_run_with_a_plan_of_a_newer_format_is_listed_and_not_loaded(
    store: Backend, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pumphouse.plan.data.FORMAT", PLAN_FORMAT + 1)
        run = recorded(store, version="9.1")
    assert [row["run"] for row in list_runs(store)] == [run.id]
    assert f"by pumphouse 9.1 with a plan whose format is {PLAN_FORMAT + 1}; this pumphouse reads" in refusal(
        store, run
    )


@pytest.mark.parametrize(
    "meta",
    [{}, {"tenant": "shop"}, {"tenant": {"id": "t"}}, {"tenant": {"id": "t", "name": "t"}, "format": NEWER}],
)
def test_a_book_that_is_no_run_does_not_keep_the_others_from_being_listed(
    store: Backend, world: World, meta: dict[str, Any]
) -> None:
    run, foreign = recorded(store), LogBook("somebody's")
    foreign.meta = meta
    with closing(store.get_connection()) as connection:
        connection.save_logbook(foreign)
    assert [row["run"] for row in list_runs(store)] == [run.id]
    assert [book.uuid for book in list_books(store)] == [run.book.uuid]
    with pytest.raises(NotFoundError, match="there is no run"):
        find_book(store, foreign.uuid)

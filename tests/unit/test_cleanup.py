"""Which of the things that look like what a run made may be removed; that they are found is in tests/real."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from taskflow.persistence.base import Backend

from pumphouse.run.cleanup import Leftover, _Past, _temporaries, remove_leftovers
from pumphouse.run.lock import locked
from pumphouse.run.record import create_run, lock_name
from pumphouse.tasks.kind import Temporary
from tests.unit.memory import TENANT, World, change_kind, planned


def past(store: Backend, state: str, attempt: str, **policies: Any) -> _Past:
    plan = planned(TENANT)
    run = create_run(store, replace(plan, settings={**plan.settings, "policies": policies}))
    return _Past(run, state, {"web": "server web"}, {attempt}, {}, ())


def reasons(pasts: list[_Past], *found: Temporary) -> list[str]:
    change_kind("server", temporaries=lambda source: list(found))
    source: Any = None
    return [leftover.kept_reason for leftover in _temporaries(source, pasts)]


def made(attempt: str, source_id: str = "web") -> Temporary:
    return Temporary("image i", source_id, attempt, lambda: None)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("SUCCESS", ""),
        ("CONFLICT", ""),
        ("REVERTED", ""),
        ("FINALIZED", ""),
        *(
            (state, "can be resumed or reverted")
            for state in ("RUNNING", "INTERRUPTED", "SUSPENDED", "FAILURE", "REVERTING", "REVERT_FAILURE")
        ),
    ],
)
def test_what_a_run_noted_is_removed_once_the_run_is_over(
    store: Backend, world: World, state: str, why: str
) -> None:
    (said,) = reasons([past(store, state, "a1")], made("a1"))
    assert why in said
    assert bool(said) == bool(why)


def test_what_nobody_noted_stays(store: Backend, world: World) -> None:
    unknown, foreign = reasons([past(store, "SUCCESS", "a1")], made("a2"), made("a1", "another"))
    assert "no run of this state store" in unknown
    assert "no run of this state store" in foreign


def test_what_a_run_was_to_keep_or_one_under_way_may_need_stays(store: Backend, world: World) -> None:
    kept = past(store, "SUCCESS", "a1", keep_snapshots=True)
    assert "policies.keep_snapshots" in reasons([kept], made("a1"))[0]
    done, live = past(store, "SUCCESS", "a1"), past(store, "RUNNING", "a2")
    assert reasons([done, live], made("a1"))[0].startswith(f"run {live.run.id} is RUNNING")


def test_nothing_is_removed_of_a_tenant_that_a_run_works_on_by_now(store: Backend, world: World) -> None:
    gone: list[str] = []
    run = create_run(store, planned(TENANT))
    leftovers = [
        Leftover("image i", "server web", lambda: gone.append("i"), run),
        Leftover("image j", "server web", lambda: gone.append("j"), run, "it may be of use"),
    ]
    with locked(store, lock_name(run.book.meta), str):
        assert [why for _, why in remove_leftovers(store, leftovers)] == ["a run works on its tenant by now"]
    assert gone == []
    assert [why for _, why in remove_leftovers(store, leftovers)] == [""]
    assert gone == ["i"]

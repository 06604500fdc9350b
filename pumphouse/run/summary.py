"""Recorded runs and reports as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from taskflow import states

from pumphouse.model import Json, Outcome, Report, Unit, symbol
from pumphouse.run.outcomes import (
    build_report,
    failure_reason,
    left_behind,
    not_reverted_reason,
    step_of_task,
)
from pumphouse.run.record import ACTIVE_STATES, Run, list_books, lock_name, run_id

if TYPE_CHECKING:
    from taskflow.persistence.base import Backend
    from taskflow.persistence.models import AtomDetail, FlowDetail, LogBook

# The state of a run whose process died while it worked on it.
INTERRUPTED = "INTERRUPTED"
# The state of a run in which nothing failed, and something needs a decision.
CONFLICT = "CONFLICT"


def run_state(store: Backend, book: LogBook) -> str:
    """The state of a run: TaskFlow's, INTERRUPTED when the process that worked on it has died, or CONFLICT."""
    state = str(book.meta["state"])
    if state in ACTIVE_STATES:
        from pumphouse.run.lock import is_locked

        return state if is_locked(store, lock_name(book.meta)) else INTERRUPTED
    return CONFLICT if state == states.SUCCESS and book.meta.get("conflicts") else state


def list_runs(
    store: Backend, *, state: str | None = None, tenant: str | None = None, since: datetime | None = None
) -> list[Json]:
    """The runs that pass all filters, the newest first.

    tenant: an id or a name.
    since: an aware time; runs that began before it are left out.
    """
    found = [run_summary(store, book) for book in reversed(list_books(store))]
    return [
        run
        for run in found
        if (state is None or run["state"] == state.upper())
        and (tenant is None or tenant in run["tenant"].values())
        and (since is None or datetime.fromisoformat(run["created_at"]) >= since)
    ]


def run_summary(store: Backend, book: LogBook) -> Json:
    """A run without its units: its state, tenant, clouds and times."""
    meta = book.meta
    return {
        "run": run_id(book),
        "state": run_state(store, book),
        "tenant": meta["tenant"],
        "source": meta["source"],
        "destination": meta["destination"],
        "created_at": meta["created_at"],
        "ended_at": meta.get("ended_at"),
        "owner": meta.get("owner"),
        "version": meta["version"],
    }


def run_data(run: Run) -> Json:
    """A run with its units, their tasks and what became of every resource."""
    details = run.all_details()
    units = [_unit_data(unit, details[unit.name]) for unit in run.plan.units]
    report = build_report(run.id, run.book.meta["state"], run.plan, details)
    resources = [_outcome_data(outcome) for outcome in report.outcomes]
    return {**run_summary(run.store, run.book), "units": units, "resources": resources}


def report_data(report: Report) -> Json:
    """What became of every resource of a plan, with the notes of the plan, counts, and what did not arrive."""
    return {
        "run": report.run,
        "tenant": {"id": report.plan.tenant.id, "name": report.plan.tenant_name},
        "source": report.plan.source,
        "destination": report.plan.destination,
        "resources": [_outcome_data(outcome) for outcome in report.outcomes],
        "notes": list(report.plan.notes),
        "uncarried": list(report.plan.uncarried),
        "left_behind": [str(outcome.ref) for outcome in left_behind(report)],
        "summary": {state.value: number for state, number in report.count().items()},
    }


def _outcome_data(outcome: Outcome) -> Json:
    return {
        "kind": outcome.ref.kind,
        "name": outcome.name,
        "outcome": outcome.state.value,
        "old_id": outcome.ref.id,
        "new_id": outcome.destination_id,
        "reason": outcome.reason,
        "notes": list(outcome.notes),
    }


def _unit_data(unit: Unit, detail: FlowDetail) -> Json:
    # Tasks that have not begun come last, because "~" sorts behind every time.
    tasks = sorted(_tasks(unit, detail), key=lambda task: (task["started_at"] or "~", task["name"]))
    return {"name": unit.name, "state": detail.state, "tasks": tasks}


def _tasks(unit: Unit, detail: FlowDetail) -> Iterator[Json]:
    for atom in detail:
        step = step_of_task(unit, atom.name)
        if step is not None:
            yield {
                "name": atom.name,
                "resource": step.record.title,
                "verb": atom.name.removeprefix(symbol(step.ref, "")),
                "state": atom.state,
                "started_at": atom.meta.get("started_at"),
                "ended_at": atom.meta.get("ended_at"),
                "id": _resource_id(atom),
                "reason": failure_reason(atom) if atom.failure else not_reverted_reason(atom),
            }


def _resource_id(atom: AtomDetail) -> str | None:
    """The id of what a task has made or found; None when there is none."""
    result: Any = atom.results
    found = result.get("id") if isinstance(result, dict) and atom.state == states.SUCCESS else None
    return str(found) if found else None

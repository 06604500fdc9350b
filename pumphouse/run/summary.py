"""Recorded runs and reports as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from taskflow import states

from pumphouse import __version__
from pumphouse.model import Json, Outcome, Plan, Ref, Report, State, Unit, symbol
from pumphouse.run.outcomes import (
    REVERT_STATES,
    build_report,
    failure_reason,
    left_behind,
    not_reverted_reason,
    step_of_task,
)
from pumphouse.run.record import ACTIVE_STATES, Run, list_books, load_run, lock_name, run_id

if TYPE_CHECKING:
    from taskflow.persistence.base import Backend
    from taskflow.persistence.models import AtomDetail, FlowDetail, LogBook

# The version of the format of what programs get of runs; `pumphouse/schemas/` has the schemas.
FORMAT = 1
# How the names of tasks that copy bytes end: of images, snapshots of servers, and images of volumes.
_UPLOADED = "-uploaded"
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
        "format": FORMAT,
        "run": run_id(book),
        "state": run_state(store, book),
        "tenant": meta["tenant"],
        "source": meta["source"],
        "destination": meta["destination"],
        "created_at": meta["created_at"],
        "began_at": meta.get("began_at"),
        "ended_at": meta.get("ended_at"),
        "owner": meta.get("owner"),
        "version": meta["version"],
    }


def no_run(plan: Plan) -> Json:
    """What run_summary gives of a run, where there was nothing to do and so there is none."""
    return {
        "format": FORMAT,
        "run": None,
        "state": None,
        "tenant": {"id": plan.tenant.id, "name": plan.tenant_name},
        "source": plan.source,
        "destination": plan.destination,
        "created_at": None,
        "began_at": None,
        "ended_at": None,
        "owner": None,
        "version": __version__,
    }


def run_data(run: Run) -> Json:
    """A run as far as it is: what became of every resource, its units and their tasks."""
    details = run.all_details()
    report = build_report(run.id, run.book.meta["state"], run.plan, details)
    lines = {task.name: task.line for step in run.plan.steps() for task in step.tasks}
    units = [_unit_data(unit, details[unit.name], lines) for unit in run.plan.units]
    return {**_report_data(run_summary(run.store, run.book), report, details), "units": units}


def all_ids(store: Backend) -> list[Json]:
    """What became of each resource of the source, by the newest run that knows it and was not reverted."""
    found: dict[tuple[Ref, str, str], Json] = {}
    for book in reversed(list_books(store)):
        if book.meta["state"] in REVERT_STATES:
            continue
        run = load_run(store, book)
        report = build_report(run.id, book.meta["state"], run.plan, run.all_details())
        for outcome in report.outcomes:
            if outcome.destination_id and outcome.state in (State.CREATED, State.REUSED):
                key = (outcome.ref, run.plan.source, run.plan.destination)
                found.setdefault(key, _id_data(outcome, run))
    return list(found.values())


def _id_data(outcome: Outcome, run: Run) -> Json:
    return {
        "format": FORMAT,
        "kind": outcome.ref.kind,
        "name": outcome.name,
        "source_id": outcome.ref.id,
        "destination_id": outcome.destination_id,
        "outcome": outcome.state.value,
        "run": run.id,
        "source": run.plan.source,
        "destination": run.plan.destination,
    }


def report_data(report: Report, run: Run | None) -> Json:
    """What became of every resource of a plan, with notes, counts, and what did not arrive.

    run: None where there was nothing to do.
    """
    if run is None:
        return _report_data(no_run(report.plan), report, {})
    return _report_data(run_summary(run.store, run.book), report, run.all_details())


def _report_data(head: Json, report: Report, details: Mapping[str, FlowDetail]) -> Json:
    facts = _facts(report.plan, details)
    resources = [_outcome_data(outcome, facts.get(outcome.ref, {})) for outcome in report.outcomes]
    return {
        **head,
        "copied_bytes": sum(item["copied_bytes"] for item in resources),
        "copying_s": _copying_s(details),
        "new_passwords": _new_passwords(report),
        "resources": resources,
        "notes": list(report.plan.notes),
        "uncarried": list(report.plan.uncarried),
        "left_behind": [str(outcome.ref) for outcome in left_behind(report)],
        "summary": {state.value: number for state, number in report.count().items()},
    }


def _copying_s(details: Mapping[str, FlowDetail]) -> float:
    """How long anything was copied, side by side or not."""
    atoms = (atom for detail in details.values() for atom in detail if atom.name.endswith(_UPLOADED))
    times = sorted((a.meta["started_at"], a.meta["ended_at"]) for a in atoms if a.state == states.SUCCESS)
    total_s, until = 0.0, ""
    for began, ended in times:
        if ended > until:
            total_s += seconds_between(max(began, until), ended)
            until = ended
    return total_s


def _new_passwords(report: Report) -> int:
    """For how many users a password was made."""
    if report.plan.settings["policies"].get("user_passwords") != "generate":
        return 0
    return sum(o.ref.kind == "user" and o.state is State.CREATED for o in report.outcomes)


def _outcome_data(outcome: Outcome, facts: Json) -> Json:
    return {
        "kind": outcome.ref.kind,
        "name": outcome.name,
        "outcome": outcome.state.value,
        "source_id": outcome.ref.id,
        "destination_id": outcome.destination_id,
        "reason": outcome.reason,
        "notes": list(outcome.notes),
        "copied_bytes": facts.get("copied_bytes", 0),
        "hashes": facts.get("hashes", {}),
        "source_stopped": facts.get("source_stopped", False),
        "downtime_s": facts.get("downtime_s"),
    }


def _facts(plan: Plan, details: Mapping[str, FlowDetail]) -> dict[Ref, Json]:
    """The bytes that were copied of each resource with their hashes, and how long each server was down."""
    found: dict[Ref, Json] = {}
    for unit in plan.units:
        atoms = {atom.name: atom for atom in details.get(unit.name, ()) if atom.state == states.SUCCESS}
        for name, atom in atoms.items():
            is_copied = isinstance(atom.results, dict) and "size_bytes" in atom.results
            if is_copied and (step := step_of_task(unit, name)):
                facts = found.setdefault(step.ref, {"copied_bytes": 0, "hashes": {}})
                facts["copied_bytes"] += atom.results["size_bytes"]
                if name.endswith(_UPLOADED):
                    facts["hashes"] |= {
                        key: text for key, text in atom.results.items() if key != "size_bytes"
                    }
        for step in unit.steps:
            stopped, settled = (atoms.get(symbol(step.ref, verb)) for verb in ("stopped", "settled"))
            if stopped and stopped.results.get("ran"):
                facts = found.setdefault(step.ref, {})
                facts["source_stopped"] = True
                if settled:
                    facts["downtime_s"] = seconds_between(
                        stopped.meta["started_at"], settled.meta["ended_at"]
                    )
    return found


def seconds_between(began: str, ended: str) -> float:
    """The seconds from one recorded time to another."""
    return round((datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds(), 3)


def _unit_data(unit: Unit, detail: FlowDetail, lines: Mapping[str, str]) -> Json:
    # Tasks that have not begun come last, because "~" sorts behind every time.
    tasks = sorted(_tasks(unit, detail, lines), key=lambda task: (task["started_at"] or "~", task["name"]))
    return {"name": unit.name, "needs": list(unit.needs), "state": detail.state, "tasks": tasks}


def _tasks(unit: Unit, detail: FlowDetail, lines: Mapping[str, str]) -> Iterator[Json]:
    for atom in detail:
        step = step_of_task(unit, atom.name)
        if step is not None:
            yield {
                "name": atom.name,
                "resource": step.record.title,
                "verb": (verb := atom.name.removeprefix(symbol(step.ref, ""))),
                "line": lines.get(atom.name) or f"{verb} {step.record.title}",
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

"""Recorded runs for people (tables) and for programs (plain data)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from taskflow import states
from taskflow.persistence.base import Backend
from taskflow.persistence.models import AtomDetail, FlowDetail, LogBook

from pumphouse.model import Json, State, Unit
from pumphouse.run import outcomes
from pumphouse.run import record as runs
from pumphouse.run.lock import is_locked
from pumphouse.run.record import Run
from pumphouse.run.revert import Undo
from pumphouse.show.report import id_text, report_data
from pumphouse.tasks.base import symbol

# The state of a run whose process has ended without a word.
INTERRUPTED = "INTERRUPTED"
_COLOURS = {
    states.SUCCESS: "green", states.RUNNING: "cyan", states.FAILURE: "red", states.SUSPENDED: "yellow",
    INTERRUPTED: "yellow", states.REVERTED: "magenta", states.REVERT_FAILURE: "red",
}  # fmt: skip


def state_of(store: Backend, book: LogBook) -> str:
    """The state of a run: TaskFlow's, or INTERRUPTED when its process is gone."""
    state = str(book.meta["state"])
    if state in runs.UNDER_WAY and not is_locked(store, runs.lock_name(book.meta)):
        return INTERRUPTED
    return state


def listed(
    store: Backend, *, state: str | None = None, tenant: str | None = None, since: datetime | None = None
) -> list[Json]:
    """The runs that pass all filters, the newest first.

    tenant: an id or a name.
    since: an aware time; runs that began before it are left out.
    """
    found = [summary(store, book) for book in reversed(runs.books(store))]
    return [
        run
        for run in found
        if (state is None or run["state"] == state.upper())
        and (tenant is None or tenant in run["tenant"].values())
        and (since is None or datetime.fromisoformat(run["created_at"]) >= since)
    ]


def summary(store: Backend, book: LogBook) -> Json:
    """One run in short."""
    meta = book.meta
    return {
        "run": runs.run_id(book),
        "state": state_of(store, book),
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
    resources = report_data(outcomes.report(run.id, run.book.meta["state"], run.plan, details))["resources"]
    return {**summary(run.store, run.book), "units": units, "resources": resources}


def print_list(found: Iterable[Json], out: Console) -> None:
    """A table of runs."""
    table = _table("run", "state", "tenant", "began", "ended", "from", "to")
    for run in found:
        times = _local(run["created_at"]), _local(run["ended_at"])
        clouds = Text(run["source"]), Text(run["destination"])
        table.add_row(run["run"], _coloured(run["state"]), Text(run["tenant"]["name"]), *times, *clouds)
    out.print(table if table.row_count else "no runs")


def print_run(data: Json, out: Console) -> None:
    """A run, its units and their tasks."""
    out.print(f"Run {data['run']}: migrate tenant {data['tenant']['name']}", style="bold", markup=False)
    out.print(f"  from {data['source']}\n  to   {data['destination']}", markup=False)
    out.print(Text("  state ").append_text(_coloured(data["state"])))
    if data["owner"]:
        owner = "process {pid} of {user} on {host}".format_map(data["owner"])
        out.print(f"  {_local(data['created_at'])} to {_local(data['ended_at'])}, {owner}", markup=False)
    table = _table("resource", "task", "state", "began", "s", "id", "why")
    for task in (task for unit in data["units"] for task in unit["tasks"]):
        times = _local(task["started_at"]), _seconds(task)
        table.add_row(
            Text(task["resource"]), task["verb"], _coloured(task["state"]), *times, id_text(task["id"] or ""),
            Text(task["reason"]),
        )  # fmt: skip
    out.print(table)
    waiting = sum(1 for resource in data["resources"] if resource["outcome"] == State.PENDING)
    if waiting:
        out.print(f"{waiting} resources are not done", markup=False)


def print_undos(run: Run, undos: Sequence[Undo], out: Console) -> None:
    """What a revert is going to do, unit by unit."""
    out.print(f"Revert run {run.id} of tenant {run.plan.tenant_name}", style="bold", markup=False)
    out.print(f"  from {run.plan.destination}\n", markup=False)
    for undo in undos:
        for line in undo.lines:
            out.print(f"  keep: {line}" if undo.kept else f"  {line}", markup=False)
        if undo.kept:
            out.print(f"    because it is {undo.kept}", markup=False, style="yellow")
    if not undos:
        out.print("nothing to undo", style="green")


def _unit_data(unit: Unit, detail: FlowDetail) -> Json:
    tasks = sorted(_tasks(unit, detail), key=lambda task: (task["started_at"] or "~", task["name"]))
    return {"name": unit.name, "state": detail.state, "tasks": tasks}


def _tasks(unit: Unit, detail: FlowDetail) -> Iterator[Json]:
    for atom in detail:
        step = outcomes.owner(unit, atom.name)
        if step is not None:
            yield {
                "name": atom.name,
                "resource": step.record.title,
                "verb": atom.name.removeprefix(symbol(step.ref, "")),
                "state": atom.state,
                "started_at": atom.meta.get("started_at"),
                "ended_at": atom.meta.get("ended_at"),
                "id": _id(atom),
                "reason": outcomes.reason(atom) if atom.failure else outcomes.kept(atom),
            }


def _id(atom: AtomDetail) -> str | None:
    """The id of what a task has made or found."""
    result: Any = atom.results
    found = result.get("id") if isinstance(result, dict) and atom.state == states.SUCCESS else None
    return str(found) if found else None


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading in ("run", "began", "ended"))
    return table


def _coloured(state: str) -> Text:
    return Text(str(state), style=_COLOURS.get(state, "default"))


def _local(time: str | None) -> str:
    return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M:%S}" if time else "-"


def _seconds(task: Json) -> str:
    began, ended = task["started_at"], task["ended_at"]
    if not began or not ended or ended < began:
        return ""
    return f"{(datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds():.1f}"

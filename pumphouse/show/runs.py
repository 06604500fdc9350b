"""Recorded runs as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pumphouse.model import Json, State
from pumphouse.show.report import id_text

if TYPE_CHECKING:
    from pumphouse.run.record import Run
    from pumphouse.run.revert import UnitRevert

# By TaskFlow's states, and INTERRUPTED of pumphouse.run.summary.
_COLOURS = {
    "SUCCESS": "green", "RUNNING": "cyan", "FAILURE": "red", "SUSPENDED": "yellow",
    "INTERRUPTED": "yellow", "REVERTED": "magenta", "REVERT_FAILURE": "red",
}  # fmt: skip


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


def print_revert(run: Run, units: Sequence[UnitRevert], out: Console) -> None:
    """What a revert is going to do, unit by unit."""
    out.print(f"Revert run {run.id} of tenant {run.plan.tenant_name}", style="bold", markup=False)
    out.print(f"  from {run.plan.destination}\n", markup=False)
    for unit in units:
        for line in unit.lines:
            out.print(f"  keep: {line}" if unit.kept_reason else f"  {line}", markup=False)
        if unit.kept_reason:
            out.print(f"    because it is {unit.kept_reason}", markup=False, style="yellow")
    if not units:
        out.print("nothing to undo", style="green")


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

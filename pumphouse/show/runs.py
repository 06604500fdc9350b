"""Recorded runs as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.table import Table

from pumphouse.model import Json, State
from pumphouse.show.console import HangingText, PrintableConsole, styled
from pumphouse.show.report import id_text

if TYPE_CHECKING:
    from rich.text import Text

    from pumphouse.run.record import Run
    from pumphouse.run.revert import UnitRevert

# By TaskFlow's states, and those of pumphouse.run.summary.
_COLOURS = {
    "SUCCESS": "green", "RUNNING": "cyan", "FAILURE": "red", "SUSPENDED": "yellow",
    "INTERRUPTED": "yellow", "CONFLICT": "yellow", "REVERTED": "magenta", "REVERT_FAILURE": "red",
}  # fmt: skip


def print_list(found: Iterable[Json], out: PrintableConsole) -> None:
    """A table of runs."""
    table = _table("run", "state", "tenant", "began", "ended", "from", "to")
    for run in found:
        times = _local(run["created_at"]), _local(run["ended_at"])
        clouds = run["source"], run["destination"]
        table.add_row(run["run"], _coloured(run["state"]), run["tenant"]["name"], *times, *clouds)
    out.print(table if table.row_count else "no runs")


def print_run(data: Json, out: PrintableConsole) -> None:
    """A run, its units and their tasks."""
    out.print(f"Run {data['run']}: migrate tenant {data['tenant']['name']}", style="bold")
    out.print(f"  from {data['source']}")
    out.print(f"  to   {data['destination']}")
    out.print(styled("  state ").append_text(_coloured(data["state"])))
    if data["owner"]:
        owner = "process {pid} of {user} on {host}".format_map(data["owner"])
        out.print(f"  {_local(data['created_at'])} to {_local(data['ended_at'])}, {owner}")
    table = _table("resource", "task", "state", "began", "s", "id", "why")
    for task in (task for unit in data["units"] for task in unit["tasks"]):
        times = _local(task["started_at"]), _seconds(task)
        table.add_row(
            HangingText(styled(task["resource"])), task["verb"], _coloured(task["state"]), *times,
            id_text(task["id"] or ""), task["reason"],
        )  # fmt: skip
    out.print(table)
    waiting = sum(1 for resource in data["resources"] if resource["outcome"] == State.PENDING)
    if waiting:
        out.print(f"{waiting} resources are not done")


def print_revert(run: Run, units: Sequence[UnitRevert], out: PrintableConsole) -> None:
    """What a revert is going to do, unit by unit."""
    out.print(f"Revert run {run.id} of tenant {run.plan.tenant_name}", style="bold")
    out.print(f"  from {run.plan.destination}")
    out.print()
    for unit in units:
        for line in unit.lines:
            out.print(f"  keep: {line}" if unit.kept_reason else f"  {line}")
        if unit.kept_reason:
            out.print(f"    because it is {unit.kept_reason}", style="yellow")
    if not units:
        out.print("nothing to undo", style="green")


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading in ("run", "began", "ended"))
    return table


def _coloured(state: str) -> Text:
    return styled(str(state), _COLOURS.get(state, "default"))


def _local(time: str | None) -> str:
    return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M:%S}" if time else "-"


def _seconds(task: Json) -> str:
    began, ended = task["started_at"], task["ended_at"]
    if not began or not ended or ended < began:
        return ""
    return f"{(datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds():.1f}"

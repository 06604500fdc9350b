"""Recorded runs as tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pumphouse.model import Json, Outcome, State, kind_title
from pumphouse.run.record import ACTIVE_STATES
from pumphouse.run.summary import seconds_between
from pumphouse.show.console import PrintableConsole, styled
from pumphouse.show.report import id_text, outcome_text, print_some
from pumphouse.show.tables import Column, print_table
from pumphouse.words import counted, lasting, size

if TYPE_CHECKING:
    from rich.text import Text

    from pumphouse.run.record import Run
    from pumphouse.run.revert import UnitRevert

# By TaskFlow's states, and those of pumphouse.run.summary.
_COLOURS = {
    "SUCCESS": "green", "RUNNING": "cyan", "FAILURE": "red", "SUSPENDED": "yellow",
    "INTERRUPTED": "yellow", "CONFLICT": "yellow", "REVERTED": "magenta", "REVERT_FAILURE": "red",
    "FINALIZING": "cyan", "FINALIZED": "green", "FINALIZE_FAILURE": "red",
}  # fmt: skip


_LIST = (
    Column("run"),
    Column("state"),
    Column("tenant", wraps=True),
    Column("began"),
    Column("took", order=1),
    Column("from", order=3),
    Column("to", order=2),
)
_IDS = (
    Column("kind", order=2),
    Column("name", wraps=True, order=3),
    Column("source id"),
    Column("destination id"),
    Column("run", order=1),
)
_TASKS = (
    Column("task", wraps=True),
    Column("state"),
    Column("began", order=2),
    Column("s", order=1),
    Column("id", order=3),
    Column("why", wraps=True),
)
_WATCH_S = 2


def print_list(found: Sequence[Json], out: PrintableConsole) -> None:
    """A table of runs."""
    if not found:
        out.print("no runs")
        return
    rows = [
        (
            run["run"], _coloured(run["state"]), run["tenant"]["name"],
            _local(run["began_at"] or run["created_at"]), _took(run), _address(run["source"]),
            _address(run["destination"]),
        )
        for run in found
    ]  # fmt: skip
    print_table(out, _LIST, rows)


def print_ids(found: Sequence[Json], out: PrintableConsole) -> None:
    """A table of ids at the source and at the destination, with the run that knows them."""
    print_table(
        out,
        _IDS,
        [
            (kind_title(item["kind"]), item["name"], item["source_id"], item["destination_id"], item["run"])
            for item in found
        ],
    )


def print_run(data: Json, out: PrintableConsole, *, with_tasks: bool = False) -> None:
    """What a run has come to so far, what failed in the plan's words, what is under way; and every task if wanted."""
    tasks = [task for unit in data["units"] for task in unit["tasks"]]
    _print_head(data, tasks, out)
    where = f"pumphouse runs show {data['run']} --tasks"
    failed = [f"failed: {task['line']}: {task['reason']}" for task in tasks if task["reason"]]
    print_some(failed, out, "red", where)
    what = "under way" if data["state"] in ACTIVE_STATES else "interrupted"
    running = [f"{what}{_since(task)}: {task['line']}" for task in tasks if task["state"] == "RUNNING"]
    print_some(running, out, "cyan", where)
    if not with_tasks:
        out.print(f"{counted(len(tasks), 'task')}: --tasks lists them", style="dim")
        return
    out.print()
    rows = [
        (
            task["line"], _coloured(task["state"]), _local(task["started_at"]), _seconds(task),
            id_text(task["id"] or ""), task["reason"],
        )
        for task in tasks
    ]  # fmt: skip
    print_table(out, _TASKS, rows)


def watch_run(read: Callable[[], Json], out: PrintableConsole, *, with_tasks: bool) -> None:
    """Show a run again and again until no process works on it.

    read: gives it as it is now.
    """
    with out.screen():
        while True:
            data = read()
            out.clear()
            print_run(data, out, with_tasks=with_tasks)
            if data["state"] not in ACTIVE_STATES:
                break
            time.sleep(_WATCH_S)
    print_run(data, out, with_tasks=with_tasks)


def _print_head(data: Json, tasks: Sequence[Json], out: PrintableConsole) -> None:
    out.print(f"Run {data['run']}: migrate tenant {data['tenant']['name']}", style="bold")
    out.print(f"  from {data['source']}")
    out.print(f"  to   {data['destination']}")
    out.print(styled("  state ").append_text(_coloured(data["state"])))
    if data["owner"]:
        owner = "process {pid} of {user} on {host}".format_map(data["owner"])
        out.print(f"  {_local(data['began_at'])} to {_local(data['ended_at'])}, {owner}")
    counts = ", ".join(f"{number} {outcome}" for outcome, number in data["summary"].items())
    done = sum(task["state"] == "SUCCESS" for task in tasks)
    out.print(f"  {counted(len(data['resources']), 'resource')}: {counts}")
    out.print(f"  {done} of {counted(len(tasks), 'task')} done; {size(data['copied_bytes'])} copied")
    waiting = data["summary"].get(State.PENDING.value, 0)
    if waiting:
        out.print(f"  {counted(waiting, 'resource')} not done yet: pumphouse resume {data['run']} goes on")


def print_left(run: Run, left: Sequence[Outcome], out: PrintableConsole) -> None:
    """What is left of a run that is to go on."""
    out.print(f"Resume run {run.id} of tenant {run.plan.tenant_name}", style="bold")
    out.print(f"  from {run.plan.source}")
    out.print(f"  to   {run.plan.destination}")
    out.print(f"  left {len(left)} of {counted(sum(1 for _ in run.plan.steps()), 'resource')}")
    where = f"pumphouse runs show {run.id} -f json"
    print_some(
        [styled("    ").append_text(outcome_text(outcome, ids=False)) for outcome in left], out, "", where
    )


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


def _coloured(state: str) -> Text:
    return styled(str(state), _COLOURS.get(state, "default"))


def _local(time: str | None) -> str:
    return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M:%S}" if time else "-"


def _since(task: Json) -> str:
    if not (began := task["started_at"]):
        return ""
    return f" since {_local(began)} ({lasting(seconds_between(began, datetime.now(UTC).isoformat()))})"


def _seconds(task: Json) -> str:
    began, ended = task["started_at"], task["ended_at"]
    if not began or not ended or ended < began:
        return ""
    return f"{(datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds():.1f}"


def _took(run: Json) -> str:
    return (
        lasting(seconds_between(run["began_at"], run["ended_at"]))
        if run["began_at"] and run["ended_at"]
        else ""
    )


def _address(title: str) -> str:
    """A cloud without the word for its side, which the heading has."""
    return title.partition(" ")[2] or title

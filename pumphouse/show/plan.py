"""Plans for people."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pumphouse.model import Action, Plan, Step
from pumphouse.plan.data import summary
from pumphouse.show.console import PrintableConsole, styled
from pumphouse.show.text import size

if TYPE_CHECKING:
    from rich.text import Text

_COLOURS = {
    Action.CREATE: "green", Action.REUSE: "cyan", Action.SKIP: "yellow", Action.CONFLICT: "red"
}  # fmt: skip


def print_plan(plan: Plan, out: PrintableConsole) -> None:
    """The planned tasks in execution order, grouped by resource, then counts and bytes."""
    out.print(f"Migrate tenant {plan.tenant_name} ({plan.tenant.id})", style="bold")
    out.print(f"  from {plan.source}")
    out.print(f"  to   {plan.destination}")
    if plan.selection:
        out.print(f"  with {selection_options(plan)}")
    out.print()
    numbers = itertools.count(1)
    for step in plan.steps():
        out.print(_step_text(step))
        for note in step.notes:
            out.print(f"       note: {note}", style="yellow")
        for task in step.tasks:
            out.print(f"  {next(numbers):4d}. {task.line}")
    for note in (*plan.notes, *plan.uncarried):
        out.print(f"note: {note}", style="yellow")
    out.print()
    out.print(_summary_line(summary(plan)), style="bold")


def _summary_line(counts: Mapping[str, int]) -> str:
    actions = ", ".join(f"{counts[action.value]} {action.value}" for action in Action)
    total = sum(counts[action.value] for action in Action)
    return (
        f"{total} resources: {actions}; {counts['tasks']} tasks; at most {size(counts['size_bytes'])} to copy"
    )


def _step_text(step: Step) -> Text:
    text = styled(f"{step.action.value:8}", _COLOURS[step.action])
    text.append_text(styled(f" {step.record.title}", "bold default"))
    if step.name != step.record.name:
        text.append_text(styled(f" as {step.name}", "default"))
    why = "; ".join(filter(None, (step.reason, step.because)))
    return text.append_text(styled(f": {why}", "default"))


def selection_options(plan: Plan) -> str:
    """The selection of a plan as the options of a command; empty when it is of all."""
    selection = plan.selection
    names = {step.ref: step.record.name for step in plan.steps()}
    return " ".join(
        [
            *(f"--only {kind}" for kind in selection.only),
            *(f"--skip {kind}" for kind in selection.skip),
            *(f"--{ref.kind} {names.get(ref) or ref.id}" for ref in selection.refs),
        ]
    )

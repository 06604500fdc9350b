"""Plans, reports and checks for people (tables) and for programs (JSON, YAML)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pumphouse.model import Action, Json, Outcome, Plan, Report, State, Step
from pumphouse.plan.data import summary

if TYPE_CHECKING:
    from pumphouse.cloud.check import Check, CloudCheck

_COLOURS = {
    "create": "green", "created": "green", "reuse": "cyan", "reused": "cyan", "skip": "yellow",
    "skipped": "yellow", "conflict": "red", "failed": "red", "blocked": "magenta",
    "pending": "yellow", "reverted": "green", "kept": "yellow",
}  # fmt: skip
# rich takes 80 columns for a pipe, which breaks ids and reasons in two.
_PIPE_COLUMNS = 400
_UUID_LENGTH = 36
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def console(stderr: bool = False) -> Console:
    """A console for tables: as wide as the terminal, or wide enough where there is none."""
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=_PIPE_COLUMNS)


def dump(data: Json | list[Json], output_format: str) -> str:
    """Plain data as JSON or YAML, keys in the order they were given."""
    if output_format == "json":
        return json.dumps(data, indent=2, ensure_ascii=False)
    return yaml.safe_dump(json.loads(json.dumps(data)), sort_keys=False, allow_unicode=True)


def size(size_bytes: int) -> str:
    """Bytes in the largest binary unit of which there is at least one, e.g. `1.5 GiB`."""
    exponent = min(max(size_bytes.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{size_bytes / (1 << 10 * exponent):.{min(exponent, 1)}f} {_UNITS[exponent]}"


def print_plan(plan: Plan, out: Console) -> None:
    """The planned tasks in execution order, grouped by resource, then counts and bytes."""
    out.print(f"Migrate tenant {plan.tenant_name} ({plan.tenant.id})", style="bold", markup=False)
    out.print(f"  from {plan.source}\n  to   {plan.destination}", markup=False)
    if plan.selection:
        out.print(f"  with {selection_options(plan)}", markup=False)
    out.print()
    numbers = itertools.count(1)
    for step in plan.steps():
        out.print(_step_text(step))
        for note in step.notes:
            out.print(f"       note: {note}", markup=False, style="yellow")
        for task in step.tasks:
            out.print(f"  {next(numbers):4d}. {task.line}", markup=False)
    for note in plan.notes:
        out.print(f"note: {note}", markup=False, style="yellow")
    out.print(f"\n{_summary_line(summary(plan))}", style="bold", markup=False)


def print_report(report: Report, out: Console) -> None:
    """The table of old and new ids, then what was left out and why, then the counts."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("kind", "name", "outcome", "old id", "new id", "why"):
        table.add_column(heading, overflow="fold", no_wrap=heading.endswith("id"))
    for outcome in report.outcomes:
        table.add_row(*_outcome_row(outcome))
    out.print(table)
    for outcome in report.outcomes:
        for note in outcome.notes:
            out.print(f"note: {outcome.ref.kind} {outcome.name}: {note}", markup=False, style="yellow")
    for note in report.plan.notes:
        out.print(f"note: {note}", markup=False, style="yellow")
    counts = ", ".join(f"{number} {state.value}" for state, number in report.count().items())
    out.print(f"\n{len(report.outcomes)} resources: {counts}", style="bold", markup=False)


def outcome_text(outcome: Outcome) -> Text:
    """One line on one finished resource."""
    text = Text(f"{outcome.state.value:9}", style=_COLOURS[outcome.state.value])
    text.append(f" {outcome.ref.kind.replace('_', ' ')} {outcome.name}", style="default")
    if outcome.state is State.CREATED:
        text.append(f": {outcome.ref.id} is {outcome.destination_id}", style="dim")
    elif outcome.reason:
        text.append(f": {outcome.reason}", style="default")
    return text


def check_data(found: Check) -> Json:
    """What a check found, as plain data."""
    return asdict(found)


def print_check(found: Check, out: Console) -> None:
    """Both clouds, then what will not be possible."""
    for cloud in (found.source, found.destination):
        _print_cloud(cloud, out)
    for sentence in found.not_possible:
        out.print(f"note: {sentence}", markup=False, style="yellow")
    if not found.not_possible:
        out.print("nothing stands in the way", style="green")


def _print_cloud(cloud: CloudCheck, out: Console) -> None:
    clock = "unknown" if cloud.clock_difference_s is None else f"{cloud.clock_difference_s:+.1f} s"
    region = f", region {cloud.region}" if cloud.region else ""
    out.print(f"{cloud.name}: {cloud.auth_url}{region}", style="bold", markup=False)
    out.print(f"  user {cloud.user} in project {cloud.project}, roles {', '.join(cloud.roles)}", markup=False)
    out.print(f"  clock {clock}", markup=False)
    for service in cloud.services:
        micro = f", microversions {service.min_microversion} to {service.max_microversion}"
        versions = f"{service.version}{micro if service.max_microversion else ''}" if service.version else ""
        out.print(f"  {service.type:14} {service.project:10} {service.problem or versions}", markup=False)
    out.print(f"  {len(cloud.extensions)} neutron extensions\n", markup=False)


def _summary_line(counts: Mapping[str, int]) -> str:
    actions = ", ".join(f"{counts[action.value]} {action.value}" for action in Action)
    total = sum(counts[action.value] for action in Action)
    return (
        f"{total} resources: {actions}; {counts['tasks']} tasks; at most {size(counts['size_bytes'])} to copy"
    )


def _step_text(step: Step) -> Text:
    text = Text(f"{step.action.value:8}", style=_COLOURS[step.action.value])
    text.append(f" {step.record.title}", style="bold default")
    if step.name != step.record.name:
        text.append(f" as {step.name}", style="default")
    return text.append(f": {'; '.join(filter(None, (step.reason, step.because)))}", style="default")


def _outcome_row(outcome: Outcome) -> tuple[Any, ...]:
    kind, state = outcome.ref.kind.replace("_", " "), outcome.state.value
    ids = id_text(outcome.ref.id), id_text(outcome.destination_id or "-")
    return kind, Text(outcome.name), Text(state, style=_COLOURS[state]), *ids, Text(outcome.reason)


def id_text(resource_id: str) -> Text:
    """An id that can be copied; those made of several (assignments, keypairs) are in the JSON only."""
    return Text(resource_id if len(resource_id) <= _UUID_LENGTH else "")


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

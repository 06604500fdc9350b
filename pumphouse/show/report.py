"""Plans, reports and checks for people (tables) and for programs (JSON, YAML)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import yaml
from rich.table import Table

from pumphouse.model import Action, Json, Outcome, Plan, Report, State, Step
from pumphouse.plan.data import summary
from pumphouse.show.console import PrintableConsole, styled
from pumphouse.show.text import is_hidden, printable

if TYPE_CHECKING:
    from rich.text import Text

    from pumphouse.cloud.check import Check, CloudCheck

_COLOURS = {
    "create": "green", "created": "green", "reuse": "cyan", "reused": "cyan", "skip": "yellow",
    "skipped": "yellow", "conflict": "red", "failed": "red", "blocked": "magenta",
    "pending": "yellow", "reverted": "green", "kept": "yellow",
}  # fmt: skip
_UUID_LENGTH = 36
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


class _Dumper(yaml.SafeDumper):
    """Writes strings that have hidden characters in quotes, the only place where they can be escaped."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        """A string; in double quotes if it is not printable as it is."""
        quotes = None if printable(text) == text else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=quotes)


_Dumper.add_representer(str, _Dumper.represent_str)


def dump(data: Json | list[Json], output_format: str) -> str:
    """Plain data as JSON or YAML, keys in the order they were given, hidden characters escaped."""
    if output_format == "json":
        text = json.dumps(data, indent=2, ensure_ascii=False)
        return "".join(json.dumps(char)[1:-1] if char != "\n" and is_hidden(char) else char for char in text)
    text = yaml.dump(json.loads(json.dumps(data)), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    # What is hidden is in double quotes, where YAML knows the escapes that Python knows.
    return "\n".join(map(printable, text.split("\n")))


def size(size_bytes: int) -> str:
    """Bytes in the largest binary unit of which there is at least one, e.g. `1.5 GiB`."""
    exponent = min(max(size_bytes.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{size_bytes / (1 << 10 * exponent):.{min(exponent, 1)}f} {_UNITS[exponent]}"


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


def print_report(report: Report, out: PrintableConsole) -> None:
    """The table of old and new ids, then what was left out and why, then the counts."""
    if not report.outcomes:
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("kind", "name", "outcome", "old id", "new id", "why"):
        table.add_column(heading, overflow="fold", no_wrap=heading.endswith("id"))
    for outcome in report.outcomes:
        table.add_row(*_outcome_row(outcome))
    out.print(table)
    for outcome in report.outcomes:
        for note in outcome.notes:
            out.print(f"note: {outcome.ref.kind} {outcome.name}: {note}", style="yellow")
    for note in (*report.plan.notes, *report.plan.uncarried):
        out.print(f"note: {note}", style="yellow")
    counts = ", ".join(f"{number} {state.value}" for state, number in report.count().items())
    out.print()
    out.print(f"{len(report.outcomes)} resources: {counts}", style="bold")


def outcome_text(outcome: Outcome) -> Text:
    """One line on one finished resource."""
    text = styled(f"{outcome.state.value:9}", _COLOURS[outcome.state.value])
    text.append_text(styled(f" {outcome.ref.kind.replace('_', ' ')} {outcome.name}", "default"))
    if outcome.state is State.CREATED:
        text.append_text(styled(f": {outcome.ref.id} is {outcome.destination_id}", "dim"))
    elif outcome.reason:
        text.append_text(styled(f": {outcome.reason}", "default"))
    return text


def check_data(found: Check) -> Json:
    """What a check found, as plain data."""
    return asdict(found)


def print_check(found: Check, out: PrintableConsole) -> None:
    """Both clouds, then what will not be possible."""
    for cloud in (found.source, found.destination):
        _print_cloud(cloud, out)
    for sentence in found.not_possible:
        out.print(f"note: {sentence}", style="yellow")
    if not found.not_possible:
        out.print("nothing stands in the way", style="green")


def _print_cloud(cloud: CloudCheck, out: PrintableConsole) -> None:
    clock = "unknown" if cloud.clock_difference_s is None else f"{cloud.clock_difference_s:+.1f} s"
    region = f", region {cloud.region}" if cloud.region else ""
    out.print(f"{cloud.name}: {cloud.auth_url}{region}", style="bold")
    out.print(f"  user {cloud.user} in project {cloud.project}, roles {', '.join(cloud.roles)}")
    out.print(f"  clock {clock}")
    for service in cloud.services:
        micro = f", microversions {service.min_microversion} to {service.max_microversion}"
        versions = f"{service.version}{micro if service.max_microversion else ''}" if service.version else ""
        out.print(f"  {service.type:14} {service.project:10} {service.problem or versions}")
    out.print(f"  {len(cloud.extensions)} neutron extensions")
    out.print()


def _summary_line(counts: Mapping[str, int]) -> str:
    actions = ", ".join(f"{counts[action.value]} {action.value}" for action in Action)
    total = sum(counts[action.value] for action in Action)
    return (
        f"{total} resources: {actions}; {counts['tasks']} tasks; at most {size(counts['size_bytes'])} to copy"
    )


def _step_text(step: Step) -> Text:
    text = styled(f"{step.action.value:8}", _COLOURS[step.action.value])
    text.append_text(styled(f" {step.record.title}", "bold default"))
    if step.name != step.record.name:
        text.append_text(styled(f" as {step.name}", "default"))
    why = "; ".join(filter(None, (step.reason, step.because)))
    return text.append_text(styled(f": {why}", "default"))


def _outcome_row(outcome: Outcome) -> tuple[Any, ...]:
    kind, state = outcome.ref.kind.replace("_", " "), outcome.state.value
    ids = id_text(outcome.ref.id), id_text(outcome.destination_id or "-")
    return kind, outcome.name, styled(state, _COLOURS[state]), *ids, outcome.reason


def id_text(resource_id: str) -> str:
    """An id that can be copied; those made of several (assignments, keypairs) are in the JSON only."""
    return resource_id if len(resource_id) <= _UUID_LENGTH else ""


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

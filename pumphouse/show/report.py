"""Reports and checks for people (tables) and for programs (JSON, YAML)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import yaml
from rich.table import Table

from pumphouse.model import Json, Outcome, Report, State
from pumphouse.show.console import PrintableConsole, styled
from pumphouse.show.text import is_hidden, printable

if TYPE_CHECKING:
    from rich.text import Text

    from pumphouse.cloud.check import Check, CloudCheck

_COLOURS = {
    "created": "green", "reused": "cyan", "skipped": "yellow", "conflict": "red", "failed": "red",
    "blocked": "magenta", "pending": "yellow", "reverted": "green", "kept": "yellow",
}  # fmt: skip
_UUID_LENGTH = 36


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


def outcome_text(outcome: Outcome, *, ids: bool = True) -> Text:
    """One line on one finished resource; ids: whether it says which id has become which."""
    text = styled(f"{outcome.state.value:9}", _COLOURS[outcome.state.value])
    text.append_text(styled(f" {outcome.ref.kind.replace('_', ' ')} {outcome.name}", "default"))
    if outcome.state is State.CREATED:
        if ids:
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
    out.print(f"  release {cloud.release}")
    for service in cloud.services:
        micro = f", microversions {service.min_microversion} to {service.max_microversion}"
        versions = f"{service.version}{micro if service.max_microversion else ''}" if service.version else ""
        out.print(f"  {service.type:14} {service.project:10} {service.problem or versions}")
    out.print(f"  {len(cloud.extensions)} neutron extensions")
    out.print()


def _outcome_row(outcome: Outcome) -> tuple[Any, ...]:
    kind, state = outcome.ref.kind.replace("_", " "), outcome.state.value
    ids = id_text(outcome.ref.id), id_text(outcome.destination_id or "-")
    return kind, outcome.name, styled(state, _COLOURS[state]), *ids, outcome.reason


def id_text(resource_id: str) -> str:
    """An id that can be copied; those made of several (assignments, keypairs) are in the JSON only."""
    return resource_id if len(resource_id) <= _UUID_LENGTH else ""

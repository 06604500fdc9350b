"""Reports and checks for people (tables) and for programs (JSON, YAML)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml

from pumphouse.model import Json, Obstacle, Outcome, State, kind_title
from pumphouse.show.console import PrintableConsole, styled
from pumphouse.show.tables import Column, print_table
from pumphouse.show.text import is_hidden, printable
from pumphouse.words import lasting, size

if TYPE_CHECKING:
    from rich.text import Text

    from pumphouse.cloud.check import Check, CloudCheck

_COLOURS = {
    "created": "green", "reused": "cyan", "skipped": "yellow", "conflict": "red", "failed": "red",
    "blocked": "magenta", "pending": "yellow", "reverted": "green", "kept": "yellow", "deleted": "green",
    "unmarked": "green",
}  # fmt: skip
_UUID_LENGTH = 36
_LINES_MAX = 20
_CHECK_FORMAT = 1
_COPIES = (
    Column("kind"), Column("name", wraps=True), Column("copied"), Column("by"), Column("hash")
)  # fmt: skip
_DOWNTIMES = (Column("kind"), Column("name", wraps=True), Column("down for"))
_COLUMNS = (
    Column("kind"),
    Column("name", wraps=True),
    Column("outcome"),
    Column("source id", order=2),
    Column("destination id", order=1),
    Column("why", wraps=True),
)


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


def print_report(data: Json, out: PrintableConsole) -> None:
    """The table of ids and reasons, then all notes."""
    if not data["resources"]:
        return
    print_table(out, _COLUMNS, map(_row, data["resources"]))
    for item in data["resources"]:
        for note in item["notes"]:
            out.print(f"note: {kind_title(item['kind'])} {item['name']}: {note}", style="yellow")
    for note in (*data["notes"], *data["uncarried"]):
        out.print(f"note: {note}", style="yellow")


def print_copies(data: Json, out: PrintableConsole) -> None:
    """The hashes of all that was copied, and how long servers were down."""
    copied = [item for item in data["resources"] if item["hashes"]]
    rows = [
        (kind_title(item["kind"]), item["name"], size(item["copied_bytes"]), name, digest)
        for item in copied
        for name, digest in item["hashes"].items()
    ]
    down = [item for item in data["resources"] if item["downtime_s"] is not None]
    for columns, found in (
        (_COPIES, rows),
        (
            _DOWNTIMES,
            [(kind_title(item["kind"]), item["name"], lasting(item["downtime_s"])) for item in down],
        ),
    ):
        if found:
            out.print()
            print_table(out, columns, found)


def report_text(data: Json, output_format: str) -> str:
    """The report of a run in a format for programs, for a spreadsheet, or as a page to look at."""
    if output_format == "csv":
        return csv_text(
            [
                {**item, "hashes": " ".join(map(":".join, item["hashes"].items()))}
                for item in data["resources"]
            ]
        )
    if output_format == "html":
        from pumphouse.show.html import html_text

        return html_text(data)
    return f"{dump(data, output_format)}\n"


def csv_text(rows: Sequence[Json]) -> str:
    """Plain data as CSV; what a spreadsheet would take for a formula begins with an apostrophe."""
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0] if rows else ())
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def _cell(value: Any) -> str:
    text = printable("; ".join(value) if isinstance(value, list) else "" if value is None else str(value))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def print_some(lines: Sequence[str | Text], out: PrintableConsole, style: str, where: str) -> None:
    """Print lines of one sort, as many as can be read at once.

    where: the command that has all of them.
    """
    for line in lines[:_LINES_MAX]:
        out.print(line, style=style)
    if len(lines) > _LINES_MAX:
        out.print(f"and {len(lines) - _LINES_MAX:,} more: {where}", style=style)


def outcome_text(outcome: Outcome, *, ids: bool = True) -> Text:
    """One line on one finished resource; ids: whether it says which id has become which."""
    text = styled(f"{outcome.state.value:9}", _COLOURS[outcome.state.value])
    text.append_text(styled(f" {kind_title(outcome.ref.kind)} {outcome.name}", "default"))
    if outcome.state is State.CREATED:
        if ids:
            text.append_text(styled(f": {outcome.ref.id} is {outcome.destination_id}", "dim"))
    elif outcome.reason:
        text.append_text(styled(f": {outcome.reason}", "default"))
    return text


def check_data(found: Check) -> Json:
    """What a check found, as plain data; `pumphouse/schemas/check.json` is its schema."""
    return {"format": _CHECK_FORMAT, **asdict(found)}


def print_check(
    found: Check,
    out: PrintableConsole,
    obstacles: Sequence[Obstacle] = (),
    bytes_per_s: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Both clouds, how fast bytes go where that was measured, then what stands in the way or will not be possible."""
    for cloud in (found.source, found.destination):
        _print_cloud(cloud, out)
    for way, rate in bytes_per_s.items():
        out.print(f"speed from {way}: {size(round(rate))} a second")
    for obstacle in obstacles:
        what, style = ("error", "red") if obstacle.is_certain else ("warning", "yellow")
        out.print(f"{what}: {obstacle.what}: {obstacle.remedy}", style=style)
    for sentence in found.not_possible:
        out.print(f"note: {sentence}", style="yellow")
    if not found.not_possible and not obstacles:
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


def _row(item: Json) -> tuple[str | Text, ...]:
    kind, state = kind_title(item["kind"]), item["outcome"]
    ids = id_text(item["source_id"]), id_text(item["destination_id"] or "")
    return kind, item["name"], styled(state, _COLOURS[state]), *ids, item["reason"]


def id_text(resource_id: str) -> str:
    """An id that can be copied; those made of several (assignments, keypairs) are in the JSON only."""
    return resource_id if len(resource_id) <= _UUID_LENGTH else ""

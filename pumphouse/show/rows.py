"""Plain data as rows and columns: for spreadsheets, for shells, and for whoever chooses columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import click

from pumphouse.config.schema import closest
from pumphouse.errors import UsageError
from pumphouse.model import Json
from pumphouse.show.console import console
from pumphouse.show.report import csv_text, dump
from pumphouse.show.tables import Column, print_table
from pumphouse.show.text import printable

# What a row of a plan has of a resource; its record and its tasks are for programs.
_DECISION = ("kind", "id", "name", "action", "reason", "because", "destination_id", "notes")


def print_rows(data: Json | list[Json], output_format: str, columns: Sequence[str]) -> None:
    """Print the rows of data on stdout.

    columns: those that are wanted, in this order; all where there are none.

    Raises UsageError for a column that is not there.
    """
    rows = rows_of(data)
    known = list(dict.fromkeys(name for row in rows for name in row))
    for name in columns if rows else ():
        if name not in known:
            meant = closest(name, known)
            hint = f"did you mean {meant!r}? " if meant else ""
            raise UsageError(f"there is no column {name!r}", f"{hint}the columns are: {', '.join(known)}")
    chosen = [{name: row.get(name, "") for name in columns or known} for row in rows]
    if output_format == "csv":
        click.echo(csv_text(chosen), nl=False)
    elif output_format == "value":
        for row in chosen:
            click.echo(printable(" ".join(map(_word, row.values()))))
    elif output_format == "table":
        cells = ([printable(_word(value)) for value in row.values()] for row in chosen)
        print_table(console(), [Column(name) for name in columns or known], cells)
    else:
        click.echo(dump(chosen, output_format))


def rows_of(data: Json | list[Json]) -> list[Json]:
    """The resources that data is about, or plans are, else its items, else itself; each without mappings in it."""
    items = data.get("resources", [data]) if isinstance(data, dict) else data
    return [dict(_flat(row)) for item in items for row in _planned(item)]


def _planned(item: Json) -> list[Json]:
    """What a plan decides on each resource; of what is no plan itself."""
    if not isinstance(units := item.get("units"), list) or "summary" not in item:
        return [item]
    steps = [step for unit in units for step in unit["steps"]]
    return [{name: step.get(name) for name in _DECISION} for step in steps]


def _flat(item: Json, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in item.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and not all(isinstance(part, str) for part in value):
            yield f"{prefix}{name}", json.dumps(value)
        else:
            yield f"{prefix}{name}", "; ".join(value) if isinstance(value, list) else value


def _word(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)

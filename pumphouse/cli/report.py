"""`pumphouse report`: what a run has come to, again."""

from __future__ import annotations

from pathlib import Path

import click

from pumphouse.cli.invocation import Invocation, invocation_options
from pumphouse.cli.runs import open_recorded, run_argument
from pumphouse.errors import UsageError
from pumphouse.show.text import printable

_FORMATS = {".csv": "csv", ".htm": "html", ".html": "html", ".json": "json", ".yaml": "yaml", ".yml": "yaml"}


@click.command("report")
@run_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write it to this file, in the format that its name says unless -f does.",
)
@invocation_options("html", clouds=False)
def report_command(run: str, output: Path | None, invocation: Invocation) -> None:
    """Give the report of a run again: all ids, hashes of what was copied, how long servers were down."""
    from pumphouse.run.record import find_book, load_run
    from pumphouse.run.summary import run_data
    from pumphouse.show.ending import print_ending
    from pumphouse.show.report import print_copies, print_report, report_text

    with open_recorded(invocation.config_path) as store:
        data = run_data(load_run(store, find_book(store, run)))
    output_format = invocation.output_format
    if output is not None and output_format == "table":
        output_format = _FORMATS.get(output.suffix.lower(), "")
    if output is not None:
        is_known = output_format in _FORMATS.values()
        _write(output, report_text(data, output_format) if is_known else "")
    elif output_format in ("csv", "html") and not invocation.columns:
        click.echo(report_text(data, output_format), nl=False)
    elif not invocation.is_table:
        invocation.print_data(data)
    else:
        print_report(data, invocation.console)
        print_copies(data, invocation.console)
        print_ending(data, invocation.console)


def _write(path: Path, text: str) -> None:
    if not text:
        raise UsageError(
            f"{path}: no format is known by this name", f"expected one of {', '.join(_FORMATS)}, or -f"
        )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} was not written: {error.strerror}", "name a file in a folder of yours"
        ) from error
    click.echo(printable(f"written: {path}"), err=True)

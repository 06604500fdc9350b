"""`pumphouse config`: what is in force, and what there is to set."""

from __future__ import annotations

import click

from pumphouse.cli.invocation import Invocation, invocation_options
from pumphouse.show.text import printable


@click.group("config")
def config_command() -> None:
    """Show the configuration that is in force, and every setting there is."""


@config_command.command("show")
@invocation_options()
def show_command(invocation: Invocation) -> None:
    """Print every setting as it is in force, without secrets, as YAML."""
    from dataclasses import replace

    from pumphouse.config.settings import shown

    data = shown(invocation.config)
    (replace(invocation, output_format="yaml") if invocation.is_table else invocation).print_data(data)


@config_command.command("example")
def example_command() -> None:
    """Print the example configuration, which explains every setting."""
    from pumphouse.config.example import example_text

    for line in example_text().splitlines():
        click.echo(printable(line))

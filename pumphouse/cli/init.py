"""`pumphouse init`: a configuration to begin with."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pumphouse.cli.options import cloud_options, logging_options
from pumphouse.errors import UsageError
from pumphouse.show.text import printable


@click.command("init")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("pumphouse.yaml"), metavar="FILE",
    show_default=True, help="The file to write; one that is there is left alone.",
)  # fmt: skip
@cloud_options
@logging_options
def init_command(output: Path, source_cloud: str | None, destination_cloud: str | None) -> None:
    """Write a commented configuration for two clouds of the clouds.yaml that is found."""
    from pumphouse.config.settings import known_clouds

    path, known = known_clouds()
    if len(known) < 2 and not (source_cloud and destination_cloud):
        where = (
            f"{path} has {len(known)}" if path else "there is no clouds.yaml here or in ~/.config/openstack"
        )
        raise UsageError(
            f"two clouds are wanted, and {where}",
            "see all settings, and how clouds are written here, with: pumphouse config example",
        )
    source = source_cloud or next(name for name in known if name != destination_cloud)
    destination = destination_cloud or next(name for name in known if name != source)
    unknown = [name for name in (source, destination) if name not in known]
    if unknown and known:
        raise UsageError(f"{path} has no cloud {unknown[0]!r}", f"it has {', '.join(known)}")
    _write(output, source, destination, known)
    click.echo(printable(f"written: {output}, to move from {source} to {destination}"), err=True)
    click.echo(printable(f"next: read it, then: pumphouse check --config {output}"), err=True)


def _write(path: Path, source: str, destination: str, known: list[str]) -> None:
    """Write a new file that its owner alone reads, because passwords may be put into it."""
    from pumphouse.config.example import starter

    try:
        with open(
            path, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)
        ) as file:
            file.write(starter(source, destination, known))
    except FileExistsError:
        raise UsageError(f"{path} is there already", "name another file with -o, or remove it") from None
    except OSError as error:
        raise UsageError(
            f"{path} was not written: {error.strerror}", "name a file in a folder of yours with -o"
        ) from error

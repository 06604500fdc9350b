"""`--wave` and `--waves`: which servers of a tenant are moved in which night."""

from __future__ import annotations

from pathlib import Path

import click

from pumphouse.cli.options import Command
from pumphouse.errors import ConfigError, UsageError

_EXPECTED = "expected the servers of each wave by name or id, as in 1: [web, db]"


def wave_options(command: Command) -> Command:
    """`--wave` and `--waves`."""
    waves_help = "The servers of each wave, by name or id: a YAML file such as {1: [web, db], 2: [batch]}."
    waves = click.option("--waves", type=click.Path(path_type=Path), metavar="FILE", help=waves_help)
    wave_help = (
        "Only servers of this wave, and what they need: those with the tag wave-N or the metadata wave=N, or "
    )
    wave_help += "those that --waves names."
    return click.option("--wave", metavar="N", help=wave_help)(waves(command))


def servers_of_wave(path: Path, wave: str) -> list[str]:
    """The servers that a file of waves has for one of them.

    Raises ConfigError when the file is none, or a server is in several waves; UsageError when there is no such wave.
    """
    from pumphouse.config import yamlfile

    document = yamlfile.load(yamlfile.read(path), str(path))
    waves = document.data
    if not isinstance(waves, dict) or not waves or not all(map(_is_wave, waves.values())):
        raise ConfigError([*document.lines(), f"{path}: {_EXPECTED}"])
    listed = [(str(name), str(server)) for name, servers in waves.items() for server in servers]
    first: dict[str, str] = {}
    twice = [
        f"{path}: server {server} is in wave {first[server]} and in wave {name}; expected each once"
        for name, server in listed
        if first.setdefault(server, name) != name
    ]
    if problems := [*document.lines(), *twice]:
        raise ConfigError(problems)
    if wave not in map(str, waves):
        raise UsageError(f"{path} has no wave {wave}", f"it has {', '.join(map(str, waves))}")
    return [server for name, server in listed if name == wave]


def _is_wave(servers: object) -> bool:
    return (
        isinstance(servers, list)
        and bool(servers)
        and all(isinstance(server, str | int) for server in servers)
    )

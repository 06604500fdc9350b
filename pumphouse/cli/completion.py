"""`pumphouse completion`, and what is completed besides commands and options: runs, tenants and clouds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from pumphouse.show.text import printable


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print what makes a shell complete commands, options, runs and tenants.

    For bash put `eval "$(pumphouse completion bash)"` into ~/.bashrc; for zsh the same with zsh into ~/.zshrc; for fish
    `pumphouse completion fish | source` into ~/.config/fish/config.fish.
    """
    from click.shell_completion import get_completion_class

    from pumphouse.cli import cli

    found = get_completion_class(shell)
    assert found is not None
    script = found(cli, {}, "pumphouse", "_PUMPHOUSE_COMPLETE").source()
    for line in script.splitlines():
        click.echo(printable(line))


Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _quietly(names: Callable[[Path | None], Iterator[str]]) -> Complete:
    """Completion by names of which each is offered once; nothing where they cannot be read."""

    def complete(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
        try:
            return [
                name
                for name in dict.fromkeys(names(context.params.get("config_path")))
                if name.startswith(begun)
            ]
        except Exception:
            return []

    return complete


def _runs(config_path: Path | None) -> Iterator[str]:
    yield from (run["run"] for run in _listed(config_path))


def _tenants(config_path: Path | None) -> Iterator[str]:
    yield from (run["tenant"]["name"] for run in _listed(config_path))


def _listed(config_path: Path | None) -> list[Any]:
    from pumphouse.cli.runs import open_recorded
    from pumphouse.run.summary import list_runs

    with open_recorded(config_path) as store:
        return list_runs(store)


def _clouds(_config_path: Path | None) -> Iterator[str]:
    from pumphouse.config.settings import known_clouds

    yield from known_clouds()[1]


complete_runs, complete_tenants, complete_clouds = map(_quietly, (_runs, _tenants, _clouds))

"""Every command with its arguments and options: docs/commands.md, made of the command line.

python -m bench.commands
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from pumphouse.cli import cli

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
ABOVE = """# Commands

Made by `python -m bench.commands` of what `pumphouse COMMAND --help` says: change it there.
"""


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            ABOVE,
            *(
                f"{part}\n"
                for part in _parts(cli, click.Context(cli, info_name="pumphouse", **cli.context_settings))
            ),
        ]
    )


def _parts(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join([context.command_path, *_usage(command, context)])
    about = inspect.cleandoc(command.help or "").replace("\b\n", "")
    yield "\n".join(
        [f"## {context.command_path}", "", f"    {usage}", "", about, *_options(command, context)]
    )
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        if (child := command.get_command(context, name)) and not child.hidden:
            yield from _parts(child, click.Context(child, info_name=name, parent=context))


def _usage(command: click.Command, context: click.Context) -> list[str]:
    """What follows the command's name; of a group the same with each release of click, which has changed it."""
    if not isinstance(command, click.Group):
        return command.collect_usage_pieces(context)
    return ["[OPTIONS]", "[COMMAND]" if command.invoke_without_command else "COMMAND", "[ARGS]..."]


def _options(command: click.Command, context: click.Context) -> list[str]:
    """The table of options: click from 8.5.1 on lists the arguments too, which stand in the usage."""
    options = [item for item in command.get_params(context) if isinstance(item, click.Option)]
    records = [record for item in options if (record := item.get_help_record(context))]
    rows = [f"| `{_cell(option)}` | {_cell(about)} |" for option, about in records]
    return ["", "| option | meaning |", "|---|---|", *rows] if rows else []


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())

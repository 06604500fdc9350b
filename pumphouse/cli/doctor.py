"""`pumphouse doctor`: what to paste into a ticket."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

import click

from pumphouse import __version__
from pumphouse.cli.invocation import Invocation, invocation_options
from pumphouse.errors import PumphouseError, explain, mask_secrets
from pumphouse.show.text import printable

_PACKAGES = (
    *("taskflow", "keystoneauth1", "openstacksdk", "python-keystoneclient", "python-novaclient"),
    *("python-glanceclient", "SQLAlchemy", "requests", "urllib3", "click", "rich", "PyYAML"),
)
_VARIABLES = (
    "TERM",
    "LANG",
    "LC_ALL",
    "NO_COLOR",
    "XDG_STATE_HOME",
    "OS_CLIENT_CONFIG_FILE",
    "PUMPHOUSE_CONFIG",
)
_LOG_LINES = 20


@click.command("doctor")
@invocation_options()
def doctor_command(invocation: Invocation) -> None:
    """Print what to paste into a ticket: versions, settings, state and the end of the log, without secrets."""
    data = {
        "pumphouse": __version__,
        "python": f"{platform.python_version()} of {sys.executable}",
        "system": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "configuration": _tried(lambda: _configuration(invocation)),
        "runs": _tried(lambda: _runs(invocation)),
    }
    if invocation.is_table:
        _print(data)
        for line in _log(invocation):
            click.echo(printable(f"  {line}"))
    else:
        invocation.print_data({**data, "log": _log(invocation)})


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _tried(read: Any) -> Any:
    """What was read, or why it cannot be: a ticket is wanted most where something is broken."""
    try:
        return read()
    except Exception as error:
        return {"problem": str(explain(error))}


def _configuration(invocation: Invocation) -> Any:
    from pumphouse.config.settings import shown

    return shown(invocation.config)


def _runs(invocation: Invocation) -> dict[str, str]:
    from pumphouse.cli.runs import open_recorded
    from pumphouse.run.summary import list_runs

    with open_recorded(invocation.config_path) as store:
        return {run["run"]: f"{run['state']}, began {run['created_at']}" for run in list_runs(store)[:10]}


def _log(invocation: Invocation) -> list[str]:
    """The end of the log that is kept beside the state."""
    from pumphouse.cli.logs import FILE_NAME
    from pumphouse.config.settings import load_state_url, state_folder

    try:
        path = state_folder(load_state_url(invocation.config_path)) / FILE_NAME
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except (PumphouseError, OSError) as error:
        return [f"no log: {explain(error)}"]
    return [f"log {path}, the last of {len(lines)} lines:", *map(mask_secrets, lines[-_LOG_LINES:])]


def _print(data: dict[str, Any], indent: str = "") -> None:
    for name, value in data.items():
        if isinstance(value, dict) and value:
            click.echo(printable(f"{indent}{name}:"))
            _print(value, f"{indent}  ")
        else:
            click.echo(printable(f"{indent}{name}: {value if value not in ({}, None) else '-'}"))

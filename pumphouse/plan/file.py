"""Plan files: written whole or not at all, and read with every mistake by its line."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pumphouse.config import yamlfile
from pumphouse.config.schema import load_schema, validate
from pumphouse.config.settings import CloudConfig, Config, number
from pumphouse.config.yamlfile import Document
from pumphouse.errors import ConfigError
from pumphouse.model import Json, Plan, Settings
from pumphouse.plan.data import (
    EDITABLE,
    EDITABLES,
    as_format_1,
    digest,
    editable_data,
    format_problem,
    plan_data,
    plan_from,
    settings_in,
)
from pumphouse.plan.decide import block
from pumphouse.plan.file_checks import problems
from pumphouse.plan.make import cfg_of, settings_of
from pumphouse.plan.units import units

_HEADER = """\
# {label}
#
# You may edit, each resource on its line under resources:
#   action: skip   to leave it out, with all that needs it; without its line it is left out, too
#   name           what it is called at the destination
# and also mappings, policies and cfg. The records behind are the source as it was seen, and the tasks what follows.
#
# To read it:             pumphouse plan show {name}
# To run it:              pumphouse migrate --plan {name}
# Once clouds changed:    pumphouse plan refresh {name}
"""
# The lists of the format for people that have one line for each item.
_LINES = ("resources", "records", "tasks")
# What YAML 1.1 does not take as it is, or takes for the end of a line; JSON escapes it only when told to.
_ESCAPED = re.compile(f"{yaml.reader.Reader.NON_PRINTABLE.pattern}|[\ufeff\x85\u2028\u2029\x7f]")
# libyaml is four times as fast; PyYAML is built without it on some machines.
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
# No line is folded: a person edits lines.
_WIDTH = 1 << 30


class Loaded(NamedTuple):
    """A plan out of a file.

    edited: whether a person changed its mappings or policies since it was made.
    """

    plan: Plan
    edited: bool


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan: for people to edit as YAML, with all that is known of it for programs as JSON."""
    save(plan_data(plan) if path.suffix.lower() == ".json" else editable_data(plan), path)


def save(data: Json, path: Path) -> None:
    """Write the data of a plan, as JSON or YAML by the name of the file, whole or not at all, mode 0600.

    Raises ConfigError when the name says neither, or the file cannot be written.
    """
    text = _text(data, path)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        problem = f"{path}: cannot be written: {error.strerror}; expected a file in a folder of yours"
        raise ConfigError([problem]) from error


def load(path: Path) -> Loaded:
    """Read a plan that save wrote and a person may have edited.

    The plan is without tasks: after an edit those in the file may not be the ones that a run will execute.

    Raises ConfigError with every problem, one `file:line: what; what was expected` each.
    """
    document = yamlfile.load(yamlfile.read(path), str(path))
    _refuse_other_format(document, path)
    given = document.data.get("format") if isinstance(document.data, dict) else None
    is_editable = given in EDITABLES
    document = validate(document, load_schema(f"plan-{given}" if is_editable else "plan"))
    if found := Document(document.name, None, problems=(*document.problems, *problems(document))).lines():
        raise ConfigError(
            found, f"correct the file, or make a new plan with: {_new_plan(document.data, path)}"
        )
    edited = digest(settings_in(document.data)) != document.data["data"]["settings_digest"]
    plan = plan_from(_complete(as_format_1(document.data) if is_editable else document.data))
    # What a person leaves out takes along what needs it.
    steps = block({step.ref: step for step in plan.steps()})
    return Loaded(replace(plan, units=units(steps)), edited)


def _new_plan(data: Any, path: Path) -> str:
    """The command that makes the plan of a file anew."""
    about = data.get("data") if isinstance(data, dict) else None
    tenant = about.get("tenant") if isinstance(about, dict) else None
    tenant_id = tenant.get("id") if isinstance(tenant, dict) else None
    return f"pumphouse plan tenant {shlex.quote(str(tenant_id or 'TENANT'))} -o {shlex.quote(str(path))}"


def _text(data: Json, path: Path) -> str:
    match path.suffix.lower():
        case ".json":
            text = json.dumps(data, indent=2, ensure_ascii=False)
            return _ESCAPED.sub(_escaped, text) + "\n"
        case ".yaml" | ".yml":
            # Through JSON, because a value that is in it twice would become an alias.
            plain = json.loads(json.dumps(data))
            return _editable(plain, path) if data["format"] == EDITABLE else _yaml(plain)
    raise ConfigError([f"{path}: neither YAML nor JSON; expected a name with .yaml, .yml or .json"])


def _editable(data: Json, path: Path) -> str:
    """A plan for people: what may be edited is said first, and nothing of a resource takes a second line."""
    label = json.dumps(data["label"])[1:-1]
    name = shlex.quote(path.name) if path.name.isascii() and path.name.isprintable() else "FILE"
    rest = {key: value for key, value in data.items() if key not in _LINES}
    lists = "".join(f"{key}:\n{''.join(map(_line, data[key]))}" for key in _LINES)
    return _HEADER.format(label=label, name=name) + _yaml(rest) + lists


def _line(item: Json) -> str:
    """An item of a list on a line of its own."""
    text = _yaml(item, default_flow_style=True).rstrip("\n")
    return (
        f"- {text if chr(10) not in text else _ESCAPED.sub(_escaped, json.dumps(item, ensure_ascii=False))}\n"
    )


def _yaml(data: Json, **options: Any) -> str:
    dumped = yaml.dump(data, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=_WIDTH, **options)
    return str(dumped)


def _escaped(sign: re.Match[str]) -> str:
    return f"\\u{ord(sign[0]):04x}"


def _refuse_other_format(document: Document, path: Path) -> None:
    """Nothing else can be said of a file of another version."""
    data = document.data if isinstance(document.data, dict) else {}
    problem = format_problem(data, *EDITABLES)
    if problem and isinstance(data["format"], int):  # what is no number is a problem of the schema
        raise ConfigError(
            [f"{document.where(('format',))}: {problem}"], f"make a new plan with: {_new_plan(data, path)}"
        )


def _complete(data: Json) -> Json:
    """The data with defaults for what a person took out of the settings, and without tasks."""
    default = Config(CloudConfig(), CloudConfig())
    cfg = {**cfg_of(default), **_not_null(data["cfg"])}
    limits = {**cfg_of(default)["limits"], **cfg["limits"]}
    cfg["limits"] = {name: value if value is None else number(value) for name, value in limits.items()}
    given, plain = data["data"], settings_of(default)
    settings = Settings(
        mappings={**plain["mappings"], **_not_null(given.get("mappings", {}))},
        policies={**plain["policies"], **_not_null(given.get("policies", {}))},
    )
    units = [{**unit, "steps": list(map(_without_tasks, unit["steps"]))} for unit in data["units"]]
    return {**data, "cfg": cfg, "data": {**given, **settings}, "units": units}


def _without_tasks(step: Json) -> Json:
    return {name: value for name, value in step.items() if name != "tasks"}


def _not_null(values: Json) -> Json:
    return {name: value for name, value in values.items() if value is not None}

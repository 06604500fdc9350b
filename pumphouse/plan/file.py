"""Plan files: written whole or not at all, and read with every mistake by its line."""

from __future__ import annotations

import contextlib
import json
import os
import re
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
from pumphouse.plan.data import digest, format_problem, plan_from, settings_in
from pumphouse.plan.file_checks import problems
from pumphouse.plan.make import cfg_of, settings_of

_HINT = "correct the file, or make a new plan with: pumphouse plan tenant ID -o FILE"
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
    _refuse_other_format(document)
    document = validate(document, load_schema("plan"))
    if found := Document(document.name, None, problems=(*document.problems, *problems(document))).lines():
        raise ConfigError(found, _HINT)
    edited = digest(settings_in(document.data)) != document.data["data"]["settings_digest"]
    return Loaded(_pruned(plan_from(_complete(document.data))), edited)


def _text(data: Json, path: Path) -> str:
    match path.suffix.lower():
        case ".json":
            text = json.dumps(data, indent=2, ensure_ascii=False)
            return _ESCAPED.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text) + "\n"
        case ".yaml" | ".yml":
            # Through JSON, because a value that is in it twice would become an alias.
            plain = json.loads(json.dumps(data))
            return str(yaml.dump(plain, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=_WIDTH))
    raise ConfigError([f"{path}: neither YAML nor JSON; expected a name with .yaml, .yml or .json"])


def _refuse_other_format(document: Document) -> None:
    """Nothing else can be said of a file of another version."""
    data = document.data if isinstance(document.data, dict) else {}
    problem = format_problem(data)
    if problem and isinstance(data["format"], int):  # what is no number is a problem of the schema
        raise ConfigError(
            [f"{document.where(('format',))}: {problem}"], "make a new plan with this pumphouse"
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


def _pruned(plan: Plan) -> Plan:
    """The plan without needs of units that were taken out; what is last waits for those that are left."""
    names = {unit.name for unit in plan.units}
    units = (replace(unit, needs=tuple(need for need in unit.needs if need in names)) for unit in plan.units)
    return replace(plan, units=tuple(units))


def _not_null(values: Json) -> Json:
    return {name: value for name, value in values.items() if value is not None}

"""The JSON Schemas of our files, and what a document has against its schema, in words."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from importlib import resources
from typing import Any

from pumphouse.config.yamlfile import Document, Keys, Problem, dotted, put

# A name this much like a known one is taken for it; 0.6, difflib's own, does not know "regoin".
_LIKENESS = 0.55


def load_schema(name: str = "config") -> dict[str, Any]:
    """The JSON Schema of the configuration file, or of another file of ours."""
    text = resources.files("pumphouse").joinpath(f"schemas/{name}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def validate(document: Document, schema: Mapping[str, Any]) -> Document:
    """The document with the types its JSON Schema asks for, and with all its problems.

    A number or boolean where the schema wants text becomes the text as written, and an empty value the
    schema's default. What was expected is the schema's `title`, which each has that has no `enum`; what
    is `writeOnly` is a secret, and is not shown. Of `anyOf`, only a choice of required settings is known.
    """
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(schema, registry=_registry())
    document = replace(document, data=copy.deepcopy(document.data))
    errors = list(validator.iter_errors(document.data))
    adapted = [_adapt(document, error) for error in errors]
    if any(adapted):
        errors = list(validator.iter_errors(document.data))
    found = [problem for error in errors for problem in _explain(document, error)]
    return replace(document, problems=(*document.problems, *found))


def _registry() -> Any:
    """Where a schema finds what it has in common with the configuration, or with plans for programs."""
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    names = ("config", "plan", "plan-2")
    return Registry().with_resources(
        (f"{name}.json", DRAFT202012.create_resource(load_schema(name))) for name in names
    )


def closest(name: str, known: Collection[str]) -> str | None:
    """The known name that was probably meant."""
    return next(iter(difflib.get_close_matches(name, known, 1, _LIKENESS)), None)


def _adapt(document: Document, error: Any) -> bool:
    """Where the schema allows it, put text in the place of another scalar, the default in that of nothing.

    Returns whether it did.
    """
    keys = tuple(error.absolute_path)
    if error.validator != "type" or not keys:
        return False
    if isinstance(error.instance, bool | int | float) and "string" in _types(error.schema):
        put(document.data, keys, document.text(keys))
    elif error.instance is None and "default" in error.schema:
        put(document.data, keys, copy.deepcopy(error.schema["default"]))
    else:
        return False
    return True


def _explain(document: Document, error: Any) -> list[Problem]:
    """What an error of jsonschema means to whoever wrote the file."""
    keys, schema = tuple(error.absolute_path), error.schema
    if error.validator == "additionalProperties":
        unknown = error.instance.keys() - schema["properties"].keys()
        return [document.problem((*keys, name), _unknown(name, schema)) for name in unknown]
    return [document.problem(keys, f"{what}; expected {_expected(schema)}") for what in _what(keys, error)]


def _unknown(name: str, schema: Mapping[str, Any]) -> str:
    known = sorted(schema["properties"])
    if close := closest(name, known):
        return f"unknown setting {name!r}; did you mean {close!r}?"
    # A name like no other may be a secret that its writer forgot to quote.
    what = "an unknown setting" if schema.get("writeOnly") else f"unknown setting {name!r}"
    return f"{what}; expected {_either(known)}"


def _what(keys: Keys, error: Any) -> list[str]:
    match error.validator:
        case "required":
            absent = [name for name in error.validator_value if name not in error.instance]
            return [f"missing setting {dotted((*keys, name))!r}" for name in absent]
        case "anyOf":
            names = [dotted((*keys, name)) for choice in error.validator_value for name in choice["required"]]
            return [f"missing setting {_either(names)}"]
        case "not":
            return [f"{dotted(keys)} cannot be given here"]
    return [f"{dotted(keys)} is {_shown(error.instance, error.schema)}"]


def _shown(value: object, schema: Mapping[str, Any]) -> str:
    if value is None or value in ("", {}):
        return "empty"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if schema.get("writeOnly"):
        return "not usable"
    if _types(schema) == ["object"]:
        return "a single value"
    return repr(value) if isinstance(value, str) else json.dumps(value)


def _types(schema: Mapping[str, Any]) -> list[str]:
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else list(types)


def _expected(schema: Mapping[str, Any]) -> str:
    return schema.get("title") or _either([name for name in schema["enum"] if name is not None])


def _either(names: Collection[str]) -> str:
    """Names in words: 'a', 'b' or 'c'."""
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}" if others else last

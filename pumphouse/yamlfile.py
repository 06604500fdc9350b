"""YAML files that people write: typed by their JSON Schema, every problem with its line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pumphouse.errors import ConfigError

Where = tuple[str | int, ...]
_TYPES = {
    "object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number",
    "boolean": "true or false", "null": "nothing",
}  # fmt: skip


@dataclass
class Document:
    """What a file says.

    lines: the line, from 1, of every setting by its path.
    problems: what is wrong with it so far, each `file:line: message`.
    """

    name: str
    data: Any = None
    lines: dict[Where, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def problem(self, where: Where, message: str) -> None:
        """Add a problem at a setting, or at the nearest one around it."""
        line = next(self.lines[where[:n]] for n in range(len(where), -1, -1) if where[:n] in self.lines)
        self.problems.append(f"{self.name}:{line}: {message}")


def read(path: Path) -> str:
    """The text of a file. Raises ConfigError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file"], "see config.example.yaml") from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not a text file in UTF-8 (byte {error.start})"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None


def load(text: str, name: str, schema: Mapping[str, Any], secret: frozenset[str] = frozenset()) -> Document:
    """Parse a document and check it against a JSON Schema; what is wrong with it is in its problems.

    Scalars are what the schema says: `12345` and `no` are text where text is expected.
    secret: settings below which no value is repeated in a message.

    Raises ConfigError when the text is no YAML at all.
    """
    document = Document(name, lines={(): 1})
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError([f"{name}:{mark.line + 1 if mark else 1}: not YAML: {error.problem}"]) from None
    except yaml.YAMLError as error:
        raise ConfigError([f"{name}:1: not YAML: {' '.join(str(error).split())}"]) from None
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError([f"{name}:1: expected a mapping of settings"])
    document.data = _construct(document, node, schema, schema, ())
    _validate(document, schema, secret)
    document.problems.sort(key=lambda problem: int(problem.removeprefix(f"{name}:").partition(":")[0]))
    return document


def did_you_mean(word: str, words: Mapping[str, Any] | list[str]) -> str:
    """A hint at the nearest word, or the list of all."""
    near = difflib.get_close_matches(word, list(words), n=1)
    return f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(words)}"


def _construct(document: Document, node: yaml.Node, schema: Any, root: Any, where: Where) -> Any:
    schema = _resolved(schema, root)
    if isinstance(node, yaml.MappingNode):
        return _mapping(document, node, schema, root, where)
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            document.lines[(*where, number)] = item.start_mark.line + 1
        items = enumerate(node.value)
        return [_construct(document, item, schema.get("items", {}), root, (*where, n)) for n, item in items]
    return _scalar(document, node, schema, where)


def _mapping(
    document: Document, node: yaml.MappingNode, schema: Any, root: Any, where: Where
) -> dict[str, Any]:
    own = {id(key) for key, _ in node.value}
    yaml.SafeLoader("").flatten_mapping(node)
    result: dict[str, Any] = {}
    merged: set[str] = set()
    for key_node, value in node.value:
        key, at = str(key_node.value), (*where, str(key_node.value))
        line = key_node.start_mark.line + 1
        if key in result and key not in merged:
            document.problems.append(
                f"{document.name}:{line}: {key!r} is given twice, first in line {document.lines[at]}"
            )
            continue
        if id(key_node) not in own:
            merged.add(key)
        else:
            merged.discard(key)
        document.lines[at] = line
        below = schema.get("properties", {}).get(key, schema.get("additionalProperties") or {})
        result[key] = _construct(document, value, below, root, at)
    return result


def _scalar(document: Document, node: yaml.Node, schema: Any, where: Where) -> Any:
    """The value in the first of the schema's types that fits; text fits whatever is written."""
    types = schema.get("type", [])
    wanted = {types} if isinstance(types, str) else set(types)
    plain = node.tag.rpartition(":")[2]
    if plain == "null" and ("null" in wanted or "string" not in wanted or not node.value):
        return None
    if "string" in wanted and {"int": "integer", "bool": "boolean"}.get(plain) not in wanted:
        return node.value
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError):
        document.problem(where, f"cannot read {node.value!r} as {plain}")
        return None


def _resolved(schema: Any, root: Any) -> Any:
    if not isinstance(schema, dict):
        return {}
    if "$ref" not in schema:
        return schema
    found = root
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def _validate(document: Document, schema: Mapping[str, Any], secret: frozenset[str]) -> None:
    from jsonschema import Draft202012Validator

    for error in Draft202012Validator(schema).iter_errors(document.data):
        where: Where = tuple(error.absolute_path)
        for at, message in _messages(error, where, bool(secret & set(where))):
            document.problem(at, message)


def _messages(error: Any, where: Where, hidden: bool) -> Iterator[tuple[Where, str]]:
    known = error.schema.get("properties", {})
    title = ".".join(map(str, where)) or "the file"
    is_what = f"{title} is not usable" if hidden else f"{title} is {_shown(error.instance)}"
    if error.validator == "additionalProperties":
        for key in error.instance.keys() - known.keys():
            yield (*where, key), f"unknown setting {key!r}; {did_you_mean(key, known)}"
    elif error.validator == "enum":
        yield where, f"{is_what}; expected one of {', '.join(error.validator_value)}"
    elif error.validator == "type":
        yield where, f"{is_what}; expected {_type_names(error.validator_value)}"
    elif error.validator in ("minimum", "maximum"):
        bound = "at least" if error.validator == "minimum" else "at most"
        yield where, f"{is_what}; expected {bound} {error.validator_value}"
    else:
        yield where, f"{title}: {error.message}"


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return repr(value)


def _type_names(types: str | list[str]) -> str:
    return " or ".join(_TYPES.get(name, name) for name in ([types] if isinstance(types, str) else types))

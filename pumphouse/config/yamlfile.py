"""YAML read for people: plain data, and what is wrong with it by file and line.

ruamel.yaml knows lines and duplicate keys too, but needs more than ten times as long for a big plan, because it is
written in Python. Its errors quote lines of the file, which may hold secrets; here each has a sentence of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pumphouse.errors import ConfigError

Keys = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_NAMES = ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "map", "seq")
_TAGS = {_TAG + name for name in _NAMES}
# libyaml is six times as fast; PyYAML is built without it on some machines.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Far below what overflows the stack of libyaml's composer, which ends the process.
_DEPTH_MAX = 100
_TOO_DEEP = f"nested too deeply; expected at most {_DEPTH_MAX} levels"
# A few lines of aliases of aliases stand for more values than any machine can hold.
_REPEATED_MAX = 100_000
_TOO_MUCH = f"aliases stand for too many values; expected at most {_REPEATED_MAX}"
# What YAML 1.1 does not allow in a text (its production c-printable), and the mark of byte order.
_CONTROL = re.compile(r"[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\ufeff")


class Problem(NamedTuple):
    """What is wrong, on which line of the file; line 0 for what is on no line."""

    line: int
    text: str


@dataclass(frozen=True)
class Document:
    """A YAML document as plain data, with the line of each value.

    name: the file, as problems call it.
    root: the nodes the data was made of; None for data that was not read from a file.
    """

    name: str
    data: Any = field(repr=False)
    root: yaml.Node | None = field(default=None, repr=False)
    problems: tuple[Problem, ...] = ()

    def line(self, keys: Keys) -> int:
        """The line of a value, or of the closest that holds it."""
        marks = [mark for mark, _ in _nodes_to(self.root, keys)]
        return marks[-1].line + 1 if marks else 0

    def text(self, keys: Keys) -> str:
        """A scalar as it is written in the file."""
        *_, (_, node) = _nodes_to(self.root, keys)
        return str(node.value)

    def problem(self, keys: Keys, text: str) -> Problem:
        """A problem of the value at these keys."""
        return Problem(self.line(keys), text)

    def where(self, keys: Keys) -> str:
        """A value's place as `file:line`."""
        return self._place(self.line(keys))

    def lines(self) -> list[str]:
        """All problems as `file:line: what; what was expected`, in the order of the file."""
        return [f"{self._place(line)}: {text}" for line, text in sorted(set(self.problems))]

    def _place(self, line: int) -> str:
        return f"{self.name}:{line}" if line else self.name


def read(path: Path) -> str:
    """The text of a file.

    Raises ConfigError when there is none, or it is not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not text; expected YAML in UTF-8"]) from error
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}; expected a YAML file"]) from error


def load(text: str, name: str) -> Document:
    """Read a YAML document; keys that are given twice, and tags, are problems of the document.

    Scalars are read as JSON reads them: `no`, `010`, `10:30` and `2026-01-01` are text. Merge keys and
    aliases work as in YAML 1.1. An empty document is None.

    Raises ConfigError, with its line, for what is not YAML at all.
    """
    problems: list[Problem] = []
    try:
        root = _compose(text, name)
        data = _plain(root, problems) if root else None
    except RecursionError as error:
        raise ConfigError([f"{name}: an alias stands in what it stands for; expected it outside"]) from error
    return Document(name, data, root, tuple(problems))


def put(data: Any, keys: Keys, value: object) -> None:
    """Set the value at these keys."""
    *parents, last = keys
    for key in parents:
        data = data[key]
    data[last] = value


def dotted(keys: Keys) -> str:
    """How problems name a value, e.g. `source.auth.password`."""
    return ".".join(map(str, keys)) or "the file"


# What libyaml and PyYAML say, and what to say instead. Theirs is never passed on: it may quote a secret.
_SYNTAX = (
    ("tab character", "a tab; expected spaces for the indentation"),
    ("cannot start any token", "a value begins with a sign that YAML reserves; expected it in quotes"),
    ("undefined alias|alphabetic", "a value begins with '*' or '&' and is no alias; expected it in quotes"),
    ("comment or line break|chomping", "a value begins with '|' or '>'; expected it in quotes"),
    ("tag|URI|whitespace", "a value begins with '!'; expected it in quotes"),
    ("second occurrence", "an anchor is given twice; expected each &NAME once"),
    ("end of stream", "a quote is opened and not closed; expected it closed"),
    ("or ']'", "a list is opened and not closed; expected ',' or ']'"),
    ("or '}'", "a mapping is opened and not closed; expected ',' or '}'"),
    ("values are not allowed", "a ':' in the wrong place; expected name: value, indented as its neighbours"),
    ("find expected ':'", "a name without a value; expected name: value"),
    ("another document", "a second document; expected one, without '---' in the middle"),
    # libyaml as PyYAML has it since 6.0.4 stops here, at a depth of its own, before an event is seen.
    ("maximum nesting depth", _TOO_DEEP),
    ("unknown escape", "an unknown escape after a backslash; expected '\\\\' or single quotes"),
)
_NOT_CLOSED = re.compile("end of stream|or ']'|or '}'")


def _compose(text: str, name: str) -> yaml.Node | None:
    if control := _CONTROL.search(text):
        line = text.count("\n", 0, control.start()) + 1
        raise ConfigError([f"{name}:{line}: the control character {ord(control[0]):#04x}; expected text"])
    try:
        if excess := _excess(text):
            raise ConfigError([f"{name}:{excess}"])
        root: yaml.Node | None = yaml.compose(text, _LOADER)
    except yaml.MarkedYAMLError as error:
        raise ConfigError([f"{name}:{_syntax(text, error)}"]) from None
    return root


def _excess(text: str) -> str:
    """The line on which a document has too many levels, or too many values by its aliases, and which; else empty."""
    count = _Count()
    for event in yaml.parse(text, _LOADER):
        count.add(event)
        if len(count.open) > _DEPTH_MAX or count.repeated > _REPEATED_MAX:
            line = event.start_mark.line + 1 if event.start_mark else 1
            return f"{line}: {_TOO_DEEP if count.repeated <= _REPEATED_MAX else _TOO_MUCH}"
    return ""


@dataclass
class _Count:
    """The values of a document so far, with what aliases stand for.

    repeated: those that aliases stand for.
    open: the anchors of the lists and mappings that are not closed yet, and the values before each.
    sizes: the values of what has an anchor.
    """

    values: int = 0
    repeated: int = 0
    open: list[tuple[str | None, int]] = field(default_factory=list)
    sizes: dict[str | None, int] = field(default_factory=dict)

    def add(self, event: yaml.Event) -> None:
        """Count what an event of the parser adds."""
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = self.open.pop()
            self.sizes[anchor] = self.values - before
        elif isinstance(event, yaml.CollectionStartEvent):
            self.open.append((event.anchor, self.values))
            self.values += 1
        elif isinstance(event, yaml.AliasEvent):
            # An anchor that is still open stands in itself, and is refused later.
            size = self.sizes.get(event.anchor, 1)
            self.values += size
            self.repeated += size
        elif isinstance(event, yaml.ScalarEvent):
            self.values += 1


def _syntax(text: str, error: yaml.MarkedYAMLError) -> str:
    """The line of a syntax error and what it means."""
    mark, problem = error.problem_mark, str(error.problem)
    if mark and text[mark.index : mark.index + 1] == "\t":
        problem = "tab character"
    elif error.context == "while scanning a tag":
        problem = "tag"
    # What is never closed is noticed at the end only; the place to look is where it begins.
    if error.context_mark and _NOT_CLOSED.search(problem):
        mark = error.context_mark
    known = (meaning for sign, meaning in _SYNTAX if re.search(sign, problem))
    meaning = next(known, "not valid YAML; expected name: value, indented as its neighbours")
    return f"{mark.line + 1 if mark else 1}: {meaning}"


def _plain(node: yaml.Node, problems: list[Problem]) -> Any:
    """The data of a node; what is wrong with it goes to problems."""
    if node.tag not in _TAGS:
        problems.append(_at(node, "a value begins with '!'; expected it in quotes"))
    if isinstance(node, yaml.MappingNode):
        return {key: _plain(value, problems) for key, (_, value) in _entries(node, problems).items()}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, problems) for item in node.value]
    return _scalar(node)


def _scalar(node: Any) -> object:
    if node.style or node.tag == _TAG + "str":
        return node.value
    if node.tag == _TAG + "null":
        return None
    try:
        return json.loads(node.value.lower())
    except ValueError:
        return node.value


def _entries(node: yaml.MappingNode, problems: list[Problem]) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """The nodes of keys and values by key; those of merge keys come last and replace nothing."""
    entries: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    merged: list[yaml.Node] = []
    for key, value in node.value:
        if key.tag == _TAG + "merge":
            merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
        elif not isinstance(key, yaml.ScalarNode):
            problems.append(_at(key, "a name is a list or a mapping; expected text"))
        elif key.value in entries:
            twice = f"{key.value!r} is given twice, first on line {_line(entries[key.value][0])}"
            problems.append(_at(key, f"{twice}; expected it once"))
        else:
            entries[key.value] = (key, value)
    for other in merged:
        if not isinstance(other, yaml.MappingNode):
            problems.append(_at(other, "'<<' is given no mapping; expected an alias of a mapping"))
            continue
        entries = {**_entries(other, problems), **entries}
    return entries


def _at(node: yaml.Node, text: str) -> Problem:
    return Problem(_line(node), text)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _nodes_to(node: yaml.Node | None, keys: Keys) -> Iterator[tuple[yaml.Mark, yaml.Node]]:
    """The nodes from the root to the value at these keys, as far as there are any, each with where it begins."""
    if node is None:
        return
    yield node.start_mark, node
    for key in keys:
        if isinstance(node, yaml.MappingNode) and key in (entries := _entries(node, [])):
            name, node = entries[str(key)]
            yield name.start_mark, node
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            node = node.value[key]
            yield node.start_mark, node
        else:
            return

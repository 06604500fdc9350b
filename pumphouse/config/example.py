"""The example configuration, which explains every setting, and one made of it for the clouds that there are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pumphouse

NAME = "config.example.yaml"
# From the comment on the first cloud to that on what comes after the second one.
_CLOUDS = re.compile(r"(?ms)^# The cloud that is left: .*?(?=^# The clouds.yaml with)")


def example_text() -> str:
    """The example: in the package, or in a checkout at its top."""
    package = Path(pumphouse.__file__).parent
    path = next(path for path in (package / NAME, package.parent / NAME) if path.exists())
    return path.read_text(encoding="utf-8")


def starter(source: str, destination: str, known: Sequence[str]) -> str:
    """The example with two clouds of clouds.yaml instead of its own.

    known: the clouds that clouds.yaml has.
    """
    named = "# Of the clouds of clouds.yaml: {}.".format(" ".join(", ".join(known).split()))
    clouds = (
        f"{named}\n# The cloud that is left.\nsource:\n  cloud: {_quoted(source)}\n\n"
        f"# The cloud that is moved to.\ndestination:\n  cloud: {_quoted(destination)}\n\n"
    )
    return _CLOUDS.sub(lambda _: clouds, example_text())


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z][\w.-]*", name) else f"'{name}'".replace("\n", " ")

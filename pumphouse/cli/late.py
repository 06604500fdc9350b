"""Puts off what imports of others import and few commands use, until something of it is used."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

# Nothing of these is used before the main thread imports it a second time, or calls it: LazyLoader of Python 3.11 is
# not made for threads.
_LATE = (
    "oslo_serialization.msgpackutils",
    "oslo_utils.netutils",
    "stevedore.driver",
    "taskflow.persistence.backends.sqlalchemy.migration",
    "taskflow.types.graph",
    "taskflow.utils.schema_utils",
    "xmlrpc.client",
)


def import_late() -> None:
    """Have the modules that are late executed when an attribute of theirs is asked for."""
    sys.meta_path.insert(0, _LateFinder)


class _LateFinder:
    """Finds the modules that are late where all others are found."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What Python asks of a finder."""
        spec = PathFinder.find_spec(name, path, target) if name in _LATE else None
        if spec and spec.loader:
            spec.loader = LazyLoader(spec.loader)
        return spec

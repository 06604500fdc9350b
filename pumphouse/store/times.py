"""The times at which tasks began and ended, in the meta that TaskFlow saves of each."""

from __future__ import annotations

from datetime import UTC, datetime

from taskflow import states
from taskflow.persistence.models import AtomDetail
from taskflow.persistence.path_based import PathBasedConnection

_ENDED = (states.SUCCESS, states.FAILURE, states.REVERTED)


def now() -> str:
    """The time in UTC as it is recorded, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def set_times(atom: AtomDetail) -> None:
    """Set the times in the meta of a task that has begun or ended since they were set last."""
    began, ended = atom.meta.get("started_at", ""), atom.meta.get("ended_at", "")
    if atom.state == states.RUNNING and began <= ended:
        atom.meta["started_at"] = now()
    elif atom.state in _ENDED and began > ended:
        atom.meta["ended_at"] = now()


class TimesConnection(PathBasedConnection):  # type: ignore[misc]
    """TaskFlow's connection to a tree of paths, which saves the times too."""

    def update_atom_details(self, atom_detail: AtomDetail, ignore_missing: bool = False) -> AtomDetail:
        """Save a task with its times."""
        set_times(atom_detail)
        return super().update_atom_details(atom_detail, ignore_missing)

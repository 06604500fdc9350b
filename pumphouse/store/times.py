"""When tasks began and ended, written with what TaskFlow saves of them anyway."""

from __future__ import annotations

from datetime import UTC, datetime

from taskflow import states
from taskflow.persistence.models import AtomDetail
from taskflow.persistence.path_based import PathBasedConnection

_ENDED = (states.SUCCESS, states.FAILURE, states.REVERTED)


def now() -> str:
    """The time in UTC as it is recorded, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def stamp(atom: AtomDetail) -> None:
    """Note in the meta of a task that it has begun or ended, if it has done so since it was noted last."""
    began, ended = atom.meta.get("started_at", ""), atom.meta.get("ended_at", "")
    if atom.state == states.RUNNING and began <= ended:
        atom.meta["started_at"] = now()
    elif atom.state in _ENDED and began > ended:
        atom.meta["ended_at"] = now()


class StampedConnection(PathBasedConnection):  # type: ignore[misc]
    """TaskFlow's connection to folders, which notes the times."""

    def update_atom_details(self, atom_detail: AtomDetail, ignore_missing: bool = False) -> AtomDetail:
        """Save a task with its times."""
        stamp(atom_detail)
        return super().update_atom_details(atom_detail, ignore_missing)

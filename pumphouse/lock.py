"""One run at a time on a tenant and a pair of clouds: a lock that dies with its process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fasteners
from platformdirs import user_state_path
from taskflow.persistence.base import Backend

from pumphouse.errors import LockedError


@contextmanager
def locked(store: Backend, name: str, holder: Callable[[], str]) -> Iterator[None]:
    """Hold the lock of that name.

    holder: who has it, in words; asked when somebody has. Raises LockedError then.
    """
    lock = fasteners.InterProcessLock(_path(name))
    if not lock.acquire(blocking=False):
        raise LockedError(holder())
    try:
        yield
    finally:
        lock.release()


def is_locked(store: Backend, name: str) -> bool:
    """Whether somebody holds the lock of that name."""
    lock = fasteners.InterProcessLock(_path(name))
    if not lock.acquire(blocking=False):
        return True
    lock.release()
    return False


def _path(name: str) -> Path:
    folder = user_state_path("pumphouse") / "locks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"

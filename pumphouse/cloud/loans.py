"""What a run borrows from a cloud: recorded before it is taken, so that it can be given back if the process dies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from pumphouse.model import Json


class Loan(Protocol):
    """Something that the operator has in a cloud for a while, and that gives itself back.

    kind: the key by which a state store tells the class of a loan.
    """

    kind: ClassVar[str]

    def as_json(self) -> Json:
        """What a state store has of it: `kind`, and what its class is made with."""

    def give_back(self, cloud: Any) -> None:
        """Undo it; nothing when it is undone already, or was never taken. Raises what the cloud's clients raise."""


class Ledger:
    """The open loans of one cloud, for many threads.

    on_change: is called with all open loans as JSON after each change; when it raises, nothing is borrowed.
    """

    def __init__(self, on_change: Callable[[list[Json]], None] | None = None) -> None:
        self.on_change = on_change
        self._open: list[Loan] = []
        self._lock = threading.RLock()

    @property
    def open(self) -> list[Loan]:
        """The loans that are not given back yet."""
        with self._lock:
            return list(self._open)

    def record(self, loan: Loan) -> None:
        """Add a loan; to be called before it is taken. Raises what on_change raises."""
        with self._lock:
            self._open.append(loan)
            try:
                self._tell()
            except BaseException:
                self._open.remove(loan)
                raise

    def returned(self, loan: Loan) -> None:
        """Remove a loan; to be called when it has been given back. Nothing if it is not open."""
        with self._lock:
            if loan in self._open:
                self._open.remove(loan)
                self._tell()

    def _tell(self) -> None:
        if self.on_change is not None:
            self.on_change([loan.as_json() for loan in self._open])

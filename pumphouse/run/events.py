"""What a run tells while it goes on, as plain data; docs/log.md has the same as JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pumphouse.errors import explain
from pumphouse.model import Outcome

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskBegan:
    """A task has started; line says what it does."""

    task: str
    line: str


@dataclass(frozen=True)
class TaskRetried:
    """A task begins again, because a service was not there."""

    task: str
    line: str
    reason: str

    def __str__(self) -> str:
        return f"{self.task} ({self.line}): tried again: {self.reason}"


@dataclass(frozen=True)
class TaskEnded:
    """A task is over.

    outcome: `done`, `undone`, `failed` or, where the run was to end, `interrupted`.
    requests: the ids of the requests by which it has changed something.
    """

    task: str
    line: str
    outcome: str
    seconds: float
    reason: str = ""
    copied_bytes: int = 0
    requests: tuple[str, ...] = ()

    def __str__(self) -> str:
        copied = f", {self.copied_bytes} bytes" if self.copied_bytes else ""
        requests = f", requests {' '.join(self.requests)}" if self.requests else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.task} ({self.line}): {self.outcome}, {self.seconds:.1f} s{copied}{requests}{why}"


@dataclass(frozen=True)
class BytesCopied:
    """A task has copied so many bytes of so many."""

    task: str
    copied_bytes: int
    size_bytes: int


@dataclass(frozen=True)
class OutcomeReported:
    """The outcome of a resource is known."""

    outcome: Outcome


@dataclass(frozen=True)
class Stopping:
    """The run is to end, and waits for so many tasks that are under way."""

    tasks: int


@dataclass(frozen=True)
class LimitsChanged:
    """The run goes on with other limits; bytes_per_second is None for none."""

    transfers: int
    bytes_per_second: int | None


@dataclass(frozen=True)
class RunBegan:
    """A process begins to work on a run; command is `migrate`, `resume` or `revert`."""

    run: str
    command: str
    tenant: str
    source: str
    destination: str
    resources: int


@dataclass(frozen=True)
class RunEnded:
    """A process has ended its work on a run.

    state: the state that is recorded, such as SUCCESS, FAILURE or SUSPENDED.
    counts: how many resources have which outcome.
    reason: what has ended it early; empty when nothing has.
    """

    run: str
    state: str
    seconds: float
    copied_bytes: int
    counts: Mapping[str, int]
    reason: str = ""


@dataclass(frozen=True)
class Noted:
    """What else an operator is told: a service that is waited for, or answers again."""

    line: str


Event = (
    RunBegan
    | TaskBegan
    | TaskRetried
    | BytesCopied
    | TaskEnded
    | OutcomeReported
    | Noted
    | LimitsChanged
    | Stopping
    | RunEnded
)
# Is told of every event of a run, from many threads.
Listener = Callable[[Event], None]


def guarded(listener: Listener) -> Listener:
    """A listener that logs what another raises: a run must not fail because it cannot be shown."""
    has_failed = False

    def tell(event: Event) -> None:
        nonlocal has_failed
        try:
            listener(event)
        except Exception as error:
            # What fails once may fail for each task: an operator needs to be told once.
            level = logging.DEBUG if has_failed else logging.ERROR
            LOG.log(level, "the progress of the run is not shown: %s", explain(error))
            has_failed = True

    return tell

"""What of a run is done, in flight and waiting, counted from its events."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from pumphouse.model import Action, Plan, Ref, State, Unit, symbol
from pumphouse.run.events import (
    BytesCopied,
    Event,
    LimitsChanged,
    OutcomeReported,
    TaskBegan,
    TaskEnded,
    TaskRetried,
)

# Rates are means of so much time: long enough to be steady, short enough to show that nothing moves.
_RATE_WINDOW_S = 20.0
_RATE_LEAST_S = 1.0


class Rate:
    """Bytes per second of late, from how many there were when."""

    def __init__(self, now_s: float) -> None:
        self._points = deque([(now_s, 0)])

    def add(self, now_s: float, copied_bytes: int) -> None:
        """There are so many bytes now."""
        self._points.append((now_s, copied_bytes))

    def per_second(self, now_s: float) -> float:
        """The mean of the window; 0 when nothing has come for so long."""
        while len(self._points) > 1 and self._points[1][0] <= now_s - _RATE_WINDOW_S:
            self._points.popleft()
        began_s, began_bytes = self._points[0]
        return max(0, self._points[-1][1] - began_bytes) / max(now_s - began_s, _RATE_LEAST_S)


@dataclass
class Active:
    """A task in flight.

    size_bytes: what it copies; None when it copies nothing.
    attempts: how often it was begun.
    """

    line: str
    began_s: float
    rate: Rate
    copied_bytes: int = 0
    size_bytes: int | None = None
    attempts: int = 1

    @property
    def is_moving(self) -> bool:
        """Whether it has copied a part."""
        return bool(self.copied_bytes)


@dataclass
class Tally:
    """The counts of a run, told from many threads; whoever reads holds `lock`.

    copied_bytes: of all tasks of this process.
    """

    plan: Plan
    clock: Callable[[], float] = time.monotonic
    lock: threading.RLock = field(default_factory=threading.RLock)
    copied_bytes: int = 0
    active: dict[str, Active] = field(default_factory=dict)
    outcomes: dict[Ref, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began_s = self.clock()
        self.rate = Rate(self.began_s)
        # How many may copy at a time.
        self.transfers = self.plan.cfg["limits"]["transfers"]
        # A plan may have tens of thousands of steps: nothing here looks through all of them for an event or a screen.
        self._steps = {
            symbol(step.ref, ""): (step.ref, unit) for unit in self.plan.units for step in unit.steps
        }
        creating = (step for step in self.plan.steps() if step.action is Action.CREATE)
        self._bounds = {step.ref: step.record.size_bytes for step in creating if step.record.size_bytes}
        self._dependents: dict[str, list[Unit]] = {}
        for unit in self.plan.units:
            for name in unit.needs:
                self._dependents.setdefault(name, []).append(unit)
        # Of each resource the bytes that are copied, and that are to be, by task.
        self._copies: dict[Ref, dict[str, tuple[int, int]]] = {}
        self._sizes: dict[Ref, int] = {}

    def __call__(self, event: Event) -> None:
        """Count an event."""
        with self.lock:
            self._count(event)

    def _count(self, event: Event) -> None:
        match event:
            case TaskBegan():
                now_s = self.clock()
                self.active[event.task] = Active(event.line, now_s, Rate(now_s))
            case TaskRetried() if event.task in self.active:
                self.active[event.task].attempts += 1
            case TaskEnded():
                self.active.pop(event.task, None)
            case BytesCopied():
                self._copied(event)
            case LimitsChanged():
                self.transfers = event.transfers
            case OutcomeReported():
                ref = event.outcome.ref
                self.outcomes[ref] = event.outcome.state
                if ref in self._bounds:
                    self._sizes[ref] = sum(copied for copied, _ in self._copies.get(ref, {}).values())

    def _copied(self, event: BytesCopied) -> None:
        now_s = self.clock()
        found = self._step(event.task)
        if found is None:
            return
        copies = self._copies.setdefault(found[0], {})
        self.copied_bytes += event.copied_bytes - copies.get(event.task, (0, 0))[0]
        copies[event.task] = (event.copied_bytes, event.size_bytes)
        self.rate.add(now_s, self.copied_bytes)
        self._sizes[found[0]] = sum(size for _, size in copies.values())
        if task := self.active.get(event.task):
            task.copied_bytes, task.size_bytes = event.copied_bytes, event.size_bytes
            task.rate.add(now_s, event.copied_bytes)

    def _step(self, task: str) -> tuple[Ref, Unit] | None:
        """The resource and the unit of a task, whose name begins with theirs."""
        while task:
            task = task.rpartition("-")[0]
            if found := self._steps.get(f"{task}-"):
                return found
        return None

    @cached_property
    def resources(self) -> int:
        """How many the plan has."""
        return sum(1 for _ in self.plan.steps())

    @property
    def has_real_size(self) -> bool:
        """Whether the real size of anything is known; a plan knows bounds of disks only."""
        return bool(self._sizes) or not self._bounds

    @property
    def total_bytes(self) -> int:
        """What is copied in all: real sizes, and of bounds as much as was real of the others."""
        known = [ref for ref in self._bounds if ref in self._sizes]
        real, bound = sum(self._sizes[ref] for ref in known), sum(self._bounds[ref] for ref in known)
        unknown = sum(size for ref, size in self._bounds.items() if ref not in self._sizes)
        likely = int(unknown * min(1.0, real / bound)) if bound else unknown
        return sum(self._sizes.values()) + likely

    def left_s(self, now_s: float) -> float | None:
        """How long the copies will take at the present rate; None while that is not known."""
        rate = self.rate.per_second(now_s)
        return max(0, self.total_bytes - self.copied_bytes) / rate if rate and self.has_real_size else None

    def waiting_for(self, task: str) -> list[str]:
        """The titles of what cannot begin before the unit of a task is done."""
        found = self._step(task)
        dependents = self._dependents.get(found[1].name, []) if found else []
        return [unit.title for unit in dependents if unit.steps[0].ref not in self.outcomes]

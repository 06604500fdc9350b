"""The progress of a run: bars on a terminal, one line for each finished resource elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from pumphouse.model import Action, Outcome, Plan, Ref, symbol
from pumphouse.show.console import PrintableConsole
from pumphouse.show.report import outcome_text
from pumphouse.show.text import printable
from pumphouse.words import counted


class LineListener:
    """Prints one line for each finished resource; for logs and pipes.

    go_on: the command that goes on with the run.
    """

    def __init__(self, out: PrintableConsole, go_on: str) -> None:
        self._out = out
        self._go_on = go_on
        self._is_stopping = False
        self._lock = threading.Lock()
        self._copied: dict[str, int] = {}

    @property
    def copied_bytes(self) -> int:
        """The bytes that the tasks of this process have copied."""
        with self._lock:
            return sum(self._copied.values())

    def task_started(self, line: str) -> None:
        """Do nothing: only what is finished is printed."""

    def bytes_copied(self, name: str, copied: int) -> None:
        """Add them up."""
        with self._lock:
            self._copied[name] = copied

    def outcome_reported(self, outcome: Outcome) -> None:
        """Print the line."""
        self._out.print(outcome_text(outcome), soft_wrap=not self._out.is_terminal)

    def stopping(self, tasks: int) -> None:
        """Say it once."""
        if not self._is_stopping:
            self._is_stopping = True
            self._out.print(
                f"{_stopping_text(tasks)}; nothing else is started, copies and waits are broken off; "
                f"again to stop at once. Go on with {self._go_on}",
                style="yellow",
                soft_wrap=not self._out.is_terminal,
            )


class BarListener(LineListener):
    """Adds two bars below the lines: finished resources with the newest task, and copied bytes with their speed."""

    def __init__(self, out: PrintableConsole, plan: Plan, go_on: str) -> None:
        super().__init__(out, go_on)
        self._planned = {
            step.ref: step.record.size_bytes for step in plan.steps() if step.action is Action.CREATE
        }
        elapsed = TimeElapsedColumn()
        bar = BarColumn(bar_width=24)
        newest = TextColumn("{task.description}", markup=False)
        self._resources = Progress(bar, MofNCompleteColumn(), elapsed, newest, console=out)
        self._bytes = Progress(bar, DownloadColumn(binary_units=True), TransferSpeedColumn(), console=out)
        self._done = self._resources.add_task("", total=sum(1 for _ in plan.steps()))
        self._sent = self._bytes.add_task("", total=sum(self._planned.values()))

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the bars for as long as the context lasts."""
        from rich.console import Group
        from rich.live import Live

        with Live(Group(self._resources, self._bytes), console=self._out, refresh_per_second=4):
            yield

    def task_started(self, line: str) -> None:
        """Show the task that has begun last."""
        if not self._is_stopping:
            self._resources.update(self._done, description=printable(line))

    def stopping(self, tasks: int) -> None:
        """Say it once, and then show how many tasks are still waited for."""
        super().stopping(tasks)
        self._resources.update(self._done, description=_stopping_text(tasks))

    def bytes_copied(self, name: str, copied: int) -> None:
        """Move the bar of bytes."""
        super().bytes_copied(name, copied)
        self._bytes.update(self._sent, completed=self.copied_bytes)

    def outcome_reported(self, outcome: Outcome) -> None:
        """Print the line above the bars and move the bar of resources."""
        super().outcome_reported(outcome)
        self._resources.advance(self._done)
        with self._lock:
            self._planned[outcome.ref] = self._copied_of(outcome.ref)
            self._bytes.update(self._sent, total=sum(self._planned.values()))

    def _copied_of(self, ref: Ref) -> int:
        """How much was really copied of a resource; the plan knows only an upper bound."""
        return sum(copied for name, copied in self._copied.items() if name.startswith(symbol(ref, "")))


def _stopping_text(tasks: int) -> str:
    return f"stopping: waiting for {counted(tasks, 'task')}"


@contextmanager
def progress_listener(plan: Plan, out: PrintableConsole, go_on: str) -> Iterator[LineListener]:
    """A listener that shows the progress of a run: bars on a terminal, lines elsewhere.

    go_on: the command that goes on with the run.
    """
    if not out.is_terminal:
        yield LineListener(out, go_on)
        return
    bars = BarListener(out, plan, go_on)
    with bars.live():
        yield bars

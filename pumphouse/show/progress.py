"""The progress of a run: a fixed block of lines on a terminal, one line for each finished resource elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from pumphouse.model import Plan
from pumphouse.run.events import Event, LimitsChanged, Listener, OutcomeReported, Stopping, TaskRetried
from pumphouse.show.console import PrintableConsole, styled
from pumphouse.show.report import outcome_text
from pumphouse.show.status import ECHO_CELLS, both, duration, fit
from pumphouse.show.tally import Active, Tally
from pumphouse.words import counted, size

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

STATUS_S = 30.0
_REFRESHES_PER_S = 4
_ROWS_MAX = 8
# Of a screen that is not high, so much is left to the lines above the block.
_ABOVE = 8
# What takes less is gone before it can be read.
_SHOWN_AFTER_S = 1.0
_BAR_CELLS = 30
# The percentage, the bytes, the rate and the time left.
_CELLS = (5, 24, 13, 12)
_NARROW = 70
_NAMED = 3


class LineListener:
    """Prints one line for each finished resource; for logs and pipes.

    go_on: the command that goes on with the run.
    others: are told of every event, too.
    outages: what of the clouds is waited for, a phrase each.
    """

    def __init__(
        self,
        out: PrintableConsole,
        plan: Plan,
        go_on: str,
        others: Sequence[Listener] = (),
        outages: Callable[[], list[str]] = list,
    ) -> None:
        self._out = out
        self._go_on = go_on
        self._others = others
        self._outages = outages
        self._stopping = ""
        self.tally = Tally(plan)

    @property
    def copied_bytes(self) -> int:
        """The bytes that the tasks of this process have copied."""
        return self.tally.copied_bytes

    def __call__(self, event: Event) -> None:
        """Count the event, and print what of it is worth a line."""
        self.tally(event)
        for other in self._others:
            other(event)
        match event:
            case OutcomeReported():
                # The ids are longer than a line; the report has them.
                self._print(outcome_text(event.outcome, ids=not self._out.is_terminal))
            case TaskRetried():
                self._print(f"note: {event.line}: tried again: {event.reason}", "yellow")
            case LimitsChanged():
                self._print(f"note: {_limits_text(event)}", "yellow")
            case Stopping():
                self._stop(event.tasks)

    def status(self) -> str:
        """One line on how far the run is."""
        with self.tally.lock:
            now_s = self.tally.clock()
            active = sorted(self.tally.active.values(), key=lambda task: task.began_s)
            named = [f"{task.line} ({_of(task)}{_age(task, now_s)})" for task in active[:_NAMED]]
            more = [f"{len(active) - _NAMED} more"] if len(active) > _NAMED else []
            parts = [_resources(self.tally), *_bytes(self.tally, now_s), *self._outages()]
            return f"{datetime.now():%H:%M:%S} {', '.join(parts)}; now: {'; '.join([*named, *more]) or '-'}"

    @contextmanager
    def live(self) -> Iterator[None]:
        """Print a status line every half minute for as long as the context lasts: a long copy is not silent."""
        ended = threading.Event()

        def repeat() -> None:
            while not ended.wait(STATUS_S):
                self._print(self.status())

        thread = threading.Thread(target=repeat, name="status", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _print(self, line: Text | str, style: str = "") -> None:
        self._out.print(line, style=style or None, soft_wrap=not self._out.is_terminal)

    def _stop(self, tasks: int) -> None:
        if not self._stopping:
            told = "nothing else is started, copies and waits are broken off; again to stop at once"
            self._print(f"{_stopping_text(tasks)}; {told}. Go on with {self._go_on}", "yellow")
        self._stopping = _stopping_text(tasks)


class ScreenListener(LineListener):
    """Shows a block of lines of a fixed height below the lines: overall, each task in flight, what waits."""

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the block for as long as the context lasts, and take it away then."""
        from rich.live import Live

        created = max(1, len({step.ref for step in self.tally.plan.steps()}))
        self._height = min(_ROWS_MAX, self.tally.plan.cfg["limits"]["workers"], created)
        self._rows: list[str | None] = []
        live = Live(
            get_renderable=self._block,
            console=self._out,
            refresh_per_second=_REFRESHES_PER_S,
            transient=True,
        )
        with live:
            yield

    def _block(self) -> Group:
        from rich.console import Group

        with self.tally.lock:
            lines = self.lines(self._out.width - ECHO_CELLS, self._out.height)
        return Group(*(styled(text, style) for text, style in lines))

    def lines(self, width: int, height: int) -> list[tuple[str, str]]:
        """The block as lines that fit, each with its style."""
        now_s = self.tally.clock()
        rows = max(1, min(self._height, height - _ABOVE))
        shown = self._in_rows(rows, now_s)
        hidden = len(self.tally.active) - sum(task is not None for task in shown)
        overall = [
            (self._overall(width, now_s), "bold"),
            (self._counts(width, now_s, hidden), "yellow" if self._stopping else ""),
        ]
        tasks = [(_row(task, width, now_s, self._is_full()) if task else "", "cyan") for task in shown]
        last = [(self._waits(), "dim"), ("; ".join(f"waiting for {each}" for each in self._outages()), "red")]
        return [(fit(text, width), style) for text, style in [*overall, *tasks, *last]]

    def _overall(self, width: int, now_s: float) -> str:
        total, copied = self.tally.total_bytes, self.tally.copied_bytes
        if not total:
            return both(width, _resources(self.tally), _age_of(self.tally, now_s))
        parts = [part.rjust(cells) for part, cells in zip(_bytes(self.tally, now_s), _CELLS, strict=False)]
        if width < _NARROW and len(parts) > 1:
            return f"{parts[0]}  {parts[-1].strip()}"
        text = "  ".join(parts)
        cells = min(_BAR_CELLS, width - len(text) - 2)
        filled = min(cells, cells * copied // total)
        full, empty = ("━", "╌") if self._out.encoding.startswith("utf") else ("#", "-")
        return f"{full * filled}{empty * (cells - filled)}  {text}"

    def _counts(self, width: int, now_s: float, hidden: int) -> str:
        more = f", {hidden} more in flight" if hidden else ""
        return both(width, self._stopping or f"{_resources(self.tally)}{more}", _age_of(self.tally, now_s))

    def _is_full(self) -> bool:
        moving = sum(task.is_moving for task in self.tally.active.values())
        return moving >= self.tally.transfers

    def _in_rows(self, rows: int, now_s: float) -> list[Active | None]:
        """The tasks in flight, each in a row that it keeps; those that take long come first."""
        active = self.tally.active
        kept = [name if name in active else None for name in self._rows[:rows]]
        kept += [None] * (rows - len(kept))
        others = [
            name
            for name, task in active.items()
            if name not in kept and now_s - task.began_s > _SHOWN_AFTER_S
        ]
        for number, name in enumerate(kept):
            if name is None and others:
                kept[number] = others.pop(0)
        self._rows = kept
        return [active[name] if name else None for name in kept]

    def _waits(self) -> str:
        for name in filter(None, self._rows):
            if titles := self.tally.waiting_for(name):
                more = f" and {len(titles) - _NAMED} more" if len(titles) > _NAMED else ""
                verb = "waits" if len(titles) == 1 else "wait"
                return f"{', '.join(titles[:_NAMED])}{more} {verb} for: {self.tally.active[name].line}"
        return ""


def _limits_text(event: LimitsChanged) -> str:
    rate = event.bytes_per_second
    speed = f"{size(rate)} a second" if rate else "as fast as they go"
    return f"the limits are changed: {counted(event.transfers, 'transfer')} at a time, bytes {speed}"


def _stopping_text(tasks: int) -> str:
    return f"stopping: waiting for {counted(tasks, 'task')}"


def _resources(tally: Tally) -> str:
    return f"{len(tally.outcomes)} of {counted(tally.resources, 'resource')}"


def _bytes(tally: Tally, now_s: float) -> list[str]:
    """What is copied of how much, how fast, and how long that will take; nothing where nothing is to be copied."""
    total, copied = tally.total_bytes, tally.copied_bytes
    if not total:
        return []
    if not tally.has_real_size:
        return [f"at most {size(total)} to copy"]
    percent = min(100, 100 * copied // total)
    left_s = tally.left_s(now_s)
    left = f"{duration(left_s)} left" if left_s is not None else "-:--:-- left"
    rate = f"{size(int(tally.rate.per_second(now_s)))}/s"
    return [f"{percent} %", f"{size(copied)} of {size(total)}", rate, left]


def _of(task: Active) -> str:
    return f"{size(task.copied_bytes)} of {size(task.size_bytes)}, " if task.size_bytes else ""


def _age(task: Active, now_s: float) -> str:
    return duration(now_s - task.began_s)


def _age_of(tally: Tally, now_s: float) -> str:
    return duration(now_s - tally.began_s)


def _row(task: Active, width: int, now_s: float, is_full: bool) -> str:
    """What a task does, how much of it is done, how fast, and how long it has taken."""
    copied = rate = ""
    if task.size_bytes is not None:
        copied = f"{100 * task.copied_bytes // max(1, task.size_bytes)} %"
        waits = is_full and not task.is_moving
        rate = "waits" if waits else f"{size(int(task.rate.per_second(now_s)))}/s"
        if width >= _NARROW:
            copied += f" of {size(task.size_bytes)}"
    again = f"attempt {task.attempts}: " if task.attempts > 1 else ""
    wide = f"{copied:>18} {rate:>13} " if width >= _NARROW else f"{copied:>5} "
    return both(width, f"{again}{task.line}", f"{wide}{_age(task, now_s):>8}")


@contextmanager
def progress_listener(
    plan: Plan,
    out: PrintableConsole,
    go_on: str,
    others: Sequence[Listener] = (),
    outages: Callable[[], list[str]] = list,
) -> Iterator[LineListener]:
    """A listener that shows the progress of a run: a block of lines on a terminal, lines elsewhere.

    The arguments are those of LineListener.
    """
    is_screen = out.is_terminal and not out.is_dumb_terminal
    listener = (ScreenListener if is_screen else LineListener)(out, plan, go_on, others, outages)
    with listener.live():
        yield listener

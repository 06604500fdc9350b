"""One line of a terminal that changes in place."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from pumphouse.show.console import console, styled
from pumphouse.show.text import printable

if TYPE_CHECKING:
    from rich.text import Text


# Left free at the end of lines that change: a terminal writes ^C there, and would begin a line of its own for it.
ECHO_CELLS = 3


def duration(seconds: float) -> str:
    """A duration in whole seconds, e.g. `1:02:03`."""
    return str(timedelta(seconds=round(seconds)))


def both(width: int, left: str, right: str) -> str:
    """A line with a text at its left end, cut off where the one at the right end begins."""
    return f"{fit(left, max(0, width - len(right) - 2))} {right}"


def fit(text: str, width: int) -> str:
    """The text in exactly so many cells of a terminal."""
    from rich.cells import set_cell_size

    return set_cell_size(printable(text), width)


@contextmanager
def status_line(text: str, *, piped: bool = False) -> Iterator[Callable[[str], None]]:
    """Say on stderr what goes on: on a terminal in one line that changes and goes, else only if it is `piped`, line by line.

    What it gives is told the next text.
    """
    from rich.live import Live

    out, began_s, now = console(stderr=True), time.monotonic(), [text]
    if not out.is_terminal or out.is_dumb_terminal:
        yield out.print if piped else lambda _: None
        return

    def line() -> Text:
        return styled(both(out.width - ECHO_CELLS, now[0], duration(time.monotonic() - began_s)), "dim")

    # What is printed on stdout meanwhile stays there.
    with Live(get_renderable=line, console=out, transient=True, redirect_stdout=False):
        yield lambda told: operator.setitem(now, 0, told)

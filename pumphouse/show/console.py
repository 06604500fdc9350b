"""The console that everything for people is printed on: names are data, whatever is in them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.protocol import is_renderable
from rich.segment import Segment
from rich.text import Text

from pumphouse.show.text import printable

# rich takes 80 columns for a pipe, which breaks ids and reasons in two.
_PIPE_COLUMNS = 400
INDENT = 4
# By what --color says; else rich looks whether there is a terminal, and at $NO_COLOR.
_COLOURS: dict[str, dict[str, Any]] = {
    "always": {"color_system": "standard", "no_color": False},
    "never": {"no_color": True},
}
# Shows the cursor, which rich hides under bars: DECTCEM of the VT220.
_SHOW_CURSOR = b"\x1b[?25h"


def console(stderr: bool = False) -> PrintableConsole:
    """A console for tables: as wide as the terminal, or wide enough where there is none."""
    colours = _COLOURS.get(os.environ.get("PUMPHOUSE_COLOR", ""), {})
    made = PrintableConsole(stderr=stderr, **colours)
    return made if made.is_terminal else PrintableConsole(stderr=stderr, width=_PIPE_COLUMNS, **colours)


def styled(text: str, style: str = "") -> Text:
    """A text in one style, made printable."""
    return Text(printable(text), style)


class PrintableConsole(Console):
    """A console that makes every text printable and never looks for markup or codes of emoji in it.

    What it is given is one line: a line break in it is shown as `\\n`.
    """

    def print(self, *objects: Any, **options: Any) -> None:
        """Print each of the objects; a line that is too long goes on indented."""
        super().print(*map(self._line, objects), **options)

    def render_str(self, text: str, *, style: Any = "", **_options: Any) -> Text:
        """The text as it is, but printable; this is how rich makes cells and lines of plain strings."""
        return styled(text, style)

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Make also those texts printable that were made without `styled`; they lose the styles of their parts."""
        if isinstance(renderable, Text) and (plain := printable(renderable.plain)) != renderable.plain:
            renderable = renderable.blank_copy(plain)
        return super().render(renderable, options)

    @contextmanager
    def paged(self) -> Iterator[None]:
        """What is printed meanwhile goes through a pager if it is longer than the screen of a terminal."""
        if not self.is_terminal or self.is_dumb_terminal:
            yield
            return
        with self.capture() as captured:
            yield
        text = captured.get()
        if text.count("\n") < self.height:
            self.file.write(text)
        else:
            # What was read stays on the screen.
            os.environ.setdefault("LESS", "-RX")
            click.echo_via_pager(text)

    def leave_terminal(self) -> None:
        """Leave a terminal as it was found, without any lock or buffer: the process is about to end at once."""
        if self.is_terminal:
            os.write(self.file.fileno(), _SHOW_CURSOR + b"\n")

    def _line(self, printed: Any) -> Any:
        if isinstance(printed, Text):
            return HangingText(printed)
        is_text = isinstance(printed, str) or not is_renderable(printed)
        return HangingText(styled(str(printed))) if is_text else printed


@dataclass(frozen=True)
class HangingText:
    """A text that is indented from its second line on, so that nothing in it can pass for a line of its own."""

    text: Text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        if options.no_wrap or self.text.cell_len <= width:
            yield self.text
            return
        indent = min(INDENT, width - 1)
        for number, line in enumerate(self.text.wrap(console, width - indent, overflow="fold")):
            if number:
                line.pad_left(indent)
            yield line

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        least, most = Measurement.get(console, options, self.text)
        return Measurement(min(least + INDENT, most), most)

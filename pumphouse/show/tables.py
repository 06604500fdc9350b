"""Tables that fit: columns are left out, ids first, before an id or a word is broken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.table import Table

from pumphouse.show.console import INDENT, HangingText, PrintableConsole, styled

if TYPE_CHECKING:
    from rich.text import Text

_GAP = 2
# A word that is longer is broken where there is no room for it.
_WORD_MAX = 36


class Column(NamedTuple):
    """A column of a table.

    wraps: whether its cells may go on below, from a word to the next.
    order: of the columns that are too many, that of the highest order is left out first; one of 0 never is.
    """

    heading: str
    wraps: bool = False
    order: int = 0


def print_table(
    out: PrintableConsole, columns: Sequence[Column], rows: Iterable[Sequence[str | Text]]
) -> None:
    """Print as many of the columns as the width has room for, or each row as a line where it has none for the least."""
    cells = [[styled(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    widths = [_widths(column, [row[n].plain for row in cells]) for n, column in enumerate(columns)]
    kept = _kept(columns, [least for least, _ in widths], out.width)
    if _total([widths[n][0] for n in kept]) > out.width:
        for row in cells:
            out.print(styled("  ").join(row[n] for n in kept if row[n].plain))
        return
    table = Table(
        box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0), collapse_padding=True
    )
    for n, width in zip(kept, _shared([widths[n] for n in kept], out.width), strict=True):
        table.add_column(columns[n].heading, overflow="fold", width=width, no_wrap=not columns[n].wraps)
    for row in cells:
        # A first cell that goes on below is indented, so that nothing in it can pass for a line of its own.
        table.add_row(HangingText(row[kept[0]]), *(row[n] for n in kept[1:]))
    out.print(table)


def _widths(column: Column, cells: Sequence[str]) -> tuple[int, int]:
    """The least width of a column, and the one in which it is on one line; 0 of one in which nothing is."""
    if not any(cells):
        return 0, 0
    whole = max(map(_length, (column.heading, *cells)))
    if not column.wraps:
        return whole, whole
    words = (min(_length(word), _WORD_MAX) for text in cells for word in text.split())
    return min(max(_length(column.heading), *words, 0) + INDENT, whole), whole


def _length(text: str) -> int:
    return styled(text).cell_len


def _kept(columns: Sequence[Column], least: Sequence[int], width: int) -> list[int]:
    kept = [n for n, width in enumerate(least) if width]
    for n in sorted(kept, key=lambda n: -columns[n].order):
        if columns[n].order and _total([least[k] for k in kept]) > width:
            kept.remove(n)
    return kept


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _shared(widths: Sequence[tuple[int, int]], width: int) -> list[int]:
    """The width of each column: what is left of the least is shared by what each lacks."""
    left = width - _total([least for least, _ in widths])
    lacking = sum(whole - least for least, whole in widths)
    if lacking <= left:
        return [whole for _, whole in widths]
    return [least + left * (whole - least) // lacking for least, whole in widths]

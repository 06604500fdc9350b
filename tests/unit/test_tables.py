"""Tables choose their columns by the width, and break neither an id nor a word."""

from __future__ import annotations

import io

import pytest

from pumphouse.show.console import PrintableConsole
from pumphouse.show.tables import Column, print_table

COLUMNS = (
    Column("kind"), Column("name", wraps=True), Column("old id", order=2), Column("new id", order=1),
    Column("why", wraps=True),
)  # fmt: skip
IDS = "f66b376b-1111-4111-8111-0123456789ab", "6c328bff-2222-4222-8222-0123456789ab"
WHY = "the cloud answered 409: a port with this address is there already; remove it, and run this again"


def lines(width: int, *rows: tuple[str, ...]) -> list[str]:
    file = io.StringIO()
    print_table(PrintableConsole(file=file, width=width), COLUMNS, rows)
    return file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (400, ["kind", "name", "old id", "new id", "why"]),
        (120, ["kind", "name", "old id", "new id", "why"]),
        (90, ["kind", "name", "new id", "why"]),
        (60, ["kind", "name", "why"]),
        (40, ["kind", "name", "why"]),
    ],
)
def test_ids_are_left_out_before_a_word_is_broken(width: int, headings: list[str]) -> None:
    shown = lines(width, ("port", "web-storage", *IDS, WHY), ("server", "web", *IDS, ""))
    assert shown[0].replace("old id", "old_id").replace("new id", "new_id").split() == [
        heading.replace(" ", "_") for heading in headings
    ]
    words = " ".join(shown).split()
    assert set(WHY.split()) <= set(words)
    for id_, heading in zip(IDS, ("old id", "new id"), strict=True):
        assert words.count(id_) == 2 * (heading in headings)
    assert max(map(len, shown)) <= width


def test_where_there_is_no_room_at_all_each_row_is_a_line() -> None:
    shown = lines(20, ("port", "web-storage", *IDS, WHY))
    assert " ".join(" ".join(shown).split()) == f"port web-storage {WHY}"
    assert all(line.startswith("    ") for line in shown[1:])


def test_a_word_that_fits_nowhere_is_broken() -> None:
    assert "".join("".join(lines(60, ("port", "x" * 300, *IDS, "")))).count("x") == 300


def test_a_column_in_which_nothing_is_takes_no_room() -> None:
    assert lines(80, ("port", "web", "", "", ""), ("server", "db", "", "", "gone"))[0].split() == [
        "kind",
        "name",
        "why",
    ]

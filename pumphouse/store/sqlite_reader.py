"""Reads the runs in a SQLite file by the standard library alone: nothing else takes so long of `pumphouse runs list`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from taskflow.exceptions import StorageFailure
from taskflow.persistence.models import AtomDetail, FlowDetail, LogBook, atom_detail_class

_JSON_COLUMNS = ("meta", "results", "revert_results", "failure", "revert_failure")
_BUSY_TIMEOUT_S = 60


class SqliteReader:
    """What TaskFlow's backend and its connection have for who only reads.

    path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw", uri=True, timeout=_BUSY_TIMEOUT_S, check_same_thread=False
        )
        self._connection.row_factory = sqlite3.Row
        self._rows("SELECT 1 FROM logbooks, flowdetails, atomdetails LIMIT 1")

    def get_connection(self) -> SqliteReader:
        """The reader itself, which stays open when a caller closes it as a connection."""
        return self

    def close(self) -> None:
        """Nothing: who reads holds nothing that has to be given back before the process ends."""

    def get_logbooks(self, lazy: bool = False) -> Iterator[LogBook]:
        """All books, without their flows."""
        yield from map(LogBook.from_dict, self._rows("SELECT * FROM logbooks"))

    def get_flows_for_book(self, book_uuid: str, lazy: bool = False) -> Iterator[FlowDetail]:
        """The flows of a book, with their atoms unless lazy."""
        found = self._rows("SELECT * FROM flowdetails WHERE parent_uuid = ?", book_uuid)
        flows = {row["uuid"]: FlowDetail.from_dict(row) for row in found}
        if not lazy:
            of_book = "SELECT uuid FROM flowdetails WHERE parent_uuid = ?"
            for row in self._rows(f"SELECT * FROM atomdetails WHERE parent_uuid IN ({of_book})", book_uuid):
                flows[row["parent_uuid"]].add(_atom(row))
        yield from flows.values()

    def get_flow_details(self, flow_uuid: str) -> FlowDetail:
        """A flow with its atoms."""
        (row,) = self._rows("SELECT * FROM flowdetails WHERE uuid = ?", flow_uuid)
        flow = FlowDetail.from_dict(row)
        for atom in self._rows("SELECT * FROM atomdetails WHERE parent_uuid = ?", flow_uuid):
            flow.add(_atom(atom))
        return flow

    def _rows(self, statement: str, *values: str) -> list[dict[str, Any]]:
        try:
            return [_decoded(row) for row in self._connection.execute(statement, values)]
        except sqlite3.Error as error:
            raise StorageFailure(f"the state store was not read: {error}") from error


def open_reader(url: str) -> SqliteReader | None:
    """A reader of the SQLite file that a URL names; None when it has to be opened to be made, or to say what is wrong."""
    path = Path(url.partition("://")[2].removeprefix("/")).expanduser().absolute()
    with suppress(sqlite3.Error, StorageFailure):
        return SqliteReader(path)
    return None


def _decoded(row: sqlite3.Row) -> dict[str, Any]:
    decoded = dict(row)
    for name in _JSON_COLUMNS:
        if decoded.get(name) is not None:
            decoded[name] = json.loads(decoded[name])
    return decoded


def _atom(row: dict[str, Any]) -> AtomDetail:
    atom: AtomDetail = atom_detail_class(row.pop("atom_type")).from_dict(row)
    return atom

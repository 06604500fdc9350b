"""TaskFlow's persistence in folders, of files or of ZooKeeper, made so that a kill leaves nothing half written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from oslo_serialization import jsonutils
from taskflow.exceptions import NotFound
from taskflow.persistence.backends import impl_dir, impl_memory
from taskflow.persistence.models import LogBook

from pumphouse.store.times import StampedConnection

# What is saved at once: ZooKeeper takes no request over 1 MiB (jute.maxbuffer), and more bytes than its text.
BATCH_BYTES = 250_000


class OrderedConnection(StampedConnection):
    """A book appears when it is complete: its meta is saved last, and one without meta is none."""

    def save_logbook(self, book: LogBook) -> LogBook:
        """Save a new book with all that is in it, or a recorded one with its meta alone."""
        whole = book.copy(retain_contents=False)
        if len(book):
            for batch in _batches(book):
                super().save_logbook(batch)
        super().save_logbook(whole)
        return book

    def get_logbooks(self, lazy: bool = False) -> Iterator[LogBook]:
        """All books that are complete."""
        for uuid in self._get_children(self.book_path):
            book = None
            with suppress(NotFound):
                book = self.get_logbook(uuid, lazy=lazy)
            if book is not None and book.meta:
                yield book


def _batches(book: LogBook) -> Iterator[LogBook]:
    """A book in parts that can each be saved at once, without its meta; a flow may be in several of them."""
    batch, size_bytes = _without_meta(book), 0
    for flow in book:
        part = None
        for item in (flow, *flow):
            more_bytes = len(jsonutils.dumps(item.to_dict()))
            if size_bytes and size_bytes + more_bytes > BATCH_BYTES:
                yield batch
                batch, size_bytes, part = _without_meta(book), 0, None
            if part is None:
                part = flow.copy(retain_contents=False)
                batch.add(part)
            if item is not flow:
                part.add(item)
            size_bytes += more_bytes
    yield batch


def _without_meta(book: LogBook) -> LogBook:
    empty = book.copy(retain_contents=False)
    empty.meta = {}
    return empty


class _DirConnection(OrderedConnection, impl_dir.Connection):  # type: ignore[misc]
    """Files that are replaced, never written to, and links that are made when there is what they lead to.

    A killed process leaves all of it whole; against a power cut it would take a sync of each file, at 8 ms.
    """

    def _write_to(self, filename: str, contents: str) -> None:
        new = f"{filename}.new"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(contents)
        os.replace(new, filename)

    def _read_from(self, filename: str) -> str:
        return Path(filename).read_text("utf-8")

    @contextmanager
    def _transaction(self) -> Iterator[list[tuple[str, str]]]:
        links: list[tuple[str, str]] = []
        with super()._transaction():
            yield links
            for source, target in links:
                super()._create_link(source, target, None)

    def _create_link(self, source: str, target: str, transaction: list[tuple[str, str]]) -> None:
        transaction.append((source, target))


class DirBackend(impl_dir.DirBackend):  # type: ignore[misc]
    """TaskFlow's backend of files."""

    def get_connection(self) -> _DirConnection:
        """A connection object."""
        return _DirConnection(self)


class _MemoryConnection(StampedConnection, impl_memory.Connection):  # type: ignore[misc]
    """Nothing but the times is added to TaskFlow's own."""


class MemoryBackend(impl_memory.MemoryBackend):  # type: ignore[misc]
    """TaskFlow's backend of nothing but memory."""

    def get_connection(self) -> _MemoryConnection:
        """A connection object."""
        return _MemoryConnection(self)

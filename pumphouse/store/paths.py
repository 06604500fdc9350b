"""TaskFlow's persistence in a tree of paths, of files or of ZooKeeper, which a killed process leaves readable."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from oslo_serialization import jsonutils
from taskflow.exceptions import NotFound
from taskflow.persistence.backends import impl_dir, impl_memory
from taskflow.persistence.models import AtomDetail, LogBook

from pumphouse.store.taskflow_private import WholeFileConnection
from pumphouse.store.times import TimesConnection

# The bytes of text that are saved at once: ZooKeeper takes no request over 1 MiB (jute.maxbuffer) in its encoding.
BATCH_BYTES = 250_000


class WholeBookConnection(TimesConnection):
    """A connection that saves the meta of a new book last, and lists no book without meta: it is not complete."""

    @abstractmethod
    def book_uuids(self) -> list[str]:
        """The uuids of all books, whether they are complete or not."""

    def save_logbook(self, book: LogBook) -> LogBook:
        """Save a new book with its flow details, or a recorded one with its meta alone."""
        whole = book.copy(retain_contents=False)
        if len(book):
            for batch in _batches(book):
                super().save_logbook(batch)
        super().save_logbook(whole)
        return book

    def get_logbooks(self, lazy: bool = False) -> Iterator[LogBook]:
        """All books that are complete."""
        for uuid in self.book_uuids():
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


class _DirConnection(WholeBookConnection, WholeFileConnection):
    def book_uuids(self) -> list[str]:
        """The uuids of all books, whether they are complete or not."""
        return [path.name for path in Path(self.book_path).iterdir() if path.is_dir()]

    def get_atoms_for_flow(self, flow_uuid: str) -> Iterator[AtomDetail]:
        """The atoms of a flow; TaskFlow links an atom to its flow before it writes it, and may be killed between."""
        for path in Path(self.flow_path, flow_uuid).iterdir():
            if path.is_symlink():
                with suppress(NotFound):
                    atom = self.get_atom_details(path.name)
                    yield atom


class DirBackend(impl_dir.DirBackend):  # type: ignore[misc]
    """TaskFlow's backend of files."""

    def get_connection(self) -> _DirConnection:
        """A connection object."""
        return _DirConnection(self)


class _MemoryConnection(TimesConnection, impl_memory.Connection):  # type: ignore[misc]
    pass


class MemoryBackend(impl_memory.MemoryBackend):  # type: ignore[misc]
    """TaskFlow's backend in memory."""

    def get_connection(self) -> _MemoryConnection:
        """A connection object."""
        return _MemoryConnection(self)

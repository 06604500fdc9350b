"""TaskFlow's persistence in ZooKeeper, which reads many nodes at once and refuses records that ZooKeeper does not take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

from kazoo.client import KazooState
from kazoo.exceptions import KazooException, NoNodeError
from oslo_serialization import jsonutils
from taskflow.exceptions import NotFound, StorageFailure
from taskflow.persistence.backends import impl_zookeeper
from taskflow.persistence.models import AtomDetail, FlowDetail, LogBook, atom_detail_class
from taskflow.utils.kazoo_utils import finalize_client, make_client

from pumphouse.store.paths import WholeBookConnection

# jute.maxbuffer of the server, less what is around a value.
_MOST_BYTES = 1_000_000


class _Connection(WholeBookConnection, impl_zookeeper.ZkConnection):  # type: ignore[misc]
    def book_uuids(self) -> list[str]:
        """The uuids of all books, whether they are complete or not."""
        return self._children([self.book_path])[0]

    def save_logbook(self, book: LogBook) -> LogBook:
        """Save a new book with its flow details, or a recorded one with its meta alone."""
        for flow in book:
            for item in (flow, *flow):
                refuse_large(item)
        return super().save_logbook(book)

    def update_atom_details(self, atom_detail: AtomDetail, ignore_missing: bool = False) -> AtomDetail:
        """Save an atom."""
        refuse_large(atom_detail)
        return super().update_atom_details(atom_detail, ignore_missing)

    def get_logbooks(self, lazy: bool = False) -> Iterator[LogBook]:
        """All books that are complete."""
        if not lazy:
            yield from super().get_logbooks()
            return
        for data in self._read(self.book_path, self.book_uuids()):
            book = LogBook.from_dict(data, unmarshal_time=True)
            if book.meta:
                yield book

    def get_flows_for_book(self, book_uuid: str, lazy: bool = False) -> Iterator[FlowDetail]:
        """The flows of a book, with their atoms unless lazy."""
        (uuids,) = self._children([f"{self.book_path}/{book_uuid}"])
        flows = [FlowDetail.from_dict(data) for data in self._read(self.flow_path, uuids)]
        if not lazy:
            atoms_of = self._children(f"{self.flow_path}/{uuid}" for uuid in uuids)
            found = iter(self._read(self.atom_path, chain.from_iterable(atoms_of)))
            for flow, atoms in zip(flows, atoms_of, strict=True):
                for data in islice(found, len(atoms)):
                    flow.add(_atom(data))
        yield from flows

    def get_atoms_for_flow(self, flow_uuid: str) -> Iterator[AtomDetail]:
        """The atoms of a flow."""
        (uuids,) = self._children([f"{self.flow_path}/{flow_uuid}"])
        yield from map(_atom, self._read(self.atom_path, uuids))

    def _children(self, paths: Iterable[str]) -> list[list[str]]:
        return self._ask(self.backend.client.get_children_async, paths)

    def _read(self, folder: str, names: Iterable[str]) -> list[Any]:
        answers = self._ask(self.backend.client.get_async, (f"{folder}/{name}" for name in names))
        return [jsonutils.loads(data) for data, _ in answers]

    def _ask(self, request: Callable[[str], Any], paths: Iterable[str]) -> list[Any]:
        """The answers to a request for each path, all sent before the first answer is there."""
        with self._failures_translated():
            return [answer.get() for answer in [request(path) for path in paths]]

    @contextmanager
    def _failures_translated(self) -> Iterator[None]:
        """Turn kazoo's errors into TaskFlow's."""
        try:
            yield
        except NoNodeError as error:
            raise NotFound("ZooKeeper has no such node") from error
        except (KazooException, self.backend.client.handler.timeout_exception) as error:
            raise StorageFailure(f"ZooKeeper: {type(error).__name__} {error}".rstrip()) from error


def _atom(data: Mapping[str, Any]) -> AtomDetail:
    atom: AtomDetail = atom_detail_class(data["type"]).from_dict(data["atom"])
    return atom


def refuse_large(item: FlowDetail | AtomDetail) -> None:
    """Raise StorageFailure for a record that ZooKeeper would not take: it would end the session instead."""
    size_bytes = len(jsonutils.dumps(item.to_dict()))
    if size_bytes > _MOST_BYTES:
        raise StorageFailure(f"a record of {size_bytes:,} bytes is too large for ZooKeeper")


class ZooKeeperBackend(impl_zookeeper.ZkBackend):  # type: ignore[misc]
    """TaskFlow's backend of ZooKeeper with one session: when it is lost, and its locks with it, all calls are refused.

    client: the session.
    """

    def __init__(self, conf: Mapping[str, Any]) -> None:
        self.client = make_client(conf)
        super().__init__(conf, self.client)
        self._settings = conf
        self._is_lost = False
        self._connection: _Connection | None = None

    def get_connection(self) -> _Connection:
        """The connection object, which all threads share; TaskFlow would begin a session with each new one."""
        if self._is_lost:
            raise StorageFailure("the session with ZooKeeper was lost")
        if self._connection is None:
            self._connection = _Connection(self, self.client, self._settings)
            self.client.add_listener(self._note_state)
        return self._connection

    def close(self) -> None:
        """End the session, and its locks with it."""
        try:
            finalize_client(self.client)
        except KazooException as error:
            raise StorageFailure(f"the session with ZooKeeper did not end: {error}") from error

    def _note_state(self, state: str) -> None:
        self._is_lost = self._is_lost or state == KazooState.LOST

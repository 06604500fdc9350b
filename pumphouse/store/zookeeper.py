"""TaskFlow's persistence in ZooKeeper, which is asked for many things at once, and told what it can take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from kazoo.client import KazooClient, KazooState
from oslo_serialization import jsonutils
from taskflow.exceptions import StorageFailure
from taskflow.persistence.backends import impl_zookeeper
from taskflow.persistence.models import AtomDetail, FlowDetail, LogBook
from taskflow.utils.misc import decode_json

from pumphouse.store.paths import OrderedConnection

# jute.maxbuffer of the server, less what is around a value.
_MOST_BYTES = 1_000_000


class _Connection(OrderedConnection, impl_zookeeper.ZkConnection):  # type: ignore[misc]
    def _set_item(self, path: str, value: Any, transaction: Any) -> None:
        size_bytes = len(jsonutils.dumps(value))
        if size_bytes > _MOST_BYTES:
            raise StorageFailure(f"a record of {size_bytes:,} bytes is too large for ZooKeeper")
        super()._set_item(path, value, transaction)

    def get_logbooks(self, lazy: bool = False) -> Iterator[LogBook]:
        """All books that are complete."""
        if not lazy:
            yield from super().get_logbooks()
            return
        for data in self._get_items(self.book_path, self._get_children(self.book_path)):
            book = self._deserialize(LogBook, data)
            if book.meta:
                yield book

    def get_flows_for_book(self, book_uuid: str, lazy: bool = False) -> Iterator[FlowDetail]:
        """The flows of a book, with their atoms unless lazy."""
        uuids = self._get_children(self._join_path(self.book_path, book_uuid))
        flows = [self._deserialize(FlowDetail, data) for data in self._get_items(self.flow_path, uuids)]
        if not lazy:
            paths = [self._join_path(self.flow_path, uuid) for uuid in uuids]
            atoms_of = self._all(self._client.get_children_async, paths)
            found = iter(self._get_items(self.atom_path, chain.from_iterable(atoms_of)))
            for flow, atoms in zip(flows, atoms_of, strict=True):
                for data in islice(found, len(atoms)):
                    flow.add(self._deserialize(AtomDetail, data))
        yield from flows

    def get_atoms_for_flow(self, flow_uuid: str) -> Iterator[AtomDetail]:
        """The atoms of a flow."""
        uuids = self._get_children(self._join_path(self.flow_path, flow_uuid))
        for data in self._get_items(self.atom_path, uuids):
            yield self._deserialize(AtomDetail, data)

    def _get_items(self, folder: str, names: Iterable[str]) -> list[Any]:
        answers = self._all(self._client.get_async, (self._join_path(folder, name) for name in names))
        return [decode_json(data) for data, _ in answers]

    def _all(self, ask: Callable[[str], Any], paths: Iterable[str]) -> list[Any]:
        """Many answers, all asked for before the first is there."""
        with self._exc_wrapper():
            return [answer.get() for answer in [ask(path) for path in paths]]


class ZooKeeperBackend(impl_zookeeper.ZkBackend):  # type: ignore[misc]
    """TaskFlow's backend of ZooKeeper, in one session: when that is lost, and the locks with it, all is refused."""

    def __init__(self, conf: Mapping[str, Any]) -> None:
        super().__init__(conf)
        self._lost = False
        self._connection: _Connection | None = None

    @property
    def client(self) -> KazooClient:
        """The session, which its locks die with."""
        return self._client

    def get_connection(self) -> _Connection:
        """The connection object, which all threads share; TaskFlow would begin a session with each new one."""
        if self._lost:
            raise StorageFailure("the session with ZooKeeper was lost")
        if self._connection is None:
            self._connection = _Connection(self, self._client, self._conf)
            self._client.add_listener(self._watch)
        return self._connection

    def _watch(self, state: str) -> None:
        self._lost = self._lost or state == KazooState.LOST

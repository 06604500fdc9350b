"""One run at a time on a tenant and a pair of clouds: a lock that dies with its process."""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from platformdirs import user_state_path
from taskflow.persistence.backends.impl_sqlalchemy import SQLAlchemyBackend
from taskflow.persistence.base import Backend
from taskflow.persistence.path_based import PathBasedBackend
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from pumphouse.errors import LockedError

# Longer than anybody looks whether a lock is held, and not long for an operator.
_PATIENCE_S = 0.2
_DESCRIPTION_BYTES = 1000


@contextmanager
def locked(store: Backend, name: str, holder: Callable[[], str]) -> Iterator[None]:
    """Hold the lock of that name: among all that use a server, else among all runs of this user.

    holder: who has it, in words; asked when somebody has. Raises LockedError then.
    """
    with _kind(store).take(store, _key(name)) as other:
        if other is not None:
            raise LockedError(holder() or other)
        yield


def is_locked(store: Backend, name: str) -> bool:
    """Whether somebody holds the lock of that name; it is not taken for that."""
    return _kind(store).is_taken(store, _key(name))


class _Kind(NamedTuple):
    """How one kind of store locks.

    take: gives None while the lock is held, or in words, as far as they are known, who else has it.
    """

    take: Callable[[Any, str], AbstractContextManager[str | None]]
    is_taken: Callable[[Any, str], bool]


def _key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _me() -> str:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return f"process {os.getpid()} of {getpass.getuser()} on {socket.gethostname()}, since {since}"


# Files

_held: set[int] = set()


def _let_go() -> None:
    """In a forked process: do not keep alive what its parent holds."""
    for fd in _held:
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def _take_file(_store: Backend, key: str) -> Iterator[str | None]:
    fd = os.open(_path(key), os.O_RDWR | os.O_CREAT, 0o600)
    _held.add(fd)
    try:
        if not _flock_patiently(fd):
            yield os.pread(fd, _DESCRIPTION_BYTES, 0).decode(errors="replace")
            return
        os.ftruncate(fd, 0)
        os.pwrite(fd, _me().encode(), 0)
        yield None
        os.ftruncate(fd, 0)
    finally:
        _held.discard(fd)
        os.close(fd)


def _is_file_taken(_store: Backend, key: str) -> bool:
    with _path(key).open("ab") as file:
        return not _flock(file.fileno(), fcntl.LOCK_SH)


def _flock_patiently(fd: int) -> bool:
    """Take it for this run alone, also when somebody looks at this instant whether it is taken."""
    retrying = Retrying(
        retry=retry_if_result(lambda taken: not taken),
        stop=stop_after_delay(_PATIENCE_S),
        wait=wait_fixed(_PATIENCE_S / 10),
        retry_error_callback=lambda _: False,
    )
    return bool(retrying(_flock, fd, fcntl.LOCK_EX))


def _flock(fd: int, operation: int) -> bool:
    """Unlike lockf, also between the threads of a process, and not lost when another file object is closed."""
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _path(key: str) -> Path:
    folder = user_state_path("pumphouse") / "locks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"{key}.lock"


# PostgreSQL and MySQL: the lock of a connection that is kept open for it

# Whoever is gone without a word is noticed after 90 s, and whoever is silent is not sent away.
_POSTGRESQL_SETTINGS = {
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "idle_session_timeout": "0",
}
# The most it takes, in seconds: a year.
_MYSQL_WAIT_TIMEOUT = 31_536_000


@contextmanager
def _of_connection(store: Any, take: Callable[[sa.Connection], bool]) -> Iterator[str | None]:
    with store.engine.connect() as connection:
        connection.detach()
        try:
            taken = take(connection)
            connection.commit()
            yield None if taken else ""
        finally:
            connection.invalidate()  # the server may be gone, with the lock: nothing is said to it any more


def _take_postgresql(store: Any, key: str) -> AbstractContextManager[str | None]:
    def take(connection: sa.Connection) -> bool:
        # Those that a release does not have are left out.
        statement = sa.text("SELECT set_config(name, :value, false) FROM pg_settings WHERE name = :name")
        for name, value in _POSTGRESQL_SETTINGS.items():
            connection.execute(statement, {"name": name, "value": value})
        return bool(connection.scalar(sa.select(sa.func.pg_try_advisory_lock(*_numbers(key)))))

    return _of_connection(store, take)


def _is_postgresql_taken(store: Any, key: str) -> bool:
    # objsubid 2: of two numbers. https://www.postgresql.org/docs/current/view-pg-locks.html
    statement = sa.text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2"
        " AND classid = :first AND objid = :second"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    first, second = _numbers(key)
    with store.engine.connect() as connection:
        return bool(connection.scalar(statement, {"first": first, "second": second}))


def _numbers(key: str) -> tuple[int, int]:
    """Two numbers of 31 bits: as an integer has them, and as an oid has them."""
    return int(key[:8], 16) >> 1, int(key[8:16], 16) >> 1


def _take_mysql(store: Any, key: str) -> AbstractContextManager[str | None]:
    def take(connection: sa.Connection) -> bool:
        connection.exec_driver_sql(f"SET SESSION wait_timeout = {_MYSQL_WAIT_TIMEOUT}")
        return bool(connection.scalar(sa.select(sa.func.get_lock(_mysql_name(key), 0))))

    return _of_connection(store, take)


def _is_mysql_taken(store: Any, key: str) -> bool:
    with store.engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.is_used_lock(_mysql_name(key)))) is not None


def _mysql_name(key: str) -> str:
    return f"pumphouse {key}"


# ZooKeeper: a node that goes with the session


@contextmanager
def _take_node(store: Any, key: str) -> Iterator[str | None]:
    from kazoo.exceptions import KazooException

    lock = store.client.Lock(_node(store, key), _me())
    if not lock.acquire(blocking=False):
        yield next(iter(lock.contenders()), "")
        return
    try:
        yield None
    finally:
        with suppress(KazooException):  # without its server it ends with the session
            lock.release()


def _is_node_taken(store: Any, key: str) -> bool:
    return bool(store.client.Lock(_node(store, key)).contenders())


def _node(store: Any, key: str) -> str:
    return f"{store.path}/locks/{key}"


_FILE = _Kind(_take_file, _is_file_taken)
_SERVERS = {
    "postgresql": _Kind(_take_postgresql, _is_postgresql_taken),
    "mysql": _Kind(_take_mysql, _is_mysql_taken),
    "mariadb": _Kind(_take_mysql, _is_mysql_taken),
}
_NODE = _Kind(_take_node, _is_node_taken)


def _kind(store: Backend) -> _Kind:
    if isinstance(store, SQLAlchemyBackend):
        return _SERVERS.get(store.engine.dialect.name, _FILE)
    if isinstance(store, PathBasedBackend) and hasattr(store, "client"):
        return _NODE
    return _FILE

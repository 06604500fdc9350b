"""The lock of a tenant and a pair of clouds, for one run at a time; it is released when its process dies.

OpenStack's tooz has drivers for the same stores, but none tells whether a lock is held without acquiring it, or who
holds it, and each opens connections of its own with options of its own. Its driver of PostgreSQL is deprecated, needs
psycopg2, and takes only 16 bits of a lock's name, so that two tenants may have the same lock.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from platformdirs import user_state_path
from sqlalchemy.exc import SQLAlchemyError
from taskflow.persistence.backends.impl_sqlalchemy import SQLAlchemyBackend
from taskflow.persistence.base import Backend
from taskflow.persistence.path_based import PathBasedBackend
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from pumphouse.errors import ConfigError, LockedError
from pumphouse.store.paths import DirBackend
from pumphouse.store.sql import FastBackend
from pumphouse.store.sqlite_reader import SqliteReader

# Longer than is_locked holds a lock of a file, and short for an operator.
_RETRY_S = 0.2
_DESCRIPTION_BYTES = 1000


@contextmanager
def locked(store: Backend, name: str, holder: Callable[[], str]) -> Iterator[None]:
    """Hold the lock of that name among all that use the store; of one in memory, among all runs of this user.

    A store whose server drops the lock takes nothing any more, so that the run is suspended.

    holder: says who holds the lock, when another run does. Raises LockedError then.
    """
    with _locks_of(store).acquire(store, _key(name)) as other:
        if other is not None:
            raise LockedError(holder() or other)
        yield


@contextmanager
def wait_locked(store: Backend, name: str, pause: Callable[[float], None]) -> Iterator[None]:
    """Hold a lock that nobody holds for long, and wait for it until then.

    pause: waits some seconds, and raises when the run is to end.
    """
    while True:
        with _locks_of(store).acquire(store, _key(name)) as other:
            if other is None:
                yield
                return
        pause(_RETRY_S)


def is_locked(store: Backend, name: str) -> bool:
    """Whether somebody holds the lock of that name; it is not acquired to find out."""
    return _locks_of(store).is_held(store, _key(name))


class _Locks(NamedTuple):
    """The locks of one kind of store.

    acquire: gives None while the lock is held by this run, else who holds it in words, empty if that is unknown.
    """

    acquire: Callable[[Any, str], AbstractContextManager[str | None]]
    is_held: Callable[[Any, str], bool]


def _key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _this_process() -> str:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return f"process {os.getpid()} of {getpass.getuser()} on {socket.gethostname()}, since {since}"


# Files

_descriptors: set[int] = set()


def _close_inherited() -> None:
    """In a forked process, close the descriptors of its parent's locks: else they would outlive the parent."""
    for fd in _descriptors:
        os.close(fd)
    _descriptors.clear()


os.register_at_fork(after_in_child=_close_inherited)


@contextmanager
def _acquire_file(store: Backend, key: str) -> Iterator[str | None]:
    fd = _open(_path(store, key), _shared_file(store))
    _descriptors.add(fd)
    try:
        if not _flock_with_retries(fd):
            yield os.pread(fd, _DESCRIPTION_BYTES, 0).decode(errors="replace")
            return
        os.ftruncate(fd, 0)
        os.pwrite(fd, _this_process().encode(), 0)
        yield None
        os.ftruncate(fd, 0)
    finally:
        _descriptors.discard(fd)
        os.close(fd)


def _is_file_held(store: Backend, key: str) -> bool:
    path = _path(store, key)
    if not path.exists():
        return False
    with path.open("rb") as file:
        return not _flock(file.fileno(), fcntl.LOCK_SH)


def _flock_with_retries(fd: int) -> bool:
    """Acquire the lock of a file; what holds it may be is_locked, for an instant."""
    retrying = Retrying(
        retry=retry_if_result(lambda acquired: not acquired),
        stop=stop_after_delay(_RETRY_S),
        wait=wait_fixed(_RETRY_S / 10),
        retry_error_callback=lambda _: False,
    )
    return bool(retrying(_flock, fd, fcntl.LOCK_EX))


def _flock(fd: int, operation: int) -> bool:
    """Lock a file if it is not locked; unlike lockf, also between threads, and until this very descriptor is closed."""
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(path: Path, shared: Path | None) -> int:
    """Open the file of a lock, made for all who may write to the store.

    Raises ConfigError for a folder that it cannot be made in.
    """
    mode = stat.S_IMODE(shared.stat().st_mode) & 0o666 if shared else 0o600
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists() and shared:
            path.touch()
            with suppress(PermissionError):  # another process has just made it
                os.chown(path, -1, shared.stat().st_gid)
                path.chmod(mode)
        return os.open(path, os.O_RDWR | os.O_CREAT, mode)
    except OSError as error:
        problem = f"the lock {path} cannot be opened: {error.strerror}"
        raise ConfigError(
            [problem], "whoever may write to the state store has to be able to write it"
        ) from error


def _shared_file(store: Backend) -> Path | None:
    """The SQLite file of a store, or its folder; None for a store in memory, which is this process's alone."""
    if isinstance(store, SqliteReader):
        return store.path
    if isinstance(store, SQLAlchemyBackend):
        return Path(str(store.engine.url.database))
    return Path(store.get_connection().book_path).parent if isinstance(store, DirBackend) else None


def _path(store: Backend, key: str) -> Path:
    """The file of a lock: beside the store, for all who use that."""
    shared = _shared_file(store)
    if shared is None:
        return user_state_path("pumphouse") / "locks" / f"{key}.lock"
    return shared.parent / f"{shared.name}.{key}.lock"


# PostgreSQL and MySQL: the lock of a connection that is open as long as it is held

# A process whose machine is gone is noticed after 90 s, and an idle connection is not closed.
_POSTGRESQL_SETTINGS = {
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "idle_session_timeout": "0",
}
# The most that MySQL takes, in seconds: a year.
_MYSQL_WAIT_TIMEOUT = 31_536_000
# How often the connection of a lock is looked at: its server may have been started again, and the lock is another's.
_WATCH_S = 5.0


@contextmanager
def _connection_lock(store: Any, acquire: Callable[[sa.Connection], bool]) -> Iterator[str | None]:
    with store.engine.connect() as connection:
        connection.detach()
        try:
            acquired = acquire(connection)
            connection.commit()
            if not acquired:
                yield ""
                return
            with _watched(store, connection):
                yield None
        finally:
            # Closed without a word to the server, which may be gone, and the lock with it.
            connection.invalidate()


@contextmanager
def _watched(store: FastBackend, connection: sa.Connection) -> Iterator[None]:
    """Look again and again whether a connection is still there; without it, the store takes nothing any more."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_WATCH_S):
            try:
                connection.scalar(sa.select(1))
            except SQLAlchemyError as error:
                cause = " ".join(str(getattr(error, "orig", error)).split())
                store.lost = f"the lock of the tenant is lost, and another run may have it: {cause}"
                return

    watcher = threading.Thread(target=watch, name="lock", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _acquire_postgresql(store: Any, key: str) -> AbstractContextManager[str | None]:
    def acquire(connection: sa.Connection) -> bool:
        # Settings that the server's release does not have are left out.
        statement = sa.text("SELECT set_config(name, :value, false) FROM pg_settings WHERE name = :name")
        for name, value in _POSTGRESQL_SETTINGS.items():
            connection.execute(statement, {"name": name, "value": value})
        return bool(connection.scalar(sa.select(sa.func.pg_try_advisory_lock(*_numbers(key)))))

    return _connection_lock(store, acquire)


def _is_postgresql_held(store: Any, key: str) -> bool:
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
    """Two numbers of 31 bits, which PostgreSQL's integer and oid both hold."""
    return int(key[:8], 16) >> 1, int(key[8:16], 16) >> 1


def _acquire_mysql(store: Any, key: str) -> AbstractContextManager[str | None]:
    def acquire(connection: sa.Connection) -> bool:
        connection.exec_driver_sql(f"SET SESSION wait_timeout = {_MYSQL_WAIT_TIMEOUT}")
        return bool(connection.scalar(sa.select(sa.func.get_lock(_mysql_name(key), 0))))

    return _connection_lock(store, acquire)


def _is_mysql_held(store: Any, key: str) -> bool:
    with store.engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.is_used_lock(_mysql_name(key)))) is not None


def _mysql_name(key: str) -> str:
    return f"pumphouse {key}"


# ZooKeeper: a node that ends with the session


@contextmanager
def _acquire_node(store: Any, key: str) -> Iterator[str | None]:
    from kazoo.exceptions import KazooException

    lock = store.client.Lock(_node(store, key), _this_process())
    if not lock.acquire(blocking=False):
        yield next(iter(lock.contenders()), "")
        return
    try:
        yield None
    finally:
        with suppress(KazooException):  # without its server it ends with the session
            lock.release()


def _is_node_held(store: Any, key: str) -> bool:
    return bool(store.client.Lock(_node(store, key)).contenders())


def _node(store: Any, key: str) -> str:
    return f"{store.path}/locks/{key}"


_FILE = _Locks(_acquire_file, _is_file_held)
_SERVERS = {
    "postgresql": _Locks(_acquire_postgresql, _is_postgresql_held),
    "mysql": _Locks(_acquire_mysql, _is_mysql_held),
    "mariadb": _Locks(_acquire_mysql, _is_mysql_held),
}
_NODE = _Locks(_acquire_node, _is_node_held)


def _locks_of(store: Backend) -> _Locks:
    if isinstance(store, SQLAlchemyBackend):
        return _SERVERS.get(store.engine.dialect.name, _FILE)
    if isinstance(store, PathBasedBackend) and hasattr(store, "client"):
        return _NODE
    return _FILE

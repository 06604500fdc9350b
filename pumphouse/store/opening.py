"""How each kind of state store is opened."""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from oslo_serialization import jsonutils
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import InvalidatePoolError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from taskflow.exceptions import TaskFlowException
from taskflow.persistence.base import Backend

from pumphouse.errors import EXIT_CONNECTION, ConfigError, PumphouseError
from pumphouse.store import EXPECTED, family_of
from pumphouse.store.paths import DirBackend, MemoryBackend
from pumphouse.store.sql import FastBackend

CONNECT_TIMEOUT_S = 10
# How long a write waits for those of other processes, and a thread for a connection.
BUSY_TIMEOUT_S = 60

_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql"}
_ENCODE = "percent-encode @, /, ? and # in a user name or password, e.g. %40 for @"
_SERVER_CONNECTIONS = 16
# A connection that was used less long ago is taken to be alive: to ask costs as much as to write.
_IDLE_S = 1
# No value reaches the text of an error, from where it would reach a log.
_ENGINE_OPTIONS: dict[str, Any] = {
    "hide_parameters": True,
    # The update of a row is a transaction by itself: one round trip to a server, where BEGIN and COMMIT take three.
    "isolation_level": "AUTOCOMMIT",
    "skip_autocommit_rollback": True,
    "pool_timeout": BUSY_TIMEOUT_S,
    # As TaskFlow has it for the other stores; PostgreSQL's JSON would get the standard library's.
    "json_serializer": jsonutils.dumps,
}


class StoreError(PumphouseError):
    """The server of the state store does not answer, or refuses the login."""

    exit_code = EXIT_CONNECTION

    def __init__(self, message: str) -> None:
        super().__init__(message, "check state.url, and that the server runs and lets you in")


def _open_sqlite(text: str) -> Backend:
    url = _sql_url(text)
    if url.database in (None, "", ":memory:") or url != URL.create("sqlite", database=url.database):
        expected = "sqlite:// with the path of a file and nothing else, as in sqlite:////path/to/file"
        raise ConfigError([f"state.url: not usable; expected {expected}"], "memory:// writes no file")
    path = Path(str(url.database)).expanduser().absolute()
    with _failures_explained(f"SQLite file {path}", _config_error):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite itself would make it with the umask's mode; -wal and -shm get the mode of the file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        engine = sa.create_engine(
            URL.create("sqlite", database=str(path)),
            # There is one writer at a time: threads take turns here, where SQLite would sleep and try again.
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            connect_args={"timeout": BUSY_TIMEOUT_S},
            **_ENGINE_OPTIONS,
        )
        sa.event.listen(engine, "connect", _set_pragmas)
        return _upgraded(FastBackend(engine, "SERIALIZABLE"))


def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
    """Set the journal; with WAL, NORMAL may lose the last commits in a power cut, but none to a kill.

    https://sqlite.org/pragma.html#pragma_synchronous
    """
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def _open_server(text: str) -> Backend:
    url = _sql_url(text)
    family = family_of(text)
    if not url.database or not (url.host or url.query) or "@" in (url.host or ""):
        raise ConfigError(
            [f"state.url: not usable; expected {family}://user:password@host/database"], _ENCODE
        )
    driver = url.drivername.partition("+")[2] or _DRIVERS[family]
    title = f"{family} database {url.database} on {url.host or 'localhost'}"
    with _failures_explained(title, StoreError, str(url.password or "")):
        engine = sa.create_engine(
            url.set(drivername=f"{family}+{driver}"),
            pool_size=_SERVER_CONNECTIONS,
            max_overflow=0,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
            **_ENGINE_OPTIONS,
        )
        sa.event.listen(engine, "checkin", _note_use)
        sa.event.listen(engine, "checkout", partial(_check_idle, engine.dialect))
        return _upgraded(FastBackend(engine, "READ COMMITTED"))


def _note_use(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info["used_at_s"] = time.monotonic()


def _check_idle(dialect: sa.Dialect, connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
    """Ask the server, before a connection is used that has been idle, whether it is still there."""
    if time.monotonic() - record.info.get("used_at_s", math.inf) < _IDLE_S:
        return
    try:
        dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as error:
        raise InvalidatePoolError from error


def _sql_url(text: str) -> URL:
    try:
        return make_url(text)
    except (ValueError, SQLAlchemyError):
        raise ConfigError([f"state.url: cannot be parsed; expected {EXPECTED}"], _ENCODE) from None


def _open_zookeeper(text: str) -> Backend:
    hosts, _, path = text.partition("://")[2].partition("/")
    if not hosts or not path or "@" in hosts:
        raise ConfigError(["state.url: not usable; expected zookeeper://host:2181,host:2181/path"])
    with _failures_explained(f"ZooKeeper at {hosts}", StoreError):
        from pumphouse.store.zookeeper import ZooKeeperBackend

        # The check asks for the server's version, which servers do not tell unless they are set to.
        conf = {
            "hosts": hosts,
            "path": f"/{path}",
            "timeout": CONNECT_TIMEOUT_S,
            "check_compatible": False,
            # Else a run would wait for its store for ever, without a word.
            "connection_retry": {"max_tries": -1, "max_delay": 1, "deadline": 2 * CONNECT_TIMEOUT_S},
        }
        return _upgraded(ZooKeeperBackend(conf))


def _open_dir(text: str) -> Backend:
    parts = urlsplit(text)
    if parts.netloc or not parts.path.strip("/"):
        raise ConfigError(["state.url: no absolute path; expected dir:///path"])
    path = Path(unquote(parts.path))
    with _failures_explained(f"folder {path}", _config_error):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            return _upgraded(DirBackend({"path": str(path)}))


def _open_memory(_text: str) -> Backend:
    return _upgraded(MemoryBackend())


def _upgraded(store: Backend) -> Backend:
    try:
        with closing(store.get_connection()) as connection:
            connection.upgrade()
    except BaseException:
        store.close()
        raise
    return store


@contextmanager
def _failures_explained(
    title: str, error_class: Callable[[str], PumphouseError], password: str = ""
) -> Iterator[None]:
    """Turn whatever goes wrong while a store is opened into one message without the password."""
    try:
        yield
    except ModuleNotFoundError as error:
        extra = title.partition(" ")[0].lower()
        raise ConfigError(
            [f"state.url: {title} needs the Python package {error.name}"], f"pip install 'pumphouse[{extra}]'"
        ) from None
    except NoSuchModuleError:
        raise ConfigError(
            [f"state.url: {title}: SQLAlchemy has no such driver"], "leave out what follows the +"
        ) from None
    except (OSError, SQLAlchemyError, TaskFlowException) as error:
        raise error_class(f"the state store, {title}, cannot be opened: {_cause(error, password)}") from None


def _cause(error: BaseException, password: str) -> str:
    while error.__cause__:
        error = error.__cause__
    text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return text.replace(password, "***") if password else text


def _config_error(message: str) -> ConfigError:
    return ConfigError([message], "mend that, or set state.url to another place")


OPENERS: dict[str, Callable[[str], Backend]] = {
    "sqlite": _open_sqlite,
    "postgresql": _open_server,
    "mysql": _open_server,
    "zookeeper": _open_zookeeper,
    "dir": _open_dir,
    "memory": _open_memory,
}

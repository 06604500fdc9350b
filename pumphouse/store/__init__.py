"""The state store: TaskFlow's persistence by URL, its SQL made fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pumphouse.errors import ConfigError

if TYPE_CHECKING:
    from taskflow.persistence.base import Backend

# The width of the name columns of TaskFlow's tables.
NAME_MAX_LENGTH = 255
EXPECTED = (
    "sqlite:////path/to/file, postgresql://user@host/database, mysql://user@host/database, "
    "zookeeper://host:2181/path, dir:///path or memory://"
)
_FAMILIES = ("sqlite", "postgresql", "mysql", "zookeeper", "dir", "memory")
_ALIASES = {"postgres": "postgresql", "mariadb": "mysql"}


def open_store(url: str, *, only_read: bool = False) -> Backend:
    """Open the state store that a URL names, with its schema brought up to date.

    only_read: for who writes nothing: of a SQLite file without SQLAlchemy, whose import takes longer than to read it.

    Raises ConfigError when the URL or what it names is not usable or a driver is missing,
    StoreError when a server does not answer; neither repeats the password.
    """
    if "://" not in url:
        raise ConfigError([f"state.url: not a URL; expected {EXPECTED}"])
    family = family_of(url)
    if family not in _FAMILIES:
        raise ConfigError([f"state.url: unknown kind of store {family!r}; expected {EXPECTED}"])
    if only_read and url.startswith("sqlite:///"):
        from pumphouse.store.sqlite_reader import open_reader

        if reader := open_reader(url):
            return reader
    from pumphouse.store.opening import OPENERS

    return OPENERS[family](url)


def family_of(url: str) -> str:
    """The kind of store that a URL names."""
    scheme = url.partition("://")[0].partition("+")[0].lower()
    return _ALIASES.get(scheme, scheme)

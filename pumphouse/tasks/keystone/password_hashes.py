"""Hashes of passwords, copied from the database of one Keystone to that of the other: no API gives or takes them.

Keystone has the current password of a local user as the newest row of the table `password`; since Pike its
column is `password_hash`, and says itself how it was made, so that any later Keystone can check it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pumphouse.errors import ConfigError, PumphouseError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

    from pumphouse.cloud import Cloud

# The columns that each Keystone gives its own values.
_OWN = ("id", "local_user_id")


def check_databases(source: Cloud, destination: Cloud) -> None:
    """Raise ConfigError, PumphouseError when the hashes cannot be read at the source, or at the destination."""
    missing = [cloud.name for cloud in (source, destination) if not cloud.keystone_database_url]
    if missing:
        problems = [
            f"policies.user_passwords is hash: {name}.keystone_database is missing" for name in missing
        ]
        raise ConfigError(problems, "give the URL of that Keystone's database, or choose another policy")
    for cloud in (source, destination):
        with _connected(cloud) as connection:
            _tables(connection)


def copy_hash(source: Cloud, source_id: str, destination: Cloud, destination_id: str) -> bool:
    """Give a user of the destination the hash that a user of the source has, unless it has a password.

    Returns whether the user has a password then. Raises PumphouseError, which never holds a hash.
    """
    with _connected(destination) as connection:
        if _newest(connection, destination_id):
            return True
    with _connected(source) as connection:
        row = _newest(connection, source_id)
    if row is None:
        return False
    with _connected(destination) as connection:
        _insert(connection, destination_id, row)
    return True


def _newest(connection: Connection, user_id: str) -> dict[str, Any] | None:
    """The current password of a local user; None for one of LDAP or of a federation, or without any."""
    from sqlalchemy import select

    password, local_user = _tables(connection)
    query = (
        select(password)
        .join(local_user, password.c.local_user_id == local_user.c.id)
        .where(local_user.c.user_id == user_id, password.c.password_hash.is_not(None))
        .order_by(password.c.created_at_int.desc(), password.c.id.desc())
        .limit(1)
    )
    found = connection.execute(query).mappings().first()
    return None if found is None else dict(found)


def _insert(connection: Connection, user_id: str, row: dict[str, Any]) -> None:
    from sqlalchemy import insert, select

    password, local_user = _tables(connection)
    owner = connection.execute(select(local_user.c.id).where(local_user.c.user_id == user_id)).scalar()
    if owner is None:
        raise PumphouseError(
            f"user {user_id} is not in the table local_user of the destination's Keystone",
            "see that destination.keystone_database is the database of this Keystone",
        )
    known = {column.name for column in password.c} - {*_OWN}
    values = {name: value for name, value in row.items() if name in known}
    connection.execute(insert(password).values(local_user_id=owner, **values))


def _tables(connection: Connection) -> tuple[Table, Table]:
    from sqlalchemy import MetaData, Table

    known = MetaData()
    password, local_user = (
        Table(name, known, autoload_with=connection) for name in ("password", "local_user")
    )
    if "password_hash" not in password.c:
        raise PumphouseError(
            "its table password has no column password_hash", "that takes Keystone 12 (Pike)"
        )
    return password, local_user


@contextmanager
def _connected(cloud: Cloud) -> Iterator[Connection]:
    """A transaction in the database of a cloud's Keystone; PumphouseError when it cannot be used."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    url = cloud.keystone_database_url or ""
    try:
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
        with engine.begin() as connection:
            yield connection
    except (SQLAlchemyError, ImportError) as error:
        raise PumphouseError(
            f"{cloud.name}.keystone_database cannot be used: {_why(error)}",
            "give SQLAlchemy's URL of that Keystone's database, and see that its driver is installed",
        ) from None


def _why(error: Exception) -> str:
    """What a driver says, which knows neither the URL nor the values; of others only the kind of error."""
    from sqlalchemy.exc import DBAPIError, NoSuchTableError

    if isinstance(error, NoSuchTableError):
        return f"it has no table {error}"
    said = error.orig if isinstance(error, DBAPIError) else error if isinstance(error, ImportError) else None
    return " ".join(str(said).split()) if said else f"it is no URL of a database ({type(error).__name__})"

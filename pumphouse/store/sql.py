"""TaskFlow's SQL persistence without the reads and writes that repeat others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from threading import Lock
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from taskflow.exceptions import NotFound, StorageFailure
from taskflow.persistence.backends.impl_sqlalchemy import Connection, SQLAlchemyBackend
from taskflow.persistence.backends.sqlalchemy.tables import fetch as fetch_tables
from taskflow.persistence.models import (
    AtomDetail,
    FlowDetail,
    LogBook,
    atom_detail_class,
    atom_detail_type,
)

from pumphouse.store import NAME_MAX_LENGTH
from pumphouse.store.sql_update import RowUpdate
from pumphouse.store.times import set_times

# Names that are not ASCII need it: TaskFlow makes MySQL's tables with the utf8 of three bytes.
_MYSQL_CHARSET = "utf8mb4"
_MYSQL_WAIT_S = 60
_UPGRADE_LOCK = (0x70756D70, 0x686F7573)


class FastConnection(Connection):  # type: ignore[misc]
    """TaskFlow's connection, which writes a row without reading it before.

    It may do so because a flow has one writer, its engine: the tables have what the engine saved last.
    """

    def __init__(self, backend: FastBackend) -> None:
        super().__init__(backend, Lock())
        self._sql_engine = backend.engine
        self._autocommit = backend.autocommit
        self._schema = sa.MetaData()
        self._books, self._flows, self._atoms = fetch_tables(self._schema)
        flows, atoms = self._flows, self._atoms
        self._known_atoms = sa.select(atoms.c.uuid).where(atoms.c.parent_uuid == sa.bindparam("key"))
        self._atoms_of_book = (
            sa.select(atoms)
            .join(flows, flows.c.uuid == atoms.c.parent_uuid)
            .where(flows.c.parent_uuid == sa.bindparam("key"))
        )
        # TaskFlow has none on what it selects by, so that each unit would be searched for among all.
        self._indexes = [
            sa.Index(f"{table.name}_parent_idx", table.c.parent_uuid) for table in (flows, atoms)
        ]

    def upgrade(self) -> None:
        """Make or alter the tables, one process at a time; a schema that is complete is only looked at."""
        steps = {"sqlite": self._upgrade_sqlite, "postgresql": self._upgrade_postgresql}
        if not self._is_complete():
            steps.get(self._sql_engine.dialect.name, self._upgrade_mysql)()

    def _is_complete(self) -> bool:
        """Whether the tables have all columns and indexes; to find out takes no alembic, which is long to import."""
        inspector = sa.inspect(self._sql_engine)
        if not set(self._schema.tables) <= set(inspector.get_table_names()):
            return False
        columns = {
            name: {column["name"] for column in inspector.get_columns(name)} for name in self._schema.tables
        }
        indexes = {index["name"] for name in self._schema.tables for index in inspector.get_indexes(name)}
        return (
            all(set(table.c.keys()) <= columns[name] for name, table in self._schema.tables.items())
            and {index.name for index in self._indexes} <= indexes
        )

    def _upgrade_by_alembic(self) -> None:
        from alembic.util.exc import CommandError

        try:
            super().upgrade()
        except CommandError as error:
            raise StorageFailure(str(error)) from error

    def _upgrade_sqlite(self) -> None:
        with self._sql_engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            self._schema.create_all(connection)
            for index in self._indexes:
                index.create(connection, checkfirst=True)
            connection.commit()

    def _upgrade_postgresql(self) -> None:
        with self._sql_engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(*_UPGRADE_LOCK)))
            self._upgrade_by_alembic()
            with self._sql_engine.begin() as other:
                for index in self._indexes:
                    index.create(other, checkfirst=True)

    def _upgrade_mysql(self) -> None:
        with self._sql_engine.begin() as connection:
            connection.execute(sa.select(sa.func.get_lock("pumphouse upgrade", _MYSQL_WAIT_S)))
            try:
                self._upgrade_by_alembic()
                for table in (self._books, self._flows, self._atoms):
                    _widen_charset(connection, table)
            finally:
                connection.execute(sa.select(sa.func.release_lock("pumphouse upgrade")))

    def save_logbook(self, book: LogBook) -> LogBook:
        """Save a book: a new one with all that is in it, a recorded one with what is in this copy of it."""
        if self._update(self._update_book, book):
            return super().save_logbook(book) if len(book) else book
        with self._failure(f"{book.name} was not saved"), self._sql_engine.begin() as connection:
            connection.execute(self._books.insert(), _row(book))
            if len(book):
                connection.execute(self._flows.insert(), [_row(flow, parent_uuid=book.uuid) for flow in book])
            if rows := [_atom_row(atom, flow) for flow in book for atom in flow]:
                connection.execute(self._atoms.insert(), rows)
        return book

    def destroy_logbook(self, book_uuid: str) -> None:
        """Remove a book with all that is in it; TaskFlow leaves that to foreign keys, which SQLite does not mind."""
        flows = sa.select(self._flows.c.uuid).where(self._flows.c.parent_uuid == book_uuid)
        with self._failure("the run was not removed"), self._sql_engine.begin() as connection:
            connection.execute(self._atoms.delete().where(self._atoms.c.parent_uuid.in_(flows)))
            connection.execute(self._flows.delete().where(self._flows.c.parent_uuid == book_uuid))
            connection.execute(self._books.delete().where(self._books.c.uuid == book_uuid))

    def get_flows_for_book(self, book_uuid: str, lazy: bool = False) -> Iterator[FlowDetail]:
        """The flows of a book, with their atoms unless lazy: by two queries, however many there are."""
        flows = {flow.uuid: flow for flow in super().get_flows_for_book(book_uuid, lazy=True)}
        if not lazy:
            with self._failure("the tasks were not read"), self._sql_engine.connect() as connection:
                for row in connection.execute(self._atoms_of_book, {"key": book_uuid}).mappings():
                    flows[row["parent_uuid"]].add(_atom_of_row(dict(row)))
        yield from flows.values()

    def update_flow_details(self, flow_detail: FlowDetail) -> FlowDetail:
        """Save a flow and its new atoms; those that are recorded were saved when they changed."""
        message = f"{flow_detail.name} was not saved"
        known: set[str] = set()
        if len(flow_detail):
            with self._failure(message), self._autocommit.connect() as connection:
                known.update(connection.scalars(self._known_atoms, {"key": flow_detail.uuid}))
        new = [_atom_row(atom, flow_detail) for atom in flow_detail if atom.uuid not in known]
        if not new:
            found = self._update(self._update_flow, flow_detail)
        else:
            update = self._update_flow
            with self._failure(message), self._sql_engine.begin() as connection:
                found = connection.exec_driver_sql(update.text, update.values(flow_detail)).rowcount > 0
                if found:
                    connection.execute(self._atoms.insert(), new)
        if not found:
            raise NotFound(f"no flow {flow_detail.uuid} is recorded")
        return flow_detail

    def update_atom_details(self, atom_detail: AtomDetail) -> AtomDetail:
        """Save an atom."""
        set_times(atom_detail)
        if not self._update(self._update_atom, atom_detail):
            raise NotFound(f"no atom {atom_detail.uuid} is recorded")
        return atom_detail

    def _update(self, update: RowUpdate, item: Any) -> bool:
        """Update the row of an item, which takes no transaction around it; False when the item has no row."""
        with self._failure(f"{item.name} was not saved"), self._driver_connection() as connection:
            cursor = connection.cursor()
            cursor.execute(update.text, update.values(item))
            return bool(cursor.rowcount)

    @contextmanager
    def _driver_connection(self) -> Iterator[sa.PoolProxiedConnection]:
        """A connection without what SQLAlchemy has around it, which takes longer than an update of one row."""
        with closing(self._autocommit.raw_connection()) as connection:
            try:
                yield connection
            except self._driver_error:
                connection.invalidate()
                raise

    @contextmanager
    def _failure(self, message: str) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, self._driver_error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise StorageFailure(f"{message}: {' '.join(str(cause).split())}") from error

    @property
    def _driver_error(self) -> type[Exception]:
        error: type[Exception] = self._sql_engine.dialect.loaded_dbapi.Error
        return error

    @cached_property
    def _update_book(self) -> RowUpdate:
        return RowUpdate(self._books, self._sql_engine.dialect)

    @cached_property
    def _update_flow(self) -> RowUpdate:
        return RowUpdate(self._flows, self._sql_engine.dialect)

    @cached_property
    def _update_atom(self) -> RowUpdate:
        return RowUpdate(self._atoms, self._sql_engine.dialect)


class FastBackend(SQLAlchemyBackend):  # type: ignore[misc]
    """TaskFlow's SQL backend with one connection object: each new one would compile every statement anew.

    lost: why the run that uses it has to end, because its lock is not its own any more; else empty.
    """

    lost = ""

    def __init__(self, autocommit: sa.Engine, isolation_level: str) -> None:
        super().__init__({}, autocommit.execution_options(isolation_level=isolation_level))
        self.autocommit = autocommit
        self._connection = FastConnection(self)

    def get_connection(self) -> Connection:
        """The connection object, which all threads share: each of its calls takes one from the pool."""
        if self.lost:
            raise StorageFailure(self.lost)
        return self._connection

    def close(self) -> None:
        """Close the connections of the pool."""
        self.engine.dispose()


def _row(item: Any, **more: Any) -> dict[str, Any]:
    """The columns of an item; its name without what PostgreSQL takes in no text."""
    name = item.name.replace("\0", "?").encode(errors="replace").decode()
    return {**item.to_dict(), "name": name, **more}


def _atom_row(atom: AtomDetail, flow: FlowDetail) -> dict[str, Any]:
    return _row(atom, parent_uuid=flow.uuid, atom_type=atom_detail_type(atom))


def _atom_of_row(row: dict[str, Any]) -> AtomDetail:
    atom_class = atom_detail_class(row.pop("atom_type"))
    atom: AtomDetail = atom_class.from_dict(row)
    return atom


def _widen_charset(connection: sa.Connection, table: sa.Table) -> None:
    """Let the names in a table of MySQL's be of any characters."""
    columns = sa.table(
        "columns",
        *map(sa.column, ("table_schema", "table_name", "column_name", "character_set_name")),
        schema="information_schema",
    )
    found = connection.scalar(
        sa.select(columns.c.character_set_name).where(
            columns.c.table_schema == sa.func.database(),
            columns.c.table_name == table.name,
            columns.c.column_name == "name",
        )
    )
    if found != _MYSQL_CHARSET:
        connection.exec_driver_sql(
            f"ALTER TABLE {table.name} MODIFY name VARCHAR({NAME_MAX_LENGTH}) CHARACTER SET {_MYSQL_CHARSET}"
        )

"""The update of one row without SQLAlchemy's execution, which takes longer than the driver takes to run it.

SQLAlchemy compiles the statement once; text and values then go to the driver as they are. For that it takes
`SQLCompiler.positiontup` and `.binds`, and `TypeEngine.dialect_impl` and `.bind_processor`: what SQLAlchemy's own
execution uses, and has no public way around. `tests/unit/test_private_parts.py` fails when a release of SQLAlchemy
does not have them any more.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from oslo_utils import timeutils

# The columns of a row that are written once.
_FIXED = ("uuid", "parent_uuid", "name", "atom_type", "created_at")


class RowUpdate:
    """The update of a row of a table by its uuid.

    text: the statement in the words of the driver.
    """

    def __init__(self, table: sa.Table, dialect: sa.Dialect) -> None:
        values: dict[str, Any] = {
            column.name: sa.bindparam(column.name) for column in table.c if column.name not in _FIXED
        }
        statement: Any = table.update().where(table.c.uuid == sa.bindparam("key")).values(values)
        compiled = statement.compile(dialect=dialect)
        self.text = str(compiled)
        self._order = compiled.positiontup
        self._process = {
            name: bind.type.dialect_impl(dialect).bind_processor(dialect)
            for name, bind in compiled.binds.items()
        }

    def values(self, item: Any) -> Any:
        """The values of an item for the text: a mapping, or a sequence where the driver numbers them."""
        row = {"updated_at": timeutils.utcnow(), **item.to_dict(), "key": item.uuid}
        values = {
            name: process(row[name]) if process else row[name] for name, process in self._process.items()
        }
        return tuple(values[name] for name in self._order) if self._order else values

"""MySQLdb in place of PyMySQL, where the distribution has it for the Python that runs the services.

It parses in C what the database answers; with PyMySQL that is every sixth second of the services' CPU. PyPI has
it only as a source that needs a compiler and MariaDB's headers.
"""

from __future__ import annotations

import sys

PACKAGES = "/usr/lib/python3/dist-packages"


def use_compiled() -> None:
    """Have SQLAlchemy take MySQLdb for the addresses that name PyMySQL, if it can be loaded."""
    sys.path.append(PACKAGES)
    try:
        import MySQLdb  # noqa: F401
    except ImportError:  # it is not there, or was made for another Python
        return
    finally:
        sys.path.remove(PACKAGES)
    from sqlalchemy.dialects import registry

    registry.register("mysql.pymysql", "sqlalchemy.dialects.mysql.mysqldb", "MySQLDialect_mysqldb")

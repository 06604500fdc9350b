"""MySQLdb in place of PyMySQL, where the distribution has it for the Python that runs the services.

It parses in C what the database answers; with PyMySQL that is every sixth second of the services' CPU. PyPI has
it only as a source that needs a compiler and MariaDB's headers.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

from sqlalchemy.dialects import registry

PACKAGES = "/usr/lib/python3/dist-packages"


def use_compiled() -> None:
    """Have SQLAlchemy take MySQLdb for the addresses that name PyMySQL, if it can be loaded."""
    spec = PathFinder.find_spec("MySQLdb", [PACKAGES])
    if spec is None or spec.loader is None:
        return
    module = sys.modules["MySQLdb"] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError:  # it was made for another Python
        del sys.modules["MySQLdb"]
        return
    registry.register("mysql.pymysql", "sqlalchemy.dialects.mysql.mysqldb", "MySQLDialect_mysqldb")

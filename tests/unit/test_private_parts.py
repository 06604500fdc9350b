"""The private parts of other libraries that pumphouse replaces or calls: each is still there, and no other is used."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest
import sqlalchemy
import taskflow.version
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine
from taskflow.persistence.backends import impl_dir

import pumphouse.run
import pumphouse.store
from pumphouse.store import sql_update, taskflow_private

TASKFLOW = f"TaskFlow {taskflow.version.version_string()}"
SQLALCHEMY = f"SQLAlchemy {sqlalchemy.__version__}"
USED = [
    (TASKFLOW, taskflow_private, impl_dir.Connection, "_write_to"),
    (TASKFLOW, taskflow_private, impl_dir.Connection, "_read_from"),
    (SQLALCHEMY, sql_update, SQLCompiler, "positiontup"),
    (SQLALCHEMY, sql_update, SQLCompiler, "binds"),
    (SQLALCHEMY, sql_update, TypeEngine, "dialect_impl"),
    (SQLALCHEMY, sql_update, TypeEngine, "bind_processor"),
]
# Python's own Protocol and ABC keep notes in their classes.
OWN = ("pumphouse.", "typing", "abc")
MODULES = [
    importlib.import_module(f"{package.__name__}.{found.name}")
    for package in (pumphouse.run, pumphouse.store)
    for found in pkgutil.iter_modules(package.__path__)
    if found.name != "zookeeper" or importlib.util.find_spec("kazoo")
]


@pytest.mark.parametrize(
    ("release", "ours", "owner", "name"), USED, ids=lambda value: getattr(value, "__name__", value)
)
def test_it_is_still_there(release: str, ours: ModuleType, owner: type, name: str) -> None:
    assert hasattr(owner, name) or name in owner.__annotations__, (
        f"{release} has no {owner.__name__}.{name} any more, which {ours.__name__} needs: "
        "see in its docstring what for, and find another way"
    )


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def overridden(module: ModuleType) -> Iterator[str]:
    """The private names of other libraries' classes that the classes of a module define anew."""
    for _, found in inspect.getmembers(module, inspect.isclass):
        if found.__module__ != module.__name__:
            continue
        foreign = [base for base in found.__mro__ if not base.__module__.startswith(OWN)]
        for name in filter(is_private, vars(found)):
            if any(name in vars(base) for base in foreign) and name != "_abc_impl":
                yield f"{found.__name__}.{name}"


def defined(tree: ast.Module) -> Iterator[str]:
    """The names that a module defines, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def used(module: ModuleType) -> set[str]:
    """The private attributes that a module uses and does not define."""
    tree = ast.parse(inspect.getsource(module))
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return set(filter(is_private, attributes)) - set(defined(tree))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_no_others_are_used(module: ModuleType) -> None:
    known = {
        f"{inside.__name__}.{name}"
        for _, ours, _, name in USED
        for _, inside in inspect.getmembers(ours, inspect.isclass)
    }
    assert set(overridden(module)) <= (known if module is taskflow_private else set())
    assert used(module) == set()

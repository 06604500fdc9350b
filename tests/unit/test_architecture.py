"""Who may import whom: the direction of the data, as the README draws it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pumphouse"
MODULES = {
    str(path.relative_to(PACKAGE.parent).with_suffix("")).replace("/", "."): path
    for path in PACKAGE.rglob("*.py")
}
KIND_NAMES = {
    name for name, path in MODULES.items() if path.parent.name == "tasks" and "\nNAME = " in path.read_text()
}
# Each line may import the lines before it; nothing imports what comes later.
LAYERS = [
    {"pumphouse"},
    {"errors"},
    {"model", "batch", "yamlfile"},
    {"wait", "transfer", "transport", "config", "config_schema", "state_url"},
    {"credentials", "loans"},
    {"tenancy"},
    {"cloud"},
    {"rights"},
    {"check", "tasks", "selection"},
    {"plan", "tenants", "flows", "store", "lock", "verify"},
    {"planfile"},
    {"outcomes"},
    {"runs"},
    {"engine"},
    {"run", "resume"},
    {"revert"},
    {"report"},
    {"history", "progress"},
    {"cli"},
    {"__main__"},
]
# What may be named in annotations only is not imported when the program runs.
TASKFLOW_ALLOWED = {
    f"pumphouse.{name}"
    for name in ("flows", "store", "lock", "outcomes", "runs", "engine", "run", "resume", "revert", "history")
}


def runtime_imports(path: Path) -> Iterator[str]:
    """The modules that a file imports when it runs, at any depth, annotations left out."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in full)


def layer(module: str) -> int:
    part = module.removeprefix("pumphouse.").partition(".")[0]
    return next(number for number, names in enumerate(LAYERS) if part in names)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nothing_later_is_imported(module: str) -> None:
    name = module.removesuffix(".__init__")
    ours = {imported for imported in runtime_imports(MODULES[module]) if imported.startswith("pumphouse")}
    assert [imported for imported in ours if layer(imported) > layer(name)] == []


@pytest.mark.parametrize("module", sorted(KIND_NAMES))
def test_a_kind_never_imports_another(module: str) -> None:
    assert set(runtime_imports(MODULES[module])) & (KIND_NAMES - {module}) == set()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_taskflow_is_imported_only_where_flows_are_made(module: str) -> None:
    if module in TASKFLOW_ALLOWED or module.startswith(("pumphouse.tasks.", "pumphouse.store.")):
        return
    assert [name for name in runtime_imports(MODULES[module]) if name.startswith("taskflow")] == []

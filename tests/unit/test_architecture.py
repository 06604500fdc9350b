"""Who may import whom: the floor plan in docs/architecture.md, held against the imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pumphouse"
MODULES = {
    str(path.relative_to(ROOT).with_suffix("")).replace("/", "."): path for path in PACKAGE.rglob("*.py")
}
FLOOR_PLAN, SERVICE_PLAN = (
    [line.split() for line in block.strip().splitlines()]
    for block in (ROOT / "docs" / "architecture.md").read_text().split("```")[1::2]
    if block.startswith("text\n")
    for block in [block.removeprefix("text\n")]
)
ROOMS = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
FLOORS = {room: int(number) for number, *words in FLOOR_PLAN for room in words if room in ROOMS}
SERVICES = {service: set(below) for service, *below in SERVICE_PLAN}
KIND_MODULES = {name for name, path in MODULES.items() if "\nKIND = Kind(" in path.read_text()}
TASKFLOW_ROOMS = {"tasks", "flows", "run", "store"}


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


def room(module: str) -> str:
    return module.removeprefix("pumphouse.").partition(".")[0]


def service(module: str) -> str:
    """The service of a module of tasks; empty for what all share."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["pumphouse", "tasks"] and len(parts) > 3 else ""


def test_the_floor_plan_has_every_room() -> None:
    assert FLOORS.keys() == ROOMS - {"__init__"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_room_imports_only_rooms_below_it(module: str) -> None:
    own = room(module)
    ours = {room(name) for name in runtime_imports(MODULES[module]) if name.startswith("pumphouse.")} - {own}
    floor = FLOORS.get(own, -1)
    assert {other for other in ours if FLOORS[other] >= floor} == set()


@pytest.mark.parametrize("module", sorted(name for name in MODULES if service(name)))
def test_a_service_imports_only_services_below_it(module: str) -> None:
    others = {service(name) for name in runtime_imports(MODULES[module])} - {"", service(module)}
    assert others <= SERVICES[service(module)]


@pytest.mark.parametrize("module", sorted(KIND_MODULES))
def test_a_kind_never_imports_another(module: str) -> None:
    assert set(runtime_imports(MODULES[module])) & (KIND_MODULES - {module}) == set()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_taskflow_is_imported_only_where_flows_are_made(module: str) -> None:
    if room(module) not in TASKFLOW_ROOMS:
        assert [name for name in runtime_imports(MODULES[module]) if name.startswith("taskflow")] == []


def test_verify_has_nothing_from_those_who_move() -> None:
    """It reads with the clients of clouds and knows addresses; what it expects is its own."""
    allowed = {"pumphouse.cloud", "pumphouse.errors", "pumphouse.model", "pumphouse.verify"}
    for module in (name for name in MODULES if room(name) == "verify"):
        ours = {name for name in runtime_imports(MODULES[module]) if name.startswith("pumphouse.")}
        assert {name for name in ours if ".".join(name.split(".")[:2]) not in allowed} == set()

"""A kind that is one module and one line takes part in all that a migration does: see tests/toy."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import Lab
from lab.sample.base import connect, delete, get, post
from pumphouse.config.settings import load
from pumphouse.model import Action, Ref, Selection
from pumphouse.plan.lookup import find_owner
from pumphouse.plan.make import make_plan
from pumphouse.tasks import KINDS
from tests.faults.driver import KILLED, Nursery, Operator
from tests.real import by_hand
from tests.real.conftest import discard
from tests.toy.namespace import KIND, NOT_COMPARED

FORM = {"display_name": "Rack", "description": "Where it stands"}
# Few enough for a kill in the middle of each namespace, and more than one.
TRANSITIONS = 3


@dataclass(frozen=True)
class Toys:
    """A tenant with nothing but two namespaces in it.

    names: of the namespaces.
    """

    lab: Lab
    tenant: str
    tenant_id: str
    names: tuple[str, str]

    def there(self) -> set[str]:
        """What has come to the destination."""
        found = get(connect(self.lab.clouds_yaml, "destination").image, "/metadefs/namespaces")["namespaces"]
        return {item["namespace"] for item in found if item["namespace"].startswith(self.tenant)}


@pytest.fixture
def toys(lab: Lab) -> Iterator[Toys]:
    tenant = f"toy-{uuid.uuid4().hex[:6]}"
    names = (f"{tenant}.one", f"{tenant}.two")
    source = connect(lab.clouds_yaml, "source")
    project = {"name": tenant, "domain_id": "default"}
    tenant_id = post(source.identity, "/projects", project=project)["project"]["id"]
    for name in names:
        post(source.image, "/metadefs/namespaces", namespace=name, owner=tenant_id, **FORM)
    yield Toys(lab, tenant, tenant_id, names)
    for cloud in (source, connect(lab.clouds_yaml, "destination")):
        left = get(cloud.image, "/metadefs/namespaces")["namespaces"]
        delete(
            cloud.image,
            "metadefs/namespaces",
            [item["namespace"] for item in left if item["namespace"].startswith(tenant)],
        )
    discard(lab, tenant)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery("tests.toy.commands") as nursery:
        yield nursery


@pytest.fixture
def operator(lab: Lab, nursery: Nursery, tmp_path: Path) -> Operator:
    """Somebody whose pumphouse has one kind more."""
    return Operator(nursery, lab, tmp_path, {})


def json(operator: Operator, *arguments: str) -> Any:
    return operator.run(*arguments, "-f", "json").expect(0).json


def outcomes(report: Any) -> dict[str, str]:
    """What became of each namespace."""
    return {item["name"]: item["outcome"] for item in report["resources"] if item["kind"] == KIND.name}


def of_kind(plan: Any) -> dict[str, Any]:
    """The steps of the namespaces in a plan."""
    found = [step for unit in plan["units"] for step in unit["steps"] if step["kind"] == KIND.name]
    return {step["id"]: step for step in found}


def test_its_plan_is_a_file_that_is_edited_and_run_and_reverted(
    toys: Toys, operator: Operator, tmp_path: Path
) -> None:
    one, two = toys.names
    path = tmp_path / "plan.yaml"
    operator.run("plan", "tenant", toys.tenant, "-o", str(path)).expect(0)
    shown = operator.run("plan", "show", "--tasks", str(path)).expect(0).stdout
    tasks = [f"{verb} namespace {name}\n" for name in (one, two) for verb in ("read", "create")]
    assert all(f". {task}" in shown for task in tasks)

    plan = yaml.safe_load(path.read_text())
    lines = {line["id"]: line for line in plan["resources"] if line["kind"] == KIND.name}
    lines[one]["name"] = f"{one}.renamed"
    plan["resources"].remove(lines[two])
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    moved = json(operator, "migrate", "--plan", str(path), "--yes")
    assert outcomes(moved) == {f"{one}.renamed": "created", two: "skipped"}
    assert toys.there() == {f"{one}.renamed"}

    undone = json(operator, "revert", "last", "--yes")
    assert outcomes(undone) == {f"{one}.renamed": "reverted"}
    assert toys.there() == set()


def test_its_run_is_killed_and_resumed_verified_and_reverted(toys: Toys, operator: Operator) -> None:
    ended, kills = operator.run("migrate", "tenant", toys.tenant, "--yes", transitions=TRANSITIONS), 0
    while ended.code == KILLED:
        kills += 1
        ended = operator.run("resume", "last", "--yes", transitions=TRANSITIONS)
    ended.expect(0)
    assert kills > 1
    assert toys.there() == set(toys.names)
    assert outcomes(json(operator, "runs", "show", "last")) == dict.fromkeys(toys.names, "created")

    again = json(operator, "migrate", "tenant", toys.tenant, "--yes")
    assert outcomes(again) == dict.fromkeys(toys.names, "reused")
    assert again["run"] is None
    verified = json(operator, "verify", "tenant", toys.tenant)
    assert verified["equal"]
    assert verified["not_compared"][KIND.name] == {"all of it": NOT_COMPARED}

    assert outcomes(json(operator, "revert", "last", "--yes")) == dict.fromkeys(toys.names, "reverted")
    assert toys.there() == set()


def test_it_is_selected_and_skipped(toys: Toys, operator: Operator) -> None:
    only = json(operator, "plan", "tenant", toys.tenant, "--only", KIND.name)
    assert of_kind(only).keys() == set(toys.names)
    without = json(operator, "plan", "tenant", toys.tenant, "--skip", KIND.name)
    assert of_kind(without) == {}
    assert "2 resources of the tenant are not selected" in without["notes"]


def test_one_of_it_is_selected_by_its_name(
    toys: Toys, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, KIND.name, KIND)
    one, _ = toys.names
    clouds = by_hand.connect(toys.lab)
    found = find_owner(clouds.source, KIND.name, one)
    assert found.tenant_id == toys.tenant_id
    config = load(operator.folder / "pumphouse.yaml")
    named = Selection(names=((KIND.name, found.name),))
    with ThreadPoolExecutor() as pool:
        plan = make_plan(clouds.source, clouds.destination, toys.tenant_id, config, pool, selection=named)
    planned = {step.ref: step.action for step in plan.steps() if step.ref.kind == KIND.name}
    assert planned == {Ref(KIND.name, one): Action.CREATE}

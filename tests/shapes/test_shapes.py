"""A tenant moves between clouds of every shape that operators have, or it is said what does not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from lab import Lab
from lab.populate import Sample
from tests.real.listing import NOTHING, changes, listing
from tests.real.runner import Runner
from tests.shapes.conftest import Operator
from tests.shapes.shapes import ADDRESSES, CAPPED, LACKS, POLICIES, Shape, both, destination
from tests.shapes.traits import Limits, Zone

PAGES = "pages of two items"
MIGRATED = {**ADDRESSES, **LACKS, **POLICIES, **CAPPED}


def _wherever(name: str) -> object:
    # Every list in pages is more requests than all other shapes together.
    return pytest.param(ADDRESSES[name], marks=pytest.mark.exhaustive if name == PAGES else ())


def planned(plan: Any) -> Counter[str]:
    """How many steps a plan has of each kind that make something, or take what is there."""
    steps = [step for unit in plan["units"] for step in unit["steps"]]
    return Counter(step["kind"] for step in steps if step["action"] in ("create", "reuse"))


def is_noted(wanted: str, notes: list[str]) -> bool:
    return any(wanted in note for note in notes)


@pytest.fixture(scope="session")
def whole(lab: Lab, tenant: Sample, tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """What the plan between clouds without oddities has."""
    return planned(
        Runner(lab, tmp_path_factory.mktemp("plain")).json("migrate", "tenant", tenant.name, "--dry-run")
    )


@pytest.mark.parametrize("shape", map(_wherever, ADDRESSES), ids=[*ADDRESSES])
def test_all_is_found_wherever_the_services_are(
    operator: Operator, tenant: Sample, whole: Counter[str], shape: Shape
) -> None:
    operator.sees(shape)
    assert planned(operator.json("migrate", "tenant", tenant.name, "--dry-run")) == whole


@pytest.mark.parametrize("shape", [*LACKS.values()], ids=[*LACKS])
def test_what_a_cloud_lacks_is_left_out_of_the_plan(
    operator: Operator, tenant: Sample, whole: Counter[str], shape: Shape
) -> None:
    operator.sees(shape)
    plan = operator.json("migrate", "tenant", tenant.name, "--dry-run")
    assert [note for note in shape.notes if not is_noted(note, plan["notes"])] == []
    found = planned(plan)
    assert [kind for kind in shape.absent if found[kind]] == []
    assert found["tenant"] == found["user"] == whole["user"]


def test_quotas_without_a_limit_are_no_quotas(
    operator: Operator, tenant: Sample, whole: Counter[str]
) -> None:
    operator.sees(Shape(both(Limits(-1))))
    found = planned(operator.json("migrate", "tenant", tenant.name, "--dry-run"))
    assert found == Counter({kind: count for kind, count in whole.items() if kind != "quota"})


def test_quotas_of_nothing_are_conflicts_before_anything_is_made(operator: Operator, tenant: Sample) -> None:
    operator.sees(Shape({"source": [Limits(-1)], "destination": [Limits(0)]}))
    plan = operator.json("migrate", "tenant", tenant.name, "--dry-run")
    steps = [step for unit in plan["units"] for step in unit["steps"] if step["action"] == "conflict"]
    assert {"network", "port", "security_group", "volume"} <= {step["kind"] for step in steps}
    assert [step["reason"] for step in steps if "at the destination is 0" not in step["reason"]] == []


@pytest.mark.exhaustive
def test_a_zone_of_another_name_is_noted(operator: Operator, tenant: Sample) -> None:
    operator.sees(Shape(destination(Zone("zone-1"))))
    plan = operator.json("migrate", "tenant", tenant.name, "--dry-run")
    steps = [step for unit in plan["units"] for step in unit["steps"] if step["kind"] == "volume"]
    assert steps
    assert [step for step in steps if not is_noted("zone", step.get("notes", []))] == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("shape", [*MIGRATED.values()], ids=[*MIGRATED])
def test_what_can_arrive_does_and_nothing_is_left_of_a_run_that_is_undone(
    lab: Lab, operator: Operator, tenant: Sample, shape: Shape
) -> None:
    before = listing(lab.clouds_yaml, "destination")
    operator.sees(shape)
    result = operator.json("migrate", "tenant", tenant.name, "--yes", exit_code=shape.exit_code)
    failed = {item["kind"] for item in result["resources"] if item["outcome"] == "failed"}
    assert failed == set(shape.failed)
    arrived = Counter(item["kind"] for item in result["resources"] if item["outcome"] == "created")
    operator.run("verify", "tenant", tenant.name, exit_code=shape.verified)
    again = operator.json("migrate", "tenant", tenant.name, "--yes", exit_code=shape.exit_code)
    assert [item for item in again["resources"] if item["outcome"] == "created"] == []
    operator.run("revert", "last", "--yes", exit_code=0)
    assert changes(before, listing(lab.clouds_yaml, "destination")) == NOTHING
    assert arrived

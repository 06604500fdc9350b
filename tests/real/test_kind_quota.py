"""Quotas between two real clouds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from pumphouse.cloud import call
from pumphouse.model import Action, Json, Ref
from pumphouse.tasks import quota
from pumphouse.tasks.base import STAMP
from pumphouse.tasks.keystone import domain, tenant
from pumphouse.tasks.quota import SERVICES
from tests.real.by_hand import ByHand, connect
from tests.real.runner import Runner

pytestmark = pytest.mark.exhaustive

LIMITS = {
    "compute": {"instances": 17, "ram": 4711, "cores": -1, "metadata_items": 5},
    "volume": {"gigabytes": 333, "volumes_standard": 12},
    "network": {"port": 55, "security_group_rule": 222},
}
SET = {**LIMITS, "compute": {"instances": 17, "ram": 4711, "metadata_items": 5}}


@pytest.fixture
def world(lab: Any) -> Iterator[SimpleNamespace]:
    clouds, tag = connect(lab), f"quota-{uuid4().hex[:8]}"
    project = clouds.source.keystone.projects.create(tag, "default")
    for name, limits in LIMITS.items():
        SERVICES[name].set(clouds.source, project.id, limits)
    found = SimpleNamespace(
        source=clouds.source, destination=clouds.destination, tenant_id=project.id, tag=tag
    )
    yield found
    for cloud in (found.source, found.destination):
        for left in (p for p in cloud.keystone.projects.list() if p.name == tag):
            for service in SERVICES.values():
                service.reset(cloud, left.id)
            cloud.keystone.projects.delete(left)


def by_hand(world: SimpleNamespace, **mappings: Json) -> ByHand:
    kinds = (domain, tenant, quota)
    return ByHand(world.source, world.destination, world.tenant_id, kinds, mappings=mappings)


def limits(world: SimpleNamespace, tenant_id: str) -> dict[str, Json]:
    """The limits of a tenant of the destination that are not defaults."""
    return {name: quota._read(world.destination, tenant_id, name)["limits"] for name in SERVICES}


def twin(world: SimpleNamespace) -> str:
    return next(str(p.id) for p in world.destination.keystone.projects.list() if p.name == world.tag)


def of_quotas(steps: dict[Ref, Any]) -> list[Any]:
    return [step for ref, step in steps.items() if ref.kind == "quota"]


def test_limits_arrive_and_a_second_time_change_nothing(world: SimpleNamespace) -> None:
    found = by_hand(world)
    first = found.steps()
    results = found.run(first)
    assert limits(world, twin(world)) == SET
    assert {step.record.name for step in of_quotas(first)} == set(SERVICES)
    before = results[f"quota-{world.tenant_id}.compute-ensured"]["before"]
    assert before == {"instances": -1, "ram": -1, "metadata_items": 128}
    assert {step.action for step in of_quotas(found.steps())} == {Action.REUSE}
    found.run(first)
    assert limits(world, twin(world)) == SET


def test_a_failure_leaves_no_limits_behind(world: SimpleNamespace) -> None:
    found = by_hand(world)
    with pytest.raises(RuntimeError, match="on purpose"):
        found.run(found.steps(), fail=True)
    assert [p for p in world.destination.keystone.projects.list() if p.name == world.tag] == []


def test_what_somebody_has_set_is_left_and_what_was_before_comes_back(world: SimpleNamespace) -> None:
    found = by_hand(world)
    found.run({ref: step for ref, step in found.steps().items() if ref.kind != "quota"})
    set_before = {"ram": 99999}
    SERVICES["compute"].set(world.destination, twin(world), set_before)
    steps = found.steps()
    (step,) = [step for step in of_quotas(steps) if step.record.name == "compute"]
    assert (step.action, step.reason.split(": ")[-1]) == (Action.CREATE, "instances, metadata_items not set")
    with pytest.raises(RuntimeError, match="on purpose"):
        found.run(steps, fail=True)
    assert limits(world, twin(world)) == {"compute": set_before, "volume": {}, "network": {}}
    found.run(found.steps())
    assert limits(world, twin(world))["compute"] == {**SET["compute"], **set_before}
    (step,) = [step for step in of_quotas(found.steps()) if step.record.name == "compute"]
    assert (step.action, step.notes) == (Action.REUSE, ("differs: ram is 99999, source has 4711",))


def test_a_limit_that_the_destination_does_not_know_is_a_note(world: SimpleNamespace) -> None:
    found = by_hand(world, volume_types={"standard": "other"})
    results = found.run(found.steps())
    notes = results[f"quota-{world.tenant_id}.volume-ensured"]["notes"]
    assert notes == ["volumes_other=12 is not carried: the destination has no such quota"]
    assert limits(world, twin(world))["volume"] == {"gigabytes": 333}


@pytest.fixture
def networks(world: SimpleNamespace) -> Iterator[list[str]]:
    """Two networks of the tenant, where the limit is one."""
    neutron = world.source.neutron
    bodies = [{"name": f"net-{n}", "project_id": world.tenant_id} for n in range(2)]
    made = call(neutron, "POST", "/networks", {"networks": bodies})["networks"]
    SERVICES["network"].set(world.source, world.tenant_id, {"network": 1})
    yield [network["id"] for network in made]
    for network in made:
        call(neutron, "DELETE", f"/networks/{network['id']}")
    for project in (p for p in world.destination.keystone.projects.list() if p.name == world.tag):
        for item in call(world.destination.neutron, "GET", f"/networks?project_id={project.id}")["networks"]:
            call(world.destination.neutron, "DELETE", f"/networks/{item['id']}")


@pytest.mark.usefixtures("networks")
def test_a_tenant_with_more_than_its_limit_arrives_and_has_its_limit(
    lab: Any, world: SimpleNamespace, tmp_path: Path
) -> None:
    runner = Runner(lab, tmp_path)
    first = runner.json("migrate", "tenant", world.tenant_id, "--yes")
    assert first["summary"]["created"] >= 6
    assert limits(world, twin(world)) == {**SET, "network": {**SET["network"], "network": 1}}
    there = call(world.destination.neutron, "GET", f"/networks?project_id={twin(world)}")["networks"]
    assert {item["name"] for item in there} == {"net-0", "net-1"}
    again = runner.json("migrate", "tenant", world.tenant_id, "--yes")
    assert again["summary"].get("created", 0) == 0
    call(world.destination.neutron, "DELETE", f"/networks/{there[0]['id']}")
    third = runner.json("migrate", "tenant", world.tenant_id, "--yes")
    assert {item["kind"] for item in third["resources"] if item["outcome"] == "created"} == {
        "network",
        "quota",
    }
    assert limits(world, twin(world))["network"]["network"] == 1
    for run in (third, again, first):
        runner.run("revert", run["run"], "--yes", exit_code=0)
    assert [p for p in world.destination.keystone.projects.list() if p.name == world.tag] == []


def test_what_the_destinations_limit_refuses_is_a_conflict_of_the_plan(
    lab: Any, world: SimpleNamespace, networks: list[str], tmp_path: Path
) -> None:
    made = world.destination.keystone.projects.create(world.tag, "default", **{STAMP: world.tenant_id})
    SERVICES["network"].set(world.destination, made.id, {"network": 0, "port": 0})
    plan = Runner(lab, tmp_path).json("migrate", "tenant", world.tenant_id, "--dry-run")
    steps = {step["id"]: step for unit in plan["units"] for step in unit["steps"]}
    assert {steps[i]["action"] for i in networks} == {"conflict"}
    assert steps[networks[0]]["reason"].startswith(
        "the tenant's limit of network at the destination is 0, of which 0 are in use, and the plan needs 2 more"
    )
    assert plan["summary"]["conflict"] == 2

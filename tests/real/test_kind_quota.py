"""Quotas between two real clouds."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from pumphouse.model import Action, Json, Ref
from pumphouse.tasks import quota
from pumphouse.tasks.keystone import domain, tenant
from pumphouse.tasks.quota import SERVICES
from tests.real.by_hand import ByHand, connect

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
    return {name: quota._limits(world.destination, tenant_id, name) for name in SERVICES}


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

"""Server groups between two real Novas."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from pumphouse.cloud import Cloud, call
from pumphouse.model import Action, Json, Ref
from pumphouse.tasks.keystone import domain, tenant
from pumphouse.tasks.nova import server_group
from pumphouse.tasks.nova.common import list_server_groups
from tests.real.by_hand import ByHand, connect

GROUPS: list[Json] = [
    {"name": 'süd & "west"', "policy": "anti-affinity", "rules": {"max_server_per_host": 3}},
    {"name": "near", "policy": "soft-affinity"},
    {"name": "twice", "policy": "affinity"},
    {"name": "twice", "policy": "affinity"},
]


@pytest.fixture
def world(lab: Any) -> Iterator[SimpleNamespace]:
    clouds, tag = connect(lab), f"groups-{uuid4().hex[:8]}"
    project = clouds.source.keystone.projects.create(tag, "default")
    with clouds.source.in_tenant(project.id) as cloud:
        for group in GROUPS:
            call(cloud.adapter("compute"), "POST", "/os-server-groups", {"server_group": group})
    yield SimpleNamespace(source=clouds.source, destination=clouds.destination, tenant_id=project.id, tag=tag)
    for cloud in (clouds.source, clouds.destination):
        for left in (p for p in cloud.keystone.projects.list() if p.name == tag):
            for group in groups(cloud, left.id):
                call(cloud.adapter("compute"), "DELETE", f"/os-server-groups/{group['id']}")
            cloud.keystone.projects.delete(left)


def groups(cloud: Cloud, tenant_id: str) -> list[Json]:
    found = [server_group._data(g) for g in list_server_groups(cloud) if g["project_id"] == tenant_id]
    return sorted(found, key=lambda group: str((group["name"], group["policy"])))


def twin(world: SimpleNamespace) -> str:
    return next(str(p.id) for p in world.destination.keystone.projects.list() if p.name == world.tag)


def carry(world: SimpleNamespace) -> ByHand:
    return ByHand(world.source, world.destination, world.tenant_id, (domain, tenant, server_group))


def of_groups(steps: dict[Ref, Any]) -> list[Any]:
    return [step for ref, step in steps.items() if ref.kind == "server_group"]


def test_every_field_arrives_and_a_second_time_makes_nothing(world: SimpleNamespace) -> None:
    by_hand = carry(world)
    first = by_hand.steps()
    by_hand.run(first)
    found = groups(world.destination, twin(world))
    assert len(found) == len(GROUPS)
    south = next(group for group in found if group["name"] == GROUPS[0]["name"])
    assert (south["policy"], south["rules"]) == ("anti-affinity", {"max_server_per_host": 3})
    assert sorted(group["policy"] for group in found) == sorted(group["policy"] for group in GROUPS)
    (renamed,) = [step for step in of_groups(first) if step.notes]
    assert renamed.name == f"twice-{renamed.ref.id[:8]}"
    assert renamed.name in [group["name"] for group in found]
    assert {step.action for step in of_groups(by_hand.steps())} == {Action.REUSE}
    by_hand.run(first)
    assert groups(world.destination, twin(world)) == found


@pytest.mark.exhaustive
def test_a_failure_takes_back_all(world: SimpleNamespace) -> None:
    before = len(list_server_groups(world.destination))
    by_hand = carry(world)
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    assert len(list_server_groups(world.destination)) == before


@pytest.mark.exhaustive
def test_another_policy_under_the_same_name_is_a_conflict(world: SimpleNamespace) -> None:
    by_hand = carry(world)
    by_hand.run({ref: step for ref, step in by_hand.steps().items() if ref.kind != "server_group"})
    with world.destination.in_tenant(twin(world)) as cloud:
        other = {"name": "near", "policy": "affinity"}
        call(cloud.adapter("compute"), "POST", "/os-server-groups", {"server_group": other})
    (step,) = [step for step in of_groups(by_hand.steps()) if step.record.name == "near"]
    assert step.action is Action.CONFLICT
    assert "policy is 'affinity', source has 'soft-affinity'" in step.reason

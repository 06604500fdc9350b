"""Groups, their members and their roles between two real Keystones."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from pumphouse.cloud import Cloud
from pumphouse.model import Action, Ref
from pumphouse.tasks.base import ensured_id
from pumphouse.tasks.keystone import assignment, domain, group, membership, role, tenant, user
from pumphouse.tasks.keystone.common import INHERITED_TO
from tests.real.by_hand import ByHand, connect

KINDS = (domain, role, tenant, user, group, membership, assignment)


@pytest.fixture
def world(lab: Any) -> Iterator[SimpleNamespace]:
    """A tenant with no users of its own but those of two groups, in a domain of its own on each side."""
    clouds, tag = connect(lab), f"groups-{uuid4().hex[:8]}"
    keystone = clouds.source.keystone
    home = keystone.domains.create(f"old-{tag}")
    new = clouds.destination.keystone.domains.create(f"new-{tag}")
    project = keystone.projects.create(tag, home)
    roles = {item.name: item for item in keystone.roles.list()}
    users = {name: keystone.users.create(f"{name}-{tag}", home) for name in ("ann", "ben", "zoe")}
    groups = {
        name: keystone.groups.create(f"{name}-{tag}", home, description=f"die {name}")
        for name in ("öps", "audit", "bosses")
    }
    for user_name, group_name in (("ann", "öps"), ("ben", "öps"), ("ben", "audit"), ("zoe", "bosses")):
        keystone.users.add_to_group(users[user_name], groups[group_name])
    keystone.users.add_to_group(clouds.source.user_id, groups["öps"])
    keystone.roles.grant(roles["member"], group=groups["öps"], project=project)
    below = {"os_inherit_extension_inherited": True}
    keystone.roles.grant(roles["reader"], group=groups["audit"], project=project, **below)
    keystone.roles.grant(roles["admin"], group=groups["bosses"], project=project)
    yield SimpleNamespace(
        source=clouds.source,
        destination=clouds.destination,
        tag=tag,
        project=project,
        users=users,
        groups=groups,
        home=new,
    )
    for cloud, found in ((clouds.source, home), (clouds.destination, new)):
        cloud.keystone.domains.update(found, enabled=False)
        cloud.keystone.domains.delete(found)


def carry(world: SimpleNamespace) -> ByHand:
    domains = {"domains": {f"old-{world.tag}": f"new-{world.tag}"}}
    found = (world.source, world.destination, world.project.id, KINDS)
    return ByHand(*found, mappings=domains)


def of_domain(cloud: Cloud, world: SimpleNamespace) -> dict[str, Any]:
    """Everything of the destination's domain, by name."""
    keystone = cloud.keystone
    groups = {item.name: item.id for item in keystone.groups.list(domain=world.home)}
    members = {name: sorted(item.name for item in keystone.users.list(group=i)) for name, i in groups.items()}
    grants = sorted(
        (item.group["name"], item.role["name"], INHERITED_TO in item.scope)
        for project in keystone.projects.list(domain=world.home)
        for item in keystone.role_assignments.list(project=project, include_names=True)
        if hasattr(item, "group")
    )
    users = sorted(item.name for item in keystone.users.list(domain=world.home))
    return {"members": members, "grants": grants, "users": users}


def test_groups_arrive_with_members_and_roles_and_a_second_time_makes_nothing(world: SimpleNamespace) -> None:
    by_hand = carry(world)
    first = by_hand.steps()
    results = by_hand.run(first)
    tag = world.tag
    expected = {
        "members": {f"öps-{tag}": [f"ann-{tag}", f"ben-{tag}"], f"audit-{tag}": [f"ben-{tag}"]},
        "grants": [(f"audit-{tag}", "reader", True), (f"öps-{tag}", "member", False)],
        "users": [f"ann-{tag}", f"ben-{tag}"],
    }
    assert of_domain(world.destination, world) == expected
    ops = world.destination.keystone.groups.get(ensured_id(results, "group", world.groups["öps"].id))
    assert ops.description == "die öps"
    again = by_hand.steps()
    assert {step.action for step in again.values()} == {Action.REUSE, Action.SKIP}
    by_hand.run(first)
    assert of_domain(world.destination, world) == expected


@pytest.mark.exhaustive
def test_a_failure_takes_back_all_but_what_was_there(world: SimpleNamespace) -> None:
    keystone = world.destination.keystone
    there = keystone.groups.create(f"audit-{world.tag}", world.home)
    before = of_domain(world.destination, world)
    by_hand = carry(world)
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    assert of_domain(world.destination, world) == before
    assert keystone.groups.get(there.id).name == f"audit-{world.tag}"


@pytest.mark.exhaustive
def test_nobody_is_put_into_a_group_that_was_there_before(world: SimpleNamespace) -> None:
    keystone = world.destination.keystone
    keystone.groups.create(f"öps-{world.tag}", world.home)
    member = keystone.users.create(f"ann-{world.tag}", world.home)
    by_hand = carry(world)
    steps = by_hand.steps()
    group_id = world.groups["öps"].id
    assert steps[Ref("group", group_id)].action is Action.REUSE
    step = steps[Ref("membership", f"{group_id}.{world.users['ann'].id}")]
    assert step.action is Action.CONFLICT
    assert step.reason.endswith(membership.BY_HAND)
    by_hand.run(steps)
    assert of_domain(world.destination, world)["members"][f"öps-{world.tag}"] == []
    keystone.users.add_to_group(member, keystone.groups.list(domain=world.home, name=f"öps-{world.tag}")[0])
    assert carry(world).steps()[step.ref].action is Action.REUSE

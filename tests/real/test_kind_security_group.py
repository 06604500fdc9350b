"""Security groups and their rules between two real Neutrons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pumphouse.cloud import Cloud, call
from pumphouse.model import Action, Json, Ref, symbol
from pumphouse.tasks.neutron import security_group
from pumphouse.tasks.neutron.common import SECURITY_GROUPS
from pumphouse.tasks.neutron.security_group import FIELDS
from pumphouse.tasks.neutron.security_rules import EnsureSecurityGroupRules, rule_key
from tests.real.neutron_world import World, decisions, everything, made, neutron_world, same

ODD_RULES: list[Json] = [
    {"protocol": "tcp", "port_range_min": 80, "port_range_max": 443, "remote_ip_prefix": "0.0.0.0/0"},
    {"protocol": "icmp", "port_range_min": 8, "port_range_max": 0, "description": "echo"},
    {"protocol": "ipv6-icmp", "ethertype": "IPv6", "port_range_min": 128},
    {"protocol": "112"},
    {"protocol": "udp", "direction": "egress", "remote_ip_prefix": "192.0.2.53/32"},
    {"ethertype": "IPv6", "remote_ip_prefix": "2001:db8::/32"},
]


@pytest.fixture
def world(lab: Any) -> Iterator[World]:
    with neutron_world(lab) as found:
        yield found


def add_rules(cloud: Cloud, group: Json, *rules: Json) -> None:
    base = {"direction": "ingress", "ethertype": "IPv4", "security_group_id": group["id"]}
    body = [{**base, "project_id": group["project_id"], **rule} for rule in rules]
    call(cloud.neutron, "POST", "/security-group-rules", {"security_group_rules": body})


def remove_rules(cloud: Cloud, group: Json) -> None:
    for rule in now(cloud, group)["security_group_rules"]:
        call(cloud.neutron, "DELETE", f"/security-group-rules/{rule['id']}")


def now(cloud: Cloud, group: Json) -> Json:
    return SECURITY_GROUPS.items(cloud, [group["id"]])[group["id"]]


def default_group(cloud: Cloud, tenant_id: str) -> Json:
    (found,) = SECURITY_GROUPS.all(cloud, project_id=tenant_id, name="default")
    return found


def rules(group: Json, names: dict[str, str]) -> set[tuple[Any, ...]]:
    """The rules with the groups by name, and with their descriptions."""
    return {
        (*rule_key({**rule, "remote_group_id": names.get(rule["remote_group_id"])}), rule["description"])
        for rule in group["security_group_rules"]
    }


def seed(world: World) -> dict[str, Json]:
    """Two groups that refer to each other, one without rules, one of all sorts, and the default one."""
    make = world.make
    groups = {
        "web": make(SECURITY_GROUPS, ["t"], name="web", description="Wéb"),
        "db": make(SECURITY_GROUPS, name="db"),
        "closed": make(SECURITY_GROUPS, name="closed"),
        "odd": make(SECURITY_GROUPS, name="odd", stateful=False),
        "default": default_group(world.source, world.tenant_id),
    }
    web, db = groups["web"]["id"], groups["db"]["id"]
    add_rules(
        world.source, groups["web"], {"remote_group_id": db}, {"remote_group_id": web, "protocol": "tcp"}
    )
    add_rules(world.source, groups["db"], {"remote_group_id": web, "description": "only web"})
    add_rules(world.source, groups["odd"], *ODD_RULES)
    add_rules(world.source, groups["default"], {"protocol": "tcp", "remote_group_id": web})
    remove_rules(world.source, groups["closed"])
    return groups


def twins(world: World, groups: dict[str, Json]) -> dict[str, Json]:
    default = default_group(world.destination, world.twin_tenant())
    return {n: default if n == "default" else world.twin(SECURITY_GROUPS, g) for n, g in groups.items()}


def test_groups_arrive_with_equal_rules_and_a_second_time_makes_nothing(world: World) -> None:
    groups = seed(world)
    by_hand = world.carry()
    first = by_hand.steps()
    by_hand.run(first)
    there = twins(world, groups)
    old_names = {group["id"]: name for name, group in groups.items()}
    new_names = {group["id"]: name for name, group in there.items()}
    for name, group in groups.items():
        wanted = now(world.source, group)
        assert same({**wanted, "tags": group.get("tags", [])}, there[name], FIELDS)
        assert rules(there[name], new_names) == rules(wanted, old_names)
    before = {group["id"]: now(world.destination, group) for group in there.values()}
    again = by_hand.steps()
    assert set(decisions(again).values()) == {Action.REUSE}
    assert {step.notes for step in again.values()} == {()}
    by_hand.run(first)
    assert {
        group["id"]: now(world.destination, group)["security_group_rules"] for group in there.values()
    } == {i: group["security_group_rules"] for i, group in before.items()}


@pytest.mark.exhaustive
def test_groups_that_refer_to_each_other_need_each_other(world: World) -> None:
    groups = seed(world)
    steps = world.carry().steps()
    needs = {name: steps[Ref("security_group", g["id"])].record.needs[1:] for name, g in groups.items()}
    assert needs["web"] == (Ref("security_group", groups["db"]["id"]),)
    assert needs["db"] == needs["default"] == (Ref("security_group", groups["web"]["id"]),)


@pytest.mark.exhaustive
def test_a_failure_takes_back_all_with_the_default_group_of_a_tenant_that_it_made(world: World) -> None:
    seed(world)
    before = everything(world.destination)
    by_hand = world.carry()
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    assert everything(world.destination) == before


@pytest.mark.exhaustive
def test_the_default_group_of_a_tenant_that_stays_stays(world: World) -> None:
    by_hand, ref = world.carry(), Ref("security_group", default_group(world.source, world.tenant_id)["id"])
    steps = by_hand.steps()
    results = by_hand.run(steps)
    there = default_group(world.destination, world.twin_tenant())
    retrieved, ensured = results[symbol(ref, "retrieved")], results[symbol(ref, "ensured")]
    (_, ensure, _) = security_group.tasks(by_hand.migration, steps[ref])
    assert ensure.revert(ensured, retrieved, **results) is None
    assert default_group(world.destination, world.twin_tenant())["id"] == there["id"]


@pytest.mark.exhaustive
def test_the_default_group_of_a_tenant_that_was_there_is_only_added_to(world: World) -> None:
    groups = seed(world)
    by_hand = world.carry()
    steps = by_hand.steps()
    by_hand.run({ref: step for ref, step in steps.items() if ref.kind in ("domain", "tenant")})
    there = default_group(world.destination, world.twin_tenant())
    add_rules(world.destination, there, {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22})
    there = now(world.destination, there)
    step = world.step("security_group", groups["default"])
    assert (step.action, step.destination_id) == (Action.CREATE, there["id"])
    assert step.reason.endswith("unfinished: it lacks 1 rule")

    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    assert now(world.destination, there)["security_group_rules"] == there["security_group_rules"]
    by_hand.run(by_hand.steps())
    assert (
        len(now(world.destination, there)["security_group_rules"]) == len(there["security_group_rules"]) + 1
    )
    (note,) = world.step("security_group", groups["default"]).notes
    assert "has the rule ingress IPv4 tcp 22-22 anywhere, which the source has not" in note


def test_the_default_group_of_a_tenant_that_is_made_is_no_wider_than_the_source_s(world: World) -> None:
    default = default_group(world.source, world.tenant_id)
    remove_rules(world.source, default)
    add_rules(world.source, default, {"protocol": "tcp", "remote_ip_prefix": "192.0.2.7/32"})
    by_hand = world.carry()
    first = by_hand.steps()
    assert first[Ref("security_group", default["id"])].notes == ()
    by_hand.run(first)
    (rule,) = default_group(world.destination, world.twin_tenant())["security_group_rules"]
    assert (rule["protocol"], rule["remote_ip_prefix"]) == ("tcp", "192.0.2.7/32")
    assert world.step("security_group", default).action is Action.REUSE


@pytest.mark.exhaustive
def test_the_rules_that_a_default_group_keeps_are_said(world: World) -> None:
    default = default_group(world.source, world.tenant_id)
    remove_rules(world.source, default)
    add_rules(world.source, default, {"protocol": "tcp"})
    world.make_tenant()
    step = world.step("security_group", default)
    assert step.action is Action.CREATE
    assert step.notes == (
        "it has the rule egress IPv4 any protocol anywhere, which the source has not",
        "it has the rule egress IPv6 any protocol anywhere, which the source has not",
        f"it has the rule ingress IPv4 any protocol {default['id']}, which the source has not",
        f"it has the rule ingress IPv6 any protocol {default['id']}, which the source has not",
    )


@pytest.mark.exhaustive
def test_a_group_that_a_dead_run_left_without_rules_is_finished(world: World) -> None:
    groups = seed(world)
    by_hand = world.carry()
    steps = by_hand.steps()
    by_hand.run({ref: step for ref, step in steps.items() if ref.kind in ("domain", "tenant")})
    ensured = {f"tenant-{world.tenant_id}-ensured": {"id": world.twin_tenant(), "made": True}}
    step = steps[Ref("security_group", groups["closed"]["id"])]
    task = by_hand.kinds["security_group"].tasks(by_hand.migration, step)[1]
    left = task.execute(step.record.data, **ensured)["id"]
    step = world.step("security_group", groups["closed"])
    assert (step.action, step.destination_id) == (Action.CREATE, left)
    by_hand.run(by_hand.steps())
    twin = world.twin(SECURITY_GROUPS, groups["closed"])
    assert (twin["id"], twin["security_group_rules"], twin["description"]) == (left, [], "")
    assert set(decisions(by_hand.steps()).values()) == {Action.REUSE}


@pytest.mark.exhaustive
def test_a_rule_that_exists_by_the_time_it_is_made_is_success(world: World) -> None:
    group = world.make(SECURITY_GROUPS, name="odd")
    by_hand = world.carry()
    task = EnsureSecurityGroupRules(world.source, provides="rules")
    add_rules(world.source, group, ODD_RULES[1])
    wanted = [{"direction": "ingress", "ethertype": "IPv4", **rule} for rule in ODD_RULES[:2]]
    assert len(task._add(group, wanted)) == 1
    assert len(now(world.source, group)["security_group_rules"]) == 4
    assert made(by_hand.run(by_hand.steps())) != []


@pytest.mark.exhaustive
def test_rules_for_the_group_of_another_tenant_are_left_out_and_noted(world: World) -> None:
    other = world.project(world.source, "-other")
    theirs = SECURITY_GROUPS.create(world.source, {"name": "theirs", "project_id": other})
    mine = world.make(SECURITY_GROUPS, name="mine")
    add_rules(world.source, mine, {"remote_group_id": theirs["id"]}, {"protocol": "tcp"})
    step = world.step("security_group", mine)
    assert step.record.needs == (Ref("tenant", world.tenant_id),)
    assert [theirs["id"] in note for note in step.notes] == [True]
    world.migrate()
    assert len(world.twin(SECURITY_GROUPS, mine)["security_group_rules"]) == 3
    assert world.step("security_group", mine).notes == ()


@pytest.mark.exhaustive
def test_reading_a_tenant_makes_it_no_default_group(world: World) -> None:
    SECURITY_GROUPS.all(world.source)  # makes the operator's own, if it is not there yet
    before = everything(world.source)
    assert world.carry().kinds["security_group"].discover(world.source, world.tenant_id) == []
    assert everything(world.source) == before


@pytest.mark.exhaustive
def test_a_group_of_the_same_name_is_a_conflict_and_says_how_it_differs(world: World) -> None:
    mine = world.make(SECURITY_GROUPS, name="web")
    add_rules(world.source, mine, {"protocol": "tcp", "port_range_min": 1, "port_range_max": 9})
    by_hand = world.carry()
    by_hand.run({ref: s for ref, s in by_hand.steps().items() if ref.kind in ("domain", "tenant")})
    SECURITY_GROUPS.create(world.destination, {"name": "web", "project_id": world.twin_tenant()})
    step = world.step("security_group", mine)
    assert step.action is Action.CONFLICT
    assert "lacks the rule ingress IPv4 tcp 1-9 anywhere" in step.reason

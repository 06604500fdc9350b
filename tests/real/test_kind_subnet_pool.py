"""Subnet pools, and the subnets that are allocated from them, between two real Neutrons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from keystoneauth1.exceptions import BadRequest

from pumphouse.cloud import Cloud, call, get_all
from pumphouse.errors import ConflictError
from pumphouse.model import Action, Json, Ref
from pumphouse.tasks.neutron.common import NETWORKS, SUBNET_POOLS, SUBNETS
from pumphouse.tasks.neutron.subnet import BESIDE
from pumphouse.tasks.neutron.subnet_pool import FIELDS, EnsureSubnetPool
from pumphouse.verify import neutron as verification
from tests.real.neutron_world import World, decisions, everything, made, neutron_world, same

POOLS: dict[str, Json] = {
    "plain": {"prefixes": ["10.40.0.0/16"]},
    "with all": {
        "prefixes": ["10.60.0.0/16", "10.50.0.0/16"],
        "default_prefixlen": 26,
        "min_prefixlen": 20,
        "max_prefixlen": 28,
        "default_quota": 8192,
        "shared": True,
        "description": "für alle",
    },
    "six": {"prefixes": ["fd00:50::/48"], "min_prefixlen": 64, "max_prefixlen": 64, "default_quota": 9},
    "no quota": {"prefixes": ["10.41.0.0/16"], "default_quota": 0},
}


@pytest.fixture
def world(lab: Any) -> Iterator[World]:
    with neutron_world(lab) as found:
        yield found


def allocate(world: World, pool: Json, cidr: str, network_id: str) -> Json:
    """A subnet of the source that is allocated from a pool."""
    version = 6 if ":" in cidr else 4
    fields = {"network_id": network_id, "cidr": cidr, "ip_version": version, "subnetpool_id": pool["id"]}
    return world.make(SUBNETS, **fields)


def whole(pool: Json) -> Json:
    """A pool with its lengths as numbers: Neutron writes some as text."""
    return {**pool, **{field: int(pool[field]) for field in pool if field.endswith("_prefixlen")}}


def ensure(world: World, pool: Json) -> tuple[EnsureSubnetPool, Json, Json]:
    """The task that makes a pool in a tenant that is there, with what it is given."""
    found = world.carry()
    steps = found.steps()
    found.run({ref: step for ref, step in steps.items() if ref.kind in ("domain", "tenant")})
    step = steps[Ref("subnet_pool", pool["id"])]
    task: EnsureSubnetPool = found.kinds["subnet_pool"].tasks(found.migration, step)[1]
    task.notes = []  # as its execute begins
    return (
        task,
        step.record.data,
        {f"tenant-{world.tenant_id}-ensured": {"id": world.twin_tenant(), "made": False}},
    )


def compared(cloud: Cloud, tenant_id: str, kind: str) -> list[Any]:
    """What verify reads of the tenant's own."""
    return [item for item in verification.read(cloud, tenant_id)[kind] if item.owned]


def shares(cloud: Cloud, tenant_id: str) -> list[tuple[str, str]]:
    listed = get_all(cloud.neutron, "/rbac-policies", "rbac_policies", project_id=tenant_id)
    return sorted((policy["object_type"], policy["target_tenant"]) for policy in listed)


def test_a_pool_and_a_subnet_of_it_arrive_and_a_second_time_makes_nothing(world: World) -> None:
    pool = world.make(SUBNET_POOLS, ["b", "a=1"], name="with all", **POOLS["with all"])
    lan = world.make(NETWORKS, name="lan")
    subnet = allocate(world, pool, "10.60.16.0/20", lan["id"])
    empty = everything(world.destination)
    by_hand = world.carry()
    first = by_hand.steps()
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(first, fail=True)
    assert everything(world.destination) == empty

    by_hand.run(first)
    twin = world.twin(SUBNET_POOLS, pool)
    assert same(whole(pool), whole(twin), FIELDS)
    there = world.twin(SUBNETS, subnet)
    assert (there["cidr"], there["subnetpool_id"]) == ("10.60.16.0/20", twin["id"])
    (mine,), (theirs,) = (
        compared(cloud, tenant_id, "subnet_pool")
        for cloud, tenant_id in ((world.source, world.tenant_id), (world.destination, world.twin_tenant()))
    )
    assert theirs.facts == {**mine.facts, "owner": Ref("tenant", world.twin_tenant())}
    assert (
        theirs.stamp,
        compared(world.destination, world.twin_tenant(), "subnet")[0].facts["subnet_pool"],
    ) == (
        pool["id"],
        Ref("subnet_pool", twin["id"]),
    )

    before = everything(world.destination)
    again = by_hand.steps()
    assert set(decisions(again).values()) == {Action.REUSE}
    assert {step.notes for step in again.values()} == {()}
    assert made(by_hand.run(again)) == []
    by_hand.run(first)
    assert everything(world.destination) == before


@pytest.mark.exhaustive
def test_every_form_arrives(world: World) -> None:
    wanted = [world.make(SUBNET_POOLS, [name], name=name, **fields) for name, fields in POOLS.items()]
    lan = world.make(NETWORKS, name="lan")
    plain, _, six, _ = wanted
    subnets = [
        allocate(world, pool, cidr, lan["id"])
        for pool, cidr in ((plain, "10.40.1.0/24"), (plain, "10.40.2.0/24"), (six, "fd00:50:0:7::/64"))
    ]
    world.migrate()
    for pool in wanted:
        assert same(whole(pool), whole(world.twin(SUBNET_POOLS, pool)), FIELDS)
    pools = [world.twin(SUBNETS, subnet)["subnetpool_id"] for subnet in subnets]
    assert pools == [world.twin(SUBNET_POOLS, pool)["id"] for pool in (plain, plain, six)]
    steps = world.carry().steps()
    assert set(decisions(steps).values()) == {Action.REUSE}
    assert {step.notes for step in steps.values()} == {()}


@pytest.mark.exhaustive
def test_a_default_pool_in_an_address_scope_arrives_as_neither(world: World) -> None:
    scope = {"name": "scope", "ip_version": 4, "project_id": world.tenant_id}
    made = call(world.source.neutron, "POST", "/address-scopes", {"address_scope": scope})["address_scope"]
    given = {"is_default": True, "address_scope_id": made["id"]}
    try:
        pool, beside = (
            world.make(SUBNET_POOLS, name=cidr, prefixes=[cidr], **fields)
            for cidr, fields in (("10.40.0.0/16", given), ("10.41.0.0/16", {"address_scope_id": made["id"]}))
        )
        lan, other = world.make(NETWORKS, name="lan"), world.make(NETWORKS, name="other")
        mixed = [
            allocate(world, pool, "10.40.0.0/24", lan["id"]),
            allocate(world, beside, "10.41.0.0/24", lan["id"]),
        ]
        alone = allocate(world, pool, "10.40.1.0/24", other["id"])
        steps = world.carry().steps()
        assert steps[Ref("subnet_pool", pool["id"])].notes == (
            "it is the default subnet pool of its IP version at the source: that is not carried, "
            "the destination keeps its own default",
            f"its address scope {made['id']} is not carried: it arrives without one",
        )
        for subnet in mixed:
            (note,) = steps[Ref("subnet", subnet["id"])].notes
            assert "subnets of its network are of several pools" in note
        world.migrate()
        twin = world.twin(SUBNET_POOLS, pool)
        assert (twin["is_default"], twin["address_scope_id"]) == (False, None)
        assert [world.twin(SUBNETS, subnet)["subnetpool_id"] for subnet in mixed] == [None, None]
        assert world.twin(SUBNETS, alone)["subnetpool_id"] == twin["id"]
        assert set(decisions(world.carry().steps()).values()) == {Action.REUSE}
    finally:
        for subnet in SUBNETS.all(world.source, project_id=world.tenant_id):
            SUBNETS.delete(world.source, subnet["id"])
        for found in SUBNET_POOLS.all(world.source, project_id=world.tenant_id):
            SUBNET_POOLS.delete(world.source, found["id"])
        call(world.source.neutron, "DELETE", f"/address-scopes/{made['id']}")


@pytest.mark.exhaustive
def test_a_subnet_of_anothers_pool_arrives_without_it(world: World) -> None:
    owner = {"project_id": world.project(world.source, "-owner"), "shared": True}
    theirs = SUBNET_POOLS.create(world.source, {"name": "theirs", "prefixes": ["10.40.0.0/16"], **owner})
    lan = world.make(NETWORKS, name="lan")
    subnet = allocate(world, theirs, "10.40.1.0/24", lan["id"])
    steps = world.carry().steps()
    assert [ref for ref in steps if ref.kind == "subnet_pool"] == []
    assert steps[Ref("subnet", subnet["id"])].notes == (
        f"its subnet pool {theirs['id']} is not carried: it keeps its addresses without one",
    )
    world.migrate()
    assert world.twin(SUBNETS, subnet)["subnetpool_id"] is None
    assert world.step("subnet", subnet).reason == "already at the destination"


@pytest.mark.exhaustive
def test_what_a_pool_would_not_allocate_any_more_arrives_without_it(world: World) -> None:
    pool = world.make(SUBNET_POOLS, name="mine", prefixes=["10.40.0.0/16"])
    lan = world.make(NETWORKS, name="lan")
    subnet = allocate(world, pool, "10.40.0.0/20", lan["id"])
    SUBNET_POOLS.update(world.source, pool["id"], default_quota=256)
    (note,) = world.step("subnet", subnet).notes
    assert note.endswith("more was allocated from the pool than its default quota of 256 allows")
    world.migrate()
    assert world.twin(SUBNET_POOLS, pool)["default_quota"] == 256
    assert world.twin(SUBNETS, subnet)["subnetpool_id"] is None


@pytest.mark.exhaustive
def test_one_of_the_same_name_is_a_conflict_until_the_policy_decides(world: World) -> None:
    mine = world.make(SUBNET_POOLS, name="mine", prefixes=["10.40.0.0/16"])
    lan = world.make(NETWORKS, name="lan")
    subnet = allocate(world, mine, "10.40.1.0/24", lan["id"])
    ensure(world, mine)
    fields = {"name": "mine", "prefixes": ["10.40.0.0/15"], "project_id": world.twin_tenant()}
    there = SUBNET_POOLS.create(world.destination, fields)
    step = world.step("subnet_pool", mine)
    assert step.action is Action.CONFLICT
    assert "prefixes is ['10.40.0.0/15'], source has ['10.40.0.0/16']" in step.reason
    assert world.step("subnet_pool", mine, "reuse").destination_id == there["id"]
    step = world.step("subnet_pool", mine, "rename")
    assert (step.action, step.name) == (Action.CREATE, f"mine-{mine['id'][:8]}")
    world.migrate("rename")
    twin = world.twin(SUBNET_POOLS, mine)
    assert (twin["name"], world.twin(SUBNETS, subnet)["subnetpool_id"]) == (step.name, twin["id"])


@pytest.mark.exhaustive
def test_a_network_that_has_subnets_of_no_pool_gets_no_others(world: World) -> None:
    """As an earlier migration left it that carried no pools."""
    pool = world.make(SUBNET_POOLS, name="mine", prefixes=["10.40.0.0/16"])
    lan = world.make(NETWORKS, name="lan")
    early = allocate(world, pool, "10.40.1.0/24", lan["id"])
    kinds = ("domain", "tenant", "network")
    world.carry().run({ref: step for ref, step in world.carry().steps().items() if ref.kind in kinds})
    owner = {"network_id": world.twin(NETWORKS, lan)["id"], "project_id": world.twin_tenant()}
    left = SUBNETS.create(world.destination, {"cidr": early["cidr"], "ip_version": 4, **owner})
    SUBNETS.put(world.destination, left["id"], "tags", tags=[f"pumphouse_source_id={early['id']}"])
    late = allocate(world, pool, "10.40.2.0/24", lan["id"])

    step = world.step("subnet", early)
    assert (step.action, step.notes) == (
        Action.REUSE,
        (f"differs: subnetpool_id is None, not the twin of {pool['id']!r}",),
    )
    results = world.migrate()
    assert results[f"subnet-{late['id']}-ensured"]["notes"] == [BESIDE]
    assert world.twin(SUBNETS, late)["subnetpool_id"] is None


@pytest.mark.exhaustive
def test_one_that_a_dead_run_left_is_finished_and_two_are_a_conflict(world: World) -> None:
    mine = world.make(SUBNET_POOLS, ["kept"], name="mine", prefixes=["10.40.0.0/16"], description="mine")
    task, data, ensured = ensure(world, mine)
    left = task.create(data, ensured)
    step = world.step("subnet_pool", mine)
    assert (step.action, step.destination_id) == (Action.CREATE, left)
    assert step.reason.startswith("at the destination, but unfinished")
    assert task.execute(data, **ensured) == {"id": left, "made": True, "notes": []}
    assert same(whole(mine), whole(world.twin(SUBNET_POOLS, mine)), FIELDS)

    task.create(data, ensured)
    assert "2 candidates" in world.step("subnet_pool", mine).reason
    with pytest.raises(ConflictError, match="2 subnetpools of the destination carry the stamp"):
        task.execute(data, **ensured)


@pytest.mark.exhaustive
def test_a_revert_keeps_a_pool_that_others_have_allocated_from(world: World) -> None:
    mine = world.make(SUBNET_POOLS, name="mine", prefixes=["10.40.0.0/16"])
    task, data, ensured = ensure(world, mine)
    result = task.execute(data, **ensured)
    find_strangers = world.carry().kinds["subnet_pool"].strangers
    assert find_strangers(world.destination, world.twin_tenant()) == []
    owner = {"project_id": world.twin_tenant()}
    stranger = SUBNET_POOLS.create(world.destination, {"name": "x", "prefixes": ["10.41.0.0/16"], **owner})
    assert find_strangers(world.destination, world.twin_tenant()) == [stranger["id"]]

    network = NETWORKS.create(world.destination, {"name": "others", **owner})
    fields = {"network_id": network["id"], "ip_version": 4, "subnetpool_id": result["id"], **owner}
    subnet = SUBNETS.create(world.destination, {**fields, "cidr": "10.40.0.0/24"})
    assert "Subnet pool has existing allocations" in task.revert(result, data, **ensured)["kept"]
    SUBNETS.delete(world.destination, subnet["id"])
    assert task.revert(result, data, **ensured) is None
    assert [pool["id"] for pool in SUBNET_POOLS.all(world.destination, **owner)] == [stranger["id"]]


@pytest.mark.exhaustive
def test_its_shares_arrive(world: World) -> None:
    partner = world.project(world.source, "-partner")
    pool = world.make(SUBNET_POOLS, name="mine", prefixes=["10.40.0.0/16"])
    world.make(SUBNET_POOLS, name="common", prefixes=["10.41.0.0/16"], shared=True)
    policy = {"object_type": "subnetpool", "object_id": pool["id"], "action": "access_as_shared"}
    owner = {"project_id": world.tenant_id, "target_tenant": partner}
    call(world.source.neutron, "POST", "/rbac-policies", {"rbac_policy": {**policy, **owner}})
    there = world.project(world.destination, "-partner")
    by_hand = world.carry()
    by_hand.run(by_hand.steps())
    assert shares(world.destination, world.twin_tenant()) == sorted(
        [("subnetpool", "*"), ("subnetpool", there)]
    )
    steps = by_hand.steps()
    assert set(decisions(steps).values()) == {Action.REUSE}
    policies = compared(world.destination, world.twin_tenant(), "rbac_policy")
    assert {item.identity[1] for item in policies} == {
        Ref("subnet_pool", item["id"])
        for item in SUBNET_POOLS.all(world.destination, project_id=world.twin_tenant())
    }


@pytest.mark.exhaustive
def test_only_an_administrator_shares_one_with_all(world: World) -> None:
    pool = world.make(SUBNET_POOLS, name="common", prefixes=["10.41.0.0/16"], shared=True)
    task, data, ensured = ensure(world, pool)
    with world.destination.in_tenant(world.twin_tenant()) as member:
        task.cloud = member
        assert not member.is_admin
        result = task.execute(data, **ensured)
    assert result["notes"] == [
        "its shared is not carried: only an administrator of the destination may set it"
    ]
    assert world.twin(SUBNET_POOLS, pool)["shared"] is False


@pytest.mark.exhaustive
def test_neutron_still_refuses_what_is_avoided(world: World) -> None:
    """A network of two pools without an address scope, which is why subnets arrive without theirs."""
    one, two = (world.make(SUBNET_POOLS, name=c, prefixes=[c]) for c in ("10.40.0.0/16", "10.41.0.0/16"))
    lan = world.make(NETWORKS, name="lan")
    allocate(world, one, "10.40.0.0/24", lan["id"])
    with pytest.raises(BadRequest, match="same subnet pool"):
        allocate(world, two, "10.41.0.0/24", lan["id"])

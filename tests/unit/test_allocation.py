"""Which subnets come from the twin of the pool that they were allocated from."""

from __future__ import annotations

import pytest

from pumphouse.model import Json
from pumphouse.tasks.neutron.allocation import without_pool

KEEPS = "it keeps its addresses without"


def pool(**fields: object) -> Json:
    return {
        "id": "mine",
        "ip_version": 4,
        "min_prefixlen": "20",
        "max_prefixlen": 28,
        "default_quota": None,
        **fields,
    }


def subnet(subnet_id: str, cidr: str, pool_id: str | None = "mine", network_id: str = "lan") -> Json:
    version = 6 if ":" in cidr else 4
    fields = {"id": subnet_id, "cidr": cidr, "subnetpool_id": pool_id}
    return {**fields, "network_id": network_id, "ip_version": version}


def reasons(subnets: list[Json], *pools: Json) -> dict[str, str]:
    return without_pool(subnets, {pool["id"]: pool for pool in pools})


def test_those_of_the_tenants_own_pools_come_from_them() -> None:
    six = pool(id="six", ip_version=6, min_prefixlen=64, max_prefixlen=64, default_quota=1)
    subnets = [
        subnet("a", "10.0.0.0/20"),
        subnet("b", "10.0.16.0/28"),
        subnet("c", "fd00::/64", "six"),
        subnet("d", "192.0.2.0/24", None, "other"),
    ]
    assert reasons(subnets, pool(default_quota=4096 + 16), six) == {}


def test_those_of_a_pool_of_others_do_not() -> None:
    subnets = [subnet("a", "10.0.0.0/24", "theirs"), subnet("b", "fd00::/64", "prefix_delegation")]
    assert reasons(subnets) == {
        "a": f"its subnet pool theirs is not carried: {KEEPS} one",
        "b": f"its subnet pool prefix_delegation is not carried: {KEEPS} one",
    }


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"min_prefixlen": 22}, "allows prefixes of 22 to 28 bits only now"),
        ({"max_prefixlen": "23"}, "allows prefixes of 20 to 23 bits only now"),
        ({"default_quota": 4351}, "than its default quota of 4351 allows"),
    ],
)
def test_none_comes_from_a_pool_whose_limits_are_narrower_now(limits: Json, why: str) -> None:
    subnets = [subnet("a", "10.0.0.0/20"), subnet("b", "10.0.16.0/24", network_id="other")]
    found = reasons(subnets, pool(**limits))
    assert found.keys() == {"a", "b"}
    assert all(
        reason.startswith(f"{KEEPS} its subnet pool mine: ") and why in reason for reason in found.values()
    )


def test_none_of_a_network_whose_subnets_are_of_several_pools_does() -> None:
    """An address scope allows that, which is not migrated; the other IP version of the network is none of theirs."""
    subnets = [
        subnet("a", "10.0.0.0/24"),
        subnet("b", "10.9.0.0/24", "second"),
        subnet("c", "fd00::/64", "six"),
        subnet("d", "10.0.1.0/24", network_id="other"),
    ]
    six = pool(id="six", ip_version=6, min_prefixlen=64, max_prefixlen=64)
    found = reasons(subnets, pool(), pool(id="second"), six)
    assert found.keys() == {"a", "b"}
    assert all("of several pools" in reason for reason in found.values())

"""From which subnet pool a subnet is allocated at the destination."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from pumphouse.model import Json
from pumphouse.tasks.neutron.common import SUBNET_POOLS

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

# What a quota of a pool counts: addresses of IPv4, networks of 64 bits of IPv6.
_QUOTA_UNIT_LENGTHS = {4: 32, 6: 64}
_ANOTHERS = "its subnet pool {} is not carried: it keeps its addresses without one"
_WITHOUT = "it keeps its addresses without its subnet pool {}: {}"
_SEVERAL = "subnets of its network are of several pools, which only an address scope allows"
_LENGTHS = "the pool allows prefixes of {} to {} bits only now, and has allocated others"
_QUOTA = "more was allocated from the pool than its default quota of {} allows"


def own_pools(source: Cloud, tenant_id: str, subnets: Iterable[Json]) -> dict[str, Json]:
    """The subnet pools of the tenant by id, if any subnet is allocated from a pool."""
    if not any(subnet.get("subnetpool_id") for subnet in subnets):
        return {}
    return {pool["id"]: pool for pool in SUBNET_POOLS.owned(source, tenant_id)}


def without_pool(subnets: Collection[Json], pools: Mapping[str, Json]) -> dict[str, str]:
    """Why subnets cannot come from the twin of their pool, by id; only of those that have a pool and cannot.

    All subnets of a network that are of one IP version have to come from one pool, or all from none.

    subnets: all that are migrated; pools: those that are migrated, by id.
    """
    pooled = [subnet for subnet in subnets if subnet.get("subnetpool_id")]
    beside: dict[tuple[str, int], set[str | None]] = defaultdict(set)
    for subnet in subnets:
        beside[_place(subnet)].add(subnet.get("subnetpool_id"))
    refusals = {
        i: _refusal(pool, [s for s in pooled if s["subnetpool_id"] == i]) for i, pool in pools.items()
    }
    reasons = {s["id"]: _reason(s["subnetpool_id"], refusals, len(beside[_place(s)]) > 1) for s in pooled}
    return {subnet_id: why for subnet_id, why in reasons.items() if why}


def _place(subnet: Json) -> tuple[str, int]:
    return subnet["network_id"], subnet["ip_version"]


def _reason(pool_id: str, refusals: Mapping[str, str], several: bool) -> str:
    if pool_id not in refusals:
        return _ANOTHERS.format(pool_id)
    why = _SEVERAL if several else refusals[pool_id]
    return _WITHOUT.format(pool_id, why) if why else ""


def _refusal(pool: Json, subnets: Iterable[Json]) -> str:
    """Why a pool would not give these subnets any more; empty when it would: its limits may be newer than they."""
    lengths = [int(subnet["cidr"].partition("/")[2]) for subnet in subnets]
    shortest, longest = int(pool["min_prefixlen"]), int(pool["max_prefixlen"])
    if any(not shortest <= length <= longest for length in lengths):
        return _LENGTHS.format(shortest, longest)
    unit = _QUOTA_UNIT_LENGTHS[pool["ip_version"]]
    quota = pool["default_quota"]
    if quota and sum(2.0 ** (unit - length) for length in lengths) > quota:
        return _QUOTA.format(quota)
    return ""

"""Both clouds side by side: whether a tenant has arrived as it was.

Written from what has to survive a migration, not from what the tasks carry: its readers and its tables of
fields are its own, so that a field which the one forgets is found by the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from pumphouse.cloud import Cloud
from pumphouse.cloud.outage import not_waited_for
from pumphouse.errors import NotFoundError, UsageError
from pumphouse.model import Ref
from pumphouse.tasks import KINDS as MIGRATED
from pumphouse.verify import cinder, glance, keystone, neutron, nova, quotas
from pumphouse.verify.compare import (
    Finding,
    Item,
    Items,
    Twins,
    Verdict,
    compare_items,
    needed,
    pair,
    references,
)

# In an order in which each comes after those that its identity refers to.
KINDS = (
    *keystone.KINDS,
    *quotas.KINDS,
    *nova.KINDS[:2],
    *glance.KINDS,
    *neutron.KINDS,
    *nova.KINDS[2:],
    *cinder.KINDS,
)
Mappings = Mapping[str, Mapping[str, str]]
ALL_OF_IT = "all of it"
NOT_CHOSEN = "the run was not to migrate it"


@dataclass(frozen=True)
class Known:
    """What a recorded run knows: the ids that source resources have at the destination, and their names there.

    statuses: of the source's servers before the migration stopped them.
    chosen: what was to be migrated, where that was not all of the tenant.
    """

    ids: Mapping[Ref, str] = field(default_factory=dict)
    names: Mapping[Ref, str] = field(default_factory=dict)
    statuses: Mapping[Ref, str] = field(default_factory=dict)
    chosen: Collection[Ref] | None = None


@dataclass(frozen=True)
class Verification:
    """All findings of a tenant; deep when the bytes of images were read."""

    tenant_id: str
    destination_id: str
    deep: bool
    findings: tuple[Finding, ...]

    @property
    def is_equal(self) -> bool:
        """Whether all has arrived."""
        return not any(finding.is_bad for finding in self.findings)

    def count(self) -> Counter[Verdict]:
        """How many findings there are of each verdict."""
        return Counter(finding.verdict for finding in self.findings)


def not_compared() -> dict[str, Mapping[str, str]]:
    """What is not compared, by kind: the field, or all of it, and why."""
    whole = {name: {ALL_OF_IT: kind.not_compared} for name, kind in MIGRATED.items() if kind.not_compared}
    return {**whole, **{kind.name: kind.not_compared for kind in KINDS if kind.not_compared}}


def verify(
    source: Cloud,
    destination: Cloud,
    tenant_id: str,
    mappings: Mappings,
    known: Known | None = None,
    *,
    deep: bool = False,
) -> Verification:
    """Read a tenant and its twin afresh, by list calls, and compare them field by field.

    mappings: the configuration's, source name to destination name.
    deep: read the bytes of the tenant's images too.

    Raises NotFoundError when the destination has no twin of the tenant, UsageError for a login that sees too little.
    """
    for cloud in (source, destination):
        if not cloud.is_admin:
            raise UsageError(
                f"the login of the {cloud.name} is not an administrator's, and others do not see all to compare",
                "verify with logins of administrators",
            )
    known = known or Known()
    twin_id = _twin(source, destination, tenant_id, mappings, known)
    with ThreadPoolExecutor() as pool, not_waited_for(source.outages, destination.outages):
        sides = pool.map(keystone.read, (source, destination), (tenant_id, twin_id))
        mine, theirs = sides
        recorded = {**known.ids, Ref("tenant", tenant_id): twin_id}
        people = pair(keystone.KINDS, needed(mine), theirs, mappings, recorded)
        users = {ref.id: item.ref.id for ref, item in people.items.items() if ref.kind == "user"}
        unknown = {item.ref.id for item in needed(mine)["user"]} - users.keys()
        reads = [
            (source, tenant_id, {*users, *unknown}, deep),
            (destination, twin_id, set(users.values()), deep),
        ]
        rest = list(pool.map(lambda arguments: _read(*arguments), reads))
    ours, there = needed({**mine, **rest[0]}), {**theirs, **rest[1]}
    ours["server"] = [_as_it_was(server, known) for server in ours.get("server", ())]
    if known.chosen is not None:
        ours = {kind: [_as_chosen(item, known.chosen) for item in listed] for kind, listed in ours.items()}
    twins = pair(KINDS, ours, there, mappings, recorded)
    passed_over = {i.ref for listed in ours.values() for i in listed if i.not_expected == NOT_CHOSEN}
    findings = (
        _excused(found, passed_over) for found in compare_items(KINDS, ours, there, twins, known.names)
    )
    return Verification(tenant_id, twin_id, deep, tuple(findings))


def _twin(source: Cloud, destination: Cloud, tenant_id: str, mappings: Mappings, known: Known) -> str:
    if recorded := known.ids.get(Ref("tenant", tenant_id)):
        return recorded
    found = keystone.twin_tenant(destination, source, tenant_id, mappings.get("domains", {}))
    if found is None:
        raise NotFoundError(
            f"the destination has no tenant made from {tenant_id}, and none of its name",
            "migrate it first; or name the run that did, by --run",
        )
    return str(found["id"])


def _as_it_was(server: Item, known: Known) -> Item:
    """A server with the status that it had before a migration stopped it."""
    status = server.facts["status"]
    if status == "SHUTOFF":
        status = known.statuses.get(server.ref, nova.STOPPED)
    return replace(server, facts={**server.facts, "status": status})


def _as_chosen(item: Item, chosen: Collection[Ref]) -> Item:
    """An item that nobody expects at the destination unless the run was to bring it.

    Limits and assignments have other ids here than in a plan: the former are planned by service, the latter
    come with their users and groups.
    """
    kind, asked = item.ref.kind, [item.ref]
    if kind == "assignment":
        asked = [ref for ref in references(tuple(item.facts.values())) if ref.kind != "role"]
    is_planned = any(ref.kind == kind for ref in chosen)
    if is_planned and (kind == "quota" or any(ref in chosen for ref in asked)):
        return item
    return replace(item, not_expected=item.not_expected or NOT_CHOSEN)


def _excused(found: Finding, passed_over: Collection[Ref]) -> Finding:
    """A finding without reproach where a twin differs that the run had nothing to do with."""
    if found.verdict is not Verdict.DIFFERENT or Ref(found.kind, found.source_id or "") not in passed_over:
        return found
    return replace(found, verdict=Verdict.NOTED, reason=NOT_CHOSEN)


def _read(cloud: Cloud, tenant_id: str, users: set[str], deep: bool) -> Items:
    with ThreadPoolExecutor() as pool:
        images = pool.submit(glance.read, cloud, tenant_id, deep=deep)
        limits = pool.submit(quotas.read, cloud, tenant_id)
        parts = [
            pool.submit(nova.read, cloud, tenant_id, users),
            pool.submit(neutron.read, cloud, tenant_id),
            pool.submit(cinder.read, cloud, tenant_id),
        ]
    merged = {kind: items for part in parts for kind, items in part.result().items()}
    return {**merged, "image": images.result(), "quota": limits.result()}


__all__ = ["KINDS", "Finding", "Known", "Twins", "Verdict", "Verification", "not_compared", "verify"]

"""Both clouds side by side: whether a tenant has arrived as it was.

Written from what has to survive a migration, not from what the tasks carry: its readers and its tables of
fields are its own, so that a field which the one forgets is found by the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pumphouse.cloud import Cloud
from pumphouse.cloud.outage import not_waited_for
from pumphouse.errors import NotFoundError, UsageError
from pumphouse.model import Ref
from pumphouse.verify import cinder, glance, keystone, neutron, nova, quotas
from pumphouse.verify.compare import (
    Finding,
    Item,
    Items,
    Named,
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
# What no migration carries of a tenant, and no plan has.
COUNTED = tuple(kind.name for kind in (*keystone.COUNTED, *neutron.COUNTED, *cinder.COUNTED))
Mappings = Mapping[str, Mapping[str, str]]
NOT_CHOSEN = "the run was not to migrate it"


@dataclass(frozen=True)
class Known:
    """What an operator chose, and what recorded runs say of it.

    ids: those that source resources have at the destination.
    names: those that plans gave at the destination.
    statuses: of the source's servers before the migration stopped them.
    chosen: what was to be migrated, where that was not all of the tenant.
    policies: those of the configuration, or of the run.
    """

    ids: Mapping[Ref, str] = field(default_factory=dict)
    names: Mapping[Ref, str] = field(default_factory=dict)
    statuses: Mapping[Ref, str] = field(default_factory=dict)
    chosen: Collection[Ref] | None = None
    policies: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """All findings of a tenant; deep when the bytes of images were read."""

    tenant_id: str
    destination_id: str
    deep: bool
    findings: tuple[Finding, ...]

    @property
    def is_equal(self) -> bool:
        """Whether all has arrived that the operator wanted."""
        return not any(finding.is_bad for finding in self.findings)

    def count(self) -> Counter[Verdict]:
        """How many findings there are of each verdict."""
        return Counter(finding.verdict for finding in self.findings)


def verify(
    source: Cloud,
    destination: Cloud,
    tenant_id: str,
    mappings: Mappings,
    known: Known | None = None,
    *,
    deep: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Read a tenant and its twin afresh, by list calls, and compare them field by field.

    mappings: the configuration's, source name to destination name.
    deep: read the bytes of the tenant's images too.
    progress: told what has been read, e.g. `network of the source`.

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
        progress("identity of both clouds")
        recorded = {**known.ids, Ref("tenant", tenant_id): twin_id}
        people = pair(keystone.KINDS, needed(mine), theirs, mappings, recorded)
        users = {ref.id: item.ref.id for ref, item in people.items.items() if ref.kind == "user"}
        unknown = {item.ref.id for item in needed(mine)["user"]} - users.keys()
        snapshots_left = known.policies.get("volume_snapshots") == "leave"
        reads = [
            _Read(source, tenant_id, {*users, *unknown}, deep, snapshots_left, progress),
            _Read(destination, twin_id, set(users.values()), deep, snapshots_left, progress),
        ]
        rest = list(pool.map(_read, reads))
    there = {**theirs, **rest[1]}
    ours = needed({**mine, **rest[0], "quota": _limits(rest[0]["quota"], there["quota"], people)})
    ours["server"] = [_as_it_was(server, known) for server in ours.get("server", ())]
    if known.chosen is not None:
        ours = {kind: [_as_chosen(item, known.chosen) for item in listed] for kind, listed in ours.items()}
    named = {kind: [_as_named(item, known.names) for item in listed] for kind, listed in ours.items()}
    twins = pair(KINDS, named, there, mappings, recorded)
    passed_over = {i.ref: i.not_expected for listed in ours.values() for i in listed if _is_passed_over(i)}
    findings = (
        _excused(found, passed_over) for found in compare_items(KINDS, ours, there, twins, known.names)
    )
    return Verification(tenant_id, twin_id, deep, tuple(findings))


def _limits(mine: Sequence[Item], theirs: Sequence[Item], people: Twins) -> list[Item]:
    """The source's limits: the tenant's own, and those that its twin has as its own."""
    own = {item.identity for item in theirs if item.owned}
    return [replace(item, owned=item.owned or people.translate(item.identity) in own) for item in mine]


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


def _as_named(item: Item, names: Mapping[Ref, str]) -> Item:
    """An item with the identity that it has under the name that a plan gave it."""
    return replace(item, identity=_with_name(item.identity, item.name, names.get(item.ref, item.name)))


def _with_name(identity: Hashable, old: str, new: str) -> Hashable:
    if isinstance(identity, tuple):
        return tuple(_with_name(part, old, new) for part in identity)
    if isinstance(identity, Named):
        return replace(identity, name=new) if identity.name == old else identity
    return new if identity == old else identity


def _is_passed_over(item: Item) -> bool:
    """Whether what its twin is like is not the migration's: it was left out, or belongs to who is not migrated."""
    return item.not_expected == NOT_CHOSEN or bool(item.not_expected and item.ref.kind in ("user", "group"))


def _excused(found: Finding, passed_over: Mapping[Ref, str]) -> Finding:
    """A finding without reproach where a twin differs that the run had nothing to do with."""
    ref = Ref(found.kind, found.source_id or "")
    if found.verdict is not Verdict.DIFFERENT or ref not in passed_over:
        return found
    return replace(found, verdict=Verdict.NOTED, reason=passed_over[ref])


class _Read(NamedTuple):
    """What of one cloud is read."""

    cloud: Cloud
    tenant_id: str
    users: Collection[str]
    deep: bool
    snapshots_left: bool
    progress: Callable[[str], None]


def _read(asked: _Read) -> Items:
    cloud, tenant_id = asked.cloud, asked.tenant_id
    parts: dict[str, Callable[[], Items]] = {
        "credentials": lambda: keystone.read_credentials(cloud, tenant_id, asked.users),
        "image": lambda: {"image": glance.read(cloud, tenant_id, deep=asked.deep)},
        "quota": lambda: {"quota": quotas.read(cloud, tenant_id, asked.users)},
        "compute": lambda: nova.read(cloud, tenant_id, asked.users),
        "network": lambda: neutron.read(cloud, tenant_id),
        "volume": lambda: cinder.read(cloud, tenant_id, snapshots_left=asked.snapshots_left),
    }
    merged: dict[str, Sequence[Item]] = {}
    with ThreadPoolExecutor() as pool:
        started = {pool.submit(read): name for name, read in parts.items()}
        for part in as_completed(started):
            merged |= part.result()
            asked.progress(f"{started[part]} of the {cloud.name}")
    return merged


__all__ = ["COUNTED", "KINDS", "Finding", "Known", "Twins", "Verdict", "Verification", "verify"]

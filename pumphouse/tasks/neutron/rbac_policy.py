"""Shares: networks, subnet pools, security groups and address groups of the tenant that single other tenants may use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.cloud import call
from pumphouse.cloud.rights import REFUSED
from pumphouse.model import Json, Record, Ref, Step, Twin, kind_title, symbol
from pumphouse.tasks.base import (
    BaseEnsureTask,
    Ensured,
    Migration,
    Search,
    ensure,
    ensured_id,
    retrieve_record,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.keystone.common import tenant_names, twin_tenant
from pumphouse.tasks.kind import Kind
from pumphouse.tasks.neutron import common
from pumphouse.tasks.neutron.common import (
    DERIVED,
    EVERYBODY,
    SHARED,
    TWIN_TENANT,
    list_shares,
)

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "rbac_policy"
# The kinds of what can be shared, by what Neutron calls them.
CARRIED = {
    "network": "network",
    "security_group": "security_group",
    "address_group": "address_group",
    "subnetpool": "subnet_pool",
}
# That everybody may use one of these is a field of it.
SHARED_BY_FIELD = ("network", "subnetpool")


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The shares that the tenant gives."""
    return _records(source, lambda policy: policy["project_id"] == tenant_id)


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The shares of the given ids, as those that other tenants give to the one that needs them."""
    found = _records(source, lambda policy: policy["id"] in ids)
    return {r.ref.id: replace(r, needs=(_target_ref(r.data), _thing(r.data))) for r in found}


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records, and why some are not given now: nobody is there to share with, or the login may not."""
    return [r if _is_given(r) else replace(r, skip=_refused(search.destination, r.data)) for r in records]


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The share of the same thing with the same tenant (unique in a cloud)."""
    policies = {_key(policy): policy["id"] for policy in list_shares(search.destination)} if records else {}
    return {record.ref: _twins(search, record, policies) for record in records}


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the share and give it."""
    return [
        retrieve_record(fetch, migration, step),
        ensure(EnsureRbacPolicy, [migration.destination], step, line=f"share {step.record.name}"),
    ]


class EnsureRbacPolicy(BaseEnsureTask):
    """Lets the twin of a tenant use what it may use at the source."""

    shared = True

    def execute(self, data: Json, **ensured: Ensured) -> Ensured:
        """Share it; a note says when the other tenant is not at the destination."""
        if _target(self.cloud, data, ensured) is not None:
            return super().execute(data, **ensured)
        object_id = _object_id(data, ensured)
        return {"id": object_id, "made": False, "notes": [_unshared(data)]}

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The share, if it is given already."""
        wanted = self._key(data, ensured)
        return next((str(policy["id"]) for policy in list_shares(self.cloud) if _key(policy) == wanted), None)

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Give it in the name of the tenant that owns what is shared."""
        object_type, object_id, target = self._key(data, ensured)
        shared = self.cloud.batch(_items_of(object_type)).get(object_id)
        policy = {
            "object_type": object_type,
            "object_id": object_id,
            "action": SHARED,
            "target_tenant": target,
            "project_id": shared["project_id"],
        }
        made = call(self.cloud.neutron, "POST", "/rbac-policies", {"rbac_policy": policy})["rbac_policy"]
        return self.accept(made["id"], policy, made, partial(self._update, made["id"]))

    def _update(self, policy_id: str, fields: Json) -> Json:
        path, body = f"/rbac-policies/{policy_id}", {"rbac_policy": fields}
        policy: Json = call(self.cloud.neutron, "PUT", path, body)["rbac_policy"]
        return policy

    def remove(self, destination_id: str) -> None:
        """Take it back."""
        call(self.cloud.neutron, "DELETE", f"/rbac-policies/{destination_id}")

    def _key(self, data: Json, ensured: Mapping[str, Ensured]) -> tuple[Any, ...]:
        return data["object_type"], _object_id(data, ensured), _target(self.cloud, data, ensured)


@cache
def _items_of(object_type: str) -> Callable[[Cloud, Collection[str]], dict[str, Json]]:
    """What reads items of a type by their ids: the same each time, for that is what a batch is known by."""
    return common.Collection(object_type).items


def _records(source: Cloud, is_wanted: Callable[[Json], bool]) -> list[Record]:
    policies = [policy for policy in list_shares(source) if is_wanted(policy) and _is_carried(policy)]
    targets = {policy["target_tenant"] for policy in policies} - {EVERYBODY}
    names = tenant_names(source) if targets else {}
    return [_record(policy, names) for policy in policies]


def _is_carried(policy: Json) -> bool:
    by_field = policy["object_type"] in SHARED_BY_FIELD and policy["target_tenant"] == EVERYBODY
    return policy["object_type"] in CARRIED and not by_field


def _record(policy: Json, names: Mapping[str, str]) -> Record:
    target = policy["target_tenant"]
    fields = ("id", "object_type", "object_id", "target_tenant", "project_id")
    data = {**{field: policy[field] for field in fields}, "target_name": names.get(target)}
    thing = _thing(policy)
    who = "everybody" if target == EVERYBODY else f"tenant {names.get(target, target)}"
    name = f"{kind_title(thing.kind)} {thing.id} with {who}"
    needs = (Ref("tenant", policy["project_id"]), thing)
    return Record(Ref(NAME, policy["id"]), name, data, needs, answer=policy)


def _thing(policy: Json) -> Ref:
    return Ref(CARRIED[policy["object_type"]], policy["object_id"])


def _object_id(data: Json, ensured: Mapping[str, Ensured]) -> str:
    thing = _thing(data)
    return ensured_id(ensured, thing.kind, thing.id)


def _key(policy: Json) -> tuple[Any, ...]:
    return policy["object_type"], policy["object_id"], policy["target_tenant"]


def _target_ref(data: Json) -> Ref:
    return Ref("tenant", data["target_tenant"])


def _is_given(record: Record) -> bool:
    """Whether another tenant gives it, to the one that is migrated."""
    return _target_ref(record.data) in record.needs


def _target(cloud: Cloud, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
    """The tenant of the destination that shares it, or everybody; None when it is not there."""
    if data["target_tenant"] == EVERYBODY:
        return EVERYBODY
    mine = ensured.get(symbol(_target_ref(data), "ensured"))
    return mine["id"] if mine else twin_tenant(cloud, data["target_tenant"], data["target_name"])


def _refused(destination: Cloud, data: Json) -> str:
    target = _target(destination, data, {})
    if target == EVERYBODY and not destination.is_admin:
        return REFUSED
    return "" if target else _unshared(data)


def _unshared(data: Json) -> str:
    who = f"tenant {data['target_name'] or data['target_tenant']}"
    return f"it is not shared with {who}, which is not at the destination: migrate that, then this one again"


def _twins(search: Search, record: Record, policies: Mapping[tuple[Any, ...], str]) -> list[Twin]:
    data = record.data
    object_id = search.ids.get(_thing(data))
    if object_id is None:
        return []
    # Whoever is no administrator sees of what others have only what he may use.
    if _is_given(record) and not search.destination.is_admin:
        return [Twin(object_id, ours=True)]
    target = search.ids.get(_target_ref(data)) or _target(search.destination, data, {})
    key = (data["object_type"], object_id, target)
    return [Twin(policies[key], ours=True)] if key in policies else []


KIND = Kind(
    NAME,
    "network",
    discover,
    fetch,
    find,
    tasks,
    extension="rbac-policies",
    adapt=adapt,
    recognised="itself",
    stays="it shares something with another tenant",
    fields=Fields(
        carried="object_type action",
        mapped={**TWIN_TENANT, "object_id": "its twin", "target_tenant": "the tenant's twin, if it is there"},
        derived=DERIVED,
        summary="of networks, subnet pools, security groups and address groups, with each tenant that is at the destination; those that others give the tenant, where its ports and rules need them",
    ),
)

"""Security groups: first the groups, then their rules, which may refer to each other in circles."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.model import Json, Record, Ref, Step, Twin, symbol
from pumphouse.tasks.base import (
    BaseCloudTask,
    Ensured,
    Migration,
    Search,
    as_asked,
    differences,
    ensure,
    ensured_id,
    kept_result,
    retrieve_record,
    tenant_made,
    why_not_undone,
)
from pumphouse.tasks.fields import Fields, parts
from pumphouse.tasks.kind import Kind, removal
from pumphouse.tasks.neutron.common import (
    DERIVED,
    SECURITY_GROUPS,
    TWIN_TENANT,
    EnsureItem,
    candidates,
    carried,
    common_data,
    dependencies,
    of_others,
    shares_with,
    stamped_twins,
    strangers_in,
    tag_notes,
    twin,
    unmark,
    with_stamp,
)
from pumphouse.tasks.neutron.security_rules import (
    DEFAULT,
    RULE_FIELDS,
    EnsureSecurityGroupRules,
    address_group_ids,
    is_default,
    remote_ids,
    rule_differences,
)
from pumphouse.words import counted

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "security_group"
FIELDS = ("name", "description", "stateful", "tags")
REMEDY = "take this group off the ports that have it"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The security groups that the tenant owns, with their rules."""
    groups = SECURITY_GROUPS.owned(source, tenant_id)
    ids = {group["id"] for group in groups}
    shares = shares_with(source, tenant_id) if groups else {}
    return [_record(group, ids, shares) for group in groups]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The groups of the given ids, as those of others: to be found at the destination, not made."""
    return dependencies(source, _read(source, ids).values(), REMEDY)


def _read(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    return {i: _record(group, (), {}) for i, group in SECURITY_GROUPS.items(source, ids).items()}


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records with notes on the rules that a default group which is there keeps, and the source's has not."""
    owned = [record for record in records if not record.must_exist]
    if not any(is_default(r.data) and Ref("tenant", r.data["project_id"]) in search.ids for r in owned):
        return list(records)
    found, sources = _candidates(search, owned)
    kept = {
        r.ref: rule_differences(r, item, sources)[1]
        for r in owned
        for item in found[r.ref]
        if is_default(r.data)
    }
    return [replace(r, notes=(*r.notes, *map("it {}".format, kept.get(r.ref, ())))) for r in records]


def _candidates(search: Search, records: Sequence[Record]) -> tuple[dict[Ref, list[Json]], dict[str, str]]:
    """The groups that may be twins, and the source's ids of groups and address groups by the destination's."""
    found = candidates(search, SECURITY_GROUPS, records)
    sources = {item["id"]: ref.id for ref, items in found.items() for item in items}
    return found, sources | {id_: ref.id for ref, id_ in search.ids.items() if ref.kind == "address_group"}


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The tenant's default group for the default one; else the stamped group, or that of the same name."""
    owned = [record for record in records if not record.must_exist]
    found, sources = _candidates(search, owned)
    twins = {r.ref: [_twin(r, item, sources) for item in found[r.ref]] for r in owned}
    return twins | stamped_twins(search, SECURITY_GROUPS, [r for r in records if r.must_exist])


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the group, make it, and when all groups that its rules refer to are there, its rules."""
    ref, data = step.ref, step.record.data
    retrieved, ensured = symbol(ref, "retrieved"), symbol(ref, "ensured")
    tenant = Ref("tenant", data["project_id"])
    count = len(data["rules"])
    return [
        retrieve_record(_read, migration, step),
        ensure(EnsureSecurityGroup, [migration.destination], step, needs=[tenant]),
        EnsureSecurityGroupRules(
            migration.destination,
            provides=symbol(ref, "rules-ensured"),
            rebind={"data": retrieved},
            requires=[ensured, *(symbol(need, "ensured") for need in step.record.needs)],
            line=f"give {step.record.title} its {counted(count, 'rule')}",
        ),
    ]


def tenant_tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Have Neutron make the default group of a tenant that is made."""
    return [
        MakeDefaultGroup(
            migration.destination,
            provides=symbol(step.ref, "prepared"),
            rebind=[symbol(step.ref, "ensured")],
            line=f"have Neutron make the default security group of {step.record.title}",
        )
    ]


def strangers(cloud: Cloud, tenant_id: str) -> list[str]:
    """The groups of a tenant that no migration and not Neutron itself has made."""
    return [
        i for i in strangers_in(SECURITY_GROUPS, cloud, tenant_id) if i not in _default_ids(cloud, tenant_id)
    ]


class MakeDefaultGroup(BaseCloudTask):
    """Has Neutron make the default group of a tenant.

    Neutron makes it in the first call for the tenant, and fails when several come at once.
    """

    def execute(self, ensured: Json) -> Json:
        """Provide the ids of the groups that there are."""
        # Train makes it for the tenant of the second filter only; releases to come may know the first only.
        tenant = dict.fromkeys(("project_id", "tenant_id"), ensured["id"])
        return {"groups": [group["id"] for group in SECURITY_GROUPS.all(self.cloud, **tenant)]}

    def revert(self, ensured: Json, **_: Any) -> Json | None:
        """Delete the group of a tenant that was made, because it would outlive the tenant."""
        return kept_result(why_not_undone(self.name, self._delete, ensured["id"]) if ensured["made"] else "")

    def _delete(self, tenant_id: str) -> None:
        for group_id in _default_ids(self.cloud, tenant_id):
            SECURITY_GROUPS.remove(self.cloud, group_id)


def _default_ids(cloud: Cloud, tenant_id: str) -> list[str]:
    """The ids of the default group of a tenant: one, or none as long as Neutron has not made it."""
    # To list the groups of the tenant by its id alone would make its group again.
    return [group["id"] for group in SECURITY_GROUPS.owned(cloud, tenant_id) if is_default(group)]


class EnsureSecurityGroup(EnsureItem):
    """Finds or creates the group without its rules; Neutron itself makes the default group of a tenant."""

    collection = SECURITY_GROUPS
    complete = False
    stamped_last = True

    def execute(self, data: Json, **ensured: Ensured) -> Ensured:
        """Find or create the twin; the default group came with the tenant, and goes with it."""
        result = super().execute(data, **ensured)
        return {**result, "made": tenant_made(data, ensured)} if is_default(data) else result

    def exists_by_itself(self, data: Json) -> bool:
        """Neutron makes the default group."""
        return is_default(data)

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The group that carries the stamp, or the default group."""
        if not is_default(data):
            return super().find(data, ensured)
        # To list the groups of a tenant by its id alone makes Neutron create the default one.
        tenant_id = ensured_id(ensured, "tenant", data["project_id"])
        groups = self.collection.all(self.cloud, project_id=tenant_id, name=DEFAULT)
        self.item = next(group for group in groups if group["project_id"] == tenant_id)
        return str(self.item["id"])

    def revert(self, result: Any, data: Json, **ensured: Ensured) -> Json | None:
        """Remove the group; the default one goes with the tenant, which may stay."""
        return None if is_default(data) else super().revert(result, data, **ensured)

    def fields(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """That it does not follow connections; that it does is not to be said to a Neutron that knows nothing else."""
        return {} if data.get("stateful", True) else {"stateful": False}

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Ensured]) -> None:
        """Set the tags; a default group that was there before is left as it is."""
        if not is_default(data):
            super().finish(destination_id, data, ensured)
        elif tenant_made(data, ensured):
            if set(data["tags"]) != set(self.item.get("tags", ())):
                self.collection.put(self.cloud, destination_id, "tags", tags=data["tags"])
            wanted = {"description": with_stamp(data)[1], **self.fields(data, ensured)}
            as_asked(wanted, self.item, partial(self._update, destination_id))


def _data(group: Json) -> Json:
    rules = [{field: rule.get(field) for field in RULE_FIELDS} for rule in group["security_group_rules"]]
    return {**common_data(group), **carried(group, ["stateful"]), "rules": sorted(rules, key=str)}


def _record(group: Json, owned: Collection[str], shares: Mapping[str, Ref]) -> Record:
    """A group; owned: the tenant's groups, shares: those with the tenant, by what is shared."""
    data = _data(group)
    addresses = sorted(address_group_ids(data["rules"]))
    remote = sorted(remote_ids(data["rules"]) & set(owned) - {group["id"]})
    needs = (
        Ref("tenant", group["project_id"]),
        *(Ref(NAME, i) for i in remote),
        *(Ref("address_group", i) for i in addresses),
        *(shares[i] for i in addresses if i in shares),
    )
    notes = tuple(_notes(data, owned))
    return Record(
        Ref(NAME, group["id"]), group["name"], data, needs, notes=(*tag_notes(data), *notes), answer=group
    )


def _notes(data: Json, owned: Collection[str]) -> Iterable[str]:
    for group_id in sorted(remote_ids(data["rules"]) - set(owned)):
        yield f"its rules for security group {group_id} of another tenant are not carried: add them"


def _twin(record: Record, group: Json, sources: Mapping[str, str]) -> Twin:
    """The group as a candidate; sources: the source's ids of the destination's groups."""
    missing, extra = rule_differences(record, group, sources)
    fields = [field for field in FIELDS if field in record.data]
    there = {"stateful": True, **_data(group)}
    found = twin(group, record, (*differences(record.data, there, fields), *missing, *extra))
    if not is_default(record.data):
        return found
    return Twin(
        found.id, True, found.differences, f"it lacks {counted(len(missing), 'rule')}" if missing else ""
    )


KIND = Kind(
    NAME,
    "network",
    discover,
    fetch,
    find,
    tasks,
    extension="security-group",
    renamable=True,
    adapt=adapt,
    tenant_tasks=tenant_tasks,
    strangers=strangers,
    recognised="stamp; `default` by its name",
    unmark=partial(unmark, SECURITY_GROUPS),
    stamped_last=True,
    remove=removal(EnsureSecurityGroup),
    shared=of_others,
    ends_with_tenant=lambda record: is_default(record.data),
    fields=Fields(
        carried="name description stateful tags "
        + parts(
            "security_group_rules",
            "direction ethertype protocol port_range_min port_range_max remote_ip_prefix description",
        ),
        mapped={
            **TWIN_TENANT,
            "security_group_rules/remote_group_id": "the security group's twin",
            "security_group_rules/remote_address_group_id": "the address group's twin",
        },
        derived=f"{DERIVED} shared "
        + parts(
            "security_group_rules",
            f"{DERIVED} project_id security_group_id normalized_cidr belongs_to_default_sg",
        ),
        noted={"security_group_rules/tags": "the tags of its rules are not carried: {value}"},
        summary="a `default` that was there before keeps its own, too",
    ),
)

"""Server groups: which servers are to be together or apart; servers join theirs when they boot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.cloud import call
from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    BaseEnsureTask,
    Ensured,
    Migration,
    Search,
    differences,
    distinct_name,
    ensure,
    ensured_id,
    retrieve_record,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.kind import Kind, removal
from pumphouse.tasks.nova.common import list_server_groups, supports

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "server_group"
FIELDS = ("policy", "rules")
# One policy with rules in the place of a list of policies: Nova 18 (Rocky).
RULES = "2.64"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The server groups that the tenant owns."""
    return _distinct(
        [_record(group) for group in list_server_groups(source) if group["project_id"] == tenant_id]
    )


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The server groups of the given ids."""
    groups = list_server_groups(source)
    tenants = {group["project_id"] for group in groups if group["id"] in ids}
    owned = [_record(group) for group in groups if group["project_id"] in tenants]
    return {record.ref.id: record for record in _distinct(owned) if record.ref.id in ids}


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records with notes on rules that the destination does not know."""
    return [_without_rules(search.destination, record) for record in records]


def _without_rules(destination: Cloud, record: Record) -> Record:
    if not record.data.get("rules") or supports(destination, RULES):
        return record
    note = (
        f"its rules {record.data['rules']} are not carried: Nova has none before microversion {RULES} (Rocky)"
    )
    return replace(record, notes=(*record.notes, note))


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The group of the same name in the tenant's twin: groups carry no stamp, and are all but their values."""
    groups = list_server_groups(search.destination) if records else []
    found: dict[Ref, list[Twin]] = {}
    for record in records:
        tenant_id = search.ids.get(Ref("tenant", record.data["project_id"]))
        same = [g for g in groups if (g["project_id"], g["name"]) == (tenant_id, record.name)]
        found[record.ref] = [_twin(record, group) for group in same]
    return found


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the group and make it, empty."""
    return [
        retrieve_record(fetch, migration, step),
        ensure(EnsureServerGroup, [migration.destination], step),
    ]


class EnsureServerGroup(BaseEnsureTask):
    """Finds or creates the group of the same name and policy in the tenant."""

    shared = True

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The group of this name, policy and rules."""
        tenant_id = ensured_id(ensured, "tenant", data["project_id"])
        owned = [group for group in list_server_groups(self.cloud) if group["project_id"] == tenant_id]
        same = [group for group in owned if group["name"] == data["name"] and not _differences(data, group)]
        return str(same[0]["id"]) if same else None

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """A new group; Nova gives it to the project that it is asked for from."""
        with self.cloud.in_tenant(ensured_id(ensured, "tenant", data["project_id"])) as tenant_cloud:
            policy = (
                {"policy": data["policy"], **({"rules": data["rules"]} if data["rules"] else {})}
                if supports(self.cloud, RULES)
                else {"policies": [data["policy"]]}
            )
            asked = {"name": data["name"], **policy}
            compute, body = tenant_cloud.adapter("compute"), {"server_group": asked}
            made = call(compute, "POST", "/os-server-groups", body)["server_group"]
        return self.accept(str(made["id"]), asked, made)

    def remove(self, destination_id: str) -> None:
        """Delete the group."""
        call(self.cloud.adapter("compute"), "DELETE", f"/os-server-groups/{destination_id}")


def _data(group: Json) -> Json:
    return {
        "id": group["id"],
        "name": group["name"],
        # The list of old has had exactly one policy ever since it had any.
        "policy": group.get("policy") or next(iter(group.get("policies", ())), None),
        "rules": group.get("rules") or {},
        "members": sorted(group["members"]),
        "project_id": group["project_id"],
    }


def _record(group: Json) -> Record:
    tenant = Ref("tenant", group["project_id"])
    return Record(Ref(NAME, group["id"]), group["name"], _data(group), (tenant,), answer=group)


def _distinct(records: Iterable[Record]) -> list[Record]:
    """The records under names by which they can be told apart."""
    by_name: dict[Any, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.ref):
        by_name[record.data["project_id"], record.name].append(record)
    return [record for same in by_name.values() for record in (same[0], *map(_renamed, same[1:]))]


def _renamed(record: Record) -> Record:
    name = distinct_name(NAME, record.name, record.ref.id)
    note = f"the tenant has several server groups named {record.name}: this one becomes {name}"
    return replace(record, name=name, data={**record.data, "name": name}, notes=(*record.notes, note))


def _differences(data: Json, group: Json) -> tuple[str, ...]:
    return differences(data, _data(group), FIELDS)


def _twin(record: Record, group: Json) -> Twin:
    found = _differences(record.data, group)
    return Twin(group["id"], ours=not found, differences=found)


KIND = Kind(
    NAME,
    "compute",
    discover,
    fetch,
    find,
    tasks,
    renamable=True,
    adapt=adapt,
    recognised="all its values, in the tenant",
    remove=removal(EnsureServerGroup),
    fields=Fields(
        carried="name policy policies rules",
        mapped={
            "project_id": "the tenant's twin",
            "members": "the servers' twins, which join when they boot",
        },
        derived="id user_id",
        noted={"metadata": "its metadata are not carried: no call of Nova sets them"},
        summary="which servers are in it",
    ),
)

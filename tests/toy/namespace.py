"""A kind that no migration needs: Glance's namespaces of metadata definitions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from taskflow import task

from pumphouse.cloud import Cloud, call
from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    BaseEnsureTask,
    Ensured,
    Migration,
    Search,
    differences,
    ensure,
    ensured_id,
    retrieve_record,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.kind import Found, Kind, matching

NAME = "namespace"
PATH = "/metadefs/namespaces"
FIELDS = ("display_name", "description")
NOT_COMPARED = "only the tests have it"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The namespaces that the tenant owns."""
    return [_record(item) for item in _all(source).values() if item["owner"] == tenant_id]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The namespaces of the given ids, which are their names."""
    return {name: _record(item) for name, item in _all(source).items() if name in ids}


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The namespace of the same name, which is unique in a cloud."""
    there = _all(search.destination)
    return {
        record.ref: [_twin(search, record, there[record.name])] for record in records if record.name in there
    }


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the namespace and make it."""
    return [retrieve_record(fetch, migration, step), ensure(EnsureNamespace, [migration.destination], step)]


def find_anywhere(source: Cloud, wanted: Json) -> list[Found]:
    """The namespaces of that id or name, in whichever tenant."""
    items = [{**item, "id": name, "name": name} for name, item in _all(source).items()]
    return matching(items, wanted, "owner")


class EnsureNamespace(BaseEnsureTask):
    """Finds or creates a namespace of the tenant."""

    shared = True

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The tenant's namespace of this name."""
        owner = ensured_id(ensured, "tenant", data["owner"])
        found = _all(self.cloud).get(data["name"])
        return data["name"] if found and found["owner"] == owner else None

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Make it."""
        fields = {field: data[field] for field in FIELDS}
        owner = ensured_id(ensured, "tenant", data["owner"])
        call(self.cloud.adapter("image"), "POST", PATH, {"namespace": data["name"], "owner": owner, **fields})
        return str(data["name"])

    def remove(self, destination_id: str) -> None:
        """Delete it."""
        call(self.cloud.adapter("image"), "DELETE", f"{PATH}/{destination_id}")


def _all(cloud: Cloud) -> dict[str, Json]:
    """The namespaces of all tenants, by name."""
    found = call(cloud.adapter("image"), "GET", PATH)["namespaces"]
    return {item["namespace"]: item for item in found}


def _record(item: Json) -> Record:
    data = {"name": item["namespace"], "owner": item["owner"], **{field: item.get(field) for field in FIELDS}}
    return Record(Ref(NAME, data["name"]), data["name"], data, (Ref("tenant", data["owner"]),), answer=item)


def _twin(search: Search, record: Record, item: Json) -> Twin:
    ours = item["owner"] == search.ids.get(Ref("tenant", record.data["owner"]))
    return Twin(record.name, ours, differences(record.data, item, FIELDS))


KIND = Kind(
    NAME,
    "image",
    discover,
    fetch,
    find,
    tasks,
    renamable=True,
    nameable=True,
    find_anywhere=find_anywhere,
    not_compared=NOT_COMPARED,
    fields=Fields(
        carried=f"namespace {' '.join(FIELDS)}",
        mapped={"owner": "the tenant's twin"},
        derived="created_at updated_at self schema",
    ),
)

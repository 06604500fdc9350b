"""Trunks: a port that carries the traffic of others; made before the server of that port boots."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
    why_not_undone,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.kind import Kind, removal
from pumphouse.tasks.neutron.common import (
    DERIVED,
    PORTS,
    TRUNKS,
    TWIN_TENANT,
    EnsureItem,
    common_data,
    finish,
    is_stamped,
    strangers_in,
    tag_notes,
    twin,
    unmark,
)
from pumphouse.words import counted

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "trunk"
FIELDS = ("name", "description", "tags", "admin_state_up")
SUBPORT = ("port_id", "segmentation_type", "segmentation_id")
SERVER_OWNER = "compute:"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The trunks that the tenant owns; none where the cloud does not have the extension."""
    return list(_records(source, TRUNKS.owned(source, tenant_id)).values())


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The trunks of the given ids."""
    return _records(source, list(TRUNKS.items(source, ids).values()))


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The trunk of the port's twin: a port has one at most."""
    tenants = {record.ref: search.ids.get(Ref("tenant", record.data["project_id"])) for record in records}
    found = {t: TRUNKS.owned(search.destination, t) for t in set(tenants.values()) if t}
    return {r.ref: _twins(search, r, found.get(tenants[r.ref] or "", [])) for r in records}


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the trunk, make it, and give it its subports."""
    ref = step.ref
    count = counted(len(step.record.data["sub_ports"]), "subport")
    return [
        retrieve_record(fetch, migration, step),
        ensure(EnsureTrunk, [migration.destination], step),
        EnsureSubports(
            migration.destination,
            provides=symbol(ref, "subports-ensured"),
            rebind={"data": symbol(ref, "retrieved"), "trunk": symbol(ref, "ensured")},
            requires=[symbol(need, "ensured") for need in step.record.needs],
            line=f"give {step.record.title} its {count}",
        ),
    ]


class EnsureTrunk(EnsureItem):
    """Finds or creates the trunk of a port, without its subports.

    It is made enabled, because Neutron neither changes the subports of a disabled trunk nor deletes it.
    """

    collection = TRUNKS
    complete = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A plan calls a trunk without a name by its id, which is not to become its name.
        super().__init__(*args, **{**kwargs, "target_name": None})

    def fields(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """Its port."""
        return {"port_id": ensured_id(ensured, "port", data["port_id"]), "admin_state_up": True}

    def remove(self, destination_id: str) -> None:
        """Delete the trunk, enabled before."""
        TRUNKS.update(self.cloud, destination_id, admin_state_up=True)
        super().remove(destination_id)


class EnsureSubports(BaseCloudTask):
    """Adds those subports to a trunk that it lacks, and brings it to its state, which completes it."""

    def execute(self, data: Json, trunk: Json, **ensured: Ensured) -> Json:
        """Add them; provides those that were added."""
        there = self.cloud.batch(TRUNKS.items).get(trunk["id"])
        actual = {_key(subport) for subport in there["sub_ports"]}
        wanted = [
            {**subport, "port_id": ensured_id(ensured, "port", subport["port_id"])}
            for subport in data["sub_ports"]
        ]
        missing = [subport for subport in wanted if _key(subport) not in actual]
        before = self.journal_before(sorted(subport["port_id"] for subport in there["sub_ports"]))
        if missing and not there["admin_state_up"]:
            TRUNKS.update(self.cloud, trunk["id"], admin_state_up=True)
        if missing:
            there = TRUNKS.put(self.cloud, trunk["id"], "add_subports", sub_ports=missing)
        as_asked(
            {"subports": sorted(map(_key, wanted))},
            {"subports": sorted({*map(_key, there["sub_ports"])} & {*map(_key, wanted)})},
        )
        finish(self.cloud, TRUNKS, trunk["id"], data, admin_state_up=data["admin_state_up"])
        added = [subport["port_id"] for subport in wanted if subport["port_id"] not in before]
        return {"id": trunk["id"], "added": added}

    def revert(self, result: Any, data: Json, trunk: Json, **ensured: Ensured) -> Json | None:
        """Take those away that were added; those of a trunk that was made are free when it is deleted."""
        if isinstance(result, dict):
            added = set(result["added"])
        elif self.before is None:
            return None
        else:
            wanted = {ensured_id(ensured, "port", subport["port_id"]) for subport in data["sub_ports"]}
            added = wanted - set(self.before)
        return kept_result(
            why_not_undone(self.name, self._take_away, trunk["id"], added, data["admin_state_up"])
        )

    def _take_away(self, trunk_id: str, added: Collection[str], admin_state_up: bool) -> None:
        for trunk in TRUNKS.items(self.cloud, [trunk_id]).values():
            there = [{"port_id": s["port_id"]} for s in trunk["sub_ports"] if s["port_id"] in added]
            if there:
                TRUNKS.update(self.cloud, trunk_id, admin_state_up=True)
                TRUNKS.put(self.cloud, trunk_id, "remove_subports", sub_ports=there)
                TRUNKS.update(self.cloud, trunk_id, admin_state_up=admin_state_up)


def _records(source: Cloud, trunks: Sequence[Json]) -> dict[str, Record]:
    parents = PORTS.items(source, [trunk["port_id"] for trunk in trunks])
    return {trunk["id"]: _record(trunk, parents[trunk["port_id"]]) for trunk in trunks}


def _record(trunk: Json, parent: Json) -> Record:
    data = _data(trunk)
    ports = [data["port_id"], *(subport["port_id"] for subport in data["sub_ports"])]
    needs = (Ref("tenant", trunk["project_id"]), *(Ref("port", port_id) for port_id in ports))
    of_server = parent["device_owner"].startswith(SERVER_OWNER)
    return Record(
        Ref(NAME, trunk["id"]),
        trunk["name"] or trunk["id"],
        data,
        needs,
        notes=tag_notes(data),
        part_of=Ref("server", parent["device_id"]) if of_server else None,
        answer=trunk,
    )


def _data(trunk: Json) -> Json:
    sub_ports = [{field: subport[field] for field in SUBPORT} for subport in trunk["sub_ports"]]
    return {
        **common_data(trunk),
        "admin_state_up": trunk["admin_state_up"],
        "port_id": trunk["port_id"],
        "sub_ports": sorted(sub_ports, key=str),
    }


def _key(subport: Json) -> tuple[Any, ...]:
    return tuple(subport[field] for field in SUBPORT)


def _twins(search: Search, record: Record, trunks: Sequence[Json]) -> list[Twin]:
    port_id = search.ids.get(Ref("port", record.data["port_id"]))
    return [
        _twin(search, record, trunk)
        for trunk in trunks
        if is_stamped(trunk, record.ref.id) or trunk["port_id"] == port_id
    ]


def _twin(search: Search, record: Record, trunk: Json) -> Twin:
    there = {_key(subport) for subport in trunk["sub_ports"]}
    wanted = {
        _key({**subport, "port_id": search.ids.get(Ref("port", subport["port_id"]))}): subport
        for subport in record.data["sub_ports"]
    }
    missing = [f"it lacks subport {wanted[key]['port_id']}" for key in sorted(wanted.keys() - there, key=str)]
    found = (*differences(record.data, _data(trunk), FIELDS), *missing)
    return twin(trunk, record, found, ", ".join(missing))


KIND = Kind(
    NAME,
    "network",
    discover,
    fetch,
    find,
    tasks,
    extension="trunk",
    reusable=False,
    strangers=partial(strangers_in, TRUNKS),
    unmark=partial(unmark, TRUNKS),
    remove=removal(EnsureTrunk),
    fields=Fields(
        carried="name description tags admin_state_up sub_ports/segmentation_type sub_ports/segmentation_id",
        mapped={**TWIN_TENANT, "port_id": "the port's twin", "sub_ports/port_id": "the port's twin"},
        derived=f"{DERIVED} status",
    ),
)

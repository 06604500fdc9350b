"""Flavors: the private ones of the tenant, and all that its servers need."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.cloud import call
from pumphouse.cloud.rights import Rights
from pumphouse.errors import ConflictError, MadeOtherwiseError, explain, http_status
from pumphouse.model import Json, Record, Ref, Step, Twin, symbol
from pumphouse.tasks.base import (
    ASK,
    MARK,
    STAMP,
    BaseCloudTask,
    BaseEnsureTask,
    BaseRetrieveTask,
    Ensured,
    Migration,
    Search,
    as_asked,
    differences,
    differs_in_case,
    distinct_name,
    ensure,
    in_doubt,
    kept_result,
    named,
    retrieve,
    why_not_undone,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.kind import Kind, Names, always
from pumphouse.tasks.nova.common import flavor_path, list_flavors, supports

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "flavor"
# What a server gets from its flavor; two flavors that differ in any of these are not the same.
VALUES = ("ram", "vcpus", "disk", "ephemeral", "swap", "rxtx_factor", "is_public", "extra_specs")
# Descriptions came with Queens; before it, a flavor cannot say that it is unfinished.
DESCRIPTIONS = "2.55"
# Up to this microversion Nova takes any extra spec; it checks those it knows from 2.86 (Ussuri) on.
UNCHECKED_SPECS = "2.85"
# The address of a flavor that was deleted at the source, before the id of a server that still has it.
DELETED = "deleted."
DELETED_NOTE = "it was deleted at the source: a private one is made of what its server still tells of it"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The private flavors that the tenant has access to; Nova tells that of one at a time, so several are asked at once."""
    private = [flavor for flavor in list_flavors(source) if not flavor["os-flavor-access:is_public"]]
    with ThreadPoolExecutor() as pool:
        data = list(pool.map(partial(_data, source), private))
    records = [_record(told, tenant_id, flavor) for told, flavor in zip(data, private, strict=True)]
    return [record for record in records if tenant_id in record.data["access"]]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The flavors of the given ids; `deleted.<server id>` is one that only that server still tells of."""
    flavors = {flavor["id"]: flavor for flavor in list_flavors(source) if flavor["id"] in ids}
    existing = {i: _record(_data(source, flavor), answer=flavor) for i, flavor in flavors.items()}
    deleted = {i: _record(data, data["access"][0]) for i, data in _read_deleted(source, ids).items()}
    return existing | {i: replace(record, notes=(DELETED_NOTE,)) for i, record in deleted.items()}


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The flavor that a mapping names, or the one of the same name (unique in a cloud)."""
    flavors = {flavor["name"]: [flavor] for flavor in list_flavors(search.destination)}
    return {
        record.ref: [
            _twin(search, record, flavor) for flavor in named(search, "flavors", record.name, flavors)
        ]
        for record in records
    }


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the flavor, make it, and give the tenant access where it is private."""
    cloud = migration.destination
    found: list[task.Task] = [
        retrieve(RetrieveFlavor, migration, step),
        ensure(EnsureFlavor, [cloud], step, destination_id=step.destination_id),
    ]
    tenants = [need for need in step.record.needs if need.kind == "tenant"]
    return found + [_grant(cloud, step, tenant) for tenant in tenants]


class RetrieveFlavor(BaseRetrieveTask):
    """Reads a flavor of the source."""

    def retrieve(self, resource_id: str) -> Json:
        """Its values, extra specs and access list."""
        read = _read_deleted if resource_id.startswith(DELETED) else _read
        return self.cloud.batch(read).get(resource_id)


class EnsureFlavor(BaseEnsureTask):
    """Finds or creates the flavor of the same name and values; never changes one that was there.

    destination_id: the flavor that the plan found.
    """

    shared = True

    def __init__(self, *args: Any, destination_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.destination_id = destination_id

    def execute(self, data: Json, **ensured: Ensured) -> Ensured:
        """Find or create the flavor; notes say what of a new one Nova does not take."""
        self.notes: list[str] = []
        result = super().execute(data, **ensured)
        if result["made"] and data["description"] and not supports(self.cloud, DESCRIPTIONS):
            why = f"the destination's Nova has none before {DESCRIPTIONS} (Queens)"
            self.notes.append(f"its description is not carried: {why}")
        return {**result, "notes": self.notes}

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The flavor of the plan, or the equal one of the same name; another of that name is a conflict."""
        if self.destination_id:
            return self.destination_id
        flavor = next((item for item in list_flavors(self.cloud) if item["name"] == data["name"]), None)
        if flavor is None:
            return None
        found = differences(data, _values(self.cloud, flavor), _known(data))
        if found and not _is_unfinished(flavor, data["id"]):
            raise ConflictError(
                f"the destination has another flavor named {data['name']!r}: {'; '.join(found)}",
                "name the flavor to take in mappings.flavors, or set policies.on_conflict to rename",
            )
        return str(flavor["id"])

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """A new flavor, with the source's id where free; unfinished while its description is the stamp."""
        taken = {flavor["id"] for flavor in list_flavors(self.cloud)}
        flavor_id = None if data["id"] in taken or data["id"].startswith(DELETED) else data["id"]
        stamped = supports(self.cloud, DESCRIPTIONS)
        flavor = {
            **{name: data[name] for name in ("name", "ram", "vcpus", "disk", "swap")},
            "id": flavor_id,
            "rxtx_factor": data.get("rxtx_factor", 1.0),
            "OS-FLV-EXT-DATA:ephemeral": data["ephemeral"],
            "os-flavor-access:is_public": data.get("is_public", False),
        }
        if stamped:
            flavor["description"] = f"{_stamp(data['id'])} {MARK}={self.mark}"
        made = call(self.cloud.adapter("compute"), "POST", "/flavors", {"flavor": flavor})["flavor"]
        asked = {name: value for name, value in flavor.items() if value is not None}
        created = self.accept(str(made["id"]), asked, made)
        if not stamped and data["extra_specs"]:
            try:
                self._specify(created, data["extra_specs"])
            except BaseException:
                self.undo(created)
                raise
        return created

    def is_marked(self, destination_id: str) -> bool:
        """Whether this task has made the flavor: one that is finished and of which it noted no id, another has."""
        flavor = call(self.cloud.adapter("compute"), "GET", flavor_path(destination_id))["flavor"]
        return str(flavor.get("description")).endswith(f"{MARK}={self.mark}")

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Ensured]) -> None:
        """Set the extra specs of an unfinished flavor, and last its description."""
        flavor = call(self.cloud.adapter("compute"), "GET", flavor_path(destination_id))["flavor"]
        if _is_unfinished(flavor, data["id"]):
            if data["extra_specs"]:
                self._specify(destination_id, data["extra_specs"])
            asked = {"description": data["description"]}
            compute, path = self.cloud.adapter("compute"), flavor_path(destination_id)
            as_asked(asked, call(compute, "PUT", path, {"flavor": asked})["flavor"])

    def remove(self, destination_id: str) -> None:
        """Delete the flavor."""
        call(self.cloud.adapter("compute"), "DELETE", flavor_path(destination_id))

    def _specify(self, flavor_id: str, specs: Json) -> None:
        """Set the extra specs; where Nova refuses them, one by one, with a note on each that it refuses."""
        unchecked = {"microversion": UNCHECKED_SPECS} if supports(self.cloud, UNCHECKED_SPECS) else {}
        path = flavor_path(flavor_id, "os-extra_specs")
        compute, body = self.cloud.adapter("compute"), {"extra_specs": specs}
        try:
            as_asked(specs, call(compute, "POST", path, body, **unchecked)["extra_specs"])
        except Exception as error:
            if http_status(error) != 400:
                raise
            if len(specs) == 1:
                self.notes.append(f"its extra spec {next(iter(specs))} is not carried: {explain(error)}")
                return
            for key, value in specs.items():
                self._specify(flavor_id, {key: value})


class GrantFlavor(BaseCloudTask):
    """Gives the tenant access to a private flavor, and takes back only what it gave."""

    def execute(self, flavor: Json, tenant: Json) -> Json:
        """Provide `{"id": ..., "made": ...}`, made False when the tenant had access."""
        if tenant["id"] in _access(self.cloud, flavor["id"]):
            return {"id": flavor["id"], "made": self.begun}
        self.journal()
        try:
            given = self._change("addTenantAccess", flavor, tenant)
        except Exception as error:
            given = _access(self.cloud, flavor["id"]) if in_doubt(error) else []
            if tenant["id"] not in given:
                raise
        if tenant["id"] not in given:
            raise MadeOtherwiseError("the destination gave others access to it than it was asked to", ASK)
        return {"id": flavor["id"], "made": True}

    def revert(self, result: Any, flavor: Json, tenant: Json, **_: Any) -> Json | None:
        """Take the access back."""
        given = result["made"] if isinstance(result, dict) else self.begun
        left = why_not_undone(self.name, self._change, "removeTenantAccess", flavor, tenant) if given else ""
        if self.begun and not left:
            self.journal(False)
        return kept_result(left)

    def _change(self, action: str, flavor: Json, tenant: Json) -> list[str]:
        path, body = flavor_path(flavor["id"], "action"), {action: {"tenant": tenant["id"]}}
        answer = call(self.cloud.adapter("compute"), "POST", path, body)
        return [access["tenant_id"] for access in answer["flavor_access"]]


def _grant(cloud: Cloud, step: Step, tenant: Ref) -> task.Task:
    return GrantFlavor(
        cloud,
        provides=symbol(step.ref, "granted"),
        rebind={"flavor": symbol(step.ref, "ensured"), "tenant": symbol(tenant, "ensured")},
        line=f"give the tenant access to {step.record.title}",
    )


def _read(source: Cloud, ids: Collection[str]) -> dict[str, Json]:
    return {flavor["id"]: _data(source, flavor) for flavor in list_flavors(source) if flavor["id"] in ids}


def _read_deleted(source: Cloud, ids: Collection[str]) -> dict[str, Json]:
    """Deleted flavors by their addresses, as servers have had them in them since microversion 2.47 (Pike)."""
    wanted = [i for i in ids if i.startswith(DELETED)]
    names = {flavor["name"] for flavor in list_flavors(source)} if wanted else set()
    paths = {i: f"/servers/{i.removeprefix(DELETED)}" for i in wanted}
    servers = {i: call(source.adapter("compute"), "GET", path)["server"] for i, path in paths.items()}
    return {i: _deleted_data(i, server, names) for i, server in servers.items()}


def _deleted_data(flavor_id: str, server: Json, names: Collection[str]) -> Json:
    """What a server tells of its flavor; whether it was public, and its rxtx_factor, are not known."""
    flavor = server["flavor"]
    name = flavor["original_name"]
    return {
        **{field: flavor[field] for field in ("ram", "vcpus", "disk", "ephemeral", "swap", "extra_specs")},
        "id": flavor_id,
        # Another flavor of the source may have got its name since.
        "name": distinct_name(NAME, name, server["id"]) if name in names else name,
        "description": None,
        "access": [server["tenant_id"]],
    }


def _access(cloud: Cloud, flavor_id: str) -> list[str]:
    """The projects that may use a private flavor: Nova tells them for one flavor at a time only.

    To others than administrators it lists private flavors only if they may use them, and not who else may.
    """
    if not cloud.is_admin:
        return [cloud.project_id]
    found = call(cloud.adapter("compute"), "GET", flavor_path(flavor_id, "os-flavor-access"))
    return sorted(access["tenant_id"] for access in found["flavor_access"])


def _data(cloud: Cloud, flavor: Json) -> Json:
    public = flavor["os-flavor-access:is_public"]
    return {**_values(cloud, flavor), "access": [] if public else _access(cloud, flavor["id"])}


def _values(cloud: Cloud, flavor: Json) -> Json:
    specs = flavor.get("extra_specs")
    if specs is None:
        # Lists have had the extra specs since microversion 2.61 (Rocky), and only for who may see them.
        specs = call(cloud.adapter("compute"), "GET", flavor_path(flavor["id"], "os-extra_specs"))[
            "extra_specs"
        ]
    return {
        **{name: flavor[name] for name in ("id", "name", "ram", "vcpus", "disk")},
        "ephemeral": flavor["OS-FLV-EXT-DATA:ephemeral"],
        # Nova wrote no swap as an empty string until microversion 2.75 (Train).
        "swap": flavor["swap"] or 0,
        "rxtx_factor": flavor["rxtx_factor"],
        "is_public": flavor["os-flavor-access:is_public"],
        "description": flavor.get("description"),
        "extra_specs": specs,
    }


def _record(data: Json, tenant_id: str | None = None, answer: Json | None = None) -> Record:
    owned = tenant_id in data["access"]
    needs = (Ref("tenant", tenant_id),) if tenant_id and owned else ()
    others = len(data["access"]) - owned
    note = f"{others} other projects have access to it: each gets it when it is migrated itself"
    return Record(
        Ref(NAME, data["id"]), data["name"], data, needs, notes=(note,) if others else (), answer=answer or {}
    )


def _known(data: Json) -> list[str]:
    """The values that are known of a flavor of the source."""
    return [field for field in VALUES if field in data]


def _twin(search: Search, record: Record, flavor: Json) -> Twin:
    if _is_unfinished(flavor, record.ref.id):
        return Twin(flavor["id"], True, unfinished="an earlier run has not set its extra specs")
    actual = _values(search.destination, flavor)
    other = differences(record.data, actual, _known(record.data))
    if differs_in_case(flavor["name"], record.name):
        other = (f"its name is {flavor['name']!r}", *other)
    if other and record.name not in search.mappings["flavors"]:
        return Twin(flavor["id"], False, other)
    found = differences(record.data, actual, (*_known(record.data), "description"))
    return Twin(flavor["id"], True, found, _unfinished(search, record, flavor))


def _unfinished(search: Search, record: Record, flavor: Json) -> str:
    """What is left to do at an equal flavor that is private: the access of the tenant."""
    tenants = [need for need in record.needs if need.kind == "tenant"]
    if flavor["os-flavor-access:is_public"] or not tenants:
        return ""
    access = _access(search.destination, flavor["id"])
    missing = any(search.ids.get(tenant) not in access for tenant in tenants)
    return "the tenant has no access to it" if missing else ""


def _stamp(flavor_id: str) -> str:
    return f"{STAMP}={flavor_id}"


def _names(cloud: Cloud, wanted: Collection[str]) -> Names:
    return Names([flavor["name"] for flavor in list_flavors(cloud)])


def _is_unfinished(flavor: Json, source_id: str) -> bool:
    stamp = (flavor.get("description") or "").partition(f" {MARK}=")[0]  # an id may have spaces, too
    return stamp == _stamp(source_id)


KIND = Kind(
    NAME,
    "compute",
    discover,
    fetch,
    find,
    tasks,
    rights=Rights.ADMINISTRATORS_MAKE,
    renamable=True,
    common=always,
    mapping="flavors",
    mapped_names={"flavors": _names},
    nameable=True,
    recognised="mapping, or name and values",
    stays="other tenants may use it",
    fields=Fields(
        carried="id ram vcpus disk swap OS-FLV-EXT-DATA:ephemeral rxtx_factor os-flavor-access:is_public "
        "description extra_specs",
        mapped={
            "name": "mappings.flavors, else the same name and values",
            "flavor_access/tenant_id": "the tenant's twin",
        },
        derived="links flavor_access/flavor_id",
        noted={"OS-FLV-DISABLED:disabled": "that it is disabled is not carried: no call of Nova does that"},
        summary="the id only where it is free; access of the tenant",
    ),
)

"""Quotas: limits of the tenant that are not the source's defaults, set before anything is made that they limit.

A limit that is lower than what the tenant has is first set to that, and by a record of its own to what it is when
everything else is there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.cloud import call, or_none
from pumphouse.cloud.rights import Rights
from pumphouse.errors import MadeOtherwiseError, explain, http_status
from pumphouse.model import Json, Record, Ref, Step, Twin, symbol
from pumphouse.tasks.base import (
    BaseEnsureTask,
    BaseRetrieveTask,
    Ensured,
    Migration,
    Search,
    as_asked,
    ensure,
    ensured_id,
    retrieve,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.kind import Kind, no_service

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "quota"
# Nova's limits of what has long been Neutron's; Nova itself forgot them with microversions 2.36 and 2.50.
NOT_NOVAS = frozenset({"fixed_ips", "floating_ips", "networks", "security_groups", "security_group_rules"})
# Cinder's limits of single volume types are named by the type, e.g. `gigabytes_ssd`.
BY_TYPE = ("volumes_", "gigabytes_", "snapshots_")
LAST = "last"
Limits = dict[str, int]


@dataclass(frozen=True)
class Service:
    """Where a service has the limits of a project.

    usage: what follows the address of a project's limits where they are told with what is in use.
    used: the field of that.
    """

    type: str
    path: str
    default: str
    key: str
    usage: str
    used: str

    def read(self, cloud: Cloud, tenant_id: str, suffix: str = "") -> Limits:
        """The limits of a project; with the suffix, those of projects that nobody has set any for.

        None where the cloud does not have the service.
        """
        if not cloud.has(self.type):
            return {}
        body = call(cloud.adapter(self.type), "GET", f"{self.path}/{tenant_id}{suffix}")[self.key]
        return {name: limit for name, limit in body.items() if isinstance(limit, int)}

    def read_usage(self, cloud: Cloud, tenant_id: str) -> tuple[Limits, Limits]:
        """The limits of a project, and what is in use of each; nothing is where the service does not tell.

        Neutron tells by its extension `quota_details` (Pike).
        """
        if not cloud.has(self.type):
            return {}, {}
        found = or_none(call, cloud.adapter(self.type), "GET", f"{self.path}/{tenant_id}{self.usage}")
        if found is None:
            return self.read(cloud, tenant_id), {}
        told = {name: value for name, value in found[self.key].items() if isinstance(value, dict)}
        limits = {name: int(value["limit"]) for name, value in told.items()}
        return limits, {name: value[self.used] + value["reserved"] for name, value in told.items()}

    def set(self, cloud: Cloud, tenant_id: str, limits: Limits) -> Limits:
        """Set limits of a project, also to less than is in use; returns what the service says of them then.

        Nova and Neutron refuse that unless they are forced to; Cinder does not, and knows no force.
        """
        adapter, path = cloud.adapter(self.type), f"{self.path}/{tenant_id}"
        try:
            answer = call(adapter, "PUT", path, {self.key: limits})
        except Exception as error:
            if http_status(error) != 400 or self.type == "block-storage":
                raise
            answer = call(adapter, "PUT", path, {self.key: {**limits, "force": True}})
        found: Limits = answer[self.key]
        return found

    def reset(self, cloud: Cloud, tenant_id: str) -> None:
        """Let all limits of a project be the defaults again."""
        call(cloud.adapter(self.type), "DELETE", f"{self.path}/{tenant_id}")


SERVICES = {
    "compute": Service("compute", "/os-quota-sets", "/defaults", "quota_set", "/detail", "in_use"),
    "volume": Service("block-storage", "/os-quota-sets", "/defaults", "quota_set", "?usage=True", "in_use"),
    "network": Service("network", "/quotas", "/default", "quota", "/details", "used"),
}


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The limits of the tenant that are not defaults, a record or two for each service; two calls each."""
    found = [_read(source, tenant_id, service) for service in SERVICES]
    return [_record(data) for data in (*found, *map(_last, found)) if data["limits"]]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The limits of the given ids, each `<tenant id>.<service>`, and `.last` for those set when all is there."""
    found = {i: _fetch(source, i) for i in ids}
    return {i: _record(data) for i, data in found.items() if data["limits"]}


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records, with notes on single quotas that the destination does not have; none is set without their service."""
    return [_arriving(search, record) for record in records]


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The limits of the tenant's twin; what nobody has set there yet is unfinished."""
    found: dict[Ref, list[Twin]] = {}
    for record in records:
        tenant_id = search.ids.get(Ref("tenant", record.data["tenant_id"]))
        if tenant_id is not None:
            found[record.ref] = [_twin(search, record, tenant_id)]
    return found


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the limits and set them."""
    limits = ", ".join(f"{name}={limit}" for name, limit in sorted(first_limits(step.record.data).items()))
    types = migration.settings["mappings"]["volume_types"]
    line = f"set quotas of {step.record.name}: {limits}"
    return [
        retrieve(RetrieveQuota, migration, step),
        ensure(EnsureQuota, [migration.destination], step, line=line, types=types),
    ]


class RetrieveQuota(BaseRetrieveTask):
    """Reads the limits of a tenant of the source."""

    def retrieve(self, resource_id: str) -> Json:
        """Those that are not the defaults."""
        return _fetch(self.cloud, resource_id)


class EnsuredQuota(Ensured):
    """What setting limits provides besides: those of before, which a revert sets again."""

    before: Limits


class EnsureQuota(BaseEnsureTask):
    """Sets those limits of the project that are the destination's defaults; others were set by somebody.

    types: names of volume types at the destination by those of the source.
    """

    shared = True

    def __init__(self, *args: Any, types: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.types = types

    def execute(self, data: Json, **ensured: Ensured) -> EnsuredQuota:
        """Set them; provides the values of before. What the destination refuses is a note."""
        tenant_id, service = ensured_id(ensured, "tenant", data["tenant_id"]), SERVICES[data["service"]]
        self.notes = _missing(service.read(self.cloud, tenant_id, service.default), data, self.types)
        try:
            result = super().execute(data, **ensured)
        except Exception as error:
            if http_status(error) not in (400, 403):
                raise
            self.notes.append(f"they are not set: {explain(error).what}")
            result = {"id": _destination_id(data, tenant_id), "made": False}
        return {**result, "before": self.before or {} if result["made"] else {}, "notes": self.notes}

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The project's limits, if none is left to be set."""
        tenant_id = ensured_id(ensured, "tenant", data["tenant_id"])
        return None if self._unset(data, tenant_id) else _destination_id(data, tenant_id)

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Set what nobody has set."""
        tenant_id = ensured_id(ensured, "tenant", data["tenant_id"])
        service, limits = SERVICES[data["service"]], self._unset(data, tenant_id)
        actual = service.read(self.cloud, tenant_id)
        self.journal_before({name: actual[name] for name in limits})
        set_limits = partial(service.set, self.cloud, tenant_id)
        try:
            as_asked(limits, set_limits(limits), set_limits)
        except MadeOtherwiseError as error:
            self.notes.append(str(error))
        return _destination_id(data, tenant_id)

    def revert(self, result: Any, data: Json, **ensured: Ensured) -> Json | None:
        """Set what was there before; the limits of a tenant that was made are deleted, as it is itself."""
        self.tenant = ensured[symbol(Ref("tenant", data["tenant_id"]), "ensured")]
        self.previous: Limits = result["before"] if isinstance(result, dict) else self.before or {}
        return super().revert(result, data, **ensured)

    def remove(self, destination_id: str) -> None:
        """Take the limits back."""
        tenant_id, name, _ = _split(destination_id)
        if self.tenant["made"]:
            SERVICES[name].reset(self.cloud, tenant_id)
            return
        if self.previous:
            SERVICES[name].set(self.cloud, tenant_id, self.previous)

    def leftovers(self, data: Json, ensured: Mapping[str, Ensured]) -> list[str]:
        """The limits of the project, of which some may be set."""
        return [_destination_id(data, ensured_id(ensured, "tenant", data["tenant_id"]))]

    def _unset(self, data: Json, tenant_id: str) -> Limits:
        return settable(self.cloud, tenant_id, data, self.types)


def renamed(limits: Limits, types: Mapping[str, str]) -> Limits:
    """The limits with the names that the destination has for volume types."""
    names = {f"{prefix}{theirs}": f"{prefix}{ours}" for theirs, ours in types.items() for prefix in BY_TYPE}
    return {names.get(name, name): limit for name, limit in limits.items()}


def first_limits(data: Json) -> Limits:
    """The limits that a record is about, none of them lower than what the tenant has of it at the source."""
    used = data.get("used", {})
    return {name: max(limit, used.get(name, limit)) for name, limit in data["limits"].items()}


def settable(cloud: Cloud, tenant_id: str, data: Json, types: Mapping[str, str]) -> Limits:
    """Those of a record's limits that nobody has set yet in a project of the destination, and others than are wanted.

    What is to be set first is set again by later runs, as long as less is there than the tenant has at the source;
    what is to be set last replaces what was set first.

    types: names of volume types at the destination by those of the source.
    """
    service, wanted = SERVICES[data["service"]], renamed(first_limits(data), types)
    actual, in_use = service.read_usage(cloud, tenant_id)
    default = service.read(cloud, tenant_id, service.default)
    first, final = renamed(data.get("used", {}), types), renamed(data["limits"], types)
    last = renamed(data.get(LAST, {}), types)

    def is_free(name: str) -> bool:
        if name in first and in_use.get(name, 0) >= first[name]:
            return False
        return actual[name] in (default.get(name), final[name] if name in first else None, last.get(name))

    return {
        name: limit
        for name, limit in wanted.items()
        if name in actual and actual[name] != limit and is_free(name)
    }


def _arriving(search: Search, record: Record) -> Record:
    service, cloud = SERVICES[record.data["service"]], search.destination
    if not cloud.has(service.type):
        return replace(record, skip=no_service(cloud, service.type))
    if not cloud.is_admin:
        return record
    known = service.read(cloud, cloud.project_id, service.default)
    return replace(record, notes=tuple(_missing(known, record.data, search.mappings["volume_types"])))


def _missing(known: Limits, data: Json, types: Mapping[str, str]) -> list[str]:
    """A note on each limit of a record that a service does not know."""
    return [
        f"{name}={limit} is not carried: the destination has no such quota"
        for name, limit in sorted(renamed(first_limits(data), types).items())
        if name not in known
    ]


def _fetch(source: Cloud, quota_id: str) -> Json:
    tenant_id, service, is_last = _split(quota_id)
    data = _read(source, tenant_id, service)
    return _last(data) if is_last else data


def _read(source: Cloud, tenant_id: str, name: str) -> Json:
    """The limits of a tenant that are not the source's defaults, and what it has of those that are lower than that."""
    service = SERVICES[name]
    actual, in_use = service.read_usage(source, tenant_id)
    default = service.read(source, tenant_id, service.default)
    ignored = NOT_NOVAS if name == "compute" else ()
    limits = {k: v for k, v in sorted(actual.items()) if k not in ignored and v != default.get(k)}
    used = {k: in_use[k] for k, v in limits.items() if 0 <= v < in_use.get(k, 0)}
    data = {"id": f"{tenant_id}.{name}", "tenant_id": tenant_id, "service": name, "limits": limits}
    return {**data, "used": used} if used else data


def _last(data: Json) -> Json:
    """What is to be set of limits when everything is there; `last` has what they were set to until then."""
    used = data.get("used", {})
    limits = {name: data["limits"][name] for name in used}
    rest = {"tenant_id": data["tenant_id"], "service": data["service"]}
    return {"id": f"{data['id']}.{LAST}", **rest, "limits": limits, LAST: used}


def _split(quota_id: str) -> tuple[str, str, bool]:
    """The tenant, the service, and whether they are the limits that are set last."""
    tenant_id, service, *last = quota_id.split(".")
    return tenant_id, service, bool(last)


def _destination_id(data: Json, tenant_id: str) -> str:
    return ".".join([tenant_id, data["service"], *([LAST] if LAST in data else [])])


def _record(data: Json) -> Record:
    tenant, name = Ref("tenant", data["tenant_id"]), data["service"]
    if LAST in data:
        return Record(Ref(NAME, data["id"]), f"{name}, lower than what there is", data, (tenant,), last=True)
    # As a part of the tenant they are set before anything else is begun.
    return Record(Ref(NAME, data["id"]), name, data, (tenant,), part_of=tenant)


def _twin(search: Search, record: Record, tenant_id: str) -> Twin:
    data, types = record.data, search.mappings["volume_types"]
    service, wanted = SERVICES[data["service"]], renamed(first_limits(data), types)
    actual, in_use = service.read_usage(search.destination, tenant_id)
    unset = settable(search.destination, tenant_id, data, types)
    lower = renamed(data.get("used", {}), types)
    found = tuple(
        f"{name} is {actual.get(name, 'unknown')}, source has {limit}"
        for name, limit in wanted.items()
        if actual.get(name) != limit and name not in lower
    )
    # What is set last has to be set again where it is raised once more for what is still to come.
    raised = {name for name, used in renamed(data.get(LAST, {}), types).items() if in_use.get(name, 0) < used}
    waiting = sorted({*unset, *raised})
    unfinished = f"{', '.join(waiting)} not set" if waiting else ""
    return Twin(_destination_id(data, tenant_id), True, found, unfinished)


KIND = Kind(
    NAME,
    "identity",
    discover,
    fetch,
    find,
    tasks,
    rights=Rights.ADMINISTRATORS_SEE,
    adapt=adapt,
    recognised="itself",
    fields=Fields(
        carried="*",
        derived="id",
        summary="the limits of Nova, Neutron and Cinder that are not the source's defaults; those that are lower than what the tenant has are set when all is there",
    ),
)

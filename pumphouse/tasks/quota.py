"""Quotas: limits of the tenant that are not the source's defaults, set before anything is made that they limit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.cloud import call
from pumphouse.cloud.rights import Rights
from pumphouse.errors import explain, http_status
from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    BaseEnsureTask,
    BaseRetrieveTask,
    Ensured,
    Migration,
    Search,
    ensure,
    ensured_id,
    retrieve,
    symbol,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.kind import Kind

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "quota"
# Nova's limits of what has long been Neutron's; Nova itself forgot them with microversions 2.36 and 2.50.
NOT_NOVAS = frozenset({"fixed_ips", "floating_ips", "networks", "security_groups", "security_group_rules"})
# Cinder's limits of single volume types are named by the type, e.g. `gigabytes_ssd`.
BY_TYPE = ("volumes_", "gigabytes_", "snapshots_")
Limits = dict[str, int]


@dataclass(frozen=True)
class Service:
    """Where a service has the limits of a project."""

    type: str
    path: str
    default: str
    key: str

    def read(self, cloud: Cloud, tenant_id: str, suffix: str = "") -> Limits:
        """The limits of a project; with the suffix, those of projects that nobody has set any for.

        None where the cloud does not have the service.
        """
        if not cloud.has(self.type):
            return {}
        body = call(cloud.adapter(self.type), "GET", f"{self.path}/{tenant_id}{suffix}")[self.key]
        return {name: limit for name, limit in body.items() if isinstance(limit, int)}

    def set(self, cloud: Cloud, tenant_id: str, limits: Limits) -> None:
        """Set limits of a project."""
        call(cloud.adapter(self.type), "PUT", f"{self.path}/{tenant_id}", {self.key: limits})

    def reset(self, cloud: Cloud, tenant_id: str) -> None:
        """Let all limits of a project be the defaults again."""
        call(cloud.adapter(self.type), "DELETE", f"{self.path}/{tenant_id}")


SERVICES = {
    "compute": Service("compute", "/os-quota-sets", "/defaults", "quota_set"),
    "volume": Service("block-storage", "/os-quota-sets", "/defaults", "quota_set"),
    "network": Service("network", "/quotas", "/default", "quota"),
}


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The limits of the tenant that are not defaults, a record for each service; two calls each."""
    return list(fetch(source, [f"{tenant_id}.{service}" for service in SERVICES]).values())


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The limits of the given ids, each `<tenant id>.<service>`."""
    records = [_record(i, limits) for i in ids if (limits := _limits(source, *_split(i)))]
    return {record.ref.id: record for record in records}


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records, with a note where the destination does not have the service."""
    return [
        record
        if search.destination.has(SERVICES[record.data["service"]].type)
        else replace(record, notes=("they are not carried: the destination does not have the service",))
        for record in records
    ]


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
    limits = ", ".join(f"{name}={limit}" for name, limit in sorted(step.record.data["limits"].items()))
    types = migration.settings["mappings"]["volume_types"]
    line = f"set quotas of {step.record.data['service']}: {limits}"
    return [
        retrieve(RetrieveQuota, migration, step),
        ensure(EnsureQuota, [migration.destination], step, line=line, types=types),
    ]


class RetrieveQuota(BaseRetrieveTask):
    """Reads the limits of a tenant of the source."""

    def retrieve(self, resource_id: str) -> Json:
        """Those that are not the defaults."""
        tenant_id, service = _split(resource_id)
        return _data(resource_id, _limits(self.cloud, tenant_id, service))


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
        default = service.read(self.cloud, tenant_id, service.default)
        wanted = renamed(data["limits"], self.types)
        notes = [
            f"{name}={limit} is not carried: the destination has no such quota"
            for name, limit in sorted(wanted.items())
            if name not in default
        ]
        # Those that are as wanted were set by this very task, if it began to and died.
        before = self._defaults(data, tenant_id) | {n: default[n] for n in self._unset(data, tenant_id)}
        try:
            result = super().execute(data, **ensured)
        except Exception as error:
            if http_status(error) not in (400, 403):
                raise
            notes.append(f"they are not set: {explain(error).what}")
            result = {"id": f"{tenant_id}.{data['service']}", "made": False}
        return {**result, "before": before if result["made"] else {}, "notes": notes}

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The project's limits, if none is left to be set."""
        tenant_id = ensured_id(ensured, "tenant", data["tenant_id"])
        return None if self._unset(data, tenant_id) else f"{tenant_id}.{data['service']}"

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Set what nobody has set."""
        tenant_id = ensured_id(ensured, "tenant", data["tenant_id"])
        SERVICES[data["service"]].set(self.cloud, tenant_id, self._unset(data, tenant_id))
        return f"{tenant_id}.{data['service']}"

    def revert(self, result: Any, data: Json, **ensured: Ensured) -> Json | None:
        """Set what was there before; the limits of a tenant that was made are deleted, as it is itself."""
        self.data, self.tenant = data, ensured[symbol(Ref("tenant", data["tenant_id"]), "ensured")]
        self.before = result["before"] if isinstance(result, dict) else None
        return super().revert(result, data, **ensured)

    def remove(self, destination_id: str) -> None:
        """Take the limits back."""
        tenant_id, name = _split(destination_id)
        if self.tenant["made"]:
            SERVICES[name].reset(self.cloud, tenant_id)
            return
        before = self._defaults(self.data, tenant_id) if self.before is None else self.before
        if before:
            SERVICES[name].set(self.cloud, tenant_id, before)

    def leftovers(self, data: Json, ensured: Mapping[str, Ensured]) -> list[str]:
        """The limits of the project, of which some may be set."""
        return [f"{ensured_id(ensured, 'tenant', data['tenant_id'])}.{data['service']}"]

    def _unset(self, data: Json, tenant_id: str) -> Limits:
        wanted = renamed(data["limits"], self.types)
        return _settable(self.cloud, SERVICES[data["service"]], tenant_id, wanted)

    def _defaults(self, data: Json, tenant_id: str) -> Limits:
        """The limits of before of what an attempt that died has set: only what was a default is ever changed."""
        if not self.begun:
            return {}
        service, wanted = SERVICES[data["service"]], renamed(data["limits"], self.types)
        default = service.read(self.cloud, tenant_id, service.default)
        actual = service.read(self.cloud, tenant_id)
        return {name: default[name] for name in wanted if name in default and actual[name] == wanted[name]}


def renamed(limits: Limits, types: Mapping[str, str]) -> Limits:
    """The limits with the names that the destination has for volume types."""
    names = {f"{prefix}{theirs}": f"{prefix}{ours}" for theirs, ours in types.items() for prefix in BY_TYPE}
    return {names.get(name, name): limit for name, limit in limits.items()}


def _settable(cloud: Cloud, service: Service, tenant_id: str, wanted: Limits) -> Limits:
    """Those of the limits that are defaults in a project, and others than are wanted."""
    actual, default = service.read(cloud, tenant_id), service.read(cloud, tenant_id, service.default)
    return {
        name: limit
        for name, limit in wanted.items()
        if name in actual and actual[name] == default.get(name) and actual[name] != limit
    }


def _limits(source: Cloud, tenant_id: str, name: str) -> Limits:
    """The limits of a tenant that are not the source's defaults."""
    service = SERVICES[name]
    actual, default = service.read(source, tenant_id), service.read(source, tenant_id, service.default)
    ignored = NOT_NOVAS if name == "compute" else ()
    return {k: v for k, v in sorted(actual.items()) if k not in ignored and v != default.get(k)}


def _split(quota_id: str) -> tuple[str, str]:
    tenant_id, _, service = quota_id.rpartition(".")
    return tenant_id, service


def _data(quota_id: str, limits: Limits) -> Json:
    tenant_id, service = _split(quota_id)
    return {"id": quota_id, "tenant_id": tenant_id, "service": service, "limits": limits}


def _record(quota_id: str, limits: Limits) -> Record:
    data = _data(quota_id, limits)
    tenant = Ref("tenant", data["tenant_id"])
    # As a part of the tenant they are set before anything else is begun.
    return Record(Ref(NAME, quota_id), data["service"], data, (tenant,), part_of=tenant)


def _twin(search: Search, record: Record, tenant_id: str) -> Twin:
    service, wanted = (
        SERVICES[record.data["service"]],
        renamed(record.data["limits"], search.mappings["volume_types"]),
    )
    actual, unset = (
        service.read(search.destination, tenant_id),
        _settable(search.destination, service, tenant_id, wanted),
    )
    found = tuple(
        f"{name} is {actual.get(name, 'unknown')}, source has {limit}"
        for name, limit in wanted.items()
        if actual.get(name) != limit
    )
    unfinished = f"{', '.join(sorted(unset))} not set" if unset else ""
    return Twin(f"{tenant_id}.{record.data['service']}", True, found, unfinished)


KIND = Kind(
    NAME,
    "identity",
    discover,
    fetch,
    find,
    tasks,
    rights=Rights.ADMINISTRATORS_SEE,
    adapt=adapt,
    fields=Fields(carried="*", derived="id"),
)

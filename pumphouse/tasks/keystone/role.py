"""Roles: matched by name, made where the destination has none."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.cloud import or_none
from pumphouse.cloud.rights import Rights
from pumphouse.errors import ConfigError
from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    BaseRetrieveTask,
    Ensured,
    Migration,
    Search,
    differences,
    differs_in_case,
    ensure,
    ensured_id,
    named,
    retrieve,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.keystone.common import (
    PRIVILEGED_ROLES,
    EnsureAttributes,
    by_name,
    unfinished,
    unmark,
    visible_domains,
    with_attributes,
    with_extra,
)
from pumphouse.tasks.kind import Kind, Names, always

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "role"
FIELDS = ("name", "description", "options")
# Keystone made the role `_member_` by itself until Rocky, and makes `member` since.
OLD_MEMBER, MEMBER = "_member_", "member"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """A tenant owns no role."""
    return []


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The roles of the given ids."""
    implied = _implied(source)
    return {i: _record(role, implied.get(i, [])) for i, role in _read(source, ids).items()}


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The role that a mapping names, or the one of the same name (unique in a domain, or outside of all)."""
    roles = cache(lambda domain_id: by_name(_list(search.destination, domain_id)))
    implied = _implied(search.destination) if any("implies" in record.data for record in records) else {}
    found: dict[Ref, list[Twin]] = {}
    for record in records:
        domain = Ref("domain", record.data["domain_id"] or "")
        if not domain.id or domain in search.ids:
            found[record.ref] = _twins(search, record, roles(search.ids.get(domain)), implied)
    return found


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the role and make it."""
    return [retrieve(RetrieveRole, migration, step), ensure(EnsureRole, [migration.destination], step)]


class RetrieveRole(BaseRetrieveTask):
    """Reads a role of the source."""

    def retrieve(self, resource_id: str) -> Json:
        """Its fields as Keystone has them."""
        return _data(self.cloud.batch(_read).get(resource_id))


class EnsureRole(EnsureAttributes):
    """Finds or creates the role of the same name; a new one implies no other."""

    api_name = "role"
    shared = True

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The role of this name."""
        roles = _list(self.cloud, _domain_id(data, ensured))
        return next((str(role.id) for role in roles if role.name == data["name"]), None)

    def attributes(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """Its name, domain, description and options."""
        optional = {
            "domain_id": _domain_id(data, ensured),
            "description": data["description"],
            "options": data["options"],
        }
        return {"name": data["name"], **{name: value for name, value in optional.items() if value}}

    def remove(self, destination_id: str) -> None:
        """Delete the role; one that was made immutable, as at the source, has to be released first."""
        role = self.cloud.keystone.roles.get(destination_id)
        if _data(role)["options"].get("immutable"):
            self.cloud.keystone.roles.update(role, options={"immutable": None})
        self.cloud.keystone.roles.delete(role)


def _read(source: Cloud, ids: Collection[str]) -> dict[str, Any]:
    roles = {role.id: role for role in source.keystone.roles.list()}
    # Keystone lists the roles of a domain only by domain; a tenant's grants name few of them, if any.
    for role_id in set(ids) - roles.keys():
        role = or_none(source.keystone.roles.get, role_id)
        if role is not None:
            roles[role_id] = role
    return {i: roles[i] for i in ids if i in roles}


def _list(cloud: Cloud, domain_id: str | None) -> list[Any]:
    """The roles of a domain, or those of none."""
    scope = {"domain_id": domain_id} if domain_id else {}
    return [role for role in cloud.keystone.roles.list(**scope) if _data(role)["domain_id"] == domain_id]


def _implied(source: Cloud) -> dict[str, list[str]]:
    """The names of the roles that roles imply, by the id of the one that implies them."""
    # Implied roles came with Keystone's API 3.6 (Mitaka).
    rules = or_none(source.keystone.inference_rules.list_inference_roles) or []
    return {rule.prior_role["id"]: [implied["name"] for implied in rule.implies] for rule in rules}


def _data(role: Any) -> Json:
    raw = role.to_dict()
    data = {
        "id": raw["id"],
        "name": raw["name"],
        # Since Rocky; roles of domains since Mitaka, options since Train.
        "description": raw.get("description"),
        "domain_id": raw.get("domain_id"),
        "options": raw.get("options") or {},
    }
    return with_extra(data, raw)


def _record(role: Any, implied: Sequence[str]) -> Record:
    data = {**_data(role), **({"implies": sorted(implied)} if implied else {})}
    needs = (Ref("domain", data["domain_id"]),) if data["domain_id"] else ()
    note = f"that it implies {', '.join(implied)} is not carried: openstack implied role create"
    skip = ""
    if role.name.casefold() in PRIVILEGED_ROLES:
        skip = "it is never made nor granted by a migration; grant it by hand where it is wanted"
    notes = (note,) if implied else ()
    return Record(Ref(NAME, role.id), role.name, data, needs, notes=notes, skip=skip, answer=role.to_dict())


def _twins(
    search: Search,
    record: Record,
    roles: Mapping[str, list[Any]],
    implied: Mapping[str, Sequence[str]],
) -> list[Twin]:
    found = list(named(search, "roles", record.name, roles))
    if not found and record.name == OLD_MEMBER:
        found = roles.get(MEMBER, [])
    names = search.mappings["roles"]
    wanted = {names.get(name, name) for name in record.data.get("implies", ())}
    return [_twin(role, record, wanted - {*implied.get(role.id, ())}) for role in found]


def _twin(role: Any, record: Record, not_implied: Collection[str]) -> Twin:
    if role.name.casefold() in PRIVILEGED_ROLES:
        problem = (
            f"mappings.roles: {record.name!r} is mapped to {role.name!r}, which a migration never grants"
        )
        raise ConfigError([problem], "map it to another role")
    wanted, fields = with_attributes(record.data), (*FIELDS, *record.data.get("extra", ()))
    found = differences(wanted, with_attributes(_data(role)), fields)
    found += tuple(f"it does not imply {name}: openstack implied role create" for name in sorted(not_implied))
    lacks = unfinished({field: wanted[field] for field in fields}, role.to_dict(), record.ref.id)
    return Twin(role.id, not differs_in_case(role.name, record.name), found, lacks)


def _names(cloud: Cloud, wanted: Collection[str]) -> Names:
    domains = (None, *visible_domains(cloud))
    return Names([role.name for domain_id in domains for role in _list(cloud, domain_id)])


def _domain_id(data: Json, ensured: Mapping[str, Ensured]) -> str | None:
    return ensured_id(ensured, "domain", data["domain_id"]) if data["domain_id"] else None


KIND = Kind(
    NAME,
    "identity",
    discover,
    fetch,
    find,
    tasks,
    rights=Rights.ADMINISTRATORS_SEE,
    common=always,
    mapping="roles",
    mapped_names={"roles": _names},
    recognised="mapping or name",
    unmark=unmark("role"),
    stays="other tenants may use it",
    fields=Fields(
        carried="description options *",
        mapped={"name": "mappings.roles, else the same name", "domain_id": "the domain's twin"},
        derived="id links pumphouse_*",
        summary="extra attributes; created when missing; `admin` and `service` are never created nor granted",
    ),
)

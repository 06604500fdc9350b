"""Users: matched by domain and name, made with a new password where the destination has none."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.cloud import or_none
from pumphouse.cloud.rights import Rights
from pumphouse.errors import PumphouseError, explain, http_status
from pumphouse.model import Json, Record, Ref, Step, Twin, keystone_at, symbol
from pumphouse.tasks.base import (
    BaseRetrieveTask,
    Ensured,
    Migration,
    Search,
    differences,
    differs_in_case,
    ensure,
    ensured_id,
    kept_result,
    named,
    retrieve,
    why_not_undone,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.keystone.common import (
    EnsureAttributes,
    by_name,
    carried_users,
    of_others,
    protected_users,
    unfinished,
    unmark,
    visible_domains,
    with_attributes,
    with_extra,
)
from pumphouse.tasks.keystone.password_hashes import copy_hash
from pumphouse.tasks.keystone.passwords import Account, forget, lookup, reserve
from pumphouse.tasks.kind import Kind, Names, always, removal

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "user"
# The answers after which there is no user. After a 5xx or silence there may be one; after a 409 there is one,
# which the run of another tenant may have made with this very password.
REFUSED = frozenset({400, 401, 403, 404, 413})
# What the file of passwords is to the task, and what the dry run says of it, by policy.
FILES = {"generate": "passwords", "file": "given"}
LINES = {
    "generate": "with a new password",
    "file": "with the password that is in your file",
    "hash": "with the password that it has",
}
# The field of the record of the user who is logged in at a source of which he is no administrator.
LOGIN = "login"
ONLY_MATCHED = "policies.user_passwords is map: make the user there, or name another in mappings.users"
FIELDS = ("name", "email", "description", "enabled", "default_project_id", "options")
PASSWORD_NOTE = "its password cannot be read: it gets a new one or none, as policies.user_passwords says"
NO_PASSWORD_NOTE = (
    "it has no password and cannot log in until it is given one: openstack user set --password-prompt"
)
# What to say instead, by policy.
PASSWORD_NOTES = {
    "generate": "its password cannot be read: it gets a new one, which is in the file of passwords",
    "disabled": NO_PASSWORD_NOTE,
    "hash": "the hash of its password is copied from the database of Keystone, where it has one",
}


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The users who have a role on the tenant that is migrated."""
    users = _read(source, carried_users(source, tenant_id))
    records = [_record(user, tenant_id=tenant_id) for user in users.values()]
    return records if source.is_admin else [_of_login(record) for record in records]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The users of the given ids."""
    protected = protected_users(source)
    return {i: _record(user, protected.get(i, "")) for i, user in _read(source, ids).items()}


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The user that a mapping names, or the one of the same name in the mapped domain (unique there)."""
    if not search.destination.is_admin:
        return _own_twins(search, records)
    protected = protected_users(search.destination)
    # A Keystone that cuts long lists may hide a user here; the task that would make it asks by name.
    users = cache(lambda domain_id: by_name(search.destination.keystone.users.list(domain=domain_id)))
    found: dict[Ref, list[Twin]] = {}
    for record in records:
        domain_id = search.ids.get(Ref("domain", record.data["domain_id"]))
        if domain_id is not None:
            same = named(search, "users", record.name, users(domain_id))
            found[record.ref] = [_twin(search, record, user, protected.get(user.id, "")) for user in same]
    return found


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the user and make it."""
    policy, file = migration.policies["user_passwords"], migration.policies.get("passwords_file", "")
    given: dict[str, Any] = {FILES[policy]: Path(file)} if policy in FILES else {}
    if policy == "hash":
        given["hashes_of"] = migration.source
    line = f"create {step.record.title}, {LINES.get(policy, 'without a password')}"
    return [
        retrieve(RetrieveUser, migration, step),
        ensure(EnsureUser, [migration.destination], step, line=line, **given),
    ]


def apply_policies(record: Record, policies: Mapping[str, Any]) -> Record:
    """The record as the policy for passwords makes it."""
    if policies["user_passwords"] == "map":
        return replace(record, must_exist=ONLY_MATCHED)
    note = PASSWORD_NOTES.get(policies["user_passwords"], PASSWORD_NOTE)
    return replace(record, notes=tuple(note if n == PASSWORD_NOTE else n for n in record.notes))


class RetrieveUser(BaseRetrieveTask):
    """Reads a user of the source."""

    def retrieve(self, resource_id: str) -> Json:
        """Its fields as Keystone has them; never a password."""
        return _data(self.cloud.batch(_read).get(resource_id))


class EnsureUser(EnsureAttributes):
    """Finds or creates the user of the same name.

    passwords: the file that a new password is written to.
    given: the file that somebody wrote passwords into.
    hashes_of: the cloud whose hash of the password is copied. With none of these, the user gets no password.
    """

    api_name = "user"
    shared = True

    def __init__(
        self,
        *args: Any,
        passwords: Path | None = None,
        given: Path | None = None,
        hashes_of: Cloud | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.hashes_of = hashes_of
        self.has_hash = False
        self.passwords = passwords
        self.given = given

    def execute(self, data: Json, **ensured: Ensured) -> Ensured:
        """Find or create the user; a note says that a new one cannot log in yet."""
        result = super().execute(data, **ensured)
        has_password = self.passwords is not None or self.has_hash or self._given(data, ensured) is not None
        if result["made"] and not has_password:
            result["notes"].append(NO_PASSWORD_NOTE)
        return result

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The user of this name in the mapped domain."""
        domain_id = ensured_id(ensured, "domain", data["domain_id"])
        users = self.cloud.keystone.users.list(domain=domain_id, name=data["name"])
        return next((str(user.id) for user in users if user.name == data["name"]), None)

    def attributes(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """Its name, domain, e-mail address, description, default project and options, and whether it is enabled."""
        optional = {
            "email": data["email"],
            "description": data["description"],
            "default_project_id": _default_project_id(data, ensured),
            "options": data["options"],
        }
        domain_id = ensured_id(ensured, "domain", data["domain_id"])
        fields = {"name": data["name"], "domain_id": domain_id, "enabled": data["enabled"]}
        return fields | {name: value for name, value in optional.items() if value}

    def create(self, data: Json, ensured: Mapping[str, Ensured], **secrets: str | None) -> str:
        """A new user; its password is in the file before it is made, so that nobody's is unknown."""
        domain_id = ensured_id(ensured, "domain", data["domain_id"])
        account = self._account(domain_id, data["name"])
        password = self._given(data, ensured) if self.passwords is None else reserve(self.passwords, account)
        try:
            return super().create(data, ensured, password=password, **secrets)
        except Exception as error:
            if self.passwords is not None and http_status(error) in REFUSED:
                why_not_undone(self.name, forget, self.passwords, account)
            if password and password in str(error):
                raise PumphouseError(f"user {data['name']}: {_without(password, error)}") from None
            raise

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Ensured]) -> None:
        """Give it what it lacks, and copy the hash of the password, but never to a user that somebody else made."""
        super().finish(destination_id, data, ensured)
        if self.hashes_of is not None and self._is_ours(destination_id):
            self.has_hash = copy_hash(self.hashes_of, data["id"], self.cloud, destination_id)

    def revert(self, result: Any, data: Json, **ensured: Ensured) -> Json | None:
        """Delete the user if it was made, and when it is gone its password, also one of a user that never was."""
        ours = result["made"] if isinstance(result, dict) else self.begun
        left = super().revert(result, data, **ensured)
        if left or not ours or self.passwords is None:
            return left
        return kept_result(why_not_undone(self.name, self._forget, data, ensured))

    def remove(self, destination_id: str) -> None:
        """Delete the user."""
        self.cloud.keystone.users.delete(destination_id)

    def _forget(self, data: Json, ensured: Mapping[str, Ensured]) -> None:
        domain_id = ensured_id(ensured, "domain", data["domain_id"])
        if self.passwords is not None and self.find(data, ensured) is None:
            forget(self.passwords, self._account(domain_id, data["name"]))

    def _given(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The password that somebody gave for the user."""
        if self.given is None:
            return None
        account = self._account(ensured_id(ensured, "domain", data["domain_id"]), data["name"])
        return lookup(self.given, account)

    def _account(self, domain_id: str, name: str) -> Account:
        return Account(keystone_at(self.cloud.auth_url), self.cloud.batch(_domain_names).get(domain_id), name)


def _domain_names(cloud: Cloud, ids: Collection[str]) -> dict[str, str]:
    return {domain_id: name for domain_id, name in visible_domains(cloud).items() if domain_id in ids}


def _read(source: Cloud, ids: Collection[str]) -> dict[str, Any]:
    users = {user.id: user for user in source.keystone.users.list()} if ids and source.is_admin else {}
    # A Keystone with a limit on lists or with a domain in LDAP does not list them all.
    for user_id in set(ids) - users.keys():
        user = or_none(source.keystone.users.get, user_id)
        if user is not None:
            users[user_id] = user
    return {i: users[i] for i in ids if i in users}


def _data(user: Any) -> Json:
    raw = user.to_dict()
    data = {
        "id": raw["id"],
        "name": raw["name"],
        "email": raw.get("email"),
        "description": raw.get("description"),
        # A domain in LDAP tells it only where it is configured to.
        "enabled": raw.get("enabled", True),
        "domain_id": raw["domain_id"],
        "default_project_id": raw.get("default_project_id"),
        # Since Ocata.
        "options": raw.get("options") or {},
    }
    return with_extra(data, raw)


def _record(user: Any, protected: str = "", tenant_id: str | None = None) -> Record:
    data = _data(user)
    needs, notes = [Ref("domain", user.domain_id)], [PASSWORD_NOTE]
    project_id = data["default_project_id"]
    if project_id and project_id == tenant_id:
        needs.append(Ref("tenant", project_id))
    elif project_id:
        notes.append(f"its default project {project_id} is not this tenant and is not carried")
    skip = f"it is {protected}" if protected else ""
    return Record(
        Ref(NAME, user.id),
        user.name,
        data,
        tuple(needs),
        notes=tuple(notes),
        skip=skip,
        answer=user.to_dict(),
        settled=bool(protected),
    )


def _twin(search: Search, record: Record, user: Any, protected: str) -> Twin:
    mapped = record.name in search.mappings["users"]
    project_id = record.data["default_project_id"]
    tenant_id = search.ids.get(Ref("tenant", project_id or ""))
    # Only the default project that is this tenant can be compared: what others become is not known here.
    wanted = {**with_attributes(record.data), "default_project_id": tenant_id}
    fields = [
        field
        for field in (*FIELDS, *record.data.get("extra", ()))
        if field != "default_project_id" or tenant_id
    ]
    found = differences(wanted, with_attributes(_data(user)), fields)
    if protected and not mapped:
        return Twin(user.id, ours=False, differences=(f"it is {protected}", *found))
    lacks = unfinished({field: wanted[field] for field in fields}, user.to_dict(), record.ref.id)
    is_ours = mapped or not differs_in_case(user.name, record.name)
    return Twin(user.id, ours=is_ours, differences=found, unfinished=lacks)


def _names(cloud: Cloud, wanted: Collection[str]) -> Names:
    """Of the users those who are listed; a Keystone that cuts long lists is asked for each that is looked for, too."""
    list_users, domains = cloud.keystone.users.list, [*visible_domains(cloud)]
    listed = {user.name for domain_id in domains for user in list_users(domain=domain_id)}
    asked = [
        user.name
        for name in sorted(set(wanted) - listed)
        for domain_id in domains
        for user in list_users(domain=domain_id, name=name)
    ]
    return Names({*listed, *asked})


def _of_login(record: Record) -> Record:
    """The record as that of the user who is logged in at the source."""
    return replace(record, data={**record.data, LOGIN: True})


def _own_twins(search: Search, records: Sequence[Record]) -> dict[Ref, list[Twin]]:
    """The user who is logged in at the destination, for who is at the source or has this name there."""
    user = search.destination.keystone.users.get(search.destination.user_id)
    names = search.mappings["users"]
    mine = [r for r in records if LOGIN in r.data or names.get(r.name, r.name) == user.name]
    return {
        r.ref: [Twin(user.id, ours=True, differences=differences(r.data, _data(user), ["name"]))]
        for r in mine
    }


def _default_project_id(data: Json, ensured: Mapping[str, Ensured]) -> str | None:
    tenant = ensured.get(symbol(Ref("tenant", data["default_project_id"] or ""), "ensured"))
    return str(tenant["id"]) if tenant else None


def _without(password: str, error: Exception) -> str:
    return str(explain(error)).replace(password, "***")


def shared(source: Cloud, tenant_id: str, records: Sequence[Record]) -> dict[Ref, str]:
    """Why users stay when a tenant goes."""
    found = of_others(source, tenant_id, [record.ref.id for record in records])
    return {record.ref: found[record.ref.id] for record in records if record.ref.id in found}


KIND = Kind(
    NAME,
    "identity",
    discover,
    fetch,
    find,
    tasks,
    rights=Rights.ADMINISTRATORS_MAKE,
    apply_policies=apply_policies,
    common=always,
    mapping="users",
    mapped_names={"users": _names},
    nameable=True,
    recognised="mapping, or name in its domain",
    unmark=unmark("user"),
    remove=removal(EnsureUser),
    shared=shared,
    ends_with_tenant=always,
    fields=Fields(
        carried="email description enabled options *",
        mapped={
            "name": "mappings.users, else the same name",
            "domain_id": "the domain's twin",
            "default_project_id": "the tenant's twin",
        },
        # What a plan says of the users who are federated is a note on the tenant.
        derived="id links password_expires_at federated pumphouse_*",
        summary="extra attributes; a new password or none, because Keystone gives none away",
    ),
)

"""Keypairs of the users who have a role on the tenant."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from taskflow import task

from pumphouse.cloud import call
from pumphouse.cloud.check import CLOCK_PRECISION, clock_difference_s
from pumphouse.errors import ConflictError, PumphouseError
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
from pumphouse.tasks.keystone.common import carried_users, of_others
from pumphouse.tasks.kind import Kind, always
from pumphouse.tasks.nova.common import OWNERS, list_keypairs, supports

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "keypair"
# The public key's comment may differ, and Nova's fingerprint does not see it.
IDENTITY = ("type", "fingerprint")
FIELDS = (*IDENTITY, "public_key")


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The keypairs of the users who have a role on the tenant that is migrated."""
    users = carried_users(source, tenant_id)
    return (
        _records(source, users)
        if supports(source, OWNERS)
        else [_hidden(user_id) for user_id in sorted(users)]
    )


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The keypairs of the given ids, each `<user id>.<name>`."""
    owners = {owner for keypair_id in ids for owner in _owners(keypair_id)}
    return {record.ref.id: record for record in _records(source, owners) if record.ref.id in ids}


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records; none can be made where Nova makes keypairs for nobody else."""
    if not records or supports(search.destination, OWNERS):
        return list(records)
    reason = f"the destination's Nova makes no keypairs of others before microversion {OWNERS} (Mitaka)"
    return [replace(record, skip=f"{reason}: the user imports it") for record in records]


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The keypair of the same name of the same user (unique there)."""
    owners = {record.ref: search.ids.get(Ref("user", record.data["user_id"])) for record in records}
    keypairs = {owner: _list(search.destination, owner) for owner in {*owners.values()} if owner}
    return {
        record.ref: _twins(record, owner, keypairs[owner])
        for record in records
        if (owner := owners[record.ref])
    }


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the keypair and make it."""
    return [retrieve_record(fetch, migration, step), ensure(EnsureKeypair, [migration.destination], step)]


class EnsureKeypair(BaseEnsureTask):
    """Finds or creates the keypair of the same name of the same user."""

    shared = True

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The same key; another one of that name is a conflict."""
        self.user_id = user_id = ensured_id(ensured, "user", data["user_id"])
        keypairs = _list(self.cloud, user_id)
        keypair = next((item for item in keypairs if item["name"] == data["name"]), None)
        if keypair is None:
            return None
        if differences(data, keypair, IDENTITY):
            raise ConflictError(
                f"the user has another keypair named {data['name']!r} at the destination",
                "rename or delete that one, then plan again",
            )
        return _id(user_id, data["name"])

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """A keypair of that user from the same public key."""
        if not supports(self.cloud, OWNERS):
            raise PumphouseError(
                f"keypair {data['name']}: Nova of the {self.cloud.name} makes no keypairs for other users",
                f"it takes microversion {OWNERS} (Mitaka); the user has to import the public key",
            )
        user_id = ensured_id(ensured, "user", data["user_id"])
        keypair = {name: data[name] for name in ("name", "type", "public_key")}
        self.journal(before=datetime.now(UTC).isoformat())
        asked = {**keypair, "user_id": user_id}
        made = call(self.cloud.adapter("compute"), "POST", "/os-keypairs", {"keypair": asked})["keypair"]
        return self.accept(_id(user_id, made["name"]), asked, made)

    def is_marked(self, destination_id: str) -> bool:
        """Whether it was made when this task was about to: Nova keeps no mark of it, but the time.

        Afterwards, the user may have imported the key, or another run.
        """
        made_at = call(self.cloud.adapter("compute"), "GET", self._path(destination_id))["keypair"].get(
            "created_at"
        )
        if not self.before or not made_at:  # an older release noted no time
            return True
        noted = datetime.fromisoformat(self.before) + timedelta(seconds=clock_difference_s(self.cloud) or 0.0)
        latest = noted + timedelta(seconds=(self.cloud.outages.limit_s or 0.0) + self.cloud.outages.answer_s)
        return noted - CLOCK_PRECISION <= datetime.fromisoformat(made_at).replace(tzinfo=UTC) <= latest

    def revert(self, result: Any, data: Json, **ensured: Ensured) -> Json | None:
        """Delete the keypair if it was made; it takes its user, which its id does not tell for certain."""
        self.user_id = ensured_id(ensured, "user", data["user_id"])
        return super().revert(result, data, **ensured)

    def remove(self, destination_id: str) -> None:
        """Delete the keypair of the user."""
        call(self.cloud.adapter("compute"), "DELETE", self._path(destination_id))

    def _path(self, destination_id: str) -> str:
        return _path(self.user_id, destination_id.removeprefix(_id(self.user_id, "")))


def remove(source: Cloud, record: Record) -> None:
    """Delete the keypair of its user at the source."""
    call(source.adapter("compute"), "DELETE", _path(record.data["user_id"], record.data["name"]))


def of_other_users(source: Cloud, tenant_id: str, records: Sequence[Record]) -> dict[Ref, str]:
    """Why keypairs stay when a tenant goes: their users do."""
    found = of_others(source, tenant_id, {record.data["user_id"] for record in records})
    return {r.ref: found[r.data["user_id"]] for r in records if r.data["user_id"] in found}


def _path(user_id: str, name: str) -> str:
    return f"/os-keypairs/{quote(name, safe='')}?user_id={quote(user_id, safe='')}"


def _id(user_id: str, name: str) -> str:
    return f"{user_id}.{name}"


def _owners(keypair_id: str) -> list[str]:
    """Whose keypair it may be: names may have dots, and so may the ids of users from LDAP."""
    return [keypair_id[:at] for at, sign in enumerate(keypair_id) if sign == "."]


def _list(cloud: Cloud, user_id: str) -> list[Json]:
    """The keypairs of a user; none where Nova shows them to nobody else."""
    if not supports(cloud, OWNERS):
        return []
    return list_keypairs(cloud, user_id)


def _records(source: Cloud, user_ids: Iterable[str]) -> list[Record]:
    return [_record(user_id, keypair) for user_id in sorted(user_ids) for keypair in _list(source, user_id)]


def _hidden(user_id: str) -> Record:
    """What stands for all keypairs of a user where Nova shows them to nobody else."""
    reason = f"the source's Nova shows no keypairs of others before microversion {OWNERS} (Mitaka)"
    return Record(
        Ref(NAME, _id(user_id, "*")), f"all of user {user_id}", skip=f"{reason}: the user imports them"
    )


def _record(user_id: str, keypair: Json) -> Record:
    owner = Ref("user", user_id)
    data = {
        "id": _id(user_id, keypair["name"]),
        "user_id": user_id,
        **{name: keypair[name] for name in ("name", *FIELDS)},
    }
    return Record(Ref(NAME, data["id"]), keypair["name"], data, (owner,), part_of=owner, answer=keypair)


def _twins(record: Record, owner: str, keypairs: Iterable[Json]) -> list[Twin]:
    return [_twin(record, owner, keypair) for keypair in keypairs if keypair["name"] == record.name]


def _twin(record: Record, owner: str, keypair: Json) -> Twin:
    other = differences(record.data, keypair, IDENTITY)
    found = other or differences(record.data, keypair, FIELDS)
    return Twin(_id(owner, keypair["name"]), ours=not other, differences=found)


KIND = Kind(
    NAME,
    "compute",
    discover,
    fetch,
    find,
    tasks,
    adapt=adapt,
    common=always,
    nameable=True,
    recognised="user, name and fingerprint",
    remove=remove,
    shared=of_other_users,
    ends_with_tenant=always,
    fields=Fields(
        carried="name type public_key",
        mapped={"user_id": "the user's twin"},
        derived="id fingerprint created_at updated_at deleted deleted_at",
    ),
)

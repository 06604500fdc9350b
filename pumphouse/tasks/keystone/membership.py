"""Memberships: which users are in the groups of a tenant."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from taskflow import task

from pumphouse.cloud import or_none
from pumphouse.cloud.rights import Rights
from pumphouse.errors import MadeOtherwiseError
from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    ASK,
    STAMP,
    BaseEnsureTask,
    Ensured,
    Migration,
    Search,
    ensure,
    ensured_id,
    retrieve_record,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.keystone.common import carried_groups
from pumphouse.tasks.kind import Kind, always

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "membership"
BY_HAND = "that group was there before the migration: add the user by hand if it is to be a member"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The members of all groups that have a role on the tenant."""
    groups = carried_groups(source, tenant_id)
    ids = [f"{group_id}.{user_id}" for group_id, user_ids in groups.items() for user_id in user_ids]
    return _records(source, ids)


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """Those of the given memberships, each `<group id>.<user id>`, that there are."""
    there = _read(source, ids)
    return {record.ref.id: record for record in _records(source, [i for i in ids if i in there])}


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The same membership; users are not put into a group that a migration has not made."""
    parts = {record.ref: [search.ids.get(need, "") for need in record.needs] for record in records}
    wanted = {ref: ".".join(ids) for ref, ids in parts.items() if all(ids)}
    there = _read(search.destination, wanted.values())
    ours = _made_by_us(search.destination) if wanted else set()
    strange = {ref for ref, ids in parts.items() if ids[0] and ids[0] not in ours}
    found = {ref: [Twin(i, ours=True)] for ref, i in wanted.items() if i in there}
    return {ref: [Twin(parts[ref][0], ours=False, differences=(BY_HAND,))] for ref in strange} | found


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the membership and make the user a member."""
    return [
        retrieve_record(fetch, migration, step),
        ensure(EnsureMembership, [migration.destination], step, line=f"add {step.record.name}"),
    ]


class EnsureMembership(BaseEnsureTask):
    """Makes a user a member of a group."""

    shared = True

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The membership, if there is one already."""
        found = _id(data, ensured)
        return found if self.cloud.batch(_read).has(found) else None

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Add the user to the group; MadeOtherwiseError where he is not there afterwards: the answer tells nothing."""
        created = _id(data, ensured)
        group_id, user_id = _split(created)
        self.cloud.keystone.users.add_to_group(user_id, group_id)
        if not self.cloud.batch(_read).has(created):
            raise MadeOtherwiseError("the destination did not add the user as it was asked to", ASK)
        return created

    def remove(self, destination_id: str) -> None:
        """Take the user out of the group."""
        group_id, user_id = _split(destination_id)
        self.cloud.keystone.users.remove_from_group(user_id, group_id)


def _read(cloud: Cloud, ids: Iterable[str]) -> dict[str, str]:
    """The users of those of the memberships that there are, with one call for each group."""
    wanted = set(ids)
    groups = {_split(i)[0] for i in wanted}
    members = {f"{g}.{user_id}": user_id for g in groups for user_id in _members(cloud, g)}
    return {i: user_id for i, user_id in members.items() if i in wanted}


def _members(cloud: Cloud, group_id: str) -> list[str]:
    return [user.id for user in or_none(cloud.keystone.users.list, group=group_id) or []]


def _made_by_us(cloud: Cloud) -> set[str]:
    return {group.id for group in cloud.keystone.groups.list() if getattr(group, STAMP, None)}


def _split(membership_id: str) -> tuple[str, str]:
    group_id, _, user_id = membership_id.partition(".")
    return group_id, user_id


def _id(data: Json, ensured: Mapping[str, Ensured]) -> str:
    kinds = (("group", data["group_id"]), ("user", data["user_id"]))
    return ".".join(ensured_id(ensured, kind, source_id) for kind, source_id in kinds)


def _records(source: Cloud, ids: Collection[str]) -> list[Record]:
    groups = {group.id: group.name for group in source.keystone.groups.list()} if ids else {}
    users = {user.id: user.name for user in source.keystone.users.list()} if ids else {}
    return [_record(i, groups, users) for i in ids]


def _record(membership_id: str, groups: Mapping[str, str], users: Mapping[str, str]) -> Record:
    group_id, user_id = _split(membership_id)
    data = {"id": membership_id, "group_id": group_id, "user_id": user_id}
    name = f"{users.get(user_id, user_id)} to group {groups.get(group_id, group_id)}"
    user = Ref("user", user_id)
    return Record(Ref(NAME, membership_id), name, data, (Ref("group", group_id), user), part_of=user)


KIND = Kind(
    NAME,
    "identity",
    discover,
    fetch,
    find,
    tasks,
    rights=Rights.ADMINISTRATORS_SEE,
    common=always,
    not_compared="the members of each group are compared",
    recognised="itself",
    fields=Fields(
        mapped={"group_id": "the group's twin", "user_id": "the user's twin"},
        summary="which of the users are in a group",
    ),
)

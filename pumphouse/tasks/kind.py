"""What Pumphouse has to know of a kind of resource: all of it in one place, the kind's own module."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pumphouse.cloud.rights import REFUSED, Rights, can_make, can_see
from pumphouse.cloud.services import TAGS
from pumphouse.model import Json, Record, Ref, Step, Twin, kind_title
from pumphouse.tasks.fields import Fields

if TYPE_CHECKING:
    from taskflow.task import Task

    from pumphouse.cloud import Cloud
    from pumphouse.tasks.base import Before, Migration, Search


class Found(NamedTuple):
    """A resource that was looked for in all tenants of a cloud."""

    id: str
    name: str
    tenant_id: str


class Names(NamedTuple):
    """By what a mapping can name things of a cloud.

    names: their names.
    ids: their ids, where the right side of a mapping may be one.
    """

    names: Collection[str]
    ids: Collection[str] = ()


class Temporary(NamedTuple):
    """Something that tasks have made for as long as they work: with their mark, of their form, the operator's own.

    title: what it is, in words.
    source_id: the resource that it was made for.
    attempt: the attempt that made it.
    remove: deletes it.
    """

    title: str
    source_id: str
    attempt: str
    remove: Callable[[], Any]


def matching(items: Iterable[Mapping[str, Any]], wanted: Json, owner: str) -> list[Found]:
    """Those of the items that have all the wanted fields, and say in the field `owner` whose they are."""
    found = [item for item in items if all(item[field] == value for field, value in wanted.items())]
    return [Found(item["id"], item["name"] or "", item[owner]) for item in found if owner in item]


def no_service(cloud: Cloud, service_type: str) -> str:
    """That a cloud does not have a service, in words."""
    return f"the {cloud.name} has no {service_type} service"


def _same_record(record: Record, policies: Mapping[str, Any]) -> Record:
    return record


def _same_records(search: Search, records: Sequence[Record]) -> Sequence[Record]:
    return records


def _unchanged(cloud: Cloud, destination_id: str, since: datetime) -> str:
    return ""


def _no_strangers(cloud: Cloud, tenant_id: str) -> list[str]:
    return []


def always(record: Record) -> bool:
    """What `common` is of a kind that no tenant owns."""
    return True


def never(record: Record) -> bool:
    """What `ends_with_tenant` is of a kind whose resources can go while the tenant stays."""
    return False


def _unused(cloud: Cloud, record: Record, since: datetime) -> str:
    return ""


def _none_shared(cloud: Cloud, tenant_id: str, records: Sequence[Record]) -> Mapping[Ref, str]:
    return {}


def removal(task_class: Callable[..., Any]) -> Callable[[Cloud, Record], None]:
    """What deletes a resource at any cloud as the revert of its Ensure task does."""

    def remove(cloud: Cloud, record: Record) -> None:
        task_class(cloud, provides="removed").remove(record.ref.id)

    return remove


def _no_temporaries(cloud: Cloud) -> list[Temporary]:
    return []


def _no_tasks(migration: Migration, step: Step) -> list[Task]:
    return []


@dataclass(frozen=True)
class Kind:
    """A kind of resource. Its module makes one at its end and calls it KIND.

    name: how Refs, plans and stores write it.
    service: the type of the OpenStack service that has it, e.g. `network`; without that service there is none.
    moved_by: the types of other services, without which there may be some, and none is moved.
    extension: the alias of the extension of Neutron that has it; empty for what every Neutron has.
    discover: what a tenant of the source owns of it, with list calls.
    fetch: resources of the source by their ids, for those that need them; what is not there is left out.
    find: the candidates that the destination has for each record.
    tasks: the tasks that make one; the first reads it, one named `<kind>-<id>-ensured` provides `Ensured`.
    fields: what becomes of every field of the source's answers.
    recognised: by what its twin is known at the destination, in words.
    rights: what only administrators can do with it.
    apply_policies: the record as the policies of the configuration make it.
    as_before: the record without what an earlier run has changed of the resource at the source.
    adapt: the records as the destination can take them: with notes, or why one cannot be made.
    changed: what others have done to a resource of the destination after an aware time by the destination's
        clock, in words; empty when nothing. A revert asks before it removes.
    strangers: the ids of what lives in a tenant of the destination and carries no stamp of a migration.
    temporaries: what tasks have made at the source for as long as they work, for `pumphouse cleanup`.
    unmark: takes the marks of a migration off a resource of the destination; None where it has none.
    remove: deletes a resource of the source that is migrated, and waits until it is gone; None where it goes with its
        tenant, or stays.
    stays: why no resource of the source is ever deleted; empty where they are.
    shared: why resources of the source stay that others use, by list calls.
    ends_with_tenant: whether a resource stays where the tenant does.
    used: what was done at the source with a resource since it was copied, in words; empty when nothing.
    becomes: the kind of its twin, where that is another.
    stamped_last: whether a run that ended may have left one that lacks nothing but its stamp.
    tenant_tasks: what the service needs to have done in a tenant that is made, as part of the tenant's unit.
    renamable: whether one can be made beside another of its name, under a name of its own.
    reusable: whether `on_conflict: reuse` may take what only has the same name.
    acts_in_tenant: whether its tasks log in to the tenant at the destination.
    common: whether the runs of several tenants may need the same one; None where each is one tenant's own.
    mapping: the mapping of the configuration that may name its twin; empty when none does.
    mapped_names: by each mapping that this kind reads, what it can name at a cloud that an administrator is logged
        in to, by list calls; it is given the names that are looked for.
    nameable: whether an operator can name single ones on the command line.
    conditions: what of a resource a selection can ask for, by the name of that: `tag`, `zone`.
    find_anywhere: those with certain fields (`{"id": ...}` or `{"name": ...}`) in all tenants of a cloud, for
        kinds that belong to one tenant each.
    left_out_note: what to say where a selection leaves it out; empty when it is only counted.
    not_compared: why `verify` does not compare it; empty when it does.
    """

    name: str
    service: str
    discover: Callable[[Cloud, str], list[Record]]
    fetch: Callable[[Cloud, Collection[str]], Mapping[str, Record]]
    find: Callable[[Search, Sequence[Record]], Mapping[Ref, Sequence[Twin]]]
    tasks: Callable[[Migration, Step], list[Task]]
    fields: Fields
    recognised: str = "stamp"
    moved_by: tuple[str, ...] = ()
    extension: str = ""
    rights: Rights = Rights.ANYBODY
    apply_policies: Callable[[Record, Mapping[str, Any]], Record] = _same_record
    as_before: Callable[[Record, Before], Record] | None = None
    adapt: Callable[[Search, Sequence[Record]], Sequence[Record]] = _same_records
    changed: Callable[[Cloud, str, datetime], str] = _unchanged
    strangers: Callable[[Cloud, str], list[str]] = _no_strangers
    unmark: Callable[[Cloud, str], None] | None = None
    remove: Callable[[Cloud, Record], None] | None = None
    stays: str = ""
    shared: Callable[[Cloud, str, Sequence[Record]], Mapping[Ref, str]] = _none_shared
    ends_with_tenant: Callable[[Record], bool] = never
    used: Callable[[Cloud, Record, datetime], str] = _unused
    becomes: str = ""
    stamped_last: bool = False
    temporaries: Callable[[Cloud], list[Temporary]] = _no_temporaries
    tenant_tasks: Callable[[Migration, Step], list[Task]] = _no_tasks
    renamable: bool = False
    reusable: bool = True
    acts_in_tenant: bool = False
    common: Callable[[Record], bool] | None = None
    mapping: str = ""
    mapped_names: Mapping[str, Callable[[Cloud, Collection[str]], Names]] = field(default_factory=dict)
    nameable: bool = False
    conditions: Mapping[str, Callable[[Record], Collection[str]]] = field(default_factory=dict)
    find_anywhere: Callable[[Cloud, Json], list[Found]] | None = None
    left_out_note: str = ""
    not_compared: str = ""

    def absence(self, cloud: Cloud) -> str:
        """What a cloud lacks for there to be any of this kind; empty when it lacks nothing."""
        if not cloud.has(self.service):
            return no_service(cloud, self.service)
        is_known = not self.extension or self.extension in cloud.extensions
        return "" if is_known else f"the {cloud.name} has no neutron extension {self.extension}"

    def hindrance(self, cloud: Cloud) -> str:
        """What a cloud lacks for any of this kind to be moved from it or to it; empty when it lacks nothing."""
        return next((no_service(cloud, other) for other in self.moved_by if not cloud.has(other)), "")

    def lack(self, destination: Cloud) -> str:
        """What the destination lacks for a migration to make any of this kind and know it again; empty for nothing."""
        if absence := self.absence(destination) or self.hindrance(destination):
            return absence
        if self.service != "network" or TAGS in destination.extensions:
            return ""
        return f"the {destination.name} has no neutron extension {TAGS}"

    def is_visible(self, cloud: Cloud) -> bool:
        """Whether a cloud has what this kind is of and shows the login its resources."""
        return can_see(cloud, self.rights) and not self.absence(cloud)

    def refusal(self, destination: Cloud) -> str:
        """Why the destination lets the login make none; empty when it does."""
        return "" if can_make(destination, self.rights) else REFUSED

    def looked_through(self, record: Record) -> Record:
        """The record with notes on what is not carried, in the place of the answer that it was made of."""
        notes = () if record.must_exist else self.fields.notes(record.answer)
        return replace(record, notes=(*record.notes, *notes), answer={})

    @property
    def title(self) -> str:
        """How it is called in a sentence, e.g. `security group`."""
        return kind_title(self.name)

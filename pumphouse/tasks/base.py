"""What all kinds share: their names, their stamp, and the shapes of their tasks."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NotRequired, Protocol, TypedDict, TypeVar

from taskflow import task
from taskflow.types.failure import Failure
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from pumphouse.errors import (
    ConfigError,
    ConflictError,
    Interruption,
    MadeOtherwiseError,
    OutageError,
    PumphouseError,
    explain,
    http_status,
    is_unavailable,
)
from pumphouse.model import Json, Record, Ref, Settings, Step, symbol

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud
    from pumphouse.tasks.glance.transfer import TransferLimits

LOG = logging.getLogger(__name__)

# The property, extra attribute or metadata key that says which source resource a destination resource
# was made from; Neutron, which has only tags, carries "<STAMP>=<source id>".
STAMP = "pumphouse_source_id"
# The most characters of a name: in Keystone of a project, in all other services of whatever else may be renamed.
NAME_MAX_LENGTH = 255
_PROJECT_NAME_MAX_LENGTH = 64
# As many digits of an id as a name is made different by: eight, as Git shows them.
_ID_DIGITS = 8
# Where services keep it: the mark that a task notes before it makes what the runs of other tenants may make, too.
MARK = "pumphouse_mark"
# How long to wait before each look for what a call has made that ended without an answer: the service may
# still be at work on it.
LOOKS_S = (0.0, 1.0, 3.0)
# With 1, 2 and 4 s between them.
CLEARING_ATTEMPTS = 4
# What services answer where something cannot be as it is at the source, whoever asks for it.
REFUSED = frozenset({400, 403, 404, 409})
ASK = "ask the administrator of the destination why"

T = TypeVar("T")

Fetch = Callable[["Cloud", Collection[str]], Mapping[str, Record]]


class Ensured(TypedDict):
    """What an Ensure task provides: the destination's id, and whether this run has made it.

    notes: what could not be carried, said in the report.
    size_bytes: what was copied for it.
    """

    id: str
    made: bool
    notes: NotRequired[list[str]]
    size_bytes: NotRequired[int]


def ensured_id(ensured: Mapping[str, Ensured], kind: str, source_id: str) -> str:
    """The destination's id of a source resource, out of the results of the Ensure tasks."""
    destination_id: str = ensured[symbol(Ref(kind, source_id), "ensured")]["id"]
    return destination_id


def tenant_made(data: Json, ensured: Mapping[str, Ensured]) -> bool:
    """Whether this run has made the tenant of a resource; False of what belongs to none."""
    tenant_id = data.get("project_id") or data.get("tenant_id") or ""
    tenant = ensured.get(symbol(Ref("tenant", tenant_id), "ensured"))
    return bool(tenant and tenant["made"])


def stamp_tag(source_id: str) -> str:
    """The stamp as a tag."""
    return f"{STAMP}={source_id}"


def stamps_among(tags: Iterable[str]) -> list[str]:
    """What the stamps among tags say."""
    return [tag.removeprefix(stamp_tag("")) for tag in tags if tag.startswith(stamp_tag(""))]


def without_stamps(tags: Iterable[str]) -> list[str]:
    """The tags that are no stamps, sorted."""
    return sorted(tag for tag in tags if not tag.startswith(stamp_tag("")))


def stamped(value: str, own_id: str) -> str:
    """The source's id in a stamp `<source id>/<own id>`, or `<source id>` as earlier releases wrote it.

    Empty where it names another resource than the one that carries it: services copy what users and we write
    into a resource to what is made of it.
    """
    source_id, _, named = value.partition("/")
    return source_id if named in ("", own_id) else ""


@dataclass(frozen=True)
class Migration:
    """What the tasks of all kinds are made with: both clouds, the plan's settings, the limits of the run.

    fresh_until_s: until when, by `time.monotonic`, what the plan has read of the source need not be read again.
    unconverted: why volumes travel as raw against the plan, by their types: found out once for all tasks of a run.
    """

    source: Cloud
    destination: Cloud
    settings: Settings
    transfers: TransferLimits
    fresh_until_s: float = 0.0
    unconverted: dict[str, str] = field(default_factory=dict)

    @property
    def policies(self) -> Json:
        """The policies of the configuration by name."""
        return self.settings["policies"]

    @property
    def is_fresh(self) -> bool:
        """Whether what the plan has read of the source is still what it has."""
        return time.monotonic() < self.fresh_until_s


class Sharing(Protocol):
    """How a run takes and removes what the runs of other tenants may take, too."""

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock of all that is shared at the destination."""

    def user_of(self, destination_id: str) -> str:
        """The run of another tenant that uses a resource; empty when none does."""


@dataclass(frozen=True)
class Before:
    """What an earlier run has done with a resource: the record it was planned with, and its finished tasks.

    begun: whether that run ended before it was complete, and may have left it without its stamp.
    """

    record: Record
    done: frozenset[str]
    begun: bool = False


@dataclass(frozen=True)
class Search:
    """Where a kind looks for twins, and for what the clouds can do.

    ids: the destination's ids of the twins found so far.
    mappings: the configuration's mappings, source name to destination name, by what they map.
    policies: the policies of the configuration by name.
    begun: what an earlier run began to make and may have left without its stamp.
    """

    destination: Cloud
    ids: Mapping[Ref, str]
    mappings: Mapping[str, Mapping[str, str]]
    source: Cloud
    policies: Mapping[str, Any]
    begun: Collection[Ref] = ()


class _JournaledTask(task.Task):  # type: ignore[misc]
    """A task that can note in the store that it begins to make something, before it does.

    begun: whether it noted that, also in an earlier process that died.
    mark: what what it makes carries, where its service keeps that; empty of what an older release noted.
    made_id: what it has made, once that is certain.
    before: what it noted of the resource that it adds to, as it was before its first attempt; None if it did not.
    after: the names of tasks that have to be done before it, where they are in its flow at all.
    is_undone: whether it is being reverted.
    is_first: whether no process has begun its unit before, nor this one the task.
    """

    begun = is_undone = is_first = False
    mark = made_id = ""
    before: Any = None
    after: tuple[str, ...] = ()

    def journal(self, begun: bool = True, before: Any = None, made_id: str = "", uses: str = "") -> None:
        """Note it; TaskFlow saves this with the task before the call returns.

        uses: the id of what another run has made, and this one takes.
        """
        self.begun, self.before, self.made_id = begun, before, made_id
        self.mark = (self.mark or uuid.uuid4().hex) if begun else ""
        noted = {"begun": begun, "mark": self.mark, "made_id": made_id, "uses": uses}
        noted |= {} if before is None else {"before": before}
        self.notifier.notify(task.EVENT_UPDATE_PROGRESS, {"progress": 0.01, **noted})

    def recall(self, noted: Json) -> None:
        """Know what an earlier process noted before it died, or failed."""
        self.begun, self.before = bool(noted.get("begun")), noted.get("before")
        self.mark, self.made_id = noted.get("mark", ""), noted.get("made_id", "")

    def journal_before(self, now: T) -> T:
        """What a resource had before this task added anything, noted by the first attempt; `now` is plain JSON."""
        if self.before is None:
            self.journal(before=now)
        before: T = self.before
        return before


class BaseCloudTask(_JournaledTask):
    """A task on one cloud; its name is what it provides.

    line: what it is going to do, in words, as a dry run prints it.
    undo_line: what its revert does besides removing what an Ensure made, in words; empty when nothing.
    """

    def __init__(
        self, cloud: Cloud, *, provides: str, line: str = "", undo_line: str = "", **kwargs: Any
    ) -> None:
        super().__init__(name=kwargs.pop("name", provides), provides=provides, **kwargs)
        self.cloud = cloud
        self.line = line or self.name
        self.undo_line = undo_line


class BaseCloudsTask(_JournaledTask):
    """A task on both clouds; its name is what it provides."""

    undo_line = ""

    def __init__(
        self, source: Cloud, destination: Cloud, *, provides: str, line: str = "", **kwargs: Any
    ) -> None:
        super().__init__(name=kwargs.pop("name", provides), provides=provides, **kwargs)
        self.source = source
        self.destination = destination
        self.line = line or self.name


class BaseRetrieveTask(BaseCloudTask):
    """Reads one source resource afresh and provides it as plain JSON."""

    def execute(self, resource_id: str) -> Json:
        """Provide what the source has now."""
        return self.retrieve(resource_id)

    def retrieve(self, resource_id: str) -> Json:
        """Read the resource; KeyError when it is gone."""
        raise NotImplementedError


class RetrieveRecord(BaseRetrieveTask):
    """Reads one source resource as discovery does.

    fetch: reads records by their ids.
    planned: the data of the plan's record, as long as it need not be read again; else None.
    """

    def __init__(
        self, cloud: Cloud, *, fetch: Fetch, planned: Callable[[], Json | None] = lambda: None, **kwargs: Any
    ) -> None:
        super().__init__(cloud, **kwargs)
        self.fetch = fetch
        self.planned = planned

    def retrieve(self, resource_id: str) -> Json:
        """The data of its record; KeyError when it is gone."""
        return self.planned() or self.cloud.batch(self.fetch).get(resource_id).data


class EnsureMixin:
    """Finds or creates one destination resource, and provides `{"id": ..., "made": ...}`.

    A kind gives find, create and remove, and finish where something is to be done to what exists. It may be
    executed again after it died at any point, and be reverted without ever having come to its result: what
    it finds then is its own if it is stamped, or if it noted before that it was going to make it.

    target_name: the name at the destination; the source's when it is not given.
    fresh: whether a twin that carries our stamp can only come from this very run.
    shared: whether others may make the same, so that only the note and the mark tell whose it is.
    sharing: how it takes and removes what the runs of other tenants may take, too; None of what is this tenant's own.
    adopts_unfinished: whether one that an earlier run left half made is this run's own from then on: with the
        mark of what is unfinished gone, nobody else could tell whose it is.
    """

    name: str
    begun: bool
    is_first: bool
    mark: str
    made_id: str
    before: Any
    journal: Callable[..., None]
    shared = False
    sharing: Sharing | None = None
    adopts_unfinished = False

    def __init__(self, *args: Any, target_name: str | None = None, fresh: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.target_name = target_name
        self.fresh = fresh

    def execute(self, data: Json, **ensured: Ensured) -> Ensured:
        """Find or create the twin of the source resource."""
        data = self._named(data)
        found = None if self._is_certain_to_lack(data, ensured) else self.find(data, ensured)
        if found is not None:
            return self._take(found, self._is_ours(found), data, ensured)
        if self.shared:
            self.journal(before=self.before)
        try:
            created = self.create(data, ensured)
        except Exception as error:
            return self._take_in_doubt(error, data, ensured)
        if self.shared:
            self.journal(before=self.before, made_id=created)
        return self._take(created, True, data, ensured)

    def _is_certain_to_lack(self, data: Json, ensured: Mapping[str, Ensured]) -> bool:
        """Whether nobody can have made the twin: not this run, which has yet to begin, and nobody besides it.

        A tenant that this run has made under its lock has nothing but what the run makes in it.
        """
        is_first, self.is_first = self.is_first and self.fresh, False
        is_own = not self.shared and self.sharing is None and not self.exists_by_itself(data)
        return is_first and is_own and tenant_made(data, ensured)

    def exists_by_itself(self, data: Json) -> bool:
        """Whether a service makes the resource with its tenant, so that it has to be looked for."""
        return False

    def accept(
        self, made_id: str, asked: Json, made: Json, update: Callable[[Json], Json] | None = None
    ) -> str:
        """The id of what a service has made, when it is as it was asked for: see `as_asked`; else a revert removes it."""
        self.made_id = made_id
        as_asked(asked, made, update)
        return made_id

    def _take_in_doubt(self, error: Exception, data: Json, ensured: Mapping[str, Ensured]) -> Ensured:
        """Take what there is after a call that may have made it, or was refused because there is one."""
        is_others = self.shared and http_status(error) == 409
        found = look_again(lambda: self.find(data, ensured)) if is_others or in_doubt(error) else None
        if found is None:
            raise error
        if is_others:
            self.journal(False)
        made = not is_others and (not self.shared or self._is_ours(found))
        return self._take(found, made, data, ensured)

    def _named(self, data: Json) -> Json:
        return data if self.target_name is None else {**data, "name": self.target_name}

    def _is_ours(self, found: str) -> bool:
        if found == self.made_id:
            return True
        if not self.shared:
            return self.fresh or self.adopts_unfinished
        if not self.begun or not self.mark:
            return self.begun
        return not self.made_id and self.is_marked(found)

    def _take(self, found: str, made: bool, data: Json, ensured: Mapping[str, Ensured]) -> Ensured:
        if self.sharing and not made:
            with self.sharing.locked():
                self.journal(False, uses=found)
            # Until it was noted, the run that has made it may have removed it.
            if self.find(data, ensured) != found:
                self.journal(False)
                return EnsureMixin.execute(self, data, **ensured)
        self.finish(found, data, ensured)
        return {"id": found, "made": made}

    def revert(self, result: Any, data: Json, **ensured: Ensured) -> Json | None:
        """Remove what execute made, and only that; also what it made before it died or failed."""
        if isinstance(result, dict):
            left = [self.undo(result["id"])] if result["made"] else []
        elif isinstance(result, Failure) and result.check(ConflictError):
            left = []
        else:
            left = self._undo_unknown(self._named(data), ensured)
        if self.begun and not any(left):
            self.journal(False)
        return kept_result(*left)

    def _undo_unknown(self, data: Json, ensured: Mapping[str, Ensured]) -> list[str]:
        try:
            if self.shared and not self.begun:
                return []
            there = [self.made_id] if self.made_id else self.leftovers(data, ensured)
            return [self.undo(found) for found in there if self._is_ours(found)]
        except ConflictError:  # what is there is not ours
            return []
        except Exception as error:
            if is_unavailable(error):
                raise
            return [f"{self.name}: what it left behind could not be looked for: {explain(error)}"]

    def undo(self, destination_id: str) -> str:
        """Remove the resource; returns why it stays. Raises as `why_not_undone` does."""
        if not self.sharing:
            return why_not_undone(self.name, self.remove, destination_id)
        with self.sharing.locked():
            if user := self.sharing.user_of(destination_id):
                return f"used by {user}"
            return why_not_undone(self.name, self.remove, destination_id)

    def leftovers(self, data: Json, ensured: Mapping[str, Ensured]) -> Iterable[str]:
        """The ids of all that an execute may have made that did not come to its end."""
        found = self.find(data, ensured)
        return [] if found is None else [found]

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The id of the twin that is certain to be ours, if it exists."""
        raise NotImplementedError

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Make the twin, stamped, and return its id."""
        raise NotImplementedError

    def is_marked(self, destination_id: str) -> bool:
        """Whether what may have been made carries the mark; True of what carries none, and is shared by few."""
        return True

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Ensured]) -> None:
        """Do what takes a second call; done again on a twin that was found."""

    def remove(self, destination_id: str) -> None:
        """Delete the resource."""
        raise NotImplementedError


class BaseEnsureTask(EnsureMixin, BaseCloudTask):
    """Finds or creates one resource of the destination."""


class BaseEnsureFromSourceTask(EnsureMixin, BaseCloudsTask):
    """Finds or creates one resource of the destination, reading of the source what no result may hold."""


def look_again(find: Callable[[], T | None]) -> T | None:
    """What a call has made all the same that ended without an answer; None when it has made nothing."""
    for wait_s in LOOKS_S:
        time.sleep(wait_s)
        found = find()
        if found is not None:
            return found
    return None


def holds(wanted: Any, actual: Any) -> bool:
    """Whether an answer has what was asked for; it may say more, in another order, and numbers as text."""
    if isinstance(wanted, dict):
        return isinstance(actual, dict) and all(
            holds(value, actual.get(key)) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        there = actual if isinstance(actual, list) else []
        return len(wanted) == len(there) and all(any(holds(one, other) for other in there) for one in wanted)
    return (not wanted and not actual) or str(wanted) == str(actual)


# The lists whose order means something: a guest asks the first DNS server first.
_ORDERED = ("dns_nameservers",)


def unlike(asked: Json, made: Json) -> Json:
    """Those of the fields that were asked for which a service has made otherwise."""
    return {
        field: value
        for field, value in asked.items()
        if not holds(value, made.get(field)) or (field in _ORDERED and value != made.get(field))
    }


def as_asked(asked: Json, made: Json, update: Callable[[Json], Json] | None = None) -> Json:
    """What a service has made, after one update of what it has made otherwise than it was asked to.

    update: sets fields, and returns what is there then.

    Raises MadeOtherwiseError where something still is.
    """
    wrong, refusal = unlike(asked, made), ""
    if wrong and update is not None:
        try:
            made = update(wrong)
        except Exception as error:
            if http_status(error) not in REFUSED:
                raise
            refusal = f" ({explain(error).what})"
    if still := unlike(asked, made):
        found = "; ".join(f"{name} is {made.get(name)!r} and not {value!r}" for name, value in still.items())
        raise MadeOtherwiseError(
            f"the destination made it otherwise than it was asked to: {found}{refusal}", ASK
        )
    return made


def create_or_find(create: Callable[[], str], find: Callable[[], str | None]) -> str:
    """The id of what a call creates, looked for where the call ended without an answer."""
    try:
        return create()
    except Exception as error:
        found = look_again(find) if in_doubt(error) else None
        if found is None:
            raise
        return found


def only_twin(kind: str, source_id: str, ids: Sequence[str]) -> str | None:
    """The one id that there is; ConflictError when several carry the stamp of one source resource."""
    if len(ids) > 1:
        raise ConflictError(
            f"{len(ids)} {kind}s of the destination carry the stamp of {source_id}: {', '.join(ids)}",
            "delete those that are not in use",
        )
    return ids[0] if ids else None


def create_in_tenant(
    cloud: Cloud, tenant_id: str, refusals: Collection[int], create: Callable[[Cloud], T]
) -> T:
    """What a call creates that is sent by the operator in a tenant.

    refusals: the statuses that the service answers where the operator's role there was taken away in the
        meantime: 401 itself, others for what Glance or Neutron answered it. Nothing was made then.
    """
    with cloud.in_tenant(tenant_id) as tenant_cloud:
        try:
            return create(tenant_cloud)
        except Exception as error:
            if http_status(error) not in refusals or not cloud.renew_tenant(tenant_id):
                raise
            return create(tenant_cloud)


def why_not_undone(name: str, remove: Callable[..., Any], *args: Any) -> str:
    """Call what takes something back; returns why that failed, and nothing when it did not. Absence is success.

    Raises only what a service that is not there raises: whoever runs the task then calls its revert again. Any
    other error that a revert raised would leave all earlier tasks as they are.
    """
    why = _why_it_stays(remove, *args, raised=is_unavailable)
    if why:
        LOG.error("%s: could not be undone: %s", name, why)
    return f"{name}: {why}" if why else ""


def why_not_removed(delete: Callable[..., Any], *args: Any) -> str:
    """Remove what has served; returns why it stays behind, and nothing when it does not. Absence is success."""
    return _why_it_stays(persistently, delete, *args)


def _why_it_stays(
    remove: Callable[..., Any], *args: Any, raised: Callable[[Exception], bool] = lambda error: False
) -> str:
    try:
        remove(*args)
    except Exception as error:
        if raised(error):
            raise
        return "" if http_status(error) == 404 else str(explain(error))
    return ""


def persistently(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call what clears away, and call it again when it fails: nobody comes back for what stays behind.

    Raises what the last call raised; at once that something is not there, or that its service is not.
    """
    attempts = Retrying(
        retry=retry_if_exception(
            lambda error: http_status(error) != 404 and not isinstance(error, OutageError | Interruption)
        ),
        stop=stop_after_attempt(CLEARING_ATTEMPTS),
        wait=wait_exponential(),
        reraise=True,
    )
    return attempts(function, *args, **kwargs)


def kept_result(*reasons: str) -> Json | None:
    """The result of a revert: why something stays, `{"kept": ...}`; None when nothing does."""
    said = "; ".join(reason for reason in reasons if reason)
    return {"kept": said} if said else None


def in_doubt(error: Exception) -> bool:
    """Whether a call may have been carried out although it failed: no answer came, or one that does not tell."""
    status = http_status(error)
    if isinstance(error, PumphouseError):
        return False
    return status is None or status >= 500


def retrieve(
    task_class: Callable[..., BaseRetrieveTask], migration: Migration, step: Step, **given: Any
) -> BaseRetrieveTask:
    """The task that reads the source resource of a step.

    given: what of the plan its execute takes besides the id.
    """
    return task_class(
        migration.source,
        provides=symbol(step.ref, "retrieved"),
        inject={"resource_id": step.ref.id, **given},
        line=f"read {step.record.title}",
    )


def retrieve_record(fetch: Fetch, migration: Migration, step: Step) -> BaseRetrieveTask:
    """The task that reads the source resource of a step as discovery does, unless the plan has just done so."""

    def planned() -> Json | None:
        return step.record.data if migration.is_fresh else None

    return retrieve(partial(RetrieveRecord, fetch=fetch, planned=planned), migration, step)


def ensure(
    task_class: Callable[..., task.Task],
    clouds: Iterable[Cloud],
    step: Step,
    *,
    line: str = "",
    needs: Iterable[Ref] | None = None,
    also_requires: Iterable[str] = (),
    **kwargs: Any,
) -> task.Task:
    """The task that finds or creates the destination resource of a step, after all that the step needs.

    needs: those of the step's needs that this task waits for, where it is not all of them.
    also_requires: symbols of other tasks that have to be done before.
    """
    verb = "finish" if step.destination_id else "create"
    waited = step.record.needs if needs is None else needs
    return task_class(
        *clouds,
        provides=symbol(step.ref, "ensured"),
        rebind={"data": symbol(step.ref, "retrieved")},
        requires=[*(symbol(need, "ensured") for need in waited), *also_requires],
        target_name=step.name,
        fresh=step.destination_id is None,
        line=line or f"{verb} {step.record.title}",
        **kwargs,
    )


def differences(
    wanted: Mapping[str, Any], actual: Mapping[str, Any], fields: Iterable[str]
) -> tuple[str, ...]:
    """The fields in which two resources differ, one phrase each, e.g. `ram is 512, source has 1024`."""
    return tuple(
        f"{field} is {actual.get(field)!r}, source has {wanted.get(field)!r}"
        for field in fields
        if wanted.get(field) != actual.get(field)
    )


def named(search: Search, mapping: str, name: str, items: Mapping[str, Collection[T]]) -> Collection[T]:
    """Of the destination's items by name, those that a mapping names or else those of the same name.

    Names that differ only in case come last, because MySQL takes them for the same.
    Raises ConfigError when the mapping names what the destination does not have.
    """
    wanted = search.mappings[mapping].get(name, name)
    if wanted in items:
        return items[wanted]
    if wanted != name:
        problem = f"mappings.{mapping}: {name!r} is mapped to {wanted!r}, which the destination does not have"
        raise ConfigError([problem], "create it there, or correct the mapping")
    return [item for other in items if other.casefold() == name.casefold() for item in items[other]]


def distinct_name(kind: str, name: str, source_id: str) -> str:
    """The name that tells one from others of the same name: a part of its id at the end, cut to what services take."""
    suffix = f"-{source_id[:_ID_DIGITS]}"
    longest = _PROJECT_NAME_MAX_LENGTH if kind == "tenant" else NAME_MAX_LENGTH
    return name[: longest - len(suffix)] + suffix


def differs_in_case(name: str, other: str) -> bool:
    """Whether two names are the same but for upper and lower case."""
    return name != other and name.casefold() == other.casefold()

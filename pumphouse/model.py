"""The plain data that a migration is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple, TypedDict
from urllib.parse import urlsplit

Json = dict[str, Any]


@dataclass(frozen=True, order=True)
class Ref:
    """The address of a source resource: its kind and its id, written `image/3f2a`."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.id}"


def kind_title(kind: str) -> str:
    """How a kind of resource is called in a sentence, e.g. `security group`."""
    return kind.replace("_", " ")


def symbol(ref: Ref, verb: str) -> str:
    """The name of a task and of what it provides, e.g. `image-3f2a-uploaded`: the key of a resume."""
    return f"{ref.kind}-{ref.id}-{verb}"


@dataclass(frozen=True)
class CopyFormat:
    """The format of the image that a disk travels in, as Glance calls it, and why it is that one."""

    name: str
    why: str


@dataclass(frozen=True)
class Record:
    """What discovery saw of one source resource.

    data: the fields that are to be carried, plain JSON without secrets.
    needs: what must be at the destination before it; a need that cannot be met blocks it.
    part_of: the resource it stands or falls with (a subnet with its network).
    size_bytes: what will have to be copied, an upper bound where only that is known.
    copied_as: the format that a plan has chosen for its bytes; None where there is no choice, or nobody has chosen.
    notes: what of it will not be carried, why, and what to do.
    skip: why it is not migrated at all; empty when it is.
    settled: whether its skip needs no decision: a policy asks for it, or it is nothing of the tenant's own.
    must_exist: for what is never created: what to do when the destination has no twin; else empty.
    last: whether it is done when everything else is.
    answer: what the source's API gave of it, for the plan to look through; in no plan.
    """

    ref: Ref
    name: str
    data: Json = field(default_factory=dict)
    needs: tuple[Ref, ...] = ()
    part_of: Ref | None = None
    size_bytes: int = 0
    notes: tuple[str, ...] = ()
    skip: str = ""
    settled: bool = False
    must_exist: str = ""
    last: bool = False
    answer: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    copied_as: CopyFormat | None = None

    @property
    def title(self) -> str:
        """How the resource is called in a sentence, e.g. `image ubuntu`."""
        return f"{kind_title(self.ref.kind)} {self.name or self.ref.id}"


@dataclass(frozen=True)
class Twin:
    """A destination resource that may be what became of a source resource.

    ours: it carries our stamp or a mapping names it, so that it is certain.
    differences: the fields in which it is not what the source has, one phrase each.
    unfinished: what an earlier run left undone at it; empty when nothing.
    """

    id: str
    ours: bool
    differences: tuple[str, ...] = ()
    unfinished: str = ""


class Place(NamedTuple):
    """What makes two clouds the same one; empty is what an older release did not write.

    keystone: where its Keystone is, however that is written.
    project: what a login is bound to that is not an administrator's.
    """

    keystone: str
    region: str = ""
    project: str = ""

    def is_same(self, other: Place) -> bool:
        """Whether it is the same cloud, as far as both say what they are."""
        return all(
            a == b or (number and not (a and b))
            for number, (a, b) in enumerate(zip(self, other, strict=True))
        )


_TITLE = re.compile(r"\S+ (?P<url>\S+)(?: region (?P<region>.+?))?(?: project (?P<project>\S+))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def place(title: str) -> Place:
    """The cloud that plans and runs write `<name> <auth URL>[ region <region>][ project <id>]`."""
    found = _TITLE.fullmatch(title)
    if not found:
        return Place(title)
    return Place(keystone_at(found["url"]), found["region"] or "", found["project"] or "")


def keystone_at(url: str) -> str:
    """The address of a Keystone in one form: without its version and a port that goes without saying.

    What is no address stays as it is.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url
    if not parts.hostname:
        return url
    number = "" if port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f":{port}"
    path = re.sub(r"/v\d+(\.\d+)?$", "", parts.path.rstrip("/")).rstrip("/")
    return f"{parts.scheme}://{parts.hostname}{number}{path}"


class Action(StrEnum):
    """What the plan decided for one resource."""

    CREATE = "create"
    REUSE = "reuse"
    CONFLICT = "conflict"
    SKIP = "skip"


# Why a step is skipped that a person has set to `skip` in the file of a plan, or deleted from it.
LEFT_OUT = "left out by hand"
# How the note of a plan begins that the login of the source is not shown all of the tenant.
NOT_ALL_SHOWN = "the login of the source is not an administrator's"


def not_made(kind: str) -> str:
    """Why nothing is made of a kind that is skipped, where something selected needs it."""
    return f"left out by --skip {kind}, and the destination does not have it"


@dataclass(frozen=True)
class PlannedTask:
    """A task that a run of a plan will execute: its name, and the line that says what it does.

    number: its place among all tasks of the plan, from 1, in an order in which a run may execute them; 0 in plans that
        an older release recorded.
    """

    name: str
    line: str
    number: int = 0


@dataclass(frozen=True)
class Step:
    """One resource of a plan: the decision, its reason, and what it becomes.

    destination_id: the resource that is reused or finished; None when a new one is made.
    name: the name at the destination.
    because: why it is in a plan for which it was not selected; empty when it was.
    tasks: what a run will execute for it, in that order; empty in plans that an older release recorded.
    """

    record: Record
    action: Action
    reason: str
    name: str
    destination_id: str | None = None
    notes: tuple[str, ...] = ()
    because: str = ""
    tasks: tuple[PlannedTask, ...] = ()

    @property
    def ref(self) -> Ref:
        """The address of the source resource."""
        return self.record.ref

    def does(self, verb: str) -> bool:
        """Whether a run of the plan executes the task of the step that has this verb, e.g. `stopped`."""
        return any(task.name == symbol(self.ref, verb) for task in self.tasks)

    def blocked(self, reason: str) -> Step:
        """The same step, skipped because something that it needs will not be there."""
        return replace(self, action=Action.SKIP, reason=reason)


@dataclass(frozen=True)
class Unit:
    """Steps that stand or fall together, and the names of the units they need."""

    name: str
    steps: tuple[Step, ...]
    needs: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """How the unit is called in a sentence: as the resource that it is named after."""
        named = next((step for step in self.steps if str(step.ref) == self.name), self.steps[0])
        return named.record.title

    @property
    def size_bytes(self) -> int:
        """The bytes that running the unit copies, at most."""
        return sum(step.record.size_bytes for step in self.steps if step.action is Action.CREATE)


@dataclass(frozen=True)
class Selection:
    """What of a tenant is migrated; an empty selection is all of it.

    only: the kinds of which everything is selected.
    skip: the kinds of which nothing is made.
    names: what was asked for, by kind and by name or id, as long as nobody has looked which it is.
    refs: what that was found to be.
    conditions: all that servers have to meet to be selected, such as `tag=wave-1`, until they are found.
    """

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    refs: tuple[Ref, ...] = ()
    conditions: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.skip) or self.is_narrow

    @property
    def is_narrow(self) -> bool:
        """Whether only what it names is selected, and not all but what it skips."""
        return bool(self.only or self.names or self.refs or self.conditions)


class Settings(TypedDict):
    """The configuration's mappings and policies that a plan is made with, as plain JSON.

    mappings: destination name by source name, by what they map.
    policies: those of the configuration by name, but not those that are in RunSettings.
    """

    mappings: dict[str, dict[str, str]]
    policies: dict[str, Any]


class LimitSettings(TypedDict):
    """The configuration's limits as plain JSON: API calls and copies at once, bytes per second or None."""

    workers: int
    transfers: int
    bytes_per_second: int | None


class RunSettings(TypedDict):
    """How a plan is run, as plain JSON.

    fail_fast: whether nothing else is started once a unit has failed.
    on_failure: `revert` or `keep`, what becomes of a failed unit.
    """

    fail_fast: bool
    on_failure: str
    limits: LimitSettings


def _default_run_settings() -> RunSettings:
    limits = LimitSettings(workers=16, transfers=4, bytes_per_second=None)
    return RunSettings(fail_fast=False, on_failure="revert", limits=limits)


@dataclass(frozen=True)
class Obstacle:
    """What a run of a plan would fail over: what it is, and what to do.

    is_certain: whether it would; else it may.
    """

    what: str
    remedy: str
    is_certain: bool = True


@dataclass(frozen=True)
class Plan:
    """All that a migration of one tenant is going to do, as plain data.

    settings: what the tasks depend on.
    cfg: how it is run.
    units: in an order in which every unit comes after those it needs.
    notes: what else there is to know before it is run.
    uncarried: what the tenant owns of which no migration carries anything, and which the selection does not skip.
    left_out: what was planned once and then taken out by a person.
    selection: what of the tenant it was made for.
    obstacles: what stands in the way now; it is not read back.
    measured_bytes_per_s: how fast a copy went when that was measured; None if nobody did. Not written down.
    read_at_s: when the source was read for it, by `time.monotonic`; None of one that was written down.
    """

    tenant: Ref
    tenant_name: str
    source: str
    destination: str
    units: tuple[Unit, ...]
    settings: Settings = field(default_factory=lambda: Settings(mappings={}, policies={}))
    notes: tuple[str, ...] = ()
    uncarried: tuple[str, ...] = ()
    cfg: RunSettings = field(default_factory=_default_run_settings)
    left_out: tuple[Ref, ...] = ()
    selection: Selection = Selection()
    obstacles: tuple[Obstacle, ...] = ()
    measured_bytes_per_s: float | None = None
    read_at_s: float | None = field(default=None, compare=False)

    def steps(self) -> Iterator[Step]:
        """Every step, in the order of the units."""
        return (step for unit in self.units for step in unit.steps)

    def tasks(self) -> list[PlannedTask]:
        """Every task, in an order in which a run may execute them."""
        return sorted((task for step in self.steps() for task in step.tasks), key=lambda task: task.number)


class State(StrEnum):
    """What became of one resource in a run."""

    CREATED = "created"
    REUSED = "reused"
    SKIPPED = "skipped"
    CONFLICT = "conflict"
    FAILED = "failed"
    BLOCKED = "blocked"
    PENDING = "pending"
    REVERTED = "reverted"
    KEPT = "kept"
    DELETED = "deleted"
    UNMARKED = "unmarked"


@dataclass(frozen=True)
class Outcome:
    """What became of one resource: its new id, or why it has none."""

    ref: Ref
    name: str
    state: State
    destination_id: str | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What became of every resource of a plan.

    run: the short id under which the run is recorded.
    """

    plan: Plan
    outcomes: tuple[Outcome, ...]
    run: str = ""

    def count(self) -> Mapping[State, int]:
        """How many resources ended in each state; states that none ended in are left out."""
        states = [outcome.state for outcome in self.outcomes]
        return {state: states.count(state) for state in State if state in states}

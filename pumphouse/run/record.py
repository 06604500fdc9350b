"""Recorded runs: a logbook for each, with the plan and a flow detail for every unit of it."""

from __future__ import annotations

import getpass
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from oslo_utils import timeutils, uuidutils
from taskflow import states
from taskflow.persistence.models import AtomDetail, FlowDetail, LogBook, TaskDetail

from pumphouse import __version__
from pumphouse.errors import NotFoundError, UsageError
from pumphouse.model import Action, Json, Place, Plan, Ref, place, symbol
from pumphouse.plan.data import format_problem, plan_data, plan_from
from pumphouse.run.outcomes import REVERT_STATES, ensured_results, step_of_task
from pumphouse.store import NAME_MAX_LENGTH
from pumphouse.store.times import now

if TYPE_CHECKING:
    from taskflow.persistence.base import Backend

    from pumphouse.tasks.base import Before

# The format in which this release records runs, and the only one that it reads; books without one are of format 1.
FORMAT = 1
# The meta that a run's logbook has in every format, so that every release can list it; besides `tenant`.
_HEADER = ("source", "destination", "version", "state", "created_at")
# The factory of the units' flows, by which a resume finds it again. It is part of the format.
FACTORY = "pumphouse.flows.unit_flow"
LAST = "last"
# The states of a run whose marks are taken off, or were.
FINALIZING, FINALIZED, FINALIZE_FAILURE = "FINALIZING", "FINALIZED", "FINALIZE_FAILURE"
FINALIZE_STATES = (FINALIZING, FINALIZED, FINALIZE_FAILURE)
# The states of a run that a process works on, if that process is alive.
ACTIVE_STATES = (states.RUNNING, states.REVERTING, FINALIZING)
_PLAN = "plan"
_REUSED = "reused"
_LIMITS = "limits"
_DONE = (states.SUCCESS, states.RUNNING, states.FAILURE)
_ID_DIGITS = 8
_ID_MIN_DIGITS = 4


@dataclass
class Run:
    """One execution of one plan.

    details: the uuids of the units' flow details, by the names of the units.
    used_at_rest: what other runs use that nobody works on, by what tells such a run and when it was left.
    """

    store: Backend
    book: LogBook
    plan: Plan
    details: Mapping[str, str]
    used_at_rest: dict[tuple[Any, ...], set[tuple[str, str]]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def id(self) -> str:
        """The short id."""
        return run_id(self.book)

    @property
    def is_done(self) -> bool:
        """Whether all that it was to make is made."""
        return bool(self.book.meta["state"] == states.SUCCESS)

    def update_meta(self, **meta: Any) -> None:
        """Change the meta of the logbook; safe from many threads."""
        with self._lock:
            self.book.meta = {**self.book.meta, **meta}
            self.book.updated_at = timeutils.utcnow()
            with closing(self.store.get_connection()) as connection:
                connection.save_logbook(self.book.copy(retain_contents=False))

    def begin(self, state: str) -> None:
        """Record that this process works on the run."""
        self.update_meta(state=state, owner=_owner(), began_at=now(), ended_at=None)

    def end(self, state: str, conflicts: int = 0) -> None:
        """Record the state, one of TaskFlow's, in which the process leaves the run, and what needs a decision."""
        self.update_meta(state=state, ended_at=now(), conflicts=conflicts)

    def asked_limits(self) -> Json | None:
        """The limits that somebody has asked for last, see `ask_limits`; of a run that is at work also by another process."""
        with closing(self.store.get_connection()) as connection:
            header: FlowDetail = connection.get_flow_details(self._header, lazy=True)
        asked: Json | None = header.meta.get(_LIMITS)
        return asked

    @cached_property
    def _header(self) -> str:
        """The uuid of the flow detail that has the plan."""
        return str(_header_detail(self.store, self.book).uuid)

    def detail(self, unit: str) -> FlowDetail:
        """The flow detail of a unit, with its tasks."""
        with closing(self.store.get_connection()) as connection:
            return connection.get_flow_details(self.details[unit])

    def all_details(self) -> dict[str, FlowDetail]:
        """The flow details of all units by name, with all tasks."""
        with closing(self.store.get_connection()) as connection:
            flows = list(connection.get_flows_for_book(self.book.uuid))
        return {flow.meta["unit"]: flow for flow in flows if "unit" in flow.meta}


def ask_limits(store: Backend, book: LogBook, limits: Mapping[str, int | None]) -> None:
    """Ask the process that works on a run for other limits.

    limits: `transfers` and `bytes_per_second`, or one of them; what is not in it stays.

    They are not kept with the run's own meta, which only that process writes.

    Raises UsageError when no process is recorded to work on it.
    """
    if book.meta["state"] != states.RUNNING:
        raise UsageError(
            f"run {run_id(book)} is {book.meta['state']}: no process copies anything for it",
            f"a run goes on with other limits by: pumphouse resume {run_id(book)} --transfers N --limit-rate BYTES",
        )
    header = _header_detail(store, book)
    header.meta = {**header.meta, _LIMITS: {**limits, "asked_at": now()}}
    with closing(store.get_connection()) as connection:
        connection.update_flow_details(header)


def _header_detail(store: Backend, book: LogBook) -> FlowDetail:
    with closing(store.get_connection()) as connection:
        flows = connection.get_flows_for_book(book.uuid, lazy=True)
        return next(flow for flow in list(flows) if "unit" not in flow.meta)


def run_id(book: LogBook) -> str:
    """The short id of a run."""
    return str(book.uuid)[:_ID_DIGITS]


def _owner() -> Json:
    return {"host": socket.gethostname(), "pid": os.getpid(), "user": getpass.getuser()}


def create_run(store: Backend, plan: Plan) -> Run:
    """Record a new run of a plan.

    All flow details are saved at once: TaskFlow, left to create each by itself, saves the whole book every time.
    """
    book = LogBook(f"migrate tenant {plan.tenant_name}"[:NAME_MAX_LENGTH])
    book.meta = {
        "tenant": {"id": plan.tenant.id, "name": plan.tenant_name},
        "source": plan.source,
        "destination": plan.destination,
        "format": FORMAT,
        "version": __version__,
        "state": states.PENDING,
        "created_at": now(),
    }
    book.add(_plan_detail(plan))
    details = {unit.name: unit_detail(unit.name) for unit in plan.units}
    for detail in details.values():
        book.add(detail)
    with closing(store.get_connection()) as connection:
        connection.save_logbook(book)
    return Run(store, book, plan, {unit: detail.uuid for unit, detail in details.items()})


def unit_detail(unit: str, factory: str = FACTORY) -> FlowDetail:
    """The record of a unit's flow, of which nothing is executed yet.

    factory: what makes the flow, see `pumphouse.run.engine.FACTORIES`.
    """
    from taskflow import engines

    detail = FlowDetail(unit[:NAME_MAX_LENGTH], uuidutils.generate_uuid())
    detail.meta = {"unit": unit}
    engines.save_factory_details(detail, factory, [], {})
    return detail


def _plan_detail(plan: Plan) -> FlowDetail:
    """The plan in parts: no store takes values of any size, and ZooKeeper none over 1 MiB."""
    data = plan_data(plan)
    parts = [{**data, "units": []}, *data["units"]]
    detail = FlowDetail(_PLAN, uuidutils.generate_uuid())
    detail.meta = {_REUSED: [[kind, i] for kind, i in _reused(plan)]}
    for number, part in enumerate(parts):
        atom = TaskDetail(f"{_PLAN}-{number}", uuidutils.generate_uuid())
        atom.put(states.SUCCESS, {"number": number, "part": part})
        detail.add(atom)
    return detail


def _reused(plan: Plan) -> Iterator[tuple[str, str]]:
    for step in plan.steps():
        if step.action is Action.REUSE and step.destination_id:
            yield step.ref.kind, step.destination_id


def used(store: Backend, book: LogBook) -> set[tuple[str, str]]:
    """The kinds and ids of all that a run reuses, or took where it was to make what other runs may make too.

    Also of what it has made and does not remove: of what carries no mark, another run may believe to have made it.
    Its plan is not loaded, unless an older release has recorded it.
    """
    with closing(store.get_connection()) as connection:
        flows = list(connection.get_flows_for_book(book.uuid, lazy=True))
        common = [flow for flow in flows if _may_be_common(flow)]
        details = [connection.get_flow_details(flow.uuid) for flow in common]
    (header,) = (flow for flow in flows if "unit" not in flow.meta)
    reused = header.meta.get(_REUSED)
    found = set(_reused(load_run(store, book).plan)) if reused is None else set(map(tuple, reused))
    results = [(name, r["id"]) for detail in details for name, r in ensured_results(detail) if not r["made"]]
    notes = ("uses",) if book.meta["state"] in REVERT_STATES else ("uses", "made_id")
    atoms = (atom for detail in details for atom in detail if atom.state != states.REVERTED)
    taken = [(atom.name, i) for atom in atoms for note in notes if (i := noted(atom).get(note))]
    return found | {(name.partition("-")[0], destination_id) for name, destination_id in (*results, *taken)}


def noted(atom: AtomDetail) -> Json:
    """What a task noted in its progress before it made or took something."""
    from taskflow.storage import META_PROGRESS_DETAILS

    return (atom.meta.get(META_PROGRESS_DETAILS) or {}).get("details") or {}


def has_begun(store: Backend, book: LogBook) -> bool:
    """Whether a unit of a run has begun; an older release recorded also plans that do nothing as runs."""
    with closing(store.get_connection()) as connection:
        return any(flow.state for flow in connection.get_flows_for_book(book.uuid, lazy=True))


def _may_be_common(flow: FlowDetail) -> bool:
    """Whether several tenants' runs may need what a unit makes."""
    from pumphouse.tasks import KINDS

    kind = KINDS.get(str(flow.meta.get("unit", "")).partition("/")[0])
    return kind is not None and kind.common is not None


def has_loans(book: LogBook) -> bool:
    """Whether a run has borrowed something of a cloud that was not given back."""
    return any((book.meta.get("loans") or {}).values())


def list_books(store: Backend) -> list[LogBook]:
    """The logbooks of all runs without their flow details, the oldest first."""
    with closing(store.get_connection()) as connection:
        found = [book for book in connection.get_logbooks(lazy=True) if _is_run(book.meta)]
    return sorted(found, key=lambda book: str(book.meta["created_at"]))


def _is_run(meta: Json) -> bool:
    tenant = meta.get("tenant")
    has_tenant = isinstance(tenant, dict) and {"id", "name"} <= tenant.keys()
    return has_tenant and all(isinstance(meta.get(name), str) for name in _HEADER)


def find_book(store: Backend, wanted: str) -> LogBook:
    """Find the logbook of a run by its id, the beginning of the id, or `last`.

    Raises NotFoundError when there is none, or more than one.
    """
    found = list_books(store)
    hint = "list them with: pumphouse runs list"
    if wanted == LAST and found:
        return found[-1]
    matching = [book for book in found if str(book.uuid).startswith(wanted.lower())]
    if len(matching) == 1 and len(wanted) >= _ID_MIN_DIGITS:
        return matching[0]
    if matching:
        ids = ", ".join(run_id(book) for book in matching)
        raise NotFoundError(f"{wanted!r} may be any of the runs {ids}", "give more of the id")
    raise NotFoundError(f"there is no run {wanted!r}", hint)


def load_run(store: Backend, book: LogBook) -> Run:
    """Load a run with its plan.

    Raises UsageError when another release has recorded it in a format that this one does not read.
    """
    given = book.meta.get("format", 1)
    if given != FORMAT:
        raise _other_format(book, f"format {given} of the state store; this pumphouse reads {FORMAT}")
    with closing(store.get_connection()) as connection:
        flows = list(connection.get_flows_for_book(book.uuid, lazy=True))
        header = next(flow for flow in flows if "unit" not in flow.meta)
        atoms = list(connection.get_flow_details(header.uuid))
    first, *units = [
        atom.results["part"] for atom in sorted(atoms, key=lambda atom: int(atom.results["number"]))
    ]
    if problem := format_problem(first):
        raise _other_format(book, f"a plan whose {problem}")
    details = {flow.meta["unit"]: flow.uuid for flow in flows if "unit" in flow.meta}
    return Run(store, book, plan_from({**first, "units": units}), details)


def _other_format(book: LogBook, what: str) -> UsageError:
    return UsageError(
        f"run {run_id(book)} was recorded by pumphouse {book.meta['version']} with {what}",
        f"use pumphouse {book.meta['version']} or a newer one for it; this is {__version__}",
    )


def tenant_books(store: Backend, tenant_id: str, source: str, destination: str) -> list[LogBook]:
    """The logbooks of all runs that moved a tenant between two clouds, the oldest first."""
    clouds = place(source), place(destination)
    books = [book for book in list_books(store) if book.meta["tenant"]["id"] == tenant_id]
    return [book for book in books if all(map(Place.is_same, clouds, _clouds(book.meta)))]


def _clouds(meta: Json) -> tuple[Place, Place]:
    return place(meta["source"]), place(meta["destination"])


def describe_owner(store: Backend, meta: Json) -> str:
    """Say which run and process work on a tenant now; empty when none is recorded to."""
    books = [book for book in list_books(store) if lock_name(book.meta) == lock_name(meta)]
    active = [book for book in books if book.meta["state"] in ACTIVE_STATES]
    if not active:
        return ""
    process = "process {pid} of {user} on {host}".format_map(active[-1].meta["owner"])
    return f"run {run_id(active[-1])}, {process}, since {active[-1].meta['began_at']}"


def unfinished_notes(store: Backend, meta: Json) -> list[str]:
    """Say that the newest run of a tenant is not finished, if so, before a new one is created."""
    newest = tenant_books(store, meta["tenant"]["id"], meta["source"], meta["destination"])[-1:]
    return [
        f"run {run_id(book)} of this tenant was not finished; pumphouse resume {run_id(book)} goes on with it, "
        f"pumphouse revert {run_id(book)} undoes it; this makes a new run"
        for book in newest
        if book.meta["state"] not in (states.SUCCESS, states.REVERTED, *FINALIZE_STATES)
    ]


def lock_name(meta: Json) -> str:
    """The name of the lock of a tenant and a pair of clouds, out of the meta of a logbook.

    All regions of a cloud have one Keystone, and so one lock.
    """
    return " ".join((meta["tenant"]["id"], *(cloud.keystone for cloud in _clouds(meta))))


def done_before(store: Backend, tenant_id: str, source: str, destination: str) -> dict[Ref, Before]:
    """What the newest earlier run of a tenant did with each resource and did not revert.

    Only for the kinds that use it, because the tasks of whole runs are read for it: of those that have left something.
    What was begun by a run that is not done may be without its stamp.
    """
    from pumphouse.tasks import KINDS
    from pumphouse.tasks.base import Before

    found: dict[Ref, Before] = {}
    for book in tenant_books(store, tenant_id, source, destination):
        if book.meta["state"] == states.REVERTED or not has_begun(store, book):
            continue
        run = load_run(store, book)
        for unit in run.plan.units:
            steps = [
                step
                for step in unit.steps
                if (kind := KINDS[step.ref.kind]).as_before or (kind.stamped_last and not run.is_done)
            ]
            atoms = list(run.detail(unit.name)) if steps else []
            for step in steps:
                names = (atom.name for atom in atoms if atom.state in _DONE)
                done = {name for name in names if step_of_task(unit, name) is step}
                begun = not run.is_done and symbol(step.ref, "ensured") in done
                found |= {step.ref: Before(step.record, frozenset(done), begun)} if done else {}
    return found

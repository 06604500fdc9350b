"""A run: the units of a plan, each an engine of its own, started as those they need succeed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, Protocol

from taskflow import engines, states, task
from taskflow.types.failure import Failure

from pumphouse.errors import PumphouseError, explain
from pumphouse.flows import unit_flow, unit_tasks
from pumphouse.model import Action, Json, Outcome, Plan, Report, State, Step, Unit
from pumphouse.store import flow_detail, new_run, run_id, set_state
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import Migration, symbol

if TYPE_CHECKING:
    from taskflow.persistence.base import Backend

    from pumphouse.config import Limits

LOG = logging.getLogger(__name__)

# Units that copy bytes and are under way at once, per transfer slot: while one copies, another takes its snapshot.
_COPYING_UNITS_PER_TRANSFER = 2

_SETTLED = {Action.REUSE: State.REUSED, Action.SKIP: State.SKIPPED, Action.CONFLICT: State.CONFLICT}


class Listener(Protocol):
    """Is told what happens, from many threads."""

    def task_started(self, line: str) -> None:
        """A task begins; line says what it does."""

    def bytes_copied(self, name: str, copied: int) -> None:
        """A task has copied that many bytes so far."""

    def settled(self, outcome: Outcome) -> None:
        """A resource has its outcome."""


@dataclass
class _Run:
    """What one run shares between its threads."""

    plan: Plan
    migration: Migration
    listener: Listener
    executor: ThreadPoolExecutor
    leases: ExitStack
    store: Backend
    details: Mapping[str, str]
    results: dict[str, Json] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def settle(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.listener.settled(outcome)


def run(
    plan: Plan,
    migration: Migration,
    limits: Limits,
    listener: Listener,
    stop: threading.Event,
    store: Backend,
) -> Report:
    """Execute a plan and report what became of every resource of it.

    limits: how many tasks are executed at once, and how many of them may copy.
    stop: once set, units under way are finished and no other is started.
    store: where the run is recorded, each unit as a flow of its own.
    """
    book, details = new_run(store, plan, (unit.name for unit in plan.units))
    copying = _COPYING_UNITS_PER_TRANSFER * limits.transfers
    with (
        ThreadPoolExecutor(limits.workers, "task") as executor,
        ThreadPoolExecutor(limits.workers, "unit") as drivers,
        ThreadPoolExecutor(copying, "copying-unit") as copying_drivers,
        ExitStack() as leases,
    ):
        state = _Run(plan, migration, listener, executor, leases, store, details)
        _settle_decided(state)
        for unit in _as_ready(
            plan, stop, lambda u: (copying_drivers if u.size_bytes else drivers).submit(_start, state, u)
        ):
            LOG.debug("unit %s is done", unit)
        _settle_unstarted(state)
        _give_back(leases)
    set_state(store, book, _final_state(state, stop))
    order = {step.ref: number for number, step in enumerate(plan.steps())}
    outcomes = sorted(state.outcomes, key=lambda outcome: order[outcome.ref])
    return Report(plan, tuple(outcomes), run_id(book))


def _give_back(leases: ExitStack) -> None:
    """End the access to the tenant; a role that stays is said in the log, because the report must not be lost."""
    try:
        leases.close()
    except PumphouseError as error:
        LOG.error("%s", explain(error))


def _final_state(state: _Run, stop: threading.Event) -> str:
    if stop.is_set():
        return str(states.SUSPENDED)
    return str(states.FAILURE if state.failed else states.SUCCESS)


def _as_ready(plan: Plan, stop: threading.Event, submit: Callable[[Unit], Future[None]]) -> Iterator[str]:
    """Submit each unit as soon as all it needs have been done; yield the names of those done."""
    units = {unit.name: unit for unit in plan.units}
    sorter = TopologicalSorter({name: unit.needs for name, unit in units.items()})
    sorter.prepare()
    futures: dict[Future[None], str] = {}
    while sorter.is_active():
        ready = sorter.get_ready() if not stop.is_set() else ()
        futures |= {submit(units[name]): name for name in ready}
        if not futures:
            return
        done, _ = wait(futures, timeout=1.0, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
            sorter.done(futures[future])
            yield futures.pop(future)


def _settle_decided(state: _Run) -> None:
    """Report what needs no task, and give the ids of what is reused to those that need it."""
    for step in state.plan.steps():
        if step.destination_id and step.action is Action.REUSE:
            state.results[symbol(step.ref, "ensured")] = {"id": step.destination_id, "made": False}
        if step.action in _SETTLED:
            state.settle(_outcome(step, _SETTLED[step.action], step.reason))


def _settle_unstarted(state: _Run) -> None:
    settled = {outcome.ref for outcome in state.outcomes}
    for step in state.plan.steps():
        if step.ref not in settled:
            state.settle(_outcome(step, State.BLOCKED, "not started: the run was interrupted"))


def _start(state: _Run, unit: Unit) -> None:
    """Execute one unit, or block it when one that it needs has failed."""
    blocker = next((name for name in unit.needs if name in state.failed), None)
    if blocker is not None:
        _fail(state, unit, {step.ref: state.failed[blocker] for step in unit.steps}, State.BLOCKED)
        return
    failures: dict[str, Failure] = {}
    try:
        _keep_tenant_access(state, unit)
        _execute(state, unit, failures)
    except Exception as error:  # whatever a task raised; its unit is undone by now
        _report_failure(state, unit, failures, error)


def _keep_tenant_access(state: _Run, unit: Unit) -> None:
    """Hold the operator's access to the tenant until the run ends, rather than have it granted unit by unit."""
    tenant = state.results.get(symbol(state.plan.tenant, "ensured"))
    acting = any(
        step.action is Action.CREATE and getattr(KINDS[step.ref.kind], "ACTS_IN_TENANT", False)
        for step in unit.steps
    )
    if tenant and acting:
        state.leases.enter_context(state.migration.destination.in_tenant(tenant["id"]))


def _execute(state: _Run, unit: Unit, failures: dict[str, Failure]) -> None:
    owners = {item.name: step for step, item in unit_tasks(state.migration, unit)}
    if not owners:
        return
    flow = unit_flow(state.migration, unit)
    needed = {name: state.results[name] for name in flow.requires}
    engine = engines.load(
        flow,
        store=needed,
        flow_detail=flow_detail(state.store, state.details[unit.name]),
        backend=state.store,
        engine="parallel",
        executor=state.executor,
    )
    _listen(engine, flow, state.listener, failures)
    engine.run()
    _succeed(state, unit, owners, engine.storage.fetch_all())


def _listen(engine: Any, flow: Any, listener: Listener, failures: dict[str, Failure]) -> None:
    lines: dict[str, task.Task] = {item.name: item for item, _ in flow.iter_nodes()}

    def on_state(new_state: str, details: Mapping[str, Any]) -> None:
        name = details["task_name"]
        if new_state == states.RUNNING:
            listener.task_started(lines[name].line)
        if new_state == states.FAILURE:
            failures[name] = details["result"]

    def on_progress(name: str) -> Callable[[str, Mapping[str, Any]], None]:
        def tell(_event: str, details: Mapping[str, Any]) -> None:
            if "bytes" in details:  # TaskFlow itself says only that a task begins and ends
                listener.bytes_copied(name, details["bytes"])

        return tell

    engine.atom_notifier.register("*", on_state)
    for name, item in lines.items():
        item.notifier.register(task.EVENT_UPDATE_PROGRESS, on_progress(name))


def _succeed(state: _Run, unit: Unit, owners: Mapping[str, Step], results: Mapping[str, Json]) -> None:
    for step in unit.steps:
        if step.action is not Action.CREATE:
            continue
        ensured = results[symbol(step.ref, "ensured")]
        state.results[symbol(step.ref, "ensured")] = ensured
        found = [
            note for name, owner in owners.items() if owner is step for note in results[name].get("notes", ())
        ]
        done = State.CREATED if ensured["made"] else State.REUSED
        reason = "" if done is State.CREATED else step.reason
        state.settle(Outcome(step.ref, step.name, done, ensured["id"], reason, (*step.notes, *found)))


def _report_failure(state: _Run, unit: Unit, failures: Mapping[str, Failure], error: Exception) -> None:
    """Say of each step of a failed unit whether it failed itself or was undone with the rest."""
    LOG.debug("unit %s failed", unit.name, exc_info=error)
    owners = {item.name: step.ref for step, item in unit_tasks(state.migration, unit)}
    reasons = {owners[name]: _reason(failure) for name, failure in failures.items()}
    if not reasons:
        reasons = {unit.steps[0].ref: str(explain(error))}
    titles = [step.record.title for step in unit.steps if step.ref in reasons]
    undone = f"undone, because {' and '.join(titles)} failed"
    _fail(state, unit, {step.ref: reasons.get(step.ref, undone) for step in unit.steps}, State.FAILED)


def _reason(failure: Failure) -> str:
    return str(explain(failure.exception)) if failure.exception else failure.exception_str


def _fail(state: _Run, unit: Unit, reasons: Mapping[Any, str], outcome: State) -> None:
    state.failed[unit.name] = (
        f"needs {unit.steps[0].record.title if len(unit.steps) == 1 else unit.name}, which failed"
    )
    for step in unit.steps:
        if step.action is Action.CREATE:
            state.settle(_outcome(step, outcome, reasons[step.ref]))


def _outcome(step: Step, state: State, reason: str) -> Outcome:
    return Outcome(step.ref, step.name, state, step.destination_id, reason, step.notes)

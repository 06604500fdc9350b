"""Executes a run: each unit of the plan by an engine of its own, as soon as the units that it needs are done."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from graphlib import TopologicalSorter
from typing import Any

from taskflow import states
from taskflow.exceptions import InvalidState, StorageFailure
from taskflow.persistence.models import FlowDetail

from pumphouse.cloud.access import RoleLoan
from pumphouse.cloud.loans import Loan
from pumphouse.errors import EXIT_CONNECTION, Interruption, PumphouseError, explain
from pumphouse.model import Action, Json, Outcome, Report, State, Step, Unit, symbol
from pumphouse.plan.overview import UNITS_PER_TRANSFER, units_last_s
from pumphouse.run.engine import (
    Engines,
    TaskThreads,
    correct_suspended_state,
    is_revert_unfinished,
    reset_failed_tasks,
)
from pumphouse.run.events import LimitsChanged, Listener, OutcomeReported, Stopping, guarded
from pumphouse.run.outcomes import (
    REVERT_STATES,
    blocking_reason,
    decided_outcomes,
    ensured_results,
    executed_outcomes,
    reused_results,
    sorted_by_plan,
)
from pumphouse.run.record import FINALIZE_STATES, Run, tenant_books
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import Migration
from pumphouse.tasks.glance.transfer import TRANSFERS_MAX, Slots
from pumphouse.tasks.nova.boot_key import KeypairLoan
from pumphouse.words import lasting

LOG = logging.getLogger(__name__)

_POLL_S = 0.5
# How often it is looked whether somebody has asked for other limits.
_LIMITS_POLL_S = 2.0
_CHANGED = ("transfers", "bytes_per_second")
# What a run may borrow of a cloud, by the kind that state stores have of it.
_LOANS: dict[str, Callable[..., Loan]] = {loan.kind: loan for loan in (RoleLoan, KeypairLoan)}


class StoreLostError(PumphouseError):
    """The state store does not take what happens any more."""

    exit_code = EXIT_CONNECTION


@dataclass
class Execution:
    """What the threads of one process share while it executes or reverts a run.

    stop: set from outside, halt from within: units under way are suspended and no other is started; with stop,
        also what waits and copies ends.
    active: the engines that are running, by the names of their units.
    until: an aware time by which all that is started is to be done.
    last_s: how long each unit takes, where there is such a time.
    late: the units that were not started for it, and why.
    """

    run: Run
    migration: Migration
    listener: Listener
    stop: threading.Event
    engines: Engines
    tenant_access: ExitStack
    halt: threading.Event = field(default_factory=threading.Event)
    results: dict[str, Json] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    active: dict[str, Any] = field(default_factory=dict)
    until: datetime | None = None
    last_s: Mapping[str, float] = field(default_factory=dict)
    late: dict[str, str] = field(default_factory=dict)

    def report(self, outcomes: list[Outcome]) -> None:
        """Add outcomes to the report, and notify the listener of each."""
        self.outcomes += outcomes
        for outcome in outcomes:
            self.listener(OutcomeReported(outcome))

    def run_engine(self, engine: Any, unit: Unit, detail: FlowDetail) -> None:
        """Run an engine until it is done or suspended; failures of tasks are recorded, not raised."""
        self.active[unit.name] = engine
        try:
            engine.run()
        except StorageFailure:
            self.halt.set()
            raise
        except Exception as error:
            if not any(atom.failure or atom.revert_failure for atom in detail):
                raise
            LOG.debug("unit %s failed", unit.name, exc_info=error)
        finally:
            del self.active[unit.name]

    @property
    def is_halted(self) -> bool:
        """Whether nothing else is to be started."""
        return self.stop.is_set() or self.halt.is_set()

    def suspend_all(self) -> None:
        """Have the running engines finish the tasks that they have started, and start no other.

        An engine that is about to run cannot be suspended yet: call this until all have ended.
        """
        for name, engine in list(self.active.items()):
            try:
                engine.suspend()
            except (InvalidState, StorageFailure) as error:
                LOG.debug("unit %s was not suspended", name, exc_info=error)


def is_past(until: datetime | None, needed_s: float = 0) -> bool:
    """Whether what takes so long would not be done by an aware time if it began now; never where there is none."""
    return until is not None and datetime.now(UTC) + timedelta(seconds=needed_s) > until


@contextmanager
def explained_store_failures(run: Run) -> Iterator[None]:
    """Turn a failure of the state store into StoreLostError, which says how to go on."""
    try:
        yield
    except StorageFailure as error:
        state = run.book.meta["state"]
        again = "finalize" if state in FINALIZE_STATES else "revert" if state in REVERT_STATES else "resume"
        raise StoreLostError(
            f"the state store does not take what happens any more: {error}",
            f"when it works again: pumphouse {again} {run.id}",
        ) from error


@contextmanager
def open_execution(
    run: Run, migration: Migration, listener: Listener, stop: threading.Event, *, keep_failed: bool
) -> Iterator[Execution]:
    """What the threads that execute or revert a run share; the access to the tenant ends with it.

    keep_failed: whether the tasks of a failed unit stay done.
    """
    for waiting in (migration.source.outages, migration.destination.outages, migration.transfers):
        waiting.stop = stop
    tell = guarded(listener)
    with (
        TaskThreads(run.plan.cfg["limits"]["workers"], migration.destination.outages, tell) as threads,
        _loans(run, migration),
        ExitStack() as tenant_access,
    ):
        engines = Engines(run, migration, tell, threads, keep_failed)
        yield Execution(run, migration, tell, stop, engines, tenant_access)
        _end_tenant_access(tenant_access)


def execute_run(
    run: Run,
    migration: Migration,
    listener: Listener,
    stop: threading.Event,
    *,
    until: datetime | None = None,
) -> Report:
    """Execute what is not done yet of a recorded run, and report the outcome of every resource of its plan.

    stop: once set, tasks under way are finished, but for those that wait or copy, and no other is started.
    until: an aware time: no other unit is started that will not be done by then, as the plan estimates it; those under
        way are finished.

    Limits that `ask_limits` asks for meanwhile are taken over.

    Raises StoreLostError when the state store fails; what was done until then can be resumed.
    """
    limits = run.plan.cfg["limits"]
    copying = Slots(UNITS_PER_TRANSFER * limits["transfers"])

    def run_copying(state: Execution, unit: Unit) -> None:
        with copying:
            _run_unit(state, unit)

    with (
        explained_store_failures(run),
        ThreadPoolExecutor(limits["workers"], "unit") as unit_threads,
        ThreadPoolExecutor(UNITS_PER_TRANSFER * TRANSFERS_MAX, "copying-unit") as copying_threads,
        open_execution(
            run, migration, listener, stop, keep_failed=run.plan.cfg["on_failure"] == "keep"
        ) as state,
        _asked_limits_taken_over(state, copying),
    ):
        state.until = until
        state.last_s = units_last_s(run.plan) if until else {}
        run.begin(states.RUNNING)
        _report_decided_steps(state)
        needs = {unit.name: unit.needs for unit in run.plan.units}
        schedule_units(
            state,
            needs,
            lambda unit: (
                copying_threads.submit(run_copying, state, unit)
                if unit.size_bytes
                else unit_threads.submit(_run_unit, state, unit)
            ),
        )
        _report_unstarted_steps(state)
    with explained_store_failures(run):
        conflicts = sum(outcome.state is State.CONFLICT for outcome in state.outcomes)
        run.end(_final_state(state), conflicts=conflicts)
    return Report(run.plan, sorted_by_plan(run.plan, state.outcomes), run.id)


@contextmanager
def _asked_limits_taken_over(state: Execution, copying: Slots) -> Iterator[None]:
    """Look now and then whether somebody has asked for other limits, and set them; what is under way goes on.

    copying: of the units that copy.
    """
    ended, limits = threading.Event(), state.run.plan.cfg["limits"]

    def follow(seen: Json | None) -> None:
        in_force = LimitsChanged(limits["transfers"], limits["bytes_per_second"])
        while not ended.wait(_LIMITS_POLL_S):
            with suppress(StorageFailure):  # whoever records something says so
                asked = state.run.asked_limits()
                if asked == seen or asked is None:
                    continue
                seen = asked
                in_force = replace(in_force, **{name: asked[name] for name in _CHANGED if name in asked})
                state.migration.transfers.change(in_force.transfers, in_force.bytes_per_second)
                copying.resize(UNITS_PER_TRANSFER * in_force.transfers)
                state.listener(in_force)

    thread = threading.Thread(target=follow, args=[state.run.asked_limits()], name="limits", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def schedule_units(
    state: Execution, needs: Mapping[str, Any], submit: Callable[[Unit], Future[None]]
) -> None:
    """Submit each unit as soon as all units that it needs are done; on a halt, suspend those that run.

    When it returns or raises, no unit runs any more.
    """
    units = {unit.name: unit for unit in state.run.plan.units}
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    futures: dict[Future[None], str] = {}
    try:
        while sorter.is_active() and not state.is_halted:
            for name in sorter.get_ready():
                futures[submit(units[name])] = name
            done, _ = wait(futures, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                sorter.done(futures.pop(future))
                _raise_failure(future)
    except BaseException:
        state.halt.set()
        raise
    finally:
        suspended = _suspend_units(state, futures)
    for future in suspended:
        _raise_failure(future)


def _raise_failure(future: Future[None]) -> None:
    with suppress(Interruption):  # what it left is reported as not done
        future.result()


def _suspend_units(state: Execution, futures: Iterable[Future[None]]) -> list[Future[None]]:
    """Cancel the units that have not started, suspend the others and wait for them; returns the latter."""
    started = [future for future in futures if not future.cancel()]
    pending = set(started)
    while pending:
        state.suspend_all()
        state.listener(Stopping(state.engines.threads.under_way))
        pending = wait(pending, timeout=_POLL_S).not_done
    return started


@contextmanager
def _loans(run: Run, migration: Migration) -> Iterator[None]:
    """Record what the run borrows of the clouds, and give back what dead processes have borrowed."""
    clouds = {"source": migration.source, "destination": migration.destination}
    for book in tenant_books(run.store, run.plan.tenant.id, run.plan.source, run.plan.destination):
        give_back_loans(Run(run.store, book, run.plan, {}) if book.uuid != run.book.uuid else run, clouds)
    for side, cloud in clouds.items():
        cloud.loans.on_change = partial(_save_loans, run, side)
    try:
        yield
    finally:
        for cloud in clouds.values():
            cloud.loans.on_change = None


def _save_loans(run: Run, side: str, loans: list[Json]) -> None:
    run.update_meta(loans={**run.book.meta.get("loans", {}), side: loans})


def give_back_loans(run: Run, clouds: Mapping[str, Any]) -> None:
    """Give back what the processes of a run have borrowed, all of which have ended.

    clouds: `source` and `destination`.
    """
    loans = run.book.meta.get("loans") or {}
    if not any(loans.values()):
        return
    for side, cloud in clouds.items():
        for loan in loans.get(side, ()):
            _loan(**loan).give_back(cloud)
    run.update_meta(loans={})


def _loan(kind: str, **fields: str) -> Loan:
    """The loan that a state store has as JSON."""
    return _LOANS[kind](**fields)


def _end_tenant_access(tenant_access: ExitStack) -> None:
    """End the access to the tenant; a role that stays is said in the log, because the report must not be lost."""
    try:
        tenant_access.close()
    except (PumphouseError, Interruption) as error:
        LOG.error("the access to the tenant is not ended: %s", explain(error))


def _final_state(state: Execution) -> str:
    """The state of a run at its end: what a failure has stopped has failed."""
    if any(outcome.state is State.PENDING for outcome in state.outcomes):
        is_failure = state.failed and not state.stop.is_set()
        return str(states.FAILURE if is_failure else states.SUSPENDED)
    return str(states.FAILURE if state.failed else states.SUCCESS)


def _report_decided_steps(state: Execution) -> None:
    """Report the steps that need no task, and provide the ids of the reused ones to the steps that need them."""
    for unit in state.run.plan.units:
        state.results |= dict(reused_results(unit))
        state.report(list(decided_outcomes(unit)))


def _report_unstarted_steps(state: Execution) -> None:
    reported = {outcome.ref for outcome in state.outcomes}
    left = [step for step in state.run.plan.steps() if step.ref not in reported]
    units = {step.ref: unit.name for unit in state.run.plan.units for step in unit.steps}
    reasons = {step.ref: state.late.get(units[step.ref], "not started") for step in left}
    state.report([_outcome(step, State.PENDING, reasons[step.ref]) for step in left])


def _run_unit(state: Execution, unit: Unit) -> None:
    """Execute one unit, or report it as blocked when a unit that it needs has failed."""
    if state.is_halted:
        return
    if reason := _too_late(state, unit):
        state.late[unit.name] = reason
        return
    steps = [step for step in unit.steps if step.action is Action.CREATE]
    blocker = next((state.failed[name] for name in unit.needs if name in state.failed), "")
    if blocker:
        state.failed[unit.name] = blocking_reason(unit)
        state.report([_outcome(step, State.BLOCKED, blocker) for step in steps])
        return
    if not steps:
        return
    try:
        detail = _resume_unit(state, unit)
    except StorageFailure:
        raise
    except Exception as error:  # before any task: no access to the tenant, no factory
        LOG.debug("unit %s did not start", unit.name, exc_info=error)
        found = [_outcome(step, State.FAILED, str(explain(error))) for step in steps]
    else:
        found = executed_outcomes(unit, detail)
        state.results |= dict(ensured_results(detail))
    if any(outcome.state is State.FAILED for outcome in found):
        state.failed[unit.name] = blocking_reason(unit)
        if state.run.plan.cfg["fail_fast"]:
            state.halt.set()
    state.report(found)


def _too_late(state: Execution, unit: Unit) -> str:
    """Why a unit is not started any more; empty where it is done already, or will be in time."""
    if state.until is None or state.run.detail(unit.name).state == states.SUCCESS:
        return ""
    if any(name in state.late for name in unit.needs):
        return "not started, because what it needs was not"
    needed_s = state.last_s[unit.name]
    if not is_past(state.until, needed_s):
        return ""
    return f"not started, because it takes about {lasting(needed_s)}, which is until after {state.until.astimezone():%H:%M}"


def _resume_unit(state: Execution, unit: Unit) -> FlowDetail:
    """Execute the tasks of a unit that are not done yet, after the revert of it that a dead process had begun."""
    detail = state.run.detail(unit.name)
    if detail.state == states.SUCCESS:
        return detail
    _open_tenant_access(state, unit)
    correct_suspended_state(state.run, detail)
    keep_failed = state.engines.keep_failed
    if is_revert_unfinished(detail, keep_failed=keep_failed):
        state.run_engine(state.engines.load(unit, detail, state.results), unit, detail)
        if state.is_halted:
            return detail
        detail = state.run.detail(unit.name)
    if keep_failed:
        reset_failed_tasks(state.run, detail)
    state.run_engine(state.engines.load(unit, detail, state.results), unit, detail)
    correct_suspended_state(state.run, detail)
    return detail


def _open_tenant_access(state: Execution, unit: Unit) -> None:
    """Give the operator access to the tenant until the run ends, rather than for each unit by itself."""
    tenant = state.results.get(symbol(state.run.plan.tenant, "ensured"))
    acting = any(step.action is Action.CREATE and KINDS[step.ref.kind].acts_in_tenant for step in unit.steps)
    if tenant and acting:
        state.tenant_access.enter_context(state.migration.destination.in_tenant(tenant["id"]))


def _outcome(step: Step, state: State, reason: str) -> Outcome:
    return Outcome(step.ref, step.name, state, step.destination_id, reason, step.notes)

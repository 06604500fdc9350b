"""Reverts a run: the tasks that made something remove it again, in reverse order."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from taskflow import states
from taskflow.persistence.models import AtomDetail, FlowDetail
from taskflow.types.failure import Failure

from pumphouse.cloud.check import clock_difference_s
from pumphouse.model import Action, Outcome, Report, State, Step, Unit
from pumphouse.run.engine import Listener, flow_from_detail, save
from pumphouse.run.execute import Execution, explained_store_failures, open_execution, schedule_units
from pumphouse.run.outcomes import (
    ensured_results,
    not_reverted_reason,
    reused_results,
    reverted_outcomes,
    sorted_by_plan,
    step_of_task,
)
from pumphouse.run.record import Run
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import Migration, counted, symbol

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

# The clouds tell times in whole seconds, and so the difference of their clocks.
CLOCK_TOLERANCE = timedelta(seconds=2)
_RAN = (states.SUCCESS, states.FAILURE, states.RUNNING, states.REVERTING, states.REVERT_FAILURE)


@dataclass(frozen=True)
class UnitRevert:
    """What a revert will do with a unit of a run.

    lines: what is reverted, in words, in that order.
    kept_reason: why the unit stays as it is; empty when it is reverted.
    """

    unit: Unit
    lines: tuple[str, ...]
    kept_reason: str = ""


def plan_revert(run: Run, migration: Migration, *, force: bool) -> list[UnitRevert]:
    """Plan the revert of a run: unit by unit what is reverted, and what is kept because somebody changed it since.

    A unit that a kept one needs is kept too.
    force: revert also what was changed.
    """
    details = run.all_details()
    begun = [unit for unit in reversed(run.plan.units) if any(map(_needs_revert, details[unit.name]))]
    offset = CLOCK_TOLERANCE + timedelta(seconds=clock_difference_s(migration.destination) or 0)
    planned: dict[str, UnitRevert] = {}
    for unit in begun:
        detail = details[unit.name]
        kept_reason = ""
        if not force:
            kept_reason = _kept_dependent(unit, planned.values()) or _change_since(
                unit, detail, migration, offset
            )
        planned[unit.name] = UnitRevert(unit, tuple(_revert_lines(unit, detail, migration)), kept_reason)
    return list(planned.values())


def revert_run(
    run: Run, migration: Migration, unit_reverts: list[UnitRevert], listener: Listener, stop: threading.Event
) -> Report:
    """Revert a run as planned; what cannot be reverted is reported as kept, and the next revert tries it again.

    Raises StoreLostError when the state store fails.
    """
    planned = {item.unit.name: item for item in unit_reverts}
    units = {unit.name: unit for unit in run.plan.units}
    dependents = {name: [other for other in planned if name in units[other].needs] for name in planned}
    with (
        explained_store_failures(run),
        ThreadPoolExecutor(run.plan.cfg["limits"]["workers"], "unit") as unit_threads,
        open_execution(run, migration, listener, stop, keep_failed=False) as state,
    ):
        run.begin(states.REVERTING)
        for unit, detail in run.all_details().items():
            state.results |= dict(ensured_results(detail)) | dict(reused_results(units[unit]))
        schedule_units(
            state, dependents, lambda unit: unit_threads.submit(_revert_unit, state, planned[unit.name])
        )
    reported = {outcome.ref for outcome in state.outcomes}
    for item in unit_reverts:
        if not reported & {step.ref for step in item.unit.steps}:
            state.report(_same_outcomes(item.unit, State.PENDING, "interrupted"))
    with explained_store_failures(run):
        run.end(_final_state(state))
    return Report(replace(run.plan, notes=()), sorted_by_plan(run.plan, state.outcomes), run.id)


def _needs_revert(atom: AtomDetail) -> bool:
    return atom.state in _RAN or bool(not_reverted_reason(atom))


def _kept_dependent(unit: Unit, planned: Iterable[UnitRevert]) -> str:
    """Name the kept unit that needs this one; empty when none does."""
    kept = (item.unit for item in planned if item.kept_reason)
    dependent = next((other for other in kept if unit.name in other.needs), None)
    return f"needed by {dependent.steps[0].record.title}, which is kept" if dependent else ""


def _change_since(unit: Unit, detail: FlowDetail, migration: Migration, offset: timedelta) -> str:
    """Say what somebody changed on the resources of a unit since the run made them.

    A unit that is not complete is not looked at: the last change to it was made by a run or a revert that died.
    """
    if any(atom.state != states.SUCCESS for atom in detail):
        return ""
    since = _last_task_end(detail)
    for step, destination_id in _resources_made(unit, detail):
        found = _changes(step, destination_id, migration.destination, since + offset) if since else ""
        if found:
            return f"{step.record.title} has changed since: {found}"
    return ""


def _changes(step: Step, destination_id: str, cloud: Cloud, since: datetime) -> str:
    if step.ref.kind == "tenant":
        return strangers(cloud, destination_id)
    return KINDS[step.ref.kind].changed(cloud, destination_id, since)


def strangers(cloud: Cloud, tenant_id: str) -> str:
    """What lives in a tenant of the destination and was made by no migration, in words; empty when nothing."""
    found = {kind.title: kind.strangers(cloud, tenant_id) for kind in KINDS.values()}
    return ", ".join(
        f"{counted(len(ids), title)} ({', '.join(ids[:3])})" for title, ids in found.items() if ids
    )


def _resources_made(unit: Unit, detail: FlowDetail) -> Iterator[tuple[Step, str]]:
    """The steps of a unit whose resources the run has made and not removed yet, with the new ids."""
    there = {atom.name for atom in detail if _needs_revert(atom)}
    ensured = {name: result for name, result in ensured_results(detail) if name in there}
    for step in unit.steps:
        result = ensured.get(symbol(step.ref, "ensured"), {"made": False})
        if result["made"]:
            yield step, result["id"]


def _last_task_end(detail: FlowDetail) -> datetime | None:
    """When the last task of a unit ended."""
    times = [datetime.fromisoformat(atom.meta["ended_at"]) for atom in detail if atom.meta.get("ended_at")]
    return max(times, default=None)


def _revert_lines(unit: Unit, detail: FlowDetail, migration: Migration) -> Iterator[str]:
    """What the revert of a unit does, in words, its resources in reverse order."""
    flow = flow_from_detail(migration, unit, detail)
    lines = {item.name: item.undo_line for item, _ in flow.iter_nodes()}
    atoms = {atom.name: atom for atom in detail if _needs_revert(atom)}
    for step in reversed(unit.steps):
        mine = {name: atom for name, atom in atoms.items() if step_of_task(unit, name) is step}
        ensured = mine.pop(symbol(step.ref, "ensured"), None)
        if ensured is not None:
            yield _ensured_line(step, ensured)
        yield from (lines[name] for name in mine if lines.get(name))


def _ensured_line(step: Step, atom: AtomDetail) -> str:
    if not isinstance(atom.results, dict):
        return f"remove {step.record.title}, if it was made"
    if atom.results["made"]:
        return f"remove {step.record.title} ({atom.results['id']})"
    return f"keep {step.record.title} ({atom.results['id']}): it was there before the run"


def _revert_unit(state: Execution, planned: UnitRevert) -> None:
    """Revert one unit, or report why it is kept."""
    if state.is_halted:
        return
    if planned.kept_reason:
        state.report(_same_outcomes(planned.unit, State.KEPT, planned.kept_reason))
        return
    detail = state.run.detail(planned.unit.name)
    _mark_for_revert(state.run, detail)
    state.run_engine(state.engines.load(planned.unit, detail, state.results), planned.unit, detail)
    if detail.state == states.REVERTED:
        state.report(reverted_outcomes(planned.unit, detail))


def _mark_for_revert(run: Run, detail: FlowDetail) -> None:
    """Have TaskFlow's next run of a unit revert every task that has run, also one that a process died in.

    If a revert left something behind, all tasks are reverted again: that task needs the results of the others.
    """
    again = any(map(not_reverted_reason, detail))
    ran = [atom for atom in detail if atom.state in _RAN or (again and atom.state == states.REVERTED)]
    for atom in ran:
        if atom.state in (states.RUNNING, states.REVERT_FAILURE):
            atom.put(states.FAILURE, Failure.from_exception(InterruptedError("the process ended")))
        elif atom.state == states.REVERTED:
            atom.state = states.FAILURE if atom.failure else states.SUCCESS
        atom.intention = states.REVERT
    detail.state = states.SUSPENDED
    save(run, detail, ran)


def _same_outcomes(unit: Unit, state: State, reason: str) -> list[Outcome]:
    steps = [step for step in unit.steps if step.action is Action.CREATE]
    return [Outcome(step.ref, step.name, state, step.destination_id, reason) for step in steps]


def _final_state(state: Execution) -> str:
    ended = {outcome.state for outcome in state.outcomes}
    if State.PENDING in ended:
        return str(states.REVERTING)
    return str(states.REVERT_FAILURE if State.KEPT in ended else states.REVERTED)

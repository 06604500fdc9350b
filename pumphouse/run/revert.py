"""Reverts a run: the tasks that made something remove it again, in reverse order."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from taskflow import states
from taskflow.persistence.models import AtomDetail, FlowDetail
from taskflow.types.failure import Failure

from pumphouse.cloud.check import CLOCK_PRECISION, clock_difference_s
from pumphouse.model import Action, Outcome, Ref, Report, State, Step, Unit, symbol
from pumphouse.run.engine import correct_suspended_state, flow_from_detail, save
from pumphouse.run.events import Listener
from pumphouse.run.execute import Execution, explained_store_failures, open_execution, schedule_units
from pumphouse.run.others import is_common, used_by_others
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
from pumphouse.tasks.base import Migration
from pumphouse.words import counted

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

_RAN = (states.SUCCESS, states.FAILURE, states.RUNNING, states.REVERTING, states.REVERT_FAILURE)


@dataclass(frozen=True)
class UnitRevert:
    """What a revert will do with a unit of a run.

    lines: what is reverted, in words, in that order.
    kept_reason: why the unit stays as it is; empty when it is reverted.
    kept_steps: why single resources of a unit stay that is reverted otherwise.
    """

    unit: Unit
    lines: tuple[str, ...]
    kept_reason: str = ""
    kept_steps: Mapping[Ref, str] = field(default_factory=dict)

    @property
    def needed(self) -> set[Ref]:
        """What has to stay because something of the unit stays."""
        if self.kept_reason:
            return {need for step in self.unit.steps for need in step.record.needs}
        kept = [step for step in self.unit.steps if step.ref in self.kept_steps]
        return {need for step in kept for need in step.record.needs if _lives_in(step, need)}


def _lives_in(step: Step, need: Ref) -> bool:
    """Whether a need has to stay with a resource: not the tenant of what no tenant owns, such as a user."""
    return need.kind != "tenant" or KINDS[step.ref.kind].find_anywhere is not None


def plan_revert(run: Run, migration: Migration, *, force: bool) -> list[UnitRevert]:
    """Plan the revert of a run: unit by unit what is reverted, and what is kept.

    What runs of other tenants use is kept, and what somebody changed since the run made it; and what these need.
    force: revert also what was changed.
    """
    details = run.all_details()
    others = used_by_others(run)
    begun = [unit for unit in reversed(run.plan.units) if any(map(_needs_revert, details[unit.name]))]
    offset = CLOCK_PRECISION + timedelta(seconds=clock_difference_s(migration.destination) or 0)
    planned: list[UnitRevert] = []
    needed: dict[Ref, Unit] = {}
    for unit in begun:
        detail = details[unit.name]
        kept_steps = _used_steps(unit, detail, others)
        kept_reason = _kept_dependent(unit, needed)
        if not kept_reason and not force:
            kept_reason = _change_since(unit, detail, migration, offset)
        lines = tuple(_revert_lines(unit, detail, migration, kept_steps))
        planned.append(UnitRevert(unit, lines, kept_reason, kept_steps))
        needed |= dict.fromkeys(planned[-1].needed, unit)
    return planned


def close_run(run: Run) -> None:
    """Record a run of which nothing is to be undone as reverted, if it has ended before it made anything."""
    if not run.is_done:
        run.end(states.REVERTED)


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


def _kept_dependent(unit: Unit, needed: Mapping[Ref, Unit]) -> str:
    """Name the unit that is kept, or of which something is, and needs this one; empty when none does."""
    dependent = next((needed[step.ref] for step in unit.steps if step.ref in needed), None)
    return f"needed by {dependent.steps[0].record.title}, which is kept" if dependent else ""


def _used_steps(unit: Unit, detail: FlowDetail, others: Mapping[tuple[str, str], str]) -> dict[Ref, str]:
    """Why resources of a unit stay that others use, and the parts of the unit that these need."""
    made = ((step, others.get((step.ref.kind, i))) for step, i in _resources_made(unit, detail))
    kept = {step.ref: f"used by {user}" for step, user in made if user}
    waiting = list(kept)
    steps = {step.ref: step for step in unit.steps}
    while waiting:
        title = steps[waiting[-1]].record.title
        more = [ref for ref in steps[waiting.pop()].record.needs if ref in steps and ref not in kept]
        kept |= dict.fromkeys(more, f"needed by {title}, which is kept")
        waiting += more
    return kept


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
    found = {
        kind.title: kind.strangers(cloud, tenant_id) for kind in KINDS.values() if not kind.absence(cloud)
    }
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


def _revert_lines(
    unit: Unit, detail: FlowDetail, migration: Migration, kept_steps: Mapping[Ref, str]
) -> Iterator[str]:
    """What the revert of a unit does, in words, its resources in reverse order."""
    flow = flow_from_detail(migration, unit, detail)
    lines = {item.name: item.undo_line for item, _ in flow.iter_nodes()}
    atoms = {atom.name: atom for atom in detail if _needs_revert(atom)}
    for step in reversed(unit.steps):
        if step.ref in kept_steps:
            yield f"keep {step.record.title}: it is {kept_steps[step.ref]}"
            continue
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
    if any(map(is_common, planned.unit.steps)):
        # Since the revert was planned, another run may have begun to use it.
        kept_steps = _used_steps(planned.unit, detail, used_by_others(state.run))
        planned = replace(planned, kept_steps={**planned.kept_steps, **kept_steps})
    kept_tasks = {
        atom.name
        for atom in detail
        if (step := step_of_task(planned.unit, atom.name)) and step.ref in planned.kept_steps
    }
    if not any(_needs_revert(atom) for atom in detail if atom.name not in kept_tasks):
        state.report([_kept(planned, outcome) for outcome in _same_outcomes(planned.unit, State.KEPT, "")])
        return
    _mark_for_revert(state.run, detail, kept_tasks)
    state.run_engine(state.engines.load(planned.unit, detail, state.results), planned.unit, detail)
    correct_suspended_state(state.run, detail)
    if detail.state == states.REVERTED:
        state.report([_kept(planned, outcome) for outcome in reverted_outcomes(planned.unit, detail)])


def _kept(planned: UnitRevert, outcome: Outcome) -> Outcome:
    """The outcome of a resource, which is that it is kept where others use it."""
    reason = planned.kept_steps.get(outcome.ref)
    return replace(outcome, state=State.KEPT, reason=reason) if reason else outcome


def _mark_for_revert(run: Run, detail: FlowDetail, kept_tasks: Collection[str]) -> None:
    """Have TaskFlow's next run of a unit revert every task that has run, also one that a process died in.

    If a revert left something behind, all tasks are reverted again: that task needs the results of the others.
    """
    again = any(map(not_reverted_reason, detail))
    ran = [
        atom
        for atom in detail
        if (atom.state in _RAN or (again and atom.state == states.REVERTED)) and atom.name not in kept_tasks
    ]
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

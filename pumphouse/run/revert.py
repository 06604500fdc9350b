"""The way back: what a run has made is removed again, in reverse order, by the tasks that made it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from taskflow import states
from taskflow.persistence.models import AtomDetail, FlowDetail
from taskflow.types.failure import Failure

from pumphouse.cloud.check import clock_difference_s
from pumphouse.model import Action, Outcome, Report, State, Step, Unit
from pumphouse.run import outcomes
from pumphouse.run.engine import Listener, flow_of, save
from pumphouse.run.execute import Execution, execution, in_order, storing
from pumphouse.run.record import Run
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import Migration, symbol

# The clouds tell times in whole seconds, and so the difference of their clocks.
CLOCK_TOLERANCE = timedelta(seconds=2)
_RAN = (states.SUCCESS, states.FAILURE, states.RUNNING, states.REVERTING, states.REVERT_FAILURE)


@dataclass(frozen=True)
class Undo:
    """What a revert is going to do with a unit of a run.

    lines: what is undone, in words, in the order of the doing.
    kept: why the unit stays as it is; empty when it is undone.
    """

    unit: Unit
    lines: tuple[str, ...]
    kept: str = ""


def plan_revert(run: Run, migration: Migration, *, force: bool) -> list[Undo]:
    """What a revert will undo, unit by unit, and what it keeps because somebody has changed it since.

    force: undo also what was changed. What something kept needs is kept as well.
    """
    details = run.all_details()
    begun = [unit for unit in reversed(run.plan.units) if any(map(_to_undo, details[unit.name]))]
    offset = CLOCK_TOLERANCE + timedelta(seconds=clock_difference_s(migration.destination) or 0)
    undos: dict[str, Undo] = {}
    for unit in begun:
        detail = details[unit.name]
        kept = "" if force else _needed(unit, undos.values()) or _changed(unit, detail, migration, offset)
        undos[unit.name] = Undo(unit, tuple(_lines(unit, detail, migration)), kept)
    return list(undos.values())


def revert(
    run: Run, migration: Migration, undos: list[Undo], listener: Listener, stop: threading.Event
) -> Report:
    """Undo a run as planned; what cannot be undone is reported as kept, and tried again by the next revert.

    Raises StoreLostError when the state store fails.
    """
    wanted = {undo.unit.name: undo for undo in undos}
    units = {unit.name: unit for unit in run.plan.units}
    dependents = {name: [other for other in wanted if name in units[other].needs] for name in wanted}
    with (
        storing(run),
        ThreadPoolExecutor(run.plan.cfg["limits"]["workers"], "unit") as drivers,
        execution(run, migration, listener, stop, keep=False) as state,
    ):
        run.begin(states.REVERTING)
        for unit, detail in run.all_details().items():
            state.results |= dict(outcomes.ensured(detail)) | dict(outcomes.reused(units[unit]))
        in_order(state, dependents, lambda unit: drivers.submit(_undo, state, wanted[unit.name]))
    settled = {outcome.ref for outcome in state.outcomes}
    left = [undo for undo in undos if not settled & {step.ref for step in undo.unit.steps}]
    state.settle([outcome for undo in left for outcome in _outcomes(undo.unit, State.PENDING, "interrupted")])
    with storing(run):
        run.end(_final_state(state))
    return Report(replace(run.plan, notes=()), outcomes.in_order(run.plan, state.outcomes), run.id)


def _to_undo(atom: AtomDetail) -> bool:
    return atom.state in _RAN or bool(outcomes.kept(atom))


def _needed(unit: Unit, undos: Iterable[Undo]) -> str:
    """Which unit that is kept needs this one."""
    keeper = next((undo.unit for undo in undos if undo.kept and unit.name in undo.unit.needs), None)
    return f"needed by {keeper.steps[0].record.title}, which is kept" if keeper else ""


def _changed(unit: Unit, detail: FlowDetail, migration: Migration, offset: timedelta) -> str:
    """What somebody has done to the resources of a unit since the run made them.

    Of a unit that is not complete it is not asked: what was done to it last, a run or a revert did that died.
    """
    if any(atom.state != states.SUCCESS for atom in detail):
        return ""
    since = _last_moment(detail)
    for step, destination_id in _made(unit, detail):
        changed = KINDS[step.ref.kind].changed
        found = changed(migration.destination, destination_id, since + offset) if since else ""
        if found:
            return f"{step.record.title} has changed since: {found}"
    return ""


def _made(unit: Unit, detail: FlowDetail) -> Iterator[tuple[Step, str]]:
    """The steps of a unit whose resources the run has made and not removed yet, with the new ids."""
    there = {atom.name for atom in detail if _to_undo(atom)}
    ensured = {name: result for name, result in outcomes.ensured(detail) if name in there}
    for step in unit.steps:
        result = ensured.get(symbol(step.ref, "ensured"), {"made": False})
        if result["made"]:
            yield step, result["id"]


def _last_moment(detail: FlowDetail) -> datetime | None:
    """When the run did the last thing to a unit."""
    times = [datetime.fromisoformat(atom.meta["ended_at"]) for atom in detail if atom.meta.get("ended_at")]
    return max(times, default=None)


def _lines(unit: Unit, detail: FlowDetail, migration: Migration) -> Iterator[str]:
    """What undoing a unit does, in words, its resources in reverse order."""
    undoable = {item.name: item.undo_line for item, _ in flow_of(migration, unit, detail).iter_nodes()}
    atoms = {atom.name: atom for atom in detail if _to_undo(atom)}
    for step in reversed(unit.steps):
        mine = {name: atom for name, atom in atoms.items() if outcomes.owner(unit, name) is step}
        ensured = mine.pop(symbol(step.ref, "ensured"), None)
        if ensured is not None:
            yield _ensured_line(step, ensured)
        yield from (undoable[name] for name in mine if undoable.get(name))


def _ensured_line(step: Step, atom: AtomDetail) -> str:
    if not isinstance(atom.results, dict):
        return f"remove {step.record.title}, if it was made"
    if atom.results["made"]:
        return f"remove {step.record.title} ({atom.results['id']})"
    return f"keep {step.record.title} ({atom.results['id']}): it was there before the run"


def _undo(state: Execution, undo: Undo) -> None:
    """Undo one unit."""
    if undo.kept:
        state.settle(_outcomes(undo.unit, State.KEPT, undo.kept))
        return
    detail = state.run.detail(undo.unit.name)
    _turn_back(state.run, detail)
    state.drive(state.engines.load(undo.unit, detail, state.results), undo.unit, detail)
    if detail.state == states.REVERTED:
        state.settle(outcomes.reverted(undo.unit, detail))


def _turn_back(run: Run, detail: FlowDetail) -> None:
    """Have TaskFlow's next run of a unit revert every task that has run, also one that a process died in.

    Where something was kept all are reverted again, because that task needs what the others have given.
    """
    again = any(map(outcomes.kept, detail))
    ran = [atom for atom in detail if atom.state in _RAN or (again and atom.state == states.REVERTED)]
    for atom in ran:
        if atom.state in (states.RUNNING, states.REVERT_FAILURE):
            atom.put(states.FAILURE, Failure.from_exception(InterruptedError("the process ended")))
        elif atom.state == states.REVERTED:
            atom.state = states.FAILURE if atom.failure else states.SUCCESS
        atom.intention = states.REVERT
    detail.state = states.SUSPENDED
    save(run, detail, ran)


def _outcomes(unit: Unit, state: State, reason: str) -> list[Outcome]:
    steps = [step for step in unit.steps if step.action is Action.CREATE]
    return [Outcome(step.ref, step.name, state, step.destination_id, reason) for step in steps]


def _final_state(state: Execution) -> str:
    ended = {outcome.state for outcome in state.outcomes}
    if State.PENDING in ended:
        return str(states.REVERTING)
    return str(states.REVERT_FAILURE if State.KEPT in ended else states.REVERTED)

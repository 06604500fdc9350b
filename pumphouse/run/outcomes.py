"""The outcomes of a run's resources, read from the recorded states and results of their tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from taskflow import states
from taskflow.persistence.models import AtomDetail, FlowDetail

from pumphouse.model import (
    LEFT_OUT,
    Action,
    Json,
    Outcome,
    Plan,
    Ref,
    Report,
    State,
    Step,
    Unit,
    not_made,
    symbol,
)

# The states of a run that is being reverted, or was.
REVERT_STATES = (states.REVERTING, states.REVERTED, states.REVERT_FAILURE)
# The outcomes of what is at the destination.
_ARRIVED = (State.CREATED, State.REUSED)


def build_report(run_id: str, run_state: str, plan: Plan, details: Mapping[str, FlowDetail]) -> Report:
    """Report the outcome of every resource of a run so far.

    details: the recorded flow details of the units, by the units' names.
    """
    outcomes = reverted_outcomes if run_state in REVERT_STATES else executed_outcomes
    failed: dict[str, str] = {}
    found: list[Outcome] = []
    for unit in plan.units:
        found += decided_outcomes(unit)
        blocker = next((failed[name] for name in unit.needs if name in failed), "")
        made = outcomes(unit, details[unit.name])
        if blocker and not details[unit.name].state:
            made = [Outcome(o.ref, o.name, State.BLOCKED, None, blocker, o.notes) for o in made]
        if any(outcome.state in (State.FAILED, State.BLOCKED) for outcome in made):
            failed[unit.name] = blocking_reason(unit)
        found += made
    return Report(plan, sorted_by_plan(plan, found), run_id)


def left_behind(report: Report) -> list[Outcome]:
    """What is not at the destination, but for what the operator left out or what nobody misses."""
    settled = _left_out(report.plan) | {step.ref for step in report.plan.steps() if step.record.settled}
    missing = [outcome for outcome in report.outcomes if outcome.state not in _ARRIVED]
    return [o for o in missing if o.state is not State.SKIPPED or o.ref not in settled]


def is_partial(plan: Plan) -> bool:
    """Whether the operator left out something of the tenant."""
    return bool(plan.selection or plan.left_out or _left_out(plan))


def _left_out(plan: Plan) -> set[Ref]:
    """What the operator left out, and what is skipped for want of nothing else."""
    skipped = {step.ref: step for step in plan.steps() if step.action is Action.SKIP}
    asked = {ref for ref, step in skipped.items() if step.reason in (LEFT_OUT, not_made(ref.kind))}
    known = {step.ref for step in plan.steps()}
    there = {step.ref for step in plan.steps() if step.action in (Action.CREATE, Action.REUSE)}
    # What is needed may not even be known, such as a volume of a source whose catalog has no Cinder.
    wants = {
        ref: ({*step.record.needs} | known & {step.record.part_of}) - there
        for ref, step in skipped.items()
        if not step.record.skip
    }
    found = asked | {ref for ref, wanted in wants.items() if wanted}
    # Servers and their ports want each other, so that whatever wants anything else is taken out until none is left.
    while others := {ref for ref in found - asked if not wants[ref] <= found}:
        found -= others
    return found


def sorted_by_plan(plan: Plan, outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """Sort outcomes in the order of the plan's steps."""
    order = {step.ref: number for number, step in enumerate(plan.steps())}
    return tuple(sorted(outcomes, key=lambda outcome: order[outcome.ref]))


def blocking_reason(unit: Unit) -> str:
    """Say why a unit that needs this failed one is blocked."""
    return f"needs {unit.title}, which failed"


_DECIDED = {Action.REUSE: State.REUSED, Action.SKIP: State.SKIPPED, Action.CONFLICT: State.CONFLICT}


def decided_outcomes(unit: Unit) -> Iterator[Outcome]:
    """The outcomes of the steps that the plan decided without a task: reused, skipped, in conflict."""
    for step in unit.steps:
        if step.action in _DECIDED:
            state = _DECIDED[step.action]
            yield Outcome(step.ref, step.name, state, step.destination_id, step.reason, step.notes)


def executed_outcomes(unit: Unit, detail: FlowDetail) -> list[Outcome]:
    """The outcomes of the steps of a unit that a run executes."""
    steps = [step for step in unit.steps if step.action is Action.CREATE]
    atoms = _atoms_by_ref(unit, detail)
    failed = [step for step in steps if any(atom.failure for atom in atoms[step.ref])]
    if detail.state == states.SUCCESS:
        return [_done(step, atoms[step.ref]) for step in steps]
    if failed:
        return [_failed(step, atoms[step.ref], failed, detail) for step in steps]
    reason = "interrupted" if detail.state else "not started"
    return [_outcome(step, State.PENDING, reason + _meanwhile(atoms[step.ref])) for step in steps]


def reverted_outcomes(unit: Unit, detail: FlowDetail) -> list[Outcome]:
    """The outcomes of the steps of a unit after a revert."""
    atoms = _atoms_by_ref(unit, detail)
    return [_reverted(step, atoms[step.ref]) for step in unit.steps if step.action is Action.CREATE]


def _atoms_by_ref(unit: Unit, detail: FlowDetail) -> dict[Ref, list[AtomDetail]]:
    """The recorded tasks of a unit, by the resources they belong to."""
    atoms: dict[Ref, list[AtomDetail]] = {step.ref: [] for step in unit.steps}
    for atom in detail:
        step = step_of_task(unit, atom.name)
        if step is not None:
            atoms[step.ref].append(atom)
    return atoms


def step_of_task(unit: Unit, task_name: str) -> Step | None:
    """The step of a unit that a task belongs to: the name of a task begins with the address of its step."""
    mine = [step for step in unit.steps if task_name.startswith(symbol(step.ref, ""))]
    return max(mine, key=lambda step: len(step.ref.id), default=None)


def ensured_results(detail: FlowDetail) -> Iterator[tuple[str, Json]]:
    """The results of the Ensure tasks of a unit by their names, `{"id": ..., "made": ...}`; also of reverted ones."""
    for atom in detail:
        if atom.name.endswith("-ensured") and isinstance(atom.results, dict):
            yield atom.name, atom.results


def reused_results(unit: Unit) -> Iterator[tuple[str, Json]]:
    """The results that Ensure tasks of the reused steps of a unit would have; reused steps have no tasks."""
    for step in unit.steps:
        if step.destination_id and step.action is Action.REUSE:
            yield symbol(step.ref, "ensured"), {"id": step.destination_id, "made": False}


def failure_reason(atom: AtomDetail) -> str:
    """Why a task failed, in one line."""
    return str(atom.meta.get("reason") or atom.failure.exception_str)


def not_reverted_reason(atom: AtomDetail) -> str:
    """Why the revert of a task left something behind; empty when it did not."""
    left = atom.revert_results if atom.state == states.REVERTED else None
    if atom.state == states.REVERT_FAILURE:
        return str(atom.revert_failure.exception_str)
    return str(left.get("kept", "")) if isinstance(left, dict) else ""


def _done(step: Step, atoms: Iterable[AtomDetail]) -> Outcome:
    notes = [note for atom in atoms for note in (atom.results or {}).get("notes", ())]
    made = next(atom.results for atom in atoms if atom.name == symbol(step.ref, "ensured"))
    state = State.CREATED if made["made"] else State.REUSED
    why = "" if made["made"] else step.reason
    return Outcome(step.ref, step.name, state, made["id"], why, tuple(dict.fromkeys((*step.notes, *notes))))


def _failed(step: Step, atoms: Iterable[AtomDetail], failed: list[Step], detail: FlowDetail) -> Outcome:
    reasons = [failure_reason(atom) for atom in atoms if atom.failure]
    done = "undone" if detail.state == states.REVERTED else "left as it is"
    others = " and ".join(other.record.title for other in failed)
    why = "; ".join(dict.fromkeys(reasons)) or f"{done}, because {others} failed"
    left = "; ".join(filter(None, map(not_reverted_reason, atoms)))
    why += _meanwhile(atoms)
    return _outcome(step, State.FAILED, f"{why}; not undone: {left}" if left else why)


def _meanwhile(atoms: Iterable[AtomDetail]) -> str:
    """What the tasks say of the source that have been executed, until the run goes on or is undone."""
    results = [atom.results for atom in atoms if atom.state == states.SUCCESS]
    return "".join(f"; {said}" for result in results if (said := (result or {}).get("meanwhile")))


def _reverted(step: Step, atoms: Sequence[AtomDetail]) -> Outcome:
    left = "; ".join(filter(None, map(not_reverted_reason, atoms)))
    found = {atom.state for atom in atoms} - {states.PENDING}
    state, why = State.REVERTED, ""
    if left:
        state, why = State.KEPT, left
    elif not found:
        state, why = State.PENDING, "was not started"
    elif found != {states.REVERTED}:
        state, why = State.PENDING, "not undone"
    elif any(atom.name == symbol(step.ref, "ensured") and _existed_before(atom) for atom in atoms):
        state, why = State.REUSED, "was there before the run"
    return Outcome(step.ref, step.name, state, None, why)


def _existed_before(atom: AtomDetail) -> bool:
    return isinstance(atom.results, dict) and not atom.results["made"]


def _outcome(step: Step, state: State, why: str) -> Outcome:
    return Outcome(step.ref, step.name, state, step.destination_id, why, step.notes)

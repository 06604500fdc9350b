"""The last of a migration: the marks come off what it made, and what was moved is deleted at the source if asked for.

It is a state of the run, whose units it has a flow each for, recorded as everything else: what a process that died had
done is not repeated.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from taskflow import states
from taskflow.persistence.models import FlowDetail

from pumphouse.cloud.check import CLOCK_PRECISION, clock_difference_s
from pumphouse.cloud.rights import REFUSED, can_make
from pumphouse.errors import PumphouseError, UsageError
from pumphouse.flows import REMOVAL_FACTORY, UNMARK_FACTORY
from pumphouse.model import Action, Outcome, Record, Ref, Report, State, Step, Unit, symbol
from pumphouse.plan import uncarried
from pumphouse.run.engine import correct_suspended_state, reset_failed_tasks
from pumphouse.run.events import Listener
from pumphouse.run.execute import Execution, explained_store_failures, open_execution, schedule_units
from pumphouse.run.others import used_by_others
from pumphouse.run.outcomes import ensured_results, failure_reason, sorted_by_plan
from pumphouse.run.record import (
    FINALIZE_FAILURE,
    FINALIZE_STATES,
    FINALIZED,
    FINALIZING,
    Run,
    load_run,
    tenant_books,
    unit_detail,
)
from pumphouse.store.times import now
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import Migration
from pumphouse.tasks.ending import REMOVED, UNMARKED

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

# The state of a run in which all has been done that can be finalized.
_READY = (states.SUCCESS, *FINALIZE_STATES)
_META = "finalize"
REMOVE, UNMARK = "remove", "unmark"
_FACTORIES = {REMOVE: REMOVAL_FACTORY, UNMARK: UNMARK_FACTORY}


class _Made(NamedTuple):
    """What a run has made of a resource, and when it was done with it."""

    id: str
    since: datetime


@dataclass(frozen=True)
class Finalize:
    """What finalizing a run will do.

    unmarked: the steps whose resources of the destination lose their marks, each with their ids there.
    removed: the steps whose resources of the source are deleted, in the order of the plan.
    kept: why resources stay at the source, or keep their marks.
    """

    run: Run
    unmarked: tuple[Step, ...]
    removed: tuple[Step, ...]
    kept: Mapping[Ref, str]


def begun_removal(run: Run) -> str:
    """When a deletion at the source was begun that has not come to its end; empty when none was."""
    is_unfinished = run.book.meta["state"] in (FINALIZING, FINALIZE_FAILURE)
    return str((run.book.meta.get(_META) or {}).get("removal_at") or "") if is_unfinished else ""


def refuse_unready(run: Run) -> None:
    """Raise UsageError when a run has not come to its end."""
    if run.book.meta["state"] not in _READY:
        raise UsageError(
            f"run {run.id} is {run.book.meta['state']}: only what has come to its end can be finalized",
            f"go on with it: pumphouse resume {run.id}",
        )


def plan_finalize(run: Run, migration: Migration, *, remove: bool) -> Finalize:
    """Plan it: what loses its marks and, with `remove`, what is deleted at the source, and what stays and why.

    Raises PumphouseError when something was used at the source since it was copied.
    """
    made = _made(run)
    steps = [step for step in run.plan.steps() if step.ref in made]
    used = used_by_others(run)
    marks = {s.ref: f"used by {user}" for s in steps if (user := used.get((s.ref.kind, made[s.ref].id)))}
    unmarked = [s for s in steps if KINDS[s.ref.kind].unmark and s.ref not in marks]
    removed, kept = _plan_removal(run, migration, made) if remove else ((), {})
    with_ids = [replace(s, action=Action.CREATE, destination_id=made[s.ref].id) for s in unmarked]
    return Finalize(run, tuple(with_ids), tuple(removed), {**marks, **kept})


def _made(run: Run) -> dict[Ref, _Made]:
    """What this run and those before it made of the tenant, as far as this one has it in its plan and did not undo it."""
    found: dict[Ref, _Made] = {}
    for book in tenant_books(run.store, run.plan.tenant.id, run.plan.source, run.plan.destination):
        if book.meta["state"] != states.REVERTED:
            found |= _made_by(load_run(run.store, book))
        if book.uuid == run.book.uuid:
            break
    there = {step.ref: step for step in run.plan.steps() if step.action in (Action.CREATE, Action.REUSE)}
    return {ref: item for ref, item in found.items() if ref in there}


def _made_by(run: Run) -> Iterator[tuple[Ref, _Made]]:
    details = run.all_details()
    for unit in run.plan.units:
        results = dict(ensured_results(details[unit.name]))
        ends = [atom.meta["ended_at"] for atom in details[unit.name] if atom.meta.get("ended_at")]
        for step in unit.steps:
            result = results.get(symbol(step.ref, "ensured"), {})
            # A group that comes with its tenant is there already when it is filled.
            comes = KINDS[step.ref.kind].common is None and KINDS[step.ref.kind].ends_with_tenant(step.record)
            if details[unit.name].state == states.SUCCESS and (result.get("made") or (result and comes)):
                yield (
                    step.ref,
                    _Made(
                        result["id"], datetime.fromisoformat(max(ends, default=run.book.meta["created_at"]))
                    ),
                )


def _plan_removal(
    run: Run, migration: Migration, made: Mapping[Ref, _Made]
) -> tuple[list[Step], dict[Ref, str]]:
    source, tenant = migration.source, run.plan.tenant
    there = _there(run, source, made)
    _refuse_used(source, there, made)
    others = _others(source, tenant, there) if tenant in there else {}
    kept = _not_moved(run, made, others)
    for kind in KINDS.values():
        records = [record for ref, record in there.items() if ref.kind == kind.name]
        if records and not can_make(source, kind.rights):
            kept |= {record.ref: REFUSED.replace("destination", "source") for record in records}
        elif records:
            kept |= kind.shared(source, tenant.id, records)
    kept |= _without_twin(migration.destination, made, there)
    records = [*there.values(), *others.values()]
    kept = _with_needs(records, kept)
    if tenant in there and tenant not in kept and (left := _beyond(source, tenant.id)):
        kept[tenant] = left
    if tenant in kept:
        ending = [ref for ref, record in there.items() if KINDS[ref.kind].ends_with_tenant(record)]
        kept = _with_needs(records, dict.fromkeys(ending, "it goes with the tenant, which stays") | kept)
    removed = [
        replace(step, action=Action.CREATE, record=there[step.ref])
        for step in run.plan.steps()
        if step.ref in there and step.ref not in kept
    ]
    stays = {ref: KINDS[ref.kind].stays for ref in made if KINDS[ref.kind].stays}
    return removed, {**kept, **stays}


def _others(source: Cloud, tenant: Ref, there: Collection[Ref]) -> dict[Ref, Record]:
    """What else the tenant has of the kinds that are deleted, by list calls."""
    kinds = [kind for kind in KINDS.values() if kind.remove and kind.is_visible(source)]
    records = [record for kind in kinds for record in kind.discover(source, tenant.id)]
    return {record.ref: record for record in records if record.ref not in there}


def _there(run: Run, source: Cloud, made: Mapping[Ref, _Made]) -> dict[Ref, Record]:
    """What the source still has of what was moved and can be deleted, by list calls; as the plan knew its needs."""
    found: dict[Ref, Record] = {}
    planned = {step.ref: step.record for step in run.plan.steps()}
    for kind in KINDS.values():
        ids = [ref.id for ref in made if ref.kind == kind.name and kind.remove]
        if ids and kind.is_visible(source):
            found |= {record.ref: record for record in kind.fetch(source, ids).values()}
    return {
        ref: replace(r, needs=planned[ref].needs, part_of=planned[ref].part_of) for ref, r in found.items()
    }


def _refuse_used(source: Cloud, there: Mapping[Ref, Record], made: Mapping[Ref, _Made]) -> None:
    offset = CLOCK_PRECISION + timedelta(seconds=clock_difference_s(source) or 0)
    used = ((r, KINDS[ref.kind].used(source, r, made[ref].since + offset)) for ref, r in there.items())
    if problems := [f"{r.title} of the source was used since it was copied: {why}" for r, why in used if why]:
        raise PumphouseError(
            "\n".join(problems),
            "nothing is deleted: move it anew (pumphouse revert, then migrate), or delete by hand what is not wanted",
        )


def _not_moved(run: Run, made: Collection[Ref], others: Iterable[Ref]) -> dict[Ref, str]:
    """Why resources stay that no run has made at the destination."""
    reused = {step.ref for step in run.plan.steps() if step.action is Action.REUSE and step.ref not in made}
    before = dict.fromkeys((ref for ref in reused if KINDS[ref.kind].remove), "the destination had it before")
    return dict.fromkeys(others, "it was not moved") | before


def _without_twin(
    destination: Cloud, made: Mapping[Ref, _Made], there: Mapping[Ref, Record]
) -> dict[Ref, str]:
    """Why resources stay whose twins are not at the destination any more."""
    kept: dict[Ref, str] = {}
    for kind in KINDS.values():
        ids = {ref: made[ref].id for ref in there if ref.kind == kind.name}
        twins = KINDS[kind.becomes or kind.name].fetch(destination, list(ids.values())) if ids else {}
        kept |= {ref: f"its twin {i} is not at the destination" for ref, i in ids.items() if i not in twins}
    return kept


def _with_needs(records: Iterable[Record], kept: Mapping[Ref, str]) -> dict[Ref, str]:
    """What stays, with all that it needs, and the parts of what stays."""
    by_ref = {record.ref: record for record in records}
    parts: dict[Ref | None, list[Ref]] = defaultdict(list)
    for ref, record in by_ref.items():
        parts[record.part_of].append(ref)
    found, waiting = dict(kept), [ref for ref in kept if ref in by_ref]
    while waiting:
        record = by_ref[waiting.pop()]
        # Where a user's default tenant is does not make that tenant be of use to anybody.
        is_own = not KINDS[record.ref.kind].ends_with_tenant(record)
        needs = [need for need in record.needs if is_own or need.kind != "tenant"]
        further = {**dict.fromkeys(needs, "needed by"), **dict.fromkeys(parts[record.ref], "a part of")}
        fresh = {
            ref: f"it is {how} {record.title}, which stays"
            for ref, how in further.items()
            if ref in by_ref and ref not in found
        }
        found |= fresh
        waiting += fresh
    return found


def _beyond(source: Cloud, tenant_id: str) -> str:
    """Why a tenant stays: what may live in it that no migration carries; empty when nothing does."""
    found = [*uncarried.of_tenant(source, tenant_id), *uncarried.services(source)]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"it may still have: {'; '.join(found[:3])}{more}" if found else ""


def _units(plan: Finalize) -> tuple[dict[str, Unit], dict[str, set[str]]]:
    """The units of the flows to run, and which others each waits for: what is deleted waits for what needs it."""
    removing, unmarking = (dict(_units_of(plan, verb)) for verb in (REMOVE, UNMARK))
    homes = {step.ref: name for name, unit in removing.items() for step in unit.steps}
    # A mark is taken off when nothing is deleted any more.
    all_removed = set(removing)
    needs: dict[str, set[str]] = {name: set() for name in removing} | dict.fromkeys(unmarking, all_removed)
    for step in plan.removed:
        snapshot_of = Ref("volume", step.record.data.get("volume_id", ""))
        for need in (*step.record.needs, snapshot_of):
            if need in homes and homes[need] != homes[step.ref]:
                needs[homes[need]].add(homes[step.ref])
    return removing | unmarking, needs


def _units_of(plan: Finalize, verb: str) -> Iterator[tuple[str, Unit]]:
    own = {step.ref: step for step in (plan.removed if verb == REMOVE else plan.unmarked)}
    for unit in plan.run.plan.units:
        if mine := tuple(own[step.ref] for step in unit.steps if step.ref in own):
            yield f"{verb}/{unit.name}", Unit(f"{verb}/{unit.name}", mine)


def finalize_run(plan: Finalize, migration: Migration, listener: Listener, stop: threading.Event) -> Report:
    """Do what was planned; what fails stays, and the same command tries it again.

    Raises StoreLostError when the state store fails.
    """
    units, needs = _units(plan)
    with explained_store_failures(plan.run):
        run = _with_details(plan.run, units)
    with (
        explained_store_failures(run),
        ThreadPoolExecutor(run.plan.cfg["limits"]["workers"], "unit") as unit_threads,
        open_execution(run, migration, listener, stop, keep_failed=True) as state,
    ):
        run.begin(FINALIZING)
        schedule_units(
            state, needs, lambda unit: unit_threads.submit(_run_unit, state, unit, needs[unit.name])
        )
    reported = {outcome.ref for outcome in state.outcomes}
    left = {
        step.ref: step for step in run.plan.steps() if step.ref not in reported
    }  # each may be in two units
    state.report([_outcome(step, State.PENDING, "not done") for step in left.values()])
    state.report(
        [_outcome(s, State.KEPT, plan.kept[s.ref]) for s in plan.run.plan.steps() if s.ref in plan.kept]
    )
    is_done = not {State.PENDING, State.FAILED, State.BLOCKED} & {outcome.state for outcome in state.outcomes}
    with explained_store_failures(run):
        run.end(FINALIZED if is_done else FINALIZE_FAILURE)
    return Report(
        replace(plan.run.plan, notes=(), uncarried=()), sorted_by_plan(plan.run.plan, state.outcomes), run.id
    )


def begin_removal(run: Run) -> None:
    """Record that what was moved is deleted from now on: what is left of it cannot be verified any more."""
    run.update_meta(**{_META: {"removal_at": now()}})


def _with_details(run: Run, units: Mapping[str, Unit]) -> Run:
    """The run with these units, each recorded with a flow of its own if it is not yet."""
    book = run.book.copy(retain_contents=False)
    new = {
        name: unit_detail(name, _FACTORIES[name.partition("/")[0]])
        for name in units
        if name not in run.details
    }
    for detail in new.values():
        book.add(detail)
    if new:
        with closing(run.store.get_connection()) as connection:
            connection.save_logbook(book)
    details = {**run.details, **{name: detail.uuid for name, detail in new.items()}}
    return Run(run.store, run.book, replace(run.plan, units=tuple(units.values())), details)


def _run_unit(state: Execution, unit: Unit, needs: Collection[str]) -> None:
    """Do what is left to do of one unit, unless something that needs it stays."""
    if state.is_halted:
        return
    is_removal = unit.name.startswith(f"{REMOVE}/")
    blocker = next((state.failed[name] for name in needs if name in state.failed), "") if is_removal else ""
    blocker = blocker or (_filled(state, unit) if is_removal else "")
    if blocker:
        state.failed[unit.name] = blocker
        state.report([_outcome(step, State.BLOCKED, blocker) for step in unit.steps])
        return
    detail = state.run.detail(unit.name)
    if detail.state != states.SUCCESS:
        correct_suspended_state(state.run, detail)
        reset_failed_tasks(state.run, detail)
        state.run_engine(state.engines.load(unit, detail, {}), unit, detail)
        correct_suspended_state(state.run, detail)
    found = list(_outcomes(unit, detail, State.DELETED if is_removal else State.UNMARKED))
    if is_removal and any(outcome.state is not State.DELETED for outcome in found):
        state.failed[unit.name] = f"needed by {unit.steps[0].record.title}, which is not deleted"
    reported = {outcome.ref for outcome in state.outcomes}
    state.report([o for o in found if o.state is not State.UNMARKED or o.ref not in reported])


def _filled(state: Execution, unit: Unit) -> str:
    """Why the tenant of a unit stays in which something has been made meanwhile; empty when nothing was."""
    tenant = next((step.ref for step in unit.steps if step.ref.kind == "tenant"), None)
    found = _others(state.migration.source, tenant, {tenant}) if tenant else {}
    own = [record for record in found.values() if not KINDS[record.ref.kind].ends_with_tenant(record)]
    return f"{own[0].title} is in it" if own else ""


def _outcomes(unit: Unit, detail: FlowDetail, done: State) -> Iterator[Outcome]:
    atoms = {atom.name: atom for atom in detail}
    for step in unit.steps:
        atom = next(
            (atoms[n] for verb in (UNMARKED, REMOVED) if (n := symbol(step.ref, verb)) in atoms), None
        )
        if atom is not None and atom.state == states.SUCCESS:
            yield _outcome(step, done, "")
        elif atom is not None and atom.failure:
            yield _outcome(step, State.FAILED, failure_reason(atom))
        else:
            yield _outcome(step, State.PENDING, "not done")


def _outcome(step: Step, state: State, reason: str) -> Outcome:
    return Outcome(step.ref, step.name, state, step.destination_id, reason)

"""Decisions: what becomes of each resource, told from what the destination has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pumphouse.model import LEFT_OUT, Action, Record, Ref, Step, Twin
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import Search, distinct_name
from pumphouse.tasks.kind import Kind

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud


def decide_all(
    records: Mapping[Ref, Record],
    source: Cloud,
    destination: Cloud,
    settings: Mapping[str, Any],
    names: Mapping[Ref, str],
    left_out: Collection[Ref],
    begun: Collection[Ref] = (),
) -> dict[Ref, Step]:
    """The decision for every record; kind by kind, because twins are recognised by the twins of their parents.

    begun: what an earlier run began to make and may have left without its stamp.
    """
    records = {ref: KINDS[ref.kind].looked_through(record) for ref, record in records.items()}
    steps: dict[Ref, Step] = {}
    ids: dict[Ref, str] = {}
    for name, kind in KINDS.items():
        wanted = [_named(record, names) for ref, record in records.items() if ref.kind == name]
        search = Search(destination, ids, settings["mappings"], source, settings["policies"], begun)
        lack = kind.lack(destination)
        open_ones = [record for record in wanted if not record.skip and record.ref not in left_out]
        open_ones = [] if lack else open_ones
        sought = {record.ref: record for record in kind.adapt(search, open_ones)}
        twins = kind.find(search, list(sought.values())) if kind.is_visible(destination) else {}
        policy = _policy(kind, settings["policies"]["on_conflict"])
        for record in wanted:
            if record.ref in left_out:
                step = Step(record, Action.SKIP, LEFT_OUT, record.name)
            elif lack and not record.skip:
                step = Step(record, Action.SKIP, lack, record.name)
            else:
                step = decide(sought.get(record.ref, record), twins.get(record.ref, ()), policy)
            if step.action is Action.CREATE and (refusal := kind.refusal(destination)):
                step = step.blocked(refusal)
            steps[record.ref] = replace(step, record=_decided(records[record.ref], step))
            if step.destination_id:
                ids[record.ref] = step.destination_id
    return steps


def _named(record: Record, names: Mapping[Ref, str]) -> Record:
    """The record under the name that a person chose for it at the destination."""
    name = names.get(record.ref, record.name)
    return record if name == record.name else replace(record, name=name, data={**record.data, "name": name})


def _decided(record: Record, step: Step) -> Record:
    """The record with the format of its copy, and the reason of a skip that nobody asked for.

    By that reason it can be told from one by hand.
    """
    is_refused = step.action is Action.SKIP and step.reason != LEFT_OUT
    record = replace(record, copied_as=step.record.copied_as)
    return replace(record, skip=step.reason) if is_refused else record


def _policy(kind: Kind, on_conflict: str) -> str:
    """The policy for conflicts, as far as a kind can follow it."""
    able = {"rename": kind.renamable, "reuse": kind.reusable}
    return on_conflict if able.get(on_conflict) else "fail"


def decide(record: Record, twins: Sequence[Twin], on_conflict: str) -> Step:
    """The decision for one record with the candidates that the destination has for it.

    on_conflict: `fail`, `reuse` or `rename`, for a candidate that is not certain to be its twin.
    """
    if record.skip:
        return Step(record, Action.SKIP, record.skip, record.name)
    ours = [twin for twin in twins if twin.ours]
    candidates = ours or list(twins)
    if len(candidates) > 1:
        reason = (
            f"the destination has {len(candidates)} candidates: {', '.join(twin.id for twin in candidates)}"
        )
        return Step(record, Action.CONFLICT, reason, record.name)
    if ours:
        return _take(record, ours[0])
    if candidates:
        return _resolve(record, candidates[0], on_conflict)
    if record.must_exist:
        return Step(record, Action.CONFLICT, record.must_exist, record.name)
    return Step(record, Action.CREATE, "not at the destination", record.name, notes=record.notes)


def _take(record: Record, twin: Twin) -> Step:
    if twin.unfinished:
        reason = f"at the destination, but unfinished: {twin.unfinished}"
        return Step(record, Action.CREATE, reason, record.name, twin.id, record.notes)
    notes = tuple(f"differs: {difference}" for difference in twin.differences)
    return Step(record, Action.REUSE, "already at the destination", record.name, twin.id, notes)


def _resolve(record: Record, twin: Twin, on_conflict: str) -> Step:
    what = f"the destination has another of this name ({twin.id})"
    reason = f"{what}: {'; '.join(twin.differences)}" if twin.differences else what
    if on_conflict == "reuse":
        return Step(record, Action.REUSE, f"on_conflict is reuse: {reason}", record.name, twin.id)
    if on_conflict == "rename" and not record.must_exist:
        name = distinct_name(record.ref.kind, record.name, record.ref.id)
        return Step(record, Action.CREATE, f"on_conflict is rename: {reason}", name, notes=record.notes)
    return Step(record, Action.CONFLICT, reason, record.name)


def block(steps: Mapping[Ref, Step]) -> dict[Ref, Step]:
    """Skip what needs something that will not be there, and what needs that, to the end."""
    steps = dict(steps)
    waiting = [step for step in steps.values() if step.action is Action.CREATE]
    while blocked := [step for step in waiting if _blocker(step, steps)]:
        for step in blocked:
            steps[step.ref] = step.blocked(_blocker(step, steps))
        waiting = [step for step in waiting if steps[step.ref].action is Action.CREATE]
    return steps


def _blocker(step: Step, steps: Mapping[Ref, Step]) -> str:
    """Why a step cannot be done; empty when it can."""
    part_of = step.record.part_of
    whole = [part_of] if part_of and part_of in steps else []
    for ref in (*step.record.needs, *whole):
        need = steps.get(ref)
        if need is None:
            return f"needs {ref}, which the source does not have"
        if need.action is Action.CONFLICT:
            return f"needs {need.record.title}, which is in conflict"
        if need.action is Action.SKIP:
            return f"needs {need.record.title}, which is skipped"
    return ""

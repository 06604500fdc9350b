"""Whether a plan still fits its clouds: what a person edited, and what the clouds changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from pumphouse.model import LEFT_OUT, Action, Plan, Ref, Step, Twin, not_made
from pumphouse.plan.decide import decide
from pumphouse.plan.overview import Group, groups
from pumphouse.tasks import KINDS

_RENAMED = "on_conflict is rename"
# Longer values are not printed: a person looks for what it is at the source.
_SHOWN_MAX_LENGTH = 100

_NAMED_MAX = 3
_NEW = "is new at the source since the plan was made"
_GONE = "is not at the source any more"

Steps = Mapping[Ref, Step]


def edits(plan: Plan) -> tuple[dict[Ref, str], frozenset[Ref]]:
    """What a person edited in a plan: the names chosen, and what is left out.

    Left out is what was deleted, and what is skipped though nothing is against it.
    """
    steps = _by_ref(plan)
    names = {ref: step.name for ref, step in steps.items() if step.name != _decided_name(step)}
    skipped = (ref for ref, step in steps.items() if _is_left_out(step, steps))
    return names, frozenset((*plan.left_out, *skipped))


def changes(planned: Plan, now: Plan, *, edited: bool = False) -> tuple[str, ...]:
    """What changed on either cloud since a plan was made; edits of the plan are no change.

    One sentence for all of which the same is to be said.

    now: a plan made of both clouds as they are, with the settings of `planned` and what `edits` found in it.
    edited: whether the settings were edited; then decisions may differ, but not what they were made of.
    """
    names, left_out = edits(planned)
    before = {ref: step for ref, step in _by_ref(planned).items() if ref not in left_out}
    after = {ref: step for ref, step in _by_ref(now).items() if ref not in left_out}
    appeared = after.keys() - before.keys()
    vanished = before.keys() - after.keys()
    if edited:
        appeared -= _newly_needed(before, after)
        vanished -= _newly_needed(after, before)
    free = _free(before, after) if edited else names.keys()
    found = [(step, f" {_NEW}") for ref, step in after.items() if ref in appeared]
    for ref, step in before.items():
        if ref in vanished:
            found.append((step, f" {_GONE}"))
        elif ref in after:
            found += ((step, f": {text}") for text in _changes_of(step, after[ref], edited, ref in free))
    return tuple(map(_sentence, groups(found)))


def _sentence(group: Group) -> str:
    first, *others = group.steps
    if not others:
        return f"{first.record.title}{group.text}"
    names = ", ".join(step.record.title for step in group.steps[:_NAMED_MAX])
    more = f" and {len(others) + 1 - _NAMED_MAX:,} more" if len(others) >= _NAMED_MAX else ""
    text = group.text.removeprefix(": ").removeprefix(" is ")
    return f"{len(others) + 1:,} resources ({names}{more}): {text}"


def _by_ref(plan: Plan) -> dict[Ref, Step]:
    return {step.ref: step for step in plan.steps()}


def _decided_name(step: Step) -> str:
    """The name that the plan gave the step by itself."""
    if step.reason.startswith(_RENAMED):
        return decide(step.record, [Twin("", ours=False)], "rename").name
    return step.record.name


def _is_left_out(step: Step, steps: Steps) -> bool:
    """Whether a person had the step skipped: neither its record, its needs nor its kind is the reason."""
    if step.action is not Action.SKIP or step.record.skip or step.reason == not_made(step.ref.kind):
        return False
    return step.reason == LEFT_OUT or not _is_blocked(step, steps)


def _is_blocked(step: Step, steps: Steps) -> bool:
    whole = [step.record.part_of] if step.record.part_of in steps else []
    needs = [steps.get(ref) for ref in (*step.record.needs, *whole) if ref]
    return any(need is None or need.action in (Action.CONFLICT, Action.SKIP) for need in needs)


def _newly_needed(before: Steps, after: Steps) -> set[Ref]:
    """What is in `after` only because a policy makes what did not change need it, and what that needs."""
    found = {
        need
        for ref, step in after.items()
        if ref in before and before[ref].record.data == step.record.data
        for need in step.record.needs
        if need not in before[ref].record.needs
    }
    waiting = list(found)
    while waiting:
        step = after.get(waiting.pop())
        more = set(step.record.needs) - found - before.keys() if step else set()
        found |= more
        waiting += more
    return found


def _free(before: Steps, after: Steps) -> Collection[Ref]:
    """What may have another twin now because of a mapping: of the kinds that have one, and what belongs to them."""
    found: set[Ref] = set()
    for ref, step in before.items():
        other = after.get(ref)
        if other is None or other.destination_id == step.destination_id:
            continue
        if KINDS[ref.kind].mapping or found & {*step.record.needs, step.record.part_of}:
            found.add(ref)
    return found


def _changes_of(before: Step, after: Step, edited: bool, free: bool) -> Iterator[str]:
    """What changed of one resource: at the source, then at the destination.

    free: whether the twin may be another one, because of a name or a mapping that a person chose.
    """
    yield from _changes_at_source(before, after)
    if before.record.skip or after.record.skip:
        return
    if not free and (lost := _lost(before, after)):
        yield lost
    elif not edited and (decided := _decided_anew(before, after, free)):
        yield decided


def _changes_at_source(before: Step, after: Step) -> Iterator[str]:
    if after.record.skip and not before.record.skip:
        yield f"it cannot be migrated now: {after.record.skip}"
    if before.record.skip and not after.record.skip:
        yield f"it can be migrated now, which it could not: {before.record.skip}"
    one, other = ({"name": step.record.name, **step.record.data} for step in (before, after))
    # A plan of an earlier release lacks the fields that were added since.
    for field in one:
        if one.get(field) != other.get(field):
            yield _difference(field, one.get(field), other.get(field))


def _difference(field: str, before: object, after: object) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        return ", ".join(_difference(f"{field}.{key}", before.get(key), after.get(key)) for key in changed)
    was, now = repr(before), repr(after)
    if max(len(was), len(now)) > _SHOWN_MAX_LENGTH:
        return f"{field} is not what it was"
    return f"{field} was {was}, is {now}"


def _lost(before: Step, after: Step) -> str:
    """What became of the destination resource that a plan counts on; empty when it is there."""
    wanted, found = before.destination_id, after.destination_id
    if wanted is None or wanted == found or after.action not in (Action.CREATE, Action.REUSE):
        return ""
    verb = "reuses" if before.action is Action.REUSE else "finishes"
    if found is None:
        return f"the plan {verb} {wanted}, which is not at the destination any more"
    return f"the plan {verb} {wanted}, but what fits at the destination is {found} now"


def _decided_anew(before: Step, after: Step, free: bool) -> str:
    """How the decision differs for a reason that lies at the destination; empty when it does not."""
    twin = after.destination_id
    match before.action, after.action:
        case Action.CONFLICT, Action.CONFLICT:
            return ""
        case _, Action.CONFLICT:
            return f"is in conflict now: {after.reason}"
        case Action.CONFLICT, _:
            return "" if free else f"was in conflict and is not any more: {before.reason}"
        case Action.CREATE | Action.REUSE, Action.SKIP:
            return f"would be skipped now: {after.reason}"
        case Action.SKIP, Action.CREATE:
            return f"was skipped and would be created now: {before.reason}"
        case Action.CREATE, Action.CREATE | Action.REUSE if before.destination_id is None and twin:
            return f"the plan creates it, but the destination has one now ({twin})"
        case Action.CREATE, Action.REUSE:
            return f"the plan finishes {twin}, which is complete now"
        case Action.REUSE, Action.CREATE if twin:
            return f"the plan reuses {twin}, which is not complete now: {after.reason}"
    return ""

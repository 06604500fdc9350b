"""What of a tenant is migrated: what an operator selected, and what that needs."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from pumphouse.errors import UsageError
from pumphouse.model import Record, Ref, Selection, not_made
from pumphouse.plan import uncarried
from pumphouse.tasks import KINDS

# No more names than that are listed for somebody who gave one that is not there.
_LISTED_MAX = 8

Records = Mapping[Ref, Record]


def resolve(
    selection: Selection, records: Records, kinds: Collection[str], tenant_id: str = "TENANT"
) -> Selection:
    """The selection with the resources that its names stand for.

    kinds: all that there are. Raises UsageError with every problem, one line each.
    """
    problems = [*_kind_problems(selection, kinds)]
    refs = dict.fromkeys(selection.refs)
    for kind, name in selection.names:
        found = _find(records, kind, name)
        if len(found) == 1:
            refs[found[0].ref] = None
        else:
            problems.append(_which(records, kind, name, found))
    meeting, missed = _meeting(records, selection.conditions)
    refs |= dict.fromkeys(meeting)
    problems += missed
    if problems:
        raise UsageError(
            "\n".join(problems), f"see what the tenant has with: pumphouse plan tenant {tenant_id}"
        )
    return replace(selection, names=(), refs=tuple(refs), conditions=())


def _meeting(records: Records, conditions: Collection[str]) -> tuple[list[Ref], list[str]]:
    """The servers that meet all conditions, and what is wrong where none does."""
    servers = [record for record in records.values() if record.ref.kind == "server"]
    known = KINDS["server"].conditions
    for name in (condition.partition("=")[0] for condition in conditions):
        if name not in known:
            return [], [f"--servers {name}: expected {', '.join(f'{key}=PATTERN' for key in known)}"]
    for condition in conditions:
        name, _, pattern = condition.partition("=")
        values = {record.ref: known[name](record) for record in servers}
        servers = [r for r in servers if any(fnmatchcase(value, pattern) for value in values[r.ref])]
        if not servers:
            there = sorted({value for found in values.values() for value in found})
            listed = f"{', '.join(there[:_LISTED_MAX])}{', ...' * (len(there) > _LISTED_MAX)}" or "none"
            return [], [f"--servers {condition}: no server of the tenant meets this; there are {listed}"]
    return ([record.ref for record in servers] if conditions else []), []


def _kind_problems(selection: Selection, kinds: Collection[str]) -> Iterator[str]:
    skippable = [*kinds, *uncarried.names()]
    for option, given, known in (("--only", selection.only, kinds), ("--skip", selection.skip, skippable)):
        for kind in (kind for kind in given if kind not in known):
            hint = _close(kind, known) or f"expected one of {', '.join(sorted(known))}"
            yield f"{option} {kind}: there is no such kind; {hint}"
    named = [*(kind for kind, _ in selection.names), *(ref.kind for ref in selection.refs)]
    named += ["server"] if selection.conditions else []
    asked = dict.fromkeys(
        [*((f"--only {kind}", kind) for kind in selection.only), *((f"--{k}", k) for k in named)]
    )
    for option, kind in asked:
        if kind in selection.skip:
            yield f"{option} and --skip {kind} are both given; expected one of them"


def _find(records: Records, kind: str, name: str) -> list[Record]:
    """The resource of that id, else those of that name."""
    exact = records.get(Ref(kind, name))
    if exact:
        return [exact]
    return [record for record in records.values() if record.ref.kind == kind and record.name == name]


def _which(records: Records, kind: str, name: str, found: Collection[Record]) -> str:
    """What is wrong with a name that stands for none, or for more than one."""
    if found:
        ids = ", ".join(sorted(record.ref.id for record in found))
        return f"--{kind} {name}: {len(found)} have this name: {ids}; give the id"
    known = sorted({record.name or record.ref.id for record in records.values() if record.ref.kind == kind})
    listed = f"it has {', '.join(known[:_LISTED_MAX])}{', ...' * (len(known) > _LISTED_MAX)}"
    hint = _close(name, known) or (listed if known else f"it has no {kind}")
    return f"--{kind} {name}: the tenant has none of this name or id; {hint}"


def _close(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


def choose(selection: Selection, records: Records, own: Collection[Ref], tenant: Ref) -> dict[Ref, str]:
    """What a plan is made of, in the order of the records: why each is in it, empty for what was selected.

    That is what was selected, what that needs to the end, and the parts of all of it. The tenant is always
    in it, because a plan is one of a tenant.

    records: all that the tenant has and needs; own: those that it has, and does not only need.
    """
    if not selection:
        return dict.fromkeys(records, "")
    selected = {tenant} | {ref for ref in records if _is_selected(ref, selection, records, own)}
    parts = _parts(selection, records)
    roots: dict[Ref, list[Ref]] = defaultdict(list)
    for root in (ref for ref in records if ref in selected):
        for ref in _reached(root, selected, records, parts):
            roots[ref].append(root)
    return {
        ref: "" if ref in selected else _because(records[ref], roots[ref], records)
        for ref in records
        if ref in selected or ref in roots
    }


def _is_selected(ref: Ref, selection: Selection, records: Records, own: Collection[Ref]) -> bool:
    record, named = records[ref], {other.kind for other in selection.refs}
    if ref in selection.refs:
        return True
    # What must exist is never made: it is in a plan only for those who need it.
    if ref.kind in (*selection.skip, *named) or record.must_exist:
        return False
    if ref.kind in selection.only or selection.is_narrow:
        return ref.kind in selection.only
    if record.last or ref not in own:
        return False
    # A part goes with its whole, unless it can be named by itself.
    whole = None if KINDS[ref.kind].nameable else record.part_of
    return whole is None or whole not in records or _is_selected(whole, selection, records, own)


def _parts(selection: Selection, records: Records) -> dict[Ref, list[Ref]]:
    """The parts that every whole takes with it: not those that can be named by themselves."""
    found: dict[Ref, list[Ref]] = defaultdict(list)
    for ref, record in records.items():
        if record.part_of and not KINDS[ref.kind].nameable and ref.kind not in selection.skip:
            found[record.part_of].append(ref)
    return found


def _reached(
    root: Ref, selected: Collection[Ref], records: Records, parts: Mapping[Ref, Iterable[Ref]]
) -> set[Ref]:
    """All that is in a plan for the sake of one that is selected, and that is not selected itself."""
    found: set[Ref] = set()
    waiting = [root]
    while waiting:
        further = {*_wanted(waiting.pop(), records, parts)} - found
        fresh = {ref for ref in further if ref in records and ref not in selected}
        found |= fresh
        waiting += fresh
    return found


def _wanted(ref: Ref, records: Records, parts: Mapping[Ref, Iterable[Ref]]) -> Iterator[Ref]:
    """What a resource needs, what it is a part of, and its parts; nothing for one that is not migrated."""
    record = records[ref]
    if record.skip:
        return
    yield from record.needs
    yield from parts.get(ref, ())
    if record.part_of:
        yield record.part_of


def _because(record: Record, roots: Collection[Ref], records: Records) -> str:
    whole = records.get(record.part_of) if record.part_of else None
    if whole and record.ref not in whole.needs:
        return f"belongs to {whole.title}"
    first, *others = roots
    more = f" and {len(others)} more" if others else ""
    return f"needed by {records[first].title}{more}"


def without(kept: Records, ended: Collection[Ref]) -> dict[Ref, Record]:
    """The records when some of them will not be made, so that what only these need is not needed."""
    return {
        ref: replace(record, skip=not_made(ref.kind)) if ref in ended else record
        for ref, record in kept.items()
    }


def notes(own: Records, chosen: Collection[Ref]) -> tuple[str, ...]:
    """What a selection leaves behind, in words."""
    left = [record for ref, record in own.items() if ref not in chosen]
    said = [note for record in left if (note := KINDS[record.ref.kind].left_out_note)]
    count = len(left) - len(said)
    resources = "1 resource of the tenant is" if count == 1 else f"{count} resources of the tenant are"
    return (*([f"{resources} not selected"] if count else []), *said)

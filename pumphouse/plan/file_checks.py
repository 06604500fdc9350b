"""What a schema cannot say of a plan file: what refers to what."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

from pumphouse.config.schema import closest
from pumphouse.config.yamlfile import Document, Keys, Problem
from pumphouse.plan import uncarried
from pumphouse.plan.data import plan_key
from pumphouse.tasks import KINDS

_TAKEN_OUT = "leave it out as well, or put that back"


class _Unit(NamedTuple):
    """A unit of the file, as far as it can be read; needs are by their places."""

    keys: Keys
    name: str
    needs: dict[Keys, str]


class _Step(NamedTuple):
    """A step of the file, as far as it can be read; needs, and what it is part of, are by their places."""

    keys: Keys
    unit: _Unit
    ref: str
    action: object
    last: bool
    needs: dict[Keys, str]
    part_of: str | None


def problems(document: Document) -> list[Problem]:
    """What is wrong with a plan file besides what its schema says; what the schema refuses is passed over."""
    units = list(_units(document.data))
    steps = [step for unit in units for step in _steps(document.data, unit)]
    found = [
        *_key(document),
        *_kinds(document),
        *_twice(document, [((*unit.keys, "name"), unit.name, "unit") for unit in units]),
        *_twice(document, [((*step.keys, "id"), step.ref, "resource") for step in steps]),
        *_tenant(document, steps),
        *_reused(document, steps),
        *_unit_needs(document, units, steps),
        *_step_needs(document, steps),
    ]
    return [document.problem(keys, text) for keys, text in found]


_Found = Iterator[tuple[Keys, str]]


def _key(document: Document) -> _Found:
    about = _get(document.data, "data")
    key = _get(document.data, "key")
    parts = (_get(about, "tenant", "id"), _get(about, "source"), _get(about, "destination"))
    if all(isinstance(part, str) for part in (key, *parts)) and key != (wanted := plan_key(*parts)):
        yield (
            ("key",),
            f"key is {key!r}, that of another tenant or other clouds than 'data' says; expected {wanted!r}",
        )


def _kinds(document: Document) -> _Found:
    for unit_keys, unit in _items(document.data, "units"):
        for keys, step in _items(unit, "steps", unit_keys):
            kind = _get(step, "kind")
            if isinstance(kind, str) and kind:
                yield from _kind((*keys, "kind"), kind)
            record = (*keys, "record")
            for ref_keys, ref in _items(_get(step, "record"), "needs", record):
                yield from _kind_of(ref_keys, ref)
            yield from _kind_of((*record, "part_of"), _get(step, "record", "part_of"))
    for keys, ref in _items(_get(document.data, "data"), "resources", ("data",)):
        yield from _kind_of(keys, ref)
    selection, place = _get(document.data, "data", "selection"), ("data", "selection")
    for keys, ref in _items(selection, "resources", place):
        yield from _kind_of(keys, ref)
    for keys, kind in (found for name in ("only", "skip") for found in _items(selection, name, place)):
        is_skip = "skip" in keys and kind in uncarried.names()
        yield from _kind(keys, kind) if isinstance(kind, str) and kind and not is_skip else ()


def _kind_of(keys: Keys, ref: object) -> _Found:
    kind, sign, resource_id = ref.partition("/") if isinstance(ref, str) else ("", "", "")
    if kind and sign and resource_id:
        yield from _kind(keys, kind)


def _kind(keys: Keys, kind: str) -> _Found:
    if kind not in KINDS:
        close = closest(kind, KINDS)
        hint = f"did you mean {close!r}?" if close else f"expected one of {', '.join(sorted(KINDS))}"
        yield keys, f"unknown kind {kind!r}; {hint}"


def _twice(document: Document, places: list[tuple[Keys, str, str]]) -> _Found:
    first: dict[str, Keys] = {}
    for keys, name, what in places:
        if name in first:
            line = document.line(first[name])
            yield keys, f"{what} {name} is in the plan twice, first on line {line}; expected it once"
        first.setdefault(name, keys)


def _tenant(document: Document, steps: list[_Step]) -> _Found:
    tenant_id = _get(document.data, "data", "tenant", "id")
    if isinstance(tenant_id, str) and tenant_id and f"tenant/{tenant_id}" not in {step.ref for step in steps}:
        yield (
            ("units",),
            f"no unit has tenant/{tenant_id}, which all else belongs to; expected it in the plan",
        )


def _reused(document: Document, steps: list[_Step]) -> _Found:
    for step in steps:
        if step.action == "reuse" and not _at(document.data, (*step.keys, "destination_id")):
            yield (
                (*step.keys, "action"),
                f"{step.ref} is reused, but not which; expected its destination_id",
            )


def _unit_needs(document: Document, units: list[_Unit], steps: list[_Step]) -> _Found:
    """Needs that are not there, come later, or go in a circle; what is last only waits for what there is."""
    considered = _considered(document)
    last = {step.unit.keys for step in steps if step.last}
    places = {unit.name: number for number, unit in reversed(list(enumerate(units)))}
    circle = _circle(units)
    if circle:
        chain = " needs ".join(circle)
        yield (*units[places[circle[0]]].keys, "needs"), f"units in a circle: {chain}; expected none"
    for number, unit in enumerate(units):
        for keys, need in unit.needs.items():
            if need not in places:
                if unit.keys not in last or need not in considered:
                    yield keys, f"unit {unit.name} needs {need}, which is not in the plan: {_TAKEN_OUT}"
            elif places[need] > number and not circle:
                yield keys, f"unit {unit.name} needs {need}, which comes later; expected it before"


def _circle(units: list[_Unit]) -> list[str]:
    """The names of units that need each other, the first one again at the end; empty when there are none."""
    try:
        TopologicalSorter({unit.name: set(unit.needs.values()) for unit in units}).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def _step_needs(document: Document, steps: list[_Step]) -> _Found:
    """Needs of what is to be created: what they are must be there, and made before."""
    by_ref = {step.ref: step for step in steps}
    considered = _considered(document)
    for step in steps:
        if step.action != "create":
            continue
        for keys, ref in step.needs.items():
            need = by_ref.get(ref)
            if need is None:
                if ref != step.part_of or ref in considered:
                    yield keys, f"{step.ref} needs {ref}, which is not in the plan: {_TAKEN_OUT}"
            elif need.action in ("skip", "conflict"):
                why = "skipped" if need.action == "skip" else "in conflict"
                yield keys, f"{step.ref} needs {ref}, which is {why}; expected action: skip for it as well"
            elif need.unit.keys != step.unit.keys and need.unit.name not in step.unit.needs.values():
                yield (
                    keys,
                    f"{step.ref} needs {ref}; expected {need.unit.name} in the needs of unit {step.unit.name}",
                )


def _considered(document: Document) -> set[str]:
    """All that was planned once, also what is not in a unit any more."""
    resources = _items(_get(document.data, "data"), "resources")
    return {text for _, text in resources if isinstance(text, str)}


def _units(data: Any) -> Iterator[_Unit]:
    for keys, unit in _items(data, "units"):
        name = _get(unit, "name")
        if isinstance(name, str) and name:
            yield _Unit(keys, name, _refs(unit, keys))


def _steps(data: Any, unit: _Unit) -> Iterator[_Step]:
    for keys, step in _items(_at(data, unit.keys), "steps", unit.keys):
        kind, resource_id, record = _get(step, "kind"), _get(step, "id"), _get(step, "record")
        if not (isinstance(kind, str) and isinstance(resource_id, str)):
            continue
        record_keys = (*keys, "record")
        needs = _refs(record, record_keys)
        part_of = _get(record, "part_of")
        if isinstance(part_of, str) and part_of not in needs.values():
            needs[*record_keys, "part_of"] = part_of
        last = _get(record, "last") is True
        whole = part_of if isinstance(part_of, str) else None
        yield _Step(keys, unit, f"{kind}/{resource_id}", _get(step, "action"), last, needs, whole)


def _refs(data: Any, keys: Keys) -> dict[Keys, str]:
    return {place: text for place, text in _items(data, "needs", keys) if isinstance(text, str) and text}


def _items(data: Any, name: str, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """The items of the list that data has under a name, with their places; none where there is no list."""
    items = _get(data, name)
    for number, item in enumerate(items if isinstance(items, list) else ()):
        yield (*keys, name, number), item


def _get(data: Any, *names: str) -> Any:
    """The value at these names; None where there is none, or no mapping on the way."""
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def _at(data: Any, keys: Keys) -> Any:
    """The value at these keys, of which only the last may be missing."""
    *parents, last = keys
    for key in parents:
        data = data[key]
    return data.get(last) if isinstance(data, dict) else data[last]

"""What a schema cannot say of a plan file: what refers to what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pumphouse.config.schema import closest
from pumphouse.config.yamlfile import Document, Keys, Problem
from pumphouse.plan import uncarried
from pumphouse.plan.data import EDITABLES, plan_key
from pumphouse.tasks import KINDS


class _Step(NamedTuple):
    """A decision of the file and its record, as far as they can be read; needs are by their places."""

    keys: Keys
    ref: str
    action: object
    needs: dict[Keys, str]
    part_of: str | None


def problems(document: Document) -> list[Problem]:
    """What is wrong with a plan file besides what its schema says; what the schema refuses is passed over."""
    steps = list(_steps(document.data))
    found = [
        *_key(document),
        *_kinds(document),
        *_twice(document, ((step.keys, step.ref) for step in steps)),
        *_twice(document, ((keys, _ref_of(item)) for keys, item in _items(document.data, "records"))),
        *_tenant(document, steps),
        *_reused(document, steps),
        *_step_needs(document, steps),
        *_without_record(document, steps),
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
    for keys, step in _decisions(document.data):
        kind = _get(step, "kind")
        if isinstance(kind, str) and kind:
            yield from _kind((*keys, "kind"), kind)
    for _, (keys, record) in _records(document.data):
        for ref_keys, ref in _items(record, "needs", keys):
            yield from _kind_of(ref_keys, ref)
        yield from _kind_of((*keys, "part_of"), _get(record, "part_of"))
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


def _twice(document: Document, places: Iterable[tuple[Keys, str]]) -> _Found:
    first: dict[str, Keys] = {}
    for keys, ref in places:
        if ref and ref in first:
            line = document.line((*first[ref], "id"))
            yield (
                (*keys, "id"),
                f"resource {ref} is in the plan twice, first on line {line}; expected it once",
            )
        first.setdefault(ref, keys)


def _tenant(document: Document, steps: list[_Step]) -> _Found:
    tenant_id = _get(document.data, "data", "tenant", "id")
    if isinstance(tenant_id, str) and tenant_id and f"tenant/{tenant_id}" not in {step.ref for step in steps}:
        place = ("resources",) if _is_editable(document.data) else ("units",)
        yield place, f"the plan lacks tenant/{tenant_id}, which all else belongs to; expected it in the plan"


def _reused(document: Document, steps: list[_Step]) -> _Found:
    for step in steps:
        if step.action == "reuse" and not _at(document.data, (*step.keys, "destination_id")):
            yield (
                (*step.keys, "action"),
                f"{step.ref} is reused, but not which; expected its destination_id",
            )


def _step_needs(document: Document, steps: list[_Step]) -> _Found:
    """Needs of what is to be created: there must be a record of each, unless the source did not have it either."""
    known = {ref for ref, _ in _records(document.data)}
    considered = {
        text for _, text in _items(_get(document.data, "data"), "resources") if isinstance(text, str)
    }
    for step in steps if not _is_editable(document.data) or known else ():
        for keys, ref in step.needs.items() if step.action == "create" else ():
            if ref not in known and (ref != step.part_of or ref in considered):
                yield (
                    keys,
                    f"{step.ref} needs {ref}, which is not in the plan: leave it out as well, or put that back",
                )


def _without_record(document: Document, steps: list[_Step]) -> _Found:
    known = {ref for ref, _ in _records(document.data)}
    for step in steps:
        if step.ref not in known:
            yield (*step.keys, "id"), f"{step.ref} has no record; expected one under records"


def _is_editable(data: Any) -> bool:
    return _get(data, "format") in EDITABLES


def _decisions(data: Any) -> Iterator[tuple[Keys, Any]]:
    """The decisions of a file in either format, with their places."""
    yield from _items(data, "resources")
    for keys, unit in _items(data, "units"):
        yield from _items(unit, "steps", keys)


def _records(data: Any) -> Iterator[tuple[str, tuple[Keys, Any]]]:
    """The records of a file in either format: of which resource, the place, and what is there."""
    for keys, record in _items(data, "records"):
        if ref := _ref_of(record):
            yield ref, (keys, record)
    for unit_keys, unit in _items(data, "units"):
        for keys, step in _items(unit, "steps", unit_keys):
            if ref := _ref_of(step):
                yield ref, ((*keys, "record"), _get(step, "record"))


def _steps(data: Any) -> Iterator[_Step]:
    records = dict(_records(data))
    for keys, step in _decisions(data):
        if ref := _ref_of(step):
            record_keys, record = records.get(ref, (keys, None))
            needs = {
                place: text for place, text in _items(record, "needs", record_keys) if isinstance(text, str)
            }
            part_of = _get(record, "part_of")
            whole = part_of if isinstance(part_of, str) else None
            if whole and whole not in needs.values():
                needs[*record_keys, "part_of"] = whole
            yield _Step(keys, ref, _get(step, "action"), needs, whole)


def _ref_of(item: Any) -> str:
    """Of which resource a decision or a record is; empty where that cannot be read."""
    kind, resource_id = _get(item, "kind"), _get(item, "id")
    is_read = isinstance(kind, str) and isinstance(resource_id, str)
    return f"{kind}/{resource_id}" if is_read else ""


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

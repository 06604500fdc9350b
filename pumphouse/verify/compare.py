"""Two tenants side by side: which resource of the one is which of the other, and in what they differ."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from typing import Any

from pumphouse.model import Json, Ref

_REFERS = "refers to what is not at the destination: {}"
_RENAMED = "the plan gives it this name"
# How a set of twins was told.
BY_RUN, BY_STAMP, BY_IDENTITY = "recorded run", "stamp", "identity"


class Untold(Enum):
    """In the place of a value that a service does not tell; no text that a tenant writes equals it."""

    ABSENT = "(this cloud has no such field)"
    NOT_KNOWN = "(not known)"

    def __str__(self) -> str:
        return str(self.value)


ABSENT, NOT_KNOWN = Untold


@dataclass(frozen=True, order=True)
class Named:
    """A name that a mapping of the configuration may change on its way, e.g. of a volume type.

    unmapped: what it was before the mapping changed it.
    """

    mapping: str
    name: str
    unmapped: str = field(default="", compare=False)


@dataclass(frozen=True, order=True)
class Missing:
    """A reference to a source resource that has no twin."""

    ref: Ref


Excuse = Callable[[Any, Any], str]


def _none(_wanted: Any, _actual: Any) -> str:
    return ""


@dataclass(frozen=True)
class Field:
    """A field that is compared.

    read: gives its value of the service's JSON: scalars, Refs, Named, and tuples, frozensets and dicts of them;
        NOT_KNOWN where the service does not tell it.
    excuse: given both values, why this difference is by design and takes nothing from the tenant; else empty.
    """

    name: str
    read: Callable[[Json], Any]
    excuse: Excuse = _none


@dataclass(frozen=True, eq=False)
class Kind:
    """How resources of a kind are compared.

    identity: what tells a resource from all others of its tenant besides its id; None where nothing does.
    not_compared: what RESOURCES of this kind have that no API tells, and why.
    shared: whether it belongs to the cloud: it is compared though it is not the tenant's own, and others at
        the destination are nobody's business.
    """

    name: str
    fields: tuple[Field, ...]
    identity: Callable[[Json], Hashable]
    not_compared: Mapping[str, str] = field(default_factory=dict)
    shared: bool = False

    def item(self, raw: Json, item_id: str, **options: Any) -> Item:
        """The comparable form of a resource."""
        facts = {f.name: f.read(raw) for f in self.fields}
        return Item(Ref(self.name, item_id), facts, self.identity(raw), **options)


@dataclass(frozen=True)
class Item:
    """A resource of one of the clouds.

    name: for people.
    stamp: the source's id that it carries; empty when none.
    owned: whether it is the tenant's, and not only used by it.
    not_expected: why it need not be at the destination: the operator left it out, or nothing is lost without it.
    temporary: whether a migration needed it for a while only.
    tolerated: whether it is nobody's business when the other side has none.
    """

    ref: Ref
    facts: Mapping[str, Any]
    identity: Hashable
    name: str = ""
    stamp: str = ""
    owned: bool = True
    not_expected: str = ""
    temporary: bool = False
    tolerated: bool = False


class Verdict(StrEnum):
    """What the comparison of one resource comes to."""

    EQUAL = "equal"
    NOTED = "noted"
    DIFFERENT = "different"
    MISSING = "missing"
    EXTRA = "extra"


@dataclass(frozen=True)
class Difference:
    """A field in which two twins are not the same; excused when a note says why that may be."""

    field: str
    source: Any
    destination: Any
    excuse: str = ""


@dataclass(frozen=True)
class Finding:
    """What was found of one resource."""

    verdict: Verdict
    kind: str
    name: str
    source_id: str | None = None
    destination_id: str | None = None
    told_by: str = ""
    compared: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    reason: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether the tenant did not arrive as it was because of it."""
        return self.verdict not in (Verdict.EQUAL, Verdict.NOTED)


@dataclass(frozen=True)
class Twins:
    """The map of ids: which destination resource each source resource became, and how that was told."""

    items: Mapping[Ref, Item]
    told_by: Mapping[Ref, str]
    mappings: Mapping[str, Mapping[str, str]]

    def translate(self, value: Any) -> Any:
        """A value of the source in the destination's terms: its ids, its names."""
        match value:
            case Ref():
                return self.items[value].ref if value in self.items else Missing(value)
            case Named():
                names = self.mappings.get(value.mapping, {})
                return Named(value.mapping, names.get(value.name, value.name), value.name)
            case tuple():
                return tuple(self.translate(part) for part in value)
            case frozenset():
                return frozenset(self.translate(part) for part in value)
            case dict():
                return {key: self.translate(part) for key, part in value.items()}
        return value


Items = Mapping[str, Sequence[Item]]


def references(value: Any) -> Iterator[Ref]:
    """All Refs in a value."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, tuple | frozenset | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from references(part)


def needed(items: Items) -> dict[str, list[Item]]:
    """What a tenant owns, and all that this refers to."""
    known = {item.ref: item for listed in items.values() for item in listed}
    kept: set[Ref] = set()
    found = [item for item in known.values() if item.owned]
    while found:
        kept |= {item.ref for item in found}
        further = {ref for item in found for ref in references((*item.facts.values(), item.identity))}
        found = [known[ref] for ref in further - kept if ref in known]
    return {kind: [item for item in listed if item.ref in kept] for kind, listed in items.items()}


def pair(
    kinds: Iterable[Kind],
    source: Items,
    destination: Items,
    mappings: Mapping[str, Mapping[str, str]],
    recorded: Mapping[Ref, str],
) -> Twins:
    """Find the twin of each source resource: by the recorded run, else by the stamp, else by its identity.

    kinds: in an order in which each comes after those that its identity refers to.
    """
    items: dict[Ref, Item] = {}
    told_by: dict[Ref, str] = {}
    twins = Twins(items, told_by, mappings)
    for kind in kinds:
        wanted, there = source.get(kind.name, ()), destination.get(kind.name, ())
        for how, find in ((BY_RUN, _recorded), (BY_STAMP, _stamped), (BY_IDENTITY, _identical)):
            taken = set() if kind.shared else {item.ref for item in items.values()}
            open_items = [item for item in wanted if item.ref not in items]
            free = [item for item in there if item.ref not in taken]
            for ref, twin in find(open_items, free, twins, recorded):
                items[ref], told_by[ref] = twin, how
    return twins


Pairs = Iterator[tuple[Ref, Item]]


def _recorded(wanted: Sequence[Item], there: Sequence[Item], _: Twins, recorded: Mapping[Ref, str]) -> Pairs:
    by_id = {item.ref.id: item for item in there}
    return ((item.ref, by_id[recorded[item.ref]]) for item in wanted if recorded.get(item.ref) in by_id)


def _stamped(wanted: Sequence[Item], there: Sequence[Item], *_: Any) -> Pairs:
    # None of several is more the twin than the others: the first is compared, the others are extra.
    by_stamp = {
        item.stamp: item
        for item in sorted(there, key=lambda item: item.ref, reverse=True)
        if item.stamp and not item.temporary
    }
    return ((item.ref, by_stamp[item.ref.id]) for item in wanted if item.ref.id in by_stamp)


def _identical(wanted: Sequence[Item], there: Sequence[Item], twins: Twins, *_: Any) -> Pairs:
    """Those whose identity nothing else has on either side; what carries another's stamp is another's."""
    mine = _by_identity((twins.translate(item.identity), item) for item in wanted)
    theirs = _by_identity((item.identity, item) for item in there if not item.stamp)
    for identity, items in mine.items():
        if len(items) == len(theirs.get(identity, ())) == 1:
            yield items[0].ref, theirs[identity][0]


def _by_identity(pairs: Iterable[tuple[Hashable, Item]]) -> dict[Hashable, list[Item]]:
    found: dict[Hashable, list[Item]] = {}
    for identity, item in pairs:
        if identity is not None:
            found.setdefault(identity, []).append(item)
    return found


def compare_items(
    kinds: Iterable[Kind], source: Items, destination: Items, twins: Twins, names: Mapping[Ref, str]
) -> list[Finding]:
    """All findings, kind by kind.

    names: those that the plan of a run gave at the destination.
    """
    findings: list[Finding] = []
    known = {item.ref: item for listed in source.values() for item in listed}
    matched = {item.ref for item in twins.items.values()}
    for kind in kinds:
        if not kind.fields:
            continue
        for item in source.get(kind.name, ()):
            findings.append(_finding(kind, item, twins, names, known))
        if not kind.shared:
            # A volume may be made of a snapshot; two of one resource are still one too many.
            others = {ref.id: ref for ref in known if ref.kind != kind.name}
            findings += _surplus(destination.get(kind.name, ()), matched, others)
    return findings


def _finding(
    kind: Kind, item: Item, twins: Twins, names: Mapping[Ref, str], known: Mapping[Ref, Item]
) -> Finding:
    twin = twins.items.get(item.ref)
    if twin is None:
        lost = [missing.ref for missing in _missing(twins.translate(item.identity))]
        excuse = item.not_expected or _not_expected(lost, known) or "a service makes it" * item.tolerated
        verdict = Verdict.NOTED if excuse else Verdict.MISSING
        reason = excuse or (_refers(lost) if lost else "not at the destination")
        return Finding(verdict, kind.name, item.name, item.ref.id, reason=reason)
    fields = kind.fields if item.owned or kind.shared else ()
    differences = tuple(found for f in fields if (found := _difference(f, item, twin, twins, known)))
    differences = tuple(_as_planned(found, item.ref, names, known) for found in differences)
    bad = any(not found.excuse for found in differences)
    verdict = Verdict.DIFFERENT if bad else Verdict.NOTED if differences else Verdict.EQUAL
    compared = tuple(f.name for f in fields)
    return Finding(
        verdict,
        kind.name,
        item.name,
        item.ref.id,
        twin.ref.id,
        twins.told_by[item.ref],
        compared,
        differences,
    )


def _refers(lost: Iterable[Ref]) -> str:
    return _REFERS.format(", ".join(map(str, lost)))


def _not_expected(lost: Sequence[Ref], known: Mapping[Ref, Item]) -> str:
    """Why nothing that is referred to need be there; empty when any of it has to."""
    reasons = [known[ref].not_expected if ref in known else "" for ref in lost]
    if not all(reasons):
        return ""
    return "; ".join(f"refers to {ref}: {reason}" for ref, reason in zip(lost, reasons, strict=True))


def _as_planned(
    found: Difference, ref: Ref, names: Mapping[Ref, str], known: Mapping[Ref, Item]
) -> Difference:
    """A difference, excused where it is but the name that the plan gives."""
    mine, actual = (
        value.name if isinstance(value, Named) else value for value in (found.source, found.destination)
    )
    if found.field == "name":
        is_planned = actual == names.get(ref)
    elif isinstance(found.source, Named):
        # A flavor that was deleted at the source has no address there but that of its server.
        is_planned = any(
            f"{other.kind}s" == found.source.mapping
            and name == actual
            and (other not in known or known[other].name == mine)
            for other, name in names.items()
        )
    else:
        return found
    return replace(found, excuse=_RENAMED) if is_planned else found


def _surplus(
    items: Iterable[Item], matched: Collection[Ref], sources: Mapping[str, Ref]
) -> Iterator[Finding]:
    """What the destination's tenant has besides: what was made of something that is gone, and other things."""
    for item in items:
        if not item.owned or item.tolerated or item.ref in matched:
            continue
        verdict, reason = Verdict.EXTRA, "not from the source"
        if item.stamp in sources:
            verdict, reason = Verdict.NOTED, f"made from {sources[item.stamp]}"
        elif item.stamp:
            reason = f"made from {item.stamp}, which is gone or has another twin"
        if item.not_expected:
            reason = f"{reason}; {item.not_expected}"
        yield Finding(verdict, item.ref.kind, item.name, item.stamp or None, item.ref.id, reason=reason)


def _difference(
    f: Field, item: Item, twin: Item, twins: Twins, known: Mapping[Ref, Item]
) -> Difference | None:
    mine, actual = item.facts[f.name], twin.facts[f.name]
    wanted = twins.translate(mine)
    if _same(wanted, actual):
        return None
    excuse = f.excuse(wanted, actual) or _untold(wanted, actual)
    lost = [m.ref for m in _missing(wanted) if m.ref in known and known[m.ref].not_expected]
    if not excuse and lost and _same(_without(wanted, lost), actual):
        excuse = _not_expected(lost, known)
    return Difference(f.name, *_apart(mine, wanted, actual, twins), excuse)


def _untold(wanted: Any, actual: Any) -> str:
    """What the services do not tell of the values; empty when they tell both."""
    if NOT_KNOWN in (wanted, actual):
        return "not known: the services do not tell it"
    if actual == ABSENT:
        return "the destination's service has no such field"
    return "the source's has not" if wanted == ABSENT else ""


def _apart(mine: Any, wanted: Any, actual: Any, twins: Twins) -> tuple[Any, Any]:
    """Each side's own value; of sets and mappings that in which they differ."""
    if isinstance(mine, frozenset) and isinstance(actual, frozenset):
        return frozenset(part for part in mine if twins.translate(part) not in actual), actual - wanted
    if isinstance(mine, dict) and isinstance(actual, dict):
        keys = {key for key in wanted.keys() | actual.keys() if wanted.get(key) != actual.get(key)}
        mine, actual = ({k: v for k, v in side.items() if k in keys} for side in (mine, actual))
    return mine, actual


def _same(wanted: Any, actual: Any) -> bool:
    """Nothing is nothing, however a service of some release says it; what is not known is never the same."""
    empty: tuple[Any, ...] = (None, "", (), frozenset(), {}, ABSENT)
    return NOT_KNOWN not in (wanted, actual) and bool(
        wanted == actual or (wanted in empty and actual in empty)
    )


def _missing(value: Any) -> Iterator[Missing]:
    if isinstance(value, Missing):
        yield value
    elif isinstance(value, tuple | frozenset | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _missing(part)


def _without(value: Any, lost: Collection[Ref]) -> Any:
    """The value without what refers to these; None where it is one of them."""
    if isinstance(value, Missing):
        return None if value.ref in lost else value
    if isinstance(value, frozenset):
        return frozenset(part for part in value if not {m.ref for m in _missing(part)} & set(lost))
    return value

"""Ways to read a field of a service's JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from pumphouse.model import Json, Ref
from pumphouse.verify.compare import ABSENT, Field, Item, Kind, Named

# What a migration leaves in what it made: the source's id of it. All else of its own is gone when it has ended.
STAMP = "pumphouse_source_id"
# What only what is needed for a while carries.
ATTEMPT = "pumphouse_attempt"
# And the attribute by which a run knows what it has made itself.
MARK = "pumphouse_mark"


def plain(*names: str) -> tuple[Field, ...]:
    """Fields whose value is compared as it is."""
    return tuple(Field(name, _get(name)) for name in names)


def renamed(name: str, key: str) -> Field:
    """A field that the service calls otherwise."""
    return Field(name, _get(key))


def unordered(name: str) -> Field:
    """A list whose order means nothing."""
    return Field(name, lambda raw: frozenset(raw.get(name) or ()))


def ordered(name: str) -> Field:
    """A list whose order is kept."""
    return Field(name, lambda raw: tuple(raw.get(name) or ()))


def reference(name: str, kind: str, key: str) -> Field:
    """The id of another resource."""
    return Field(name, lambda raw: ref(kind, raw.get(key)))


def mapped(name: str, mapping: str, key: str) -> Field:
    """A name that the configuration may map."""
    return Field(name, lambda raw: Named(mapping, raw[key]) if raw.get(key) else None)


def zones(name: str) -> Field:
    """The availability zones, or the one, in which something is to be."""

    def read(raw: Json) -> Any:
        found = raw.get(name)
        if isinstance(found, list):
            return frozenset(Named("availability_zones", zone) for zone in found)
        return Named("availability_zones", found) if found else None

    return Field(name, read, _kept_zones)


def _kept_zones(wanted: Any, actual: Any) -> str:
    """One mapping serves all services, and often only Nova has the zones that it names."""
    mine, theirs = (value if isinstance(value, frozenset) else {value} - {None} for value in (wanted, actual))
    kept = {zone.name for zone in theirs} <= {name for zone in mine for name in (zone.name, zone.unmapped)}
    return (
        "the mapping may be of zones of another service: it has kept its name"
        if kept and len(mine) == len(theirs)
        else ""
    )


def others(*known: str) -> Callable[[Json], Json]:
    """The fields that are not these: what a service lets people add under names of their own."""
    return lambda raw: {
        name: value for name, value in raw.items() if name not in (*known, STAMP, MARK) and value is not None
    }


def tags(raw: Json) -> frozenset[str]:
    """The tags that are no stamp."""
    return frozenset(tag for tag in raw.get("tags") or () if not tag.startswith(f"{STAMP}="))


def metadata(raw: Json, key: str = "metadata") -> Json:
    """The key-value pairs that are no stamp."""
    return {name: value for name, value in (raw.get(key) or {}).items() if name != STAMP}


def ref(kind: str, item_id: str | None) -> Ref | None:
    """The reference to a resource; None for none."""
    return Ref(kind, item_id) if item_id else None


def refs(kind: str, ids: Iterable[str]) -> frozenset[Ref]:
    """References to resources."""
    return frozenset(Ref(kind, item_id) for item_id in ids)


def own_stamp(stamp: str, own_id: str) -> str:
    """The source's id in a stamp, which names its bearer, too; empty where it was copied from another resource.

    Earlier releases wrote the source's id alone.
    """
    source_id, _, bearer = stamp.partition("/")
    return source_id if bearer in ("", own_id) else ""


def tag_stamp(raw: Json) -> str:
    """The source's id that an item's tags tell; empty when none does."""
    prefix = f"{STAMP}="
    found = [tag.removeprefix(prefix) for tag in raw.get("tags") or () if tag.startswith(prefix)]
    return found[0] if found else ""


def counted(name: str) -> Kind:
    """A kind of which no migration carries any: all of a tenant are one resource, so that hundreds are one line."""
    return Kind(name, plain("number"), lambda raw: "all")


def all_of(kind: Kind, tenant_id: str, names: Collection[str]) -> list[Item]:
    """That resource of a tenant; none where it has none."""
    return [kind.item({"number": len(names)}, tenant_id, name=", ".join(sorted(names)))] if names else []


def _get(key: str) -> Callable[[Json], Any]:
    return lambda raw: _frozen(raw.get(key, ABSENT))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(part) for part in value) if isinstance(value, list) else value

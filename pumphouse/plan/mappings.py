"""Whether the names in the configuration's mappings are there: those on the left at the source, the others where it goes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from pumphouse.config.schema import closest
from pumphouse.errors import ConfigError
from pumphouse.tasks import KINDS
from pumphouse.tasks.kind import Names

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

# What can be gone at the source while other tenants still have its name in their servers, or `finalize` has removed.
_OUTLIVED = ("flavors", "availability_zones", "users")


def check_mappings(
    source: Cloud, destination: Cloud, mappings: Mapping[str, Mapping[str, str]]
) -> tuple[str, ...]:
    """Notes on names on the left that nothing of the source has, of what may have gone from it since.

    A cloud whose login is not an administrator's is not asked: it shows a part of its names.
    Raises ConfigError with every other name that is nowhere, and what was probably meant.
    """
    problems: list[str] = []
    notes: list[str] = []
    for mapping, pairs in mappings.items():
        told = notes if mapping in _OUTLIVED else problems
        told += _unknown(source, mapping, pairs)
        problems += _unmapped(destination, mapping, pairs)
    if problems:
        raise ConfigError(
            problems, "correct the mapping; what is on the right side has to be made beforehand"
        )
    return tuple(notes)


def _there(cloud: Cloud, mapping: str, wanted: Collection[str]) -> Names | None:
    """What a mapping can name at a cloud, of all kinds that read it; None where that cannot be known."""
    kinds = [kind for kind in KINDS.values() if mapping in kind.mapped_names and not kind.absence(cloud)]
    if not (wanted and kinds and cloud.is_admin):
        return None
    found = [kind.mapped_names[mapping](cloud, set(wanted)) for kind in kinds]
    return Names({n for each in found for n in each.names}, {i for each in found for i in each.ids})


def _unknown(source: Cloud, mapping: str, pairs: Mapping[str, str]) -> list[str]:
    """What of the left side is not at the source."""
    there = _there(source, mapping, pairs)
    missing = [name for name in pairs if there and name not in there.names]
    return [f"mappings.{mapping}: the source has no {name!r}{_meant(name, there)}" for name in missing]


def _unmapped(destination: Cloud, mapping: str, pairs: Mapping[str, str]) -> list[str]:
    """What of the right side is not at the destination."""
    there = _there(destination, mapping, pairs.values())
    missing = [pair for pair in pairs.items() if there and pair[1] not in {*there.names, *there.ids}]
    return [
        f"mappings.{mapping}: {name!r} is mapped to {to!r}, which the destination does not have{_meant(to, there)}"
        for name, to in missing
    ]


def _meant(name: str, there: Names | None) -> str:
    meant = closest(name, there.names) if there else None
    return f": did you mean {meant!r}?" if meant else ""

"""What becomes of every field of a source's answers: the ledger of a kind, and what a plan says out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple


class Noted(NamedTuple):
    """Why a field is not carried, and with which values nobody loses anything by that.

    reason: what the plan says; `{name}` and `{value}` stand for the field and what it has.
    unless: the values that are not said; empty ones if no others are given.
    """

    reason: str
    unless: tuple[object, ...] = (None, "", False, [], {})


@dataclass(frozen=True)
class Fields:
    """What becomes of the fields of a kind, each once; names are separated by blanks.

    carried: they arrive as they are.
    mapped: they arrive as what stands for them at the destination, and what tells that, by field.
    derived: the destination makes them itself: ids, times, states, what follows from other fields.
    noted: they do not arrive, and why, by field: a plan says so where one is set.
    summary: what is to be said besides, where no field says it.

    A part of a field is written `fixed_ips/subnet_id`, also where the field is a list; `*` at the end of a name
    stands for whatever is not named itself. The sources are the API references and the histories of microversions of
    the services, and what they have answered in older releases.
    """

    carried: str = ""
    mapped: Mapping[str, str] = field(default_factory=dict)
    derived: str = ""
    noted: Mapping[str, str | Noted] = field(default_factory=dict)
    summary: str = ""

    def notes(self, answer: Mapping[str, Any]) -> tuple[str, ...]:
        """What a plan says of an answer: what is set in it and not carried."""
        found = [
            (name, noted, value)
            for name, noted, value in self._read(answer)
            if isinstance(noted, Noted) and value not in noted.unless
        ]
        said = (noted.reason.format(name=name, value=_text(value)) for name, noted, value in found)
        return tuple(dict.fromkeys(said))

    def unknown(self, answer: Mapping[str, Any]) -> set[str]:
        """The fields of an answer that are in none of the lists."""
        return {name for name, known, _ in self._read(answer) if not known}

    def _read(self, answer: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Noted | bool, Any]]:
        """Each field of an answer and each part of one, with the note on it, or whether it is known."""
        for name, value in answer.items():
            entry = self._entry(above, name)
            if entry not in self._wholes:
                yield f"{above}{name}", self._entries.get(entry, False), value
                continue
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, Mapping):
                    yield from self._read(part, f"{entry}/")

    def _entry(self, above: str, name: str) -> str:
        """How a field is written here: itself, or as one that ends with `*`."""
        entry = f"{above}{name}"
        if entry in self._entries or entry in self._wholes:
            return entry
        return next((f"{above}{e}*" for e in self._open.get(above, ()) if name.startswith(e)), entry)

    @cached_property
    def _entries(self) -> dict[str, Noted | bool]:
        plain = [*self.carried.split(), *self.mapped, *self.derived.split()]
        noted = {name: Noted(why) if isinstance(why, str) else why for name, why in self.noted.items()}
        return {**dict.fromkeys(plain, True), **noted}

    @cached_property
    def _wholes(self) -> frozenset[str]:
        """The fields whose parts are in the lists."""
        parts = [entry.split("/") for entry in self._entries]
        return frozenset("/".join(names[:n]) for names in parts for n in range(1, len(names)))

    @cached_property
    def _open(self) -> dict[str, list[str]]:
        """How the names begin that end with `*`, the longest first, by what they are parts of."""
        found: dict[str, list[str]] = {}
        for entry in sorted({*self._entries, *self._wholes}, key=len, reverse=True):
            if entry.endswith("*"):
                above, slash, name = entry.rpartition("/")
                found.setdefault(above + slash, []).append(name[:-1])
        return found


def parts(of: str, names: str) -> str:
    """The parts of a field as a list of fields has them."""
    return " ".join(f"{of}/{name}" for name in names.split())


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

"""What an undisturbed run leaves behind: every disturbed one has to leave the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.faults.commands import RECORDED, RESUME, REVERT, migrate
from tests.faults.driver import Operator
from tests.faults.proxy import Proxy
from tests.faults.world import World, shape
from tests.real.listing import Listing, changes

SIDES = ("source", "destination")
# What Nova and Neutron still do after they have answered.
SETTLE_S = 10.0


@dataclass(frozen=True)
class Reference:
    """Both clouds before a run and after one that nothing disturbed.

    operator: who ran it, and has undone it.
    destination: what it added there, without the ids; see `shape`.
    seconds: how long it took from its record to its end.
    """

    world: World
    operator: Operator
    before: dict[str, Listing]
    source: Listing
    destination: Sequence[str]
    seconds: float

    def assert_same(self) -> None:
        """Both clouds are as after the undisturbed run: nothing missing, nothing twice, nothing left over."""
        _settled(self._differences)

    def assert_untouched(self) -> None:
        """Both clouds are as before."""
        _settled(lambda: _all_changes(self.before, listings(self.world)))

    def _differences(self) -> list[str]:
        found = listings(self.world)
        source = [f"source: {line}" for line in _lines(self.source, found["source"])]
        before, after = self.before["destination"], found["destination"]
        changed = changes(before, after)
        added = shape(after, changed.pop("added"), self.source)
        lacking = [f"destination lacks: {line}" for line in _without(self.destination, added)]
        more = [f"destination has more: {line}" for line in _without(added, self.destination)]
        touched = [f"destination: {how} {key}" for how, keys in changed.items() for key in keys]
        return source + lacking + more + touched


def listings(world: World) -> dict[str, Listing]:
    """Both clouds."""
    with ThreadPoolExecutor(len(SIDES)) as pool:
        return dict(zip(SIDES, pool.map(world.listing, SIDES), strict=True))


def undisturbed(world: World, operator: Operator) -> Reference:
    """Run once, and undo it."""
    before = listings(world)
    command = operator.start(*migrate(world))
    command.says(RECORDED)
    start_s = time.monotonic()
    command.wait().expect(0)
    seconds = time.monotonic() - start_s
    after = listings(world)
    added = changes(before["destination"], after["destination"])["added"]
    made = shape(after["destination"], added, after["source"])
    reference = Reference(world, operator, before, after["source"], made, seconds)
    undo(operator, reference)
    return reference


def undo(operator: Operator, reference: Reference) -> None:
    """Undo the last run, and compare."""
    operator.run(*REVERT).expect(0)
    reference.assert_untouched()


def finish(operator: Operator, proxy: Proxy, reference: Reference) -> None:
    """Resume the last run without what hindered it, compare, undo it, compare."""
    proxy.rules = ()
    operator.run(*RESUME).expect(0)
    reference.assert_same()
    undo(operator, reference)


def _settled(differences: Callable[[], list[str]]) -> None:
    end_s = time.monotonic() + SETTLE_S
    while (found := differences()) and time.monotonic() < end_s:
        pass  # each look takes long enough
    assert not found, "\n".join(found)


def _all_changes(before: dict[str, Listing], after: dict[str, Listing]) -> list[str]:
    return [f"{side}: {line}" for side in SIDES for line in _lines(before[side], after[side])]


def _lines(before: Listing, after: Listing) -> list[str]:
    """What differs between two listings of a cloud; the fields, where something has changed."""
    found = changes(before, after)
    lines = [f"{how} {key}" for how in ("added", "removed") for key in found[how]]
    return lines + [f"{key}: {_fields(before[key], after[key])}" for key in found["changed"]]


def _fields(before: dict[str, object], after: dict[str, object]) -> str:
    names = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    return ", ".join(f"{name} {before.get(name)!r} -> {after.get(name)!r}" for name in sorted(names))


def _without(lines: Sequence[str], others: Sequence[str]) -> list[str]:
    """The lines that the others do not have as often."""
    left = list(others)
    return [line for line in lines if line not in left or left.remove(line)]  # type: ignore[func-returns-value]

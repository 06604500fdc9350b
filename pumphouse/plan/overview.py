"""What matters of a plan to whoever decides on it, told from the plan alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import chain

from pumphouse.model import Action, CopyFormat, Plan, Ref, Step, Unit

MIB = 1 << 20
# What is assumed of clouds that nobody has measured; README says so.
COPY_BYTES_PER_S = 50 * MIB
# How fast a cloud makes an image of a disk, or a disk of an image.
DISK_BYTES_PER_S = 100 * MIB
TASK_S = 1
# A server is shut down, and its twin boots.
BOOT_S = 120
# Units that copy bytes and are under way at once, per transfer slot: while one copies, another takes its snapshot.
UNITS_PER_TRANSFER = 2
_NEW_ADDRESS = re.compile(r"its (?:external )?address \S+ is not carried")
# Of which an operator wants to know first.
_FIRST = ("server", "volume", "image", "network")
_DISKS = ("server", "volume", "volume_snapshot")


@dataclass(frozen=True)
class Speed:
    """How fast the bytes of images go from cloud to cloud, all copies together, and how that is known."""

    bytes_per_s: float
    known: str


@dataclass(frozen=True)
class Estimate:
    """How long a run will take, and how long each server that it stops is down, at most; in seconds.

    least_bytes: what is copied in any case: images, and what travels as raw. How much was written of other disks, which
        is what is copied of them, no API tells.
    """

    duration_s: float
    downtimes_s: dict[Ref, float]
    speed: Speed
    least_bytes: int


@dataclass(frozen=True)
class Group:
    """Steps of which the same is to be said; `...` in the text stands for the name or the id of each."""

    steps: tuple[Step, ...]
    text: str


def kinds(plan: Plan) -> dict[Action, Counter[str]]:
    """How many resources of each kind there are of each decision: what matters most first, then what is most."""
    found = {action: Counter(s.ref.kind for s in plan.steps() if s.action is action) for action in Action}
    return {action: Counter(dict(sorted(count.items(), key=_weight))) for action, count in found.items()}


def _weight(kind_and_count: tuple[str, int]) -> tuple[int, int]:
    kind, count = kind_and_count
    return (_FIRST.index(kind) if kind in _FIRST else len(_FIRST)), -count


def stopped(plan: Plan) -> list[Step]:
    """The servers that a run stops at the source."""
    return [step for step in plan.steps() if step.does("stopped")]


def renamed(plan: Plan) -> list[Step]:
    """What gets another name at the destination."""
    return [step for step in _made(plan.steps()) if step.name != step.record.name]


def readdressed(plan: Plan) -> list[Step]:
    """What gets another public address at the destination."""
    return [step for step in _made(plan.steps()) if any(map(_NEW_ADDRESS.match, step.notes))]


def groups(said: Iterable[tuple[Step, str]]) -> list[Group]:
    """The texts with the steps that they are said of, those of the most steps first."""
    alike: dict[str, dict[str, list[Step]]] = {}
    for step, text in said:
        alike.setdefault(_without_name(step, text), {}).setdefault(text, []).append(step)
    made = [
        Group(tuple(chain.from_iterable(exact.values())), text if len(exact) > 1 else next(iter(exact)))
        for text, exact in alike.items()
    ]
    return sorted(made, key=lambda group: -len(group.steps))


def reasons(plan: Plan, action: Action) -> list[Group]:
    """Why resources are in conflict, or left out, in groups."""
    return groups((step, step.reason) for step in plan.steps() if step.action is action)


def notes(plan: Plan) -> list[Group]:
    """What else there is to say of single resources, in groups."""
    return groups((step, note) for step in plan.steps() for note in step.notes)


def speed_of(plan: Plan) -> Speed:
    """The speed to expect: what was measured, or is assumed, or less where the plan has a limit."""
    measured = plan.measured_bytes_per_s
    assumed = Speed(COPY_BYTES_PER_S, "assumed; pumphouse check --speed measures it")
    speed = Speed(measured, "measured") if measured else assumed
    limit = plan.cfg["limits"]["bytes_per_second"]
    return Speed(limit, "limits.bytes_per_second") if limit and limit < speed.bytes_per_s else speed


def estimate(plan: Plan) -> Estimate:
    """How long a run of the plan will take.

    Disks are as large as they may be. A server is down while its disks are made images of, copied and made disks of,
    beside the largest others that may be under way at the same time.
    """
    speed, limits = speed_of(plan), plan.cfg["limits"]
    at_once = UNITS_PER_TRANSFER * limits["transfers"]
    sizes = [unit.size_bytes for unit in plan.units if unit.size_bytes]
    disks = [_disk_bytes(unit) for unit in plan.units]
    copied_s = _copied_s(plan)
    down = {
        step.ref: BOOT_S + copied_s[unit.name]
        for unit in plan.units
        for step in unit.steps
        if step.does("stopped")
    }
    work_s = TASK_S * sum(len(step.tasks) for step in plan.steps()) / limits["workers"]
    copy_s = sum(sizes) / speed.bytes_per_s
    disk_s = 2 * sum(disks) / DISK_BYTES_PER_S / at_once + BOOT_S * len(down) / at_once
    duration_s = max(work_s + max(copy_s, disk_s), max(down.values(), default=0))
    least_bytes = sum(step.record.size_bytes for step in _made(plan.steps()) if _is_copied_whole(step))
    return Estimate(duration_s, down, speed, least_bytes)


def copy_formats(plan: Plan) -> dict[CopyFormat, list[Step]]:
    """What is copied in which format, where the plan has chosen that."""
    found: dict[CopyFormat, list[Step]] = {}
    for step in _made(plan.steps()):
        if step.record.copied_as and step.destination_id is None:
            found.setdefault(step.record.copied_as, []).append(step)
    return found


def _is_copied_whole(step: Step) -> bool:
    chosen = step.record.copied_as
    return step.ref.kind == "image" or bool(chosen and chosen.name == "raw")


def units_last_s(plan: Plan) -> dict[str, float]:
    """How long each unit takes from its begin to its end, at most, by its name."""
    copied_s = _copied_s(plan)
    return {
        unit.name: copied_s[unit.name]
        + TASK_S * sum(len(step.tasks) for step in unit.steps)
        + BOOT_S * any(step.ref.kind == "server" for step in _made(unit.steps))
        for unit in plan.units
    }


def _copied_s(plan: Plan) -> dict[str, float]:
    """How long the bytes of each unit take: its disks are made images of, copied and made disks of.

    That is beside the largest others that may be under way at the same time.
    """
    speed, at_once = speed_of(plan), UNITS_PER_TRANSFER * plan.cfg["limits"]["transfers"]
    largest = nlargest(at_once, (unit.size_bytes for unit in plan.units if unit.size_bytes))
    return {
        unit.name: 2 * _disk_bytes(unit) / DISK_BYTES_PER_S
        + _beside(unit.size_bytes, largest, at_once) / speed.bytes_per_s * bool(unit.size_bytes)
        for unit in plan.units
    }


def _beside(size_bytes: int, largest: Sequence[int], at_once: int) -> int:
    """The bytes of a unit and of the largest others that are copied at the same time."""
    others = list(largest)
    if size_bytes in others:
        others.remove(size_bytes)
    return size_bytes + sum(others[: at_once - 1])


def _disk_bytes(unit: Unit) -> int:
    return sum(step.record.size_bytes for step in _made(unit.steps) if step.ref.kind in _DISKS)


def _made(steps: Iterable[Step]) -> Iterator[Step]:
    return (step for step in steps if step.action is Action.CREATE)


def _without_name(step: Step, text: str) -> str:
    """A text without what is only of one resource: its name, and the ids of it and of its twin."""
    own = "|".join(map(re.escape, filter(None, (step.record.name, step.ref.id))))
    return re.sub(rf"(?<!\w)(?:{own})(?!\w)|\([0-9a-f-]{{32,36}}\)", "...", text)

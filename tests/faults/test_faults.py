"""A tenth of all calls fails, in all the ways in which calls fail: what a run leaves is the same in the end."""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab import Lab
from tests.conftest import Seen
from tests.faults.commands import RECORDED, RESUME, REVERT, migrate
from tests.faults.driver import LONG_S, Nursery, Operator
from tests.faults.proxy import Proxy, running
from tests.faults.reference import Reference, undisturbed
from tests.faults.rules import one_in_ten
from tests.faults.world import World, make_world

SEEDS = 20
# As many tenants are moved at once: a run waits more than it works.
AT_ONCE = 3
# Done, failed, finished in part, no connection: see pumphouse --help.
CLEAR = (0, 1, 3, 4)
# Chance may give less than a tenth.
HARMED_PART_MIN = 0.04


@pytest.mark.timeout(LONG_S)
def test_a_tenth_of_all_calls_fails(
    lab: Lab, nursery: Nursery, reference: Reference, tmp_path: Path, seen: Seen
) -> None:
    seeds: queue.SimpleQueue[int] = queue.SimpleQueue()
    for seed in range(SEEDS):
        seeds.put(seed)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        mistakes = pool.map(
            lambda number: _work(lab, nursery, tmp_path / str(number), seeds, seen), range(AT_ONCE)
        )
        found = [mistake for each in mistakes for mistake in each]
    assert not found, "\n\n".join(found)
    reference.assert_untouched()


def _work(lab: Lab, nursery: Nursery, folder: Path, seeds: queue.SimpleQueue[int], seen: Seen) -> list[str]:
    """Move a tenant of its own with seed after seed; returns what went wrong with which."""
    world = make_world(lab, alone=False)
    try:
        with running(lab) as proxy:
            reference = undisturbed(world, Operator(nursery, lab, folder / "undisturbed", proxy.environment))
            mistakes = []
            for seed in _taken(seeds):
                proxy.forget()
                operator = Operator(nursery, lab, folder / str(seed), proxy.environment)
                try:
                    seen(_move(world, operator, proxy, reference, seed))
                except AssertionError as error:
                    mistakes.append(f"seed {seed}: {error}")
                    world.clean()
            return mistakes
    finally:
        world.remove()


def _taken(seeds: queue.SimpleQueue[int]) -> Iterator[int]:
    while True:
        try:
            yield seeds.get_nowait()
        except queue.Empty:
            return


def _move(world: World, operator: Operator, proxy: Proxy, reference: Reference, seed: int) -> str:
    """Migrate and resume with faults, resume without, compare, undo, compare; returns what it was like."""
    start_s = time.monotonic()
    proxy.rules = one_in_ten(seed)
    codes = [operator.run(*migrate(world)).expect(*CLEAR).code]
    if "no runs" in operator.run("runs", "list").expect(0).stdout:
        # It did not get beyond the plan, which one failed read ends. So it is spared until it has one.
        proxy.rules = ()
        command = operator.start(*migrate(world))
        command.says(RECORDED)
        proxy.rules = one_in_ten(seed)
        codes.append(command.wait().expect(*CLEAR).code)
    codes.append(operator.run(*RESUME).expect(*CLEAR).code)
    harmed = Counter(exchange.action for exchange in proxy.exchanges if exchange.action)
    calls = len(proxy.exchanges)
    proxy.rules = ()
    operator.run(*RESUME).expect(0)
    reference.assert_same()
    operator.run(*REVERT).expect(0)
    reference.assert_untouched()
    ways = ", ".join(f"{count} {way}" for way, count in sorted(harmed.items()))
    took_s = time.monotonic() - start_s
    assert harmed.total() >= HARMED_PART_MIN * calls
    return f"seed {seed}: exits {codes}, {harmed.total()} of {calls} calls harmed ({ways}), {took_s:.0f} s"

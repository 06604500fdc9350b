"""A tenth of all calls fails, in all the ways in which calls fail: what a run leaves is the same in the end."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.conftest import Seen
from tests.faults.commands import RECORDED, RESUME, REVERT, migrate
from tests.faults.driver import LONG_S, Operator
from tests.faults.proxy import Proxy
from tests.faults.reference import Reference, finish
from tests.faults.rules import ShortTokens, one_in_ten
from tests.faults.world import World

SEEDS = 20
# The seeds of a run that is not exhaustive.
FEW = 2
# Done, failed, finished in part, no connection: see pumphouse --help.
CLEAR = (0, 1, 3, 4)
# Chance may give less than a tenth.
HARMED_PART_MIN = 0.04
# A copy or a boot takes longer, as one may take longer than a real token lasts.
TOKEN_LIFE_S = 1.5


@pytest.mark.timeout(LONG_S)
@pytest.mark.parametrize(
    "seed", [*range(FEW), *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(FEW, SEEDS))]
)
def test_a_tenth_of_all_calls_fails(
    world: World, operator: Operator, proxy: Proxy, reference: Reference, seen: Seen, seed: int
) -> None:
    """Migrate and resume with faults, resume without, compare, undo, compare."""
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
    finish(operator, proxy, reference)
    ways = ", ".join(f"{count} {way}" for way, count in sorted(harmed.items()))
    took_s = time.monotonic() - start_s
    seen(f"exits {codes}, {harmed.total()} of {calls} calls harmed ({ways}), {took_s:.0f} s")
    assert harmed.total() >= HARMED_PART_MIN * calls


def test_tokens_that_end_all_the_time_are_not_noticed(
    world: World, operator: Operator, proxy: Proxy, reference: Reference, seen: Seen
) -> None:
    short = ShortTokens(TOKEN_LIFE_S)
    proxy.rules = [short]
    operator.run(*migrate(world)).expect(0)
    reference.assert_same()
    operator.run("verify", "tenant", world.name, "--deep").expect(0)
    operator.run(*REVERT).expect(0)
    reference.assert_untouched()
    seen(f"{short.tokens} tokens ended, {short.harmed} requests refused")
    assert short.harmed >= short.tokens / 2 > 5

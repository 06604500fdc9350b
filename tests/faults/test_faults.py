"""A tenth of all calls fails, in all the ways in which calls fail: what a run leaves is the same in the end."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.faults.commands import RECORDED, RESUME, REVERT, migrate
from tests.faults.driver import Operator
from tests.faults.proxy import Proxy
from tests.faults.reference import Reference
from tests.faults.rules import one_in_ten
from tests.faults.world import World

SEEDS = 20
# Done, failed, finished in part, no connection: see pumphouse --help.
CLEAR = (0, 1, 3, 4)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_tenth_of_all_calls_fails(
    world: World, operator: Operator, proxy: Proxy, reference: Reference, seed: int
) -> None:
    start_s = time.monotonic()
    proxy.rules = one_in_ten(seed)
    codes = [operator.run(*migrate(world)).expect(*CLEAR).code]
    if "Run " not in operator.run("runs", "list").expect(0).stdout:
        # It did not get beyond the plan: this one is spared until it has one.
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
    took_s = time.monotonic() - start_s
    print(
        f"seed {seed}: exit codes {codes}, {harmed.total()} of {calls} calls failed, {took_s:.0f} s; {harmed}"
    )
    assert harmed.total() >= 10

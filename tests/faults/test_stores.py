"""The same run is killed and goes on from every kind of state store, and back."""

from __future__ import annotations

import random

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from pumphouse.errors import EXIT_LOCKED
from tests.faults.commands import RESUME
from tests.faults.driver import Ended, Operator
from tests.faults.moments import killed_at_random
from tests.faults.reference import Reference, undo
from tests.faults.world import World
from tests.stores.conftest import installed, servers, url

__all__ = ["installed", "servers", "url"]

# Without clouds, tests/stores does the same.
pytestmark = pytest.mark.exhaustive

# ZooKeeper keeps what a dead process has locked until its session ends.
SESSION_S = 60


def resumed(operator: Operator) -> Ended:
    """The run, gone on with as soon as nobody has its lock any more."""
    retrying = Retrying(
        retry=retry_if_result(lambda ended: ended.code == EXIT_LOCKED),
        stop=stop_after_delay(SESSION_S),
        wait=wait_fixed(0.5),
        retry_error_callback=lambda state: state.outcome.result(),
    )
    ended: Ended = retrying(operator.run, *RESUME)
    return ended


def test_a_killed_run_goes_on_and_back(
    world: World, operator: Operator, reference: Reference, url: str
) -> None:
    operator.configure(state_url=url)
    killed_at_random(random.Random(0), world, operator, reference)
    resumed(operator).expect(0)
    reference.assert_same()
    undo(operator, reference)

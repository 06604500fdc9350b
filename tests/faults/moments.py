"""Moments to die at."""

from __future__ import annotations

import random
import threading

from tests.faults.commands import REVERT, STARTED, migrate
from tests.faults.driver import KILLED, Command, Ended, Operator
from tests.faults.reference import Reference
from tests.faults.world import World


def killed_after(delay_s: float, command: Command) -> Ended:
    """Kill a run a while after it has started, or gone on, unless it has ended by then."""
    command.says(STARTED)
    threading.Event().wait(delay_s)
    command.signal()
    return command.wait()


def killed_at_random(chance: random.Random, world: World, operator: Operator, reference: Reference) -> str:
    """Kill a run at a random moment of it, and say which; one that was done by then is undone and tried again."""
    delay_s = chance.uniform(0, 0.9 * reference.seconds)
    while (ended := killed_after(delay_s, operator.start(*migrate(world)))).code != KILLED:
        ended.expect(0)
        operator.run(*REVERT).expect(0)
        delay_s *= 0.8
    return f"killed {delay_s:.2f} s into a run of {reference.seconds:.1f} s"

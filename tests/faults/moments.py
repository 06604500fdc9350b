"""Moments to die at."""

from __future__ import annotations

import random
import threading

from tests.faults.commands import RECORDED, REVERT, migrate
from tests.faults.driver import KILLED, Operator
from tests.faults.reference import Reference
from tests.faults.world import World


def killed_at_random(chance: random.Random, world: World, operator: Operator, reference: Reference) -> str:
    """Kill a run at a random moment of it, and say which; one that was done by then is undone and tried again."""
    delay_s = chance.uniform(0, 0.9 * reference.seconds)
    while True:
        command = operator.start(*migrate(world))
        command.says(RECORDED)
        threading.Event().wait(delay_s)
        command.signal()
        ended = command.wait()
        if ended.code == KILLED:
            return f"killed {delay_s:.2f} s into a run of {reference.seconds:.1f} s"
        ended.expect(0)
        operator.run(*REVERT).expect(0)
        delay_s *= 0.8

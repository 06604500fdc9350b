"""Ctrl-C and SIGTERM: the first lets finish what runs, the second ends at once; both can be resumed."""

from __future__ import annotations

import re
import signal
import time

import pytest

from tests.conftest import Seen
from tests.faults.commands import RECORDED, SHOW, migrate
from tests.faults.driver import Command, Operator
from tests.faults.proxy import Proxy
from tests.faults.reference import Reference, finish
from tests.faults.rules import IMAGE_BYTES, Hold, Rule, Trickle
from tests.faults.world import World

INTERRUPTED = 130
IMAGES = r"/v2/images$"
SIGNALS = [pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive), signal.SIGTERM]


def held(operator: Operator, world: World, proxy: Proxy, hold: Hold) -> tuple[Command, str]:
    """A run that waits for the answer to a call, which unlike a copy is not broken off, and its id."""
    proxy.rules = [Rule([hold], method="POST", path=IMAGES, count=1)]
    command = operator.start(*migrate(world))
    run = command.says(RECORDED)[1]
    assert command.reaches(hold.reached)
    return command, run


# With one worker, much is queued that TaskFlow believes to be running.
@pytest.mark.parametrize(
    ("number", "workers"),
    [(signal.SIGINT, 1), pytest.param(signal.SIGTERM, 16, marks=pytest.mark.exhaustive)],
)
def test_the_first_lets_finish_what_runs(
    world: World, operator: Operator, proxy: Proxy, reference: Reference, number: int, workers: int
) -> None:
    operator.configure(workers=workers)
    hold = Hold("after")
    command, run = held(operator, world, proxy, hold)
    command.signal(number)
    command.says(f"stopping: waiting for 1 task;.* Go on with pumphouse resume {run}")
    hold.go_on.set()
    ended = command.wait().expect(INTERRUPTED)
    assert f"pumphouse resume {run}" in ended.stderr
    (made,) = (e for e in proxy.exchanges if e.request.method == "POST" and re.search(IMAGES, e.request.path))
    assert made.status == 201
    assert operator.run("runs", "list", "-f", "json").expect(0).json[0]["state"] == "SUSPENDED"
    finish(operator, proxy, reference)


def test_a_copy_is_broken_off_and_begins_again(
    world: World, operator: Operator, proxy: Proxy, reference: Reference, seen: Seen
) -> None:
    slow = Trickle()  # 2 MiB take half a minute
    # The plan reads the first bytes of the one image.
    of_copy = {"service": "source/glance", "method": "GET", "path": IMAGE_BYTES, "skip": 1, "count": 1}
    proxy.rules = [Rule([slow], **of_copy)]
    command = operator.start(*migrate(world))
    assert command.reaches(slow.reached)
    command.signal(signal.SIGINT)
    start_s = time.monotonic()
    command.wait().expect(INTERRUPTED)
    took_s = time.monotonic() - start_s
    seen(f"ended {took_s:.1f} s after the signal")
    assert took_s < 20
    resources = operator.run(*SHOW).expect(0).json["resources"]
    assert {item["outcome"] for item in resources} <= {"created", "reused", "pending", "skipped"}
    assert operator.run("runs", "list", "-f", "json").expect(0).json[0]["state"] == "SUSPENDED"
    finish(operator, proxy, reference)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_ends_at_once(
    world: World, operator: Operator, proxy: Proxy, reference: Reference, seen: Seen, number: int
) -> None:
    hold = Hold("after")
    command, run = held(operator, world, proxy, hold)
    command.signal(number)
    command.says("stopping: ")
    start_s = time.monotonic()
    command.signal(number)
    ended = command.wait().expect(INTERRUPTED)
    took_s = time.monotonic() - start_s
    hold.go_on.set()
    seen(f"ended {took_s:.2f} s after the second signal")
    assert f"stopped at once: go on with pumphouse resume {run}" in ended.stderr
    finish(operator, proxy, reference)

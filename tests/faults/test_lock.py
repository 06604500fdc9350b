"""One run of a tenant at a time, as long as its process lives."""

from __future__ import annotations

import socket

from tests.faults.commands import RECORDED, RESUME, REVERT, SHOW, migrate
from tests.faults.driver import KILLED, Operator
from tests.faults.proxy import Proxy
from tests.faults.reference import Reference, undo
from tests.faults.rules import IMAGE_BYTES, Hold, Rule
from tests.faults.world import World

LOCKED = 7


def test_the_second_is_refused_and_the_first_one_s_death_frees_it(
    world: World, operator: Operator, proxy: Proxy, reference: Reference
) -> None:
    hold = Hold("upload")
    proxy.rules = [Rule([hold], method="PUT", path=IMAGE_BYTES, count=1)]
    command = operator.start(*migrate(world))
    run = command.says(RECORDED)[1]
    assert command.reaches(hold.reached)

    for arguments in (migrate(world), RESUME, REVERT):
        said = operator.run(*arguments).expect(LOCKED).stderr
        assert all(part in said for part in (run, str(command.pid), socket.gethostname())), said
    (listed,) = operator.run("runs", "list", "-f", "json").expect(0).json
    assert (listed["run"], listed["state"]) == (run, "RUNNING")
    shown = operator.run(*SHOW).expect(0).json
    states = {task["state"] for unit in shown["units"] for task in unit["tasks"]}
    assert {"SUCCESS", "RUNNING"} <= states
    assert run in operator.run("runs", "show", run).expect(0).stdout

    command.signal()
    hold.go_on.set()
    assert command.wait().code == KILLED
    (listed,) = operator.run("runs", "list", "-f", "json").expect(0).json
    assert listed["state"] == "INTERRUPTED"
    operator.run(*RESUME).expect(0)
    reference.assert_same()
    undo(operator, reference)

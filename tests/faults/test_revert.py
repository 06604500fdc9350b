"""The way back: both clouds are what they were, whatever the run came to."""

from __future__ import annotations

import random
import time

import pytest

from lab.sample.base import connect, get, post, until
from tests.conftest import Seen
from tests.faults.commands import RESUME, REVERT, migrate
from tests.faults.driver import KILLED, LONG_S, Operator
from tests.faults.moments import killed_at_random
from tests.faults.proxy import Proxy
from tests.faults.reference import Reference, undo
from tests.faults.rules import Answer, Rule
from tests.faults.world import World

RANDOM_MOMENTS = 3
HUMAN_S = 4.0
NO_SERVER = Rule([Answer(403)], service="destination/nova", method="POST", path="/servers$")


def test_after_success_and_then_there_is_nothing_to_undo_or_go_on_with(reference: Reference) -> None:
    """The undisturbed run has been undone, and what was then there compared."""
    operator = reference.operator
    assert "nothing to undo" in operator.run(*REVERT).expect(0).stdout
    assert "error: " in operator.run(*RESUME).expect(1, 2).stderr
    reference.assert_untouched()


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, RANDOM_MOMENTS))]
)
def test_after_a_kill_at_a_random_moment(
    world: World, operator: Operator, reference: Reference, seen: Seen, seed: int
) -> None:
    seen(killed_at_random(random.Random(f"revert {seed}"), world, operator, reference))
    undo(operator, reference)


@pytest.mark.parametrize("on_failure", [pytest.param("revert", marks=pytest.mark.exhaustive), "keep"])
def test_after_a_late_failure(
    world: World, operator: Operator, proxy: Proxy, reference: Reference, on_failure: str
) -> None:
    operator.configure(on_failure=on_failure)
    proxy.rules = [NO_SERVER]
    operator.run(*migrate(world)).expect(3)
    undo(operator, reference)


@pytest.mark.exhaustive
@pytest.mark.timeout(LONG_S)
def test_killed_after_every_transition_of_its_own(
    world: World, operator: Operator, reference: Reference, seen: Seen
) -> None:
    operator.run(*migrate(world)).expect(0)
    ended, points = operator.run(*REVERT, transitions=1), 0
    while ended.code == KILLED:
        points += 1
        ended = operator.run(*REVERT, transitions=1)
    ended.expect(0)
    reference.assert_untouched()
    seen(f"killed after each of {points} task transitions of the revert")
    assert points >= 40


def test_it_goes_on_where_it_is_refused_says_so_and_can_be_run_again(
    world: World, operator: Operator, proxy: Proxy, reference: Reference
) -> None:
    operator.run(*migrate(world)).expect(0)
    proxy.rules = [Rule([Answer(403)], method="DELETE", path="/v2.0/networks/|/v3/users/")]
    ended = operator.run(*REVERT).expect(3)
    said = ended.stdout + ended.stderr
    assert "403" in said
    assert "network front" in said
    left = {key.split("/")[0] for key in added(world, reference)}
    assert {"networks", "users"} <= left
    assert not {"servers", "images", "routers", "keypairs"} & left
    proxy.rules = ()
    undo(operator, reference)


def test_a_server_that_was_rebuilt_since_is_kept_unless_it_is_forced(
    world: World, operator: Operator, reference: Reference
) -> None:
    operator.run(*migrate(world)).expect(0)
    end_s = time.monotonic()
    connection = connect(world.lab.clouds_yaml, "destination")
    (server_id,) = (key.partition("/")[2] for key in added(world, reference) if key.startswith("servers/"))
    (image_id,) = (key.partition("/")[2] for key in added(world, reference) if key.startswith("images/"))
    # Nobody rebuilds at once, and clocks are not exact.
    until(lambda: time.monotonic() > end_s + HUMAN_S, "a person has looked at it")
    post(connection.compute, f"/servers/{server_id}/action", rebuild={"imageRef": image_id})

    def rebuilt() -> bool:
        server = get(connection.compute, f"/servers/{server_id}")["server"]
        return bool(server["status"] == "ACTIVE" and server["image"]["id"] == image_id)

    until(rebuilt, "the server rebuilt")
    ended = operator.run(*REVERT).expect(3)
    said = ended.stdout + ended.stderr
    assert "server web has changed since" in said
    left = added(world, reference)
    assert f"servers/{server_id}" in left
    assert any(key.startswith("networks/") for key in left)
    operator.run(*REVERT, "--force").expect(0)
    reference.assert_untouched()


def added(world: World, reference: Reference) -> set[str]:
    """What is at the destination now and was not there before."""
    return world.listing("destination").keys() - reference.before["destination"].keys()

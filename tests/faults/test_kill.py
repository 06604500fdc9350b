"""A run is killed at every point there is, goes on, and leaves what an undisturbed one leaves."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from lab.sample.base import connect
from tests.conftest import Seen
from tests.faults.commands import RESUME, REVERT, migrate
from tests.faults.driver import KILLED, LONG_S, Operator
from tests.faults.moments import killed_after
from tests.faults.proxy import Proxy
from tests.faults.reference import Reference, undo
from tests.faults.rules import IMAGE_BYTES, Hold, Rule
from tests.faults.world import World
from tests.real.listing import listing

KILL_POINTS_MIN = 60
RANDOM_MOMENTS = 10
# Where a request is stopped, and which, so that the kill comes in the middle of what is named.
MOMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "first image's bytes": ("upload", {"method": "PUT", "path": IMAGE_BYTES}),
    "second image's bytes": ("upload", {"method": "PUT", "path": IMAGE_BYTES, "skip": 1}),
    "snapshot": ("after", {"service": "source/nova", "method": "POST", "body": "createImage"}),
    "boot": ("after", {"service": "destination/nova", "method": "POST", "path": "/servers$"}),
}
WRITE = "POST|PUT|PATCH|DELETE"
NO_LOGIN = r"(?<!/auth/tokens)$"


class Uploads:
    """Which bytes were copied before they had to be: after their upload was recorded as done."""

    def __init__(self, world: World, proxy: Proxy, transitions: Path) -> None:
        (self._image_id,) = (
            key.partition("/")[2]
            for key, image in listing(world.lab.clouds_yaml, "source").items()
            if key.startswith("images/") and image["owner"] == world.tenant_id
        )
        self._proxy, self._transitions = proxy, transitions
        self._finished: dict[str, int] = {}

    def look(self) -> int:
        """Compare what was copied so far; returns how many uploads are recorded as done."""
        log = self._transitions.read_text()
        for task in re.findall(r"(\S+-uploaded) EXECUTE SUCCESS", log):
            copied = self._copied(image=task.startswith("image-"))
            assert self._finished.setdefault(task, copied) == copied, f"{task} was done and copied again"
        return len(self._finished)

    def _copied(self, *, image: bool) -> int:
        """The bytes read of the source's image, or else of the server's snapshots."""
        mine = f"source/{self._image_id}"
        return sum(size for key, size in self._proxy.downloaded.items() if (key == mine) == image)


@pytest.mark.timeout(LONG_S)
def test_after_every_task_transition(
    world: World, operator: Operator, proxy: Proxy, reference: Reference, seen: Seen
) -> None:
    uploads = Uploads(world, proxy, operator.transitions)
    ended, points = operator.run(*migrate(world), transitions=1), 0
    while ended.code == KILLED:
        points += 1
        uploads.look()
        ended = operator.run(*RESUME, transitions=1)
    ended.expect(0)
    reference.assert_same()
    done = uploads.look()
    seen(f"killed after each of {points} task transitions, {done} images copied once")
    assert points >= KILL_POINTS_MIN
    assert done == 2
    undo(operator, reference)


@pytest.mark.exhaustive
@pytest.mark.timeout(LONG_S)
def test_with_the_answer_to_every_write(
    world: World, operator: Operator, proxy: Proxy, reference: Reference, seen: Seen
) -> None:
    """The service has done it, and nobody knows: each kind of write once."""
    shapes: set[str] = set()
    arguments = migrate(world)
    while True:
        hold = Hold("after")
        proxy.rules = [Rule([hold], method=WRITE, path=NO_LOGIN, once=shapes, count=1)]
        command = operator.start(*arguments)
        if not command.reaches(hold.reached):
            break
        command.signal()
        hold.go_on.set()
        assert command.wait().code == KILLED
        arguments = RESUME
    command.wait().expect(0)
    proxy.rules = ()
    reference.assert_same()
    seen(f"killed with the answer to each of {len(shapes)} kinds of writes under way")
    assert len(shapes) >= 20
    undo(operator, reference)


@pytest.mark.parametrize(
    ("moment", "way_out"),
    [
        ("snapshot", "resume"),
        ("boot", "resume"),
        pytest.param("first image's bytes", "resume", marks=pytest.mark.exhaustive),
        pytest.param("second image's bytes", "resume", marks=pytest.mark.exhaustive),
        *(pytest.param(moment, "revert", marks=pytest.mark.exhaustive) for moment in MOMENTS),
    ],
)
def test_in_the_middle_of(
    world: World,
    operator: Operator,
    proxy: Proxy,
    reference: Reference,
    seen: Seen,
    moment: str,
    way_out: str,
) -> None:
    """Killed in the middle of something, the run goes on, or is undone as it is."""
    hold = killed_in(moment, world, operator, proxy)
    seen(f"killed in the middle of {moment}: {under_way(world, moment)}")
    hold.go_on.set()
    operator.run(way_out, "last", "--yes").expect(0)
    if way_out == "resume":
        reference.assert_same()
        operator.run(*REVERT).expect(0)
    reference.assert_untouched()


def killed_in(moment: str, world: World, operator: Operator, proxy: Proxy) -> Hold:
    """Kill a new run while a request is held; returns the hold on it."""
    where, what = MOMENTS[moment]
    hold = Hold(where)
    proxy.rules = [Rule([hold], count=1, **what)]
    command = operator.start(*migrate(world))
    assert command.reaches(hold.reached)
    command.signal()
    assert command.wait().code == KILLED
    return hold


def under_way(world: World, moment: str) -> str:
    """What the cloud says of that which the process died in; it must not be done."""
    source, destination = (connect(world.lab.clouds_yaml, cloud) for cloud in ("source", "destination"))
    if moment == "boot":
        servers = destination.compute.servers(all_projects=True, name="web")
        found = [f"server {server.status}" for server in servers]
        assert found == ["server BUILD"]
    elif moment == "snapshot":
        found = [f"image {image.status}" for image in source.image.images() if image.name == "pumphouse-web"]
        assert found in (["image queued"], ["image saving"])
    else:
        found = [f"image {image.status}" for image in destination.image.images()]
        assert {"image queued", "image saving"} & set(found)
    return ", ".join(found)


@pytest.mark.timeout(LONG_S)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_at_random_moments(
    world: World, operator: Operator, reference: Reference, seen: Seen, seed: int
) -> None:
    """Killed again and again until it lives long enough to end; then anew, until it was killed often enough."""
    chance, kills_s, runs = random.Random(seed), [], 0
    while len(kills_s) < RANDOM_MOMENTS:
        arguments, runs = migrate(world), runs + 1
        while True:
            delay_s = chance.uniform(0, reference.seconds / 4)
            ended = killed_after(delay_s, operator.start(*arguments))
            if ended.code != KILLED:
                break
            kills_s.append(delay_s)
            arguments = RESUME
        ended.expect(0)
        reference.assert_same()
        undo(operator, reference)
    moments = " ".join(f"{delay_s:.1f}" for delay_s in kills_s)
    seen(f"killed {len(kills_s)} times in {runs} runs, after s: {moments}")

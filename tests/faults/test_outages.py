"""A service of a cloud is away for seconds, as it may be for minutes: nothing fails, nothing is undone."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from tests.conftest import Seen
from tests.faults.commands import RESUME, REVERT, SHOW, migrate
from tests.faults.driver import LONG_S, Ended, Operator
from tests.faults.proxy import Proxy
from tests.faults.reference import Reference, finish
from tests.faults.rules import IMAGE_BYTES, Action, Answer, CutBefore, Hang, Outage, Rule, Truncate
from tests.faults.world import World

SERVICES = ("keystone", "glance", "nova", "neutron", "cinder")
WAYS: dict[str, Callable[[float], Action]] = {
    "503": lambda left_s: Answer(503),
    "cut": lambda left_s: CutBefore(),
    "hang": Hang,
}
# Long enough to be said, see pumphouse.cloud.outage.QUIET_S.
AWAY_S = 7.0
# The requests of a migration at which a service goes away, besides its own first one.
MOMENTS = {
    "project": Rule([Action()], service="destination/keystone", method="POST", path="/v3/projects$"),
    "stop": Rule([Action()], service="source/nova", path="/action$", body="os-stop"),
    "snapshot": Rule([Action()], service="source/nova", path="/action$", body="createImage"),
    "upload": Rule([Action()], service="destination/glance", method="PUT", path=IMAGE_BYTES),
    "boot": Rule([Action()], service="destination/nova", method="POST", path="/servers$"),
}
SAID = (
    r"note: (the [a-z-]+ service of the (?:source|destination)) (does not answer since|answers again, after)"
)


def away(service: str, way: str, moment: str = "first", seconds: float = AWAY_S) -> Outage:
    """An outage from a moment on; the first login of a command is let through, for nobody waits for that."""
    own = Rule([Action()], service=service, skip=3 if service.endswith("keystone") else 0)
    rule = MOMENTS.get(moment, own)
    begins = Rule(rule.actions, rule.method, rule.path, rule.service, rule.body, rule.skip)
    return Outage(service, WAYS[way], seconds, begins)


def run(operator: Operator, proxy: Proxy, outage: Outage, *command: str) -> Ended:
    """Run a command in an outage; each service that is said to be away is said once, and once to be back."""
    # The plan reads the first bytes of the one image.
    proxy.rules = [outage, Rule([Truncate()], method="GET", path=IMAGE_BYTES, skip=1, count=1)]
    ended = operator.run(*command).expect(0)
    proxy.rules = ()
    said = [found.groups() for found in re.finditer(SAID, ended.stderr)]
    services = {service for service, _ in said}
    assert sorted(said) == sorted(product(services, ("does not answer since", "answers again, after")))
    return ended


def cases() -> list[Any]:
    """Each service of each side in each way, each at a moment of the migration; one in plain tox."""
    chance = random.Random("outages")
    few = {("destination", "nova", "cut"): "boot"}
    found = []
    for side, service, way in product(("source", "destination"), SERVICES, WAYS):
        moment = few.get((side, service, way))
        marks = () if moment else pytest.mark.exhaustive
        moment = moment or chance.choice([*MOMENTS, "first"])
        found.append(pytest.param(f"{side}/{service}", way, moment, marks=marks))
    return found


@pytest.mark.timeout(LONG_S)
@pytest.mark.parametrize(("service", "way", "moment"), cases())
def test_a_service_that_is_away_for_a_while_changes_nothing(
    world: World,
    operator: Operator,
    proxy: Proxy,
    reference: Reference,
    seen: Seen,
    service: str,
    way: str,
    moment: str,
) -> None:
    outages = [away(service, way), away(service, way, moment), away(service, way), away(service, way)]
    commands = [
        ("plan", "tenant", world.name),
        migrate(world),
        ("verify", "tenant", world.name, "--deep"),
        REVERT,
    ]
    for outage, command in zip(outages[:3], commands[:3], strict=True):
        run(operator, proxy, outage, *command)
    reference.assert_same()
    run(operator, proxy, outages[3], *commands[3])
    reference.assert_untouched()
    seen(f"{service} {way}, {moment}: {[outage.harmed for outage in outages]} requests harmed")
    assert any(outage.harmed for outage in outages)


def test_all_that_is_said_of_an_outage(
    world: World, operator: Operator, proxy: Proxy, reference: Reference
) -> None:
    """The service, the cloud, since when and for how long, whoever meets it; and nothing else but the plan."""
    outage = away("source/neutron", "503")
    ended = run(operator, proxy, outage, "plan", "tenant", world.name)
    assert outage.harmed > 3
    notes = [line for line in ended.stderr.splitlines() if "network service of the source" in line]
    assert re.fullmatch(
        r"note: the network service of the source does not answer since \d\d:\d\d:\d\d and is waited for, "
        r"up to 600 s: the cloud answered 503: .*",
        notes[0],
    )
    assert re.fullmatch(r"note: the network service of the source answers again, after \d+ s", notes[1])


@pytest.mark.parametrize(
    ("service", "way", "moment"),
    [
        ("destination/nova", "503", "boot"),
        pytest.param("source/nova", "503", "snapshot", marks=pytest.mark.exhaustive),
        pytest.param("source/glance", "cut", "snapshot", marks=pytest.mark.exhaustive),
        pytest.param("destination/glance", "hang", "upload", marks=pytest.mark.exhaustive),
        pytest.param("destination/neutron", "cut", "project", marks=pytest.mark.exhaustive),
        pytest.param("destination/keystone", "503", "project", marks=pytest.mark.exhaustive),
        pytest.param("source/nova", "503", "stop", marks=pytest.mark.exhaustive),
    ],
)
@pytest.mark.parametrize("on_failure", ["revert", pytest.param("keep", marks=pytest.mark.exhaustive)])
def test_one_that_stays_away_fails_what_needs_it_and_no_server_stays_stopped_unsaid(
    world: World,
    operator: Operator,
    proxy: Proxy,
    reference: Reference,
    service: str,
    way: str,
    moment: str,
    on_failure: str,
) -> None:
    operator.configure(limits={"outage_s": 1}, on_failure=on_failure)
    proxy.rules = [away(service, way, moment, seconds=120)]
    ended = operator.run(*migrate(world)).expect(3)
    proxy.rules = ()
    resources = operator.run(*SHOW).expect(0).json["resources"]
    server = next(item for item in resources if item["kind"] == "server")
    if world.server_status() != "ACTIVE" and server["outcome"] != "created":
        assert re.search("it is stopped at the source|not undone", server["reason"]), ended.stdout
    operator.configure()
    operator.run(*RESUME).expect(0)
    reference.assert_same()
    operator.run(*REVERT).expect(0)
    reference.assert_untouched()


@pytest.mark.exhaustive
def test_ctrl_c_ends_the_waiting(
    world: World, operator: Operator, proxy: Proxy, reference: Reference
) -> None:
    proxy.rules = [away("destination/nova", "503", "boot", seconds=120)]
    command = operator.start(*migrate(world))
    command.says("compute service of the destination does not answer since")
    command.signal(2)
    ended = command.wait().expect(130)
    assert "go on with pumphouse resume" in ended.stderr
    assert "it is stopped at the source" in ended.stdout
    finish(operator, proxy, reference)

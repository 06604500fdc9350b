"""What becomes of the rest when something fails for good."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from tests.faults.commands import SHOW, migrate
from tests.faults.driver import Operator
from tests.faults.proxy import Proxy
from tests.faults.reference import Reference, finish, undo
from tests.faults.rules import Answer, Rule
from tests.faults.world import World

NO_PORT = Rule([Answer(403)], service="destination/neutron", method="POST", path="/v2.0/ports$")
NO_NETWORK = Rule([Answer(403)], service="destination/neutron", method="POST", path="/v2.0/networks$")
NO_SERVER = Rule([Answer(403)], service="destination/nova", method="POST", path="/servers$")


def outcomes(report: dict[str, Any]) -> dict[str, set[str]]:
    """The kinds of resources by what became of them."""
    found: dict[str, set[str]] = defaultdict(set)
    for item in report["resources"]:
        found[item["outcome"]].add(item["kind"])
    return found


@pytest.mark.parametrize("on_failure", ["revert", pytest.param("keep", marks=pytest.mark.exhaustive)])
def test_what_needs_it_is_blocked_and_the_rest_arrives(
    world: World, operator: Operator, proxy: Proxy, reference: Reference, on_failure: str
) -> None:
    operator.configure(on_failure=on_failure)
    proxy.rules = [NO_NETWORK]
    found = outcomes(operator.run(*migrate(world), "-f", "json").expect(3).json)
    assert "network" in found["failed"]
    assert {"router", "server"} <= found["blocked"]
    assert {"tenant", "user", "keypair", "image", "security_group"} <= found["created"]
    assert outcomes(operator.run(*SHOW).expect(0).json) == found
    finish(operator, proxy, reference)


@pytest.mark.parametrize(
    ("on_failure", "left"),
    [pytest.param("revert", set(), marks=pytest.mark.exhaustive), ("keep", {"ports", "images"})],
)
def test_a_failed_unit_is_undone_or_left_for_a_resume(
    world: World, operator: Operator, proxy: Proxy, reference: Reference, on_failure: str, left: set[str]
) -> None:
    operator.configure(on_failure=on_failure)
    proxy.rules = [NO_SERVER]
    found = outcomes(operator.run(*migrate(world), "-f", "json").expect(3).json)
    assert "server" in found["failed"]
    destination = world.listing("destination")
    items = [
        (key.split("/")[0], destination[key]["name"])
        for key in destination
        if key not in reference.before["destination"] and "name" in destination[key]
    ]
    assert {kind for kind, name in items if name in ("web-0", "pumphouse-web")} == left
    assert world.server_status() == ("SHUTOFF" if on_failure == "keep" else "ACTIVE")
    finish(operator, proxy, reference)


def test_fail_fast_starts_nothing_else(
    world: World, operator: Operator, proxy: Proxy, reference: Reference
) -> None:
    operator.configure(fail_fast=True)
    proxy.rules = [Rule([Answer(403)], service="destination/keystone", method="POST", path="/v3/projects$")]
    found = outcomes(operator.run(*migrate(world), "-f", "json").expect(3).json)
    assert "tenant" in found["failed"]
    assert not {"network", "server", "image"} & found["created"]
    finish(operator, proxy, reference)


def test_what_has_served_is_removed_though_the_clouds_refuse_twice(
    world: World, operator: Operator, proxy: Proxy, reference: Reference
) -> None:
    proxy.rules = [
        Rule([Answer(403)], service=f"{side}/glance", method="DELETE", count=2)
        for side in ("source", "destination")
    ]
    operator.run(*migrate(world)).expect(0)
    assert [rule.harmed for rule in proxy.rules] == [2, 2]
    proxy.rules = ()
    reference.assert_same()
    undo(operator, reference)

"""How many requests a plan takes: as many for a big tenant as for a small one, but for further pages."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from lab import Lab
from tests.faults.proxy import Proxy, running
from tests.faults.rules import LOGIN, Request
from tests.real.plain import plain_tenant
from tests.real.runner import Runner

pytestmark = pytest.mark.exhaustive

COUNTS = {"small": 2, "big": 5}
KINDS = ("server", "volume", "network", "subnet", "image", "port", "security_group", "router")


@pytest.fixture(scope="module")
def proxy(lab: Lab) -> Iterator[Proxy]:
    with running(lab) as proxy:
        yield proxy


@pytest.fixture
def runner(lab: Lab, tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Whose commands go through the proxy."""
    for name, value in proxy.environment.items():
        monkeypatch.setenv(name, value)
    return Runner(lab, tmp_path)


@pytest.fixture
def tenants(lab: Lab) -> Iterator[list[str]]:
    """The ids of a small tenant and a bigger one."""
    names = {size: f"requests-{size}-{uuid.uuid4().hex[:6]}" for size in COUNTS}
    with ExitStack() as stack:
        yield [stack.enter_context(plain_tenant(lab, name, COUNTS[size])).id for size, name in names.items()]


def is_further_page(request: Request) -> bool:
    query = parse_qs(urlsplit(request.path).query)
    return "marker" in query or query.get("offset", ["0"]) != ["0"]


def is_of_one_image(request: Request) -> bool:
    """Whether this reads an image, of which a plan reads the beginning, or its members, which Glance lists of one only."""
    return request.path.partition("?")[0].endswith(("/file", "/members"))


def requests(proxy: Proxy) -> Counter[str]:
    """What was asked for, without ids and queries; of each list the first page only, and nothing of single images.

    What is asked again with a new token is left out: Keystone revokes those of the second in which a run gave
    its role back.
    """
    asked = [exchange.request for exchange in proxy.exchanges if exchange.status != 401]
    proxy.forget()
    return Counter(
        request.shape.partition("?")[0]
        for request in asked
        if not is_further_page(request) and LOGIN not in request.path and not is_of_one_image(request)
    )


def planned(runner: Runner, proxy: Proxy, tenant: str) -> tuple[Counter[str], Counter[str]]:
    """The requests of a plan, and how many steps it has of each kind."""
    proxy.forget()
    plan = runner.json("migrate", "tenant", tenant, "--dry-run")
    return requests(proxy), Counter(step["kind"] for unit in plan["units"] for step in unit["steps"])


def test_a_plan_of_a_bigger_tenant_takes_as_many_requests(
    runner: Runner, proxy: Proxy, tenants: list[str], tmp_path: Path
) -> None:
    """Before anything has moved, and when all has arrived and is to be recognised."""
    config = runner.write_config(tmp_path / "quick.yaml", root_disk="image")
    (small, of_small), (big, of_big) = (planned(runner, proxy, tenant) for tenant in tenants)
    for kind in KINDS:
        assert of_big[kind] - of_small[kind] == 3
    assert sum(small.values()) > 50
    assert big == small

    for tenant in tenants:
        runner.json("migrate", "tenant", tenant, "--yes", config=config)
    (small, _), (big, _) = (planned(runner, proxy, tenant) for tenant in tenants)
    assert big == small

"""What the tests with faults share: the lab of the tests against real clouds, and a proxy in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from tests.faults.driver import Nursery, Operator
from tests.faults.proxy import Proxy, running
from tests.faults.reference import Reference, undisturbed
from tests.faults.world import World, make_world
from tests.real.conftest import lab

__all__ = ["lab"]

FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def shared_proxy(lab: Lab) -> Iterator[Proxy]:
    """The proxy of the whole session."""
    with running(lab) as proxy:
        yield proxy


@pytest.fixture
def proxy(shared_proxy: Proxy) -> Iterator[Proxy]:
    """The proxy, without rules and memories of another test."""
    shared_proxy.forget()
    yield shared_proxy
    shared_proxy.forget()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where the commands come from."""
    with Nursery() as nursery:
        yield nursery


@pytest.fixture(scope="session")
def shared_world(lab: Lab) -> Iterator[World]:
    """The tenant of the whole session."""
    world = make_world(lab)
    yield world
    world.remove()


@pytest.fixture(scope="session")
def reference(
    shared_world: World, nursery: Nursery, shared_proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Reference:
    """What an undisturbed run leaves behind, and that it can be undone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return undisturbed(shared_world, Operator(nursery, shared_world.lab, folder, shared_proxy.environment))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Remember which tests failed."""
    outcome = yield
    if outcome.get_result().failed:  # type: ignore[attr-defined]
        item.stash[FAILED] = True


@pytest.fixture
def world(shared_world: World, reference: Reference, request: pytest.FixtureRequest) -> Iterator[World]:
    """The tenant, at the source alone, as it was made; a test that succeeds has left it so."""
    yield shared_world
    if FAILED in request.node.stash:
        shared_world.clean()


@pytest.fixture
def operator(nursery: Nursery, lab: Lab, proxy: Proxy, world: World, tmp_path: Path) -> Operator:
    """An operator behind the proxy, who has never run anything."""
    return Operator(nursery, lab, tmp_path, proxy.environment)

"""What the tests with faults share: the lab of the tests against real clouds, and a proxy in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Lab
from tests.faults.proxy import Proxy, running
from tests.real.conftest import lab

__all__ = ["lab"]


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

"""The stores, each of them real."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.stores.servers import Missing, Server, install, running

SERVERS = ("postgresql", "mysql", "zookeeper")
STORES = ("sqlite", "dir", *SERVERS)


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, Server]]:
    """All servers of the session, by kind; each is started when it is first asked for."""
    with ExitStack() as stack:

        class Servers(dict[str, Server]):
            def __missing__(self, kind: str) -> Server:
                self[kind] = stack.enter_context(running(kind))
                return self[kind]

        yield Servers()


@pytest.fixture(scope="session")
def installed() -> None:
    """What the servers need; who may not install it skips what needs it, but not in CI."""
    try:
        install()
    except Missing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"missing: {missing}")


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, installed: None, servers: dict[str, Server]) -> Server:
    """A server, running."""
    return servers[request.param]


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A state store that is empty, or only known to have runs of other tests in it."""
    if request.param in SERVERS:
        request.getfixturevalue("installed")
        return str(request.getfixturevalue("servers")[request.param].new_url())
    return f"{request.param}://{'/' if request.param == 'sqlite' else ''}{tmp_path}/state"


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))

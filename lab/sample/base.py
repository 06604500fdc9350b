"""What the modules of the sample tenant share: the tenant, calls to its cloud, waiting, seeded bytes."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import openstack
from openstack.connection import Connection
from openstack.exceptions import NotFoundException, raise_from_response
from openstack.proxy import Proxy
from openstack.utils import maximum_supported_microversion

from lab.layout import LabError
from lab.sample.sizes import Sizes

T = TypeVar("T")

MIB = 1024 * 1024
IMAGE_RAM_MIB = 64
COMPUTE_MICROVERSION = "2.90"  # the first with a server's hostname (Nova 24.0.0, Xena)
POLL_S = 0.2


@dataclass(frozen=True)
class Tenant:
    """The sample's project, as its resources need it while they are made.

    members: sessions of the users who may create things in it, one for each user.
    """

    name: str
    id: str
    sizes: Sizes
    admin: Connection
    members: tuple[Connection, ...]
    user_ids: dict[str, str]
    partner_id: str | None
    passwords: dict[str, str] = field(repr=False)

    @property
    def owner(self) -> Connection:
        """The session of the user who makes whatever belongs to the project as a whole."""
        return self.members[0]


@cache
def connect(clouds_yaml: Path, cloud: str) -> Connection:
    """The connection of a cloud's administrator that all share: one login, its services looked up once."""
    config = openstack.config.OpenStackConfig(config_files=[str(clouds_yaml)])
    plain = Connection(config=config.get_one(cloud))
    microversion = maximum_supported_microversion(plain.compute, COMPUTE_MICROVERSION)
    return warm(Connection(config=config.get_one(cloud, compute_default_microversion=microversion)))


def warm(connection: Connection) -> Connection:
    """Build the proxies before threads do: one first touched by several threads is built several times."""
    for service in ("identity", "image", "network", "block_storage", "compute"):
        getattr(connection, service)
    return connection


def extends(network: Any, alias: str) -> bool:
    """Whether a Neutron has an extension, which older ones may not."""
    return network.find_extension(alias) is not None


def send(service: Proxy, method: str, path: str, **body: Any) -> Any:
    """Call an API with a JSON body and return the JSON it answers; raises HttpException when it refuses."""
    response = service.request(path, method, json=body or None)
    raise_from_response(response)
    return response.json() if response.content else None


def post(service: Proxy, path: str, **body: Any) -> Any:
    """Create or act: see send()."""
    return send(service, "POST", path, **body)


def put(service: Proxy, path: str, **body: Any) -> Any:
    """Replace: see send()."""
    return send(service, "PUT", path, **body)


def get(service: Proxy, path: str) -> Any:
    """Read: see send()."""
    return send(service, "GET", path)


def delete(service: Proxy, collection: str, ids: Iterable[str]) -> None:
    """Delete all of these from a collection; some may be gone already."""

    def one(item_id: str) -> None:
        with suppress(NotFoundException):
            send(service, "DELETE", f"/{collection}/{item_id}")

    together(one, list(ids))


def together(function: Callable[..., T], *columns: Sequence[Any]) -> list[T]:
    """map() with up to eight threads; raises the first error after all calls have ended."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(function, *columns))


def until(condition: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
    """Wait for a condition; raises LabError that says what did not happen."""
    until_none_left(lambda: not condition(), what, timeout_s)


def until_none_left(left: Callable[[], int], what: str, timeout_s: float = 120) -> None:
    """Wait for many things, of which so many are left; raises LabError when they have not become fewer for a while."""
    fewest, end_s = math.inf, 0.0
    while True:
        began_s = time.monotonic()
        if not (count := left()):
            return
        now_s = time.monotonic()
        if count < fewest:
            fewest, end_s = count, now_s + timeout_s
        if now_s > end_s:
            raise LabError(f"{what}: not after {timeout_s:.0f} s")
        # The look at a hundred takes the services as long as much of the work that is waited for.
        time.sleep(max(POLL_S, now_s - began_s))


def names(first: Sequence[str], further: str, count: int) -> list[str]:
    """Names of `count` resources: those with a form of their own first, numbered ones after them."""
    return [*first, *(f"{further}-{number:02}" for number in range(len(first) + 1, count + 1))][:count]


def content(seed: str, mib: int) -> Iterator[bytes]:
    """The same random bytes for the same seed, one MiB at a time."""
    source = random.Random(seed)
    return (source.randbytes(MIB) for _ in range(mib))

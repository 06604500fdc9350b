"""Which requests the proxy harms, and how."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http import HTTPStatus
from typing import Any

HOLD_TIMEOUT_S = 300
IMAGE_BYTES = r"/v2/images/([^/]+)/file$"
LOGIN = r"/v3/auth/tokens"
_IDS = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_ACTION = re.compile(rb'\s*\{\s*"([\w-]+)"')


@dataclass(frozen=True)
class Request:
    """A request as far as rules look at it.

    service: the cloud and the service that it is for, e.g. `source/nova`.
    body: what is sent, where it is small; empty for a stream.
    token: what the client is known by; empty of a login.
    """

    service: str
    method: str
    path: str
    body: bytes = b""
    token: str = field(default="", repr=False)

    @property
    def shape(self) -> str:
        """What stays the same from one run to the next: everything but the ids."""
        action = _ACTION.match(self.body) if self.path.endswith("/action") else None
        named = f" {action[1].decode()}" if action else ""
        return f"{self.service} {self.method} {_IDS.sub('ID', self.path)}{named}"


class Cut(Exception):
    """The connection to the client is to be closed without an answer, or in the middle of it."""


class Answered(Exception):
    """The proxy answers instead of the service; with a page of HTML, as load balancers do, if there is one."""

    def __init__(
        self,
        status: int,
        headers: dict[str, str] | None = None,
        message: str = "refused by the proxy",
        page: str = "",
    ) -> None:
        super().__init__(status)
        self.page = page
        self.status = status
        self.headers = headers or {}
        self.message = message


class Action:
    """What is done to one request: nothing, as long as no method is overridden."""

    def before(self, request: Request) -> None:
        """Called before anything is forwarded."""

    def after(self) -> None:
        """Called when the service has answered and the client knows nothing of it."""

    def upload(self, blocks: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
        """What is forwarded of the request's body."""
        return blocks

    def download(self, blocks: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
        """What is forwarded of the answer's body."""
        return blocks

    def __str__(self) -> str:
        return type(self).__name__.lower()


@dataclass
class Delay(Action):
    """The service is slow."""

    seconds: float

    def before(self, request: Request) -> None:
        threading.Event().wait(self.seconds)


class Hang(Delay):
    """The service does not answer, and in the end the connection breaks."""

    def before(self, request: Request) -> None:
        super().before(request)
        raise Cut


@dataclass
class Answer(Action):
    """The service refuses, and does nothing."""

    status: int
    retry_after_s: int | None = None

    def before(self, request: Request) -> None:
        retry = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        raise Answered(self.status, retry)

    def __str__(self) -> str:
        return str(self.status)


@dataclass
class Page(Action):
    """A load balancer answers with a page of HTML; `is_done` when the service has done what it was asked for."""

    status: int
    is_done: bool = False

    def before(self, request: Request) -> None:
        if not self.is_done:
            self.after()

    def after(self) -> None:
        phrase = HTTPStatus(self.status).phrase
        page = f"<html><body><h1>{self.status} {phrase}</h1>\nThe server is overloaded.\n</body></html>\n"
        raise Answered(self.status, page=page)

    def __str__(self) -> str:
        return f"page {self.status}"


@dataclass
class Echo(Action):
    """The service refuses with a message that repeats all that it was sent, as validation errors do."""

    def before(self, request: Request) -> None:
        raise Answered(400, message=f"not valid: {request.body.decode()}")


@dataclass
class Listen(Action):
    """Keeps what the service answers, for a test to know its secrets."""

    heard: bytes = b""

    def download(self, blocks: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
        for block in blocks:
            self.heard += block
            yield block


class CutBefore(Action):
    """The connection breaks before the service sees the request."""

    def before(self, request: Request) -> None:
        raise Cut


class CutAfter(Action):
    """The service has done what it was asked for, and the connection breaks."""

    def after(self) -> None:
        raise Cut


@dataclass
class Trickle(Action):
    """The service sends slowly, and says when it begins."""

    seconds_per_block: float = 1.0
    reached: threading.Event = field(default_factory=threading.Event)

    def download(self, blocks: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
        self.reached.set()
        for block in blocks:
            yield block
            threading.Event().wait(self.seconds_per_block)


class Truncate(Action):
    """The connection breaks in the middle of the answer."""

    def download(self, blocks: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
        yield from _first(blocks, size_bytes // 2)
        raise Cut


class Corrupt(Action):
    """One byte in the middle of the answer is another one."""

    def download(self, blocks: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
        at = size_bytes // 2
        for block in blocks:
            if 0 <= at < len(block):
                block = block[:at] + bytes([block[at] ^ 0xFF]) + block[at + 1 :]
            at -= len(block)
            yield block


@dataclass
class Change(Action):
    """Values in what the service is asked for, or else in what it answers, are others.

    values: the new ones by where they are, e.g. `server.name`; what is not there is left out.
    of_answer: whether the answer is changed.
    changed: how many were.
    """

    values: Mapping[str, Any]
    of_answer: bool = False
    changed: int = 0

    def upload(self, blocks: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
        return blocks if self.of_answer else self._change(blocks)

    def download(self, blocks: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
        return self._change(blocks) if self.of_answer else blocks

    def _change(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        body = b"".join(blocks)
        document = json.loads(body)
        for where, value in self.values.items():
            *above, name = where.split(".")
            item = document
            for part in above:
                item = item[int(part)] if isinstance(item, list) else item.get(part, {})
            if name in item:
                item[name] = value
                self.changed += 1
        # Its length has been said already, and blanks mean nothing.
        text = json.dumps(document, separators=(",", ":")).encode()
        assert len(text) <= len(body), "the new values are too long"
        yield text.ljust(len(body))


@dataclass
class RefuseUpload(Action):
    """The service takes half of the bytes and then no more."""

    status: int = 413

    def upload(self, blocks: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
        yield from _first(blocks, size_bytes // 2)
        raise Answered(self.status)


@dataclass
class Hold(Action):
    """Stops a request before, after or half-way through its upload, says so, and waits to be told to go on."""

    where: str
    reached: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def _wait(self, where: str) -> None:
        if self.where == where:
            self.reached.set()
            self.go_on.wait(HOLD_TIMEOUT_S)

    def before(self, request: Request) -> None:
        self._wait("before")

    def after(self) -> None:
        self._wait("after")

    def upload(self, blocks: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
        sent_bytes = 0
        for block in blocks:
            if sent_bytes <= size_bytes // 2 < sent_bytes + len(block):
                self._wait("upload")
            yield block
            sent_bytes += len(block)


def _first(blocks: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
    """That many bytes of a stream."""
    while size_bytes > 0 and (block := next(blocks, b"")):
        yield block[:size_bytes]
        size_bytes -= len(block)


@dataclass
class Rule:
    """Requests that match, and the actions of which one is taken for each.

    method, path, body: regular expressions; the first has to match in full, the others somewhere.
    service: a pattern of file names, e.g. `destination/*`.
    skip, count: the first so many are let through; at most so many are harmed.
    chance, seed: the part of the requests that is harmed. It depends on the request's shape and how often it
        came, not on the order of threads, so that a seed does much the same each time.
    once: shapes of requests that are let through, because it was their turn before; those harmed are added.
    """

    actions: Sequence[Action]
    method: str = ".*"
    path: str = ""
    service: str = "*"
    body: str = ""
    skip: int = 0
    count: int | None = None
    chance: float = 1.0
    seed: int = 0
    once: set[str] | None = None
    harmed: int = 0
    _seen: Counter[str] = field(default_factory=Counter)

    def action(self, request: Request) -> Action | None:
        """What is done to this request; None for nothing."""
        if not self._matches(request):
            return None
        self._seen[request.shape] += 1
        draw = random.Random(f"{self.seed} {request.shape} {self._seen[request.shape]}")
        if self._seen.total() <= self.skip or self.harmed == self.count or draw.random() >= self.chance:
            return None
        if self.once is not None and request.shape in self.once:
            return None
        self.harmed += 1
        if self.once is not None:
            self.once.add(request.shape)
        return draw.choice(self.actions)

    def _matches(self, request: Request) -> bool:
        return bool(
            fnmatch(request.service, self.service)
            and re.fullmatch(self.method, request.method)
            and re.search(self.path, request.path)
            and re.search(self.body.encode(), request.body)
        )


@dataclass
class Outage:
    """A service that is away for a while, from a request on that may be for another service.

    service: a pattern of file names.
    how: what is done to each request, given the seconds that are left.
    begins: the rule that acts on the request at which it begins.
    """

    service: str
    how: Callable[[float], Action]
    seconds: float
    begins: Rule
    harmed: int = 0
    _end_s: float | None = None

    def action(self, request: Request) -> Action | None:
        """What is done to this request; None for nothing."""
        now_s = time.monotonic()
        if self._end_s is None and self.begins.action(request) is not None:
            self._end_s = now_s + self.seconds
        if self._end_s is None or now_s >= self._end_s or not fnmatch(request.service, self.service):
            return None
        self.harmed += 1
        return self.how(self._end_s - now_s)


@dataclass
class ShortTokens:
    """No service takes a token for longer than some seconds from its first use on."""

    life_s: float
    harmed: int = 0
    _used_s: dict[str, float] = field(default_factory=dict, repr=False)

    def action(self, request: Request) -> Action | None:
        """What is done to this request; None for nothing."""
        now_s = time.monotonic()
        if not request.token or now_s - self._used_s.setdefault(request.token, now_s) < self.life_s:
            return None
        self.harmed += 1
        return Answer(401)

    @property
    def tokens(self) -> int:
        """How many tokens were used."""
        return len(self._used_s)


def one_in_ten(seed: int) -> list[Rule]:
    """A tenth of all calls fails, each in one of all the ways in which calls fail."""
    statuses = [Answer(status) for status in (401, 403, 409, 413, 500)]
    ways = [*statuses, Answer(429, 1), Answer(503, 1), CutBefore(), CutAfter(), Delay(0.5)]
    return [
        Rule([*ways, Truncate(), Corrupt()], method="GET", path=IMAGE_BYTES, chance=0.1, seed=seed),
        Rule([*ways, RefuseUpload()], method="PUT", path=IMAGE_BYTES, chance=0.1, seed=seed),
        Rule(ways, path=r"(?<!/file)$", chance=0.1, seed=seed),
    ]

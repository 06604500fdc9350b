"""Transfers between two small HTTP servers that misbehave on demand, as a real Glance does not."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keystoneauth1.adapter import Adapter
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from pumphouse.errors import BrokenOffError, Interruption, TransferError
from pumphouse.tasks.glance.transfer import CHUNK_BYTES, Copied, Hashes, Slots, TransferLimits, copy_image

SIZE_BYTES = 24 * CHUNK_BYTES + 12345
HALF_BYTES = SIZE_BYTES // 2
BYTES = os.urandom(SIZE_BYTES)


@dataclass
class Service:
    """What one cloud's Keystone and Glance hold, saw, and shall do."""

    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    token_life_s: int = 3600
    send: Callable[[Handler, bytes], None] = lambda handler, data: handler.send_file(data)
    receive: Callable[[Handler], bytes | None] = lambda handler: handler.receive_file()
    hashes: Callable[[bytes], dict[str, str]] = lambda data: glance_hashes(data)
    busy_requests: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)
    url: str = ""

    @contextmanager
    def busy(self) -> Iterator[None]:
        self._count_busy(1)
        try:
            yield
        finally:
            self._count_busy(-1)

    def _count_busy(self, difference: int) -> None:
        with self.changed:
            self.busy_requests += difference
            self.changed.notify_all()

    def becomes_idle(self) -> bool:
        """Whether no request goes on: a client that still holds its connection keeps a server busy."""
        with self.changed:
            return self.changed.wait_for(lambda: self.busy_requests == 0, timeout=10)

    def count(self, request: str) -> int:
        return self.requests.count(request)


def glance_hashes(data: bytes, algorithm: str = "sha512") -> dict[str, str]:
    return {
        "os_hash_algo": algorithm,
        "os_hash_value": hashlib.new(algorithm, data).hexdigest(),
        "checksum": hashlib.md5(data).hexdigest(),
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service

    def log_message(self, format: str, *args: Any) -> None:
        """The tests read Service.requests instead."""

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def answer_json(self, status: int, content: object, **headers: str) -> None:
        self.answer(status, json.dumps(content).encode(), Content_Type="application/json", **headers)

    def refuse(self, status: int) -> None:
        """Answer and hang up without reading what the client still sends."""
        self.close_connection = True
        self.answer(status, b"no", Connection="close")

    def cut(self) -> None:
        """Reset the connection, as a crashed server or a firewall does."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def do_POST(self) -> None:
        self.service.requests.append("login")
        self.rfile.read(int(self.headers["Content-Length"]))
        endpoint = {"id": "e", "interface": "public", "region": "R", "url": self.service.url}
        now = datetime.now(UTC)
        token = {
            "methods": ["password"],
            "issued_at": f"{now:%FT%TZ}",
            "expires_at": f"{now + timedelta(seconds=self.service.token_life_s):%FT%TZ}",
            "user": {"id": "u", "name": "u", "domain": {"id": "default", "name": "Default"}},
            "catalog": [{"type": "image", "name": "glance", "id": "i", "endpoints": [endpoint]}],
        }
        self.answer_json(201, {"token": token}, X_Subject_Token="t")

    def do_GET(self) -> None:
        image_id, is_file = self.requested_image()
        self.service.requests.append("download" if is_file else "show")
        if is_file:
            with self.service.busy():
                self.service.send(self, self.service.data[image_id])
        else:
            self.answer_json(200, self.service.images[image_id])

    def do_PUT(self) -> None:
        image_id, _ = self.requested_image()
        self.service.requests.append("upload")
        with self.service.busy():
            data = self.service.receive(self)
        if data is not None:
            self.service.data[image_id] = data
            record = {"status": "active", "size": len(data), **self.service.hashes(data)}
            self.service.images[image_id] |= record
            self.answer(204)

    def requested_image(self) -> tuple[str, bool]:
        found = re.fullmatch(r"/v2/images/([^/]+)(/file)?", self.path)
        assert found, self.path
        return found[1], bool(found[2])

    def send_file(self, data: bytes, announced_bytes: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data) if announced_bytes is None else announced_bytes))
        self.end_headers()
        self.wfile.write(data)

    def receive_file(self) -> bytes | None:
        """Read what was announced; as Glance does, keep nothing of an upload that ends early."""
        size_bytes = int(self.headers["Content-Length"])
        assert self.headers["x-openstack-image-size"] == str(size_bytes)
        assert self.headers["Content-Type"] == "application/octet-stream"
        data = self.rfile.read(size_bytes)
        self.close_connection = len(data) < size_bytes
        return None if self.close_connection else data


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are what the tests are about."""


@pytest.fixture
def service() -> Iterator[Callable[[], Service]]:
    """Starts a service each time it is called, and stops them all."""
    servers: list[ThreadingHTTPServer] = []

    def start() -> Service:
        state = Service()
        server = QuietServer(("127.0.0.1", 0), type("H", (Handler,), {"service": state}))
        state.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return state

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Cloud:
    def __init__(self, service: Service) -> None:
        auth = v3.Password(auth_url=f"{service.url}/v3", username="u", password="p", user_domain_id="default")
        self.session = Session(auth=auth, timeout=10)
        self.endpoint = f"{service.url}/v2"

    def adapter(self, service_type: str) -> Adapter:
        return Adapter(self.session, service_type=service_type, endpoint_override=self.endpoint)


@dataclass
class Pair:
    """A source with one active image, a destination with its queued twin."""

    source: Service
    destination: Service
    progress: list[int] = field(default_factory=list)

    def hold(self, data: bytes, **hashes: str | None) -> None:
        record = {"name": "cirros", "status": "active", "size": len(data), **glance_hashes(data), **hashes}
        self.source.images["old"] = record
        self.source.data["old"] = data
        self.destination.images["new"] = {"name": "cirros", "status": "queued", "size": None}

    def copy(self, limits: TransferLimits | None = None) -> Copied:
        image = self.source.images["old"]
        return copy_image(
            Cloud(self.source),
            Cloud(self.destination),
            "old",
            "new",
            size_bytes=image["size"],
            expected=Hashes.of(image),
            limits=limits or TransferLimits(4),
            on_progress=self.progress.append,
        )

    def fail(self, *words: str) -> None:
        """The copy fails in words for a person, leaves no thread and no request, and is not repeated."""
        with pytest.raises(TransferError) as caught:
            self.copy()
        print("MSG", caught.value)
        for word in ("image old", *words):
            assert word in str(caught.value)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-")]
        assert self.source.becomes_idle()
        assert self.destination.becomes_idle()
        assert self.destination.count("upload") <= 1


@pytest.fixture
def pair(service: Callable[[], Service]) -> Pair:
    pair = Pair(service(), service())
    pair.hold(BYTES)
    return pair


def test_bytes_arrive_and_are_hashed(pair: Pair) -> None:
    copied = pair.copy()
    assert pair.destination.data["new"] == BYTES
    assert copied == Copied(SIZE_BYTES, "sha512", hashlib.sha512(BYTES).hexdigest())


def test_empty_image(pair: Pair) -> None:
    pair.hold(b"")
    assert pair.copy().size_bytes == 0
    assert pair.destination.images["new"]["status"] == "active"


def test_progress_grows_to_the_size(pair: Pair) -> None:
    pair.copy()
    assert pair.progress == sorted(pair.progress)
    assert pair.progress[-1] == SIZE_BYTES
    assert len(pair.progress) < SIZE_BYTES // CHUNK_BYTES


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "blake2b"])
def test_hashes_with_the_algorithm_of_the_source(pair: Pair, algorithm: str) -> None:
    pair.hold(BYTES, **glance_hashes(BYTES, algorithm))
    pair.destination.hashes = lambda data: glance_hashes(data, algorithm)
    assert pair.copy().digest == hashlib.new(algorithm, BYTES).hexdigest()


def test_falls_back_to_the_checksum(pair: Pair) -> None:
    pair.hold(BYTES, os_hash_algo=None, os_hash_value=None)
    assert pair.copy() == Copied(SIZE_BYTES, "md5", hashlib.md5(BYTES).hexdigest())


def test_hashes_by_itself_when_the_source_has_none(pair: Pair) -> None:
    pair.hold(BYTES, os_hash_algo=None, os_hash_value=None, checksum=None)
    assert pair.copy() == Copied(SIZE_BYTES, "sha512", hashlib.sha512(BYTES).hexdigest())


def test_destination_of_another_algorithm_is_compared_by_checksum(pair: Pair) -> None:
    pair.destination.hashes = lambda data: glance_hashes(data, "sha256")
    pair.copy()
    assert pair.destination.count("download") == 0


def test_destination_of_another_algorithm_has_another_checksum(pair: Pair) -> None:
    pair.destination.hashes = lambda data: glance_hashes(data, "sha256") | {"checksum": "0" * 32}
    with pytest.raises(TransferError, match="the md5 at the destination is 000"):
        pair.copy()


def test_reads_back_when_no_hash_is_common(pair: Pair) -> None:
    pair.hold(BYTES, checksum=None)
    pair.destination.hashes = lambda _: {"os_hash_algo": "sha256", "os_hash_value": "unused"}
    pair.copy()
    assert pair.destination.count("download") == 1


def test_read_back_finds_other_bytes(pair: Pair) -> None:
    pair.hold(BYTES, checksum=None)
    pair.destination.hashes = lambda _: {"os_hash_algo": "sha256", "os_hash_value": "unused"}
    pair.destination.send = lambda handler, data: handler.send_file(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(TransferError, match="the sha512 at the destination is"):
        pair.copy()


def test_source_that_ends_early(pair: Pair) -> None:
    def send(handler: Handler, data: bytes) -> None:
        handler.send_file(data[:HALF_BYTES], announced_bytes=len(data))
        handler.close_connection = True

    pair.source.send = send
    pair.fail("(cirros)", f"the source broke off after {HALF_BYTES} of {SIZE_BYTES} bytes")
    assert pair.destination.images["new"]["status"] == "queued"


def test_source_that_announces_less(pair: Pair) -> None:
    pair.source.send = lambda handler, data: handler.send_file(data[:HALF_BYTES])
    pair.fail(f"the source broke off after {HALF_BYTES} of")
    assert pair.destination.images["new"]["status"] == "queued"


def test_source_that_sends_more(pair: Pair) -> None:
    pair.source.send = lambda handler, data: handler.send_file(data + b"!")
    pair.fail(f"the source sends more than {SIZE_BYTES} bytes")
    assert pair.destination.images["new"]["status"] == "queued"


def test_source_that_cuts_the_connection(pair: Pair) -> None:
    def send(handler: Handler, data: bytes) -> None:
        handler.send_file(data[:HALF_BYTES], announced_bytes=len(data))
        handler.cut()

    pair.source.send = send
    pair.fail("the source broke off after")


def test_source_with_other_bytes_than_its_hash(pair: Pair) -> None:
    pair.source.send = lambda handler, data: handler.send_file(data[:-1] + bytes([data[-1] ^ 1]))
    pair.fail("the source's bytes do not match its own sha512", glance_hashes(BYTES)["os_hash_value"])
    assert pair.destination.images["new"]["status"] == "queued"


def test_source_that_refuses(pair: Pair) -> None:
    pair.source.send = lambda handler, _: handler.refuse(403)
    pair.fail("the source does not give its bytes", "403")
    assert pair.destination.count("upload") == 0


@pytest.mark.parametrize("status", [401, 409, 413, 500, 503])
def test_destination_that_refuses_at_once(pair: Pair, status: int) -> None:
    pair.destination.receive = lambda handler: handler.refuse(status)
    pair.fail("the destination broke off after")
    assert pair.destination.count("login") == 1


@pytest.mark.parametrize("status", [413, 500])
def test_destination_that_refuses_half_way(pair: Pair, status: int) -> None:
    def receive(handler: Handler) -> None:
        handler.rfile.read(HALF_BYTES)
        handler.refuse(status)

    pair.destination.receive = receive
    pair.fail("the destination broke off after")


def test_destination_that_reads_all_and_refuses(pair: Pair) -> None:
    def receive(handler: Handler) -> None:
        handler.receive_file()
        handler.refuse(415)

    pair.destination.receive = receive
    pair.fail(f"the destination broke off after {SIZE_BYTES} of {SIZE_BYTES} bytes", "415")


def test_destination_that_redirects(pair: Pair) -> None:
    def receive(handler: Handler) -> None:
        handler.receive_file()
        handler.answer(307, Location=f"{pair.destination.url}/v2/images/new/file", Connection="close")
        handler.close_connection = True

    pair.destination.receive = receive
    pair.fail("the destination answered 307")


def test_destination_that_cuts_the_connection(pair: Pair) -> None:
    def receive(handler: Handler) -> None:
        handler.rfile.read(HALF_BYTES)
        handler.cut()

    pair.destination.receive = receive
    pair.fail("the destination broke off after")


def test_destination_that_refuses_while_the_source_stalls(pair: Pair) -> None:
    """The reader then waits on its socket: the end must reach it there."""
    ended = threading.Event()

    def send(handler: Handler, data: bytes) -> None:
        handler.send_file(data[:HALF_BYTES], announced_bytes=len(data))
        ended.wait(60)

    def receive(handler: Handler) -> None:
        handler.rfile.read(HALF_BYTES // 2)
        handler.refuse(500)

    pair.source.send, pair.destination.receive = send, receive
    with pytest.raises(TransferError, match="the destination broke off after"):
        pair.copy()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-")]
    ended.set()
    assert pair.source.becomes_idle()


def test_destination_that_keeps_less(pair: Pair) -> None:
    pair.destination.receive = lambda handler: (handler.receive_file() or b"")[:-1]
    with pytest.raises(TransferError, match=f"active with {SIZE_BYTES - 1} bytes at the destination"):
        pair.copy()


def test_destination_that_keeps_other_bytes(pair: Pair) -> None:
    pair.destination.receive = lambda handler: (handler.receive_file() or b"")[:-1] + b"!"
    pair.hold(BYTES[:-1] + b"?")
    with pytest.raises(TransferError, match="the sha512 at the destination is"):
        pair.copy()


def test_destination_that_is_active_already(pair: Pair) -> None:
    pair.destination.images["new"]["status"] = "active"
    with pytest.raises(TransferError, match="is active, not queued"):
        pair.copy()
    assert pair.destination.count("upload") == pair.source.count("download") == 0


def test_unreachable_destination(pair: Pair) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        pair.destination.url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(TransferError, match="the destination does not take it"):
            pair.copy()


def test_an_error_of_the_caller_stops_the_copy(pair: Pair) -> None:
    def cancel(_: int) -> None:
        raise KeyboardInterrupt

    pair.progress = type("Cancel", (list,), {"append": staticmethod(cancel)})()
    with pytest.raises(KeyboardInterrupt):
        pair.copy()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-")]
    assert pair.source.becomes_idle()
    assert pair.destination.becomes_idle()


def test_a_copy_is_broken_off_when_the_run_is_to_end(pair: Pair) -> None:
    limits = TransferLimits(1, bytes_per_second=CHUNK_BYTES)
    pair.progress = type("Stop", (list,), {"append": staticmethod(lambda _: limits.stop.set())})()
    start_s = time.monotonic()
    with pytest.raises(Interruption):
        pair.copy(limits)
    assert time.monotonic() - start_s < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-")]
    assert pair.source.becomes_idle()
    assert pair.destination.becomes_idle()


@pytest.mark.parametrize(("status", "is_final"), [(403, True), (404, True), (401, False), (503, False)])
def test_another_attempt_is_worth_it_where_the_answer_may_be_another(
    pair: Pair, status: int, is_final: bool
) -> None:
    pair.source.send = lambda handler, _: handler.refuse(status)
    with pytest.raises(TransferError) as failed:
        pair.copy()
    assert isinstance(failed.value, BrokenOffError) is not is_final


def test_a_token_about_to_expire_is_renewed_before_the_upload(pair: Pair) -> None:
    pair.destination.token_life_s = 300
    pair.copy()
    assert pair.destination.requests == ["login", "show", "login", "upload", "show"]


def test_transfers_at_a_time(pair: Pair) -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def send(handler: Handler, data: bytes) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        handler.send_file(data)
        with lock:
            running -= 1

    pair.source.send = send
    limits = TransferLimits(2)
    for number in range(6):
        pair.source.images[f"old{number}"] = pair.source.images["old"]
        pair.source.data[f"old{number}"] = BYTES
        pair.destination.images[f"new{number}"] = {"name": "n", "status": "queued", "size": None}
    source, destination = Cloud(pair.source), Cloud(pair.destination)

    def copy(number: int) -> Copied:
        return copy_image(
            source,
            destination,
            f"old{number}",
            f"new{number}",
            size_bytes=SIZE_BYTES,
            expected=Hashes.of(pair.source.images["old"]),
            limits=limits,
            on_progress=lambda _: None,
        )

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(copy, range(6)))
    assert most <= 2
    assert all(pair.destination.data[f"new{number}"] == BYTES for number in range(6))


@given(
    rate=st.integers(1, 1 << 30),
    steps=st.lists(st.tuples(st.integers(1, 1 << 20), st.floats(0, 10)), min_size=1),
)
def test_rate_is_never_exceeded(rate: int, steps: list[tuple[int, float]]) -> None:
    """Whatever the takers do, after t seconds at most rate * (t + 0.25) bytes and one piece have moved."""
    now_s = 0.0
    limits = TransferLimits(1, rate, clock=lambda: now_s)
    moved_bytes = 0
    for size_bytes, idle_s in steps:
        now_s += idle_s
        now_s += limits.delay_s(size_bytes)
        assert moved_bytes <= rate * (now_s + 0.25) * (1 + 1e-9)
        moved_bytes += size_bytes


def test_rate_is_shared_and_reached() -> None:
    limits = TransferLimits(4, 1000, clock=lambda: 0.0)
    assert [limits.delay_s(250) for _ in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_a_rate_that_is_changed_holds_from_then_on() -> None:
    limits = TransferLimits(4, 1000, clock=lambda: 0.0)
    assert [limits.delay_s(60_000) for _ in range(2)] == [0.0, 60.0]
    limits.change(4, 4000)
    assert [limits.delay_s(1000) for _ in range(3)] == [0.0, 0.25, 0.5]
    limits.change(4, None)
    assert limits.delay_s(1 << 40) == 0


def test_more_slots_are_given_at_once_and_fewer_as_they_become_free() -> None:
    slots, inside, leave = Slots(1), threading.Semaphore(0), threading.Semaphore(0)

    def work() -> None:
        with slots:
            inside.release()
            leave.acquire()

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(work)
        inside.acquire()
        assert not inside.acquire(timeout=0.1)
        slots.resize(3)
        assert inside.acquire(timeout=5)
        assert inside.acquire(timeout=5)
        slots.resize(2)
        leave.release()
        assert not inside.acquire(timeout=0.1)
        leave.release()
        assert inside.acquire(timeout=5)
        leave.release(2)


def test_a_transfer_that_waits_for_its_turn_goes_on_when_the_rate_is_changed(pair: Pair) -> None:
    """At the first rate the second piece would come after two minutes."""
    data = BYTES[: 1 << 18]
    pair.hold(data)
    limits = TransferLimits(1, bytes_per_second=128)
    threading.Timer(0.5, limits.change, (1, None)).start()
    before_s = time.monotonic()
    pair.copy(limits)
    assert time.monotonic() - before_s < 30


def test_no_rate_no_delay() -> None:
    assert TransferLimits(4).delay_s(1 << 40) == 0


@pytest.mark.parametrize(("rate", "chunk_bytes"), [(None, 1 << 20), (1 << 30, 1 << 20), (1 << 20, 1 << 17)])
def test_low_rates_move_small_pieces(rate: int | None, chunk_bytes: int) -> None:
    assert TransferLimits(4, rate).chunk_bytes == chunk_bytes


def test_a_slow_transfer_arrives_and_takes_its_time(pair: Pair) -> None:
    data = BYTES[: 1 << 20]
    pair.hold(data)
    before_s = time.monotonic()
    pair.copy(TransferLimits(1, bytes_per_second=2 << 20))
    assert time.monotonic() - before_s >= 0.25 - 1 / 8
    assert pair.destination.data["new"] == data

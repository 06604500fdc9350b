"""A forward proxy in front of the lab's services, which harms the requests that its rules name.

Pumphouse is led to it by `http_proxy` in its environment, as requests honours it. Every body is streamed.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any
from urllib.parse import urlsplit

from lab import Lab
from tests.faults.rules import IMAGE_BYTES, Action, Answered, Cut, Outage, Request, Rule, ShortTokens

BLOCK_BYTES = 1 << 16
SMALL_BODY_BYTES = 1 << 16
UPSTREAM_TIMEOUT_S = 300
LINGER_S = 5
RECORDS_MAX = 100_000
_HOP_BY_HOP = {"connection", "proxy-connection", "keep-alive", "transfer-encoding", "te", "upgrade"}


@dataclass(frozen=True)
class Exchange:
    """What became of one request.

    status: what the client was told; None when the connection was cut.
    action: what the proxy did to it; empty for nothing.
    """

    request: Request
    status: int | None
    action: str


class Proxy(ThreadingHTTPServer):
    """The proxy; `rules` may be replaced at any time.

    exchanges: what was done, newest last.
    downloaded, uploaded: the bytes of each image that went through, by `<cloud>/<image id>`.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, lab: Lab, handler: type[Handler] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), handler or Handler)
        self.rules: Sequence[Rule | Outage | ShortTokens] = ()
        self.exchanges: deque[Exchange] = deque(maxlen=RECORDS_MAX)
        self.downloaded: Counter[str] = Counter()
        self.uploaded: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._services = {
            port: f"{cloud.name}/{service}" for cloud in lab.clouds() for service, port in cloud.ports.items()
        }

    @property
    def environment(self) -> dict[str, str]:
        """What leads a process to the proxy."""
        address = f"http://127.0.0.1:{self.server_port}"
        return {"http_proxy": address, "HTTP_PROXY": address, "no_proxy": "", "NO_PROXY": ""}

    def route(self, url: str) -> tuple[str, str, str]:
        """The cloud and service that a URL is for, its address and the path there; KeyError for what is not the lab's."""
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return self._services[parts.port or 80], parts.netloc, path

    def action_for(self, request: Request) -> Action:
        """What the first rule that wants to do something does."""
        with self._lock:
            wanted = (rule.action(request) for rule in self.rules)
            return next((action for action in wanted if action is not None), Action())

    def count(self, counter: Counter[str], key: str, size_bytes: int) -> None:
        """Add bytes to one of the counters."""
        with self._lock:
            counter[key] += size_bytes

    def forget(self) -> None:
        """Forget all that was done, and do nothing from now on."""
        self.rules = ()
        for record in (self.exchanges, self.downloaded, self.uploaded):
            record.clear()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave a client that went away; anything else is an error of the proxy, to be seen."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def running(lab: Lab) -> Iterator[Proxy]:
    """A proxy in front of all services of a lab."""
    with Proxy(lab) as proxy, serving(proxy):
        yield proxy


@contextmanager
def serving(proxy: Proxy) -> Iterator[None]:
    """Have a proxy answer."""
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), name="proxy")
    thread.start()
    try:
        yield
    finally:
        proxy.shutdown()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """One connection of a client, on which request follows request."""

    protocol_version = "HTTP/1.1"
    server: Proxy
    rfile: BufferedIOBase
    # Else a small answer waits for the client's acknowledgement of its headers.
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        """Read a request and handle it, whatever its method."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self._exchange()

    def _exchange(self) -> None:
        service, address, path = self.server.route(self.path)
        size_bytes = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size_bytes) if 0 < size_bytes <= SMALL_BODY_BYTES else b""
        token = self.headers.get("X-Auth-Token", "")
        request = Request(service, self.command, path, body, token)
        action = self.server.action_for(request)
        status: int | None = None
        try:
            if "Transfer-Encoding" in self.headers:
                raise Answered(http.HTTPStatus.LENGTH_REQUIRED)
            action.before(request)
            status = self._forward(address, request, action)
        except Answered as answered:
            status = answered.status
            self._answer(answered)
        except Cut:
            self.close_connection = True
        finally:
            done = "" if type(action) is Action else str(action)
            self.server.exchanges.append(Exchange(request, status, done))

    def _forward(self, address: str, request: Request, action: Action) -> int:
        upstream = http.client.HTTPConnection(address, timeout=UPSTREAM_TIMEOUT_S)
        with closing(upstream):
            upstream.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    upstream.putheader(name, value)
            upstream.putheader("Connection", "close")
            upstream.endheaders()
            self._send_body(upstream, request, action)
            response = upstream.getresponse()
            action.after()
            self._relay(response, request, action)
            return response.status

    def _send_body(self, upstream: http.client.HTTPConnection, request: Request, action: Action) -> None:
        """Forward the body; a service that answers before it has all of it may close its side."""
        size_bytes = int(self.headers.get("Content-Length", 0))
        blocks = iter([request.body]) if request.body else _blocks(self.rfile, size_bytes)
        try:
            for block in action.upload(blocks, size_bytes):
                upstream.send(block)
                self._count(self.server.uploaded, "PUT", request, len(block))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _relay(self, response: http.client.HTTPResponse, request: Request, action: Action) -> None:
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        bodyless = request.method == "HEAD" or response.status in (204, 304)
        chunked = response.length is None and not bodyless
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if bodyless:
            return
        blocks = iter(lambda: response.read(BLOCK_BYTES), b"")
        for block in action.download(blocks, response.length or 0):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
            self._count(self.server.downloaded, "GET", request, len(block))
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _count(self, counter: Counter[str], method: str, request: Request, size_bytes: int) -> None:
        image = re.search(IMAGE_BYTES, request.path)
        if image and request.method == method:
            self.server.count(counter, f"{request.service.partition('/')[0]}/{image[1]}", size_bytes)

    def _answer(self, answered: Answered) -> None:
        """Answer as the services do, and end the connection when the client is still sending."""
        message = {"error": {"code": answered.status, "message": answered.message, "title": "Refused"}}
        content = answered.page.encode() or json.dumps(message).encode()
        length = int(self.headers.get("Content-Length", 0))
        sending = length > SMALL_BODY_BYTES or "Transfer-Encoding" in self.headers
        self.send_response_only(answered.status)
        for name, value in answered.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/html" if answered.page else "application/json")
        self.send_header("Content-Length", str(len(content)))
        if sending:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        if sending:
            self._linger()

    def _linger(self) -> None:
        """Take what is still sent: closing on it would reset the connection and lose the answer."""
        self.close_connection = True
        self.wfile.flush()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER_S)
            while self.connection.recv(BLOCK_BYTES):
                pass


def _blocks(stream: BufferedIOBase, size_bytes: int) -> Iterator[bytes]:
    """A body of a known size; Cut when the client goes away in the middle of it."""
    while size_bytes:
        block = stream.read(min(BLOCK_BYTES, size_bytes))
        if not block:
            raise Cut
        size_bytes -= len(block)
        yield block

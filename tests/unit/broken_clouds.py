"""A Keystone on loopback that answers as no cloud should."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Behave = Callable[["Handler"], None]
PAGE = (
    "<!DOCTYPE html><html><head><title>503 Service Unavailable</title><style>body {color: red}</style></head>"
    "<body><h1>Service Unavailable</h1><p>" + "Our engineers are on it. " * 40 + "</p></body></html>"
)


class Handler(BaseHTTPRequestHandler):
    """Answers every request as its server behaves."""

    server: Server

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError):
            super().handle_one_request()

    def _handle(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.behave(self)

    do_GET = do_POST = do_HEAD = _handle

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, body: str, *, kind: str = "application/json", **headers: str) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body.encode())


class Server(ThreadingHTTPServer):
    """A server that behaves in one way."""

    daemon_threads = True
    stopped = threading.Event()

    def __init__(self, behave: Behave) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave = behave


def served(behave: Behave, folder: Path | None = None) -> tuple[Server, str]:
    """A server that behaves so, and its address; with a folder, over TLS with a certificate of its own."""
    server = Server(behave)
    if folder:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self_signed(folder))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server, f"http{'s' if folder else ''}://127.0.0.1:{server.server_port}"


@contextlib.contextmanager
def serving(behave: Behave, folder: Path | None = None) -> Iterator[str]:
    """The address of a server that behaves so, for as long as the context lasts."""
    server, url = served(behave, folder)
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()


def self_signed(folder: Path) -> Path:
    """A certificate that nobody vouches for, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "server.pem"
    path.write_bytes(secret + pem)
    return path


def token(**changes: Any) -> dict[str, Any]:
    """What a login is answered; a change to None leaves the field out."""
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    domain = {"id": "default", "name": "Default"}
    whole = {
        "expires_at": soon,
        "issued_at": soon,
        "methods": ["password"],
        "user": {"id": "u", "name": "me", "domain": domain},
        "project": {"id": "p", "name": "admin", "domain": domain},
        "roles": [{"id": "r", "name": "admin"}],
        "catalog": [],
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def logging_in(answer: Any) -> Behave:
    """A Keystone that says its version, and answers each login so."""

    def behave(request: Handler) -> None:
        if request.command == "POST":
            request.answer(
                201, answer if isinstance(answer, str) else json.dumps(answer), X_Subject_Token="t"
            )
        else:
            host = request.headers["Host"]
            links = [{"rel": "self", "href": f"http://{host}/v3/"}]
            version = {"id": "v3.14", "status": "stable", "links": links}
            request.answer(200, json.dumps({"version": version}))

    return behave


def answering(status: int, body: str, kind: str = "application/json", **headers: str) -> Behave:
    """A server that answers everything so."""
    return lambda request: request.answer(status, body, kind=kind, **headers)


def with_services(behave_list: Behave) -> Behave:
    """A Keystone with a catalog in which all services are at its own address, and what a list call is answered."""

    def behave(request: Handler) -> None:
        path = request.path.partition("?")[0]
        if path.endswith("/auth/tokens") or path in ("/v3", "/v3/", "/"):
            url = f"http://{request.headers['Host']}"
            kinds = ("identity", "image", "network", "compute")
            catalog = [
                {
                    "type": kind,
                    "name": kind,
                    "id": kind,
                    "endpoints": [
                        {
                            "interface": "public",
                            "region": "R",
                            "region_id": "R",
                            "id": kind,
                            "url": f"{url}/v3",
                        }
                    ],
                }
                for kind in kinds
            ]
            logging_in({"token": token(catalog=catalog)})(request)
        else:
            behave_list(request)

    return behave


def silent(request: Handler) -> None:
    """Accept, and say nothing until the other side goes."""
    request.connection.settimeout(20)
    request.rfile.read(1)


def dripping(request: Handler) -> None:
    """A byte now and then, for ever."""
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    for _ in range(400):
        request.wfile.write(b"x")
        time.sleep(0.05)

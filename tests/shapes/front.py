"""A load balancer in front of two real clouds, which makes them look like clouds of other operators.

It is one address with a path for each cloud and service. What it changes of what they answer is up to its traits.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from lab import Lab
from tests.faults.proxy import Handler, Proxy, serving
from tests.faults.rules import Action, Answered, Request
from tests.shapes.traits import Trait

# The services by the types that catalogs have of them.
NAMES = {
    "identity": "keystone",
    "image": "glance",
    "placement": "placement",
    "network": "neutron",
    "block-storage": "cinder",
    "compute": "nova",
}
TYPES = {name: kind for kind, name in NAMES.items()}
_UNCHANGED = {"content-length", "connection", "keep-alive", "transfer-encoding"}


class Front(Proxy):
    """The load balancer.

    traits: of each cloud by its name; may be replaced at any time.
    idle_s: for how long a connection may be idle before it is cut; None for ever, 0 not at all.
    leaves_links: whether the services do not know of it, so that the addresses in their answers lead around it.
    tls: the server's side of TLS, if it speaks that.
    """

    def __init__(self, lab: Lab, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(lab, FrontHandler)
        self.traits: Mapping[str, Sequence[Trait]] = {}
        self.idle_s: float | None = None
        self.leaves_links = False
        self.scheme = "https" if tls else "http"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._ports = {
            f"{cloud.name}/{service}": port for cloud in lab.clouds() for service, port in cloud.ports.items()
        }

    def reset(self) -> None:
        """Nothing is odd any more, and all that was done is forgotten."""
        self.forget()
        self.traits, self.idle_s, self.leaves_links = {}, None, False

    def url(self, cloud: str, kind: str) -> str:
        """Where a service of a cloud is."""
        return f"{self.scheme}://127.0.0.1:{self.server_port}/{cloud}/{kind}"

    def route(self, url: str) -> tuple[str, str, str]:
        """The cloud and service that a path is for, its address and the path there."""
        cloud, kind, rest = (*urlsplit(url)._replace(scheme="", netloc="").geturl()[1:].split("/", 2), "")[:3]
        kind, question, query = kind.partition("?")
        service = f"{cloud}/{NAMES[kind]}"
        path = f"/{rest}{question}{query}"
        for trait in self.traits.get(cloud, ()):
            path = trait.path(kind, path)
        return service, self.address(service), path

    def address(self, service: str) -> str:
        """Where a service is behind it."""
        return f"127.0.0.1:{self._ports[service]}"

    def action_for(self, request: Request) -> Action:
        """What the first of the traits and rules that wants to do something does."""
        for trait in self.traits_of(request):
            if (action := trait.action(request)) is not None:
                return action
        return super().action_for(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave a client that does not agree to the certificates, too."""
        if not isinstance(sys.exc_info()[1], ssl.SSLError):
            super().handle_error(request, client_address)

    def traits_of(self, request: Request) -> Sequence[Trait]:
        """The traits of the cloud that a request is for."""
        return self.traits.get(request.service.partition("/")[0], ())

    def catalog(self, cloud: str, listed: list[Any]) -> list[Any]:
        """The catalog of a cloud with the addresses of this."""
        entries = []
        for entry in listed:
            kind = "block-storage" if entry["type"].startswith("volume") else entry["type"]
            endpoints = [{**item, "url": self.url(cloud, kind)} for item in entry["endpoints"]]
            entries.append({**entry, "type": kind, "endpoints": endpoints})
        return entries


@contextmanager
def fronted(lab: Lab, tls: ssl.SSLContext | None = None) -> Iterator[Front]:
    """A load balancer that answers."""
    with Front(lab, tls) as front, serving(front):
        yield front


class FrontHandler(Handler):
    """One connection of a client."""

    server: Front

    def handle_one_request(self) -> None:
        """Read a request and handle it; cut the connection where none comes for a while."""
        self.connection.settimeout(self.server.idle_s or None)
        try:
            super().handle_one_request()
        except TimeoutError:
            self.close_connection = True
        self.close_connection |= self.server.idle_s == 0

    def _exchange(self) -> None:
        self.connection.settimeout(None)
        try:
            super()._exchange()
        except KeyError:
            self._answer(Answered(404, page="<html>nothing here</html>"))

    def _relay(self, response: http.client.HTTPResponse, request: Request, action: Action) -> None:
        """Pass on an answer; one in JSON as the traits make it."""
        if "json" not in (response.getheader("Content-Type") or "") or self.command == "HEAD":
            super()._relay(response, request, action)
            return
        cloud, service = request.service.split("/")
        text = b"".join(action.download(iter([response.read()]), 0)).decode() or "null"
        if not self.server.leaves_links:
            for host in (self.headers["Host"], self.server.address(request.service)):
                text = text.replace(f"http://{host}", self.server.url(cloud, TYPES[service]))
        body = json.loads(text)
        token = body.get("token") if isinstance(body, dict) else None
        if token and "catalog" in token:
            token["catalog"] = self.server.catalog(cloud, token["catalog"])
        for trait in self.server.traits_of(request):
            body = trait.answer(request, body)
        content = json.dumps(body).encode()
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in _UNCHANGED:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def clouds_file(front: Front, lab: Lab, path: Path, changes: Mapping[str, Mapping[str, Any]]) -> Path:
    """A clouds.yaml of both clouds behind the load balancer, with changes of each.

    `{url}` stands for a cloud's address; what becomes None is left out.
    """
    clouds = yaml.safe_load(lab.clouds_yaml.read_text())["clouds"]
    for name, cloud in clouds.items():
        cloud["auth"]["auth_url"] = f"{front.url(name, 'identity')}/v3"
        written = json.dumps(changes.get(name, {})).replace("{url}", front.url(name, "").rstrip("/"))
        changed = json.loads(written)
        changed["auth"] = _set({**cloud["auth"], **changed.get("auth", {})})
        clouds[name] = _set({**cloud, **changed})
    path.write_text(json.dumps({"clouds": clouds}))
    path.chmod(0o600)
    return path


def _set(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}

"""The transport against a small HTTP server that refuses, breaks off and revokes tokens on demand."""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from keystoneauth1 import exceptions
from keystoneauth1.identity import generic, v3

from pumphouse.cloud import outage, transport
from pumphouse.cloud.outage import Outages
from pumphouse.cloud.transport import CloudSession, connection_pool
from pumphouse.errors import Interruption, OutageError, ReadOnlyError, SecretFilter, mask_secrets

PASSWORD = "correct horse battery"
BREAK_OFF = 0


@dataclass
class SmallCloud:
    """A Keystone that gives out tokens, and what any other path shall answer.

    answers: the next statuses, by method; once there are none left, 200. BREAK_OFF closes the connection.
    headers: sent with every answer that is not 200.
    cut_short: how many of the next answers end before they are complete.
    """

    url: str = ""
    answers: dict[str, list[int]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=lambda: {"Retry-After": "0"})
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    logins: int = 0
    revoked: set[str] = field(default_factory=set)
    revoke_next: int = 0
    revoke_every: int = 0
    accepted: int = 0
    delay_s: float = 0
    cut_short: int = 0

    def login(self) -> str:
        self.logins += 1
        token = f"token-{self.logins}"
        if self.revoke_next:
            self.revoke_next -= 1
            self.revoked.add(token)
        return token

    def status(self, method: str, token: str | None) -> int:
        if token is None or token in self.revoked:
            return 401
        self.accepted += 1
        if self.revoke_every and self.accepted % self.revoke_every == 0:
            self.revoked.add(token)
        return next(iter(self.answers.get(method, ())), 200)

    def counted(self) -> Counter[str]:
        return Counter(method for method, path, _ in self.requests if "/auth/tokens" not in path)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cloud: SmallCloud
    lock = threading.Lock()

    def _handle(self) -> None:
        length = self._read_body()
        with self.lock:
            self.cloud.requests.append((self.command, self.path, length))
            login = self.path.endswith("/auth/tokens") and self.command == "POST"
            status = 201 if login else self.cloud.status(self.command, self.headers.get("X-Auth-Token"))
            if not login and self.cloud.answers.get(self.command) and status != 401:
                self.cloud.answers[self.command].pop(0)
            token = self.cloud.login() if login else ""
        time.sleep(0 if login else self.cloud.delay_s)
        if status == BREAK_OFF:
            self.close_connection = True
            self.connection.close()
            return
        self._answer(status, token)

    def _read_body(self) -> int:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        total = 0
        while size := int(self.rfile.readline(), 16):
            total += len(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return total

    def _answer(self, status: int, token: str) -> None:
        body = json.dumps(
            self._token_body() if token else {"server": {"id": "s1", "adminPass": "generated-pw"}}
        )
        self.send_response(status)
        for name, value in self.cloud.headers.items() if status >= 300 else ():
            self.send_header(name, value)
        if token:
            self.send_header("X-Subject-Token", token)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            short = self.cloud.cut_short > 0 and not token
            self.cloud.cut_short -= short
            self.close_connection = self.close_connection or short
            self.wfile.write(body.encode()[: 9 if short else None])

    def _token_body(self) -> dict[str, Any]:
        kinds = ("compute", "identity", "image")
        endpoint = {"interface": "public", "region": "R", "region_id": "R", "url": self.cloud.url}
        return {
            "token": {
                "expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
                "issued_at": datetime.now(UTC).isoformat(),
                "methods": ["password"],
                "user": {"id": "u", "name": "u", "domain": {"id": "default", "name": "Default"}},
                "project": {"id": "p", "name": "p", "domain": {"id": "default", "name": "Default"}},
                "roles": [{"id": "r", "name": "admin"}],
                "catalog": [{"type": kind, "name": kind, "endpoints": [endpoint]} for kind in kinds],
            }
        }

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallCloud]:
    monkeypatch.setattr(outage, "BACKOFF_S", 0.01)
    monkeypatch.setattr(outage, "PAUSE_MAX_S", 0.05)
    monkeypatch.setattr(outage, "LOGIN_S", 3.0)
    cloud = SmallCloud()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"cloud": cloud}))
    server.daemon_threads = True
    cloud.url = f"http://127.0.0.1:{server.server_port}/v3"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield cloud
    server.shutdown()
    server.server_close()


def session_of(cloud: SmallCloud, *, threads: int = 4, read_only: bool = False) -> CloudSession:
    login = v3.Password(cloud.url, username="u", password=PASSWORD, user_domain_id="default", project_id="p")
    return CloudSession(login, connection_pool(threads), Outages("source"), read_only=read_only)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_read_only_session_sends_no_write(cloud: SmallCloud, method: str) -> None:
    session = session_of(cloud, read_only=True)
    session.get_token()
    with pytest.raises(ReadOnlyError, match=method):
        session.request(f"{cloud.url}/servers", method)
    with pytest.raises(ReadOnlyError):
        session.request(
            f"{cloud.url}/servers", method, authenticated=False, headers={"X-Auth-Token": "token-1"}
        )
    assert cloud.counted() == {}


def test_a_cloud_that_is_not_there_is_waited_for_once(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "LOGIN_S", 0.3)
    pauses: list[float] = []
    pause = Outages.pause
    monkeypatch.setattr(
        Outages, "pause", lambda self, seconds: (pauses.append(seconds), pause(self, seconds))
    )
    cloud.url = "http://127.0.0.1:9/v3"
    session = session_of(cloud)
    with pytest.raises(exceptions.ConnectFailure):
        session.get_token()
    waited = len(pauses)
    assert waited
    for _ in range(2):  # as discovery and login ask, one after the other
        with pytest.raises(exceptions.ConnectFailure):
            session.get_token()
    assert len(pauses) == waited


def test_a_read_only_session_logs_in_by_a_token(cloud: SmallCloud) -> None:
    login = v3.Token(f"{cloud.url}/v3", "token-0", project_id="p")
    session = CloudSession(login, connection_pool(1), Outages("source"), read_only=True)
    assert session.get_token().startswith("token-")


def test_a_read_only_session_reads_and_logs_in(cloud: SmallCloud) -> None:
    session = session_of(cloud, read_only=True)
    assert session.get(f"{cloud.url}/servers").status_code == 200
    assert session.head(f"{cloud.url}/servers").status_code == 200
    assert cloud.logins == 1
    scoped = session.with_auth(v3.Token(cloud.url, "token-1", project_id="q"))
    with pytest.raises(ReadOnlyError):
        scoped.delete(f"{cloud.url}/servers/1")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, BREAK_OFF])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_what_is_safe_to_repeat_is_repeated(cloud: SmallCloud, method: str, status: int) -> None:
    cloud.answers[method] = [status, status]
    assert session_of(cloud).request(f"{cloud.url}/servers", method).status_code == 200
    assert cloud.counted() == {method: 3}


def test_what_is_gone_when_it_is_deleted_again_was_deleted(cloud: SmallCloud) -> None:
    cloud.answers["DELETE"] = [504, 404]
    assert session_of(cloud).delete(f"{cloud.url}/servers/s1").status_code == 204
    cloud.answers["DELETE"] = [404]
    with pytest.raises(exceptions.NotFound):
        session_of(cloud).delete(f"{cloud.url}/servers/s1")


def test_the_cloud_says_how_long_to_wait(cloud: SmallCloud) -> None:
    cloud.answers["GET"] = [503]
    cloud.headers["Retry-After"] = "1"
    start_s = time.monotonic()
    session_of(cloud).get(f"{cloud.url}/servers")
    assert 1 <= time.monotonic() - start_s < 2


def test_a_cloud_cannot_ask_for_hours(cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "RETRY_AFTER_MAX_S", 0.1)
    cloud.answers["GET"] = [503, 429]
    cloud.headers["Retry-After"] = "7200"
    assert session_of(cloud).get(f"{cloud.url}/servers").status_code == 200


def test_a_busy_cloud_ends_as_its_own_error(cloud: SmallCloud) -> None:
    cloud.answers["GET"], cloud.headers = [503] * 1000, {}
    with pytest.raises(exceptions.ServiceUnavailable):
        session_of(cloud).get(f"{cloud.url}/servers")
    assert 3 < cloud.counted()["GET"] < 400


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_refused_write_is_repeated(cloud: SmallCloud, method: str, status: int) -> None:
    cloud.answers[method] = [status]
    assert session_of(cloud).request(f"{cloud.url}/servers", method, json={"a": 1}).status_code == 200
    assert [length for name, _, length in cloud.requests if name == method][-2:] == [8, 8]


def test_a_limit_of_the_rate_is_waited_for_and_a_quota_is_not(cloud: SmallCloud) -> None:
    """Nova has used 413 for both; only a limit of the rate says when to come again."""
    cloud.answers["POST"] = [413]
    assert session_of(cloud).post(f"{cloud.url}/servers", json={}).status_code == 200
    assert cloud.counted() == {"POST": 2}
    cloud.answers["POST"], cloud.headers = [413], {}
    with pytest.raises(exceptions.RequestEntityTooLarge):
        session_of(cloud).post(f"{cloud.url}/servers", json={})
    assert cloud.counted() == {"POST": 3}


def test_a_refused_write_waits_as_long_as_the_cloud_asks(cloud: SmallCloud) -> None:
    cloud.answers["POST"], cloud.headers["Retry-After"] = [429], "1"
    start_s = time.monotonic()
    session_of(cloud).post(f"{cloud.url}/servers", json={})
    assert 1 <= time.monotonic() - start_s < 2.5


def test_an_answer_that_is_cut_short_is_read_again_and_a_write_is_not_repeated(cloud: SmallCloud) -> None:
    cloud.cut_short = 1
    assert session_of(cloud).get(f"{cloud.url}/servers").json()["server"]["id"] == "s1"
    assert cloud.counted() == {"GET": 2}
    cloud.cut_short = 1
    with pytest.raises(exceptions.ClientException):
        session_of(cloud).post(f"{cloud.url}/servers", json={})
    assert cloud.counted() == {"GET": 2, "POST": 1}


@pytest.mark.parametrize("status", [500, 502, 504, BREAK_OFF])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_write_in_doubt_is_never_repeated(cloud: SmallCloud, method: str, status: int) -> None:
    cloud.answers[method] = [status]
    with pytest.raises(exceptions.ClientException):
        session_of(cloud).request(f"{cloud.url}/servers", method, json={"a": 1}, connect_retries=3)
    assert cloud.counted() == {method: 1}


def test_a_write_without_an_answer_is_never_repeated(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(cloud)
    session.get_token()
    session.outages.answer_s = session.outages.login_s = 0.2
    cloud.delay_s = 1
    with pytest.raises(exceptions.ConnectTimeout):
        session.post(f"{cloud.url}/servers", json={"a": 1})
    assert cloud.counted() == {"POST": 1}


@pytest.mark.parametrize("status", [307, 401, 429, 502, 503, BREAK_OFF])
def test_a_stream_is_sent_once(cloud: SmallCloud, status: int) -> None:
    session = session_of(cloud)
    session.get_token()
    cloud.headers["Location"] = f"{cloud.url}/elsewhere"
    if status == 401:
        cloud.revoked.add("token-1")
    cloud.answers["PUT"] = [status]
    try:
        answer = session.put(f"{cloud.url}/file", data=(b"x" * 10 for _ in range(3)), raise_exc=False)
    except exceptions.ConnectFailure:
        assert status == BREAK_OFF
    else:
        assert answer.status_code == status
    assert [request for request in cloud.requests if request[0] == "PUT"] == [("PUT", "/v3/file", 30)]
    assert cloud.logins == 1


@pytest.mark.parametrize("body", [b"x", "x", bytearray(b"x"), {"a": 1}, [1], None])
def test_a_body_that_can_be_sent_again_is_no_stream(body: object) -> None:
    assert not transport.is_stream(body)


@pytest.mark.parametrize("body", [iter([b"x"]), io.BytesIO(b"x"), (b"x" for _ in range(1))])
def test_a_body_that_is_used_up_is_a_stream(body: object) -> None:
    assert transport.is_stream(body)


def test_revoked_tokens_fail_no_thread(cloud: SmallCloud) -> None:
    session = session_of(cloud, threads=32)
    cloud.revoke_every = 150

    def read(_: int) -> int:
        return session.get(f"{cloud.url}/servers").status_code

    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(read, range(960))) == {200}
    assert len(cloud.revoked) == 960 // 150
    assert cloud.logins == len(cloud.revoked) + 1


def test_a_token_that_is_revoked_at_once_is_replaced_again(cloud: SmallCloud) -> None:
    cloud.revoke_next = 2
    assert session_of(cloud).post(f"{cloud.url}/servers", json={}).status_code == 200
    assert cloud.logins == 3


def test_a_cloud_that_refuses_every_token_ends(cloud: SmallCloud) -> None:
    cloud.revoke_next = 100
    with pytest.raises(exceptions.Unauthorized):
        session_of(cloud).get(f"{cloud.url}/servers")
    assert cloud.logins == 1 + len(transport.RENEWAL_WAITS_S)


def test_a_caller_may_forbid_the_renewal(cloud: SmallCloud) -> None:
    cloud.revoke_next = 1
    answer = session_of(cloud).get(f"{cloud.url}/servers", allow_reauth=False, raise_exc=False)
    assert (answer.status_code, cloud.logins) == (401, 1)


def test_the_pool_holds_all_threads(cloud: SmallCloud, caplog: pytest.LogCaptureFixture) -> None:
    session = session_of(cloud, threads=32)
    cloud.delay_s = 0.05
    with caplog.at_level(logging.DEBUG, "urllib3.connectionpool"), ThreadPoolExecutor(32) as threads:
        list(threads.map(lambda _: session.get(f"{cloud.url}/servers"), range(200)))
    assert "pool is full" not in caplog.text
    assert caplog.text.count("Starting new HTTP connection") <= 33


def test_connections_send_large_blocks(cloud: SmallCloud) -> None:
    adapter: Any = connection_pool(4).get_adapter(cloud.url)
    connection = adapter.poolmanager.connection_from_url(cloud.url)._new_conn()
    assert connection.blocksize == 1 << 20


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that the clients log, as `--debug` sets it up."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.addFilter(SecretFilter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


def test_the_real_clients_log_no_secret(cloud: SmallCloud, log: io.StringIO) -> None:
    from keystoneclient.v3.client import Client as Keystone
    from novaclient.client import Client as Nova

    session = session_of(cloud)
    nova = Nova("2.96", session=session)
    nova.servers.create("vm", "image", "flavor", userdata="my user data", admin_pass='a"dm\\in', nics="none")
    keystone = Keystone(session=session, endpoint_override=cloud.url)
    cloud.answers["POST"] = [409, 409]
    with pytest.raises(exceptions.Conflict):
        keystone.users.create("bob", password="bobs word", email="bob@example.org")
    with pytest.raises(exceptions.Conflict):
        keystone.application_credentials.create("name", user="u", secret="app word")
    logged = log.getvalue()
    assert '"name": "vm"' in logged
    secrets = (
        PASSWORD,
        "my user data",
        "bXkgdXNlciBkYXRh",
        "dm\\",
        "generated-pw",
        "bobs word",
        "app word",
        "token-1",
    )
    assert [secret for secret in secrets if secret in logged] == []


def test_a_traceback_shows_no_secret(log: io.StringIO) -> None:
    try:
        raise requests.ConnectionError('body was {"adminPass": "hidden-word"}')
    except requests.ConnectionError:
        logging.getLogger("x").exception("failed with %s", {"password": "other-word"})
    assert "ConnectionError" in log.getvalue()
    assert "-word" not in log.getvalue()


@given(
    st.text(min_size=1), st.sampled_from(["password", "adminPass", "user_data", "OS-EXT-SRV-ATTR:user_data"])
)
def test_any_secret_in_json_is_masked_and_nothing_else(secret: str, name: str) -> None:
    body = {"before": "kept", name: secret, "after": ["kept", {"size": 1}]}
    expected = {**body, name: "***"}
    assert json.loads(mask_secrets(json.dumps(body))) == expected
    assert json.loads(json.loads(mask_secrets(json.dumps(json.dumps(body))))) == expected


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("mysql://root:pw@host/db", "mysql://root:***@host/db"),
        ("http://host:5000/v3", "http://host:5000/v3"),
        ("{'admin_pass': 'pw', 'id': 1}", "{'admin_pass': '***', 'id': 1}"),
        ("X-Auth-Token: gAAAA", "X-Auth-Token: ***"),
        ("X-Auth-Token: {SHA256}0a1b", "X-Auth-Token: {SHA256}0a1b"),
        ('{"token": {"id": "gAAAA"}}', '{"token": {"id": "***"}}'),
        ('{"image": "a", "description": "the password"}', '{"image": "a", "description": "the password"}'),
    ],
)
def test_masking(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked


def test_a_filter_drops_no_record() -> None:
    record = logging.makeLogRecord({"msg": "%s done", "args": ("all",)})
    assert SecretFilter().filter(record)
    assert record.getMessage() == "all done"


@pytest.mark.timeout(20)
def test_a_cloud_that_tells_its_versions_only_with_a_token_can_be_logged_in_to(cloud: SmallCloud) -> None:
    auth = generic.Password(
        cloud.url,
        username="operator",
        password=PASSWORD,
        user_domain_id="default",
        project_name="ops",
        project_domain_id="default",
    )

    assert CloudSession(auth, connection_pool(1), Outages("source")).get(
        "/servers", endpoint_filter={"service_type": "compute"}
    )

    assert [path for method, path, _ in cloud.requests if method == "POST"] == ["/v3/auth/tokens"]


def test_nothing_is_read_twice_while_reading_once(cloud: SmallCloud) -> None:
    session = session_of(cloud, threads=8)
    cloud.delay_s = 0.05
    with session.reading_once(), ThreadPoolExecutor(8) as pool:
        for path in ("/servers", "/images"):
            answers = list(pool.map(session.get, [f"{cloud.url}{path}"] * 8))
            assert {answer.json()["server"]["id"] for answer in answers} == {"s1"}
        assert cloud.counted() == {"GET": 2}
        session.get(f"{cloud.url}/servers", params={"name": "web"})
        session.get(f"{cloud.url}/servers", headers={"OpenStack-API-Version": "compute 2.1"})
        assert cloud.counted() == {"GET": 4}
    session.get(f"{cloud.url}/servers")
    assert cloud.counted() == {"GET": 5}


def test_reading_once_sends_every_write_and_remembers_what_is_not_there(cloud: SmallCloud) -> None:
    session = session_of(cloud)
    cloud.answers["GET"] = [404]
    with session.reading_once():
        for _ in range(2):
            session.post(f"{cloud.url}/servers", json={})
            with pytest.raises(exceptions.NotFound):
                session.get(f"{cloud.url}/servers/gone")
    assert cloud.counted() == {"GET": 1, "POST": 2}


def patient_session_of(cloud: SmallCloud, limit_s: float, **options: Any) -> tuple[CloudSession, list[str]]:
    """A session that has logged in, and what it says of outages."""
    session, said = session_of(cloud, **options), []
    session.get_token()
    session.outages.limit_s, session.outages.say = limit_s, said.append
    return session, said


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, BREAK_OFF])
def test_many_threads_wait_for_a_service_and_it_is_said_once(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(outage, "QUIET_S", 0.7)
    session, said = patient_session_of(cloud, 30, threads=8)
    cloud.answers["GET"], cloud.headers = [status] * 300, {}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(session.get, [f"{cloud.url}/servers"] * 8))
    assert {answer.status_code for answer in answers} == {200}
    began, ended = said
    assert re.fullmatch(
        r"the [a-z]+ service of the source does not answer since \d\d:\d\d:\d\d and is waited for, up to 30 s: .+",
        began,
    )
    assert re.fullmatch(r"the [a-z]+ service of the source answers again, after \d+ s", ended)


def test_a_service_that_stays_away_is_given_up_by_all_at_once_until_it_answers(cloud: SmallCloud) -> None:
    session, _ = patient_session_of(cloud, 0.5)
    cloud.answers["GET"], cloud.headers = [503] * 1000, {}
    with pytest.raises(OutageError, match="503") as given_up:
        session.get(f"{cloud.url}/servers")
    assert "limits.outage_s says, 0.5 s" in given_up.value.hint
    asked = cloud.counted()["GET"]
    with pytest.raises(OutageError):
        session.get(f"{cloud.url}/servers")
    assert cloud.counted()["GET"] == asked + 1
    cloud.answers["GET"] = []
    assert session.get(f"{cloud.url}/servers").status_code == 200
    cloud.answers["GET"], session.outages.limit_s = [503, 503], 30
    assert session.get(f"{cloud.url}/servers").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_what_was_never_sent_is_sent_when_there_is_a_connection(cloud: SmallCloud, method: str) -> None:
    session, _ = patient_session_of(cloud, 30)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    servers: list[ThreadingHTTPServer] = []

    def serve() -> None:
        servers.append(ThreadingHTTPServer(("127.0.0.1", port), type("Late", (Handler,), {"cloud": cloud})))
        servers[0].serve_forever(0.01)

    later = threading.Timer(0.5, serve)
    later.start()
    answer = session.request(f"http://127.0.0.1:{port}/v3/servers", method, json={"a": 1})
    servers[0].shutdown()
    servers[0].server_close()
    assert (answer.status_code, cloud.counted()) == (200, {method: 1})


def test_nobody_waits_any_more_once_the_run_is_to_end(cloud: SmallCloud) -> None:
    session, _ = patient_session_of(cloud, 30)
    cloud.answers["GET"], cloud.headers["Retry-After"] = [503], "20"
    threading.Timer(0.2, session.outages.stop.set).start()
    start_s = time.monotonic()
    with pytest.raises(Interruption):
        session.get(f"{cloud.url}/servers")
    assert time.monotonic() - start_s < 5


@pytest.mark.parametrize(
    ("path", "filters", "title"),
    [
        ("/servers", {"endpoint_filter": {"service_type": "volumev3"}}, "the block-storage service"),
        ("/v3/auth/tokens", {}, "the identity service"),
        ("http://elsewhere:9292/v2/images", {}, "the service at elsewhere:9292"),
    ],
)
def test_a_service_is_called_by_its_official_type_or_else_by_its_address(
    cloud: SmallCloud, path: str, filters: dict[str, Any], title: str
) -> None:
    session, _ = patient_session_of(cloud, 30)
    url = path if path.startswith("http") else cloud.url.removesuffix("/v3") + path
    assert session._service(url, **filters) == title

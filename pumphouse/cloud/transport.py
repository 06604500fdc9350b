"""How requests reach a cloud: one session for all threads, retries only where safe, no secret in a log."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from keystoneauth1 import exceptions, plugin, session
from os_service_types import ServiceTypes
from tenacity import RetryCallState

from pumphouse import __version__
from pumphouse.cloud.outage import NOTICE_S, Outages
from pumphouse.cloud.services import unversioned
from pumphouse.errors import AnswerError, ReadOnlyError, explain

LOG = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10
SEND_BLOCK_BYTES = 1 << 20
NOT_THE_API = "something else answers at this address, such as a proxy: check the endpoint in the catalog"
# A service that has lost its own database or message queue answers 500 until they are back.
BUSY_STATUSES = (429, 500, 502, 503, 504)
# 429 and 503 say that nothing was done, and so does 413 when it says how long to wait: that is how Nova
# limited the rate of requests before 429. After any other answer a write may have happened.
REFUSED_STATUSES = (429, 503)
RATE_LIMITED = 413
# Keystone counts in whole seconds: a token issued in the second of a revocation is revoked with it.
RENEWAL_WAITS_S = (0.0, 1.1, 1.1)

_READS = ("GET", "HEAD")
_REQUEST_ID_HEADERS = ("x-openstack-request-id", "x-compute-request-id")
_SAFE = (*_READS, "OPTIONS", "DELETE")
_NO_CONNECTION = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
_ONE_ATTEMPT = {"allow_reauth": False, "redirect": False, "connect_retries": 0, "status_code_retries": 0}

_CHANGES = threading.local()
_SOCKETS = threading.local()


def request_ids() -> tuple[str, ...]:
    """The ids of the requests by which this thread has changed something since it was asked the last time."""
    ids = tuple(getattr(_CHANGES, "ids", ()))
    _CHANGES.ids = []
    return ids


def note_request_ids(ids: Iterable[str]) -> None:
    """Count requests among those by which this thread has changed something: another has sent them for it."""
    _CHANGES.ids = [*getattr(_CHANGES, "ids", ()), *ids]


class CloudSession(session.Session):
    """A keystoneauth session that many threads share safely, also while tokens are revoked.

    It overrides `request`, `get_auth_headers` and `invalidate` of keystoneauth's, through which the clients of all
    services send what they send: nothing else sees each request before it is sent, and which token it carries.

    read_only: refuse every method but GET, HEAD and the login, before anything is sent.
    pool: the connections, shared by the sessions of all scopes of one cloud; see `connection_pool`.
    outages: which services do not answer, shared in the same way.
    """

    def __init__(
        self,
        auth: plugin.BaseAuthPlugin | None,
        pool: requests.Session,
        outages: Outages,
        *,
        verify: bool | str | None = True,
        cert: str | tuple[str, str] | None = None,
        read_only: bool = False,
    ) -> None:
        super().__init__(
            auth, session=pool, verify=verify, cert=cert, app_name="pumphouse", app_version=__version__
        )
        if verify is False:
            # Else urllib3 writes a warning to the terminal for each request.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self.read_only = read_only
        self.outages = outages
        self._login = threading.RLock()
        self._used = threading.local()
        self._read: AnswerCache | None = None

    @contextmanager
    def reading_once(self) -> Iterator[None]:
        """For as long as this lasts, nothing is read twice: a repeated GET is answered as it was the first time."""
        self._read = AnswerCache()
        try:
            yield
        finally:
            self._read = None

    def with_auth(self, auth: plugin.BaseAuthPlugin) -> CloudSession:
        """The same transport with another login."""
        return CloudSession(
            auth, self.session, self.outages, verify=self.verify, cert=self.cert, read_only=self.read_only
        )

    def forget(self) -> None:
        """Log in anew at the next request."""
        if self.auth:
            self.auth.invalidate()

    def request(self, url: str, method: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """Send a request; the arguments are keystoneauth's.

        Raises ReadOnlyError when the session is read-only and the request is a write.
        """
        if self.read_only and method not in _READS and not _is_login(method, url, kwargs):
            raise ReadOnlyError(f"{method} {url} refused: this session only reads")
        kwargs["connect_retries"] = 0
        kwargs.setdefault("timeout", (CONNECT_TIMEOUT_S, self.outages.timeout_s))
        if is_stream(kwargs.get("data")):
            return self._send(url, method, **{**kwargs, **_ONE_ATTEMPT})
        read = self._read
        if read is None or method != "GET" or kwargs.get("stream"):
            return self._request_with_retries(url, method, **kwargs)
        key = f"{url} {sorted(kwargs.items())}"
        return read.get(key, lambda: self._request_with_retries(url, method, **kwargs))

    def _request_with_retries(
        self, url: str, method: str, *, allow_reauth: bool = True, raise_exc: bool = True, **kwargs: Any
    ) -> requests.Response:
        """Repeat what is safe to repeat for as long as the service does not answer."""
        kwargs |= {"allow_reauth": False, "raise_exc": False}
        is_safe = method in _SAFE or _is_login(method, url, kwargs)
        is_renewable = allow_reauth and kwargs.get("authenticated") is not False
        send = self._request_with_renewal if is_renewable else self._send
        attempts = count()

        def attempt() -> requests.Response:
            next(attempts)
            return send(url, method, **kwargs)

        response = self.outages.wait_out(
            attempt,
            name=lambda: self._service(url, **kwargs),
            why=lambda state: why_again(state, method, url, is_safe=is_safe),
        )
        if method == "DELETE" and response.status_code == 404 and next(attempts) > 1:
            response.status_code = 204  # one of the attempts before has deleted it
        if raise_exc and response.status_code == 401 and self._precedes_login(url, **kwargs):
            raise exceptions.DiscoveryFailure(f"{url} wants a token before it says how to get one")
        if raise_exc and response.status_code >= 400:
            raise exceptions.from_response(response, method, url)
        return response

    def _request_with_renewal(self, url: str, method: str, **kwargs: Any) -> requests.Response:
        """Log in again on 401, more than once: the new token may be revoked before it is used.

        Each attempt of an outage may do so: the service may be away for longer than tokens last, and 401 is
        what stands before it answers.
        """
        response = self._send(url, method, **kwargs)
        for wait_s in RENEWAL_WAITS_S:
            if response.status_code != 401:
                break
            self.outages.pause(wait_s)
            if not self.invalidate(kwargs.get("auth")):
                break
            response = self._send(url, method, **kwargs)
        return response

    def _precedes_login(self, url: str, *, authenticated: bool | None = None, **_: Any) -> bool:
        """Whether this asks for Keystone's versions to log in.

        keystoneauth 5.18 sends that again with a token on 401, and then waits for the login it is part of.
        """
        return authenticated is False and url == getattr(self.auth, "auth_url", None)

    def _send(self, url: str, method: str, **kwargs: Any) -> requests.Response:
        """Send a request once, and note it: in the log, and a write among those of this thread."""
        began_s = time.monotonic()
        with self._watched(url, kwargs):
            response = super().request(url, method, **kwargs)
        if not kwargs.get("stream") and {"endpoint_filter", "endpoint_override"} & kwargs.keys():
            check_answer(response)
        request_id = next(filter(None, map(response.headers.get, _REQUEST_ID_HEADERS)), "")
        seconds = time.monotonic() - began_s
        LOG.debug("%s %s: %d, %.2f s, %s", method, response.url, response.status_code, seconds, request_id)
        if request_id and method not in _READS:
            note_request_ids([request_id])
        return response

    @contextmanager
    def _watched(self, url: str, kwargs: Mapping[str, Any]) -> Iterator[None]:
        """End a request of which the whole answer has not come in time, also one that comes byte by byte.

        A timeout of a socket is for each read of it; what is copied may take as long as it takes.
        """
        if kwargs.get("stream") or is_stream(kwargs.get("data")):
            yield
            return
        limit_s, watch = kwargs["timeout"][1], _Watch()
        notice_s = min(NOTICE_S, limit_s / 3)

        def notice() -> None:
            watch.later(limit_s - notice_s, watch.cut)
            self.outages.say_slow(self._service(url, **kwargs), notice_s)

        watch.later(notice_s, notice)
        # A login may be sent before what it is for, by the same thread.
        outer, _SOCKETS.watch = getattr(_SOCKETS, "watch", None), watch
        late = f"{url} has not answered in full within {limit_s:g} s"
        try:
            yield
            if watch.is_late:  # headers that are cut off look like whole ones
                raise exceptions.ConnectTimeout(late)
        except exceptions.ConnectionError as error:
            # A socket on which nothing comes at all times out by itself, at the same time.
            is_silent = isinstance(error, exceptions.ConnectTimeout) and watch.socket is not None
            raise exceptions.ConnectTimeout(late) if watch.is_late or is_silent else error from error
        finally:
            watch.end()
            _SOCKETS.watch = outer

    def _service(self, url: str, *, endpoint_filter: Mapping[str, Any] | None = None, **_: Any) -> str:
        """What the service that a request is for is called, by its official type; else by its address."""
        service_type = (endpoint_filter or {}).get("service_type") or self._type_at(url)
        if service_type is None:
            return f"the service at {urlsplit(url).netloc}"
        return f"the {ServiceTypes().get_service_type(service_type) or service_type} service"

    def _type_at(self, url: str) -> str | None:
        """The type of the service at an address, where it is Keystone's or one of the catalog."""
        login: Any = self.auth
        access = getattr(login, "auth_ref", None)
        catalog = access.service_catalog.get_endpoints() if access else {}
        known = {item["url"]: kind for kind, items in catalog.items() for item in items if item.get("url")}
        known[getattr(login, "auth_url", None) or url] = "identity"
        at = [kind for known_url, kind in known.items() if url.startswith(unversioned(known_url))]
        return at[0] if at else None

    def get_auth_headers(self, auth: plugin.BaseAuthPlugin | None = None) -> dict[str, str] | None:
        """The headers with the token, remembered as the one that this thread uses."""
        headers = super().get_auth_headers(auth)
        self._used.token = (headers or {}).get("X-Auth-Token")
        return headers

    def invalidate(self, auth: plugin.BaseAuthPlugin | None = None) -> bool:
        """Replace the token that this thread used, unless another thread already has.

        The old token stays in its place until the new one is there, because other threads read it. For that
        `auth_ref` is written, which keystoneauth does not document: it can only forget a token, not replace it.
        """
        login: Any = auth or self.auth
        if not hasattr(login, "get_auth_ref"):
            return super().invalidate(auth)
        with self._login:
            used = login.auth_ref
            if used is not None and used.auth_token == getattr(self._used, "token", None):
                login.invalidate()
                login.auth_ref = used
                login.auth_ref = login.get_auth_ref(self)
        return True


class _Watch:
    """What is done about a request that takes long; `socket` is the one that its answer comes through."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.is_late = self._has_ended = False
        self._timers: list[threading.Timer] = []

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it after so many seconds, unless the request has ended."""
        if self._has_ended:
            return
        timer = threading.Timer(seconds, call)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def cut(self) -> None:
        """Cut the connection off, so that whoever reads from it goes on."""
        if self._has_ended:
            return
        self.is_late = True
        with suppress(OSError):
            if self.socket is not None:
                # Not that of ssl, which another thread must not call meanwhile.
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def end(self) -> None:
        """Do nothing any more."""
        self._has_ended = True
        for timer in self._timers:
            timer.cancel()


def check_answer(response: requests.Response) -> None:
    """Raise AnswerError for an answer that no read of an API gives: no JSON, no object, null for a list.

    What is answered to a write is not always JSON: older releases write a sentence behind 202.
    """
    if response.request.method != "GET" or response.status_code >= 300 or not response.content:
        return
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise AnswerError(f"the answer of {_place(response)} is no JSON object", NOT_THE_API)
    for name in set(urlsplit(response.url).path.split("/")) & body.keys():
        found = body[name]
        if found is None or (isinstance(found, list) and None in found):
            raise AnswerError(f"the answer of {_place(response)} has null in or as {name!r}", NOT_THE_API)


def _place(response: requests.Response) -> str:
    return response.url.partition("?")[0]


class AnswerCache:
    """The answers to all requests so far; a thread that asks what another is asking waits for that answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, Future[requests.Response]] = {}

    def get(self, key: str, ask: Callable[[], requests.Response]) -> requests.Response:
        """The answer to a request, sent now if it has not been; raises again what sending it raised."""
        with self._lock:
            known = self._answers.get(key)
            answer = known or self._answers.setdefault(key, Future())
        if known is None:
            try:
                answer.set_result(ask())
            except BaseException as error:
                answer.set_exception(error)
        return answer.result()


class _Watchable:
    """A connection that tells who watches the request which socket the answer comes through."""

    sock: Any

    def getresponse(self) -> Any:
        if watch := getattr(_SOCKETS, "watch", None):
            watch.socket = self.sock
        return super().getresponse()  # type: ignore[misc]


class _HTTP(_Watchable, urllib3.connection.HTTPConnection):
    pass


class _HTTPS(_Watchable, urllib3.connection.HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPS


class CloudAdapter(session.TCPKeepAliveAdapter):
    """Connections that send large blocks."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pool; http.client's own block of 16 KiB halves the speed of an upload."""
        super().init_poolmanager(*args, blocksize=SEND_BLOCK_BYTES, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


def connection_pool(size: int) -> requests.Session:
    """Connections for `size` threads; they repeat nothing by themselves."""
    pool = requests.Session()
    adapter = CloudAdapter(pool_connections=32, pool_maxsize=size)
    pool.mount("http://", adapter)
    pool.mount("https://", adapter)
    return pool


def why_again(state: RetryCallState, method: str, url: str, *, is_safe: bool) -> str:
    """Why a request failed that may be sent again; empty when it did not fail, or may not be.

    is_safe: whether it changes nothing that it has not changed before.
    """
    assert state.outcome is not None
    if (error := state.outcome.exception()) is not None:
        if not isinstance(error, exceptions.ConnectionError) or "CERTIFICATE" in str(error):
            return ""
        return explain(error).what if is_safe or _was_not_sent(error) else ""
    response: requests.Response = state.outcome.result()
    if not (_is_refused(response) or (is_safe and response.status_code in BUSY_STATUSES)):
        return ""
    return explain(exceptions.from_response(response, method, url)).what


def _is_refused(response: requests.Response) -> bool:
    """Whether an answer says that a write was not carried out and may be sent again."""
    limited = response.status_code == RATE_LIMITED and "Retry-After" in response.headers
    return limited or response.status_code in REFUSED_STATUSES


def _was_not_sent(error: BaseException | None) -> bool:
    """Whether there was no connection to send a request on."""
    while error is not None and not isinstance(error, _NO_CONNECTION):
        error = error.__context__
    return error is not None


def is_stream(body: object) -> bool:
    """Whether a request body can be sent only once."""
    return hasattr(body, "__iter__") and not isinstance(body, (str, bytes, bytearray, dict, list, tuple))


def _is_login(method: str, url: str, kwargs: dict[str, Any]) -> bool:
    """Whether a request is part of a login: it carries no token or asks for one, so that it cannot change anything."""
    if method != "POST" or kwargs.get("authenticated") is not False:
        return False
    headers = {name.lower() for name in kwargs.get("headers") or ()}
    return "x-auth-token" not in headers or url.endswith("/v3/auth/tokens")

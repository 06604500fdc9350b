"""How requests reach a cloud: one session for all threads, retries only where safe, no secret in a log."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import requests
import urllib3
from keystoneauth1 import exceptions, plugin, session
from tenacity import RetryCallState, Retrying, retry_if_exception_type, retry_if_result, stop_after_attempt
from urllib3.response import BaseHTTPResponse
from urllib3.util.retry import Retry

from pumphouse import __version__
from pumphouse.errors import ReadOnlyError, mask_secrets

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 300
SEND_BLOCK_BYTES = 1 << 20
BUSY_STATUSES = (429, 500, 502, 503, 504)
BACKOFF_S = 0.5
RETRY_AFTER_MAX_S = 120
# 429 and 503 say that nothing was done, and so does 413 when it says how long to wait: that is how Nova
# limited the rate of requests before 429. After any other answer a write may have happened.
REFUSED_STATUSES = (429, 503)
RATE_LIMITED = 413
WRITE_RETRIES = 4
READ_RETRIES = 3
# Keystone counts in whole seconds: a token issued in the second of a revocation is revoked with it.
RENEWAL_WAITS_S = (0.0, 1.1, 1.1)

_READS = ("GET", "HEAD")
_WRITES = ("POST", "PUT", "PATCH")
_ONE_ATTEMPT = {"allow_reauth": False, "redirect": False, "connect_retries": 0, "status_code_retries": 0}


class CloudSession(session.Session):
    """A keystoneauth session that many threads share safely, also while tokens are revoked.

    It overrides `request`, `get_auth_headers` and `invalidate` of keystoneauth's, through which the clients of all
    services send what they send: nothing else sees each request before it is sent, and which token it carries.

    read_only: refuse every method but GET, HEAD and the login, before anything is sent.
    pool: the connections, shared by the sessions of all scopes of one cloud; see `connection_pool`.
    """

    def __init__(
        self,
        auth: plugin.BaseAuthPlugin | None,
        pool: requests.Session,
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
        return CloudSession(auth, self.session, verify=self.verify, cert=self.cert, read_only=self.read_only)

    def forget(self) -> None:
        """Log in anew at the next request."""
        if self.auth:
            self.auth.invalidate()

    def request(self, url: str, method: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """Send a request; the arguments are keystoneauth's.

        Raises ReadOnlyError when the session is read-only and the request is a write.
        """
        if self.read_only and method not in _READS and not _is_login(method, kwargs):
            raise ReadOnlyError(f"{method} {url} refused: this session only reads")
        kwargs["connect_retries"] = 0
        kwargs.setdefault("timeout", (CONNECT_TIMEOUT_S, READ_TIMEOUT_S))
        if is_stream(kwargs.get("data")):
            return super().request(url, method, **{**kwargs, **_ONE_ATTEMPT})
        read = self._read
        if read is None or method != "GET" or kwargs.get("stream"):
            return self._request_with_renewal(url, method, **kwargs)
        key = f"{url} {sorted(kwargs.items())}"
        return read.get(key, lambda: self._request_with_renewal(url, method, **kwargs))

    def _request_with_renewal(
        self, url: str, method: str, *, allow_reauth: bool = True, raise_exc: bool = True, **kwargs: Any
    ) -> requests.Response:
        """Log in again on 401, more than once: the new token may be revoked before it is used."""
        kwargs |= {"allow_reauth": False, "raise_exc": False}
        response = self._request_with_retries(url, method, **kwargs)
        renewable = allow_reauth and kwargs.get("authenticated") is not False
        for wait_s in RENEWAL_WAITS_S if renewable else ():
            if response.status_code != 401:
                break
            time.sleep(wait_s)
            if not self.invalidate(kwargs.get("auth")):
                break
            response = self._request_with_retries(url, method, **kwargs)
        if raise_exc and response.status_code == 401 and self._precedes_login(url, **kwargs):
            raise exceptions.DiscoveryFailure(f"{url} wants a token before it says how to get one")
        if raise_exc and response.status_code >= 400:
            raise exceptions.from_response(response, method, url)
        return response

    def _precedes_login(self, url: str, *, authenticated: bool | None = None, **_: Any) -> bool:
        """Whether this asks for Keystone's versions to log in.

        keystoneauth 5.18 sends that again with a token on 401, and then waits for the login it is part of.
        """
        return authenticated is False and url == getattr(self.auth, "auth_url", None)

    def _request_with_retries(self, url: str, method: str, **kwargs: Any) -> requests.Response:
        """Repeat what the connections do not: a write that was refused, a read whose answer was cut short."""
        if method in _WRITES:
            return _REFUSED_AGAIN(super().request, url, method, **kwargs)
        if method in _READS:
            return _CUT_SHORT_AGAIN(super().request, url, method, **kwargs)
        return super().request(url, method, **kwargs)

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


class CloudAdapter(session.TCPKeepAliveAdapter):
    """Connections that send large blocks."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pool; http.client's own block of 16 KiB halves the speed of an upload."""
        super().init_poolmanager(*args, blocksize=SEND_BLOCK_BYTES, **kwargs)


class _Retry(Retry):
    """urllib3's retries, which do not let a cloud stop a run for hours."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """What the header Retry-After asks for, up to a limit."""
        asked_s = super().get_retry_after(response)
        return None if asked_s is None else min(asked_s, RETRY_AFTER_MAX_S)


def connection_pool(size: int) -> requests.Session:
    """Connections for `size` threads, with the retries of what is safe to repeat.

    A refused connection is tried again for every method, because nothing was sent.
    """
    retries = _Retry(
        total=6,
        connect=2,
        read=3,
        status=5,
        other=0,
        redirect=0,
        allowed_methods=("GET", "HEAD", "OPTIONS", "DELETE"),
        status_forcelist=BUSY_STATUSES,
        backoff_factor=BACKOFF_S,
        backoff_max=30,
        backoff_jitter=BACKOFF_S,
        raise_on_status=False,
    )
    pool = requests.Session()
    adapter = CloudAdapter(max_retries=retries, pool_connections=32, pool_maxsize=size)
    pool.mount("http://", adapter)
    pool.mount("https://", adapter)
    return pool


def _is_refused(response: requests.Response) -> bool:
    """Whether an answer says that a write was not carried out and may be sent again."""
    limited = response.status_code == RATE_LIMITED and "Retry-After" in response.headers
    return limited or response.status_code in REFUSED_STATUSES


def _pause_s(state: RetryCallState) -> float:
    """How long to wait before the next attempt: as the cloud asks, up to a limit, else twice as long each time."""
    answered = state.outcome is not None and not state.outcome.failed
    asked = _last_answer(state).headers.get("Retry-After", "") if answered else ""
    pause_s = float(asked) if asked.isdecimal() else BACKOFF_S * 2 ** (state.attempt_number - 1)
    return min(pause_s, RETRY_AFTER_MAX_S) + random.uniform(0, BACKOFF_S if pause_s else 0)


def _last_answer(state: RetryCallState) -> requests.Response:
    """What the last attempt returned; raises what it raised."""
    assert state.outcome is not None
    answer: requests.Response = state.outcome.result()
    return answer


_REFUSED_AGAIN = Retrying(
    retry=retry_if_result(_is_refused),
    stop=stop_after_attempt(1 + WRITE_RETRIES),
    wait=_pause_s,
    retry_error_callback=_last_answer,
)
_CUT_SHORT_AGAIN = Retrying(
    retry=retry_if_exception_type(exceptions.UnknownConnectionError),
    stop=stop_after_attempt(1 + READ_RETRIES),
    wait=_pause_s,
    retry_error_callback=_last_answer,
)


def is_stream(body: object) -> bool:
    """Whether a request body can be sent only once."""
    return hasattr(body, "__iter__") and not isinstance(body, (str, bytes, bytearray, dict, list, tuple))


def _is_login(method: str, kwargs: dict[str, Any]) -> bool:
    """Whether a request is part of a login: it carries no token, so that it cannot change anything."""
    headers = {name.lower() for name in kwargs.get("headers") or ()}
    return method == "POST" and kwargs.get("authenticated") is False and "x-auth-token" not in headers


class SecretFilter(logging.Filter):
    """Takes secrets out of the log records of the OpenStack clients; to be added to each handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the message and the traceback; never drops a record."""
        record.msg, record.args = mask_secrets(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = mask_secrets(
                record.exc_text or logging.Formatter().formatException(record.exc_info)
            )
        return True

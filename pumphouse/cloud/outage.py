"""Services that do not answer: each is waited for up to a limit, and said once, however many threads meet it."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import requests
from tenacity import RetryCallState, Retrying

from pumphouse.errors import Interruption, OutageError

LOG = logging.getLogger(__name__)

# How long the first login is tried: a wrong address does not become right by waiting.
LOGIN_S = 5.0
# How long an answer may take in all, and after how long that is said; see limits.login_s and limits.answer_s.
LOGIN_ANSWER_S = 30.0
ANSWER_S = 300.0
NOTICE_S = 15.0
# A service that is back before that is not worth a word.
QUIET_S = 3.0
BACKOFF_S = 0.5
PAUSE_MAX_S = 10.0
RETRY_AFTER_MAX_S = 120


@dataclass
class _Outage:
    """A service that does not answer, since a time of time.monotonic()."""

    began_s: float
    is_said: bool = False
    is_given_up: bool = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began_s

    @property
    def since(self) -> str:
        return f"{datetime.now() - timedelta(seconds=self.seconds):%H:%M:%S}"


class Outages:
    """What all threads and scopes of one cloud share of its services that do not answer.

    limit_s: how long a service is waited for; None for as long as the login is only tried.
    login_s, answer_s: how long one answer is waited for, while the login is only tried and afterwards.
    stop: once set, nobody waits any more.
    say, also: are given a line when a service is waited for, and when it answers again.
    """

    def __init__(self, cloud_name: str) -> None:
        self.limit_s: float | None = None
        self.login_s = LOGIN_ANSWER_S
        self.answer_s = ANSWER_S
        self.stop = threading.Event()
        self.say: Callable[[str], None] = lambda line: None
        self.also: Callable[[str], None] = lambda line: None
        self._cloud_name = cloud_name
        self._out: dict[str, _Outage] = {}
        self._ended_s: dict[str, float] = {}
        self._slow_s: dict[str, float] = {}
        self._lock = threading.Lock()

    def pause(self, seconds: float) -> None:
        """Wait. Raises Interruption as soon as `stop` is set."""
        if self.stop.wait(seconds):
            raise Interruption

    def wait_out(
        self,
        send: Callable[[], requests.Response],
        *,
        name: Callable[[], str],
        why: Callable[[RetryCallState], str],
    ) -> requests.Response:
        """What a request is answered; sent again for as long as its service does not answer.

        name: what the service is called.
        why: why the request failed and may be sent again; empty when it did not fail, or may not.

        Raises OutageError when the service stays away, Interruption once `stop` is set.
        """

        def give_up(state: RetryCallState) -> requests.Response:
            with self._lock:
                outage = self._outage(name(), state.start_time)
                outage.is_given_up = True
            if self.limit_s is None:
                return _last_answer(state)
            raise OutageError(
                f"{self._title(name())} has not answered since {outage.since}: {why(state)}",
                f"it was waited for as long as limits.outage_s says, {self.limit_s:g} s",
            )

        attempts = Retrying(
            retry=lambda state: bool(why(state)),
            stop=lambda state: self._is_over(state, name()),
            wait=lambda state: min(_pause_s(state), self._left_s(state)),
            sleep=self.pause,
            before_sleep=lambda state: self._begins(name(), state.start_time, why(state)),
            retry_error_callback=give_up,
        )
        answer: requests.Response = attempts(send)
        if self._out:
            self._ends(name(), waited=attempts.statistics["attempt_number"] > 1)
        return answer

    @property
    def timeout_s(self) -> float:
        """How long one answer is waited for."""
        return self.login_s if self.limit_s is None else self.answer_s

    def say_slow(self, service: str, seconds: float) -> None:
        """Say that a service has accepted a request and has not answered it yet; of each service now and then."""
        with self._lock:
            now_s = time.monotonic()
            if now_s < self._slow_s.get(service, 0.0):
                return
            self._slow_s[service] = now_s + self.timeout_s
        self._tell(
            f"{self._title(service)} has accepted a request and not answered it for {seconds:.0f} s: "
            f"it is waited for, up to {self.timeout_s:g} s"
        )

    def waited_for(self) -> list[str]:
        """The services that are waited for, and since when, a phrase each."""
        with self._lock:
            said = [(name, outage) for name, outage in self._out.items() if outage.is_said]
            return [
                f"{self._title(name)} since {outage.since}, up to {self.limit_s:g} s" for name, outage in said
            ]

    def _title(self, service: str) -> str:
        return f"{service} of the {self._cloud_name}"

    def _is_over(self, state: RetryCallState, service: str) -> bool:
        """Whether a service has been waited for long enough, by this request or by any."""
        outage = self._out.get(service)
        return self._left_s(state) <= 0 or (outage is not None and outage.is_given_up)

    def _left_s(self, state: RetryCallState) -> float:
        """How long this request may still wait for its service."""
        limit_s = LOGIN_S if self.limit_s is None else self.limit_s
        return max(0.0, limit_s - (state.seconds_since_start or 0.0))

    def _begins(self, service: str, began_s: float, why: str) -> None:
        with self._lock:
            outage = self._outage(service, began_s)
            is_news = self.limit_s is not None and outage.seconds >= QUIET_S and not outage.is_said
            outage.is_said |= is_news
        if is_news:
            self._tell(
                f"{self._title(service)} does not answer since {outage.since} and is waited for, "
                f"up to {self.limit_s:g} s: {why}"
            )

    def _outage(self, service: str, began_s: float) -> _Outage:
        """The outage of a service; if there was none, one that began with a request, or when the last one ended."""
        began_s = max(began_s, self._ended_s.get(service, began_s))
        return self._out.setdefault(service, _Outage(began_s))

    def _ends(self, service: str, *, waited: bool) -> None:
        """Note that a service answers, unless another request is still waiting for it that was sent before."""
        with self._lock:
            outage = self._out.get(service)
            if outage is None or not (waited or outage.is_given_up):
                return
            del self._out[service]
            self._ended_s[service] = time.monotonic()
        if outage.is_said:
            self._tell(f"{self._title(service)} answers again, after {outage.seconds:.0f} s")

    def _tell(self, line: str) -> None:
        LOG.info("%s", line)
        self.say(line)
        self.also(line)


@contextmanager
def not_waited_for(*outages: Outages) -> Iterator[None]:
    """End what threads wait for when Ctrl-C ends the context: else it would not end before them."""
    try:
        yield
    except KeyboardInterrupt:
        for each in outages:
            each.stop.set()
        raise


def _pause_s(state: RetryCallState) -> float:
    """How long to wait before the next attempt: as the cloud asks, up to a limit, else twice as long each time."""
    answered = state.outcome is not None and not state.outcome.failed
    asked = _last_answer(state).headers.get("Retry-After", "") if answered else ""
    if asked.isdecimal():
        pause_s = min(float(asked), RETRY_AFTER_MAX_S)
    else:
        pause_s = min(BACKOFF_S * 2 ** min(state.attempt_number - 1, 10), PAUSE_MAX_S)
    return pause_s + random.uniform(0, BACKOFF_S if pause_s else 0)


def _last_answer(state: RetryCallState) -> requests.Response:
    """What the last attempt returned; raises what it raised."""
    assert state.outcome is not None
    answer: requests.Response = state.outcome.result()
    return answer

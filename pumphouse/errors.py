"""The errors of Pumphouse, and the explanation of everybody else's, without a secret."""

from __future__ import annotations

import errno
import logging
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INCOMPLETE = 3
EXIT_CONNECTION = 4
EXIT_STALE = 5
EXIT_DIFFERENT = 6
EXIT_LOCKED = 7
EXIT_DECLINED = 8
EXIT_INTERRUPTED = 130
# What each means: in the help of the command line, and in docs/exit-codes.md.
EXIT_CODES = {
    EXIT_DONE: "done: all is there, or was left out by --only, --skip, an edit of the plan or a policy",
    EXIT_FAILED: "failed",
    EXIT_USAGE: "usage or configuration",
    EXIT_INCOMPLETE: "finished, but something of the tenant is not at the destination: it failed, needs a decision, or no "
    "migration carries it",
    EXIT_CONNECTION: "authentication or connection",
    EXIT_STALE: "the plan file is out of date",
    EXIT_DIFFERENT: "verify found a difference",
    EXIT_LOCKED: "another run works on the tenant",
    EXIT_DECLINED: "not started: you said no, and nothing was changed",
    EXIT_INTERRUPTED: "interrupted, and can be resumed",
}


# A screen is not to be filled with what has changed.
_CHANGES_MAX = 6


class PumphouseError(Exception):
    """Something the operator has to know: one clear message, and a hint on what to do next."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(PumphouseError):
    """The configuration is not usable; holds every problem, one line each."""

    exit_code = EXIT_USAGE

    def __init__(self, problems: Sequence[str], hint: str = "") -> None:
        super().__init__("\n".join(problems), hint)
        self.problems = tuple(problems)


class UsageError(PumphouseError):
    """What the operator asked for cannot be done."""

    exit_code = EXIT_USAGE


class StalePlanError(PumphouseError):
    """The clouds have changed since a plan was made; says how, in a few lines.

    plan: the file.
    """

    exit_code = EXIT_STALE

    def __init__(self, plan: object, changes: Sequence[str]) -> None:
        said, others = changes[:_CHANGES_MAX], changes[_CHANGES_MAX:]
        more = [f"and {len(others):,} more changes"] if others else []
        super().__init__(
            "\n".join([f"{plan} is out of date:", *said, *more]),
            f"see all changes, and keep your edits, with: pumphouse plan refresh {shlex.quote(str(plan))}",
        )


class ObstacleError(PumphouseError):
    """A run would fail over something that was found before it began.

    count: how many such things have been printed.
    """

    def __init__(self, count: int) -> None:
        what = "1 error above stands" if count == 1 else f"{count} errors above stand"
        super().__init__(
            f"{what} in the way; nothing was changed", "remove them, or start all the same with --force"
        )


class LockedError(PumphouseError):
    """Another run works on the same tenant; says who, where that is known."""

    exit_code = EXIT_LOCKED

    def __init__(self, holder: str) -> None:
        super().__init__(
            f"another run works on this tenant: {holder}" if holder else "another run works on this tenant",
            "wait until it ends; look at it with: pumphouse runs list",
        )


class CloudError(PumphouseError):
    """A cloud cannot be reached or refuses the login."""

    exit_code = EXIT_CONNECTION


class AnswerError(CloudError):
    """A service answered what its API does not know, as something else at its address would."""


class OutageError(CloudError):
    """A service did not answer for as long as limits.outage_s says."""


class Interruption(BaseException):
    """The run is to end: what waits or copies ends as if the process had, which is no failure of it."""


class ReadOnlyError(PumphouseError):
    """A write was about to be sent through a session that only reads."""


class NotFoundError(PumphouseError):
    """What the operator named does not exist."""

    exit_code = EXIT_USAGE


class ConflictError(PumphouseError):
    """The destination holds something else under the same name, address or id."""

    exit_code = EXIT_INCOMPLETE


class TransferError(PumphouseError):
    """Bytes did not arrive, or not the same bytes."""


class BrokenOffError(TransferError):
    """A connection broke while bytes were moving: another attempt may succeed."""


class MadeOtherwiseError(PumphouseError):
    """A service has made something otherwise than it was asked to."""


class ConversionError(PumphouseError):
    """Cinder did not make of a volume the image that it was asked for."""


class WaitError(PumphouseError):
    """A resource reached a state from which it will not become what was waited for, or took too long."""


# Names of JSON fields, in any of the services, whose values are secrets.
_NAMES = (
    r"[\w.:-]*(?:pass(?:word|wd|phrase|code)?|secret|private_?key|user_?data|credentials?|blob|auth_key"
    r"|payload|contents|totp|receipt)\w*"
)
_HEADERS = r"x-auth-token|x-subject-token|x-service-token|authorization"
# Each: what is kept before, what is masked, what is kept after. A value that is cut off is masked, too.
_SECRETS = tuple(
    re.compile(f"(?is)({before}){value}({after})")
    for before, value, after in (
        # A quoted value after a quoted name, as JSON and repr() write it.
        (rf"""(["']){_NAMES}\2\s*:\s*(["'])""", r"(?:\\.|(?!\3)[^\\])*", r"\3|\Z"),
        # The same in JSON that is itself a JSON string.
        (rf"""\\"{_NAMES}\\"\s*:\s*\\\"""", r"""(?:\\\\(?:\\\\|\\"|[^\\"])|[^\\"])*""", r"""\\"|\Z"""),
        (r"""(["'])token\2:\s*\{\s*(["'])id\3:\s*\"""", r'[^"]*', r'"|\Z'),
        (rf"""(?:{_HEADERS})["']?\s*[:=]\s*["']?(?!\{{SHA256\}})""", r"""[^\s"']+""", ""),
        (r"""://[^/\s:@"']*:""", r"""[^/\s@"']+""", "@"),
        # How Nova, Cinder and Glance begin to say that a field is wrong: they repeat its value, more than once.
        (rf"(?:field|attribute) {_NAMES}\. Value: ", r".*", r"\Z"),
    )
)


def mask_secrets(text: str) -> str:
    """The text with the values of all secrets replaced by `***`."""
    for pattern in _SECRETS:
        text = pattern.sub(lambda found: f"{found[1]}***{found[found.re.groups]}", text)
    return text


class SecretFilter(logging.Filter):
    """Takes secrets out of the records of a log; to be added to each handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the message and the traceback; never drops a record."""
        record.msg, record.args = mask_secrets(record.getMessage()), ()
        if record.exc_info:
            text = record.exc_text or logging.Formatter().formatException(record.exc_info)
            record.exc_text = mask_secrets(text)
        return True


@dataclass(frozen=True)
class Explanation:
    """What a person needs to know of a failure."""

    what: str
    hint: str = ""
    request_id: str = ""

    def __str__(self) -> str:
        text = f"{self.what}; {self.hint}" if self.hint else self.what
        return f"{text} (request {self.request_id})" if self.request_id else text


# By HTTP status, for the answers that an operator can do something about.
_HINTS = {
    401: "check the credentials of this cloud",
    403: "the operator's role or a quota of the project forbids it",
    413: "a quota or a size limit is reached",
    429: "the cloud limits the rate of requests; lower limits.workers",
    503: "the service is not available; try again later",
}


# What Python calls an answer without a field, or of another shape, wherever it was read.
_MISSHAPEN = (AttributeError, IndexError, KeyError, TypeError, AssertionError)
# The deepest reason that urllib3 gives, behind the names of its classes.
_REASON = re.compile(
    r"\[Errno -?\d+\] ([^'\")\]]+)|(Remote end closed connection without response|BadStatusLine)"
)
_UNREACHED = re.compile(r"(?s)(Unable to establish connection to [^:]+:[^:]+(?::\d[^:]*)?): .*")
_PAGE = re.compile(r"(?i)<(?:!doctype|html|body)\b")
_MARKUP = re.compile(r"(?is)<!--.*?-->|<(head|style|script|h1)\b.*?</\1\s*>|<[^>]+>")
_TITLE = re.compile(r"(?is)<(?:title|h1)\b[^>]*>(.*?)</")
_PAGE_LENGTH = 300
_NOISE = re.compile(r"<[^>]+>|\((?:HTTP \d+|Request-ID: [^)]*)\)")


def explain(error: BaseException) -> Explanation:
    """Say what an exception of ours or of any OpenStack client means, without its traceback and without secrets."""
    if isinstance(error, PumphouseError):
        return Explanation(mask_secrets(str(error)), error.hint)
    status = _first(error, "http_status", "status_code", "code")
    message = _first(error, "details", "message") or str(error) or type(error).__name__
    request_id = str(_first(error, "request_id") or "")
    if isinstance(status, int):
        hint = "; ".join(filter(None, (_HINTS.get(status, ""), _asked_wait(error))))
        return Explanation(f"the cloud answered {status}: {_one_line(message)}", hint, request_id)
    if isinstance(error, OSError) and error.strerror:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return Explanation(mask_secrets(what), "make room there" if error.errno == errno.ENOSPC else "")
    if isinstance(error, _MISSHAPEN):
        what = f"what a cloud answered, or pumphouse itself, is not as expected: {type(error).__name__}"
        return Explanation(
            f"{what}: {_one_line(message)}", "the log says where; report it with: pumphouse doctor"
        )
    if is_connection_failure(error):
        return Explanation(_unreached(_one_line(message)), "", request_id)
    return Explanation(f"{type(error).__name__}: {_one_line(message)}", "", request_id)


def _asked_wait(error: BaseException) -> str:
    """How long an answer asks to wait, in words."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    asked = headers.get("Retry-After", "")
    return f"it asks to wait {asked} s" if asked.isdecimal() and int(asked) else ""


def _unreached(message: str) -> str:
    """Why there was no connection, without the names of urllib3's classes."""
    found, reasons = _UNREACHED.match(message), _REASON.findall(message)
    return f"{found[1]}: {''.join(reasons[-1])}" if found and reasons else message


def http_status(error: BaseException) -> int | None:
    """The HTTP status that an exception of any OpenStack client carries, if it carries one."""
    status = _first(error, "http_status", "status_code", "code")
    return status if isinstance(status, int) else None


# By HTTP status: what a service answers, or a proxy for it, that will answer again. One that has lost its own
# database or message queue answers 500 until they are back.
_UNAVAILABLE = frozenset({429, 500, 502, 503, 504})


def is_unavailable(error: BaseException) -> bool:
    """Whether a call or a copy failed because a service is not there at the moment, or has too much to do."""
    broken = isinstance(error, BrokenOffError) or is_connection_failure(error)
    return broken or http_status(error) in _UNAVAILABLE


def is_connection_failure(error: BaseException) -> bool:
    """Whether a call failed because there was no connection."""
    # By their names: to import the classes would import the clients for every command.
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"ConnectionError", "ConnectFailure", "ConnectTimeout", "SSLFailure"})


def _first(error: BaseException, *names: str) -> object:
    """The first attribute that is set; the clients do not agree on its name."""
    return next((value for name in names if (value := getattr(error, name, None))), None)


def _one_line(message: object) -> str:
    """Without the markup that Glance and proxies answer in, and what keystoneauth puts behind every message."""
    text = mask_secrets(str(message))
    if _PAGE.search(text):
        text = _of_page(text)
    return " ".join(_NOISE.sub(" ", text).split())[:500]


def _of_page(page: str) -> str:
    """What a page of HTML says, or its title where that is long or nothing."""
    text, title = " ".join(_MARKUP.sub(" ", page).split()), _TITLE.search(page)
    return title[1] if title and not 0 < len(text) <= _PAGE_LENGTH else text

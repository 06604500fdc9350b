"""What an operator is told of everything that may be wrong: one message, what to do, the right exit code.

`pytest -s tests/unit/test_broken_inputs.py` prints the table.
"""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pumphouse.cli import main
from pumphouse.cloud import outage
from tests.unit import broken_clouds as broken
from tests.unit.broken_clouds import PAGE, Behave, answering, logging_in, serving, token, with_services

SECRET = "hunter2"
LINES_MAX = 12
USAGE, FAILED, CONNECTION = 2, 1, 4
NAMED = "source: {cloud: old}\ndestination: {cloud: new}\n"
CHECK = "check --config c.yaml"


@dataclass(frozen=True)
class Case:
    """What is given, and what has to be answered.

    said: a part of the message; hint: a part of what it says to do.
    config: the text of c.yaml.
    files: other files by their names.
    """

    arguments: str
    said: str
    code: int = USAGE
    config: str = NAMED
    hint: str = ""
    files: tuple[tuple[str, str], ...] = ()
    behave: Behave | None = None
    url: str = "{url}/v3"
    tls: bool = False


def clouds(source: str, more: str = "") -> str:
    """A configuration with a cloud at an address, twice."""
    auth = f"{{auth: {{auth_url: '{source}', username: me, password: {SECRET}, project_name: p"
    cloud = f"{auth}, user_domain_name: Default, project_domain_name: Default}}}}"
    same = "policies: {allow_same_cloud: true}\n"
    return f"source: {cloud}\ndestination: {cloud}\n{same}limits: {{login_s: 1, answer_s: 1{more}}}\n"


def config(text: str, said: str, hint: str = "config.example.yaml", **more: Any) -> Case:
    return Case(CHECK, said, config=text, hint=hint, **more)


def flags(arguments: str, said: str, code: int = USAGE, **more: Any) -> Case:
    return Case(arguments, said, code, **more)


def cloud(behave: Behave, said: str, hint: str = "", code: int = CONNECTION, **more: Any) -> Case:
    arguments = more.pop("arguments", CHECK)
    return Case(arguments, said, code, hint=hint, behave=behave, **more)


def plan(text: str, said: str, hint: str = "") -> Case:
    return Case("migrate --plan p.yaml --yes --config c.yaml", said, files=(("p.yaml", text),), hint=hint)


def state(url: str, said: str, *, arguments: str = "runs list --config c.yaml", **more: Any) -> Case:
    code = more.pop("code", USAGE)
    return Case(arguments, said, code, config=f"{NAMED}state: {{url: '{url}'}}\n", **more)


CASES: dict[str, Case] = {
    # The configuration.
    "no file": flags("check --config none.yaml", "none.yaml: cannot be read: No such file"),
    "a folder": flags("check --config .", "cannot be read: Is a directory"),
    "no configuration at all": flags("check", "no configuration; expected ./pumphouse.yaml"),
    "empty": config("", "expected two clouds"),
    "a list": config("- a\n", "expected two clouds"),
    "a word": config("hello\n", "expected two clouds"),
    "no destination": config("source: {cloud: old}\n", "missing setting 'destination'"),
    "not YAML": config("source: {cloud: old\n", "a mapping is opened and not closed", ""),
    "a tab": config("source:\n\tcloud: old\n", "a tab; expected spaces", ""),
    "a control character": config("source: \x07\n", "the control character 0x07", ""),
    "a second document": config(f"{NAMED}---\n{NAMED}", "a second document", ""),
    "nested too deeply": config("a: " + "[" * 200, "nested too deeply", ""),
    "a misspelt section": config("sorce: {cloud: old}\n", "did you mean 'source'?"),
    "a misspelt limit": config(f"{NAMED}limits: {{wokers: 3}}\n", "did you mean 'workers'?"),
    "too many workers": config(
        f"{NAMED}limits: {{workers: 100000000}}\n", "expected a whole number from 1 to 256"
    ),
    "too many transfers": config(
        f"{NAMED}limits: {{transfers: 65}}\n", "expected a whole number from 1 to 64"
    ),
    "no worker": config(f"{NAMED}limits: {{workers: 0}}\n", "limits.workers is 0"),
    "an endless outage": config(f"{NAMED}limits: {{outage_s: 1e12}}\n", "expected a whole number of seconds"),
    "an endless login": config(f"{NAMED}limits: {{login_s: 0}}\n", "limits.login_s is 0"),
    "a rate in words": config(f"{NAMED}limits: {{bytes_per_second: fast}}\n", "as in 100 MiB"),
    "an unknown policy": config(
        f"{NAMED}policies: {{on_conflict: ask}}\n", "expected 'fail', 'reuse' or 'rename'"
    ),
    "a policy in the wrong type": config(
        f"{NAMED}policies: {{fail_fast: maybe}}\n", "expected true or false"
    ),
    "a mapping that is none": config(
        f"{NAMED}mappings: {{roles: member}}\n", "source name: destination name"
    ),
    "a mapping to nothing": config(f"{NAMED}mappings: {{roles: {{a: ''}}}}\n", "a name at the destination"),
    "a cloud that is not there": config(
        "source: {cloud: odl}\ndestination: {cloud: new}\n", "did you mean 'old'?"
    ),
    "a cloud that is like none": config("source: {cloud: x}\ndestination: {cloud: new}\n", "has new, old"),
    "no clouds.yaml": config(f"{NAMED}clouds_file: none.yaml\n", "expected what exists"),
    "a broken clouds.yaml": config(
        f"{NAMED}clouds_file: k.yaml\n", "k.yaml:2: not valid YAML", files=(("k.yaml", "clouds: ["),)
    ),
    "an empty clouds.yaml": config(
        f"{NAMED}clouds_file: k.yaml\n", "which has none", files=(("k.yaml", ""),)
    ),
    "a secret that is not set": config(
        clouds("https://old").replace(SECRET, "{env: NO_SUCH}"), "the environment variable NO_SUCH is not set"
    ),
    "a command that fails": config(
        clouds("https://old").replace(SECRET, "{command: exit 9}"), "its command failed with exit code 9"
    ),
    "a command that hangs": config(
        clouds("https://old", ", command_s: 1").replace(SECRET, "{command: sleep 60}"), "longer than 1 s"
    ),
    "a password that is no text": config(clouds("https://old").replace(SECRET, "[a]"), "text, {env: NAME}"),
    "an address without a scheme": config(clouds("old:5000/v3"), "expected an address such as https://"),
    "an unknown auth_type": config(
        "source: {auth_type: magic, auth: {auth_url: 'https://x'}}\ndestination: {cloud: new}\n",
        "magic",
        "check its name, auth_type and auth",
        code=CONNECTION,
    ),
    "no password": config(
        "source: {auth: {auth_url: 'https://x', username: me}}\ndestination: {cloud: new}\n",
        "missing setting 'source.auth.password'",
    ),
    "a cacert that is not there": config(
        clouds("https://old").replace("{auth:", "{cacert: no.pem, auth:"), "expected what exists"
    ),
    "a notify that is a list": config(f"{NAMED}notify: [a]\n", "notify is a list"),
    "a state that is no address": config(f"{NAMED}state: {{url: here}}\n", "a TaskFlow persistence URL"),
    # Flags and names.
    "an unknown command": flags("chek", "'check'?"),
    "an unknown command in a group": flags("runs lst", "'list'?"),
    "a command that is like none": flags("frobnicate", "No such command"),
    "an unknown option": flags("check --confg c.yaml", "--config"),
    "an unknown format": flags("check -f jsno", "hint: did you mean 'json'?"),
    "no tenant": flags("migrate tenant --yes", "expected the tenants by their ids or names"),
    "a tenant and all": flags("migrate tenant a --all-tenants --yes", "expected the tenants by"),
    "a file for several": flags("plan tenant a b -o p.yaml", "-o writes one plan"),
    "a server of several": flags("plan tenant a b --server web", "expected one tenant"),
    "migrate nothing": flags("migrate --yes", "expected a command or --plan FILE"),
    "nobody to ask": flags("migrate tenant a", "there is nobody to ask", hint="--yes"),
    "nobody to ask of a revert": flags("revert last", "there is nobody to ask", hint="--yes"),
    "an age that is no number": flags("runs prune --older-than week --yes", "'week' is not a valid integer"),
    "a negative age": flags("runs prune --older-than -1 --yes", "-1"),
    "no age": flags("runs prune --yes", "Missing option '--older-than'"),
    "a time that is none": flags("runs list --since yesterday", "'yesterday' does not match"),
    "an unknown state": flags("runs list --state XX", "'XX' is not one of"),
    "a misspelt state": flags("runs list --state FAILED", "hint: did you mean 'failure'?"),
    "a log into no folder": flags("migrate tenant a --yes --log-json no/where", "No such file or directory"),
    "a log into a folder": flags("resume last --yes --log-json .", "Is a directory"),
    "too many arguments": flags("check a b", "unexpected extra argument"),
    "too many workers by option": flags("resume last --yes --workers 100000000", "range 1<=x<=256"),
    "too many copies by option": flags("resume last --yes --transfers 65", "range 1<=x<=64"),
    "a rate by option in words": flags("resume last --yes --limit-rate fast", "expected bytes per second"),
    "no run": flags("resume --yes", "Missing argument 'RUN'"),
    "verify nothing": flags("verify tenant", "Missing argument"),
    "a keypair of nobody": flags("migrate keypair k --yes", "Missing option"),
    # Ids.
    "a run that is not there": state(
        "sqlite:///s.db", "x1y2", arguments="runs show x1y2 --config c.yaml", code=USAGE
    ),
    "no last run": state("sqlite:///s.db", "run", arguments="runs show last --config c.yaml", code=USAGE),
    "no memory of a run": state("memory://", "run", arguments="runs show last --config c.yaml", code=USAGE),
    # The state store.
    "a state of no kind": state("oracle://db/x", "oracle", code=USAGE),
    "a state that is no database": state("sqlite:///s.db", "s.db", files=(("s.db", "no database" * 400),)),
    "a state in no folder": state("sqlite:////proc/no/s.db", "/proc/no"),
    "a state that is a folder": state("sqlite:///folder", "folder", files=(("folder/a", ""),)),
    "a state on a full disk": state("sqlite:////dev/full", "/dev/full"),
    "a database that is down": state("postgresql://me:hunter2@127.0.0.1:9/p", "127.0.0.1", code=CONNECTION),
    "a MySQL that is down": state("mysql://me:hunter2@127.0.0.1:9/p", "127.0.0.1", code=CONNECTION),
    # Plans.
    "no plan": flags("migrate --plan none.yaml --yes --config c.yaml", "none.yaml: cannot be read"),
    "a plan that is a folder": flags(
        "migrate --plan . --yes --config c.yaml", "cannot be read: Is a directory"
    ),
    "an empty plan": plan("", "p.yaml"),
    "a plan that is a list": plan("[]\n", "p.yaml"),
    "a plan that is not YAML": plan("{", "not valid YAML"),
    "a plan of binary": plan("a\x00b", "the control character 0x00"),
    "a plan of another program": plan("a: 1\n", "p.yaml"),
    "a plan of a later release": plan("format: 99\n", "p.yaml"),
    "a plan that is a configuration": plan(NAMED, "p.yaml"),
    "a plan to show that is none": flags("plan show none.yaml", "none.yaml: cannot be read"),
    "a plan to show that is broken": flags("plan show p.yaml", "p.yaml", files=(("p.yaml", "x: [1"),)),
    # Clouds.
    "nobody listens": Case(CHECK, "it cannot be reached", CONNECTION, clouds("http://127.0.0.1:9/v3")),
    "no such host": Case(CHECK, "it cannot be reached", CONNECTION, clouds("http://no-such.invalid/v3")),
    "a port that is none": Case(
        CHECK, "its auth_url is no address", CONNECTION, clouds("http://127.0.0.1:99999/v3")
    ),
    "wrong password": cloud(
        answering(
            401, '{"error": {"code": 401, "message": "The request you have made requires authentication."}}'
        ),
        "the login was refused",
        "check user, password and project",
    ),
    "forbidden": cloud(answering(403, '{"error": {"code": 403, "message": "no"}}'), "403: no"),
    "no Keystone there": cloud(
        answering(404, "<html><h1>Not Found</h1></html>", "text/html"), "no Keystone answers"
    ),
    "a web page": cloud(answering(200, PAGE, "text/html"), "no Keystone answers"),
    "a page of 503": cloud(answering(503, PAGE, "text/html"), "the cloud answered 503"),
    "a page of a gateway": cloud(answering(502, PAGE, "text/html"), "the cloud answered 502"),
    "an error of the server": cloud(answering(500, "boom", "text/plain"), "the cloud answered 500"),
    "429 for an hour": cloud(answering(429, "", Retry_After="3600"), "429", "it asks to wait 3600 s"),
    "503 for an hour": cloud(answering(503, "", Retry_After="3600"), "503", "it asks to wait 3600 s"),
    "says nothing": cloud(
        broken.silent, "it is too slow: not answered in full within 1 s", "raise limits.login_s"
    ),
    "drips": cloud(
        broken.dripping, "it is too slow: not answered in full within 1 s", "raise limits.login_s"
    ),
    "only version 2": cloud(
        answering(300, '{"versions": {"values": [{"id": "v2.0", "status": "stable", "links": []}]}}'),
        "Keystone",
    ),
    "plain HTTP where TLS is expected": cloud(
        logging_in({}), "it answers plain HTTP, not TLS", "write http://", url="https://127.0.0.1:{port}/v3"
    ),
    "plain HTTP without a version": cloud(
        logging_in({}), "it answers plain HTTP, not TLS", "write http://", url="https://127.0.0.1:{port}"
    ),
    "TLS where plain HTTP is expected": cloud(
        logging_in({}), "127.0.0.1", "auth_url", url="http://127.0.0.1:{port}/v3", tls=True
    ),
    "a self-signed certificate": cloud(
        logging_in({}), "its TLS certificate is not trusted: self", "set cacert", tls=True
    ),
    "a token that is null": cloud(
        logging_in({"token": None}), "its login gives what is no token", "check auth_url"
    ),
    "an answer that is null": cloud(logging_in("null"), "no token", "check auth_url"),
    "an answer that is a list": cloud(logging_in("[]"), "no Keystone answers", "check auth_url"),
    "an answer that is no JSON": cloud(logging_in("{"), "no Keystone answers", "check auth_url"),
    "an empty answer": cloud(logging_in(""), "no Keystone answers", "check auth_url"),
    "a token of a list": cloud(logging_in({"token": []}), "no token", "check auth_url"),
    "a token without a catalog": cloud(
        logging_in({"token": token(catalog=None)}), "no catalog of services", "register"
    ),
    "an empty catalog": cloud(logging_in({"token": token()}), "no catalog of services", "register"),
    "a catalog of nulls": cloud(logging_in({"token": token(catalog=[None])}), "no token"),
    "a token of no project": cloud(
        logging_in({"token": token(project=None)}), "not scoped to a project", "name a project"
    ),
    "a version that is null": cloud(answering(200, "null"), "no token"),
}
# What a list call is answered, what is said, and the exit code.
LISTED = {
    "null": ("null", "is no JSON object", CONNECTION),
    "a list": ("[]", "is no JSON object", CONNECTION),
    "half a JSON": ('{"projects": [', "is no JSON object", CONNECTION),
    "nothing of what was asked for": ('{"projects": null}', "has null in or as 'projects'", CONNECTION),
    "a list of nulls": ('{"projects": [null]}', "has null in or as 'projects'", CONNECTION),
    "a word": ('{"projects": "all"}', "is not as expected", FAILED),
}
CASES |= {
    f"projects that are {name}": cloud(
        with_services(answering(200, body)),
        said,
        "check the endpoint" if code == CONNECTION else "pumphouse doctor",
        code,
        arguments="plan tenant --all-tenants --config c.yaml",
    )
    for name, (body, said, code) in LISTED.items()
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home, with a clouds.yaml."""
    monkeypatch.setattr(outage, "LOGIN_S", 0.2)
    monkeypatch.setattr(outage, "NOTICE_S", 0.2)
    (home / "clouds.yaml").write_text("clouds: {old: {}, new: {}}\n")
    return home


def told(
    case: Case, folder: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
) -> tuple[int, str]:
    """The exit code and the message of a command."""
    with ExitStack() as stack:
        text = case.config
        if case.behave:
            url = stack.enter_context(serving(case.behave, folder if case.tls else None))
            text = clouds(case.url.format(url=url, port=url.rpartition(":")[2]))
        for name, content in (("c.yaml", text), *case.files):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)
            (folder / name).chmod(0o600)
        patch.setattr(sys, "argv", ["pumphouse", *case.arguments.split()])
        patch.setattr(sys, "stdin", None)
        with pytest.raises(SystemExit) as ended:
            main()
    output = capsys.readouterr()
    assert output.out == ""
    return int(ended.value.code or 0), output.err


# What is asked for before a server is.
DRIVERS = {"postgresql://": "psycopg", "mysql://": "pymysql"}


@pytest.mark.parametrize("name", CASES)
def test_one_message_says_what_is_wrong_and_what_to_do(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    for scheme, driver in DRIVERS.items():
        if scheme in case.config:
            pytest.importorskip(driver)
    code, message = told(case, folder, capsys, monkeypatch)
    print(
        f"\n{name}: pumphouse {case.arguments}\n  exit code {code}\n  {message.replace(chr(10), chr(10) + '  ')}"
    )
    assert case.said in message
    assert case.hint in message
    assert code == case.code
    assert len(message.splitlines()) <= LINES_MAX
    for never in ("Traceback", SECRET, "<html", "HTTPConnectionPool", "object at 0x", "Error:  ", "NoneType"):
        assert never not in message
    assert not re.search(r"(the cloud answered \d+.*){2}|(Service Unavailable.*){2}", message)


def test_there_are_at_least_a_hundred() -> None:
    assert len(CASES) >= 100

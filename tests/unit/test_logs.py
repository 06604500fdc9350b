"""What is logged, where, and what never reaches a terminal; and the line that says what goes on."""

from __future__ import annotations

import io
import logging
import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from taskflow.persistence.base import Backend

from pumphouse.cli import logs
from pumphouse.cli.logfile import PrivateFile
from pumphouse.cli.logs import keep_log, log_file, log_more, log_warnings
from pumphouse.config import settings
from pumphouse.run.events import TaskEnded
from pumphouse.run.record import create_run
from pumphouse.show.status import status_line
from tests.unit.memory import TENANT, World, execute, planned, step

LOG = logging.getLogger("pumphouse.test")
ONE = step("thing", "one", TENANT.ref)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """No handler and no level outlives a test."""
    loggers = [logging.getLogger(), logging.getLogger("pumphouse")]
    before = [(each, list(each.handlers), each.level) for each in loggers]
    for each in loggers:
        each.handlers.clear()
    yield
    for each, handlers, level in before:
        each.handlers[:] = handlers
        each.setLevel(level)
    logging.captureWarnings(False)


def test_warnings_of_the_clients_and_of_python_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log_warnings()
    logging.getLogger("keystoneauth.identity.generic.base").warning("Failed to discover versions")
    warnings.warn("SDK is old", stacklevel=1)
    LOG.warning("the keypair stays: {'password': 'hush'}\x1b[2J")
    LOG.info("not asked for")
    assert capsys.readouterr().err == "warning: the keypair stays: {'password': '***'}\\x1b[2J\n"


def test_with_v_each_task_says_what_it_did_and_how_long_it_took(
    store: Backend, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    log_more(debug=False)
    execute(create_run(store, planned(TENANT, ONE)), world)
    assert re.search(
        r"INFO pumphouse.run.engine: thing-one-ensured \(make one\): done, \d+\.\d s\n",
        capsys.readouterr().err,
    )


def test_a_line_of_a_task_has_bytes_and_requests() -> None:
    ended = TaskEnded("image-a-uploaded", "copy image a", "failed", 1.25, "it broke", 7, ("req-1", "req-2"))
    assert (
        str(ended)
        == "image-a-uploaded (copy image a): failed, 1.2 s, 7 bytes, requests req-1 req-2: it broke"
    )


def test_everything_is_kept_in_a_file_of_its_owner_without_secrets(tmp_path: Path) -> None:
    keep_log(tmp_path / "state")
    keep_log(tmp_path / "elsewhere")
    assert log_file() == str(tmp_path / "state" / "pumphouse.log")
    LOG.debug("X-Auth-Token: hush")
    try:
        raise ValueError("{'password': 'hush'}")
    except ValueError:
        LOG.exception("failed")
    logging.getLogger("keystoneauth").warning("of a client")
    text = Path(log_file()).read_text()
    assert stat.S_IMODE(Path(log_file()).stat().st_mode) == 0o600
    for part in (
        "X-Auth-Token: ***",
        "  ValueError: {'password': '***'}",
        "WARNING keystoneauth: of a client",
    ):
        assert part in text
    assert "hush" not in text
    assert not (tmp_path / "elsewhere").exists()


def test_the_file_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 2000)
    keep_log(tmp_path)
    for number in range(400):
        LOG.info("%d %s", number, "x" * 60)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["pumphouse.log", "pumphouse.log.1", "pumphouse.log.2", "pumphouse.log.3"]
    assert all(path.stat().st_size <= 2000 and not path.stat().st_mode & 0o077 for path in tmp_path.iterdir())


def test_where_no_log_can_be_kept_it_is_said_and_nothing_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    log_warnings()
    keep_log(tmp_path / "file" / "state")
    assert "no log is kept in" in capsys.readouterr().err
    assert log_file() == ""
    assert not any(isinstance(each, PrivateFile) for each in logging.getLogger().handlers)


def test_a_command_that_is_waited_for_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settings, "COMMAND_NOTICE_S", 0.01)
    logging.getLogger().addHandler(caplog.handler)
    assert settings._output("sleep 0.3; echo secret", "source.auth.password", 9) == "secret"
    assert caplog.messages == ["the command of source.auth.password is waited for, up to 9 s"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_what_goes_on_and_a_pipe_only_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    said = {}
    for name, file in (("terminal", Terminal()), ("pipe", io.StringIO())):
        monkeypatch.setattr("sys.stderr", file)
        with status_line("planning\x1b[2J") as say:
            say("read images")
        said[name] = file.getvalue()
    assert "planning\\x1b[2J" in said["terminal"] or "read images" in said["terminal"]
    assert said["terminal"].endswith("\x1b[1A\x1b[2K")
    assert said["pipe"] == ""
    with status_line("reading", piped=True) as say:
        say("read images")
    assert file.getvalue() == "read images\n"

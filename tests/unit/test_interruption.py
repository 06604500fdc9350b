"""What is said when an operator says no, or presses Ctrl-C outside of a run, and where nobody can or need be asked."""

from __future__ import annotations

import io
import os
import pty
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pumphouse.cli import main
from pumphouse.cli.invocation import Invocation
from pumphouse.cloud.outage import Outages
from pumphouse.model import Action, Outcome, Plan, Ref, Report, State
from pumphouse.run.record import Run, create_run
from pumphouse.store import open_store
from tests.unit.memory import TENANT, planned, step

CONFIG = SimpleNamespace(policies=SimpleNamespace(passwords_file=Path("/safe/passwords.csv")), notify=None)


TWICE_INTERRUPTED = """
import os, signal
from rich.live import Live
from pumphouse.cli.running import _interruptible
from pumphouse.show.console import console
out = console()
with _interruptible(out, "pumphouse resume 1a2b") as stop, Live("bars", console=out):
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.is_set()
    os.kill(os.getpid(), signal.SIGINT)
"""


class NamedRun(Run):
    """A run with an id that can be foretold."""

    @property
    def id(self) -> str:
        return f"run-{self.plan.tenant_name}"


def named(run: Run) -> NamedRun:
    return NamedRun(run.store, run.book, run.plan, run.details)


class Terminal(io.StringIO):
    """A terminal on which somebody has typed."""

    def isatty(self) -> bool:
        return True


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def tenant_plan(tenant_id: str) -> Plan:
    settings = {"mappings": {}, "policies": {"user_passwords": "generate"}}
    plan = replace(planned(TENANT), settings=settings)
    return replace(plan, tenant=Ref("tenant", tenant_id), tenant_name=tenant_id)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs commands about tenants a and b, of whose runs each makes a user and a tenant."""

    @contextmanager
    def locked(_invocation: Invocation, tenant_id: str) -> Iterator[Any]:
        with closing(open_store("memory://")) as store:
            yield store, {}

    def execute(run: Any, *_: Any, **__: Any) -> Report:
        made = [
            Outcome(Ref(kind, "x"), "x", State.CREATED, destination_id="y") for kind in ("tenant", "user")
        ]
        return Report(run.plan, tuple(made), run.id)

    monkeypatch.setattr(
        Invocation, "clouds", (SimpleNamespace(session=SimpleNamespace(), outages=Outages("a")),) * 2
    )
    monkeypatch.setattr(Invocation, "config", CONFIG)
    monkeypatch.setattr("pumphouse.cli.migrate.refuse_same_cloud", lambda _: None)
    monkeypatch.setattr("pumphouse.cli.migrate.tenant_ids", lambda _source, tenants, _all: list(tenants))
    monkeypatch.setattr("pumphouse.cli.several.plan_tenant", lambda _, tenant_id, __: tenant_plan(tenant_id))
    monkeypatch.setattr("pumphouse.run.execute.execute_run", execute)
    for module in ("migrate", "several"):
        monkeypatch.setattr(f"pumphouse.cli.{module}.locked_tenant", locked)
        monkeypatch.setattr(f"pumphouse.cli.{module}.migration_of", lambda *_: None)
        monkeypatch.setattr(
            f"pumphouse.cli.{module}.plan_after_runs",
            lambda *_, tenant_id="a", **__: tenant_plan(tenant_id),
        )
        monkeypatch.setattr(
            f"pumphouse.cli.{module}.record_run",
            lambda _invocation, store, plan: named(create_run(store, plan)),
        )

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["pumphouse", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0

    return run


def test_ctrl_c_while_the_next_tenant_is_planned_ends_with_the_summary(
    commands: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def again(_invocation: Invocation, shown: Plan, *_: Any) -> Plan:
        return interrupt() if shown.tenant_name == "b" else shown

    monkeypatch.setattr("pumphouse.cli.several._plan_again", again)
    assert commands("migrate", "tenant", "a", "b", "--yes") == 130
    out, err = capsys.readouterr()
    assert "tenant a: run run-a: 2 created; everything that tenant a owns is at the destination\n" in out
    assert "tenant b: not started, because of the interruption" in out
    assert "nothing was changed" not in err


def test_ctrl_c_after_the_last_tenant_was_moved_is_no_interruption(
    commands: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pumphouse.cli.several._plan_again", lambda _invocation, shown, *_: shown)
    monkeypatch.setattr(
        "pumphouse.show.report.print_report",
        lambda data, _: data["tenant"]["name"] == "b" and interrupt(),
    )
    assert commands("migrate", "tenant", "a", "b", "--yes") == 0
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if ": run run-" in line] == [
        "  tenant a: run run-a: 2 created; everything that tenant a owns is at the destination",
        "  tenant b: run run-b: 2 created; everything that tenant b owns is at the destination",
    ]
    assert "nothing was changed" not in err


def test_ctrl_c_behind_a_run_does_not_say_that_nothing_was_changed(
    commands: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pumphouse.show.report.print_report", interrupt)
    assert commands("migrate", "tenant", "a", "--yes") == 130
    err = capsys.readouterr().err
    assert (
        "interrupted: see what was done with pumphouse runs list, go on with pumphouse resume run-a\n" in err
    )
    assert "nothing was changed" not in err


def test_ctrl_c_before_a_run_says_that_nothing_was_changed(
    commands: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pumphouse.show.plan.print_plan", interrupt)
    assert commands("migrate", "tenant", "a", "--yes") == 130
    assert "interrupted: nothing was changed\n" in capsys.readouterr().err


def test_the_second_ctrl_c_leaves_the_terminal_with_its_cursor() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(sys.executable, [sys.executable, "-c", TWICE_INTERRUPTED])
    shown = b""
    with suppress(OSError):  # that is how a terminal says that nobody has it open any more
        while block := os.read(terminal, 4096):
            shown += block
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert b"\x1b[?25l" in shown.partition(b"\x1b[?25h")[0]
    assert b"\x1b[?25l" not in shown.rpartition(b"\x1b[?25h")[2]
    assert b"stopped at once: go on with pumphouse resume 1a2b" in shown


@pytest.mark.parametrize("tenants", [["a"], ["a", "b"]])
def test_a_no_changes_nothing_says_so_and_is_no_success(
    commands: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tenants: list[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert commands("migrate", "tenant", *tenants) == 8
    out, err = capsys.readouterr()
    assert "nothing was changed\n" in err
    assert "new passwords" not in out


@pytest.mark.parametrize(
    "command",
    [
        ["migrate", "tenant", "a"],
        ["migrate", "tenant", "a", "b"],
        ["migrate", "server", "web"],
        ["migrate", "--plan", "none.yaml"],
        ["resume", "last"],
        ["revert", "last"],
    ],
)
def test_where_nobody_can_be_asked_it_is_refused_at_once(
    commands: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert commands(*command) == 2
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "error: stdin is not a terminal: there is nobody to ask whether to start\n"
        "hint: give --yes to start without being asked\n",
    )


def test_nobody_is_asked_in_a_dry_run(
    commands: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr("pumphouse.cli.migrate.plan_tenant", lambda _, tenant_id, __: tenant_plan(tenant_id))
    assert commands("migrate", "tenant", "a", "--dry-run") == 0
    assert "Migrate tenant a" in capsys.readouterr().out


@pytest.mark.parametrize("tenants", [["a"], ["a", "b"]])
def test_a_pipe_gets_the_report_and_the_operator_all_else(
    commands: Callable[..., int], capsys: pytest.CaptureFixture[str], tenants: list[str]
) -> None:
    assert commands("migrate", "tenant", *tenants, "--yes") == 0
    out, err = capsys.readouterr()
    assert "Migrate tenant a" in err
    assert "limits: " in err
    assert out.startswith("kind ")
    assert "Migrate tenant" not in out
    assert "limits: " not in out


@pytest.mark.parametrize("tenants", [["a"], ["a", "b"]])
def test_the_report_ends_with_the_place_of_new_passwords(
    commands: Callable[..., int], capsys: pytest.CaptureFixture[str], tenants: list[str]
) -> None:
    assert commands("migrate", "tenant", *tenants, "--yes") == 0
    line = "new passwords written by this run: 1, in /safe/passwords.csv"
    assert capsys.readouterr().out.splitlines().count(line) == len(tenants)


def test_where_no_password_was_written_no_file_is_named(
    commands: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reused = (Outcome(Ref("user", "x"), "x", State.REUSED, destination_id="y"),)
    monkeypatch.setattr(
        "pumphouse.run.execute.execute_run", lambda run, *_, **__: Report(run.plan, reused, run.id)
    )
    assert commands("migrate", "tenant", "a", "--yes") == 0
    assert "passwords" not in capsys.readouterr().out


@pytest.mark.parametrize("tenants", [["a"], ["a", "b"]])
def test_where_nothing_is_to_do_nobody_is_asked_and_no_run_is_made(
    commands: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tenants: list[str],
) -> None:
    def plan(tenant_id: str) -> Plan:
        reused = step("tenant", "t", action=Action.REUSE, destination_id="new")
        return replace(planned(reused), tenant=Ref("tenant", tenant_id), tenant_name=tenant_id)

    for module in ("migrate", "several"):
        monkeypatch.setattr(
            f"pumphouse.cli.{module}.plan_after_runs", lambda *_, tenant_id="a", **__: plan(tenant_id)
        )
        monkeypatch.setattr(f"pumphouse.cli.{module}.record_run", lambda *_: pytest.fail("a run was made"))
    monkeypatch.setattr("pumphouse.cli.several.plan_tenant", lambda _, tenant_id, __: plan(tenant_id))
    monkeypatch.setattr(sys, "stdin", Terminal())
    assert commands("migrate", "tenant", *tenants) == 0
    out, err = capsys.readouterr()
    assert "everything that tenant a owns is at the destination" in out
    assert "nothing to do" in out
    assert "Migrate" not in out + err

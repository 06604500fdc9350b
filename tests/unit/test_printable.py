"""Names are data: whatever tenants write into them, it is printed on the line where it belongs, and never obeyed."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import pty
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from pumphouse import cli
from pumphouse.cli.logs import LineFormatter
from pumphouse.cli.several import _print_summary, _Result
from pumphouse.cloud.check import Check, CloudCheck, Service
from pumphouse.errors import ConfigError
from pumphouse.model import (
    Action,
    Outcome,
    Plan,
    PlannedTask,
    Record,
    Ref,
    Report,
    Selection,
    State,
    Step,
    Unit,
)
from pumphouse.run.events import BytesCopied, OutcomeReported, Stopping, TaskBegan
from pumphouse.run.revert import UnitRevert
from pumphouse.run.summary import report_data
from pumphouse.show.console import PrintableConsole
from pumphouse.show.dot import plan_dot
from pumphouse.show.ending import print_ending
from pumphouse.show.plan import Detail, print_plan
from pumphouse.show.progress import LineListener, ScreenListener
from pumphouse.show.report import dump, print_check, print_report
from pumphouse.show.runs import print_list, print_revert, print_run
from pumphouse.show.text import is_hidden, printable
from pumphouse.show.verification import print_verification
from pumphouse.verify import Verification
from pumphouse.verify.compare import Difference, Finding, Verdict

ROOT = Path(__file__).parents[2] / "pumphouse"
FORGED = "created   server"
EVIL = "x\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u2028"
MARKUP = ["[red]x[/red]", "a[/b]", "[link=file:///]a", ":smile:", "\\[bold]"]
TIME = "2026-01-02T03:04:05+00:00"

# Any text, and texts that were thought out to begin a line, at a break of their own or where a long line is wrapped.
TEXTS = st.one_of(
    st.text(),
    st.text(st.sampled_from("\n\r\t\v\f\b\x1b\x85\x9b\x7f\u2028\u2029\u202e\u200b\ud800[]/ a中é")),
    st.sampled_from(["\n", "\r", "\x85", "\u2028", "\v", " "]).map(lambda end: f"a{end}{FORGED} b"),
    st.integers(1, 260).map(lambda length: f"{'x' * length} {FORGED} b"),
    st.sampled_from([*MARKUP, EVIL]),
)


# Printing anything that has this text wherever a text can be.


def plan_with(text: str) -> Plan:
    record = Record(Ref("network", "n"), text, {}, notes=(text,))
    task = PlannedTask("network-n-ensure", f"create network {text}")
    step = Step(record, Action.CREATE, text, text, notes=(text,), because=text, tasks=(task,))
    renamed = replace(step, record=replace(record, ref=Ref("server", "s"), name="old"))
    return Plan(
        Ref("tenant", "t"), text, text, text, (Unit("network/n", (step,)), Unit("server/s", (renamed,))),
        notes=(text,), selection=Selection(refs=(record.ref,)),
    )  # fmt: skip


def outcomes_with(text: str) -> tuple[Outcome, ...]:
    return tuple(Outcome(Ref("network", state), text, state, "id", text, (text,)) for state in State)


def show_report(text: str, out: PrintableConsole) -> None:
    data = report_data(Report(plan_with(text), outcomes_with(text)), None)
    print_report(data, out)
    print_ending({**data, "state": text}, out, passwords_file=text)


def show_check(text: str, out: PrintableConsole) -> None:
    services = (Service(text, text, text, text, text), Service("network", text, problem=text))
    cloud = CloudCheck(text, text, text, text, text, (text,), True, services, (text,), None)
    print_check(Check(cloud, cloud, (text,)), out)


def show_runs(text: str, out: PrintableConsole) -> None:
    times = {"created_at": TIME, "began_at": TIME, "ended_at": TIME}
    run = {
        "run": "1a2b3c4d",
        "state": text,
        "tenant": {"name": text},
        "source": text,
        "destination": text,
        **times,
    }
    print_list([run], out)
    task = {
        "line": text, "state": text, "started_at": TIME, "ended_at": TIME, "id": "i",
        "reason": text,
    }  # fmt: skip
    owner = {"pid": 1, "user": text, "host": text}
    more = {"owner": owner, "units": [{"tasks": [task]}], "resources": [], "summary": {}, "copied_bytes": 1}
    print_run({**run, **more}, out, with_tasks=True)


def show_revert(text: str, out: PrintableConsole) -> None:
    unit = Unit("network/n", ())
    units = [UnitRevert(unit, (text,), text), UnitRevert(unit, (text,))]
    print_revert(SimpleNamespace(id="1a2b", plan=plan_with(text)), units, out)


def show_verification(text: str, out: PrintableConsole) -> None:
    differences = (Difference(text, text, (text,), text), Difference(text, {text: text}, None))
    findings = [
        Finding(verdict, "network", text, reason=text, differences=differences) for verdict in Verdict
    ]
    print_verification(Verification("t", "u", False, tuple(findings)), out, show_equal=True)


def show_lines(text: str, out: PrintableConsole) -> None:
    # Lines that begin with the state are the real ones.
    for outcome in outcomes_with(text):
        LineListener(out, plan_with(text), "resume")(OutcomeReported(replace(outcome, state=State.KEPT)))


def show_tenants(text: str, out: PrintableConsole) -> None:
    _print_summary([_Result(plan_with(text), 1, problem=text)], out)


SHOWN = [
    lambda text, out: print_plan(plan_with(text), out, Detail.TASKS),
    show_report, show_check, show_runs, show_revert, show_verification, show_lines, show_tenants,
]  # fmt: skip


def printed(show: Callable[[str, PrintableConsole], None], text: str, width: int) -> str:
    file = io.StringIO()
    show(text, PrintableConsole(file=file, width=width))
    return file.getvalue()


def hidden_in(output: str) -> set[str]:
    return {char for char in output if char != "\n" and is_hidden(char)}


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("show", SHOWN, ids=lambda show: show.__name__)
@settings(max_examples=40)
@given(text=TEXTS)
@example(text=f"{'x' * 60} {FORGED} b")
def test_no_text_leaves_its_line(show: Callable[..., None], width: int, text: str) -> None:
    output = printed(show, text, width)
    assert hidden_in(output) == set()
    assert [line for line in output.splitlines() if line.startswith(FORGED)] == []


@pytest.mark.parametrize("show", SHOWN, ids=lambda show: show.__name__)
@settings(max_examples=40)
@given(text=TEXTS)
@example(text=EVIL)
def test_every_text_can_be_read(show: Callable[..., None], text: str) -> None:
    assert printable(text) in printed(show, text, 3000)


@pytest.mark.parametrize("text", [*MARKUP, "Büro", "東京", "👩‍💻", "می‌خواهم", "a b", "DOMAIN\\user"])
@pytest.mark.parametrize("show", SHOWN, ids=lambda show: show.__name__)
def test_what_is_no_control_is_shown_as_it_is(show: Callable[..., None], text: str) -> None:
    assert printable(text) == text
    assert text in printed(show, text, 400)


@given(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]))
def test_only_hidden_characters_are_escaped(char: str) -> None:
    assert printable(char) == char


@given(st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_a_hidden_character_is_escaped_so_that_it_can_be_told(text: str) -> None:
    hidden = "".join(filter(is_hidden, text))
    assert printable(hidden).encode("ascii").decode("unicode_escape") == hidden


def test_of_format_characters_only_what_scripts_need_stays() -> None:
    kept = [char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(char) == "Cf"]
    names = [unicodedata.name(char) for char in kept if not is_hidden(char)]
    assert names[-1].startswith("KAITHI NUMBER SIGN")
    assert [name for name in names if name.startswith("ZERO WIDTH")] == [
        "ZERO WIDTH NON-JOINER",
        "ZERO WIDTH JOINER",
    ]
    assert len(names) <= 15


# The console.


def test_what_was_not_made_printable_is_so_when_it_is_laid_out() -> None:
    file = io.StringIO()
    out = PrintableConsole(file=file, width=200)
    table = Table()
    table.add_column(Text("head\x1b"))
    table.add_column("[b]head")
    table.add_row(Text("a\n\x1bb"), "[red]a[/b]")
    for printed_object in (table, Text("c\n\x1bd", style="red"), Path("e\n\x1bf"), EVIL):
        out.print(printed_object)
    assert hidden_in(file.getvalue()) == set()
    for text in (
        "[b]head",
        "a\\n",
        "[red]a[/b]",
        "c\\n\\x1bd",
        "e\\n\\x1bf",
        printable(EVIL),
    ):
        assert text in file.getvalue()


def test_a_line_that_is_too_long_goes_on_indented() -> None:
    file = io.StringIO()
    PrintableConsole(file=file, width=20).print(f"{'a' * 15} {'b' * 15} {'c' * 40}")
    assert file.getvalue().splitlines() == [
        f"{'a' * 15} ",
        f"    {'b' * 15} ",
        f"    {'c' * 16}",
        f"    {'c' * 16}",
        f"    {'c' * 8}",
    ]


def test_columns_stay_in_line() -> None:
    lines = printed(show_report, "\x1b\n[/b]", 200).splitlines()
    column = lines[0].index("outcome")
    assert [line[column:].split()[0] for line in lines[1 : 1 + len(State)]] == [
        state.value for state in State
    ]


# Bars.


class Terminal(io.StringIO):
    """A terminal that remembers."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("text", [*MARKUP, EVIL, f"a\n{FORGED} b"])
def test_bars_show_any_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    out = PrintableConsole(file=file, force_terminal=True, width=200)
    screen = ScreenListener(out, plan_with(text), "resume")
    with screen.live():
        screen(TaskBegan("network-n-ensured", f"create network {text}"))
        screen.tally.active["network-n-ensured"].began_s -= 10
        screen(BytesCopied("network-n-copy", 1, 2))
        screen(OutcomeReported(Outcome(Ref("network", "n"), text, State.CREATED, "id")))
        out.print("the last line")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    assert f"create network {printable(text)}" in shown
    assert f"created   network {printable(text)}\n" in shown
    assert "1 of 2 resources" in shown
    assert hidden_in(shown) <= {"\r"}
    assert "\x1b]" not in file.getvalue()
    assert "\x1b[2J" not in file.getvalue()
    assert not any(line.startswith(FORGED) for line in re.split(r"[\r\n]", shown))


@pytest.mark.parametrize("width", [40, 200])
def test_what_is_waited_for_is_said_above_the_bars_and_then_shown_in_them(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    out = PrintableConsole(file=file, force_terminal=True, width=width)
    screen = ScreenListener(out, plan_with("a"), "pumphouse resume 1a2b3c4d")
    with screen.live():
        for tasks in (3, 1):
            screen(Stopping(tasks))
            out.print("")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    words = " ".join(shown.split())
    assert words.count("again to stop at once. Go on with pumphouse resume 1a2b3c4d") == 1
    assert "stopping: waiting for 3 tasks; nothing else is started" in words
    assert "stopping: waiting for 1 task" in words or width == 40


def test_a_terminal_is_left_with_its_cursor_and_a_pipe_as_it_is() -> None:
    for opened in (pty.openpty, os.pipe):
        reading, writing = opened()
        with open(writing, "w") as file:
            out = PrintableConsole(file=file, force_terminal=opened is pty.openpty)
            out.leave_terminal()
            out.file.write("end")
            file.flush()
            shown = b""
            while not shown.endswith(b"end"):  # a terminal may give what was written in parts
                shown += os.read(reading, 100)
            assert shown == (b"\x1b[?25h\r\nend" if opened is pty.openpty else b"end")
        os.close(reading)


# What is not printed by a console.


@given(TEXTS)
def test_a_graph_has_one_line_for_each_unit(text: str) -> None:
    assert hidden_in(plan_dot(plan_with(text))) == set()
    assert len(plan_dot(plan_with(text)).split("\n")) == len(plan_dot(plan_with("a")).split("\n"))


@given(TEXTS)
def test_data_is_escaped_and_stays_what_it_was(text: str) -> None:
    data = {"name": text, "notes": [text, {"of": text}], text: 1}
    assert hidden_in(dump(data, "json")) == set()
    assert json.loads(dump(data, "json")) == data
    assert hidden_in(dump(data, "yaml")) == set()
    assert yaml.safe_load(dump(data, "yaml")) == data


@given(TEXTS)
def test_a_failure_is_printed_line_by_line(text: str) -> None:
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli.click, "echo", lambda line, err: said.append(line))
        with pytest.raises(SystemExit):
            cli._fail(ConfigError(["first", text], text))
    assert said[0] == "error: first"
    assert said[-1] == (printable(f"hint: {text}") if text else "error: ")
    assert hidden_in("".join(said)) == set()
    assert "\n" not in "".join(said)


def test_a_record_of_the_log_is_one_line_and_its_traceback_is_indented() -> None:
    logger = logging.Logger("pumphouse.test")
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(LineFormatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.info("made %s", f"a\nINFO {FORGED}\x1b[2J")
    try:
        raise ValueError(f"a\nINFO {FORGED}\x1b[2J")
    except ValueError:
        logger.exception("failed")
    lines = handler.stream.getvalue().splitlines()
    assert lines[:3] == [
        f"INFO made a\\nINFO {FORGED}\\x1b[2J",
        "ERROR failed",
        "  Traceback (most recent call last):",
    ]
    assert lines[-2:] == ["  ValueError: a", f"  INFO {FORGED}\\x1b[2J"]


# Nothing goes around it.

PEOPLE = [path for room in ("show", "cli") for path in sorted((ROOT / room).rglob("*.py"))]
# What of rich prints nothing itself, or prints on a console that it is given.
HARMLESS = {"Group", "Table", "Live", "set_cell_size"}
ECHO = {"echo", "secho", "confirm", "prompt", "print", "write", "writelines"}
MADE_PRINTABLE = {"printable", "dump", "plan_dot", "event_line", "csv_text", "report_text", "starter"}


def ways_around(source: str) -> Iterator[str]:
    """What in a module prints, or may print, a text that was not made printable."""
    tree = ast.parse(source)
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("rich"))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("rich"):
            allowed = HARMLESS | ({"Text"} if id(node) in typing_only else set())
            yield from (alias.name for alias in node.names if alias.name not in allowed)
        elif isinstance(node, ast.Call):
            yield from _call_around(node)


def _call_around(call: ast.Call) -> Iterator[str]:
    name, text = ast.unparse(call.func), ast.unparse(call)
    if name == "logging.Formatter":
        yield text
    elif name in (
        "out.print",
        "invocation.console.print",
        "invocation.messages.print",
        "self._out.print",
        "os.write",
    ):
        # These are consoles, which mypy knows; and a signal handler, which writes the ids of runs only.
        return
    elif (
        name.rpartition(".")[2] in ECHO and name != "invocation.confirm" and not _is_made_printable(call.args)
    ):
        yield text


def _is_made_printable(arguments: list[ast.expr]) -> bool:
    return all(
        isinstance(argument, ast.Constant)
        or (isinstance(argument, ast.Call) and ast.unparse(argument.func) in MADE_PRINTABLE)
        for argument in arguments
    )


@pytest.mark.parametrize("path", PEOPLE, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_printed_around_it(path: Path) -> None:
    if path != ROOT / "show" / "console.py":
        assert list(ways_around(path.read_text())) == []


def test_nothing_else_prints() -> None:
    others = [path for path in ROOT.rglob("*.py") if path not in PEOPLE]
    printing = re.compile(
        r"(?<![\w.])print\(|\becho\(|sys\.std(out|err)\b|^\s*(from|import) rich\b", re.MULTILINE
    )
    assert [path for path in others if printing.search(path.read_text())] == []


@pytest.mark.parametrize(
    "source",
    [
        "import rich",
        "from rich import print",
        "from rich.console import Console",
        "from rich.text import Text",
        "from rich.panel import Panel",
        "print(name)",
        "click.echo(name)",
        "click.echo(f'note: {name}', err=True)",
        "sys.stderr.write(name)",
        "click.confirm(question)",
        "logging.Formatter('%(message)s')",
    ],
)
def test_a_way_around_is_seen(source: str) -> None:
    assert list(ways_around(source))


def test_a_console_that_obeys_names_is_refused_by_type() -> None:
    annotations: dict[str, Any] = {}
    for show in (
        print_plan,
        print_report,
        print_check,
        print_list,
        print_run,
        print_revert,
        print_verification,
    ):
        annotations[show.__name__] = show.__annotations__["out"]
    assert set(annotations.values()) == {"PrintableConsole"}

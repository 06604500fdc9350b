"""What is shown of a run while it goes on: the counts, the block on a terminal, the lines in a pipe, the JSON."""

from __future__ import annotations

import io
import json
import re
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from pumphouse.model import Outcome, Plan, Ref, State, Step
from pumphouse.run.events import (
    BytesCopied,
    Event,
    LimitsChanged,
    Noted,
    OutcomeReported,
    RunBegan,
    RunEnded,
    Stopping,
    TaskBegan,
    TaskEnded,
    TaskRetried,
    guarded,
)
from pumphouse.show import log, progress
from pumphouse.show.console import PrintableConsole
from pumphouse.show.log import JsonLog, Notifier
from pumphouse.show.progress import LineListener, ScreenListener, progress_listener
from pumphouse.show.tally import Tally
from pumphouse.show.tenants import TenantsProgress
from tests.unit.memory import TENANT, planned, step

MIB, GIB = 1 << 20, 1 << 30
ENDED = RunEnded("1a2b", "FAILURE", 2.5, 7, {"failed": 1})


def image(name: str, size_bytes: int = GIB) -> Step:
    made = step("image", name, TENANT.ref)
    return replace(made, record=replace(made.record, size_bytes=size_bytes))


class Terminal(io.StringIO):
    """A terminal that remembers."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that stands until it is moved."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def small_plan() -> Plan:
    return planned(TENANT, image("a"), image("b"), step("server", "web", Ref("image", "a")))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tally(clock: Clock) -> Tally:
    return Tally(small_plan(), clock)


def copy(name: str, copied: int, size: int = 100 * MIB) -> BytesCopied:
    return BytesCopied(f"image-{name}-uploaded", copied, size)


def begin(name: str) -> TaskBegan:
    return TaskBegan(f"image-{name}-uploaded", f"copy image {name}")


def screen(clock: Clock, plan: Plan | None = None, outages: tuple[str, ...] = ()) -> ScreenListener:
    out = PrintableConsole(file=io.StringIO(), width=80)
    listener = ScreenListener(out, plan or small_plan(), "resume", outages=lambda: list(outages))
    listener.tally.clock = clock
    listener.tally.began_s = clock.now_s
    return listener


# The counts.


def test_no_time_left_is_told_before_a_real_size_is_known(tally: Tally, clock: Clock) -> None:
    tally(OutcomeReported(Outcome(TENANT.ref, "t", State.CREATED, "x")))
    assert not tally.has_real_size
    assert tally.total_bytes == 2 * GIB
    assert tally.left_s(clock.now_s) is None


def test_what_is_not_known_yet_is_taken_to_be_as_full_as_what_is(tally: Tally, clock: Clock) -> None:
    tally(copy("a", 0))
    clock.now_s += 10
    tally(copy("a", 50 * MIB))
    assert tally.total_bytes == pytest.approx(200 * MIB, abs=2)
    assert tally.left_s(clock.now_s) == pytest.approx(30, rel=0.01)


def test_a_finished_resource_counts_as_what_was_copied_of_it(tally: Tally) -> None:
    tally(copy("a", 60 * MIB))
    tally(OutcomeReported(Outcome(Ref("image", "a"), "a", State.FAILED)))
    tally(OutcomeReported(Outcome(Ref("image", "b"), "b", State.BLOCKED)))
    assert (tally.total_bytes, tally.copied_bytes) == (60 * MIB, 60 * MIB)


def test_a_copy_that_begins_again_is_counted_once(tally: Tally) -> None:
    for copied in (10, 20, 0, 5):
        tally(copy("a", copied))
    assert tally.copied_bytes == 5


def test_the_rate_of_what_stands_falls_to_nothing(tally: Tally, clock: Clock) -> None:
    tally(begin("a"))
    clock.now_s += 2
    tally(copy("a", 20 * MIB))
    assert tally.rate.per_second(clock.now_s) == 10 * MIB
    clock.now_s += 60
    assert tally.rate.per_second(clock.now_s) == 0


def test_what_waits_for_a_task_is_what_needs_its_unit_and_is_not_done(tally: Tally) -> None:
    assert tally.waiting_for("image-a-uploaded") == ["server web"]
    tally(OutcomeReported(Outcome(Ref("server", "web"), "web", State.CREATED, "x")))
    assert tally.waiting_for("image-a-uploaded") == []
    assert tally.waiting_for("a task of an older release") == []


# The block on a terminal.


@pytest.mark.parametrize("width", [20, 40, 80, 160])
@pytest.mark.parametrize("height", [5, 24])
def test_the_block_has_always_the_same_height_and_no_line_is_too_long(
    clock: Clock, width: int, height: int
) -> None:
    shown = screen(clock, planned(TENANT, *map(image, "abcdefghijkl")), ("the compute service " * 9,))
    with shown.live():
        heights, name = set(), "ズ" * 90
        for number, letter in enumerate("abcdefghijkl"):
            clock.now_s += 2
            shown(begin(letter))
            shown(BytesCopied(f"image-{letter}-uploaded", number * GIB, 1000 * GIB))
            shown(TaskRetried(f"image-{letter}-uploaded", name, name))
            lines = [text for text, _ in shown.lines(width, height)]
            heights.add(len(lines))
            assert {cell_len(line) for line in lines} == {width}
    assert len(heights) == 1


def test_a_task_keeps_its_row_until_it_ends(clock: Clock) -> None:
    shown = screen(clock, planned(TENANT, *map(image, "abcd")))

    def rows() -> list[str]:
        clock.now_s += 2
        return [text.split("  ")[0].strip() for text, _ in shown.lines(80, 24)[2:6]]

    with shown.live():
        for name in "abc":
            shown(begin(name))
        assert rows() == ["copy image a", "copy image b", "copy image c", ""]
        shown(TaskEnded("image-a-uploaded", "copy image a", "done", 1.0))
        assert rows() == ["", "copy image b", "copy image c", ""]
        shown(begin("d"))
        assert rows() == ["copy image d", "copy image b", "copy image c", ""]


def test_a_line_says_what_is_done_how_fast_how_long_and_what_waits(clock: Clock) -> None:
    shown = screen(clock, outages=("the image service of the source since 09:41:07, up to 600 s",))
    with shown.live():
        shown(begin("a"))
        clock.now_s += 65
        shown(copy("a", 25 * MIB))
        lines = [text.rstrip() for text, _ in shown.lines(80, 24)]
    assert lines[1] == "0 of 4 resources" + " " * 56 + "0:01:05"
    assert lines[2].split() == [
        "copy",
        "image",
        "a",
        "25",
        "%",
        "of",
        "100.0",
        "MiB",
        "393.8",
        "KiB/s",
        "0:01:05",
    ]
    assert lines[-2] == "server web waits for: copy image a"
    assert lines[-1] == "waiting for the image service of the source since 09:41:07, up to 600 s"


def test_a_copy_that_has_no_slot_is_said_to_wait(clock: Clock) -> None:
    shown = screen(clock, planned(TENANT, *map(image, "abc")))
    with shown.live():
        for name in "abc":
            shown(begin(name))
            shown(copy(name, 0))
        shown(copy("a", 1))
        shown(copy("b", 1))
        clock.now_s += 2
        assert [" waits " in text for text, _ in shown.lines(80, 24)[2:5]] == [False, False, True]


def test_while_the_run_stops_the_block_says_how_many_tasks_are_waited_for(clock: Clock) -> None:
    shown = screen(clock)
    with shown.live():
        for tasks in (3, 2):
            shown(Stopping(tasks))
        assert shown.lines(80, 24)[1][0].startswith("stopping: waiting for 2 tasks ")


def test_a_block_on_a_terminal_has_no_ids_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")

    file = Terminal()
    with progress_listener(small_plan(), PrintableConsole(file=file, width=80), "resume") as listener:
        listener(OutcomeReported(Outcome(Ref("image", "an-old-id"), "a", State.CREATED, "a-new-id")))
    assert "created   image a" in re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert "-id" not in file.getvalue()
    # The cursor is shown again, and the lines of the block are cleared.
    assert file.getvalue().endswith("\x1b[1A\x1b[2K")
    assert "\x1b[?25h" in file.getvalue()


def test_a_terminal_that_writes_ctrl_c_into_the_block_leaves_no_line_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    with progress_listener(small_plan(), PrintableConsole(file=file, width=80), "resume"):
        pass
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue()).split("\n")
    assert max(cell_len(line.strip("\r")) for line in lines) <= 80 - len("^C")


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    monkeypatch.setenv("TERM", term)
    out = PrintableConsole(file=io.StringIO(), force_terminal=True, width=80)
    with progress_listener(small_plan(), out, "resume") as listener:
        assert type(listener) is LineListener


# Lines in a pipe.


def test_a_long_copy_is_not_silent_in_a_pipe(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    class Signalling(io.StringIO):
        def write(self, text: str) -> int:
            written = super().write(text)
            if "now:" in self.getvalue() and text.endswith("\n"):
                said.set()
            return written

    said = threading.Event()
    monkeypatch.setattr(progress, "STATUS_S", 0.01)
    file = Signalling()
    with progress_listener(small_plan(), PrintableConsole(file=file, width=400), "resume") as listener:
        listener.tally.clock = clock
        listener(begin("a"))
        listener(copy("a", 25 * MIB))
        clock.now_s += 69
        assert said.wait(30)
        line = listener.status()
    told = (
        r"\d\d:\d\d:\d\d 0 of 4 resources, 12 %, 25.0 MiB of 200.0 MiB, [^,]+/s, [-:0-9]+ left; "
        r"now: copy image a \(25.0 MiB of 100.0 MiB, 0:01:09\)"
    )
    assert re.fullmatch(told, line)


def test_what_is_tried_again_is_said_with_the_reason() -> None:
    file = io.StringIO()
    listener = LineListener(PrintableConsole(file=file, width=400), small_plan(), "resume")
    listener(TaskRetried("image-a-uploaded", "copy image a", "the cloud answered 503"))
    assert file.getvalue() == "note: copy image a: tried again: the cloud answered 503\n"


@pytest.mark.parametrize(("rate", "said"), [(50_000_000, "47.7 MiB a second"), (None, "as fast as they go")])
def test_limits_that_are_changed_are_said_and_counted_with(rate: int | None, said: str) -> None:
    file = io.StringIO()
    listener = LineListener(PrintableConsole(file=file, width=400), small_plan(), "resume")
    listener(LimitsChanged(7, rate))
    assert file.getvalue() == f"note: the limits are changed: 7 transfers at a time, bytes {said}\n"
    assert listener.tally.transfers == 7


# JSON and notify.

EVENTS: list[Event] = [
    RunBegan("1a2b", "migrate", "shop", "source http://old", "destination http://new", 4),
    begin("a"),
    TaskRetried("image-a-uploaded", "copy image a", "503"),
    copy("a", 1),
    TaskEnded("image-a-uploaded", "copy image a", "done", 1.5, "", 7, ("req-1",)),
    OutcomeReported(Outcome(Ref("image", "a"), "a\n", State.FAILED, None, "it has {'password': 'hush'}")),
    Noted("the image service does not answer"),
    LimitsChanged(2, None),
    Stopping(2),
    ENDED,
]


def test_each_event_is_one_line_of_json_under_its_name_without_secrets() -> None:
    file = io.StringIO()
    write = JsonLog(file, "1a2b")
    for event in EVENTS:
        write(event)
    lines = file.getvalue().splitlines()
    data = [json.loads(line) for line in lines]
    assert [each["event"] for each in data] == list(log.NAMES.values())
    assert {each["run"] for each in data} == {"1a2b"}
    assert data[4]["requests"] == ["req-1"]
    assert (data[5]["kind"], data[5]["outcome"], data[5]["name"]) == ("image", "failed", "a\n")
    assert "hush" not in file.getvalue()


def test_what_a_line_of_json_says_can_be_counted_by_another_process() -> None:
    lines = [json.loads(log.event_line(event, "1a2b")) for event in EVENTS if "hush" not in str(event)]
    assert [log.event_from(line) for line in lines] == [event for event in EVENTS if "hush" not in str(event)]
    reported = OutcomeReported(Outcome(Ref("image", "a"), "a", State.CREATED, "b", "", ("noted",)))
    assert log.event_from(json.loads(log.event_line(reported, "1a2b"))) == reported
    with pytest.raises(KeyError):
        log.event_from({"event": "of a later release"})


def test_tenants_that_are_moved_beside_each_other_share_a_screen(clock: Clock) -> None:
    plans = [
        replace(small_plan(), tenant=Ref("tenant", name), tenant_name=name)
        for name in ("shop", "bank", "lab")
    ]
    progress = TenantsProgress(PrintableConsole(file=io.StringIO()), 3, 2, clock)
    assert [line.split() for line in progress.lines(80, 24)] == [
        ["0", "of", "3", "tenants", "0:00:00"],
        [],
        [],
    ]
    for plan in plans[:2]:
        progress.begin(plan)
    progress.tell(plans[0], begin("a"))
    clock.now_s += 10
    progress.tell(plans[0], copy("a", 50 * MIB))
    shown = progress.lines(80, 24)
    assert all(len(line) == 80 for line in shown)
    assert shown[0].startswith("0 of 3 tenants  ")
    assert "50.0 MiB of " in shown[0]
    assert "5.0 MiB/s" in shown[0]
    assert shown[1].startswith("shop: copy image a")
    assert "5.0 MiB/s  0:00:10" in shown[1]
    assert shown[2].startswith("bank: begins")
    progress.end(plans[0])
    progress.begin(plans[2])
    assert [line.split(":")[0] for line in progress.lines(40, 24)[1:]] == ["bank", "lab"]
    assert progress.lines(40, 24)[0].startswith("1 of 3 tenants")
    assert [len(line) for line in progress.lines(40, 9)] == [40, 40]


def test_of_a_copy_not_every_event_is_written_but_its_end_is() -> None:
    file = io.StringIO()
    write = JsonLog(file, "1a2b")
    for copied in (0, 1, 2, 100 * MIB):
        write(copy("a", copied))
    assert [json.loads(line)["copied_bytes"] for line in file.getvalue().splitlines()] == [0, 100 * MIB]


def test_every_event_and_its_fields_are_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "log.md").read_text()
    sections = {part.split("`", 1)[0]: part for part in page.split("### `")[1:]}
    assert list(sections) == list(log.NAMES.values())
    for event in EVENTS:
        data = log.event_data(event)
        missing = [
            name
            for name in data
            if name not in ("event", "run") and f"`{name}`" not in sections[data["event"]]
        ]
        assert missing == []


def test_a_command_is_told_the_begin_each_failure_and_the_end(tmp_path: Path) -> None:
    told = tmp_path / "told"
    notify = Notifier(f"cat >> {told}; echo >> {told}", "1a2b")
    for event in EVENTS:
        notify(event)
    events = [json.loads(line)["event"] for line in told.read_text().splitlines()]
    assert events == ["run_began", "resource", "run_ended"]


@pytest.mark.parametrize(
    ("command", "said"), [("exit 3", "failed with exit code 3"), ("sleep 9; true", "took longer than 0 s")]
)
def test_a_command_that_fails_or_hangs_hurts_no_run(
    command: str, said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "NOTIFY_TIMEOUT_S", 0.1)
    Notifier(f"{command} # {sys.executable}", "1a2b")(ENDED)
    assert said in caplog.text
    assert sys.executable not in caplog.text


def test_a_listener_that_raises_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Event) -> None:
        raise OSError(28, "No space left on device")

    tell = guarded(broken)
    tell(Stopping(1))
    tell(Stopping(1))
    assert caplog.text.count("No space left") == 1


def test_a_plan_of_tens_of_thousands_of_steps_is_not_looked_through_for_each_screen(clock: Clock) -> None:
    needed = step("network", "net", TENANT.ref)
    plan = planned(TENANT, needed, *(step("server", f"s-{n}", needed.ref) for n in range(2000)))
    counted = 0

    class Watched(tuple):  # type: ignore[type-arg]
        def __iter__(self):  # type: ignore[no-untyped-def]
            nonlocal counted
            counted += 1
            return super().__iter__()

    shown = screen(clock, replace(plan, units=Watched(plan.units)))
    with shown.live():
        shown(TaskBegan("network-net-ensured", "create network net"))
        shown(TaskBegan("server-s-1-booted", "boot server s-1"))
        before, counted = counted, 0
        clock.now_s += 2
        assert "and 1997 more wait for: create network net" in (shown.lines(120, 24)[-2][0])
    assert before
    assert counted == 0

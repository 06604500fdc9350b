"""Plans for people: first a page of what matters, then all notes, resources and tasks, as far as they are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

from pumphouse.model import Action, Plan, Step, kind_title
from pumphouse.plan import overview
from pumphouse.plan.data import summary
from pumphouse.show.console import PrintableConsole, styled
from pumphouse.words import counted, lasting, size

if TYPE_CHECKING:
    from rich.text import Text

_COLOURS = {
    Action.CREATE: "green", Action.REUSE: "cyan", Action.SKIP: "yellow", Action.CONFLICT: "red"
}  # fmt: skip
_LABELS = {
    Action.CREATE: "make", Action.REUSE: "reuse", Action.SKIP: "leave out", Action.CONFLICT: "conflict"
}  # fmt: skip
# The reasons of resources about which there is nothing special.
_USUAL = ("not at the destination", "already at the destination")
# What to do about conflicts whose reasons do not say it, by what is in these.
_REMEDIES = {
    "another of this name": "; rename one of them, map it, leave it out, or set policies.on_conflict",
    "candidates: ": "; delete those that are not in use, or leave it out",
}
# The first page fits the smallest screen, of 24 lines, with the prompt behind it.
_PAGE_LINES = 23
_INDENT = 10
_LINES = 2
# A row of the page has no room for more names.
_NAMES_MAX = 60
# How many resources are named of which the same is said.
_FEW, _SOME, _EVERY = 3, 8, 1 << 30
_MORE = "..."


class Detail(IntEnum):
    """How much of a plan is printed; each has all that those before it have."""

    SUMMARY = 1
    PROBLEMS = 2
    RESOURCES = 3
    TASKS = 4


def print_plan(plan: Plan, out: PrintableConsole, detail: Detail = Detail.PROBLEMS) -> None:
    """A page of what matters; then all notes, every resource and every task, as far as the detail has them."""
    page = [*_head(plan, out), styled(""), *_effects(plan, out), styled("")]
    # What is printed before a question does not list a thousand servers.
    said, all_said = (
        list(_said(plan, named)) for named in (_FEW, _SOME if detail < Detail.RESOURCES else _EVERY)
    )
    notes = [_wrapped(out, *parts) for parts in said]
    cut = [_cut(list(lines), _LINES) for lines in notes]
    fitting = _fitting(cut, max(_PAGE_LINES - len(page), _LINES + 1))
    page += [line for lines in cut[:fitting] for line in lines]
    if hidden := len(cut) - fitting:
        where = "below" if detail > Detail.SUMMARY else "leave out --summary to see them"
        page += _wrapped(out, "", f"and {hidden:,} more: {where}")
    for line in page:
        out.print(line, no_wrap=True)
    rest = [
        parts
        for number, parts in enumerate(all_said)
        if number >= fitting or said[number] != parts or len(notes[number]) > _LINES
    ]
    if rest and detail > Detail.SUMMARY:
        _section(out, "In full", (line for parts in rest for line in _wrapped(out, *parts)))
    if detail >= Detail.RESOURCES:
        _section(out, "Resources", map(_step_text, plan.steps()))
    if detail >= Detail.TASKS:
        heading = "Tasks in the order of the run; those that do not wait for each other run side by side"
        _section(out, heading, (styled(f"{task.number:6d}. {task.line}") for task in plan.tasks()))
    if detail >= Detail.RESOURCES:
        out.print()
        out.print(_summary_line(plan), style="bold")


def selection_options(plan: Plan) -> str:
    """The selection of a plan as the options of a command; empty when it is of all."""
    selection = plan.selection
    names = {step.ref: step.record.name for step in plan.steps()}
    return " ".join(
        [
            *(f"--only {kind}" for kind in selection.only),
            *(f"--skip {kind}" for kind in selection.skip),
            *(f"--{ref.kind} {names.get(ref) or ref.id}" for ref in selection.refs),
        ]
    )


def _section(out: PrintableConsole, heading: str, lines: Iterable[Text]) -> None:
    out.print()
    out.print(heading, style="bold")
    for line in lines:
        out.print(line)


def _head(plan: Plan, out: PrintableConsole) -> Iterator[Text]:
    yield from _cut(
        _wrapped(out, "Migrate", f"tenant {plan.tenant_name} ({plan.tenant.id})", "bold", 8), _LINES
    )
    yield from _wrapped(out, "  from", plan.source, indent=7)
    yield from _wrapped(out, "  to", plan.destination, indent=7)
    if plan.selection:
        yield from _cut(_wrapped(out, "  with", selection_options(plan), indent=7), _LINES)


def _effects(plan: Plan, out: PrintableConsole) -> Iterator[Text]:
    """What a run would do, in the answers to the questions that an operator has."""
    for action, kinds in overview.kinds(plan).items():
        counts = [counted(number, kind_title(kind)) for kind, number in kinds.items()]
        lines = 2 * _LINES if action is Action.CREATE else 1
        if counts:
            yield from _list(out, _LABELS[action], f"{kinds.total():,}: ", counts, _COLOURS[action], lines)
    counted_all, expected, formats = summary(plan), overview.estimate(plan), overview.copy_formats(plan)
    if size_bytes := counted_all["size_bytes"]:
        rate = f"{size(round(expected.speed.bytes_per_s))} a second ({expected.speed.known})"
        least = f" and at least {size(expected.least_bytes)}" if formats else ""
        yield from _wrapped(out, "copy", f"at most {size(size_bytes)}{least}, at {rate}")
    for copied_as, steps in formats.items():
        disks, amount = counted(len(steps), "volume"), size(sum(step.record.size_bytes for step in steps))
        yield from _wrapped(out, "", f"{disks}, {amount}, as {copied_as.name}: {copied_as.why}")
    if counted_all["tasks"]:
        tasks = counted(counted_all["tasks"], "task")
        yield from _wrapped(out, "take", f"about {lasting(expected.duration_s)} for {tasks}")
    if stopped := overview.stopped(plan):
        servers = counted(len(stopped), "running server")
        longest = lasting(max(expected.downtimes_s.values()))
        said = f"{servers} at the source, each for at most about {longest}: "
        yield from _list(out, "stop", said, [step.record.name for step in stopped], "yellow")
    for what, names in (
        ("public address", [step.record.title for step in overview.readdressed(plan)]),
        ("name", [f"{step.record.title} to {step.name}" for step in overview.renamed(plan)]),
    ):
        if names:
            yield from _list(out, "change", f"{counted(len(names), what)}: ", names, "yellow", 1)


def _said(plan: Plan, named: int) -> Iterator[tuple[str, str, str]]:
    """All else that there is to know, what stops a run first: what it is, the text, the colour.

    named: how many of the resources are named of which the same is said.
    """
    for obstacle in plan.obstacles:
        label, style = ("error", "red") if obstacle.is_certain else ("warning", "yellow")
        yield label, f"{obstacle.what}: {obstacle.remedy}", style
    for group in overview.reasons(plan, Action.CONFLICT):
        remedy = next((said for reason, said in _REMEDIES.items() if reason in group.text), "")
        yield "conflict", f"{_group_text(group, named)}{remedy}", "red"
    for note in plan.uncarried:
        yield "not moved", note, "yellow"
    for group in overview.reasons(plan, Action.SKIP):
        yield "leave out", _group_text(group, named), "yellow"
    for note in plan.notes:
        yield "note", note, ""
    for group in overview.notes(plan):
        yield "note", _group_text(group, named), ""


def _group_text(group: overview.Group, named: int) -> str:
    first, *others = group.steps
    if not others:
        return f"{first.record.title}: {group.text}"
    is_one_kind = {step.ref.kind for step in others} == {first.ref.kind}
    subject = counted(len(group.steps), kind_title(first.ref.kind) if is_one_kind else "resource")
    steps = group.steps[:named]
    names = [step.record.name or step.ref.id if is_one_kind else step.record.title for step in steps]
    more = f" and {len(group.steps) - named:,} more" if len(group.steps) > named else ""
    return f"{subject} ({', '.join(names)}{more}): {group.text}"


def _list(
    out: PrintableConsole, label: str, head: str, names: Sequence[str], style: str, lines: int = _LINES
) -> list[Text]:
    """A head and as many names behind it as there is room for in so many lines."""
    for shown in range(min(len(names), _NAMES_MAX), 0, -1):
        more = f" and {len(names) - shown:,} more" * (shown < len(names))
        wrapped = _wrapped(out, label, f"{head}{', '.join(names[:shown])}{more}", style)
        if len(wrapped) <= lines:
            break
    return _cut(wrapped, lines)


def _wrapped(
    out: PrintableConsole, label: str, text: str, style: str = "", indent: int = _INDENT
) -> list[Text]:
    """A label and a text beside it, in the lines that it takes on this console."""
    width = max(out.width - indent, indent, 1)
    found = list(styled(text).wrap(out, width, overflow="fold"))
    for line in found:
        line.rstrip()
    labels = [label, *[""] * (len(found) - 1)]
    return [
        styled(f"{word:{indent}}", style).append_text(line) for word, line in zip(labels, found, strict=True)
    ]


def _cut(lines: list[Text], most: int) -> list[Text]:
    """The first lines; the last one says by `...` that there is more."""
    if len(lines) > most:
        lines = lines[:most]
        lines[-1].right_crop(len(_MORE))
        lines[-1].append(_MORE)
    return lines


def _fitting(notes: Sequence[Sequence[Text]], room: int) -> int:
    """How many of the notes fit into so many lines, with one that says how many more there are."""
    total = 0
    for number, lines in enumerate(notes):
        total += len(lines)
        if total + (number < len(notes) - 1) > room:
            return number
    return len(notes)


def _summary_line(plan: Plan) -> str:
    counts = summary(plan)
    actions = ", ".join(f"{counts[action.value]} {action.value}" for action in Action)
    total = sum(counts[action.value] for action in Action)
    return (
        f"{total} resources: {actions}; {counts['tasks']} tasks; at most {size(counts['size_bytes'])} to copy"
    )


def _step_text(step: Step) -> Text:
    text = styled(f"{step.action.value:8}", _COLOURS[step.action])
    text.append_text(styled(f" {step.record.title}", "bold default"))
    if step.name != step.record.name:
        text.append_text(styled(f" as {step.name}", "default"))
    if step.action is Action.CREATE and step.record.size_bytes:
        copied_as = f" as {step.record.copied_as.name}" if step.record.copied_as else ""
        text.append_text(styled(f", {size(step.record.size_bytes)}{copied_as}", "default"))
    reason = "" if step.reason in _USUAL else step.reason
    why = "; ".join(filter(None, (reason, step.because)))
    return text.append_text(styled(f": {why}" if why else "", "default"))

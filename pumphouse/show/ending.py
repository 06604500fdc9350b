"""What is asked before a run, and what is said at its end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pumphouse.model import (
    NOT_ALL_SHOWN,
    Action,
    Json,
    LimitSettings,
    Outcome,
    Plan,
    Report,
    State,
    kind_title,
)
from pumphouse.plan.data import summary
from pumphouse.plan.overview import estimate, stopped
from pumphouse.run.outcomes import REVERT_STATES, is_partial, left_behind
from pumphouse.run.record import FINALIZE_STATES, FINALIZED
from pumphouse.run.summary import seconds_between
from pumphouse.show.console import PrintableConsole
from pumphouse.show.report import outcome_text, print_some
from pumphouse.words import counted, lasting, size

_NAMES_MAX = 5
# What is not as it was, although it has arrived: an address, a hostname.
_CHANGED = re.compile(r"its (?:address is|hostname is \S+ and not) ")


def question(plans: Sequence[Plan], how: str = "one after the other") -> str:
    """What an operator is asked before plans of the same two clouds are run, with what matters of them.

    how: in which order several are run, in words.
    """
    first, tenants = plans[0], ", ".join(plan.tenant_name for plan in plans)
    counts = [summary(plan) for plan in plans]
    made = sum(count[Action.CREATE.value] for count in counts)
    servers = sum(len(stopped(plan)) for plan in plans)
    duration_s = sum(estimate(plan).duration_s for plan in plans)
    whom = f"tenant {tenants}" if len(plans) == 1 else f"{len(plans)} tenants {how} ({tenants})"
    return (
        f"Migrate {whom} from {first.source} to {first.destination}: "
        f"make {counted(made, 'resource')}, stop {counted(servers, 'running server')} at the source, "
        f"copy at most {size(sum(count['size_bytes'] for count in counts))}, in about {lasting(duration_s)}?"
    )


def completeness(report: Report) -> str:
    """Whether all of a tenant has arrived, in one sentence: the last that is said of a run."""
    name = report.plan.tenant_name
    missing = len(left_behind(report)) + len(report.plan.uncarried)
    if missing:
        verb = "is" if missing == 1 else "are"
        return f"{counted(missing, 'resource')} of tenant {name} {verb} not at the destination: see above"
    if is_partial(report.plan):
        return f"all that was selected of tenant {name} is at the destination"
    if any(note.startswith(NOT_ALL_SHOWN) for note in report.plan.notes):
        return f"all that the login is shown of tenant {name} is at the destination"
    return f"everything that tenant {name} owns is at the destination"


def resume_question(plan: Plan, left: Sequence[Outcome]) -> str:
    """What an operator is asked before a run goes on, with what matters of what is left of it."""
    refs = {outcome.ref for outcome in left}
    steps = [step for step in plan.steps() if step.ref in refs]
    servers = counted(sum(step.does("stopped") for step in steps), "running server")
    return (
        f"Go on with the migration of tenant {plan.tenant_name} from {plan.source} to {plan.destination}: "
        f"make {counted(len(left), 'resource')}, have {servers} stopped at the source, "
        f"copy at most {size(sum(step.record.size_bytes for step in steps))}?"
    )


def limits_line(limits: LimitSettings) -> str:
    """How much is done at a time, said before a run begins or goes on."""
    rate = limits["bytes_per_second"]
    speed = f"{size(rate)} a second" if rate else "as fast as they go"
    return (
        f"limits: {counted(limits['workers'], 'call')} and {counted(limits['transfers'], 'transfer')} at a time, "
        f"bytes {speed}; --workers, --transfers and --limit-rate change them"
    )


def print_nothing(report: Report, out: PrintableConsole, *, is_done: bool) -> None:
    """Say that a plan is of nothing, and what of the tenant is not at the destination."""
    print_some([outcome_text(outcome) for outcome in left_behind(report)], out, "", "-f json has all")
    for note in report.plan.uncarried:
        out.print(f"note: {note}", style="yellow")
    counts = report.count()
    there = counted(counts.get(State.REUSED, 0), "resource")
    others = [f"{number} {state.value}" for state, number in counts.items() if state is not State.REUSED]
    said = "; ".join([f"{there} at the destination already", *filter(None, [", ".join(others)])])
    out.print(f"nothing to do: {said}")
    out.print(completeness(report), style="bold green" if is_done else "bold red")


def print_ending(data: Json, out: PrintableConsole, *, passwords_file: str | None = None) -> None:
    """What a run has come to and what it took, then what failed, what is different now, and what to do next.

    passwords_file: where the passwords of new users are.
    """
    total = counted(len(data["resources"]), "resource")
    counts = ", ".join([total, *(f"{number} {outcome}" for outcome, number in data["summary"].items())])
    out.print()
    out.print(
        f"run {data['run']} of tenant {data['tenant']['name']} is {data['state']}: {counts}", style="bold"
    )
    out.print("; ".join(_costs(data)))
    where = f"pumphouse report {data['run']}"
    print_some([f"failed: {line}" for line in _failures(data)], out, "red", where)
    print_some([f"changed: {line}" for line in _changes(data)], out, "yellow", where)
    if data["new_passwords"] and passwords_file:
        out.print(f"new passwords written by this run: {data['new_passwords']}, in {passwords_file}")
    commands = list(_next_commands(data))
    width = max((len(command) for _, command in commands), default=0)
    for number, (what, command) in enumerate(commands):
        line = f"{'' if number else 'next: ':6}{command:{width}}  # {what}"
        out.print(line if len(line) <= out.width else line.partition("  #")[0].rstrip(), soft_wrap=True)


def _costs(data: Json) -> Iterator[str]:
    if data["began_at"] and data["ended_at"]:
        yield f"it took {lasting(seconds_between(data['began_at'], data['ended_at']))}"
    copied_bytes = data["copied_bytes"]
    rate = f" at {size(round(copied_bytes / data['copying_s']))} a second" if data["copying_s"] else ""
    yield f"{size(copied_bytes)} copied{rate}"
    stopped = [item for item in data["resources"] if item["source_stopped"]]
    if stopped:
        yield f"{counted(len(stopped), 'server')} of the source stopped{_named(stopped)}"
    if down := [item["downtime_s"] for item in data["resources"] if item["downtime_s"] is not None]:
        yield f"down for at most {lasting(max(down))}"


def _named(items: Sequence[Json]) -> str:
    names = ", ".join(item["name"] for item in items[:_NAMES_MAX])
    return f" ({names}{', ...' if len(items) > _NAMES_MAX else ''})" if items else ""


def _failures(data: Json) -> list[str]:
    return [
        f"{_title(item)}: {item['reason']}" for item in data["resources"] if item["outcome"] == State.FAILED
    ]


def _changes(data: Json) -> list[str]:
    return [
        f"{_title(item)}: {note}"
        for item in data["resources"]
        for note in item["notes"]
        if _CHANGED.match(note)
    ]


def _title(item: Json) -> str:
    return f"{kind_title(item['kind'])} {item['name']}"


def _next_commands(data: Json) -> Iterator[tuple[str, str]]:
    run = data["run"]
    if data["state"] in REVERT_STATES:
        if data["state"] != "REVERTED":
            yield "undo the rest", f"pumphouse revert {run}"
        return
    if data["state"] in FINALIZE_STATES:
        if data["state"] != FINALIZED:
            yield "go on", f"pumphouse finalize {run}"
        yield "see this again", f"pumphouse report {run}"
        return
    if {State.FAILED, State.BLOCKED, State.PENDING} & data["summary"].keys():
        yield "go on, or try again what failed", f"pumphouse resume {run}"
    if State.PENDING not in data["summary"]:
        yield "compare both clouds", f"pumphouse verify tenant {data['tenant']['id']} --run {run}"
    yield "see this again", f"pumphouse report {run}"
    yield "undo it", f"pumphouse revert {run}"

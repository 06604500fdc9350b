"""Who is told what a run does: the operator, the file of `--log-json`, and the command of `notify`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import click

from pumphouse.cli.options import Command

if TYPE_CHECKING:
    from pumphouse.cli.invocation import Invocation
    from pumphouse.run.events import Listener
    from pumphouse.run.record import Run
    from pumphouse.show.progress import LineListener

_LOG_JSON = "pumphouse.log_json"


def log_json_option(command: Command) -> Command:
    """`--log-json`."""

    def remember(context: click.Context, _parameter: click.Parameter, file: object) -> None:
        if file is not None:
            context.meta[_LOG_JSON] = file

    return click.option(
        "--log-json",
        type=click.File("a", encoding="utf-8", lazy=False),
        metavar="FILE",
        expose_value=False,
        callback=remember,
        help="Append what the run does to this file, one event a line as JSON.",
    )(command)


def log_json_file() -> TextIO | None:
    """The file of `--log-json`; None where it is not given."""
    context = click.get_current_context(silent=True)
    return context.meta.get(_LOG_JSON) if context else None


@contextmanager
def telling(invocation: Invocation, run: Run, command: str, go_on: str) -> Iterator[LineListener]:
    """A listener that tells all of them of the events of a run, and that it begins and ends.

    command: `migrate` or `revert`.
    go_on: the command that goes on with the run.
    """
    from pumphouse.run.events import Noted, RunBegan, RunEnded, guarded
    from pumphouse.show.progress import progress_listener

    plan, began_s = run.plan, time.monotonic()
    outages = [cloud.outages for cloud in invocation.clouds]
    others = list(_others(invocation, run.id))
    with progress_listener(
        plan, invocation.messages, go_on, others, lambda: [w for each in outages for w in each.waited_for()]
    ) as listener:
        for each in outages:
            each.also = lambda line: listener(Noted(line))
        total = listener.tally.resources
        listener(RunBegan(run.id, command, plan.tenant_name, plan.source, plan.destination, total))
        try:
            yield listener
        finally:
            error = sys.exc_info()[1]
            counts = dict(Counter(state.value for state in listener.tally.outcomes.values()))
            seconds, reason = time.monotonic() - began_s, str(error or "")
            state = run.book.meta["state"]
            guarded(listener)(RunEnded(run.id, state, seconds, listener.copied_bytes, counts, reason))


def _others(invocation: Invocation, run_id: str) -> Iterator[Listener]:
    from pumphouse.show.log import JsonLog, Notifier

    if file := log_json_file():
        yield JsonLog(file, run_id)
    if command := invocation.config.notify:
        yield Notifier(command, run_id)

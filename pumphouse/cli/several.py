"""Several tenants with one command: planned first, then run, each a run of its own, some at once if asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any, TextIO

from pumphouse.cli.invocation import migration_of
from pumphouse.cli.planning import plan_after_runs, plan_tenant
from pumphouse.cli.running import (
    Ended,
    failure_code,
    has_work,
    locked_tenant,
    makes_anything,
    nothing_done,
    print_end,
    record_run,
    work_on,
)
from pumphouse.cli.telling import log_json_file
from pumphouse.errors import (
    EXIT_CONNECTION,
    EXIT_DECLINED,
    EXIT_DIFFERENT,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    EXIT_LOCKED,
    EXIT_STALE,
    EXIT_USAGE,
    explain,
)
from pumphouse.show.text import printable

if TYPE_CHECKING:
    from pumphouse.cli.invocation import Invocation
    from pumphouse.model import Json, Plan, Ref, Selection
    from pumphouse.show.console import PrintableConsole
    from pumphouse.show.tenants import TenantsProgress
    from pumphouse.tasks.base import Before

# Exit codes, each worse than those before it: of several tenants the worst one is given.
_WORSE = (
    EXIT_DONE,
    EXIT_INCOMPLETE,
    EXIT_DIFFERENT,
    EXIT_LOCKED,
    EXIT_STALE,
    EXIT_USAGE,
    EXIT_CONNECTION,
    EXIT_FAILED,
    EXIT_DECLINED,
    EXIT_INTERRUPTED,
)

_LIMIT_OPTIONS = {
    "workers": "--workers",
    "transfers": "--transfers",
    "bytes_per_second": "--limit-rate",
}


@dataclass(frozen=True)
class _Result:
    """What became of one of the tenants: how its run has ended, or why there is none.

    problem: why there is no run; of a process of its own, what it said last.
    told: what a process of its own has printed as JSON.
    """

    plan: Plan
    code: int
    ended: Ended | None = None
    problem: str = ""
    told: Json | None = None


def migrate_several(
    invocation: Invocation, ids: Sequence[str], selection: Selection, *, at_once: int = 1
) -> int:
    """Plan all, show all, ask once, run each; returns the worst exit code.

    at_once: how many are run beside each other, each by a process of its own.

    A tenant that fails does not stop the others. Ctrl-C does, once the tasks under way are finished.
    """
    from pumphouse.show.ending import question
    from pumphouse.show.plan import Detail, print_plan

    out = invocation.messages
    plans = []
    for tenant_id in ids:
        plans.append(plan_tenant(invocation, tenant_id, selection))
        if makes_anything(plans[-1]):
            print_plan(plans[-1], out, Detail[invocation.detail or "PROBLEMS"])
            out.print()
    if not plans:
        return EXIT_DONE
    asked = list(filter(makes_anything, plans))
    invocation.refuse_obstacles(asked)
    how = f"{at_once} at a time" if at_once > 1 else "one after the other"
    if asked and not invocation.confirm(question(asked, how)):
        return EXIT_DECLINED
    if at_once > 1:
        results = _migrate_at_once(invocation, plans, selection, at_once)
    else:
        results = _migrate_all(invocation, plans, selection)
    if not invocation.is_table:
        invocation.print_data(list(map(_data, results)))
    _print_summary(results, invocation.console)
    return max((result.code for result in results), key=_WORSE.index)


def _migrate_all(invocation: Invocation, plans: Sequence[Plan], selection: Selection) -> list[_Result]:
    """Migrate one tenant after the other until Ctrl-C; those whose turn has not come have a result, too."""
    from pumphouse.run.execute import is_past

    results: list[_Result] = []
    # While a run works the signal is handled there; this is for the times in between.
    with suppress(KeyboardInterrupt):
        for plan in plans:
            if is_past(invocation.until) or (results and results[-1].code == EXIT_INTERRUPTED):
                break
            results.append(_migrate_one(invocation, plan, selection))
            if (ended := results[-1].ended) is not None:
                print_end(invocation, ended)
    return [*results, *map(_not_started, plans[len(results) :])]


def _not_started(plan: Plan) -> _Result:
    return _Result(plan, EXIT_INTERRUPTED, problem="not started, because of the interruption or --until")


def _migrate_at_once(
    invocation: Invocation, plans: Sequence[Plan], selection: Selection, at_once: int
) -> list[_Result]:
    """Migrate tenants beside each other; Ctrl-C reaches every process, and no other is started."""
    from pumphouse.run.execute import is_past
    from pumphouse.show.tenants import TenantsProgress

    out = invocation.messages
    progress = TenantsProgress(out, len(plans), at_once)
    processes: dict[str, subprocess.Popen[str]] = {}
    stopping = threading.Event()
    log = log_json_file()

    def interrupt(_number: int, _frame: object) -> None:
        stopping.set()
        for process in processes.values():
            process.send_signal(signal.SIGINT)

    def migrate(plan: Plan) -> _Result:
        if stopping.is_set() or is_past(invocation.until):
            return _not_started(plan)
        events, theirs = os.pipe()
        progress.begin(plan)
        # In a session of its own, so that the terminal's Ctrl-C reaches it once, and from here.
        with (
            open(events, encoding="utf-8") as told,
            subprocess.Popen(
                [*_command(invocation, plan, selection), "--log-json", f"/dev/fd/{theirs}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                pass_fds=[theirs],
            ) as process,
            ThreadPoolExecutor(1) as reader,
        ):
            os.close(theirs)
            processes[plan.tenant.id] = process
            reader.submit(_count, told, plan, progress, log)
            try:
                return _followed(invocation, plan, process)
            finally:
                progress.end(plan)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with progress.live(), ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(migrate, plans))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _command(invocation: Invocation, plan: Plan, selection: Selection) -> list[str]:
    """The command that migrates one of the tenants."""
    options = [("--only", kind) for kind in selection.only] + [("--skip", kind) for kind in selection.skip]
    options += [("--servers", condition) for condition in selection.conditions]
    given: dict[str, object] = {
        "--config": invocation.config_path,
        "--source-cloud": invocation.source_cloud,
        "--destination-cloud": invocation.destination_cloud,
        "--until": invocation.until and f"{invocation.until.astimezone():%Y-%m-%d %H:%M}",
    }
    given |= {_LIMIT_OPTIONS[name]: limit or "none" for name, limit in invocation.limits.items()}
    options += [(name, str(value)) for name, value in given.items() if value]
    flags = [
        "--summary",
        *["--keep-running"] * invocation.keep_running,
        *["--force"] * invocation.force_start,
    ]
    tenant = [sys.executable, "-m", "pumphouse", "migrate", "tenant", plan.tenant.id, "--yes", "-f", "json"]
    return [*tenant, *flags, *(word for option in options for word in option)]


def _followed(invocation: Invocation, plan: Plan, process: subprocess.Popen[str]) -> _Result:
    """What became of a tenant whose process says so, each line of it behind the tenant's name."""
    last = ""
    with ThreadPoolExecutor(1) as reader:
        told = reader.submit(_pipe(process.stdout).read)
        for line in _pipe(process.stderr):
            last = line.strip() or last
            invocation.messages.print(f"{plan.tenant_name}: {line.rstrip()}", soft_wrap=True)
    code = process.wait()
    data = json.loads(told.result() or "null")
    return _Result(plan, code if code in _WORSE else EXIT_FAILED, problem=last, told=data)


def _count(lines: Iterable[str], plan: Plan, progress: TenantsProgress, log: TextIO | None) -> None:
    """Show, and write to the file of `--log-json`, what the process of a tenant tells of its run."""
    from pumphouse.show.log import event_from

    for line in lines:
        if log:
            log.write(printable(line.rstrip("\n")))
            log.write("\n")
            log.flush()
        with suppress(KeyError, TypeError, ValueError):
            progress.tell(plan, event_from(json.loads(line)))


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _migrate_one(invocation: Invocation, shown: Plan, selection: Selection) -> _Result:
    """Migrate one tenant; an error is its result, so that the other tenants are still migrated.

    shown: the plan that the operator has agreed to.
    """
    from pumphouse.run.execute import execute_run

    out = invocation.messages
    out.print()
    out.print(f"Tenant {shown.tenant_name} ({shown.tenant.id})", style="bold")
    ended = None
    try:
        with locked_tenant(invocation, shown.tenant.id) as (store, before):
            plan = _plan_again(invocation, shown, selection, before)
            if not has_work(store, plan):
                return _Result(plan, (ended := nothing_done(plan)).code, ended)
            run = record_run(invocation, store, plan)
            work = partial(execute_run, run, migration_of(invocation, plan), until=invocation.until)
            ended = work_on(invocation, run, work, "resume")
    except Exception as error:
        problem = str(explain(error))
        for line in problem.split("\n"):
            out.print(f"error: {line}", style="red")
        return _Result(shown, failure_code(error), problem=problem)
    except KeyboardInterrupt:
        if ended is None:
            raise
        ended = replace(ended, code=EXIT_INTERRUPTED)
    return _Result(plan, ended.code, ended)


def _plan_again(
    invocation: Invocation, shown: Plan, selection: Selection, before: Mapping[Ref, Before]
) -> Plan:
    """The plan as it is now, with a note for each difference: hours may have passed since it was shown."""
    from pumphouse.plan.staleness import changes

    plan = plan_after_runs(before, invocation, shown.tenant.id, selection=selection)
    for change in changes(shown, plan):
        invocation.messages.print(f"note: since it was shown: {change}", style="yellow")
    return plan


def _data(result: _Result) -> dict[str, Any]:
    from pumphouse.run.summary import no_run

    if result.told:
        return {"exit_code": result.code, **result.told}
    if result.ended:
        return {"exit_code": result.code, **result.ended.data}
    return {"exit_code": result.code, **no_run(result.plan), "error": result.problem}


def _print_summary(results: Sequence[_Result], out: PrintableConsole) -> None:
    out.print()
    out.print(f"{len(results)} tenants:", style="bold")
    for result in results:
        style = "green" if result.code == EXIT_DONE else "red"
        out.print(f"  tenant {result.plan.tenant_name}: {_sentence(result)}", style=style)


def _sentence(result: _Result) -> str:
    from pumphouse.show.ending import completeness

    if result.ended is None:
        return (f"run {result.told['run']}: " if result.told else "") + "; ".join(result.problem.split("\n"))
    report = result.ended.report
    counts = ", ".join(f"{number} {state.value}" for state, number in report.count().items())
    if result.ended.run is None:
        return f"nothing to do: {counts}; {completeness(report)}"
    if result.code == EXIT_INTERRUPTED:
        return f"run {report.run}: {counts}; interrupted, go on with pumphouse resume {report.run}"
    return f"run {report.run}: {counts}; {completeness(report)}"

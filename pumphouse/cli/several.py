"""Several tenants with one command: planned first, then run one after the other, each a run of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from pumphouse.cli.invocation import Invocation
    from pumphouse.model import Plan, Ref, Selection
    from pumphouse.show.console import PrintableConsole
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


@dataclass(frozen=True)
class _Result:
    """What became of one of the tenants: how its run has ended, or why there is none."""

    plan: Plan
    code: int
    ended: Ended | None = None
    problem: str = ""


def migrate_several(invocation: Invocation, ids: Sequence[str], selection: Selection) -> int:
    """Plan all, show all, ask once, run each; returns the worst exit code.

    A tenant that fails does not stop the others. Ctrl-C does, once the tasks under way are finished.
    """
    from pumphouse.show.ending import question
    from pumphouse.show.plan import Detail, print_plan

    out = invocation.console
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
    if asked and not invocation.confirm(question(asked)):
        return EXIT_DECLINED
    results = _migrate_all(invocation, plans, selection)
    if not invocation.is_table:
        invocation.print_data(list(map(_data, results)))
    _print_summary(results, out)
    return max((result.code for result in results), key=_WORSE.index)


def _migrate_all(invocation: Invocation, plans: Sequence[Plan], selection: Selection) -> list[_Result]:
    """Migrate one tenant after the other until Ctrl-C; those whose turn has not come have a result, too."""
    results: list[_Result] = []
    # While a run works the signal is handled there; this is for the times in between.
    with suppress(KeyboardInterrupt):
        for plan in plans:
            if results and results[-1].code == EXIT_INTERRUPTED:
                break
            results.append(_migrate_one(invocation, plan, selection))
            if (ended := results[-1].ended) is not None:
                print_end(invocation, ended)
    return [*results, *map(_not_started, plans[len(results) :])]


def _not_started(plan: Plan) -> _Result:
    return _Result(plan, EXIT_INTERRUPTED, problem="not started, because of the interruption")


def _migrate_one(invocation: Invocation, shown: Plan, selection: Selection) -> _Result:
    """Migrate one tenant; an error is its result, so that the other tenants are still migrated.

    shown: the plan that the operator has agreed to.
    """
    from pumphouse.run.execute import execute_run

    out = invocation.console
    out.print()
    out.print(f"Tenant {shown.tenant_name} ({shown.tenant.id})", style="bold")
    ended = None
    try:
        with locked_tenant(invocation, shown.tenant.id) as (store, before):
            plan = _plan_again(invocation, shown, selection, before)
            if not has_work(store, plan):
                return _Result(plan, (ended := nothing_done(plan)).code, ended)
            run = record_run(invocation, store, plan)
            work = partial(execute_run, run, migration_of(invocation, plan))
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
        invocation.console.print(f"note: since it was shown: {change}", style="yellow")
    return plan


def _data(result: _Result) -> dict[str, Any]:
    from pumphouse.run.summary import no_run

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
        return "; ".join(result.problem.split("\n"))
    report = result.ended.report
    counts = ", ".join(f"{number} {state.value}" for state, number in report.count().items())
    if result.ended.run is None:
        return f"nothing to do: {counts}; {completeness(report)}"
    if result.code == EXIT_INTERRUPTED:
        return f"run {report.run}: {counts}; interrupted, go on with pumphouse resume {report.run}"
    return f"run {report.run}: {counts}; {completeness(report)}"

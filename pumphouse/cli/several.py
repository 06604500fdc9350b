"""Several tenants with one command: planned first, then run one after the other, each a run of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pumphouse.cli.options import migration
from pumphouse.cli.planning import Way, make, plan_tenant
from pumphouse.cli.running import failure_code, performed, recorded, turn
from pumphouse.errors import EXIT_DONE, EXIT_INTERRUPTED, explain

if TYPE_CHECKING:
    from rich.console import Console

    from pumphouse.model import Plan, Report, Selection

# Exit codes, each worse than those before it: of several tenants the worst one is given.
_WORSE = (EXIT_DONE, 3, 7, 5, 2, 4, 1, EXIT_INTERRUPTED)


@dataclass(frozen=True)
class _End:
    """What became of one of the tenants: the report of its run, or why there is none."""

    plan: Plan
    code: int
    report: Report | None = None
    problem: str = ""


def migrate_several(way: Way, ids: Sequence[str], selection: Selection, yes: bool, output_format: str) -> int:
    """Plan all, show all, ask once, run each; returns the worst exit code.

    A tenant that fails does not stop the others; Ctrl-C does, once what runs is suspended.
    """
    from pumphouse.show.report import console, dump, print_plan

    is_table = output_format == "table"
    out = console(stderr=not is_table)
    plans = []
    for tenant_id in ids:
        plans.append(plan_tenant(way, tenant_id, selection))
        print_plan(plans[-1], out)
        out.print()
    question = f"Start with {len(plans)} tenants, one after the other?"
    if not plans or not (yes or click.confirm(question, err=not is_table)):
        return EXIT_DONE
    ends: list[_End] = []
    for plan in plans:
        is_stopped = bool(ends) and ends[-1].code == EXIT_INTERRUPTED
        ends.append(_not_started(plan) if is_stopped else _one(way, plan, selection, out, is_table))
    if not is_table:
        click.echo(dump(list(map(_data, ends)), output_format))
    _summarise(ends, out)
    return max((end.code for end in ends), key=_WORSE.index)


def _not_started(plan: Plan) -> _End:
    return _End(plan, EXIT_INTERRUPTED, problem="not started, because of the interruption")


def _one(way: Way, shown: Plan, selection: Selection, out: Console, is_table: bool) -> _End:
    """The turn of one tenant, whatever happens; planned anew, because hours may have passed."""
    from pumphouse.run.execute import execute_run
    from pumphouse.show.report import print_report

    out.print(f"\nTenant {shown.tenant_name} ({shown.tenant.id})", style="bold", markup=False)
    try:
        with turn(way, shown.tenant.id, out) as (store, before):
            plan = _anew(way, shown, selection, before, out)
            tasks = migration(plan, way.source, way.destination)
            run = recorded(way, store, plan, out)
            report, code = performed(
                run,
                lambda listener, stop: execute_run(run, tasks, listener, stop),
                out,
                f"pumphouse resume {run.id}",
            )
    except Exception as error:  # it must not keep the other tenants from their turns
        problem = str(explain(error))
        out.print(f"error: {problem}", style="red", markup=False)
        return _End(shown, failure_code(error), problem=problem)
    if is_table:
        print_report(report, out)
    return _End(plan, code, report)


def _anew(way: Way, shown: Plan, selection: Selection, before: Any, out: Console) -> Plan:
    """The plan as it is now; what it has become since it was shown is said."""
    from pumphouse.plan.staleness import changes

    plan = make(way, shown.tenant.id, before, selection=selection)
    for change in changes(shown, plan):
        out.print(f"note: since it was shown: {change}", style="yellow", markup=False)
    return plan


def _data(end: _End) -> dict[str, Any]:
    from pumphouse.run.summary import report_data

    if end.report:
        return {"run": end.report.run, "exit_code": end.code, **report_data(end.report)}
    about = {"tenant": {"id": end.plan.tenant.id, "name": end.plan.tenant_name}}
    return {"run": None, "exit_code": end.code, **about, "error": end.problem}


def _summarise(ends: Sequence[_End], out: Console) -> None:
    out.print(f"\n{len(ends)} tenants:", style="bold", markup=False)
    for end in ends:
        what = end.problem
        if end.report:
            counts = ", ".join(f"{number} {state.value}" for state, number in end.report.count().items())
            goes_on = f"; interrupted, go on with pumphouse resume {end.report.run}"
            what = f"run {end.report.run}: {counts}{goes_on if end.code == EXIT_INTERRUPTED else ''}"
        style = "green" if end.code == EXIT_DONE else "red"
        out.print(f"  tenant {end.plan.tenant_name}: {what}", style=style, markup=False)

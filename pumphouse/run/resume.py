"""The checks before a run is resumed or reverted: whether it may be, and which tasks this release would not have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from taskflow import states
from taskflow.persistence.models import FlowDetail

from pumphouse.errors import UsageError
from pumphouse.model import LimitSettings, Outcome, Report, State, Unit
from pumphouse.run.engine import flow_from_detail
from pumphouse.run.outcomes import REVERT_STATES, build_report
from pumphouse.run.record import FINALIZE_STATES, Run, has_begun, has_loans, run_id, tenant_books
from pumphouse.tasks.base import Migration


def refuse_reverted(run: Run) -> None:
    """Raise UsageError when the run was reverted, or a revert of it was begun."""
    if run.book.meta["state"] in REVERT_STATES:
        raise UsageError(
            f"run {run.id} was reverted, or is half reverted",
            f"undo the rest with: pumphouse revert {run.id}; to move the tenant again, migrate anew",
        )


def refuse_superseded(run: Run) -> None:
    """Raise UsageError when a newer run of the same tenant has done something and was not reverted.

    Both may have made the same resources.
    """
    books = tenant_books(run.store, run.plan.tenant.id, run.plan.source, run.plan.destination)
    newer = books[[book.uuid for book in books].index(run.book.uuid) + 1 :]
    for book in newer:
        if book.meta["state"] != states.REVERTED and has_begun(run.store, book):
            newest = run_id(book)
            raise UsageError(
                f"run {newest} of this tenant is newer than run {run.id}",
                f"go on with that, or undo it first: pumphouse revert {newest}",
            )


def refuse_finalized(run: Run) -> None:
    """Raise UsageError when a run, or a newer one of the tenant, was finalized or begun to be."""
    books = tenant_books(run.store, run.plan.tenant.id, run.plan.source, run.plan.destination)
    since = books[[book.uuid for book in books].index(run.book.uuid) :]
    for book in since:
        if book.meta["state"] in FINALIZE_STATES:
            raise UsageError(
                f"run {run_id(book)} of this tenant was finalized, or is half finalized: what it made carries no mark by "
                "which it is told from what others made",
                f"go on with: pumphouse finalize {run_id(book)}; what is not wanted has to be deleted by hand",
            )


def report_so_far(run: Run) -> Report:
    """What became of every resource of a run until now."""
    return build_report(run.id, run.book.meta["state"], run.plan, run.all_details())


def left_to_do(report: Report) -> list[Outcome]:
    """What a resume would make: what failed, what waits for that, and what was not done yet."""
    return [o for o in report.outcomes if o.state in (State.FAILED, State.BLOCKED, State.PENDING)]


def is_closed(run: Run) -> bool:
    """Whether a run has been ended by the process that did the last of it, with all given back that it borrowed."""
    return run.is_done and not has_loans(run.book)


def with_limits(run: Run, limits: LimitSettings) -> Run:
    """The run with other limits than those that it was planned with."""
    return replace(run, plan=replace(run.plan, cfg={**run.plan.cfg, "limits": limits}))


def differences(run: Run, migration: Migration) -> list[str]:
    """Compare the tasks of this release with the recorded ones by name; returns a sentence for each difference.

    Raises NotFoundError when this release cannot build the flows of the run at all.
    """
    details = run.all_details()
    return [line for unit in run.plan.units for line in _differences(unit, details[unit.name], migration)]


def _differences(unit: Unit, detail: FlowDetail, migration: Migration) -> Iterator[str]:
    flow = flow_from_detail(migration, unit, detail)
    if detail.state in (None, states.SUCCESS):
        return
    recorded = {atom.name: atom.state for atom in detail}
    known = {item.name for item, _ in flow.iter_nodes()}
    for name in sorted(known - recorded.keys()):
        yield f"task {name} is new in this release: it is executed"
    for name in sorted(recorded.keys() - known):
        if recorded[name] == states.SUCCESS:
            yield f"task {name} is done, and this release does not have it any more: it is left as it is"
        else:
            yield f"task {name} was still to be done, and this release does not have it any more: it is left out"

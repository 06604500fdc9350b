"""What is asked before a run, and what is said at its end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from pumphouse.model import Action, Plan, Report, State
from pumphouse.plan.data import summary
from pumphouse.plan.overview import estimate, stopped
from pumphouse.run.outcomes import is_partial, left_behind
from pumphouse.words import counted, lasting, size


def question(plans: Sequence[Plan]) -> str:
    """What an operator is asked before plans of the same two clouds are run, with what matters of them."""
    first, tenants = plans[0], ", ".join(plan.tenant_name for plan in plans)
    counts = [summary(plan) for plan in plans]
    made = sum(count[Action.CREATE.value] for count in counts)
    servers = sum(len(stopped(plan)) for plan in plans)
    duration_s = sum(estimate(plan).duration_s for plan in plans)
    whom = f"tenant {tenants}" if len(plans) == 1 else f"{len(plans)} tenants one after the other ({tenants})"
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
    what = "all that was selected of" if is_partial(report.plan) else "everything that"
    return f"{what} tenant {name} {'owns ' * (not is_partial(report.plan))}is at the destination"


def stopped_servers(report: Report) -> int:
    """How many servers of the source are stopped because they were moved."""
    moved = {outcome.ref for outcome in report.outcomes if outcome.state is State.CREATED}
    return sum(step.ref in moved for step in stopped(report.plan))


def duration(seconds: float) -> str:
    """A duration in whole seconds, e.g. `1:02:03`."""
    return str(timedelta(seconds=round(seconds)))

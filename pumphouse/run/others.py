"""What the runs of other tenants use of what a run has made, and how two that go on at once agree about it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from taskflow import states
from taskflow.persistence.models import LogBook

from pumphouse.cloud.outage import Outages
from pumphouse.model import Step, place
from pumphouse.run.lock import wait_locked
from pumphouse.run.record import ACTIVE_STATES, Run, list_books, run_id, tenant_books, used
from pumphouse.tasks import KINDS


def is_common(step: Step) -> bool:
    """Whether the runs of several tenants may need the resource of a step."""
    common = KINDS[step.ref.kind].common
    return common is not None and common(step.record)


def used_by_others(run: Run) -> Mapping[tuple[str, str], str]:
    """Which runs of other tenants, and into other regions, use what at a run's destination: by kind and id there."""
    plan = run.plan
    own = {book.uuid for book in tenant_books(run.store, plan.tenant.id, plan.source, plan.destination)}
    keystone = place(plan.destination).keystone
    found: dict[tuple[str, str], str] = {}
    for book in list_books(run.store):
        if book.uuid in own or book.meta["state"] == states.REVERTED:
            continue
        if place(book.meta["destination"]).keystone == keystone:
            title = f"run {run_id(book)} of tenant {book.meta['tenant']['name']}"
            found |= dict.fromkeys(_used(run, book), title)
    return found


def _used(run: Run, book: LogBook) -> set[tuple[str, str]]:
    """What another run uses; it is read once of one that nobody works on, for many undos ask."""
    if book.meta["state"] in ACTIVE_STATES:
        return used(run.store, book)
    key = (book.uuid, book.meta["state"], book.meta.get("ended_at"))
    if key not in run.used_at_rest:
        run.used_at_rest[key] = used(run.store, book)
    return run.used_at_rest[key]


@dataclass(frozen=True)
class Sharing:
    """How a task takes or removes what the runs of other tenants may take, too.

    Whoever takes it notes that under the lock and looks for it again afterwards; whoever removes it asks and removes
    under the lock. So it is either seen to be used, or seen to be gone.
    """

    run: Run
    kind: str
    outages: Outages

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock of all that is shared at the destination; it is never held for long, and waited for."""
        name = f"shared {place(self.run.plan.destination).keystone}"
        return wait_locked(self.run.store, name, self.outages.pause)

    def user_of(self, destination_id: str) -> str:
        """The run of another tenant that uses a resource; empty when none does."""
        return used_by_others(self.run).get((self.kind, destination_id), "")

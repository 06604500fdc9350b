"""A kind that lives in memory, and runs of plans made of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from taskflow import task

from pumphouse import tasks
from pumphouse.cloud.outage import Outages
from pumphouse.errors import PumphouseError
from pumphouse.model import Action, Outcome, Plan, Record, Ref, Report, State, Step, symbol
from pumphouse.plan.units import units
from pumphouse.run.events import Event, OutcomeReported, Stopping, TaskBegan
from pumphouse.run.execute import execute_run
from pumphouse.run.record import Run
from pumphouse.tasks.base import BaseCloudTask, Migration
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.glance.transfer import TransferLimits
from pumphouse.tasks.kind import Kind


class World:
    """A destination in memory: what exists, what was done in which order, what shall fail."""

    def __init__(self) -> None:
        self.things: set[str] = set()
        self.log: list[str] = []
        self.tries: list[str] = []
        self.failing: set[str] = set()
        self.stuck: set[str] = set()
        self.on_make = self.on_undo = lambda name: None
        self.tenants_in_use = 0
        self.loans = SimpleNamespace(on_change=None)
        self.outages = Outages("destination")

    def has(self, service_type: str) -> bool:
        return True

    @contextmanager
    def in_tenant(self, tenant_id: str) -> Iterator[World]:
        self.tenants_in_use += 1
        self.log.append(f"enter {tenant_id}")
        yield self
        self.tenants_in_use -= 1


class Make(BaseCloudTask):
    def execute(self, name: str, **_: Any) -> dict[str, Any]:
        self.cloud.on_make(name)
        self.cloud.tries.append(name)
        if name in self.cloud.failing:
            raise PumphouseError(f"{name} does not work", "mend it")
        self.cloud.things.add(name)
        self.cloud.log.append(name)
        return {"id": f"new-{name}", "made": True, "notes": [f"{name} is new"]}

    def revert(self, name: str, **_: Any) -> dict[str, str]:
        self.cloud.on_undo(name)
        if name in self.cloud.stuck:
            return {"kept": f"{name} is stuck"}
        self.cloud.things.discard(name)
        self.cloud.log.append(f"undo {name}")
        return {}


def thing_tasks(migration: Migration, step: Step) -> list[task.Task]:
    needs = [symbol(need, "ensured") for need in step.record.needs]
    return [
        Make(
            migration.destination,
            provides=symbol(step.ref, "ensured"),
            inject={"name": step.ref.id},
            requires=needs,
            line=f"make {step.ref.id}",
        )
    ]


class RecordingListener:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def lines(self) -> list[str]:
        """What the tasks were to do, in the order in which they began; and how many were waited for."""
        return [_line(event) for event in self.events if isinstance(event, TaskBegan | Stopping)]

    @property
    def outcomes(self) -> list[Outcome]:
        return [event.outcome for event in self.events if isinstance(event, OutcomeReported)]


def _line(event: TaskBegan | Stopping) -> str:
    return event.line if isinstance(event, TaskBegan) else f"stopping: {event.tasks}"


def step(kind: str, name: str, *needs: Ref, part_of: Ref | None = None, **kwargs: Any) -> Step:
    record = Record(Ref(kind, name), name, {}, needs, part_of)
    return Step(record, kwargs.pop("action", Action.CREATE), "why", name, **kwargs)


TENANT = step("tenant", "t")
LIMITS = {"workers": 4, "transfers": 2, "bytes_per_second": None}


def made_kind(name: str, tasks: Callable[[Migration, Step], list[task.Task]], **fields: Any) -> Kind:
    """A kind of which no cloud has anything, with tasks of a test's own."""
    return Kind(
        name,
        "identity",
        discover=lambda cloud, tenant_id: [],
        fetch=lambda cloud, ids: {},
        find=lambda search, records: {},
        tasks=tasks,
        fields=Fields(),
        **fields,
    )


KINDS = {
    name: made_kind(name, thing_tasks, acts_in_tenant=name == "server")
    for name in ("tenant", "thing", "server")
}


def change_kind(name: str, **changes: Any) -> None:
    """Change a kind for as long as the world of the test lasts."""
    tasks.KINDS[name] = replace(tasks.KINDS[name], **changes)


def planned(*steps: Step, on_failure: str = "revert", fail_fast: bool = False) -> Plan:
    """A plan of these steps."""
    settings = {"mappings": {}, "policies": {}}
    cfg = {"on_failure": on_failure, "fail_fast": fail_fast, "limits": LIMITS}
    made = units({item.ref: item for item in steps})
    return Plan(Ref("tenant", "t"), "t", "a", "b", made, settings, cfg=cfg)


def migration(world: World) -> Migration:
    return Migration(world, world, {"mappings": {}, "policies": {}}, TransferLimits(1))


def execute(
    recorded: Run, world: World, stop: threading.Event | None = None
) -> tuple[Report, RecordingListener]:
    """Execute what is left of a recorded run."""
    listener = RecordingListener()
    return execute_run(recorded, migration(world), listener, stop or threading.Event()), listener


def states(report: Report) -> dict[str, State]:
    return {outcome.ref.id: outcome.state for outcome in report.outcomes}


def reason(report: Report, name: str) -> str:
    return next(outcome.reason for outcome in report.outcomes if outcome.ref.id == name)

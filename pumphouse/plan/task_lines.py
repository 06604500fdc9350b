"""The tasks of a plan: computed once when it is made, so that it can be printed without TaskFlow and clouds."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from pumphouse.flows import flow_of_tasks, ordered_tasks, unit_tasks
from pumphouse.model import Plan, PlannedTask, Ref, Unit
from pumphouse.tasks.base import Migration
from pumphouse.tasks.glance.transfer import TransferLimits

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud


def with_tasks(plan: Plan) -> Plan:
    """The plan with the tasks of every step, each with its place in an order in which they may be executed."""
    # The tasks are made to be looked at and are never executed, so they need no clouds.
    no_cloud = cast("Cloud", None)
    migration = Migration(no_cloud, no_cloud, plan.settings, TransferLimits(1))
    numbers = itertools.count(1)
    return replace(plan, units=tuple(_with_unit_tasks(unit, migration, numbers) for unit in plan.units))


def _with_unit_tasks(unit: Unit, migration: Migration, numbers: Iterator[int]) -> Unit:
    made = list(unit_tasks(migration, unit))
    owners = {item.name: step.ref for step, item in made}
    planned: dict[Ref, list[PlannedTask]] = defaultdict(list)
    for item in ordered_tasks(flow_of_tasks(unit.name, [item for _, item in made])):
        planned[owners[item.name]].append(PlannedTask(item.name, item.line, next(numbers)))
    return replace(unit, steps=tuple(replace(step, tasks=tuple(planned[step.ref])) for step in unit.steps))

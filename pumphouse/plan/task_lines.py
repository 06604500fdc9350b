"""The tasks of a plan: computed once when it is made, so that it can be printed without TaskFlow and clouds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from pumphouse.flows import flow_of_tasks, ordered_tasks, unit_tasks
from pumphouse.model import Plan, PlannedTask, Ref, Unit
from pumphouse.tasks.base import Migration
from pumphouse.tasks.glance.transfer import TransferLimits

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud


def with_tasks(plan: Plan) -> Plan:
    """The plan with the tasks of every step, in the order in which they will be executed."""
    # The tasks are made to be looked at and are never executed, so they need no clouds.
    no_cloud = cast("Cloud", None)
    migration = Migration(no_cloud, no_cloud, plan.settings, TransferLimits(1))
    return replace(plan, units=tuple(_with_unit_tasks(unit, migration) for unit in plan.units))


def _with_unit_tasks(unit: Unit, migration: Migration) -> Unit:
    made = list(unit_tasks(migration, unit))
    owners = {item.name: step.ref for step, item in made}
    planned: dict[Ref, list[PlannedTask]] = defaultdict(list)
    for item in ordered_tasks(flow_of_tasks(unit.name, [item for _, item in made])):
        planned[owners[item.name]].append(PlannedTask(item.name, item.line))
    return replace(unit, steps=tuple(replace(step, tasks=tuple(planned[step.ref])) for step in unit.steps))

"""The flow of one unit: pure, so that the same plan gives the same tasks in any process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import networkx
from taskflow import task
from taskflow.patterns import graph_flow, linear_flow

from pumphouse.model import Action, Step, Unit
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import Migration
from pumphouse.tasks.ending import RemoveSource, UnmarkTwin

# The factories of what finalizes a unit. They are part of the format of state stores.
REMOVAL_FACTORY, UNMARK_FACTORY = "pumphouse.flows.removal_flow", "pumphouse.flows.unmark_flow"


def unit_tasks(migration: Migration, unit: Unit) -> Iterator[tuple[Step, task.Task]]:
    """The tasks of a unit, each with the step it belongs to; what is reused or skipped has none."""
    for step in unit.steps:
        if step.action is Action.CREATE:
            yield from ((step, item) for item in _step_tasks(migration, step))


def _step_tasks(migration: Migration, step: Step) -> Iterator[task.Task]:
    yield from KINDS[step.ref.kind].tasks(migration, step)
    if step.ref.kind == "tenant":
        for kind in KINDS.values():
            yield from kind.tenant_tasks(migration, step)


def unit_flow(migration: Migration, unit: Unit) -> graph_flow.Flow:
    """The graph of all tasks of a unit."""
    return flow_of_tasks(unit.name, [item for _, item in unit_tasks(migration, unit)])


def removal_flow(migration: Migration, unit: Unit) -> linear_flow.Flow:
    """What deletes the resources of a unit at the source, one after the other: what needs others before these."""
    source = migration.source
    return linear_flow.Flow(unit.name).add(
        *(RemoveSource(source, KINDS[step.ref.kind], step) for step in reversed(unit.steps))
    )


def unmark_flow(migration: Migration, unit: Unit) -> linear_flow.Flow:
    """What takes the marks of the migration off what it made of a unit."""
    destination = migration.destination
    return linear_flow.Flow(unit.name).add(
        *(UnmarkTwin(destination, KINDS[step.ref.kind], step) for step in unit.steps)
    )


def flow_of_tasks(name: str, items: Sequence[task.Task]) -> graph_flow.Flow:
    """The graph of these tasks; built in one go, because TaskFlow checks the whole graph at each add."""
    flow = graph_flow.Flow(name)
    flow.add(*items)
    link(flow, items)
    return flow


def link(flow: graph_flow.Flow, items: Iterable[task.Task]) -> None:
    """Have the tasks of a flow wait for those that they name and that are in the flow."""
    items = list(items)
    by_name = {item.name: item for item in items}
    for item in items:
        for name in getattr(item, "after", ()):
            if name in by_name:
                flow.link(by_name[name], item)


def ordered_tasks(flow: graph_flow.Flow) -> list[task.Task]:
    """The tasks of a flow in an order in which they may be executed; nothing is executed.

    Of those that may be next, the one is that was added first.
    """
    # The graph as the flow has it: an engine, which would compile it to the same, takes longer to import than all else.
    graph = networkx.DiGraph()
    graph.add_nodes_from(item for item, _ in flow.iter_nodes())
    graph.add_edges_from((before, after) for before, after, _ in flow.iter_links())
    places = {item.name: place for place, item in enumerate(flow)}
    return list(networkx.lexicographical_topological_sort(graph, key=lambda item: places[item.name]))

"""Units: the steps of a plan that stand or fall together, in an order in which each comes after those it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import networkx

from pumphouse.model import Ref, Step, Unit
from pumphouse.tasks import KINDS


def units(steps: Mapping[Ref, Step]) -> tuple[Unit, ...]:
    """Group the steps: a whole with its parts, and whatever needs each other in a circle."""
    graph = networkx.DiGraph()
    graph.add_nodes_from(steps)
    for ref, step in steps.items():
        graph.add_edges_from((need, ref) for need in step.record.needs if need in steps)
        if step.record.part_of in steps:
            graph.add_edges_from([(ref, step.record.part_of), (step.record.part_of, ref)])
    groups = networkx.condensation(graph)
    order = networkx.lexicographical_topological_sort(
        groups, key=lambda n: _rank(_head(groups, n, steps), steps)
    )
    made = [_unit(groups, number, steps) for number in order]
    return tuple(_behind_all(unit, made) if _is_last(unit) else unit for unit in sorted(made, key=_is_last))


def _unit(groups: networkx.DiGraph, number: int, steps: Mapping[Ref, Step]) -> Unit:
    members = sorted(groups.nodes[number]["members"], key=lambda ref: _rank(ref, steps))
    needs = sorted(str(_head(groups, needed, steps)) for needed in groups.predecessors(number))
    return Unit(str(_head(groups, number, steps)), tuple(steps[ref] for ref in members), tuple(needs))


def _head(groups: networkx.DiGraph, number: int, steps: Mapping[Ref, Step]) -> Ref:
    """The member that a unit is named by: the whole, or the first of those that form a circle."""
    members = groups.nodes[number]["members"]
    wholes = [ref for ref in members if steps[ref].record.part_of not in members]
    head: Ref = min(wholes or members)
    return head


def _rank(ref: Ref, steps: Mapping[Ref, Step]) -> tuple[int, str, str]:
    return list(KINDS).index(ref.kind), steps[ref].name, ref.id


def _is_last(unit: Unit) -> bool:
    return any(step.record.last for step in unit.steps)


def _behind_all(unit: Unit, units: Iterable[Unit]) -> Unit:
    return replace(unit, needs=tuple(sorted(other.name for other in units if not _is_last(other))))

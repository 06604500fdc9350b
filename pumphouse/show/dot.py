"""A plan as a graph for Graphviz."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from pumphouse.model import Action, Plan, Unit
from pumphouse.show.text import printable
from pumphouse.words import size

# By what matters most to whoever looks at the graph: the first that a unit has is its colour.
_COLOURS = {
    Action.CONFLICT: "salmon",
    Action.CREATE: "palegreen",
    Action.REUSE: "lightblue",
    Action.SKIP: "khaki",
}


def plan_dot(plan: Plan) -> str:
    """The units of a plan as a Graphviz digraph: an edge goes from a unit to each that needs it."""
    numbers = {unit.name: number for number, unit in enumerate(plan.units)}
    title = f"Migrate tenant {plan.tenant_name}"
    head = ["digraph plan {", f"  label={_quoted([title])}; rankdir=LR;", "  node [shape=box, style=filled];"]
    nodes = [f"  u{numbers[unit.name]} [{_attributes(unit)}];" for unit in plan.units]
    edges = [
        f"  u{numbers[need]} -> u{numbers[unit.name]};"
        for unit in plan.units
        for need in unit.needs
        if need in numbers
    ]
    return "\n".join([*head, *nodes, *edges, "}", ""])


def _attributes(unit: Unit) -> str:
    actions = {step.action for step in unit.steps}
    colour = next((colour for action, colour in _COLOURS.items() if action in actions), "white")
    return f"label={_quoted(_label(unit))}, fillcolor={colour}"


def _label(unit: Unit) -> Iterator[str]:
    """The lines of a unit: what it is, how many steps of each action it has, how much it copies."""
    head = next((step for step in unit.steps if str(step.ref) == unit.name), None)
    yield head.record.title if head else unit.name
    counts = Counter(step.action for step in unit.steps)
    yield ", ".join(f"{counts[action]} {action.value}" for action in Action if counts[action])
    if unit.size_bytes:
        yield f"at most {size(unit.size_bytes)}"


def _quoted(lines: Iterator[str] | list[str]) -> str:
    """A label: Graphviz knows escapes after a backslash, and entities as in HTML."""
    safe = [re.sub(r'([\\"])', r"\\\1", printable(line).replace("&", "&amp;")) for line in lines]
    return '"' + "\\n".join(safe) + '"'

"""A plan as plain data, and back, without loss.

By hand and not by cattrs: in the file an address is text, what has its default is left out, and notes that a step
shares with its record stand once, so that each class would have a hook of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, cast

from pumphouse.model import (
    LEFT_OUT,
    Action,
    CopyFormat,
    Json,
    Plan,
    PlannedTask,
    Record,
    Ref,
    Selection,
    Settings,
    Step,
    Unit,
)

# The format for programs and state stores: everything of a resource in one place, with its tasks.
FORMAT = 1
# The format for people: a line for each decision, and behind them the records that they were made of and the tasks
# that follow from them. The one before had no tasks.
EDITABLE = 3
EDITABLES = (2, EDITABLE)
_KEY_DIGITS = 12


def plan_data(plan: Plan) -> Json:
    """A plan as plain JSON; what has its default is left out."""
    # All that was planned, so that plan_from can tell what a person has deleted from the units of a file.
    resources = [*(step.ref for step in plan.steps()), *plan.left_out]
    return {
        "format": FORMAT,
        "label": f"Migrate tenant {plan.tenant_name}",
        "key": plan_key(plan.tenant.id, plan.source, plan.destination),
        "cfg": plan.cfg,
        "data": {
            "tenant": {"id": plan.tenant.id, "name": plan.tenant_name},
            "source": plan.source,
            "destination": plan.destination,
            **plan.settings,
            "settings_digest": digest(plan.settings),
            **_without_defaults(selection=_selection_data(plan.selection)),
            "resources": _texts(resources),
        },
        "units": [unit_data(unit) for unit in plan.units],
        "notes": list(plan.notes),
        **_without_defaults(uncarried=list(plan.uncarried), obstacles=list(map(asdict, plan.obstacles))),
        "summary": summary(plan),
    }


def editable_data(plan: Plan) -> Json:
    """A plan as plain JSON for people to edit; its tasks hold for as long as nobody has edited it."""
    data = plan_data(plan)
    about = {name: value for name, value in data["data"].items() if name != "resources"}
    made: Json = {
        "format": EDITABLE,
        **{name: data[name] for name in ("label", "key")},
        "data": {**about, **_without_defaults(left_out=_texts(plan.left_out))},
        "cfg": plan.cfg,
        "notes": data["notes"],
        **_without_defaults(uncarried=list(plan.uncarried)),
        "resources": [_decision_data(step) for step in plan.steps()],
        "records": [
            {"kind": step.ref.kind, "id": step.ref.id, **_record_data(step.record, ())}
            for step in plan.steps()
        ],
        "tasks": [_unit_tasks(unit) for unit in plan.units],
    }
    made["data"]["file_digest"] = digest(made)
    return made


def as_written(data: Any) -> Plan | None:
    """The plan that editable_data made the data from; None of what anybody has edited since, or has another format."""
    about = data.get("data") if isinstance(data, dict) and data.get("format") == EDITABLE else None
    if not isinstance(about, dict):
        return None
    rest = {name: value for name, value in about.items() if name != "file_digest"}
    if digest({**data, "data": rest}) != about.get("file_digest"):
        return None
    decided = as_format_1({**data, "data": rest})
    steps = {f"{step['kind']}/{step['id']}": step for unit in decided["units"] for step in unit["steps"]}
    units = [
        {**unit, "steps": [{**steps[step["resource"]], "tasks": step["tasks"]} for step in unit["steps"]]}
        for unit in data["tasks"]
    ]
    return plan_from({**decided, "units": units})


def _unit_tasks(unit: Unit) -> Json:
    """A line of the format for people: the tasks of a unit, by its resources."""
    steps = [{"resource": str(step.ref), "tasks": list(map(_task_data, step.tasks))} for step in unit.steps]
    return {"name": unit.name, **_without_defaults(needs=list(unit.needs)), "steps": steps}


def as_format_1(data: Json) -> Json:
    """What a person edited in the format for programs: one unit; what has lost its decision is left out."""
    decisions = {(line["kind"], line["id"]): line for line in data["resources"]}
    steps = []
    for found in data["records"]:
        key = found["kind"], found["id"]
        record = {"notes": [], **{name: found[name] for name in found if name not in ("kind", "id")}}
        gone = {"name": record["name"], "action": Action.SKIP.value, "reason": LEFT_OUT}
        decision = decisions.get(key, gone)
        steps.append({"kind": key[0], "id": key[1], "notes": record["notes"], **decision, "record": record})
    about = {name: data["data"][name] for name in data["data"] if name not in ("left_out", "file_digest")}
    about["resources"] = [f"{s['kind']}/{s['id']}" for s in steps] + data["data"].get("left_out", [])
    rest: Json = {name: data[name] for name in ("label", "key", "cfg", "notes", "uncarried") if name in data}
    return {**rest, "format": FORMAT, "data": about, "units": [{"name": "all", "steps": steps}]}


def _decision_data(step: Step) -> Json:
    """A line of the format for people; its notes only where the record has others."""
    return {
        "action": step.action.value,
        "kind": step.ref.kind,
        "name": step.name,
        "reason": step.reason,
        **_without_defaults(because=step.because, destination_id=step.destination_id),
        "id": step.ref.id,
        **({"notes": list(step.notes)} if step.notes != step.record.notes else {}),
    }


def format_problem(data: Json, *known: int) -> str:
    """Say that a plan is of a format that this release does not read; empty when it reads it.

    known: the formats that are read besides that for programs.
    """
    given = data.get("format", FORMAT)
    read = (FORMAT, *known)
    return "" if given in read else f"format is {given}; this pumphouse reads {' and '.join(map(str, read))}"


def plan_from(data: Json) -> Plan:
    """The plan that plan_data made the data from; what is not in a unit any more was left out."""
    about, units = data["data"], tuple(unit_from(unit) for unit in data["units"])
    planned = {step.ref for unit in units for step in unit.steps}
    resources = dict.fromkeys(map(ref_from, about["resources"]))
    return Plan(
        tenant=Ref("tenant", about["tenant"]["id"]),
        tenant_name=about["tenant"]["name"],
        source=about["source"],
        destination=about["destination"],
        units=units,
        settings=cast("Settings", settings_in(data)),
        notes=tuple(data.get("notes", ())),
        uncarried=tuple(data.get("uncarried", ())),
        cfg=data["cfg"],
        left_out=tuple(ref for ref in resources if ref not in planned),
        selection=_selection_from(about.get("selection", {})),
    )


def _selection_data(selection: Selection) -> Json:
    """A selection whose names have been resolved."""
    return _without_defaults(
        only=list(selection.only), skip=list(selection.skip), resources=_texts(selection.refs)
    )


def _selection_from(data: Json) -> Selection:
    only, skip, refs = (tuple(data.get(name, ())) for name in ("only", "skip", "resources"))
    return Selection(only, skip, refs=tuple(map(ref_from, refs)))


def settings_in(data: Json) -> Json:
    """The mappings and policies in the data of a plan."""
    return {name: data["data"][name] for name in ("mappings", "policies") if name in data["data"]}


def unit_data(unit: Unit) -> Json:
    """A unit as plain JSON."""
    needs = {"needs": list(unit.needs)} if unit.needs else {}
    return {"name": unit.name, **needs, "steps": [_step_data(step) for step in unit.steps]}


def unit_from(data: Json) -> Unit:
    """The unit that unit_data made the data from."""
    return Unit(data["name"], tuple(map(_step_from, data["steps"])), tuple(data.get("needs", ())))


def ref_from(text: str) -> Ref:
    """The address that is written `kind/id`; an id may have slashes."""
    kind, _, resource_id = text.partition("/")
    return Ref(kind, resource_id)


def plan_key(tenant_id: str, source: str, destination: str) -> str:
    """A short hash of a tenant and a pair of clouds, the same for all plans of them."""
    return digest([tenant_id, source, destination])


def digest(data: object) -> str:
    """A short hash of plain JSON, whatever the order of its names."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:_KEY_DIGITS]


def summary(plan: Plan) -> Json:
    """How many resources there are of each decision, how many tasks, and the bytes to copy, at most."""
    actions = Counter(step.action for step in plan.steps())
    tasks = sum(len(step.tasks) for step in plan.steps())
    size_bytes = sum(unit.size_bytes for unit in plan.units)
    return {**{action.value: actions[action] for action in Action}, "tasks": tasks, "size_bytes": size_bytes}


def _step_data(step: Step) -> Json:
    return {
        "kind": step.ref.kind,
        "id": step.ref.id,
        "name": step.name,
        "action": step.action.value,
        "reason": step.reason,
        **_without_defaults(because=step.because, destination_id=step.destination_id, notes=list(step.notes)),
        "record": _record_data(step.record, step.notes),
        **_without_defaults(tasks=list(map(_task_data, step.tasks))),
    }


def _task_data(task: PlannedTask) -> Json:
    return {"name": task.name, "line": task.line, **_without_defaults(number=task.number)}


def _step_from(data: Json) -> Step:
    notes = tuple(data.get("notes", ()))
    return Step(
        record=_record_from(Ref(data["kind"], data["id"]), data["record"], notes),
        action=Action(data["action"]),
        reason=data["reason"],
        name=data["name"],
        destination_id=data.get("destination_id"),
        notes=notes,
        because=data.get("because", ""),
        tasks=tuple(PlannedTask(**task) for task in data.get("tasks", ())),
    )


def _record_data(record: Record, step_notes: tuple[str, ...]) -> Json:
    """A record; its notes only where the step has others."""
    optional = _without_defaults(
        data=record.data,
        needs=_texts(record.needs),
        part_of=str(record.part_of) if record.part_of else None,
        size_bytes=record.size_bytes,
        skip=record.skip,
        settled=record.settled,
        must_exist=record.must_exist,
        last=record.last,
        copied_as=asdict(record.copied_as) if record.copied_as else None,
    )
    notes = {"notes": list(record.notes)} if record.notes != step_notes else {}
    return {"name": record.name, **optional, **notes}


def _record_from(ref: Ref, data: Json, step_notes: tuple[str, ...]) -> Record:
    simple = ("data", "size_bytes", "skip", "settled", "must_exist", "last")
    return Record(
        ref,
        data["name"],
        needs=tuple(map(ref_from, data.get("needs", ()))),
        part_of=ref_from(data["part_of"]) if data.get("part_of") else None,
        copied_as=CopyFormat(**data["copied_as"]) if data.get("copied_as") else None,
        notes=tuple(data.get("notes", step_notes)),
        **{name: data[name] for name in simple if name in data},
    )


def _without_defaults(**values: Any) -> Json:
    """The values that are not empty; empty is the default of each of them."""
    return {name: value for name, value in values.items() if value not in (None, "", 0, [], {})}


def _texts(refs: Iterable[Ref]) -> list[str]:
    return list(map(str, refs))

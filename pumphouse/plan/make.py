"""From what the source has to a plan: discovery, decisions, units."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

import networkx

from pumphouse.cloud import rights
from pumphouse.cloud.rights import REFUSED, can_make, can_see
from pumphouse.config.settings import Limits, Mappings, Policies
from pumphouse.model import Action, Plan, Record, Ref, Selection, Step, Twin, Unit
from pumphouse.plan import uncarried
from pumphouse.plan.selection import choose, not_made, resolve, without
from pumphouse.plan.selection import notes as selection_notes
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import Before, Search

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud
    from pumphouse.config.settings import Config

# A short part of the source id makes a name free; eight hexadecimal digits as Git shows them.
_ID_DIGITS = 8
# The policies that say how a plan is run, not what is in it.
RUN_POLICIES = ("on_failure", "fail_fast")
LEFT_OUT = "left out by hand"
_ALL = Selection()


def discover(
    source: Cloud,
    tenant_id: str,
    policies: Mapping[str, Any],
    pool: Executor,
    before: Mapping[Ref, Before] = MappingProxyType({}),
) -> dict[Ref, Record]:
    """All that the tenant owns, read with list calls, kinds side by side.

    policies: the policies of the configuration by name; some change what a resource needs.
    before: what earlier runs have done, which may have changed the source.
    """

    def read(kind: ModuleType) -> list[Record]:
        if not can_see(source, kind):
            return []
        under = getattr(kind, "under", lambda record, _: record)
        return [
            under(kind.as_before(record, before[record.ref]) if record.ref in before else record, policies)
            for record in kind.discover(source, tenant_id)
        ]

    return {record.ref: record for records in pool.map(read, KINDS.values()) for record in records}


def with_needs(source: Cloud, own: Mapping[Ref, Record], pool: Executor) -> dict[Ref, Record]:
    """The records of a tenant, and after them those of all that they need and it does not own."""
    found = dict(own)
    asked: set[Ref] = set()
    while missing := _needed(found.values()) - found.keys() - asked:
        asked |= missing
        found |= _fetch(source, missing, pool)
    return found


def make_plan(
    source: Cloud,
    destination: Cloud,
    tenant_id: str,
    config: Config,
    pool: Executor,
    *,
    before: Mapping[Ref, Before] = MappingProxyType({}),
    names: Mapping[Ref, str] = MappingProxyType({}),
    left_out: Collection[Ref] = (),
    selection: Selection = _ALL,
) -> Plan:
    """Decide what a migration of the tenant will do; reads both clouds and changes neither.

    before: what earlier runs have done, which may have changed the source.
    names: the names that a person chose for resources at the destination.
    left_out: what a person does not want to be migrated.
    selection: what of the tenant is migrated. Raises UsageError when it names what is not there.
    """
    notes = [] if selection.is_narrow else [pool.submit(uncarried.notes, source, tenant_id)]
    settings = settings_of(config)
    own = discover(source, tenant_id, settings["policies"], pool, before)
    records = with_needs(source, own, pool)
    selection = resolve(selection, records, KINDS)
    tenant = Ref("tenant", tenant_id)
    steps = _selected(
        selection,
        records,
        own,
        tenant,
        lambda chosen: _decide(chosen, destination, settings, names, left_out),
    )
    return Plan(
        tenant=tenant,
        tenant_name=records[tenant].name,
        source=title(source),
        destination=title(destination),
        units=units(block(steps)),
        settings=settings,
        cfg=cfg_of(config),
        notes=(
            *rights.notes(source, destination),
            *selection_notes(own, steps),
            *(note for found in notes for note in found.result()),
        ),
        left_out=tuple(sorted(set(left_out) - steps.keys())),
        selection=selection,
    )


def _selected(
    selection: Selection,
    records: Mapping[Ref, Record],
    own: Collection[Ref],
    tenant: Ref,
    decide_all: Callable[[Mapping[Ref, Record]], dict[Ref, Step]],
) -> dict[Ref, Step]:
    """The decisions for what is selected and for what that needs; nothing is made of a kind that is skipped."""
    chosen = choose(selection, records, own, tenant)
    steps = decide_all({ref: records[ref] for ref in chosen})
    ended = {
        ref for ref, step in steps.items() if ref.kind in selection.skip and step.action is Action.CREATE
    }
    if ended:
        chosen = choose(selection, without(records, ended), own, tenant)
    return {
        ref: replace(
            steps[ref].blocked(not_made(ref.kind)) if ref in ended else steps[ref], because=chosen[ref]
        )
        for ref in chosen
    }


def title(cloud: Cloud) -> str:
    """How a plan names a cloud."""
    return f"{cloud.name} {cloud.auth_url}"


def settings_of(config: Config) -> dict[str, Any]:
    """The mappings and policies that a plan is made with, as plain JSON."""
    policies = {
        name: value if isinstance(value, bool) else str(value)
        for name, value in asdict(config.policies).items()
        if name not in RUN_POLICIES
    }
    return {"mappings": asdict(config.mappings), "policies": policies}


def cfg_of(config: Config) -> dict[str, Any]:
    """How a plan is run, as plain JSON."""
    policies = {name: getattr(config.policies, name) for name in RUN_POLICIES}
    return {**policies, "limits": asdict(config.limits)}


def planned_config(config: Config, plan: Plan) -> Config:
    """The configuration with the settings of a plan instead of its own."""
    policies = {**plan.settings["policies"], **{name: plan.cfg[name] for name in RUN_POLICIES}}
    policies["passwords_file"] = Path(policies["passwords_file"])
    return replace(
        config,
        mappings=Mappings(**plan.settings["mappings"]),
        policies=Policies(**policies),
        limits=Limits(**plan.cfg["limits"]),
    )


def _needed(records: Iterable[Record]) -> set[Ref]:
    return {need for record in records if not record.skip for need in record.needs}


def _fetch(source: Cloud, refs: Iterable[Ref], pool: Executor) -> dict[Ref, Record]:
    ids: dict[str, list[str]] = defaultdict(list)
    for ref in sorted(refs):
        ids[ref.kind].append(ref.id)
    fetched = pool.map(lambda kind: KINDS[kind].fetch(source, ids[kind]), ids)
    return {record.ref: record for records in fetched for record in records.values()}


def _decide(
    records: Mapping[Ref, Record],
    destination: Cloud,
    settings: Mapping[str, Any],
    names: Mapping[Ref, str],
    left_out: Collection[Ref],
) -> dict[Ref, Step]:
    """The decision for every record; kind by kind, because twins are recognised by the twins of their parents."""
    steps: dict[Ref, Step] = {}
    ids: dict[Ref, str] = {}
    for name, kind in KINDS.items():
        wanted = [_named(record, names) for ref, record in records.items() if ref.kind == name]
        search = Search(destination, ids, settings["mappings"])
        arriving = getattr(kind, "arriving", lambda _, records: records)
        open_ones = [record for record in wanted if not record.skip and record.ref not in left_out]
        sought = {record.ref: record for record in arriving(search, open_ones)}
        twins = kind.find(search, list(sought.values())) if can_see(destination, kind) else {}
        policy = _policy(kind, settings["policies"]["on_conflict"])
        for record in wanted:
            if record.ref in left_out:
                step = Step(record, Action.SKIP, LEFT_OUT, record.name)
            else:
                step = decide(sought.get(record.ref, record), twins.get(record.ref, ()), policy)
            if step.action is Action.CREATE and not can_make(destination, kind):
                step = step.blocked(REFUSED)
            steps[record.ref] = replace(step, record=records[record.ref])
            if step.destination_id:
                ids[record.ref] = step.destination_id
    return steps


def _named(record: Record, names: Mapping[Ref, str]) -> Record:
    """The record under the name that a person chose for it at the destination."""
    name = names.get(record.ref, record.name)
    return record if name == record.name else replace(record, name=name, data={**record.data, "name": name})


def _policy(kind: ModuleType, on_conflict: str) -> str:
    """The policy for conflicts, as far as a kind can follow it."""
    able = {"rename": getattr(kind, "RENAMABLE", False), "reuse": getattr(kind, "REUSABLE", True)}
    return on_conflict if able.get(on_conflict) else "fail"


def decide(record: Record, twins: Sequence[Twin], on_conflict: str) -> Step:
    """The decision for one record with the candidates that the destination has for it.

    on_conflict: `fail`, `reuse` or `rename`, for a candidate that is not certain to be its twin.
    """
    if record.skip:
        return Step(record, Action.SKIP, record.skip, record.name)
    ours = [twin for twin in twins if twin.ours]
    candidates = ours or list(twins)
    if len(candidates) > 1:
        reason = (
            f"the destination has {len(candidates)} candidates: {', '.join(twin.id for twin in candidates)}"
        )
        return Step(record, Action.CONFLICT, reason, record.name)
    if ours:
        return _take(record, ours[0])
    if candidates:
        return _resolve(record, candidates[0], on_conflict)
    if record.must_exist:
        return Step(record, Action.CONFLICT, record.must_exist, record.name)
    return Step(record, Action.CREATE, "not at the destination", record.name, notes=record.notes)


def _take(record: Record, twin: Twin) -> Step:
    if twin.unfinished:
        reason = f"at the destination, but unfinished: {twin.unfinished}"
        return Step(record, Action.CREATE, reason, record.name, twin.id, record.notes)
    notes = tuple(f"differs: {difference}" for difference in twin.differences)
    return Step(record, Action.REUSE, "already at the destination", record.name, twin.id, notes)


def _resolve(record: Record, twin: Twin, on_conflict: str) -> Step:
    what = f"the destination has another of this name ({twin.id})"
    reason = f"{what}: {'; '.join(twin.differences)}" if twin.differences else what
    if on_conflict == "reuse":
        return Step(record, Action.REUSE, f"on_conflict is reuse: {reason}", record.name, twin.id)
    if on_conflict == "rename":
        name = f"{record.name}-{record.ref.id[:_ID_DIGITS]}"
        return Step(record, Action.CREATE, f"on_conflict is rename: {reason}", name, notes=record.notes)
    return Step(record, Action.CONFLICT, reason, record.name)


def block(steps: Mapping[Ref, Step]) -> dict[Ref, Step]:
    """Skip what needs something that will not be there, and what needs that, to the end."""
    steps = dict(steps)
    waiting = [step for step in steps.values() if step.action is Action.CREATE]
    while blocked := [step for step in waiting if _blocker(step, steps)]:
        for step in blocked:
            steps[step.ref] = step.blocked(_blocker(step, steps))
        waiting = [step for step in waiting if steps[step.ref].action is Action.CREATE]
    return steps


def _blocker(step: Step, steps: Mapping[Ref, Step]) -> str:
    """Why a step cannot be done; empty when it can."""
    part_of = step.record.part_of
    whole = [part_of] if part_of and part_of in steps else []
    for ref in (*step.record.needs, *whole):
        need = steps.get(ref)
        if need is None:
            return f"needs {ref}, which the source does not have"
        if need.action is Action.CONFLICT:
            return f"needs {need.record.title}, which is in conflict"
        if need.action is Action.SKIP:
            return f"needs {need.record.title}, which is skipped"
    return ""


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

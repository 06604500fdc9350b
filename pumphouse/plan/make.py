"""From what the source has to a plan: discovery, decisions, units."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pumphouse.cloud import rights
from pumphouse.config.settings import Mappings, Policies
from pumphouse.model import (
    Action,
    LimitSettings,
    Plan,
    Record,
    Ref,
    RunSettings,
    Selection,
    Settings,
    Step,
    not_made,
)
from pumphouse.plan import uncarried
from pumphouse.plan.capacity import refuse_excess
from pumphouse.plan.decide import block, decide_all
from pumphouse.plan.mappings import check_mappings
from pumphouse.plan.preflight import obstacles
from pumphouse.plan.selection import choose, resolve, without
from pumphouse.plan.selection import notes as selection_notes
from pumphouse.plan.speed import remembered
from pumphouse.plan.task_lines import with_tasks
from pumphouse.plan.units import units
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import Before
from pumphouse.tasks.kind import Kind
from pumphouse.words import counted, plural

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud
    from pumphouse.config.settings import Config

# The policies that say how a plan is run, not what is in it.
RUN_POLICIES = ("on_failure", "fail_fast")
# A path is the configuration's alone: a plan may come from somebody else, and the file is written to.
PASSWORDS_FILE = "passwords_file"
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

    def read(kind: Kind) -> list[Record]:
        if not kind.is_visible(source):
            return []
        found = [_as_before(kind, record, before) for record in kind.discover(source, tenant_id)]
        return [_movable(kind, source, kind.apply_policies(record, policies)) for record in found]

    return {record.ref: record for records in pool.map(read, KINDS.values()) for record in records}


def _movable(kind: Kind, source: Cloud, record: Record) -> Record:
    """The record; one that cannot be moved where the source lacks a service that it is moved by."""
    return replace(record, skip=record.skip or kind.hindrance(source))


def _as_before(kind: Kind, record: Record, before: Mapping[Ref, Before]) -> Record:
    return kind.as_before(record, before[record.ref]) if kind.as_before and record.ref in before else record


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
    selection: what of the tenant is migrated. Raises UsageError when it names what is not there, ConfigError when
        a mapping does.
    """
    lost = [] if selection.is_narrow else [pool.submit(uncarried.notes, source, tenant_id, selection.skip)]
    settings, read_at_s = settings_of(config), time.monotonic()
    mapped_in_vain = check_mappings(source, destination, settings["mappings"])
    own = discover(source, tenant_id, settings["policies"], pool, before)
    records = with_needs(source, own, pool)
    selection = resolve(selection, records, KINDS, tenant_id)
    tenant = Ref("tenant", tenant_id)
    begun = {ref for ref, earlier in before.items() if earlier.begun}
    steps = _selected(
        selection,
        records,
        own,
        tenant,
        lambda chosen: decide_all(chosen, source, destination, settings, names, left_out, begun),
    )
    types = settings["mappings"]["volume_types"]
    plan = Plan(
        tenant=tenant,
        tenant_name=records[tenant].name,
        source=title(source),
        destination=title(destination),
        units=units(block(refuse_excess(block(steps), destination, tenant, types))),
        settings=settings,
        cfg=cfg_of(config),
        notes=(
            *rights.notes(source, destination),
            *mapped_in_vain,
            *selection_notes(own, steps),
            *unknown_fields(records[ref] for ref in steps),
            *absent(source, destination, steps),
            *([] if selection.is_narrow else uncarried.services(source)),
            *uncarried.of_others(records[ref] for ref in steps),
        ),
        uncarried=tuple(note for found in lost for note in found.result()),
        left_out=tuple(sorted(set(left_out) - steps.keys())),
        selection=selection,
        read_at_s=read_at_s,
    )
    measured = remembered(config.state_folder, plan.source, plan.destination)
    plan = with_tasks(replace(plan, measured_bytes_per_s=measured))
    return replace(plan, obstacles=obstacles(plan, source, destination, config, pool))


def absent(source: Cloud, destination: Cloud, steps: Mapping[Ref, Step]) -> Iterator[str]:
    """A note for each service and extension that one of the clouds lacks, with what is not carried for that."""
    unseen: dict[str, list[str]] = defaultdict(list)
    for kind in KINDS.values():
        if not source.has(kind.service):
            unseen[kind.absence(source)].append(plural(kind.title))
    for lack, titles in unseen.items():
        yield f"{lack}: {', '.join(titles)} are not looked for"
    lacks = {lack for kind in KINDS.values() for lack in (kind.hindrance(source), kind.lack(destination))}
    left: dict[str, Counter[str]] = defaultdict(Counter)
    for step in steps.values():
        if step.action is Action.SKIP and step.reason in lacks:
            left[step.reason][KINDS[step.ref.kind].title] += 1
    for lack, counts in left.items():
        what = ", ".join(counted(count, title) for title, count in counts.items())
        yield f"{lack}: not carried: {what}"


def unknown_fields(records: Iterable[Record]) -> Iterator[str]:
    """A note for each field of the source's answers of which no kind says what becomes of it."""
    found = Counter(
        (record.ref.kind, name)
        for record in records
        for name in KINDS[record.ref.kind].fields.unknown(record.answer)
    )
    for (kind, name), count in sorted(found.items()):
        seen = f"{KINDS[kind].title}, {counted(count, 'time')}"
        yield f"field {name} is not known to Pumphouse and not carried: {seen}"


def _selected(
    selection: Selection,
    records: Mapping[Ref, Record],
    own: Collection[Ref],
    tenant: Ref,
    decided: Callable[[Mapping[Ref, Record]], dict[Ref, Step]],
) -> dict[Ref, Step]:
    """The decisions for what is selected and for what that needs; nothing is made of a kind that is skipped."""
    chosen = choose(selection, records, own, tenant)
    steps = decided({ref: records[ref] for ref in chosen})
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
    """How a plan names a cloud: with all that `pumphouse.model.place` tells two clouds apart by."""
    region = f" region {cloud.region}" if cloud.region else ""
    project = "" if cloud.is_admin else f" project {cloud.project_id}"
    return f"{cloud.name} {cloud.auth_url}{region}{project}"


def settings_of(config: Config) -> Settings:
    """The mappings and policies that a plan is made with."""
    policies = {
        name: value if isinstance(value, bool | list) else str(value)
        for name, value in asdict(config.policies).items()
        if name not in (*RUN_POLICIES, PASSWORDS_FILE)
    }
    return Settings(mappings=asdict(config.mappings), policies=policies)


def cfg_of(config: Config) -> RunSettings:
    """How a plan is run."""
    limits = config.limits
    return RunSettings(
        on_failure=config.policies.on_failure,
        fail_fast=config.policies.fail_fast,
        limits=LimitSettings(
            workers=limits.workers, transfers=limits.transfers, bytes_per_second=limits.bytes_per_second
        ),
    )


def planned_config(config: Config, plan: Plan) -> Config:
    """The configuration with the settings of a plan instead of its own.

    What a plan does not have stays: the file of passwords, and how long a service is waited for.
    """
    policies = {
        **plan.settings["policies"],
        "on_failure": plan.cfg["on_failure"],
        "fail_fast": plan.cfg["fail_fast"],
        PASSWORDS_FILE: config.policies.passwords_file,
    }
    return replace(
        config,
        mappings=Mappings(**plan.settings["mappings"]),
        policies=Policies(**policies),
        limits=replace(config.limits, **plan.cfg["limits"]),
    )


def _needed(records: Iterable[Record]) -> set[Ref]:
    return {need for record in records if not record.skip for need in record.needs}


def _fetch(source: Cloud, refs: Iterable[Ref], pool: Executor) -> dict[Ref, Record]:
    ids: dict[str, list[str]] = defaultdict(list)
    for ref in sorted(refs):
        ids[ref.kind].append(ref.id)
    there = [kind for kind in ids if not KINDS[kind].absence(source)]
    fetched = pool.map(lambda kind: KINDS[kind].fetch(source, ids[kind]), there)
    records = (record for found in fetched for record in found.values())
    return {record.ref: _movable(KINDS[record.ref.kind], source, record) for record in records}

"""Some kinds carried by hand, without a plan file or a run: for the tests of single kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from taskflow import engines, task
from taskflow.patterns import graph_flow

from pumphouse.cloud import Cloud
from pumphouse.config.settings import Policies
from pumphouse.flows import link
from pumphouse.model import Action, Json, Record, Ref, Step, symbol
from pumphouse.plan.decide import decide
from pumphouse.tasks.base import Migration, Search
from pumphouse.tasks.glance.transfer import TransferLimits
from pumphouse.tasks.kind import Kind

MAPPINGS = ("domains", "roles", "users", "flavors", "external_networks", "availability_zones", "volume_types")


@dataclass(frozen=True)
class Clouds:
    """Both clouds of a lab, as a migration has them."""

    source: Cloud
    destination: Cloud


def connect(lab: Any) -> Clouds:
    """Both clouds with the credentials of their administrators."""
    return Clouds(
        *(
            Cloud.from_clouds_yaml(name, clouds_file=Path(lab.clouds_yaml))
            for name in ("source", "destination")
        )
    )


class Failing(task.Task):  # type: ignore[misc]
    """Fails when all else is done, so that everything is reverted."""

    def execute(self, **_: Any) -> None:
        raise RuntimeError("on purpose")


def _kind(given: ModuleType | Kind) -> Kind:
    return given if isinstance(given, Kind) else given.KIND


class ByHand:
    """Carries a tenant with a few kinds only, in the order in which they are given."""

    def __init__(
        self,
        source: Cloud,
        destination: Cloud,
        tenant_id: str,
        kinds: Sequence[ModuleType | Kind],
        **settings: Json,
    ) -> None:
        self.tenant_id = tenant_id
        self.kinds = {kind.name: kind for kind in map(_kind, kinds)}
        self.mappings = {name: settings.get("mappings", {}).get(name, {}) for name in MAPPINGS}
        policies = {**asdict(Policies(user_passwords="disabled")), **settings.get("policies", {})}
        self.migration = Migration(
            source, destination, {"mappings": self.mappings, "policies": policies}, TransferLimits(1)
        )

    def records(self) -> dict[Ref, Record]:
        """What discovery finds, and what that needs."""
        source = self.migration.source
        listed = [kind.discover(source, self.tenant_id) for kind in self.kinds.values()]
        found = {record.ref: record for records in listed for record in records}
        while missing := {need for r in found.values() if not r.skip for need in r.needs} - found.keys():
            for kind in {ref.kind for ref in missing}:
                ids = [ref.id for ref in missing if ref.kind == kind]
                fetched = self.kinds[kind].fetch(source, ids)
                assert sorted(fetched) == sorted(ids)
                found |= {record.ref: record for record in fetched.values()}
        return {ref: self.kinds[ref.kind].looked_through(record) for ref, record in found.items()}

    def steps(self, on_conflict: str = "fail") -> dict[Ref, Step]:
        """The decision for each record."""
        records = self.records()
        ids: dict[Ref, str] = {}
        steps: dict[Ref, Step] = {}
        for name, kind in self.kinds.items():
            wanted = [record for ref, record in records.items() if ref.kind == name]
            source, destination = self.migration.source, self.migration.destination
            search = Search(destination, ids, self.mappings, source, self.migration.policies)
            sought = {r.ref: r for r in kind.adapt(search, [record for record in wanted if not record.skip])}
            twins = kind.find(search, list(sought.values()))
            for record in wanted:
                arrived = sought.get(record.ref, record)
                steps[record.ref] = step = decide(arrived, twins.get(record.ref, ()), on_conflict)
                if step.destination_id:
                    ids[record.ref] = step.destination_id
        return steps

    def _tasks(self, step: Step) -> list[task.Task]:
        made = self.kinds[step.ref.kind].tasks(self.migration, step)
        others = self.kinds.values() if step.ref.kind == "tenant" else ()
        return [*made, *(item for kind in others for item in kind.tenant_tasks(self.migration, step))]

    def run(self, steps: dict[Ref, Step], *, fail: bool = False) -> dict[str, Any]:
        """Do what was decided in one flow, and return all results; with fail everything is reverted again."""
        flow = graph_flow.Flow("by-hand")
        create = [step for step in steps.values() if step.action is Action.CREATE]
        made = {step.ref: self._tasks(step) for step in create}
        all_items = [item for items in made.values() for item in items]
        flow.add(*all_items)
        link(flow, all_items)
        # A plan gives the tenant, and each router, a unit of its own, which is done before those that need it.
        for first in (ref for ref in made if ref.kind in ("tenant", "router")):
            for item in (item for ref in made if first in steps[ref].record.needs for item in made[ref]):
                flow.link(made[first][-1], item)
        if fail:
            flow.add(Failing("failing", requires=[symbol(step.ref, "ensured") for step in create]))
        reused = [step for step in steps.values() if step.action is Action.REUSE]
        store = {symbol(step.ref, "ensured"): {"id": step.destination_id, "made": False} for step in reused}
        engine = engines.load(flow, engine="parallel", max_workers=8, store=store)
        engine.run()
        results: dict[str, Any] = engine.storage.fetch_all()
        return results

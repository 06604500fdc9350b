"""Two runs at once, of which one takes what the other has made while that is reverted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from taskflow import task
from taskflow.persistence.base import Backend

from pumphouse.errors import Interruption
from pumphouse.model import Json, Report, State, Step
from pumphouse.run import others, revert
from pumphouse.run.record import Run, create_run
from pumphouse.tasks.base import BaseEnsureTask, BaseRetrieveTask, Migration, ensure, retrieve
from pumphouse.tasks.kind import always
from tests.unit.memory import (
    TENANT,
    RecordingListener,
    World,
    change_kind,
    execute,
    migration,
    planned,
    reason,
    states,
    step,
)

OTHER = step("tenant", "u")


class RetrieveThing(BaseRetrieveTask):
    def retrieve(self, resource_id: str) -> Json:
        return {"id": resource_id, "name": resource_id}


class EnsureThing(BaseEnsureTask):
    """Meanwhile others do what they do: after it was found, and after it was taken."""

    shared = True

    def find(self, data: Json, ensured: Mapping[str, Json]) -> str | None:
        found = f"new-{data['name']}" if data["name"] in self.cloud.things else None
        self.meanwhile("found" if found else "missing")
        return found

    def create(self, data: Json, ensured: Mapping[str, Json]) -> str:
        self.meanwhile("making")
        self.cloud.things.add(data["name"])
        return f"new-{data['name']}"

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Json]) -> None:
        self.meanwhile("taken")

    def meanwhile(self, moment: str) -> None:
        self.cloud.meanwhile.pop(moment, lambda: None)()

    def remove(self, destination_id: str) -> None:
        self.cloud.things.remove(destination_id.removeprefix("new-"))


def shared_tasks(migration: Migration, step: Step) -> list[task.Task]:
    return [retrieve(RetrieveThing, migration, step), ensure(EnsureThing, [migration.destination], step)]


@pytest.fixture
def runs(store: Backend, world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Run]:
    """A run that has made what another one is to make."""
    monkeypatch.setattr(revert, "clock_difference_s", lambda cloud: 0.0)
    change_kind("thing", tasks=shared_tasks, common=always)
    world.meanwhile = {}
    first = create_run(store, planned(TENANT, step("thing", "carol", TENANT.ref)))
    execute(first, world)
    plan = planned(OTHER, step("thing", "carol", OTHER.ref))
    return first, create_run(store, replace(plan, tenant=OTHER.ref, tenant_name="shop"))


def another(run: Run) -> Run:
    """One more run that is to make the same, of a tenant of its own."""
    tenant = step("tenant", "v")
    plan = planned(tenant, step("thing", "carol", tenant.ref))
    return create_run(run.store, replace(plan, tenant=tenant.ref, tenant_name="v"))


def die() -> None:
    raise Interruption


def reverting(run: Run, world: World, said: list[Report]) -> Callable[[], None]:
    def undo() -> None:
        undos = revert.plan_revert(run, migration(world), force=False)
        said.append(revert.revert_run(run, migration(world), undos, RecordingListener(), threading.Event()))

    return undo


def test_what_was_removed_before_it_was_taken_is_made_again(runs: tuple[Run, Run], world: World) -> None:
    first, second = runs
    said: list[Report] = []
    world.meanwhile["found"] = reverting(first, world, said)
    report, _ = execute(second, world)
    assert states(said[0])["carol"] is State.REVERTED
    assert states(report)["carol"] is State.CREATED
    assert world.things == {"u", "carol"}


def test_what_was_taken_is_not_removed(runs: tuple[Run, Run], world: World) -> None:
    first, second = runs
    said: list[Report] = []
    world.meanwhile["taken"] = reverting(first, world, said)
    report, _ = execute(second, world)
    assert reason(said[0], "carol") == f"used by run {second.id} of tenant shop"
    assert states(report)["carol"] is State.REUSED
    assert world.things == {"u", "carol"}


def test_what_a_failed_unit_has_made_stays_where_another_run_has_taken_it(
    runs: tuple[Run, Run], world: World
) -> None:
    first, second = runs
    world.things.discard("carol")
    third = create_run(
        first.store, replace(planned(TENANT, step("thing", "carol")), tenant=TENANT.ref, tenant_name="t")
    )

    def take_and_fail() -> None:
        execute(second, world)
        raise ValueError("the call after it failed")

    world.meanwhile["taken"] = take_and_fail
    report, _ = execute(third, world)
    assert states(report)["carol"] is State.FAILED
    assert f"not undone: used by run {second.id} of tenant shop" in reason(report, "carol")
    assert "carol" in world.things


def test_what_two_have_made_at_once_stays_until_both_are_undone(runs: tuple[Run, Run], world: World) -> None:
    """As users are put into groups: who comes second is not told."""
    first, second = runs
    said: list[Report] = []
    reverting(first, world, said)()
    third = another(second)
    world.meanwhile["missing"] = lambda: execute(second, world)
    execute(third, world)
    reverting(third, world, said)()
    assert reason(said[1], "carol") == f"used by run {second.id} of tenant shop"
    assert world.things == {"u", "carol"}
    reverting(second, world, said)()
    assert states(said[2])["carol"] is State.REVERTED
    reverting(third, world, said)()
    assert "carol" not in world.things


@pytest.mark.parametrize("resumed", [False, True])
def test_what_another_has_made_that_a_dead_run_was_to_make_stays(
    runs: tuple[Run, Run], world: World, resumed: bool
) -> None:
    first, second = runs
    said: list[Report] = []
    reverting(first, world, said)()
    third = another(second)
    world.meanwhile["making"] = die
    execute(third, world)
    execute(second, world)
    if resumed:
        execute(third, world)
    reverting(third, world, said)()
    assert f"used by run {second.id} of tenant shop" in reason(said[1], "carol")
    assert "carol" in world.things


def test_what_a_run_uses_that_nobody_works_on_is_read_once(
    runs: tuple[Run, Run], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = runs
    read: list[str] = []
    monkeypatch.setattr(others, "used", lambda store, book: read.append(book.meta["state"]) or set())
    for _ in range(3):
        others.used_by_others(first)
    execute(second, world)
    for _ in range(3):
        others.used_by_others(first)
    second.begin("RUNNING")
    others.used_by_others(first)
    others.used_by_others(first)
    assert read == ["PENDING", "SUCCESS", "RUNNING", "RUNNING"]

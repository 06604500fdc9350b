"""The end of a migration in memory: what stays at the source, the order of the rest, failures and dead processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from taskflow.persistence.base import Backend

from pumphouse.cloud import Cloud
from pumphouse.errors import PumphouseError, UsageError
from pumphouse.model import Action, Record, Ref, Report, State, Step
from pumphouse.plan.units import units
from pumphouse.run import finalize
from pumphouse.run.finalize import (
    Finalize,
    _units,
    _with_needs,
    begin_removal,
    begun_removal,
    finalize_run,
    plan_finalize,
    refuse_unready,
)
from pumphouse.run.record import Run, create_run, find_book, load_run
from pumphouse.run.resume import refuse_finalized
from pumphouse.run.summary import list_runs
from pumphouse.store import open_store
from pumphouse.tasks.base import Migration
from pumphouse.tasks.glance.transfer import TransferLimits
from tests.unit import memory
from tests.unit.memory import TENANT, RecordingListener, World, change_kind, execute, planned, states


def of(address: str) -> Ref:
    kind, _, resource_id = address.partition("/")
    return Ref(kind, resource_id)


def step(address: str, *needs: str, part_of: str = "", **data: Any) -> Step:
    ref, whole = of(address), of(part_of) if part_of else None
    record = Record(ref, ref.id, data, tuple(map(of, needs)), whole)
    return Step(record, Action.CREATE, "", ref.id, "twin")


STEPS = {
    made.ref: made
    for made in (
        step("tenant/t"),
        step("user/alice", "tenant/t"),
        step("image/base", "tenant/t"),
        step("network/lan", "tenant/t"),
        step("subnet/v4", "tenant/t", "network/lan", part_of="network/lan"),
        step("port/web", "tenant/t", "network/lan", "subnet/v4"),
        step("volume/data", "tenant/t"),
        step("volume_snapshot/daily", "tenant/t", volume_id="data"),
        step("server/web", "tenant/t", "port/web", "volume/data"),
    )
}


@pytest.mark.parametrize(
    ("kept", "stays"),
    [
        ("server/web", {"port/web", "volume/data", "network/lan", "subnet/v4", "tenant/t"}),
        ("network/lan", {"subnet/v4", "tenant/t"}),
        ("image/base", {"tenant/t"}),
        ("tenant/t", set()),
        # Where the user's default tenant is does not make that tenant be of use to anybody.
        ("user/alice", set()),
    ],
)
def test_what_stays_keeps_what_it_needs_and_its_parts(kept: str, stays: set[str]) -> None:
    found = _with_needs([step.record for step in STEPS.values()], {of(kept): "somebody uses it"})
    assert found.pop(of(kept)) == "somebody uses it"
    assert found.keys() == set(map(of, stays))
    assert all(why.endswith("which stays") for why in found.values())


def test_what_needs_something_is_deleted_before_that_and_marks_go_last() -> None:
    run: Any = SimpleNamespace(plan=SimpleNamespace(units=units(STEPS)))
    plan = Finalize(run, (STEPS[of("image/base")],), tuple(STEPS.values()), {})
    made, needs = _units(plan)
    homes = {
        step.ref: name for name, unit in made.items() if name.startswith("remove/") for step in unit.steps
    }
    assert homes.keys() == STEPS.keys()
    for ref, item in STEPS.items():
        for need in (need for need in item.record.needs if homes[need] != homes[ref]):
            assert homes[ref] in needs[homes[need]]
    assert homes[of("volume_snapshot/daily")] in needs[homes[of("volume/data")]]
    assert needs["unmark/image/base"] == set(homes.values())


ONE = memory.step("thing", "one", TENANT.ref)
SERVER = memory.step("server", "web", TENANT.ref, ONE.ref)
SHARED = memory.step("thing", "shared", TENANT.ref)
OTHERS = memory.step("thing", "old", TENANT.ref, action=Action.REUSE, destination_id="new-old")


@pytest.fixture(params=["memory://", "sqlite:///{}/state.db", "dir:///{}/state"])
def recorded(request: pytest.FixtureRequest, tmp_path: Path, world: World) -> Iterator[Run]:
    """A run that has come to its end, whose resources the source has, too."""
    with closing(open_store(request.param.format(tmp_path))) as store:
        run = create_run(store, planned(TENANT, ONE, SERVER, SHARED))
        execute(run, world)
        yield reloaded(run)


@pytest.fixture
def source(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A source in memory that has what the run moves; the destination notes what loses its marks."""
    source: Any = World()
    source.things = {"t", "one", "web", "shared"}
    source.has, source.is_admin = lambda service: True, True
    nothing = SimpleNamespace(of_tenant=lambda *_: [], services=lambda *_: [])
    monkeypatch.setattr(finalize, "uncarried", nothing)
    monkeypatch.setattr(finalize, "clock_difference_s", lambda cloud: 0.0)

    def remove(cloud: World, record: Record) -> None:
        cloud.on_undo(record.name)
        if record.name in cloud.stuck:
            raise PumphouseError(f"{record.name} is stuck")
        cloud.things.discard(record.name)
        cloud.log.append(record.name)

    def fetch(cloud: World, ids: list[str]) -> dict[str, Record]:
        there = cloud.things | {f"new-{name}" for name in cloud.things}
        return {i: Record(Ref(_kind(i), i), i) for i in ids if i in there}

    def discover(kind: str, cloud: World, tenant_id: str) -> list[Record]:
        found = [i for i in sorted(cloud.things) if _kind(i) == kind]
        return [Record(Ref(kind, i), i, needs=(TENANT.ref, ONE.ref)) for i in found]

    for name in ("tenant", "thing", "server"):
        change_kind(
            name,
            fetch=fetch,
            remove=remove,
            unmark=lambda cloud, i: cloud.log.append(f"unmark {i}"),
            discover=partial(discover, name),
        )
    return source


def _kind(name: str) -> str:
    return {"t": "tenant", "web": "server"}.get(name, "thing")


def reloaded(run: Run) -> Run:
    return load_run(run.store, find_book(run.store, run.id))


def both(source: World, world: World) -> Migration:
    clouds: Any = (source, world)
    return Migration(*clouds, {"mappings": {}, "policies": {}}, TransferLimits(1))


def end(run: Run, source: World, world: World, *, remove: bool) -> Report:
    plan = plan_finalize(run, both(source, world), remove=remove)
    return finalize_run(plan, both(source, world), RecordingListener(), threading.Event())


def test_marks_go_and_nothing_is_deleted(recorded: Run, source: World, world: World) -> None:
    before = set(source.things)
    world.log.clear()
    report = end(recorded, source, world, remove=False)
    assert set(states(report).values()) == {State.UNMARKED}
    assert sorted(world.log) == [f"unmark new-{name}" for name in ("one", "shared", "t", "web")]
    assert source.things == before
    assert [run["state"] for run in list_runs(recorded.store)] == ["FINALIZED"]
    with pytest.raises(UsageError, match="was finalized"):
        refuse_finalized(reloaded(recorded))
    assert begun_removal(reloaded(recorded)) == ""


def test_the_source_is_deleted_in_reverse_order_and_the_marks_go_last(
    recorded: Run, source: World, world: World
) -> None:
    order: list[str] = []
    source.log = world.log = order
    report = end(recorded, source, world, remove=True)
    assert set(states(report).values()) == {State.DELETED}
    assert source.things == set()
    assert order.index("web") < order.index("one") < order.index("t")
    assert all(order.index("t") < order.index(name) for name in order if name.startswith("unmark "))


def test_what_fails_stays_with_what_it_needs_and_is_tried_again(
    recorded: Run, source: World, world: World
) -> None:
    source.stuck = {"web"}
    begin_removal(recorded)
    report = end(recorded, source, world, remove=True)
    assert states(report) == {
        "t": State.BLOCKED,
        "one": State.BLOCKED,
        "web": State.FAILED,
        "shared": State.DELETED,
    }
    assert source.things == {"t", "one", "web"}
    assert [run["state"] for run in list_runs(recorded.store)] == ["FINALIZE_FAILURE"]
    again = reloaded(recorded)
    assert begun_removal(again)
    source.stuck = set()
    assert set(states(end(again, source, world, remove=True)).values()) <= {State.DELETED, State.UNMARKED}
    assert source.things == set()
    assert begun_removal(reloaded(again)) == ""
    assert source.log.count("shared") == 1


@pytest.mark.parametrize("dying", ["web", "one", "t"])
def test_a_process_that_dies_is_followed_by_one_that_goes_on(
    recorded: Run, source: World, world: World, dying: str
) -> None:
    def die(name: str) -> None:
        if name == dying:
            raise SystemExit("killed")

    begin_removal(recorded)
    source.on_undo = die
    with pytest.raises(SystemExit):
        end(recorded, source, world, remove=True)
    source.on_undo = lambda name: None
    again = reloaded(recorded)
    assert begun_removal(again)
    end(again, source, world, remove=True)
    assert source.things == set()
    assert sorted(source.log) == ["one", "shared", "t", "web"]


def test_what_others_use_stays_and_the_tenant_with_it(recorded: Run, source: World, world: World) -> None:
    change_kind("thing", shared=lambda cloud, tenant, records: {SHARED.ref: "others use it"})
    report = end(recorded, source, world, remove=True)
    assert states(report) == {
        "t": State.KEPT,
        "one": State.DELETED,
        "web": State.DELETED,
        "shared": State.KEPT,
    }
    assert source.things == {"t", "shared"}
    assert [run["state"] for run in list_runs(recorded.store)] == ["FINALIZED"]


def test_a_tenant_in_which_something_else_lives_stays(recorded: Run, source: World, world: World) -> None:
    source.things.add("theirs")
    plan = plan_finalize(recorded, both(source, world), remove=True)
    assert plan.kept[TENANT.ref] == "it is needed by thing theirs, which stays"
    assert plan.kept[ONE.ref] == "it is needed by thing theirs, which stays"
    assert SERVER.ref not in plan.kept
    source.things.discard("theirs")
    plan = plan_finalize(recorded, both(source, world), remove=True)
    assert not plan.kept
    source.things.add("made meanwhile")
    report = finalize_run(plan, both(source, world), RecordingListener(), threading.Event())
    assert states(report)["t"] is State.BLOCKED
    assert source.things == {"t", "made meanwhile"}


def test_nothing_is_deleted_when_something_was_used_since(recorded: Run, source: World, world: World) -> None:
    def used(cloud: Cloud, record: Record, since: datetime) -> str:
        return "start at noon"

    change_kind("server", used=used)
    with pytest.raises(
        PumphouseError, match="server web of the source was used since it was copied: start at noon"
    ):
        plan_finalize(recorded, both(source, world), remove=True)
    assert plan_finalize(recorded, both(source, world), remove=False).unmarked


def test_what_has_lost_its_twin_or_was_there_before_stays(
    store: Backend, source: World, world: World
) -> None:
    run = create_run(store, planned(TENANT, ONE, OTHERS))
    with pytest.raises(UsageError, match="only what has come to its end"):
        refuse_unready(run)
    execute(run, world)
    refuse_unready(run)
    source.things = {"t", "one"}
    world.things.discard("one")
    plan = plan_finalize(run, both(source, world), remove=True)
    assert plan.kept[ONE.ref] == "its twin new-one is not at the destination"
    assert plan.kept[OTHERS.ref] == "the destination had it before"
    assert plan.removed == ()

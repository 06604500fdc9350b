"""On with a run, and back, with a kind that lives in memory; whole processes are killed in tests/faults."""

from __future__ import annotations

import re
import threading
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from taskflow import states as taskflow_states
from taskflow.exceptions import StorageFailure
from taskflow.persistence.base import Backend

from pumphouse import flows
from pumphouse.errors import NotFoundError, UsageError
from pumphouse.model import Action, Ref, State, Step, symbol
from pumphouse.run import engine, outcomes, resume, revert
from pumphouse.run.execute import StoreLostError
from pumphouse.run.record import FACTORY, Run, create_run, find_book, load_run
from pumphouse.run.summary import list_runs
from pumphouse.store import open_store
from pumphouse.tasks.base import BaseCloudTask
from tests.unit.memory import (
    TENANT,
    Make,
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

ONE = step("thing", "one", TENANT.ref)
TWO = step("thing", "two", ONE.ref)


def reloaded(recorded: Run) -> Run:
    return load_run(recorded.store, find_book(recorded.store, recorded.id))


def undo(
    recorded: Run, world: World, *, force: bool = False, stop: threading.Event | None = None
) -> tuple[Any, list[revert.UnitRevert]]:
    undos = revert.plan_revert(recorded, migration(world), force=force)
    stop = stop or threading.Event()
    report = revert.revert_run(recorded, migration(world), undos, RecordingListener(), stop)
    return report, undos


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revert, "clock_difference_s", lambda cloud: 0.0)


def alter(recorded: Run, unit: str, flow_state: str | None, **atom_states: str) -> None:
    """Leave a unit as a process leaves it that died at that moment."""
    detail = recorded.detail(unit)
    changed = [atom for atom in detail if atom.name.replace("-", "_") in atom_states]
    assert len(changed) == len(atom_states)
    for atom in changed:
        atom.state = atom_states[atom.name.replace("-", "_")]
        if atom.state == taskflow_states.RUNNING:
            atom.results = None
    detail.state = flow_state
    engine.save(recorded, detail, changed)


def test_a_loaded_run_has_the_plan_it_was_recorded_with(store: Backend, world: World) -> None:
    plan = planned(TENANT, ONE, TWO, step("thing", "gone", action=Action.SKIP))
    recorded = create_run(store, plan)
    again = reloaded(recorded)
    assert again.plan == plan
    assert again.details == recorded.details


def test_runs_are_found_by_id_by_its_beginning_and_as_the_last(store: Backend, world: World) -> None:
    first, second = (create_run(store, planned(TENANT)) for _ in range(2))
    assert find_book(store, first.id).uuid == first.book.uuid
    assert find_book(store, second.book.uuid).uuid == second.book.uuid
    assert find_book(store, "last").uuid == second.book.uuid
    with pytest.raises(NotFoundError, match="there is no run 'ffff0000'"):
        find_book(store, "ffff0000")
    with pytest.raises(NotFoundError, match="may be any of the runs"):
        find_book(store, "")


def test_a_suspended_run_goes_on_and_repeats_nothing(store: Backend, world: World) -> None:
    stop = threading.Event()
    world.on_make = lambda name: stop.set() if name == "one" else None
    recorded = create_run(store, planned(TENANT, ONE, TWO))
    execute(recorded, world, stop)
    assert recorded.book.meta["state"] == "SUSPENDED"
    report, listener = execute(reloaded(recorded), world)
    assert world.tries == ["t", "one", "two"]
    assert set(states(report).values()) == {State.CREATED}
    assert listener.lines == ["make two"]


def test_what_failed_is_tried_again(store: Backend, world: World) -> None:
    recorded = create_run(store, planned(TENANT, ONE, TWO))
    world.failing = {"one"}
    report, _ = execute(recorded, world)
    assert states(report) == {"t": State.CREATED, "one": State.FAILED, "two": State.BLOCKED}
    world.failing = set()
    report, _ = execute(reloaded(recorded), world)
    assert set(states(report).values()) == {State.CREATED}
    assert world.tries == ["t", "one", "one", "two"]


def test_of_a_kept_unit_only_what_failed_is_executed_again(store: Backend, world: World) -> None:
    part = step("thing", "part", TENANT.ref, part_of=Ref("server", "whole"))
    whole = step("server", "whole", TENANT.ref, part.ref)
    recorded = create_run(store, planned(TENANT, part, whole, on_failure="keep"))
    world.failing = {"whole"}
    execute(recorded, world)
    world.failing = set()
    report, _ = execute(reloaded(recorded), world)
    assert set(states(report).values()) == {State.CREATED}
    assert world.tries == ["t", "part", "whole", "whole"]


def test_a_unit_whose_process_died_in_a_task_executes_that_again(store: Backend, world: World) -> None:
    recorded = create_run(store, planned(TENANT, ONE, TWO))
    execute(recorded, world)
    alter(recorded, "thing/one", "RUNNING", thing_one_ensured="RUNNING")
    report, _ = execute(reloaded(recorded), world)
    assert set(states(report).values()) == {State.CREATED}
    assert world.tries == ["t", "one", "two", "one"]


def test_a_unit_that_taskflow_calls_reverted_when_it_was_suspended_is_mended(
    store: Backend, world: World
) -> None:
    """engine.suspend() ends so when all that was left was queued: the next run would repeat what is done."""
    part = step("thing", "part", TENANT.ref, part_of=Ref("server", "whole"))
    whole = step("server", "whole", TENANT.ref, part.ref)
    recorded = create_run(store, planned(TENANT, part, whole))
    execute(recorded, world)
    alter(recorded, "server/whole", "REVERTED", server_whole_ensured="RUNNING")
    execute(reloaded(recorded), world)
    assert world.tries == ["t", "part", "whole", "whole"]


def test_a_unit_whose_process_died_while_it_was_undone_is_undone_and_made_again(
    store: Backend, world: World
) -> None:
    part = step("thing", "part", TENANT.ref, part_of=Ref("server", "whole"))
    whole = step("server", "whole", TENANT.ref, part.ref)
    recorded = create_run(store, planned(TENANT, part, whole))
    execute(recorded, world)
    alter(recorded, "server/whole", "RUNNING", server_whole_ensured="REVERTING")
    detail = recorded.detail("server/whole")
    for atom in detail:
        atom.intention = "REVERT"
    engine.save(recorded, detail, list(detail))
    report, _ = execute(reloaded(recorded), world)
    assert set(states(report).values()) == {State.CREATED}
    assert world.log[-4:] == ["undo whole", "undo part", "part", "whole"]


def test_the_report_of_a_run_is_told_from_what_is_recorded_alone(store: Backend, world: World) -> None:
    recorded = create_run(store, planned(TENANT, ONE, TWO, step("thing", "old", action=Action.SKIP)))
    world.failing = {"one"}
    report, _ = execute(recorded, world)
    again = reloaded(recorded)
    assert (
        outcomes.build_report(again.id, again.book.meta["state"], again.plan, again.all_details()) == report
    )


def test_a_revert_undoes_all_in_reverse_order(store: Backend, world: World) -> None:
    recorded = create_run(store, planned(TENANT, ONE, TWO))
    execute(recorded, world)
    report, undos = undo(reloaded(recorded), world)
    assert world.things == set()
    assert world.log[-3:] == ["undo two", "undo one", "undo t"]
    assert [line for item in undos for line in item.lines] == [
        "remove thing two (new-two)",
        "remove thing one (new-one)",
        "remove tenant t (new-t)",
    ]
    assert set(states(report).values()) == {State.REVERTED}
    assert reloaded(recorded).book.meta["state"] == "REVERTED"
    assert undo(reloaded(recorded), world)[1] == []


def test_a_revert_undoes_what_a_killed_process_was_at(store: Backend, world: World) -> None:
    recorded = create_run(store, planned(TENANT, ONE))
    execute(recorded, world)
    alter(recorded, "thing/one", "RUNNING", thing_one_ensured="RUNNING")
    _, undos = undo(reloaded(recorded), world)
    assert undos[0].lines == ("remove thing one, if it was made",)
    assert world.things == set()


def test_what_cannot_be_undone_is_reported_and_tried_again(store: Backend, world: World) -> None:
    recorded = create_run(store, planned(TENANT, ONE, TWO))
    execute(recorded, world)
    world.stuck = {"one"}
    report, _ = undo(reloaded(recorded), world)
    assert states(report) == {"t": State.REVERTED, "one": State.KEPT, "two": State.REVERTED}
    assert reason(report, "one") == "one is stuck"
    assert reloaded(recorded).book.meta["state"] == "REVERT_FAILURE"
    world.stuck = set()
    report, undos = undo(reloaded(recorded), world)
    assert [item.unit.name for item in undos] == ["thing/one"]
    assert states(report) == {"one": State.REVERTED}
    assert world.things == set()


class Read(BaseCloudTask):
    def execute(self) -> dict[str, str]:
        return {"seen": "yes"}


class Needy(Make):
    """Undoes with what another task of its unit has read."""

    def revert(self, name: str, data: dict[str, str], **_: Any) -> dict[str, str]:
        return super().revert(name) if data["seen"] else {}


def needy_tasks(given: Any, made: Step) -> list[Any]:
    read = Read(given.destination, provides=symbol(made.ref, "retrieved"))
    make = Needy(
        given.destination,
        provides=symbol(made.ref, "ensured"),
        inject={"name": made.ref.id},
        requires=[*(symbol(need, "ensured") for need in made.record.needs), read.name],
        revert_rebind={"name": "name", "data": read.name},
    )
    return [read, make]


def test_what_cannot_be_undone_is_tried_again_with_what_others_of_its_unit_have_read(
    store: Backend, world: World
) -> None:
    change_kind("server", tasks=needy_tasks)
    recorded = create_run(store, planned(TENANT, step("server", "whole", TENANT.ref)))
    execute(recorded, world)
    world.stuck = {"whole"}
    report, _ = undo(reloaded(recorded), world)
    assert reason(report, "whole") == "whole is stuck"
    world.stuck = set()
    report, _ = undo(reloaded(recorded), world)
    assert states(report) == {"whole": State.REVERTED}
    assert world.things == set()


def test_what_was_changed_since_is_kept_with_all_that_it_needs(store: Backend, world: World) -> None:
    recorded = create_run(store, planned(TENANT, ONE, TWO, step("thing", "other", TENANT.ref)))
    execute(recorded, world)

    def changed(cloud: World, name: str, since: datetime) -> str:
        return "somebody wrote on it" if name == "new-two" else ""

    change_kind("thing", changed=changed)
    report, _ = undo(reloaded(recorded), world)
    assert world.things == {"t", "one", "two"}
    assert reason(report, "two") == "thing two has changed since: somebody wrote on it"
    assert reason(report, "one") == "needed by thing two, which is kept"
    undo(reloaded(recorded), world, force=True)
    assert world.things == set()


def test_what_another_run_has_begun_to_use_since_the_revert_was_planned_is_kept(
    store: Backend, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_kind("thing", common=lambda record: True)
    first = create_run(store, planned(TENANT, step("thing", "carol", TENANT.ref)))
    execute(first, world)
    undos = revert.plan_revert(first, migration(world), force=False)
    other = step("tenant", "u")
    reused = step("thing", "carol", other.ref, action=Action.REUSE, destination_id="new-carol")
    second = create_run(store, replace(planned(other, reused), tenant=other.ref, tenant_name="shop"))
    report = revert.revert_run(first, migration(world), undos, RecordingListener(), threading.Event())
    assert reason(report, "carol") == f"used by run {second.id} of tenant shop"
    assert "carol" in world.things


def test_a_newer_run_that_did_nothing_is_in_nobodys_way(store: Backend, world: World) -> None:
    first = create_run(store, planned(TENANT, ONE))
    execute(first, world)
    reused = [replace(item, action=Action.REUSE, destination_id="new") for item in (TENANT, ONE)]
    execute(create_run(store, planned(*reused)), world)
    resume.refuse_superseded(first)
    newer = create_run(store, planned(TENANT, ONE))
    execute(newer, world)
    with pytest.raises(UsageError, match=f"run {newer.id} of this tenant is newer"):
        resume.refuse_superseded(first)


def test_a_run_that_ended_with_a_conflict_says_so(store: Backend, world: World) -> None:
    recorded = create_run(store, planned(TENANT, step("thing", "odd", TENANT.ref, action=Action.CONFLICT)))
    execute(recorded, world)
    assert [run["state"] for run in list_runs(store)] == ["CONFLICT"]
    assert list_runs(store, state="success") == []
    undo(reloaded(recorded), world)
    assert [run["state"] for run in list_runs(store)] == ["REVERTED"]


def test_what_runs_of_other_tenants_use_is_kept_and_what_they_do_not_use_is_not(
    store: Backend, world: World
) -> None:
    carol = step("thing", "carol", TENANT.ref)
    grant = step("thing", "grant", TENANT.ref, carol.ref, part_of=carol.ref)
    dave = step("thing", "dave", TENANT.ref)
    first = create_run(store, planned(TENANT, carol, grant, dave))
    execute(first, world)
    other = step("tenant", "u")
    reused = step("thing", "carol", other.ref, action=Action.REUSE, destination_id="new-carol")
    second = create_run(store, replace(planned(other, reused), tenant=other.ref, tenant_name="shop"))
    execute(second, world)
    report, unit_reverts = undo(reloaded(first), world)
    kept = f"used by run {second.id} of tenant shop"
    assert world.things == {"carol", "u"}
    assert reason(report, "carol") == kept
    assert states(report)["grant"] is State.REVERTED
    assert f"keep thing carol: it is {kept}" in [line for item in unit_reverts for line in item.lines]
    undo(reloaded(second), world)
    undo(reloaded(first), world)
    assert world.things == set()


def test_what_others_use_keeps_what_it_lives_in(store: Backend, world: World) -> None:
    change_kind("thing", find_anywhere=lambda cloud, wanted: [])
    image = step("thing", "image", TENANT.ref)
    first = create_run(store, planned(TENANT, image))
    execute(first, world)
    other = step("tenant", "u")
    reused = step("thing", "image", action=Action.REUSE, destination_id="new-image")
    execute(create_run(store, replace(planned(other, reused), tenant=other.ref)), world)
    report, _ = undo(reloaded(first), world, force=True)
    assert world.things == {"t", "image", "u"}
    assert reason(report, "t") == "needed by thing image, which is kept"
    assert states(report) == {"t": State.KEPT, "image": State.KEPT}
    assert reloaded(first).book.meta["state"] == taskflow_states.REVERT_FAILURE


def test_what_a_killed_process_was_at_has_been_changed_by_nobody(store: Backend, world: World) -> None:
    part = step("thing", "part", TENANT.ref, part_of=Ref("server", "whole"))
    whole = step("server", "whole", TENANT.ref, part.ref)
    recorded = create_run(store, planned(TENANT, part, whole))
    execute(recorded, world)
    detail = recorded.detail("server/whole")
    (dying,) = (atom for atom in detail if atom.name == "server-whole-ensured")
    dying.state, dying.results = taskflow_states.RUNNING, None
    del dying.meta["ended_at"]
    detail.state = taskflow_states.RUNNING
    engine.save(recorded, detail, [dying])
    change_kind("thing", changed=lambda *_: "just now")
    undo(reloaded(recorded), world)
    assert world.things == set()


def test_what_a_killed_revert_was_at_has_been_changed_by_nobody(store: Backend, world: World) -> None:
    part = step("thing", "part", TENANT.ref, part_of=Ref("server", "whole"))
    whole = step("server", "whole", TENANT.ref, part.ref)
    recorded = create_run(store, planned(TENANT, part, whole))
    execute(recorded, world)
    detail = recorded.detail("server/whole")
    (dying,) = (atom for atom in detail if atom.name == "server-whole-ensured")
    dying.state, dying.intention, detail.state = taskflow_states.REVERTING, "REVERT", taskflow_states.RUNNING
    engine.save(recorded, detail, [dying])
    for kind in ("server", "thing"):
        change_kind(kind, changed=lambda *_: "delete, just now")
    undo(reloaded(recorded), world)
    assert world.things == set()


def test_a_reverted_run_is_not_resumed(store: Backend, world: World) -> None:
    recorded = create_run(store, planned(TENANT))
    execute(recorded, world)
    undo(recorded, world)
    with pytest.raises(UsageError, match=f"run {recorded.id} was reverted"):
        resume.refuse_reverted(reloaded(recorded))


def test_a_run_is_neither_resumed_nor_undone_behind_a_newer_one(store: Backend, world: World) -> None:
    older, newer = (create_run(store, planned(TENANT)) for _ in range(2))
    resume.refuse_superseded(older)
    execute(older, world)
    execute(newer, world)
    resume.refuse_superseded(newer)
    with pytest.raises(UsageError, match=f"run {newer.id} of this tenant is newer than run {older.id}"):
        resume.refuse_superseded(older)
    undo(newer, world)
    resume.refuse_superseded(older)


def test_a_release_with_other_tasks_says_so_and_goes_on(
    store: Backend, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task added, one removed and one renamed: they are known by their names alone."""
    parts = [step("thing", name, TENANT.ref, part_of=Ref("server", "whole")) for name in ("a", "b", "c")]
    whole = step("server", "whole", TENANT.ref, *(part.ref for part in parts))
    recorded = create_run(store, planned(TENANT, *parts, whole, on_failure="keep"))
    world.failing = {"whole"}
    execute(recorded, world)
    world.failing = set()

    def other_tasks(given: Any, unit: Any) -> Any:
        flow = flows.unit_flow(given, unit)
        if unit.name != "server/whole":
            return flow
        items = {item.name: item for item, _ in flow.iter_nodes()}
        renamed = items.pop("thing-a-ensured")
        items.pop("thing-b-ensured")
        fresh = [type(renamed)(world, provides=name, inject={"name": name}) for name in ("a-again", "added")]
        last = items.pop("server-whole-ensured")
        rebuilt = type(last)(
            world, provides=last.name, inject={"name": "whole"}, requires=["thing-c-ensured", "a-again"]
        )
        made = type(flow)(flow.name)
        made.add(*items.values(), *fresh, rebuilt)
        return made

    monkeypatch.setitem(engine.FACTORIES, FACTORY, other_tasks)
    again = reloaded(recorded)
    assert resume.differences(again, migration(world)) == [
        "task a-again is new in this release: it is executed",
        "task added is new in this release: it is executed",
        "task thing-a-ensured is done, and this release does not have it any more: it is left as it is",
        "task thing-b-ensured is done, and this release does not have it any more: it is left as it is",
    ]
    world.tries.clear()
    execute(again, world)
    assert sorted(world.tries) == ["a-again", "added", "whole"]


@pytest.mark.parametrize(
    "name", ["pumphouse.flows.flow_of_old", "pumphouse.flows.ordered_tasks", "os.system"]
)
def test_a_factory_that_this_release_does_not_have_is_one_clear_error(
    store: Backend, world: World, name: str
) -> None:
    recorded = create_run(store, planned(TENANT))
    detail = recorded.detail("tenant/t")
    detail.meta["factory"]["name"] = name
    with pytest.raises(NotFoundError, match=f"{re.escape(name)}, which this release"):
        engine.flow_from_detail(migration(world), recorded.plan.units[0], detail)


def test_a_state_store_that_fails_stops_the_run_which_goes_on_when_it_is_back(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_store(f"sqlite:///{tmp_path}/state.db")) as store:
        recorded = create_run(store, planned(TENANT, ONE, TWO))
        connection = type(store.get_connection())
        whole = connection.update_atom_details

        def full(self: Any, atom: Any) -> Any:
            if "one" in atom.name and world.tries[-1] == "one":
                raise StorageFailure("disk full")
            return whole(self, atom)

        monkeypatch.setattr(connection, "update_atom_details", full)
        with pytest.raises(StoreLostError, match="disk full") as lost:
            execute(recorded, world)
        assert lost.value.hint == f"when it works again: pumphouse resume {recorded.id}"
        monkeypatch.setattr(connection, "update_atom_details", whole)
        report, _ = execute(reloaded(recorded), world)
        assert set(states(report).values()) == {State.CREATED}
        assert world.tries == ["t", "one", "one", "two"]

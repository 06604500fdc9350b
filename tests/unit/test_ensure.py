"""What an Ensure task guarantees when it is interrupted: a kind that lives in memory, run by TaskFlow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from keystoneauth1 import exceptions
from taskflow import task
from taskflow.types.failure import Failure

from pumphouse.errors import ConflictError, MadeOtherwiseError, PumphouseError
from pumphouse.model import Action, Json, Record, Ref, Step, symbol
from pumphouse.tasks import base
from pumphouse.tasks.base import BaseEnsureTask, Migration, as_asked, retrieve_record
from pumphouse.tasks.keystone.assignment import EnsureAssignment
from pumphouse.tasks.keystone.membership import EnsureMembership

DATA = {"id": "s", "name": "thing"}


class Things:
    """A destination: its things by id, and what it does at the next calls."""

    def __init__(self) -> None:
        self.by_id: dict[str, str] = {}
        self.create_then: list[Exception] = []
        self.create_instead: list[Exception] = []
        self.remove_instead: list[Exception] = []
        self.finish_instead: list[Exception] = []
        self.lost_looks = 0
        self.marks: dict[str, str] = {}


def _raise(errors: list[Exception]) -> None:
    if errors:
        raise errors.pop(0)


class Ensure(BaseEnsureTask):
    def find(self, data: Json, ensured: Mapping[str, Json]) -> str | None:
        if self.cloud.lost_looks:
            self.cloud.lost_looks -= 1
            return None
        return next((i for i, name in self.cloud.by_id.items() if name == data["name"]), None)

    def create(self, data: Json, ensured: Mapping[str, Json]) -> str:
        _raise(self.cloud.create_instead)
        self.cloud.by_id["d"] = data["name"]
        _raise(self.cloud.create_then)
        return "d"

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Json]) -> None:
        _raise(self.cloud.finish_instead)

    def remove(self, destination_id: str) -> None:
        _raise(self.cloud.remove_instead)
        if self.cloud.by_id.pop(destination_id, None) is None:
            raise exceptions.NotFound()


class EnsureShared(Ensure):
    shared = True


class EnsureMarked(EnsureShared):
    """Others make the same beside it; what it makes carries its mark."""

    def create(self, data: Json, ensured: Mapping[str, Json]) -> str:
        self.cloud.marks["d"] = self.mark
        return super().create(data, ensured)

    def is_marked(self, destination_id: str) -> bool:
        return bool(self.cloud.marks.get(destination_id) == self.mark)


class EnsureOtherwise(EnsureShared):
    """What it makes is not what it was asked to be, and looks like somebody else's."""

    def find(self, data: Json, ensured: Mapping[str, Json]) -> str | None:
        if self.cloud.by_id:
            raise ConflictError("another thing")
        return None

    def create(self, data: Json, ensured: Mapping[str, Json]) -> str:
        self.cloud.by_id["d"] = "another"
        return self.accept("d", {"name": data["name"]}, {"name": self.cloud.by_id["d"]})


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "LOOKS_S", (0.0, 0.0, 0.0))


@pytest.fixture(params=[Ensure, EnsureShared])
def ensure(request: pytest.FixtureRequest) -> BaseEnsureTask:
    return request.param(Things(), provides="thing")


def failed(error: Exception) -> Failure:
    try:
        raise error
    except Exception:
        return Failure()


def test_what_is_made_is_removed_and_what_was_there_is_kept(ensure: Any) -> None:
    made = ensure.execute(DATA)
    assert made == {"id": "d", "made": True}
    assert ensure.revert(made, DATA) is None
    assert ensure.revert(made, DATA) is None
    assert ensure.cloud.by_id == {}
    ensure.cloud.by_id = {"old": "thing"}
    assert ensure.revert({"id": "old", "made": False}, DATA) is None
    assert ensure.cloud.by_id == {"old": "thing"}


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectFailure("cut"),
        exceptions.InternalServerError(),
        exceptions.GatewayTimeout(),
        ValueError(),
    ],
)
@pytest.mark.parametrize("lost_looks", [1, 3])
def test_a_call_without_an_answer_is_looked_up_and_never_repeated(
    ensure: Any, error: Exception, lost_looks: int
) -> None:
    ensure.cloud.create_then, ensure.cloud.lost_looks = [error], lost_looks
    assert ensure.execute(DATA) == {"id": "d", "made": True}
    ensure.cloud.by_id, ensure.cloud.create_instead = {}, [error]
    with pytest.raises(type(error)):
        ensure.execute(DATA)
    assert ensure.cloud.by_id == {}


@pytest.mark.parametrize("error", [exceptions.Forbidden(), exceptions.BadRequest(), PumphouseError("no")])
def test_a_refusal_is_no_doubt(ensure: Any, error: Exception) -> None:
    ensure.cloud.create_then = [error]
    with pytest.raises(type(error)):
        ensure.execute(DATA)


@pytest.mark.parametrize("result", [None, failed(exceptions.ConnectFailure("cut"))])
def test_what_an_interrupted_execute_has_made_is_removed(ensure: Any, result: object) -> None:
    ensure.cloud.finish_instead = [exceptions.Forbidden()]
    with pytest.raises(exceptions.Forbidden):
        ensure.execute(DATA)
    assert ensure.cloud.by_id == {"d": "thing"}
    assert ensure.revert(result, DATA) is None
    assert ensure.cloud.by_id == {}
    assert not ensure.begun


def test_a_revert_that_meets_an_outage_raises_so_that_it_is_called_again(ensure: Any) -> None:
    made = ensure.execute(DATA)
    for result in (made, None):
        ensure.begun = True
        for error in (exceptions.ConnectFailure("cut"), exceptions.BadGateway()):
            ensure.cloud.remove_instead = [error]
            with pytest.raises(type(error)):
                ensure.revert(result, DATA)
    assert ensure.revert(made, DATA) is None
    assert ensure.cloud.by_id == {}


def test_a_second_process_takes_what_the_first_has_made() -> None:
    for kind in (Ensure, EnsureShared):
        first = kind(Things(), provides="thing")
        told: list[Any] = []
        first.notifier.register(
            task.EVENT_UPDATE_PROGRESS, lambda _, details, told=told: told.append(details)
        )
        first.cloud.finish_instead = [KeyboardInterrupt()]
        with pytest.raises(KeyboardInterrupt):
            first.execute(DATA)
        second = kind(first.cloud, provides="thing")
        second.begun = any(details["begun"] for details in told)
        assert second.begun is kind.shared
        assert second.execute(DATA) == {"id": "d", "made": True}


def test_what_others_share_is_ours_only_by_our_own_note() -> None:
    ensure = EnsureShared(Things(), provides="thing")
    ensure.cloud.by_id = {"theirs": "thing"}
    assert ensure.execute(DATA) == {"id": "theirs", "made": False}
    assert ensure.revert(None, DATA) is None
    assert ensure.cloud.by_id == {"theirs": "thing"}
    ensure.cloud.lost_looks, ensure.cloud.create_instead = 1, [exceptions.Conflict()]
    assert ensure.execute(DATA) == {"id": "theirs", "made": False}


@pytest.mark.parametrize("result", [None, failed(exceptions.ConnectFailure("cut"))])
def test_what_another_run_made_after_this_one_died_is_kept(result: object) -> None:
    ensure = EnsureMarked(Things(), provides="thing")
    ensure.journal()
    ensure.cloud.by_id, ensure.cloud.marks = {"theirs": "thing"}, {"theirs": "other"}
    assert ensure.revert(result, DATA) is None
    assert ensure.cloud.by_id == {"theirs": "thing"}
    assert ensure.execute(DATA) == {"id": "theirs", "made": False}


def test_what_another_run_made_is_kept_when_what_comes_after_it_fails() -> None:
    ensure = EnsureShared(Things(), provides="thing")
    ensure.cloud.by_id, ensure.cloud.lost_looks = {"theirs": "thing"}, 1
    ensure.cloud.create_instead, ensure.cloud.finish_instead = (
        [exceptions.Conflict()],
        [exceptions.Forbidden()],
    )
    with pytest.raises(exceptions.Forbidden):
        ensure.execute(DATA)
    assert ensure.revert(failed(exceptions.Forbidden()), DATA) is None
    assert ensure.cloud.by_id == {"theirs": "thing"}


def test_what_a_call_without_an_answer_has_made_is_told_from_what_another_run_has() -> None:
    ensure = EnsureMarked(Things(), provides="thing")
    ensure.cloud.create_then = [exceptions.GatewayTimeout()]
    assert ensure.execute(DATA) == {"id": "d", "made": True}
    other = EnsureMarked(ensure.cloud, provides="thing")
    ensure.cloud.create_instead, ensure.cloud.lost_looks = [exceptions.GatewayTimeout()], 1
    ensure.cloud.marks["d"], created = "first", other.create

    def create(data: Json, ensured: Mapping[str, Json]) -> str:
        try:
            return created(data, ensured)
        finally:
            ensure.cloud.marks["d"] = "first"

    other.create = create  # type: ignore[method-assign]
    assert other.execute(DATA) == {"id": "d", "made": False}


def test_what_an_earlier_run_made_is_no_longer_removed() -> None:
    ensure = Ensure(Things(), provides="thing", fresh=False)
    ensure.cloud.by_id = {"earlier": "thing"}
    assert ensure.execute(DATA) == {"id": "earlier", "made": False}
    assert ensure.revert(None, DATA) is None
    assert ensure.cloud.by_id == {"earlier": "thing"}


def test_a_conflict_leaves_nothing_to_undo(ensure: Any) -> None:
    ensure.cloud.by_id = {"theirs": "thing"}
    assert ensure.revert(failed(ConflictError("another thing", "rename it")), DATA) is None
    assert ensure.cloud.by_id == {"theirs": "thing"}


def test_a_revert_says_what_stays_and_can_be_run_again(ensure: Any) -> None:
    made = ensure.execute(DATA)
    ensure.cloud.remove_instead = [exceptions.Conflict("in use")]
    assert "in use" in ensure.revert(made, DATA)["kept"]
    assert ensure.revert(made, DATA) is None
    assert ensure.cloud.by_id == {}


def test_a_name_of_the_plan_is_the_one_that_is_undone() -> None:
    ensure = Ensure(Things(), provides="thing", target_name="other")
    ensure.execute(DATA)
    ensure.cloud.by_id["theirs"] = "thing"
    assert ensure.revert(None, DATA) is None
    assert ensure.cloud.by_id == {"theirs": "thing"}


def test_what_was_made_otherwise_is_set_and_looked_at_again() -> None:
    told: list[Json] = []

    def update(fields: Json) -> Json:
        told.append(fields)
        return {"a": 1, **fields}

    asked = {"a": 1, "b": 2, "c": ["x", "y"]}
    assert as_asked(asked, {**asked, "c": ["y", "x"], "more": True}, update) == {
        **asked,
        "c": ["y", "x"],
        "more": True,
    }
    assert as_asked(asked, {"a": 1, "b": 3}, update) == asked
    assert told == [{"b": 2, "c": ["x", "y"]}]


@pytest.mark.parametrize("error", [None, exceptions.BadRequest("read-only")])
def test_what_cannot_be_set_is_said(error: Exception | None) -> None:
    def update(fields: Json) -> Json:
        _raise([error] if error else [])
        return {"ram": 1}

    with pytest.raises(MadeOtherwiseError, match="ram is 1 and not 2") as raised:
        as_asked({"ram": 2}, {"ram": 1}, update)
    assert ("read-only" in str(raised.value)) is (error is not None)


def test_what_was_made_otherwise_is_removed_though_nobody_finds_it() -> None:
    ensure = EnsureOtherwise(Things(), provides="thing")
    with pytest.raises(MadeOtherwiseError):
        ensure.execute(DATA)
    assert ensure.revert(failed(MadeOtherwiseError("no")), DATA) is None
    assert ensure.cloud.by_id == {}


@pytest.mark.parametrize(
    ("first", "fresh", "tenant_made", "shared", "looked"),
    [
        (True, True, True, False, False),
        (False, True, True, False, True),
        (True, False, True, False, True),
        (True, True, False, False, True),
        (True, True, True, True, True),
    ],
)
def test_only_a_first_attempt_in_a_tenant_of_this_run_does_not_look(
    first: bool, fresh: bool, tenant_made: bool, shared: bool, looked: bool
) -> None:
    things = Things()
    ensure: Any = (EnsureShared if shared else Ensure)(things, provides="thing", fresh=fresh)
    ensure.is_first, things.lost_looks = first, 1
    tenant: Any = {"id": "twin", "made": tenant_made}
    ensure.execute({**DATA, "project_id": "t"}, **{"tenant-t-ensured": tenant})
    assert (things.lost_looks == 0) is looked
    things.lost_looks = 1
    ensure.execute({**DATA, "project_id": "t"}, **{"tenant-t-ensured": tenant})  # again, as after an outage
    assert things.lost_looks == 0


def test_what_others_may_take_is_looked_for_in_any_tenant() -> None:
    things = Things()
    ensure: Any = Ensure(things, provides="thing")
    ensure.is_first, ensure.sharing, things.lost_looks = True, object(), 1
    ensure.execute({**DATA, "project_id": "t"}, **{"tenant-t-ensured": {"id": "twin", "made": True}})
    assert things.lost_looks == 0


def test_what_the_plan_has_just_read_is_not_read_again() -> None:
    record = Record(Ref("thing", "s"), "thing", {"id": "s", "name": "planned"})
    now = {"s": replace(record, data={"id": "s", "name": "now"})}
    source: Any = SimpleNamespace(batch=lambda fetch: SimpleNamespace(get=lambda i: fetch(source, [i])[i]))
    step = Step(record, Action.CREATE, "why", "thing")
    for fresh_for_s, name in ((60.0, "planned"), (-1.0, "now")):
        migration: Any = Migration(source, source, {}, None, time.monotonic() + fresh_for_s)  # type: ignore[arg-type,typeddict-item]
        read = retrieve_record(lambda cloud, ids: now, migration, step)
        assert read.execute("s")["name"] == name


def test_the_first_dns_server_is_the_first() -> None:
    """The order of a subnet's DNS servers is what a guest asks them in; that of other lists says nothing."""
    asked = {"dns_nameservers": ["192.0.2.1", "192.0.2.2"], "tags": ["a", "b"]}
    made = {"dns_nameservers": ["192.0.2.2", "192.0.2.1"], "tags": ["b", "a"]}
    assert as_asked(asked, made, lambda wrong: {**made, **wrong}) == {**made, **asked, "tags": ["b", "a"]}
    with pytest.raises(MadeOtherwiseError, match="dns_nameservers is"):
        as_asked(asked, made)


@pytest.mark.parametrize(
    ("task_class", "data"),
    [
        (EnsureAssignment, {"actor_kind": "user", "actor_id": "u", "role_id": "r", "tenant_id": "t"}),
        (EnsureMembership, {"group_id": "g", "user_id": "u"}),
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_what_keystone_says_nothing_of_is_looked_at(task_class: Any, data: Json, is_there: bool) -> None:
    """Keystone answers 204 to a grant and to an addition, whatever it has done."""
    done: list[str] = []
    cloud = SimpleNamespace(
        keystone=SimpleNamespace(
            roles=SimpleNamespace(grant=lambda role, **_: done.append(role)),
            users=SimpleNamespace(add_to_group=lambda user, group: done.append(group)),
        ),
        batch=lambda _: SimpleNamespace(has=lambda _: is_there),
    )
    task = task_class(cloud, provides="x")
    kinds = {"u": "user", "r": "role", "t": "tenant", "g": "group"}
    data = {**data, "id": "s", "inherited": False}
    ensured = {symbol(Ref(kind, i), "ensured"): {"id": f"{i}2", "made": True} for i, kind in kinds.items()}
    if is_there:
        assert "u2" in task.create(data, ensured)
    else:
        with pytest.raises(MadeOtherwiseError, match="as it was asked to"):
            task.create(data, ensured)
    assert len(done) == 1

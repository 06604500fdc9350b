"""What `resume` and `migrate` say and do where little or nothing is left to be done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from taskflow.persistence.base import Backend

from pumphouse.cli import main
from pumphouse.cli.invocation import Invocation
from pumphouse.cli.running import has_work, nothing_done
from pumphouse.cloud.outage import Outages
from pumphouse.config.settings import CloudConfig, Config, Limits, Policies
from pumphouse.errors import EXIT_DONE, EXIT_INCOMPLETE
from pumphouse.model import Action
from pumphouse.run.record import Run, create_run
from tests.unit.memory import TENANT, World, execute, migration, planned, step

ONE = step("thing", "one", TENANT.ref)
TWO = step("thing", "two", ONE.ref)
REUSED = step("tenant", "t", action=Action.REUSE, destination_id="new-t")
CONFIG = Config(
    CloudConfig(), CloudConfig(), policies=Policies(passwords_file=Path("p")), limits=Limits(workers=3)
)


@pytest.fixture
def resume(monkeypatch: pytest.MonkeyPatch, store: Backend, world: World) -> Callable[..., int]:
    """Resumes a recorded run by the command line; gives the exit code."""

    def run(recorded: Run, *options: str) -> int:
        @contextmanager
        def locked(_invocation: Invocation, _wanted: str) -> Iterator[Run]:
            yield recorded

        clouds = tuple(SimpleNamespace(session=SimpleNamespace(), outages=Outages(n)) for n in ("a", "b"))
        monkeypatch.setattr(Invocation, "clouds", clouds)
        monkeypatch.setattr("pumphouse.config.settings.load", lambda *_, **__: CONFIG)
        monkeypatch.setattr("pumphouse.cli.runs.locked_run", locked)
        monkeypatch.setattr("pumphouse.cli.runs.migration_of", lambda *_: migration(world))
        monkeypatch.setattr(sys, "argv", ["pumphouse", "resume", "last", "--yes", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0

    return run


def test_of_a_run_that_is_done_nothing_is_left(
    store: Backend, world: World, resume: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = create_run(store, planned(TENANT, ONE))
    execute(recorded, world)
    log = list(world.log)
    assert resume(recorded) == EXIT_DONE
    assert capsys.readouterr().out == (
        f"nothing is left to do of run {recorded.id}; see it with: pumphouse report {recorded.id}\n"
    )
    assert world.log == log


def test_what_is_left_is_listed_and_made_with_the_limits_of_today(
    store: Backend, world: World, resume: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = create_run(store, planned(TENANT, ONE, TWO))
    world.failing = {"one"}
    execute(recorded, world)
    world.failing = set()
    assert resume(recorded, "--limit-rate", "2MiB/s") == EXIT_DONE
    out, err = capsys.readouterr()
    assert "left 2 of 3 resources" in err
    assert "failed    thing one: one does not work; mend it" in err
    assert "blocked   thing two: needs thing one, which failed" in err
    assert "limits: 3 calls and 4 transfers at a time, bytes 2.0 MiB a second" in err
    assert "created   thing one" in err
    assert out.startswith("kind ")
    assert not any(text in out for text in ("left 2 of 3", "limits: ", "created   thing"))
    assert f"run {recorded.id} of tenant t is SUCCESS: 3 resources, 3 created" in out
    assert {"one", "two"} <= world.things


def test_a_run_that_died_behind_its_last_task_is_closed_without_a_question(
    store: Backend, world: World, resume: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = create_run(store, planned(TENANT))
    execute(recorded, world)
    recorded.begin("RUNNING")
    monkeypatch.setattr(Invocation, "confirm", lambda *_: pytest.fail("there is nothing to ask"))
    assert resume(recorded) == EXIT_DONE
    assert recorded.book.meta["state"] == "SUCCESS"


@pytest.mark.parametrize("option", [["--limit-rate", "fast"], ["--limit-rate", "0"], ["--workers", "0"]])
def test_a_limit_that_is_none_is_refused(
    store: Backend, resume: Callable[..., int], capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    assert resume(create_run(store, planned(TENANT)), *option) == 2
    assert "Invalid value" in capsys.readouterr().err


def test_a_plan_of_nothing_is_no_work_unless_a_dead_run_has_borrowed(store: Backend, world: World) -> None:
    nothing = planned(REUSED)
    assert has_work(store, planned(TENANT))
    assert not has_work(store, nothing)
    create_run(store, planned(TENANT)).update_meta(loans={"destination": [{"kind": "role"}]})
    assert has_work(store, nothing)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ([], EXIT_DONE),
        ([step("thing", "n", action=Action.CONFLICT)], EXIT_INCOMPLETE),
        ([step("thing", "s", action=Action.SKIP)], EXIT_INCOMPLETE),
    ],
)
def test_a_plan_of_nothing_ends_with_the_code_that_its_run_would_have(
    world: World, more: list[Any], code: int
) -> None:
    ended = nothing_done(planned(REUSED, *more))
    assert (ended.code, ended.run) == (code, None)
    assert ended.data["run"] is ended.data["state"] is None
    assert len(ended.data["resources"]) == 1 + len(more)

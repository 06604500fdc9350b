"""Exit codes and last lines of a run: whether all that a tenant owns has arrived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pumphouse.cli.running import exit_code
from pumphouse.cloud import Cloud
from pumphouse.cloud.rights import notes
from pumphouse.errors import EXIT_DONE, EXIT_INCOMPLETE
from pumphouse.model import (
    LEFT_OUT,
    Action,
    Outcome,
    Plan,
    Record,
    Ref,
    Report,
    Selection,
    State,
    Step,
    not_made,
)
from pumphouse.plan.decide import block, decide_all
from pumphouse.plan.staleness import edits
from pumphouse.run.outcomes import left_behind
from pumphouse.run.summary import report_data
from pumphouse.show.ending import completeness, question
from pumphouse.tasks import KINDS
from tests.unit.memory import TENANT, planned, step

SERVER = Ref("server", "web")
MEMBER, ADMINISTRATOR = (cast(Cloud, SimpleNamespace(is_admin=is_admin)) for is_admin in (False, True))


def skipped(reason: str, *needs: Ref, kind: str = "server", **fields: Any) -> Step:
    record = Record(Ref(kind, "web"), "web", {}, needs, **fields)
    return Step(record, Action.SKIP, reason, "web")


def report(plan: Plan, **states: State) -> Report:
    """A run of the plan in which everything arrives that the plan makes, but for what is given by its id."""
    arrived = {Action.CREATE: State.CREATED, Action.REUSE: State.REUSED, Action.SKIP: State.SKIPPED}
    outcomes = [
        Outcome(s.ref, s.name, states.get(s.ref.id, arrived.get(s.action, State.CONFLICT)))
        for s in plan.steps()
    ]
    return Report(plan, tuple(outcomes), "run")


def ending(*steps: Step, uncarried: Sequence[str] = (), **choices: Any) -> tuple[int, str]:
    plan = replace(planned(TENANT, *steps), uncarried=tuple(uncarried), **choices)
    found = report(plan)
    return exit_code(found, "resume"), completeness(found)


def test_all_of_a_tenant_is_said_to_be_there() -> None:
    code, line = ending(step("server", "web"))
    assert (code, line) == (EXIT_DONE, "everything that tenant t owns is at the destination")


def test_no_more_is_said_to_be_there_than_the_login_is_shown() -> None:
    code, line = ending(step("server", "web"), notes=(*notes(MEMBER, ADMINISTRATOR),))
    assert (code, line) == (EXIT_DONE, "all that the login is shown of tenant t is at the destination")


@pytest.mark.parametrize(
    "lost",
    [
        skipped("its status is ERROR", skip="its status is ERROR"),
        skipped("needs network/n, which the source does not have", Ref("network", "n")),
        step("server", "web", action=Action.CONFLICT),
    ],
)
def test_what_the_tool_leaves_needs_a_decision(lost: Step) -> None:
    code, line = ending(lost)
    assert (code, line) == (EXIT_INCOMPLETE, "1 resource of tenant t is not at the destination: see above")


def test_what_no_migration_carries_counts() -> None:
    code, line = ending(uncarried=["1 trusts not carried", "2 EC2 credentials not carried"])
    assert code == EXIT_INCOMPLETE
    assert line == "2 resources of tenant t are not at the destination: see above"


@pytest.mark.parametrize("reason", [LEFT_OUT, not_made("server")])
def test_what_the_operator_leaves_out_needs_none_nor_does_what_needs_that(reason: str) -> None:
    port = step("port", "p", SERVER, action=Action.SKIP)
    code, line = ending(skipped(reason), port, selection=Selection(skip=("server",)))
    assert (code, line) == (EXIT_DONE, "all that was selected of tenant t is at the destination")


def test_what_needs_that_and_something_in_conflict_is_left_behind() -> None:
    conflict = step("network", "n", action=Action.CONFLICT)
    port = step("port", "p", SERVER, conflict.ref, action=Action.SKIP)
    found = report(planned(TENANT, skipped(LEFT_OUT), conflict, port))
    assert [outcome.ref.kind for outcome in left_behind(found)] == ["network", "port"]
    assert report_data(found, None)["left_behind"] == ["network/n", "port/p"]


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_server_and_its_port_that_want_each_other_are_left_out_together(is_asked: bool) -> None:
    flavor = skipped(LEFT_OUT, kind="flavor") if is_asked else step("flavor", "web", action=Action.CONFLICT)
    port = Ref("port", "p")
    server = skipped("needs flavor web", flavor.ref, port)
    parts = step("port", "p", server.ref, part_of=server.ref, action=Action.SKIP)
    found = report(planned(TENANT, flavor, server, parts))
    lost = set() if is_asked else {"flavor", "server", "port"}
    assert {outcome.ref.kind for outcome in left_behind(found)} == lost


def test_a_server_and_its_port_that_want_what_the_source_does_not_have_are_left_behind() -> None:
    port, volume = Ref("port", "p"), Ref("volume", "v")
    server = skipped(f"needs {volume}, which the source does not have", volume, port)
    parts = step("port", "p", server.ref, part_of=server.ref, action=Action.SKIP)
    found = report(planned(TENANT, server, parts))
    assert {outcome.ref.kind for outcome in left_behind(found)} == {"server", "port"}


def test_a_skip_that_a_policy_asks_for_needs_no_decision() -> None:
    assert ending(skipped("not asked", skip="not asked", settled=True))[0] == EXIT_DONE


@pytest.mark.parametrize("state", [State.FAILED, State.BLOCKED, State.PENDING])
def test_what_did_not_arrive_is_left_behind(state: State) -> None:
    found = report(planned(TENANT, step("server", "web")), web=state)
    assert exit_code(found, "resume") == EXIT_INCOMPLETE


def test_a_revert_is_incomplete_only_where_something_stays() -> None:
    gone = report(planned(TENANT, skipped("ERROR", skip="ERROR")), t=State.REVERTED)
    assert exit_code(gone, "revert") == EXIT_DONE
    assert exit_code(report(gone.plan, t=State.KEPT), "revert") == EXIT_INCOMPLETE


def test_what_the_destination_refuses_is_no_edit_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pumphouse.plan.decide.KINDS", {"group": KINDS["group"]})
    monkeypatch.setattr("pumphouse.tasks.kind.Kind.lack", lambda *_: "")
    monkeypatch.setattr("pumphouse.tasks.kind.Kind.is_visible", lambda *_: False)
    monkeypatch.setattr("pumphouse.tasks.kind.Kind.refusal", lambda *_: "not here")
    ref = Ref("group", "g")
    settings = {"mappings": {}, "policies": {"on_conflict": "fail"}}
    steps = block(decide_all({ref: Record(ref, "ops")}, None, None, settings, {}, ()))
    plan = planned(TENANT, steps[ref])
    assert edits(plan) == ({}, frozenset())
    assert exit_code(report(plan), "resume") == EXIT_INCOMPLETE


def test_the_question_says_what_matters() -> None:
    plan = planned(TENANT, step("server", "web"))
    assert question([plan]) == (
        "Migrate tenant t from a to b: make 2 resources, stop 0 running servers at the source, "
        "copy at most 0 bytes, in about 0 s?"
    )
    assert question([plan, plan]).startswith(
        "Migrate 2 tenants one after the other (t, t) from a to b: make 4 "
    )

"""Decisions, blocking and units: what a plan makes of records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumphouse.errors import NotFoundError
from pumphouse.model import Action, Record, Ref, Step, Twin
from pumphouse.plan.decide import _policy, block, decide
from pumphouse.plan.file import load
from pumphouse.plan.lookup import find_tenant
from pumphouse.plan.units import units
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import Before, Migration
from pumphouse.tasks.glance.transfer import TransferLimits
from pumphouse.tasks.nova import server
from pumphouse.tasks.nova.nics import UNTOLD

FLAVOR = Record(Ref("flavor", "0123456789"), "m1.tiny")


def step(kind: str, name: str, action: Action = Action.CREATE, **kwargs: object) -> Step:
    return Step(Record(Ref(kind, name), name, **kwargs), action, "why", name)


def planned(*steps: Step) -> dict[str, Step]:
    blocked = block({item.ref: item for item in steps})
    return {str(ref): item for ref, item in blocked.items()}


@pytest.mark.parametrize(
    ("twins", "on_conflict", "action", "destination_id", "reason"),
    [
        ([], "fail", Action.CREATE, None, "not at the destination"),
        ([Twin("new", ours=True)], "fail", Action.REUSE, "new", "already at the destination"),
        (
            [Twin("new", ours=True, unfinished="no access")],
            "fail",
            Action.CREATE,
            "new",
            "unfinished: no access",
        ),
        ([Twin("x", ours=False, differences=("ram is 1",))], "fail", Action.CONFLICT, None, "(x): ram is 1"),
        ([Twin("x", ours=False)], "reuse", Action.REUSE, "x", "on_conflict is reuse"),
        ([Twin("x", ours=False)], "rename", Action.CREATE, None, "on_conflict is rename"),
        (
            [Twin("x", ours=False), Twin("y", ours=False)],
            "reuse",
            Action.CONFLICT,
            None,
            "2 candidates: x, y",
        ),
        (
            [Twin("x", ours=False), Twin("y", ours=True)],
            "fail",
            Action.REUSE,
            "y",
            "already at the destination",
        ),
        ([Twin("x", ours=True), Twin("y", ours=True)], "reuse", Action.CONFLICT, None, "2 candidates: x, y"),
    ],
)
def test_decision(
    twins: list[Twin], on_conflict: str, action: Action, destination_id: str | None, reason: str
) -> None:
    decision = decide(FLAVOR, twins, on_conflict)
    assert (decision.action, decision.destination_id) == (action, destination_id)
    assert reason in decision.reason


def test_renamed_resource_gets_a_name_that_is_free() -> None:
    assert decide(FLAVOR, [Twin("x", ours=False)], "rename").name == "m1.tiny-01234567"


def test_differences_of_our_own_twin_are_notes() -> None:
    decision = decide(FLAVOR, [Twin("x", ours=True, differences=("ram is 1",))], "fail")
    assert decision.notes == ("differs: ram is 1",)


def test_record_that_must_exist_is_a_conflict_when_it_does_not() -> None:
    record = Record(Ref("domain", "d"), "Default", must_exist="create it")
    assert decide(record, [], "rename").action is Action.CONFLICT


def test_skipped_record_keeps_its_reason() -> None:
    record = Record(Ref("server", "s"), "s", skip="its status is ERROR")
    assert decide(record, [Twin("x", ours=True)], "fail").reason == "its status is ERROR"


def test_what_needs_a_conflict_is_skipped_to_the_end_of_the_chain() -> None:
    flavor = step("flavor", "f", Action.CONFLICT)
    server = step("server", "s", needs=(flavor.ref,))
    port = step("port", "p", part_of=server.ref)
    other = step("server", "t")
    result = planned(flavor, server, port, other)
    assert result["server/s"].action is Action.SKIP
    assert result["server/s"].reason == "needs flavor f, which is in conflict"
    assert result["port/p"].reason == "needs server s, which is skipped"
    assert result["server/t"].action is Action.CREATE


def test_need_that_the_source_does_not_have_blocks() -> None:
    result = planned(step("server", "s", needs=(Ref("flavor", "gone"),)))
    assert result["server/s"].reason == "needs flavor/gone, which the source does not have"


def test_a_whole_and_its_parts_are_one_unit_and_circles_too() -> None:
    tenant = step("tenant", "t")
    one = step("security_group", "a", needs=(tenant.ref, Ref("security_group", "b")))
    two = step("security_group", "b", needs=(tenant.ref, one.ref))
    network = step("network", "n", needs=(tenant.ref,))
    subnet = step("subnet", "s", needs=(network.ref,), part_of=network.ref)
    made = units({item.ref: item for item in (subnet, network, two, one, tenant)})
    assert [unit.name for unit in made] == ["tenant/t", "network/n", "security_group/a"]
    assert [str(item.ref) for item in made[1].steps] == ["network/n", "subnet/s"]
    assert [unit.needs for unit in made] == [(), ("tenant/t",), ("tenant/t",)]


def test_what_is_last_comes_after_every_other_unit() -> None:
    tenant = step("tenant", "t")
    last = step("tenant_state", "t", needs=(tenant.ref,), last=True)
    server = step("server", "s", needs=(tenant.ref,))
    made = units({item.ref: item for item in (last, tenant, server)})
    assert made[-1].name == "tenant_state/t"
    assert made[-1].needs == ("server/s", "tenant/t")


SOME_KINDS = ["tenant", "network", "port", "server"]


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19), st.booleans()), max_size=60))
def test_units_come_after_those_they_need_whatever_needs_what(edges: list[tuple[int, int, bool]]) -> None:
    refs = [Ref(SOME_KINDS[n % 4], str(n)) for n in range(20)]
    needs = {ref: tuple(refs[b] for a, b, whole in edges if refs[a] == ref and not whole) for ref in refs}
    wholes = {refs[a]: refs[b] for a, b, whole in edges if whole and a != b}
    steps = {r: Step(Record(r, r.id, {}, needs[r], wholes.get(r)), Action.CREATE, "", r.id) for r in refs}
    made = units(steps)
    position = {unit.name: number for number, unit in enumerate(made)}
    assert sorted(item.ref for unit in made for item in unit.steps) == sorted(refs)
    assert all(position[need] < position[unit.name] for unit in made for need in unit.needs)
    home = {item.ref: unit.name for unit in made for item in unit.steps}
    assert all(home[ref] == home[whole] for ref, whole in wholes.items())
    assert all(
        home[need] in {*unit.needs, unit.name} for unit in made for s in unit.steps for need in s.record.needs
    )


class Projects:
    """Keystone's projects, as far as find_tenant asks for them."""

    def __init__(self, **names: str) -> None:
        self.names = names

    def get(self, tenant_id: str) -> SimpleNamespace:
        if tenant_id not in self.names:
            raise type("NotFound", (Exception,), {"http_status": 404})
        return SimpleNamespace(id=tenant_id)

    def list(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(id=i, name=name) for i, name in self.names.items()]


@pytest.mark.parametrize(
    ("wanted", "answer"),
    [
        ("1", "1"),
        ("web", "1"),
        ("twice", NotFoundError("2 tenants are named 'twice': 2, 3")),
        ("wab", NotFoundError("the source has no tenant 'wab'")),
    ],
)
def test_tenant_is_found_by_id_or_by_a_name_that_only_it_has(wanted: str, answer: object) -> None:
    projects = {"1": "web", "2": "twice", "3": "twice"}
    source = SimpleNamespace(keystone=SimpleNamespace(projects=Projects(**projects)), is_admin=True)
    if isinstance(answer, str):
        assert find_tenant(source, wanted) == answer
        return
    with pytest.raises(NotFoundError, match=str(answer)) as caught:
        find_tenant(source, wanted)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("kind", "on_conflict", "followed"),
    [
        ("flavor", "rename", "rename"),
        ("user", "rename", "fail"),
        ("network", "reuse", "reuse"),
        ("port", "reuse", "fail"),
        ("port", "fail", "fail"),
    ],
)
def test_a_kind_follows_the_policy_that_it_can(kind: str, on_conflict: str, followed: str) -> None:
    assert _policy(KINDS[kind], on_conflict) == followed


def test_a_server_that_an_earlier_run_stopped_is_planned_as_it_was() -> None:
    """With its NICs in the order that Nova told while it ran."""
    ref, untold = Ref("server", "s"), f"{UNTOLD}, ..."
    was = Record(ref, "web", {"status": "ACTIVE", "port_ids": ["b", "a"]})
    now = Record(ref, "web", {"status": "SHUTOFF", "port_ids": ["a", "b"]}, notes=("other", untold))
    stopped = frozenset({"server-s-retrieved", "server-s-stopped"})
    found = server.as_before(now, Before(was, stopped))
    assert found.data == was.data
    note = "is SHUTOFF because an earlier run stopped it: it arrives ACTIVE, as it was"
    assert found.notes == ("other", note)
    assert server.as_before(now, Before(replace(was, notes=(untold,)), stopped)).notes == (
        "other",
        untold,
        note,
    )
    other = replace(now, data={"status": "SHUTOFF", "port_ids": ["a", "c"]})
    assert server.as_before(other, Before(was, stopped)).data["port_ids"] == ["a", "c"]
    assert server.as_before(now, Before(was, frozenset({"server-s-retrieved"}))) == now
    assert server.as_before(now, Before(now, stopped)) == now
    assert server.as_before(was, Before(was, stopped)) == was


def test_a_revert_says_that_it_starts_what_the_run_has_stopped() -> None:
    plan = load(Path(__file__).parents[1] / "upgrade" / "a9465a8" / "plan.yaml").plan
    (step,) = (step for step in plan.steps() if step.ref.kind == "server")
    made = server.tasks(Migration(None, None, plan.settings, TransferLimits(1)), step)
    assert [line for item in made if (line := item.undo_line)] == ["start server web at the source again"]

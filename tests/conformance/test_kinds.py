"""What every kind of the registry has to do, shown of the sample tenant: a new kind needs no line here."""

from __future__ import annotations

from typing import Any

import pytest

from pumphouse.tasks import KINDS
from pumphouse.verify import KINDS as COMPARED
from tests.conformance.conftest import Story
from tests.real.listing import changes

# Neither has a place for a stamp, and each is nothing but its values: an equal one of the tenant is taken.
UNSTAMPED = ("address_group", "server_group")
COMPARED_KINDS = {kind.name: kind for kind in COMPARED}


def of_kind(resources: list[Any], kind: str) -> list[Any]:
    found = [item for item in resources if item["kind"] == kind]
    if not found:
        pytest.skip(f"the sample tenant has no {kind}")
    return found


def steps(plan: Any, kind: str) -> list[Any]:
    return of_kind([step for unit in plan["units"] for step in unit["steps"]], kind)


def ids(listing: dict[str, Any]) -> str:
    """All ids of a listing in one text: those of assignments and the like are made of several."""
    return " ".join(listing)


@pytest.mark.parametrize("kind", KINDS)
def test_it_arrives_whole(story: Story, kind: str) -> None:
    """Also after a run that was killed: nothing is made twice, nothing is left half made."""
    assert {item["outcome"] for item in of_kind(story.first["resources"], kind)} <= {
        "created",
        "reused",
        "skipped",
    }
    if kind in COMPARED_KINDS and COMPARED_KINDS[kind].fields:
        found = of_kind(story.verified["resources"], kind)
        assert {item["verdict"] for item in found} <= {"equal", "noted"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_time_makes_nothing(story: Story, kind: str) -> None:
    found = of_kind(story.second["resources"], kind)
    assert {item["outcome"] for item in found} <= {"reused", "skipped"}
    first = {item["old_id"]: item["new_id"] for item in story.first["resources"]}
    assert {item["old_id"]: item["new_id"] for item in found} == {
        item["old_id"]: first[item["old_id"]] for item in found
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_revert_removes_what_the_runs_made_and_nothing_else(story: Story, kind: str) -> None:
    for item in of_kind(story.first["resources"], kind):
        new_id = item["new_id"] or ""
        if new_id in ids(story.before):
            assert new_id in ids(story.after)
        elif new_id in ids(story.moved):
            assert new_id not in ids(story.after)


@pytest.mark.parametrize("kind", KINDS)
def test_a_namesake_is_no_twin(story: Story, kind: str) -> None:
    """It is a conflict; only where its name is unique by the service's rules, and all agrees, is it taken."""
    compared = COMPARED_KINDS.get(kind)
    named_by_the_service = compared is None or compared.shared or kind in ("tenant", "assignment", *UNSTAMPED)
    for step in steps(story.namesakes, kind):
        if step["action"] == "reuse":
            assert named_by_the_service or step["name"] in ("default", "public"), step
        elif step["action"] == "create":
            # The tenant itself is said to be ours, and so is what is left to be done to it.
            assert not step["name"] or step["id"] == story.sample.tenant_id, step
        else:
            assert step["reason"]


def test_the_run_was_killed_in_the_middle(story: Story) -> None:
    made = {item["new_id"] for item in story.first["resources"]} & {k.partition("/")[2] for k in story.killed}
    assert made
    assert any(item["outcome"] == "created" for item in story.first["resources"])


def test_the_destination_is_as_it_was(story: Story) -> None:
    found = changes(story.before, story.after)
    assert (found["added"], found["removed"]) == ([], [])

"""What every kind of the registry has to do, shown of the sample tenant: a new kind needs no line here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pumphouse.tasks import KINDS
from pumphouse.verify import KINDS as COMPARED
from tests.conformance.conftest import CHANGED, Story
from tests.real.breaks import BREAKS, bad_fields
from tests.real.listing import COLLECTIONS, SHOWN_IN, changes
from tests.real.mutation import SOME

# What bears no stamp of the source's id, and why none is needed to know it again.
UNSTAMPED = {
    "address_group": "it is nothing but its values: an equal one of the tenant is taken",
    "assignment": "it is nothing but the ids that it connects",
    "domain": "it is never made",
    "keypair": "a user has only one of a name",
    "membership": "it is nothing but the ids that it connects",
    "quota": "a tenant has only one of a name",
    "rbac_policy": "it is nothing but the ids that it connects",
    "server_group": "it is nothing but its values: an equal one of the tenant is taken",
}
# Neutron makes it in every tenant, and a migration fills it.
NEUTRONS_OWN = ("security_group", "default")
COMPARED_KINDS = {kind.name: kind for kind in COMPARED}


def of_kind(resources: list[Any], kind: str) -> list[Any]:
    """The resources of a kind, of which the sample tenant needs one at least: see lab/sample."""
    found = [item for item in resources if item["kind"] == kind]
    assert found, f"the sample tenant has no {kind}"
    return found


def steps(plan: Any, kind: str) -> list[Any]:
    return of_kind([step for unit in plan["units"] for step in unit["steps"]], kind)


def key(item: Any) -> str:
    """Where a listing of the destination has a resource of a report."""
    return f"{SHOWN_IN[item['kind']]}/{item['destination_id']}"


@pytest.mark.parametrize("kind", KINDS)
def test_it_arrives_whole(story: Story, kind: str) -> None:
    """Also after a run that was killed: nothing is made twice, nothing is left half made or left out."""
    found = of_kind(story.first["resources"], kind)
    assert {item["outcome"] for item in found} <= {"created", "reused"}
    assert [item for item in found if key(item) not in story.moved] == []


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_compared_and_equal_or_there_is_a_reason(story: Story, kind: str) -> None:
    compared = COMPARED_KINDS.get(kind)
    if KINDS[kind].not_compared:
        assert not (compared and compared.fields)
        return
    assert compared, f"verify does not compare {kind}"
    found = of_kind(story.verified["resources"], kind)
    assert {item["outcome"] for item in found} <= {"equal", "noted"}
    assert any(set(item["compared"]) == {field.name for field in compared.fields} for item in found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_time_makes_nothing(story: Story, kind: str) -> None:
    found = of_kind(story.second["resources"], kind)
    assert {item["outcome"] for item in found} == {"reused"}
    first = {item["source_id"]: item["destination_id"] for item in story.first["resources"]}
    assert {item["source_id"]: item["destination_id"] for item in found} == {
        item["source_id"]: first[item["source_id"]] for item in found
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_revert_removes_what_the_runs_made_and_nothing_else(story: Story, kind: str) -> None:
    found = {key(item) for item in of_kind(story.first["resources"], kind)}
    made = {there for there in found if there not in story.before}
    assert made or all(step["record"].get("must_exist") for step in steps(story.namesakes, kind))
    assert {there for there in found if there in story.after} == found - made


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_bears_a_stamp_or_there_is_a_reason(story: Story, kind: str) -> None:
    made = [item for item in of_kind(story.first["resources"], kind) if key(item) not in story.before]
    unstamped = [item for item in made if item["source_id"] not in json.dumps(story.moved[key(item)])]
    assert [item for item in unstamped if (kind, item["name"]) != NEUTRONS_OWN] == (
        made if kind in UNSTAMPED else []
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_namesake_is_no_twin(story: Story, kind: str) -> None:
    """It is a conflict; only where its name is unique by the service's rules, and all agrees, is it taken."""
    is_the_clouds = kind in COMPARED_KINDS and COMPARED_KINDS[kind].shared
    for step in steps(story.namesakes, kind):
        # The tenant itself is said to be ours, and so is what is left to be done to it.
        is_ours = step["id"] == story.sample.tenant_id or (kind, step["name"]) == NEUTRONS_OWN
        if step["action"] == "reuse":
            assert is_ours or is_the_clouds or kind in UNSTAMPED or step["record"].get("must_exist"), step
        elif step["action"] == "create":
            assert not step["name"] or is_ours, step
        else:
            assert step["reason"]


def test_the_listing_of_a_cloud_shows_every_kind() -> None:
    """A kind that no listing shows could be left behind, and no test would see it."""
    listed = {key for collections in COLLECTIONS.values() for _, key in collections}
    assert SHOWN_IN.keys() == KINDS.keys()
    assert set(SHOWN_IN.values()) <= {*listed, "keypairs", "memberships", "quotas"}


def test_what_somebody_broke_is_named_by_verify(story: Story) -> None:
    found = {
        (item["kind"], item["name"], item["outcome"]): bad_fields(item)
        for item in story.broken["resources"]
        if item["outcome"] not in ("equal", "noted")
    }
    changed = [each for each in BREAKS if each.act.__name__ in CHANGED]
    assert found == {
        (each.kind, each.name.format(shop=story.sample.name), each.verdict): each.fields for each in changed
    }


def test_what_the_destination_says_otherwise_is_noticed_by_verify(story: Story) -> None:
    assert story.noticed == {field: [True] for field in SOME}


def test_the_run_was_killed_in_the_middle(story: Story) -> None:
    made = {key(item) for item in story.first["resources"]} & story.killed.keys()
    assert made
    assert any(item["outcome"] == "created" for item in story.first["resources"])


def test_the_destination_is_as_it_was(story: Story) -> None:
    found = changes(story.before, story.after)
    assert (found["added"], found["removed"]) == ([], [])

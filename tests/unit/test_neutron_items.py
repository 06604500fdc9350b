"""Where the stamp of an item of Neutron is, and when an answer has what was asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pumphouse.model import Json
from pumphouse.tasks.base import holds, stamp_tag, without_stamps
from pumphouse.tasks.neutron import rbac_policy
from pumphouse.tasks.neutron.common import (
    TAGS_MAX,
    carries_stamp,
    is_stamped,
    is_unfinished,
    own_description,
    tag_notes,
    with_stamp,
)

FULL = [f"t{number:02}" for number in range(TAGS_MAX)]


@pytest.mark.parametrize("tags", [[], FULL[1:], FULL])
@pytest.mark.parametrize("description", ["", "front (old)", "x" * 198])
def test_an_item_keeps_its_tags_and_its_description_beside_the_stamp(
    tags: list[str], description: str
) -> None:
    written, text = with_stamp({"id": "a-1", "tags": tags, "description": description})
    made: Json = {"tags": written, "description": text}
    assert len(written) <= TAGS_MAX
    assert len(text) <= 255
    assert (is_stamped(made, "a-1"), is_stamped(made, "a-2")) == (True, False)
    assert carries_stamp(made)
    assert not is_unfinished(made)
    assert (without_stamps(made["tags"]), own_description(made)) == (tags, description)


def test_an_item_without_room_for_the_stamp_loses_one_tag_and_says_so() -> None:
    data: Json = {"id": "a" * 36, "tags": FULL, "description": "x" * 255}
    written, text = with_stamp(data)
    assert written == [*FULL[:-1], stamp_tag("a" * 36)]
    assert text == data["description"]
    (note,) = tag_notes(data)
    assert "instead of its tag t49, which is not carried" in note


@pytest.mark.parametrize(
    ("tags", "said"), [([], ()), (FULL[1:], ()), (FULL, ("at the end of its description",))]
)
def test_the_plan_says_where_a_stamp_is_that_is_no_tag(tags: list[str], said: tuple[str, ...]) -> None:
    notes = tag_notes({"id": "a-1", "tags": tags, "description": "web"})
    assert [note.rpartition(" is ")[2] for note in notes] == list(said)


@pytest.mark.parametrize(
    ("wanted", "actual", "expected"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        (8, "8", True),
        (None, "", True),
        (True, False, False),
        ([{"ip": "10.0.0.1"}], [{"ip": "10.0.0.1", "mac": "fa"}], True),
        ([{"a": 1}, {"a": 2}], [{"a": 2}, {"a": 1}], True),
        ([{"a": 1}, {"a": 2}], [{"a": 2}], False),
        ([], None, True),
        (["g"], None, False),
        ({"network_id": "n"}, {"network_id": "n", "enable_snat": True}, True),
        ({"network_id": "n"}, None, False),
    ],
)
def test_an_answer_holds_what_was_asked_for(wanted: Any, actual: Any, expected: bool) -> None:
    assert holds(wanted, actual) is expected


def test_what_is_shared_is_read_through_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one list call for all shares that are made at the same time."""
    batches: set[object] = set()
    items = SimpleNamespace(get=lambda item_id: {"project_id": "t"})
    cloud: Any = SimpleNamespace(neutron=None, batch=lambda fetch: batches.add(fetch) or items)
    monkeypatch.setattr(
        rbac_policy, "call", lambda *args: {"rbac_policy": {"id": "share", **args[-1]["rbac_policy"]}}
    )
    ensure = rbac_policy.EnsureRbacPolicy(cloud, provides="share")
    for object_id in ("n1", "n2"):
        data = {"object_type": "network", "object_id": object_id, "target_tenant": rbac_policy.EVERYBODY}
        ensure.create(data, {f"network-{object_id}-ensured": {"id": object_id, "made": True}})
    assert len(batches) == 1

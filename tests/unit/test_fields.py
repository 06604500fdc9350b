"""The fields of the kinds: each in one list, each answer looked through, and the page made of them."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from bench.fields import PAGE, README, page, readme
from pumphouse.model import Record, Ref
from pumphouse.plan.decide import decide_all
from pumphouse.plan.make import unknown_fields
from pumphouse.tasks import KINDS
from pumphouse.tasks.fields import Fields, Noted
from pumphouse.tasks.glance.common import custom_properties, image_data

FIELDS = Fields(
    carried="name tags addresses/*/ip metadata *",
    mapped={"addresses/*/subnet_id": "the subnet's twin"},
    derived="id owner_*",
    noted={
        "owner_note": "its note {value} is not carried",
        "parts/size": "a part of {value} is not carried",
        "hints/*": "{name} is not carried",
        "mode": Noted("its mode is not carried", ("usual", None)),
    },
)


@pytest.mark.parametrize("name", KINDS)
def test_every_field_of_a_kind_is_in_one_list(name: str) -> None:
    fields = KINDS[name].fields
    listed = [*fields.carried.split(), *fields.mapped, *fields.derived.split(), *fields.noted]
    assert listed
    assert [field for field, count in Counter(listed).items() if count > 1] == []
    # A field whose parts are named is not named itself.
    assert [field for field in listed if any(other.startswith(f"{field}/") for other in listed)] == []


def test_the_page_and_the_table_are_made_of_the_kinds() -> None:
    assert (PAGE.read_text(), README.read_text()) == (page(), readme()), (
        "make them anew: python -m bench.fields"
    )


@pytest.mark.parametrize(
    ("answer", "notes"),
    [
        ({"name": "a", "other": 1, "owner_id": "o"}, ()),
        ({"owner_note": "urgent"}, ("its note urgent is not carried",)),
        ({"owner_note": ""}, ()),
        ({"parts": [{"size": 1}, {"size": 2}, {"size": 1}, {"size": 0}]}, tuple(f"a part of {n} is not carried" for n in (1, 2))),
        ({"parts": None}, ()),
        ({"hints": {"group": ["g"]}}, ("hints/group is not carried",)),
        ({"mode": "usual"}, ()),
        ({"mode": False}, ("its mode is not carried",)),
    ],
)  # fmt: skip
def test_what_is_set_and_not_carried_is_noted(answer: dict[str, object], notes: tuple[str, ...]) -> None:
    assert FIELDS.notes(answer) == notes
    assert FIELDS.unknown(answer) == set()


def test_what_is_in_no_list_is_unknown() -> None:
    closed = Fields(carried="name addresses/*/ip", derived="addresses/*/subnet_id")
    lan = {"lan": [{"ip": "192.0.2.1", "subnet_id": "s", "zone": "z"}, {"zone": "y"}], "wan": []}
    assert closed.unknown({"name": "a", "colour": None, "addresses": lan}) == {"colour", "addresses/*/zone"}


def test_the_longest_name_with_an_end_left_open_says_it() -> None:
    fields = Fields(carried="owner_specified.*", noted={"owner_*": "{name}", "*": "other {name}"})
    answer = {"owner_specified.a/b": "1", "owner_name": "2", "a/b": "3"}
    assert fields.notes(answer) == ("owner_name", "other a/b")


def record(name: str, **fields: object) -> Record:
    return Record(Ref("server_group", name), name, {"project_id": "t"}, answer={"name": name, **fields})


def test_a_field_that_is_not_known_is_one_note_of_the_plan() -> None:
    found = [record("a", colour="red", metadata={}), record("b", colour=None), record("c")]
    assert list(unknown_fields(found)) == [
        "field colour is not known to Pumphouse and not carried: server group, 2 times"
    ]


def test_a_plan_says_what_is_not_carried_and_keeps_no_answer() -> None:
    made, other = record("a", metadata={"a": "b"}), record("b")
    must_exist = Record(
        Ref("server_group", "c"), "c", {"project_id": "t"}, must_exist="no", answer=made.answer
    )
    nowhere = SimpleNamespace(name="destination", is_admin=True, has=lambda service: False)
    settings = {"mappings": {}, "policies": {"on_conflict": "fail"}}
    steps = decide_all({r.ref: r for r in (made, other, must_exist)}, nowhere, nowhere, settings, {}, ())
    notes = {ref.id: step.record.notes for ref, step in steps.items()}
    assert notes == {"a": ("its metadata are not carried: no call of Nova sets them",), "b": (), "c": ()}
    assert [step.record.answer for step in steps.values()] == [{}, {}, {}]


def test_what_is_said_to_become_of_the_properties_of_an_image_is_done() -> None:
    image = {
        "owner_id": "u",
        "owner_team": "shop",
        "owner_specified.openstack.md5": "",
        "os_glance_import_task": "t",
    }
    image |= {
        "cinder_encryption_key_id": "k",
        "img_signature": "s",
        "pumphouse_source_id": "i",
        "vendor": "v",
    }
    properties = {"owner_id": "u", "owner_team": "shop", "owner_specified.openstack.md5": "", "vendor": "v"}
    assert custom_properties(image) == properties
    snapshot = {"image_type": "snapshot", "instance_uuid": "s"}
    assert custom_properties({**image, **snapshot}) == {
        k: properties[k] for k in properties if k != "owner_id"
    }
    said = KINDS["image"].fields.notes(image)
    assert [note.partition(" is not carried")[0] for note in said] == [
        "cinder_encryption_key_id",
        "its signature",
    ]


def test_the_stamp_of_an_earlier_migration_is_no_tag_of_an_image() -> None:
    image = {"id": "i", "owner": "t", "status": "active", "tags": ["pumphouse_source_id=o/i", "gold"]}
    assert image_data(image)["tags"] == ["gold"]

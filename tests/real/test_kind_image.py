"""What closes an image, between two real Glances: visibility, members, hidden, protected, deactivated."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from pumphouse.cloud import Cloud
from pumphouse.model import Action, Json, Ref
from pumphouse.tasks.base import STAMP, ensured_id
from pumphouse.tasks.glance import image
from pumphouse.tasks.glance.common import list_images, stamp_of
from pumphouse.tasks.keystone import domain, tenant
from tests.real.by_hand import ByHand, connect

# What Nova writes into the snapshot of a server, among other things.
SNAPSHOT = {"image_type": "snapshot", "instance_uuid": str(uuid4())}
FORMS: dict[str, Json] = {
    "private": {"visibility": "private", "min_disk": 2, "hw_disk_bus": "scsi", "owner_specified.a.b": "c"},
    "public": {"visibility": "public", "protected": True, "tags": ["a", "b"]},
    "community": {"visibility": "community", "os_hidden": True},
    "shared": {"visibility": "shared", "min_ram": 32},
    "withdrawn": {"visibility": "private", "protected": True},
    # Whatever its owner calls them, as long as Nova did not.
    "gold": {
        "image_type": "gold",
        "user_id": "u-77",
        "base_image_ref": "golden-v3",
        "owner_team": "payments",
        "img_signature_note": "signed by hand",
        "os_hash_note": "none",
        "pumphouse_note": "the house",
    },
    "snapshot": {**SNAPSHOT, "owner_team": "payments"},
    # As many as Glance takes by default: none is left for our stamp.
    "full": {f"property{number}": "value" for number in range(128)},
}
FIELDS = ("visibility", "protected", "os_hidden", "status", "min_disk", "min_ram", "size", "os_hash_value")
STATUSES = {"yes": "accepted", "no": "rejected", "maybe": "pending"}


@pytest.fixture
def world(lab: Any) -> Iterator[SimpleNamespace]:
    clouds, tag = connect(lab), f"images-{uuid4().hex[:8]}"
    project = clouds.source.keystone.projects.create(tag, "default")
    partners = {
        cloud.name: {name: cloud.keystone.projects.create(f"{tag}-{name}", "default").id for name in STATUSES}
        for cloud in (clouds.source, clouds.destination)
    }
    found = SimpleNamespace(source=clouds.source, destination=clouds.destination, tag=tag, partners=partners)
    found.tenant_id = project.id
    found.images = {name: make(clouds.source, project.id, name, form) for name, form in FORMS.items()}
    for name, status in STATUSES.items():
        partner = partners["source"][name]
        clouds.source.glance.image_members.create(found.images["shared"], partner)
        clouds.source.glance.image_members.update(found.images["shared"], partner, status)
    clouds.source.glance.images.deactivate(found.images["withdrawn"])
    yield found
    for cloud in (clouds.source, clouds.destination):
        for left in (p for p in cloud.keystone.projects.list() if p.name.startswith(tag)):
            for item in list_images(cloud, owner=left.id):
                cloud.glance.images.update(item["id"], protected=False)
                cloud.glance.images.delete(item["id"])
            cloud.keystone.projects.delete(left)


def make(cloud: Cloud, tenant_id: str, name: str, form: Json) -> str:
    fields = {"name": name, "owner": tenant_id, "disk_format": "raw", "container_format": "bare"}
    made = cloud.glance.images.create(**{**fields, **form})
    cloud.glance.images.upload(made["id"], io.BytesIO(name.encode() * 1000))
    return str(made["id"])


def test_every_form_arrives_and_a_second_time_makes_nothing(world: SimpleNamespace) -> None:
    by_hand = ByHand(world.source, world.destination, world.tenant_id, (domain, tenant, image))
    first = by_hand.steps()
    results = by_hand.run(first)
    for name, image_id in world.images.items():
        wanted = world.source.glance.images.get(image_id)
        actual = world.destination.glance.images.get(ensured_id(results, "image", image_id))
        assert {f: actual[f] for f in FIELDS} == {f: wanted[f] for f in FIELDS}, name
        stamp = {f"{STAMP}={image_id}/{actual['id']}"} if name == "full" else set()
        assert set(actual["tags"]) == {*wanted["tags"], *stamp}
        assert actual["owner"] == ensured_id(results, "tenant", world.tenant_id)
        given = {key: value for key, value in FORMS[name].items() if key not in (*FIELDS, "tags", *SNAPSHOT)}
        if name != "snapshot":
            given |= {key: FORMS[name][key] for key in SNAPSHOT if key in FORMS[name]}
        assert {key: actual.get(key) for key in given} == given, name
        assert name != "snapshot" or not SNAPSHOT.keys() & actual.keys()
    (left,) = first[Ref("image", world.images["snapshot"])].notes
    assert left == "what Nova wrote of its server is not carried: image_type, instance_uuid"
    shared = ensured_id(results, "image", world.images["shared"])
    members = world.destination.glance.image_members.list(shared)
    expected = {world.partners["destination"][name]: status for name, status in STATUSES.items()}
    assert {member["member_id"]: member["status"] for member in members} == expected
    again = by_hand.steps()
    assert {step.action for step in again.values()} == {Action.REUSE}
    assert {step.notes for ref, step in again.items() if ref.kind == "image"} == {()}


def test_a_share_is_made_up_for_once_the_tenant_is_there(world: SimpleNamespace) -> None:
    by_hand = ByHand(world.source, world.destination, world.tenant_id, (domain, tenant, image))
    late = world.source.keystone.projects.create(f"{world.tag}-late", "default")
    world.source.glance.image_members.create(world.images["shared"], late.id)
    ref, note = Ref("image", world.images["shared"]), f"not shared with tenant {late.name}: it is not at the"
    steps = by_hand.steps()
    assert any(said.startswith(note) for said in steps[ref].notes)
    shared = ensured_id(by_hand.run(steps), "image", ref.id)
    assert by_hand.steps()[ref].action is Action.REUSE
    arrived = world.destination.keystone.projects.create(late.name, "default")
    again = by_hand.steps()
    assert (again[ref].action, again[ref].destination_id) == (Action.CREATE, shared)
    by_hand.run(again)
    assert arrived.id in {m["member_id"] for m in world.destination.glance.image_members.list(shared)}
    assert by_hand.steps()[ref].action is Action.REUSE


def test_a_stamp_that_others_have_is_not_ours(world: SimpleNamespace) -> None:
    """Nova copies the properties of the image that a server booted from into the snapshots of the server."""
    empty = ByHand(world.source, world.destination, world.tenant_id, (domain, tenant))
    by_hand = ByHand(world.source, world.destination, world.tenant_id, (domain, tenant, image))
    source_id = world.images["private"]
    ref, stamp = Ref("image", source_id), {STAMP: source_id}
    tenant_id = ensured_id(empty.run(empty.steps()), "tenant", world.tenant_id)
    theirs = [
        make(world.destination, tenant_id, "golden", {**SNAPSHOT, **stamp}),
        make(
            world.destination,
            world.partners["destination"]["yes"],
            "golden",
            {"visibility": "public", **stamp},
        ),
    ]
    # As Cinder does to an image of a volume that was made from one.
    other = make(world.destination, tenant_id, "uploaded", {"visibility": "private", **stamp})
    steps = by_hand.steps()
    assert (steps[ref].action, steps[ref].destination_id) == (Action.CREATE, None)
    made = ensured_id(by_hand.run(steps), "image", source_id)
    assert made not in theirs
    assert by_hand.steps()[ref].destination_id == made
    of_today = {"visibility": "private", STAMP: world.destination.glance.images.get(made)[STAMP]}
    theirs += [other, make(world.destination, tenant_id, "copied", of_today)]
    assert by_hand.steps()[ref].destination_id == made
    assert {theirs[0], theirs[-1]} <= set(image.strangers(world.destination, tenant_id))
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(steps, fail=True)
    assert [world.destination.glance.images.get(image_id)["status"] for image_id in theirs] == ["active"] * 4


def test_what_a_twin_lacks_is_given_to_it(world: SimpleNamespace) -> None:
    by_hand = ByHand(world.source, world.destination, world.tenant_id, (domain, tenant, image))
    results, images = by_hand.run(by_hand.steps()), world.destination.glance.images
    gold, public, shared = (
        ensured_id(results, "image", world.images[n]) for n in ("gold", "public", "shared")
    )
    images.update(gold, remove_props=["owner_team"], os_distro="of the owner's choice")
    images.update(public, tags=["b", "c"])
    images.update(shared, visibility="private")
    steps = by_hand.steps()
    unfinished = {ref.id for ref, step in steps.items() if step.action is Action.CREATE}
    assert unfinished == {world.images[name] for name in ("gold", "public", "shared")}
    by_hand.run(steps)
    mended = images.get(gold)
    assert (mended["owner_team"], mended["os_distro"]) == ("payments", "of the owner's choice")
    assert sorted(images.get(public)["tags"]) == ["a", "b", "c"]
    assert images.get(shared)["visibility"] == "shared"
    assert len(list(world.destination.glance.image_members.list(shared))) == len(STATUSES)
    assert {step.action for step in by_hand.steps().values()} == {Action.REUSE}


@pytest.mark.exhaustive
def test_a_failure_takes_back_even_what_is_protected(world: SimpleNamespace) -> None:
    by_hand = ByHand(world.source, world.destination, world.tenant_id, (domain, tenant, image))
    steps = by_hand.steps()
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(steps, fail=True)
    ours = {str(ref.id) for ref in steps if ref.kind == "image"}
    assert [i for i in list_images(world.destination) if stamp_of(i) in ours] == []
    assert Ref("image", world.images["public"]) in steps

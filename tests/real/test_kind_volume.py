"""Volumes move with their bytes: detached, attached, booted from; and nothing that served for it stays."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from taskflow.exceptions import WrappedFailure

from lab import Lab
from lab.disks import sha512, sparse_sha512, volume_file
from lab.populate import Sample, populate, remove
from lab.proof import compare, facts
from lab.sample.base import until
from lab.sample.sizes import Sizes
from pumphouse.cloud import Cloud, call, get_all
from pumphouse.errors import ConfigError
from pumphouse.model import Action, Json, Ref, Step, symbol
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import STAMP
from pumphouse.tasks.cinder import volume, volume_snapshot
from pumphouse.tasks.cinder.common import SNAPSHOTS, UNFINISHED, VOLUMES, act, owned
from pumphouse.tasks.cinder.common import remove as remove_item
from pumphouse.tasks.cinder.volume_make import stamp_of
from pumphouse.tasks.glance.common import list_images
from pumphouse.tasks.keystone import domain, tenant
from tests.real.by_hand import ByHand, Clouds, connect

POLICIES = {"volume_format": "qcow2"}


@dataclass
class Shelf:
    """A tenant of the source with volumes that a test makes, and its twin."""

    lab: Lab
    clouds: Clouds
    name: str
    tenant_id: str
    types: list[tuple[Cloud, str]] = field(default_factory=list)

    def make(self, mib: int = 2, **fields: Any) -> Json:
        """A volume of the tenant, with some bytes in it."""
        with self.clouds.source.in_tenant(self.tenant_id) as cloud:
            body = {"name": "data", "size": 1, **fields}
            made = call(cloud.cinder, "POST", "/volumes", {"volume": body})["volume"]
        until(lambda: self.read(made["id"])["status"] == "available", "a volume")
        with volume_file(self.lab.dir, "source", made["id"]).open("r+b") as file:
            file.seek(300 << 20)
            file.write(uuid.UUID(made["id"]).bytes * (mib << 16))
        return self.read(made["id"])

    def make_type(self, cloud: Cloud, name: str, **specs: str) -> str:
        """A volume type of a cloud."""
        body = {"volume_type": {"name": name, "extra_specs": specs}}
        type_id = str(call(cloud.cinder, "POST", "/types", body)["volume_type"]["id"])
        self.types.append((cloud, type_id))
        return type_id

    def read(self, volume_id: str, cloud: Cloud | None = None) -> Json:
        found: Json = call((cloud or self.clouds.source).cinder, "GET", f"/volumes/{volume_id}")["volume"]
        return found

    def carry(self, mappings: Json | None = None, **policies: Any) -> ByHand:
        kinds = [domain, tenant, volume]
        both = self.clouds.source, self.clouds.destination
        settings = {"policies": {**POLICIES, **policies}, "mappings": mappings or {}}
        return ByHand(*both, self.tenant_id, kinds, **settings)

    def migrate(self, **options: Any) -> dict[str, Any]:
        carry = self.carry(**options)
        return carry.run(carry.steps())

    def step(self, made: Json, **options: Any) -> Step:
        return self.carry(**options).steps()[Ref("volume", made["id"])]

    @property
    def twin_tenant(self) -> str:
        projects = self.clouds.destination.keystone.projects.list()
        return next(str(p.id) for p in projects if getattr(p, STAMP, None) == self.tenant_id)

    def twin(self, made: Json) -> Json:
        """The one volume of the destination that carries the stamp."""
        there = owned(self.clouds.destination, VOLUMES, self.twin_tenant)
        (found,) = [item for item in there if stamp_of(item) == made["id"]]
        return found

    def files(self, made: Json) -> tuple[Path, Path]:
        """The bytes of a volume and of its twin."""
        twin = self.twin(made)["id"]
        return volume_file(self.lab.dir, "source", made["id"]), volume_file(self.lab.dir, "destination", twin)


@pytest.fixture(scope="module")
def clouds(lab: Lab) -> Clouds:
    return connect(lab)


def temporaries(clouds: Clouds) -> list[str]:
    """What of the copies of volumes is in either cloud."""
    both = (clouds.source, clouds.destination)
    images = [
        i["name"] for c in both for i in list_images(c) if (i["name"] or "").startswith("pumphouse-volume-")
    ]
    items = [
        item["name"]
        for cloud in both
        for what in (VOLUMES, SNAPSHOTS)
        for item in owned(cloud, what, cloud.project_id)
        if (item["name"] or "").startswith("pumphouse-")
    ]
    return images + items


@pytest.fixture
def shelf(lab: Lab, clouds: Clouds) -> Iterator[Shelf]:
    name = f"shelf-{uuid.uuid4().hex[:8]}"
    tenant_id = str(clouds.source.keystone.projects.create(name, "default").id)
    shelf = Shelf(lab, clouds, name, tenant_id)
    yield shelf
    for cloud in (clouds.source, clouds.destination):
        for project in cloud.keystone.projects.list():
            if project.name == name:
                for item in owned(cloud, VOLUMES, project.id):
                    remove_item(cloud, VOLUMES, project.id, item["id"])
                cloud.keystone.projects.delete(project)
    for cloud, type_id in shelf.types:
        call(cloud.cinder, "DELETE", f"/types/{type_id}")
    assert temporaries(clouds) == []


def test_a_detached_volume_arrives_whole(shelf: Shelf) -> None:
    made = shelf.make(name="", description="Käse", metadata={"a": "ü", "keep": "7 years"})
    act(shelf.clouds.source, made["id"], "os-update_readonly_flag", readonly=True)
    results = shelf.migrate()
    twin = shelf.twin(made)
    before, after = map(sparse_sha512, shelf.files(made))
    assert before == after
    same = (
        "name",
        "description",
        "size",
        "volume_type",
        "availability_zone",
        "bootable",
        "status",
        "multiattach",
    )
    assert {key: twin[key] for key in same} == {key: made[key] for key in same}
    assert twin["bootable"] == "false"
    assert twin["metadata"] == {
        "a": "ü",
        "keep": "7 years",
        "readonly": "True",
        STAMP: f"{made['id']}/{twin['id']}",
    }
    assert "volume_image_metadata" not in twin
    assert results[symbol(Ref("volume", made["id"]), "copies-removed")] == {"notes": []}
    assert shelf.read(made["id"])["status"] == "available"
    assert shelf.step(made).action is Action.REUSE
    assert shelf.step(made).notes == ()


@pytest.mark.exhaustive
def test_the_raw_way_is_byte_for_byte_too(shelf: Shelf) -> None:
    made = shelf.make()
    shelf.migrate(volume_format="raw")
    before, after = map(sha512, shelf.files(made))
    assert before == after


@pytest.mark.exhaustive
def test_a_bootable_volume_keeps_its_image_metadata_and_gets_no_other(shelf: Shelf) -> None:
    blank = shelf.make(name="blank")
    made = shelf.make(name="boot")
    act(shelf.clouds.source, made["id"], "os-set_bootable", bootable=True)
    metadata = {"hw_disk_bus": "scsi", "image_id": "f" * 32, "size": "4096", "os_distro": "debian"}
    act(shelf.clouds.source, made["id"], "os-set_image_metadata", metadata=metadata)
    step = shelf.step(made)
    assert any("image_id" in note for note in step.notes)
    shelf.migrate()
    twin = shelf.twin(made)
    assert twin["bootable"] == "true"
    assert twin["volume_image_metadata"] == {key: metadata[key] for key in metadata if key != "image_id"}
    assert shelf.twin(blank)["bootable"] == "false"
    assert "volume_image_metadata" not in shelf.twin(blank)


@pytest.mark.exhaustive
def test_types_go_by_mapping_then_name_then_default(shelf: Shelf) -> None:
    source, destination = shelf.clouds.source, shelf.clouds.destination
    old, new, odd = (f"{shelf.name}-{suffix}" for suffix in ("old", "new", "odd"))
    shelf.make_type(source, old)
    shelf.make_type(source, odd)
    shelf.make_type(destination, new)
    mapped, lost = shelf.make(name="mapped", volume_type=old), shelf.make(name="lost", volume_type=odd)
    with pytest.raises(ConfigError, match="nowhere"):
        shelf.step(mapped, mappings={"volume_types": {old: "nowhere"}})
    mappings = {"volume_types": {old: new}}
    assert any("standard, the default" in note for note in shelf.step(lost, mappings=mappings).notes)
    assert shelf.step(mapped, mappings=mappings).notes == ()
    shelf.migrate(mappings=mappings)
    assert (shelf.twin(mapped)["volume_type"], shelf.twin(lost)["volume_type"]) == (new, "standard")


@pytest.mark.exhaustive
def test_multiattach_goes_by_the_type(shelf: Shelf) -> None:
    multi = f"{shelf.name}-multi"
    shelf.make_type(shelf.clouds.source, multi, multiattach="<is> True")
    made = shelf.make(volume_type=multi)
    assert made["multiattach"] is True
    step = shelf.step(made)
    assert step.action is Action.CREATE
    assert any("attached to several servers" in note for note in step.notes)
    shelf.make_type(shelf.clouds.destination, multi, multiattach="<is> True")
    assert shelf.step(made).notes == ()
    shelf.migrate()
    assert shelf.twin(made)["multiattach"] is True


@pytest.mark.exhaustive
def test_a_snapshot_becomes_a_volume_where_it_is_asked_for(shelf: Shelf) -> None:
    made, source = shelf.make(), shelf.clouds.source
    with source.in_tenant(shelf.tenant_id) as cloud:
        body = {"volume_id": made["id"], "name": "monday", "metadata": {"kept": "yes"}, "description": "Then"}
        taken = call(cloud.cinder, "POST", "/snapshots", {"snapshot": body})["snapshot"]
    until(lambda: owned(source, SNAPSHOTS, shelf.tenant_id)[0]["status"] == "available", "a snapshot")
    then = sparse_sha512(shelf.lab.cloud_dir("source") / "cinder" / "volumes" / f"snapshot-{taken['id']}")
    with volume_file(shelf.lab.dir, "source", made["id"]).open("r+b") as file:
        file.write(b"tuesday")
    try:
        carry = shelf.carry(volume_snapshots="copy")
        carry.kinds[volume_snapshot.KIND.name] = volume_snapshot.KIND
        carry.run(carry.steps())
    finally:
        remove_item(source, SNAPSHOTS, shelf.tenant_id, taken["id"])
    twin = shelf.twin(taken)
    assert (twin["name"], twin["description"], twin["size"], twin["bootable"]) == (
        "monday",
        "Then",
        1,
        "false",
    )
    assert twin["metadata"] == {"kept": "yes", STAMP: f"{taken['id']}/{twin['id']}"}
    assert sparse_sha512(volume_file(shelf.lab.dir, "destination", twin["id"])) == then
    before, after = map(sparse_sha512, shelf.files(made))
    assert then != before == after


@pytest.mark.exhaustive
def test_odd_states_are_skipped_with_their_reason(shelf: Shelf) -> None:
    made = shelf.make()
    act(shelf.clouds.source, made["id"], "os-reset_status", status="error")
    step = shelf.step(made)
    assert (step.action, "error" in step.reason) == (Action.SKIP, True)
    act(shelf.clouds.source, made["id"], "os-reset_status", status="available")


@pytest.mark.exhaustive
def test_a_failed_unit_leaves_nothing(shelf: Shelf) -> None:
    made = shelf.make()
    carry = shelf.carry()
    with pytest.raises(Exception, match="on purpose"):
        carry.run(carry.steps(), fail=True)
    assert temporaries(shelf.clouds) == []
    everyone = get_all(shelf.clouds.destination.cinder, "/volumes/detail", "volumes", all_tenants=1)
    assert [item["id"] for item in everyone if stamp_of(item) == made["id"]] == []
    assert {**shelf.read(made["id"]), "updated_at": None} == {**made, "updated_at": None}


@pytest.mark.exhaustive
def test_a_volume_of_the_same_name_is_a_conflict(shelf: Shelf) -> None:
    made = shelf.make(name="same")
    carry = shelf.carry()
    steps = carry.steps()
    carry.run({ref: step for ref, step in steps.items() if ref.kind != "volume"})
    with shelf.clouds.destination.in_tenant(shelf.twin_tenant) as cloud:
        call(cloud.cinder, "POST", "/volumes", {"volume": {"name": "same", "size": 1}})
    assert shelf.step(made).action is Action.CONFLICT
    assert shelf.carry().steps("rename")[Ref("volume", made["id"])].action is Action.CREATE


def tasks_of(shelf: Shelf, made: Json) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tasks of a volume by their verb, and what the tasks before them gave."""
    carry = shelf.carry()
    steps = carry.steps()
    given = carry.run({ref: step for ref, step in steps.items() if ref.kind != "volume"})
    ref = Ref("volume", made["id"])
    step = carry.steps()[ref]
    return {
        task.name.removeprefix(symbol(ref, "")): task for task in volume.tasks(carry.migration, step)
    }, given


@pytest.mark.exhaustive
def test_tasks_that_died_find_or_remove_what_they_made(shelf: Shelf) -> None:
    """Each task is executed twice as after a kill: the second finds what the first made."""
    made = shelf.make()
    tasks, given = tasks_of(shelf, made)
    data = tasks["retrieved"].execute(made["id"])
    exported = tasks["exported"].execute(data, data)
    assert tasks["exported"].execute(data, data) == exported
    image_data = tasks["image-retrieved"].execute(data, exported)
    image = tasks["image-ensured"].execute(image_data, **given)
    assert tasks["image-ensured"].execute(image_data, **given) == image
    tasks["image-uploaded"].execute(image_data, image)
    given = {**given, symbol(Ref("volume", made["id"]), "image-ensured"): image}
    ensured = tasks["ensured"].execute(data, **given)
    assert tasks["ensured"].execute(data, **given) == ensured
    assert ensured["made"] is True
    # Another attempt does not take what this one left half made.
    assert UNFINISHED in shelf.twin(made)["metadata"]
    assert shelf.step(made).action is Action.CREATE
    again = tasks["ensured"].execute({**data, "attempt": "another"}, **given)
    assert again["id"] != ensured["id"]
    assert shelf.twin(made)["id"] == again["id"]
    # A task that died without a result takes back what it made; and it may be asked twice.
    for _ in range(2):
        assert tasks["ensured"].revert(None, {**data, "attempt": "another"}, **given) is None
    assert owned(shelf.clouds.destination, VOLUMES, shelf.twin_tenant) == []
    for _ in range(2):
        assert tasks["image-ensured"].revert(None, image_data, **given) is None
        assert tasks["exported"].revert(data=data, origin=data) is None
    assert temporaries(shelf.clouds) == []
    assert shelf.read(made["id"])["status"] == "available"


@pytest.fixture(scope="module")
def sample(lab: Lab) -> Iterator[Sample]:
    sizes = Sizes(users=1, images=1, networks=1, security_groups=1, image_mib=1, disk_mib=1)
    made = populate(lab.clouds_yaml, f"vols-{uuid.uuid4().hex[:6]}", sizes)
    yield made
    for cloud in ("source", "destination"):
        remove(lab.clouds_yaml, made.name, cloud=cloud)


@pytest.fixture
def whole(clouds: Clouds, sample: Sample) -> ByHand:
    return ByHand(
        clouds.source, clouds.destination, sample.tenant_id, list(KINDS.values()), policies=POLICIES
    )


@pytest.mark.exhaustive
def test_servers_with_volumes(lab: Lab, clouds: Clouds, sample: Sample, whole: ByHand) -> None:
    """They fail and leave nothing; then they arrive, in order, booted from them; then nothing is left to do."""
    before = facts(lab.dir, "source", sample.tenant_id)
    identity = {ref: step for ref, step in whole.steps().items() if ref.kind not in ("server", "volume")}
    whole.run(identity)
    twin = next(str(p.id) for p in clouds.destination.keystone.projects.list() if p.name == sample.name)
    there = facts(lab.dir, "destination", twin)
    with pytest.raises((WrappedFailure, RuntimeError), match="on purpose"):
        whole.run(whole.steps(), fail=True)
    assert facts(lab.dir, "destination", twin) == there
    assert temporaries(clouds) == []
    assert facts(lab.dir, "source", sample.tenant_id) == before

    whole.run(whole.steps())
    assert compare(before, facts(lab.dir, "destination", twin)) == []
    assert temporaries(clouds) == []
    volumes = owned(clouds.destination, VOLUMES, twin)
    assert len(volumes) == 5
    assert not any(UNFINISHED in item["metadata"] for item in volumes)
    assert {step.action for ref, step in whole.steps().items() if ref.kind in ("server", "volume")} == {
        Action.REUSE
    }


@pytest.mark.exhaustive
def test_a_volume_attached_later_follows_its_server(
    lab: Lab, clouds: Clouds, sample: Sample, whole: ByHand
) -> None:
    web = sample.made["server"]["web"]
    with clouds.source.in_tenant(sample.tenant_id) as cloud:
        late = call(cloud.cinder, "POST", "/volumes", {"volume": {"name": "late", "size": 1}})["volume"]["id"]

    def status() -> str:
        return str(call(clouds.source.cinder, "GET", f"/volumes/{late}")["volume"]["status"])

    until(lambda: status() == "available", "a volume")
    clouds.source.nova.volumes.create_server_volume(web, late, "/dev/vdd")
    until(lambda: status() == "in-use", "an attached volume")
    with volume_file(lab.dir, "source", late).open("r+b") as file:
        file.write(b"late")

    steps = whole.steps()
    ours = {ref: step for ref, step in steps.items() if ref.kind in ("tenant", "server", "volume")}
    assert [ref for ref, step in ours.items() if step.action is Action.CREATE] == [Ref("volume", late)]
    results = whole.run(ours)
    assert results[symbol(Ref("volume", late), f"attached-{web}")]["made"] is True
    twin = results[symbol(Ref("volume", late), "ensured")]["id"]
    (wanted,) = call(clouds.source.cinder, "GET", f"/volumes/{late}")["volume"]["attachments"]
    (attached,) = call(clouds.destination.cinder, "GET", f"/volumes/{twin}")["volume"]["attachments"]
    # Nova gives a device the prefix of the server's root device.
    assert attached["device"] == wanted["device"] == "/dev/sdd"

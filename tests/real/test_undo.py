"""Tasks that die in the middle: executed again they find what they had made, reverted they take it back."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lab import Lab
from lab.disks import server_disk, write_bytes
from lab.populate import Sample, populate, remove
from lab.sample.base import Sizes
from pumphouse.errors import PumphouseError
from pumphouse.model import Action, Json, Ref, Step, symbol
from pumphouse.run.revert import strangers
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import STAMP
from pumphouse.tasks.glance import image
from pumphouse.tasks.glance.common import list_images, stamp_of
from pumphouse.tasks.keystone import domain, tenant
from pumphouse.tasks.neutron import security_group
from pumphouse.tasks.neutron.common import NETWORKS, SECURITY_GROUPS
from pumphouse.tasks.nova import server
from pumphouse.tasks.nova.boot_key import KeypairLoan, operators_keypair
from tests.real.by_hand import ByHand, Clouds, connect
from tests.real.listing import changes, listing

# Each task by itself; tests/faults has whole runs that die.
pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def clouds(lab: Lab) -> Clouds:
    return connect(lab)


@dataclass
class Moved:
    """A tenant of which everything but its server has arrived."""

    lab: Lab
    clouds: Clouds
    tenant_id: str
    carry: ByHand
    results: dict[str, Any]

    def step(self) -> Step:
        return next(step for ref, step in self.carry.steps().items() if ref.kind == "server")

    def tasks(self, step: Step | None = None) -> dict[str, Any]:
        """The tasks of the server by their verb."""
        step = step or self.step()
        made = server.tasks(self.carry.migration, step)
        return {task.name.removeprefix(symbol(step.ref, "")): task for task in made}

    def data(self) -> Json:
        step = self.step()
        return self.tasks(step)["retrieved"].execute(step.ref.id, step.record.data["status"])

    def key(self) -> Any:
        """The keypair of the server, at the source."""
        data = self.data()
        return self.clouds.source.nova.keypairs.get(data["key_name"], user_id=data["user_id"])

    def servers(self) -> list[Any]:
        options = {"all_tenants": 1, "project_id": self.twin_tenant}
        return self.clouds.destination.nova.servers.list(search_opts=options)

    @property
    def twin_tenant(self) -> str:
        return str(self.results[symbol(Ref("tenant", self.tenant_id), "ensured")]["id"])


@pytest.fixture(scope="module")
def sample(lab: Lab) -> Iterator[Sample]:
    made = populate(lab.clouds_yaml, f"undo-{uuid.uuid4().hex[:6]}", Sizes.small())
    yield made
    for cloud in ("source", "destination"):
        remove(lab.clouds_yaml, made.name, cloud=cloud)


@pytest.fixture(scope="module")
def moved(lab: Lab, clouds: Clouds, sample: Sample) -> Moved:
    carry = ByHand(clouds.source, clouds.destination, sample.tenant_id, list(KINDS.values()))
    steps = {ref: step for ref, step in carry.steps().items() if ref.kind != "server"}
    return Moved(lab, clouds, sample.tenant_id, carry, carry.run(steps))


@pytest.fixture
def boot_image(moved: Moved) -> str:
    """An image at the destination to boot from."""
    return next(r["id"] for name, r in moved.results.items() if name.startswith("image-") and "made" in r)


@pytest.fixture
def ensured(moved: Moved, boot_image: str) -> dict[str, Any]:
    """What the server's Ensure task is given, the snapshot replaced by an image."""
    ref = moved.step().ref
    return {**moved.results, symbol(ref, "snapshot-ensured"): {"id": boot_image}}


def test_a_server_that_is_being_stopped_is_waited_for_and_started_again(moved: Moved) -> None:
    stop, data, nova = moved.tasks()["stopped"], moved.data(), moved.clouds.source.nova
    assert data["status"] == "ACTIVE"
    nova.servers.stop(data["id"])
    assert stop.execute(data)["ran"]
    assert nova.servers.get(data["id"]).status == "SHUTOFF"
    again = moved.tasks(moved.step())["retrieved"].execute(data["id"], "ACTIVE")
    assert again["status"] == "ACTIVE"
    assert stop.execute(again)["ran"]
    assert stop.revert(result=None, data=data) is None
    assert nova.servers.get(data["id"]).status == "ACTIVE"
    nova.servers.stop(data["id"])
    assert stop.revert(result=None, data=data) is None
    assert nova.servers.get(data["id"]).status == "ACTIVE"
    assert stop.revert(result={"ran": True}, data=data) is None


def test_a_snapshot_is_used_again_by_its_own_attempt_only(moved: Moved) -> None:
    take, data = moved.tasks()["snapshot-taken"], moved.data()
    glance = moved.clouds.source.glance
    taken = take.execute(data, {})
    assert take.execute(data, {}) == taken
    disk = server_disk(moved.lab.dir, "source", data["id"])
    changed = write_bytes(disk, 4096, uuid.uuid4().bytes)
    later = moved.data()
    newer = take.execute(later, {})
    assert newer != taken
    assert glance.images.get(newer["id"])["os_hash_value"] == changed
    assert take.revert(result=None, data=data) is None
    assert take.revert(result=newer, data=later) is None
    assert take.revert(result=newer, data=later) is None
    assert list_images(moved.clouds.source, **{STAMP: data["id"]}) == []


def test_a_half_made_snapshot_is_taken_back_and_the_server_is_free_for_the_next(moved: Moved) -> None:
    take, data, source = moved.tasks()["snapshot-taken"], moved.data(), moved.clouds.source
    take._take(data)
    assert take.revert(result=None, data=data) is None
    assert list_images(source, **{STAMP: data["id"]}) == []
    later = moved.data()
    taken = take.execute(later, {})
    assert source.glance.images.get(taken["id"])["status"] == "active"
    assert take.revert(result=taken, data=later) is None


def test_a_server_whose_boot_was_interrupted_is_the_same_when_it_is_executed_again(
    moved: Moved, ensured: dict[str, Any]
) -> None:
    data = moved.data()
    before = listing(moved.lab.clouds_yaml, "destination")
    step = moved.step()
    created = moved.tasks(step)["ensured"].create(data, ensured)
    again = moved.tasks(step)["ensured"].execute(data, **ensured)
    assert again == {"id": created, "made": True, "notes": []}
    assert moved.clouds.destination.nova.servers.get(created).status == "ACTIVE"
    assert moved.tasks(step)["ensured"].revert(None, data, **ensured) is None
    assert moved.servers() == []
    moved.tasks(step)["ensured"].create(data, ensured)
    assert moved.tasks(step)["ensured"].revert(None, data, **ensured) is None
    assert moved.servers() == []
    assert moved.tasks(step)["ensured"].revert(again, data, **ensured) is None
    assert added(before, listing(moved.lab.clouds_yaml, "destination")) == []


def added(before: Any, after: Any) -> list[str]:
    found = changes(before, after)
    return [*found["added"], *found["removed"]]


def test_a_server_that_did_not_come_up_is_made_anew(moved: Moved, ensured: dict[str, Any]) -> None:
    data, nova = moved.data(), moved.clouds.destination.nova
    broken = moved.tasks()["ensured"].execute(data, **ensured)["id"]
    nova.servers.reset_state(broken, "error")
    assert moved.step().action is Action.CREATE
    assert moved.step().destination_id is None
    made = moved.tasks()["ensured"].execute(data, **ensured)
    assert made["id"] != broken
    assert [found.id for found in moved.servers()] == [made["id"]]
    assert moved.tasks()["ensured"].revert(made, data, **ensured) is None


def test_what_a_dead_run_booted_is_finished_by_the_next_and_becomes_its_own(
    moved: Moved, ensured: dict[str, Any]
) -> None:
    data, nova = moved.data(), moved.clouds.destination.nova
    made = moved.tasks()["ensured"].execute(data, **ensured)
    leftover = moved.clouds.destination.glance.images.create(
        name="pumphouse-left", disk_format="raw", container_format="bare", pumphouse_server_id=data["id"]
    )
    theirs = moved.clouds.destination.glance.images.create(
        name="users-own", disk_format="raw", container_format="bare", pumphouse_server_id=data["id"],
        instance_uuid=made["id"],
    )  # fmt: skip
    step = moved.step()
    assert (step.action, step.destination_id) == (Action.CREATE, made["id"])
    tasks = moved.tasks(step)
    assert list(tasks) == ["retrieved", "ensured", "settled", "snapshot-removed", "completed"]
    found = tasks["ensured"].execute(data, **ensured)
    assert found == {"id": made["id"], "made": True, "notes": []}
    settled = tasks["settled"].execute(data, found)
    assert tasks["snapshot-removed"].execute(data, settled) == {"notes": []}
    left = [image["id"] for image in list_images(moved.clouds.destination, pumphouse_server_id=data["id"])]
    assert left == [theirs["id"]]
    moved.clouds.destination.glance.images.delete(theirs["id"])
    assert leftover["id"] not in left
    for _ in range(2):
        tasks["completed"].execute(data, found, settled)
    assert moved.step().action is Action.REUSE
    assert nova.servers.get(made["id"]).metadata[STAMP] == data["id"]
    # What served and broke later is nobody's to remove.
    nova.servers.reset_state(made["id"], "error")
    assert moved.step().action is Action.REUSE
    assert moved.tasks()["ensured"].leftovers(data, ensured) == []
    nova.servers.reset_state(made["id"], "active")

    now = datetime.now(UTC) + timedelta(seconds=2)
    assert server.changed(moved.clouds.destination, made["id"], now) == ""
    assert "create at" in server.changed(moved.clouds.destination, made["id"], now - timedelta(hours=1))
    assert tasks["ensured"].revert({"id": made["id"], "made": True}, data, **ensured) is None
    assert server.changed(moved.clouds.destination, made["id"], now) in ("", "delete at")


def test_a_role_that_was_taken_away_meanwhile_is_granted_again(moved: Moved, ensured: dict[str, Any]) -> None:
    data, destination = moved.data(), moved.clouds.destination
    told: list[list[Json]] = []
    destination.loans.on_change = told.append
    with destination.in_tenant(moved.twin_tenant) as cloud:
        cloud.nova.servers.list()
        (loan,) = [loan for loan in destination.loans.open if loan.kind == "role"]
        assert told[0] == [loan.as_json()]
        loan.give_back(destination)
        loan.give_back(destination)
        made = moved.tasks()["ensured"].execute(data, **ensured)
    destination.loans.on_change = None
    assert destination.loans.open == []
    assert told[-1] == []
    roles = destination.keystone.role_assignments.list(user=destination.user_id, project=moved.twin_tenant)
    assert roles == []
    assert moved.tasks()["ensured"].revert(made, data, **ensured) is None


def test_a_key_that_is_not_the_one_that_was_lent_stays(moved: Moved) -> None:
    data, destination, key = moved.data(), moved.clouds.destination, moved.key()
    told: list[list[Json]] = []
    destination.loans.on_change = lambda loans: told.append([*loans, *destination.nova.keypairs.list()])
    with operators_keypair(destination, key):
        (loan,) = destination.loans.open
        assert told == [[loan.as_json()]]
        replace(loan, fingerprint="another").give_back(destination)
        assert [key.name for key in destination.nova.keypairs.list()] == [data["key_name"]]
    destination.loans.on_change = None
    assert destination.loans.open == []
    assert destination.nova.keypairs.list() == []
    KeypairLoan(destination.user_id, data["key_name"], "any").give_back(destination)


def test_what_the_ledger_cannot_save_is_not_borrowed(moved: Moved) -> None:
    destination, key = moved.clouds.destination, moved.key()

    def full(_: list[Json]) -> None:
        raise PumphouseError("the store is full")

    destination.loans.on_change = full
    try:
        with (
            pytest.raises(PumphouseError, match="full"),
            operators_keypair(destination, key),
        ):
            raise AssertionError("it was borrowed")
        with pytest.raises(PumphouseError, match="full"), destination.in_tenant(moved.twin_tenant):
            raise AssertionError("it was borrowed")
    finally:
        destination.loans.on_change = None
    assert destination.nova.keypairs.list() == []
    assert destination.loans.open == []


def test_an_upload_that_died_is_done_again_and_a_finished_one_is_not(lab: Lab, clouds: Clouds) -> None:
    glance = clouds.source.glance
    body = uuid.uuid4().bytes * (1 << 18)
    made = glance.images.create(name="undo", disk_format="raw", container_format="bare")
    glance.images.upload(made["id"], io.BytesIO(body))
    carry = ByHand(clouds.source, clouds.destination, clouds.source.project_id, [])
    record = image.fetch(clouds.source, [made["id"]])[made["id"]]
    step = Step(record, Action.CREATE, "", "undo")
    tasks = {task.name.rpartition("-")[2]: task for task in image.tasks(carry.migration, step)}
    data = tasks["retrieved"].execute(made["id"])
    there = tasks["ensured"].execute(data)
    try:
        die_in_the_middle(clouds, there["id"], body)
        assert tasks["uploaded"].execute(data, there)["size_bytes"] == len(body)
        assert tasks["uploaded"].execute(data, there) == {"size_bytes": 0}
        arrived = clouds.destination.glance.images.get(there["id"])
        assert arrived["os_hash_value"] == hashlib.sha512(body).hexdigest()
        later = datetime.now(UTC) + timedelta(seconds=2)
        assert image.changed(clouds.destination, there["id"], later) == ""
        assert "updated at" in image.changed(clouds.destination, there["id"], later - timedelta(hours=1))
    finally:
        assert tasks["ensured"].revert(None, data) is None
        glance.images.delete(made["id"])
    assert [i for i in list_images(clouds.destination) if stamp_of(i) == made["id"]] == []


def die_in_the_middle(clouds: Clouds, image_id: str, body: bytes) -> None:
    """Begin an upload as a process does that is killed in it."""

    def part() -> Iterator[bytes]:
        yield body[: len(body) // 2]
        raise KeyboardInterrupt

    class Body:
        def __len__(self) -> int:
            return len(body)

        def __iter__(self) -> Iterator[bytes]:
            return part()

    session = clouds.destination.session
    with suppress(KeyboardInterrupt):
        session.put(
            f"/v2/images/{image_id}/file",
            endpoint_filter={"service_type": "image", "interface": clouds.destination.interface},
            data=Body(),
            headers={"Content-Type": "application/octet-stream"},
        )


def test_a_tenant_goes_without_leaving_a_group_and_tells_what_others_made_in_it(clouds: Clouds) -> None:
    destination = clouds.destination
    source_id = clouds.source.keystone.projects.create(f"undo-{uuid.uuid4().hex[:6]}", "default").id
    carry = ByHand(clouds.source, destination, source_id, [domain, tenant, security_group])
    try:
        results = carry.run(carry.steps())
        ref = Ref("tenant", source_id)
        ensured, step = results[symbol(ref, "ensured")], carry.steps()[ref]
        assert strangers(destination, ensured["id"]) == ""
        network = NETWORKS.create(destination, {"name": "theirs", "project_id": ensured["id"]})
        assert strangers(destination, ensured["id"]) == f"1 network ({network['id']})"
        NETWORKS.delete(destination, network["id"])
        group = SECURITY_GROUPS.create(destination, {"name": "theirs", "project_id": ensured["id"]})
        assert strangers(destination, ensured["id"]) == f"1 security group ({group['id']})"
        _, ensure = tenant.tasks(carry.migration, step)
        (prepare,) = security_group.tenant_tasks(carry.migration, step)
        assert prepare.revert(result=None, ensured=ensured) is None
        assert SECURITY_GROUPS.items(destination, [group["id"]]).keys() == {group["id"]}
        SECURITY_GROUPS.delete(destination, group["id"])
        data = results[symbol(ref, "retrieved")]
        for _ in range(2):
            assert prepare.revert(result=None, ensured=ensured) is None
            assert ensure.revert(ensured, data, **results) is None
        groups = SECURITY_GROUPS.all(destination, name="default")
        assert [group for group in groups if group["project_id"] == ensured["id"]] == []
    finally:
        clouds.source.keystone.projects.delete(source_id)

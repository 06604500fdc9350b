"""What runs leave behind is found and removed: of a run that is over, by its notes, and nothing of anybody else."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from lab import Lab
from lab.populate import Sample, populate
from lab.sample.sizes import Sizes
from pumphouse.cloud import call
from pumphouse.model import Json
from pumphouse.run.record import Run, find_book, load_run
from pumphouse.store import open_store
from pumphouse.tasks.base import STAMP, stamp_tag
from pumphouse.tasks.cinder.common import ATTEMPT, SNAPSHOTS, VOLUMES, wait_until_available
from pumphouse.tasks.neutron.common import NETWORKS, PORTS
from tests.faults.driver import KILLED
from tests.real.by_hand import Clouds, connect
from tests.real.conftest import discard
from tests.real.listing import NOTHING, Listing, changes, listing
from tests.real.runner import Runner

# Each moves a tenant.
pytestmark = pytest.mark.exhaustive


@pytest.fixture
def sample(lab: Lab) -> Iterator[Sample]:
    made = populate(lab.clouds_yaml, f"cleanup-{uuid.uuid4().hex[:6]}", replace(Sizes.small(), volumes=1))
    yield made
    discard(lab, made.name)


def both(lab: Lab) -> dict[str, Listing]:
    return {cloud: listing(lab.clouds_yaml, cloud) for cloud in ("source", "destination")}


@contextmanager
def recorded(runner: Runner) -> Iterator[Run]:
    with closing(open_store(f"sqlite:///{runner.config.parent / 'state.db'}")) as store:
        yield load_run(store, find_book(store, "last"))


def attempts(run: Run) -> dict[str, tuple[str, str]]:
    """The source's id and the attempt of the server and of the volume that a run has moved."""
    results = [atom.results for detail in run.all_details().values() for atom in detail]
    read = [result for result in results if isinstance(result, dict) and "attempt" in result]
    return {"volume" if "volume_type" in r else "server": (r["id"], r["attempt"]) for r in read}


def snapshot(clouds: Clouds, server_id: str, attempt: str, **more: Any) -> str:
    """An image as Nova makes it of a server for a run."""
    stamps = {STAMP: server_id, ATTEMPT: attempt, "instance_uuid": server_id, "image_type": "snapshot"}
    formats = {"disk_format": "raw", "container_format": "bare"}
    made = clouds.source.glance.images.create(name="pumphouse-web", **formats, **stamps, **more)
    return str(made["id"])


def volume(clouds: Clouds, source_id: str, attempt: str) -> tuple[str, str]:
    """A volume and a snapshot as a run makes them at the source of a volume."""
    cloud = clouds.source
    item = {"name": f"pumphouse-{source_id}", "metadata": {STAMP: source_id, ATTEMPT: attempt}}
    made = call(cloud.cinder, "POST", "/volumes", {"volume": {**item, "size": 1}})["volume"]["id"]
    wait_until_available(cloud, VOLUMES, cloud.project_id, made, title="a volume")
    body = {"snapshot": {**item, "volume_id": source_id, "force": True}}
    taken = call(cloud.cinder, "POST", "/snapshots", body)
    wait_until_available(cloud, SNAPSHOTS, cloud.project_id, taken["snapshot"]["id"], title="a snapshot")
    return made, taken["snapshot"]["id"]


def test_what_a_run_left_is_removed_when_it_is_over_and_what_strangers_made_stays(
    lab: Lab, sample: Sample, tmp_path: Any
) -> None:
    """One long test, because what it shows is the order."""
    runner, clouds = Runner(lab, tmp_path), connect(lab)
    destination = clouds.destination
    assert runner.json("cleanup", "--yes") == []
    result = runner.json("migrate", "tenant", sample.name, "--yes")
    twin = next(item["destination_id"] for item in result["resources"] if item["kind"] == "tenant")
    network = next(item["destination_id"] for item in result["resources"] if item["kind"] == "network")
    before = both(lab)
    member = next(role.id for role in destination.keystone.roles.list() if role.name == "member")
    with recorded(runner) as run:
        noted = attempts(run)
        loan = {"kind": "role", "tenant_id": twin, "user_id": destination.user_id, "role_id": member}
        run.update_meta(loans={"destination": [loan]})
    (server_id, attempt), (volume_id, volume_attempt) = noted["server"], noted["volume"]
    destination.keystone.roles.grant(member, user=destination.user_id, project=twin)
    left = [
        snapshot(clouds, server_id, attempt),
        *volume(clouds, volume_id, volume_attempt),
        str(
            clouds.source.glance.images.create(
                name=f"pumphouse-volume-{volume_id}-{volume_attempt}",
                disk_format="raw",
                container_format="bare",
            )["id"]
        ),
    ]
    unknown = snapshot(clouds, server_id, uuid.uuid4().hex)
    others = [
        snapshot(clouds, server_id, attempt, owner=sample.tenant_id),
        str(
            clouds.source.glance.images.create(name="pumphouse-mine", **{STAMP: server_id, ATTEMPT: attempt})[
                "id"
            ]
        ),
    ]
    port = PORTS.create(destination, {"network_id": network, "description": stamp_tag(str(uuid.uuid4()))})
    assert NETWORKS.items(destination, [network])[network]["project_id"] == twin

    def found() -> dict[str, Json]:
        listed = runner.json("cleanup", "--dry-run")
        return {item["what"].split()[1]: item for item in listed}

    with recorded(runner) as run:
        run.update_meta(state="SUSPENDED")
    live = found()
    assert {item["action"] for item in live.values()} == {"keep"}
    assert f"run {result['run']} is SUSPENDED and can be resumed" in live[left[0]]["reason"]
    with recorded(runner) as run:
        run.update_meta(state="SUCCESS")

    over = found()
    assert {i for i, item in over.items() if item["action"] == "remove"} == {*left, member}
    assert over.keys() == {*left, unknown, member}
    assert "no run of this state store" in over[unknown]["reason"]
    refused = runner.run("cleanup", exit_code=2)
    assert "give --yes" in refused.stderr

    ended = runner.run("cleanup", "--yes", exit_code=0)
    said = ended.stdout + ended.stderr
    assert all(f"removed image {i}" in said or f" {i} at the source" in said for i in left)
    assert f"keep image {unknown}" in said
    assert found().keys() == {unknown}
    with recorded(runner) as run:
        assert not run.book.meta["loans"]
    for image_id in (unknown, *others):
        clouds.source.glance.images.delete(image_id)
    PORTS.delete(destination, port["id"])
    assert {cloud: changes(before[cloud], now) for cloud, now in both(lab).items()} == dict.fromkeys(
        before, NOTHING
    )


def test_what_a_killed_run_has_made_stays_until_it_is_reverted(
    lab: Lab, sample: Sample, tmp_path: Any
) -> None:
    runner = Runner(lab, tmp_path)
    command = runner.start("migrate", "tenant", sample.name, "--yes")
    while not (listed := runner.json("cleanup", "--dry-run")):
        assert not command.has_ended()
    command.signal()
    command.wait().expect(KILLED)
    listed = runner.json("cleanup", "--yes")
    assert {item["action"] for item in listed} == {"keep"}
    assert "is INTERRUPTED and can be resumed or reverted" in listed[0]["reason"]
    runner.json("revert", "last", "--yes")
    assert runner.json("cleanup", "--yes") == []

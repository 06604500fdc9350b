"""A migration is ended: its marks go, and what was moved is deleted at the source, whatever the process dies in."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab import Lab
from lab.populate import Sample, populate
from lab.sample.base import until
from lab.sample.sizes import Sizes
from pumphouse.cloud import Cloud, call
from pumphouse.tasks.neutron.common import SHARED
from tests.conftest import Seen
from tests.faults.driver import KILLED, Command
from tests.real.by_hand import Clouds, connect
from tests.real.conftest import discard
from tests.real.listing import NOTHING, Listing, changes, listing
from tests.real.runner import NURSERY, Runner

# Each moves a tenant and ends the migration; tests/unit has the same in memory.
pytestmark = pytest.mark.exhaustive
# What is no tenant's own: of what was moved, only these stay at the source.
OTHERS = ("flavors", "roles", "groups", "domains", "volume_types")
MARKS = re.compile("pumphouse_(source_id|mark|unfinished|attempt|server_id|volume_id)")
# What services keep of a tenant that is gone.
RECORDS = ("flavor_access/", "quotas/")
TRANSITIONS = 9


@pytest.fixture
def sample(lab: Lab) -> Iterator[Sample]:
    made = populate(lab.clouds_yaml, f"end-{uuid.uuid4().hex[:6]}", replace(Sizes.small(), volumes=1))
    yield made
    discard(lab, made.name)


@pytest.fixture
def runner(lab: Lab, tmp_path: Path) -> Runner:
    return Runner(lab, tmp_path)


@pytest.fixture(scope="module")
def clouds(lab: Lab) -> Clouds:
    return connect(lab)


@pytest.fixture
def neighbour(lab: Lab, clouds: Clouds) -> Iterator[str]:
    """Another tenant of the source."""
    project = clouds.source.keystone.projects.create(f"neighbour-{uuid.uuid4().hex[:6]}", "default")
    yield project.id
    clouds.source.keystone.projects.delete(project.id)


def marked(found: Listing) -> dict[str, str]:
    """What carries a mark; Keystone forgets no extra attribute, only what it says."""
    said = {key: json.dumps({k: v for k, v in item.items() if v is not None}) for key, item in found.items()}
    return {key: text for key, text in said.items() if MARKS.search(text)}


def of_sample(found: Listing, sample: Sample) -> list[str]:
    there = [key for key, item in found.items() if sample.tenant_id in json.dumps(item)]
    return [key for key in there if not key.startswith(RECORDS)]


def set_status(cloud: Cloud, server_id: str, status: str) -> None:
    {"ACTIVE": cloud.nova.servers.start, "SHUTOFF": cloud.nova.servers.stop}[status](server_id)
    until(lambda: cloud.nova.servers.get(server_id).status == status, f"server {server_id} {status}")


def test_marks_go_and_the_run_is_not_reverted_any_more(
    lab: Lab, clouds: Clouds, runner: Runner, sample: Sample
) -> None:
    before = listing(lab.clouds_yaml, "destination")
    run = runner.json("migrate", "tenant", sample.name, "--yes")["run"]
    source = listing(lab.clouds_yaml, "source")
    assert marked(listing(lab.clouds_yaml, "destination")).keys() > marked(before).keys()

    ended = runner.json("finalize", run, "--yes")
    assert ended["summary"].keys() == {"unmarked"}
    assert marked(listing(lab.clouds_yaml, "destination")) == marked(before)
    assert changes(source, listing(lab.clouds_yaml, "source")) == NOTHING
    assert [found["state"] for found in runner.json("runs", "list")] == ["FINALIZED"]
    for command in ("revert", "resume"):
        refused = runner.run(command, run, "--yes", exit_code=2)
        assert f"run {run} of this tenant was finalized" in refused.stderr
    runner.run("verify", "tenant", sample.name, "--run", run, exit_code=0)

    unasked = runner.run("finalize", run, "--delete-source", "--yes", exit_code=2)
    assert f"--confirm {sample.name}" in unasked.stderr
    wrong = runner.run("finalize", run, "--delete-source", "--confirm", "another", exit_code=8)
    assert "nothing was changed" in wrong.stderr
    delete = ("finalize", run, "--delete-source", "--confirm", sample.name)
    (server_id,) = sample.made["server"].values()
    set_status(clouds.source, server_id, "ACTIVE")
    refused = runner.run(*delete, exit_code=1)
    assert "used since it was copied: it is running" in refused.stderr
    set_status(clouds.source, server_id, "SHUTOFF")
    refused = runner.run(*delete, exit_code=1)
    assert "used since it was copied: start at" in refused.stderr
    assert listing(lab.clouds_yaml, "source").keys() == source.keys()


def test_the_source_is_deleted_to_the_end_however_often_the_process_is_killed(
    lab: Lab, runner: Runner, sample: Sample, tmp_path: Path, seen: Seen
) -> None:
    before, empty = (listing(lab.clouds_yaml, cloud) for cloud in ("source", "destination"))
    run = runner.json("migrate", "tenant", sample.name, "--yes")["run"]
    moved = listing(lab.clouds_yaml, "destination")
    arguments = ["finalize", run, "--delete-source", "--confirm", sample.name, "--config", str(runner.config)]
    order = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "stdout": str(tmp_path / "out"),
        "stderr": str(tmp_path / "err"),
        "transitions": TRANSITIONS,
        "log": str(tmp_path / "transitions"),
    }
    killed = 0
    while (ended := Command(NURSERY, order).wait()).code == KILLED:
        killed += 1
    assert ended.expect(0).code == 0
    assert killed > 2
    assert ended.stderr.count("the deletion was begun at") == killed
    seen(f"killed {killed} times")

    found = changes(before, listing(lab.clouds_yaml, "source"))
    assert found["added"] == []
    assert of_sample(listing(lab.clouds_yaml, "source"), sample) == []
    assert {key.partition("/")[0] for key in found["removed"]} >= {"projects", "users", "servers", "volumes"}
    assert not {key.partition("/")[0] for key in found["removed"]} & set(OTHERS)
    left = [key for key in before.keys() - set(found["removed"]) if sample.name in json.dumps(before[key])]
    assert {key.partition("/")[0] for key in left if not key.startswith(RECORDS)} <= set(OTHERS)
    arrived = listing(lab.clouds_yaml, "destination")
    assert arrived.keys() == moved.keys()
    assert marked(arrived) == marked(empty)


def test_what_others_use_stays_and_what_it_needs(
    lab: Lab, clouds: Clouds, runner: Runner, sample: Sample, neighbour: str
) -> None:
    cloud = clouds.source
    (network_id,) = sample.made["network"].values()
    image_id = sample.made["image"]["base"]
    user_id = next(iter(sample.made["user"].values()))
    role_id = next(role.id for role in cloud.keystone.roles.list() if role.name == "member")
    cloud.keystone.roles.grant(role_id, user=user_id, project=neighbour)
    policy = {"object_type": "network", "object_id": network_id, "action": SHARED, "target_tenant": neighbour}
    call(cloud.neutron, "POST", "/rbac-policies", {"rbac_policy": policy})
    cloud.glance.images.update(image_id, visibility="public")
    run = runner.json("migrate", "tenant", sample.name, "--skip", "rbac_policy", "--yes")["run"]

    ended = runner.json("finalize", run, "--delete-source", "--confirm", sample.name)
    said = [(item["kind"], item["reason"]) for item in ended["resources"] if item["outcome"] == "kept"]
    assert ("network", "it is shared with other tenants") in said
    assert ("image", "it is public: other tenants may use it") in said
    assert ("user", "the user has roles elsewhere") in said
    assert ("router", "it connects a network that other tenants use") in said
    assert {kind for kind, reason in said if "which stays" in reason} >= {"tenant", "subnet"}
    there = listing(lab.clouds_yaml, "source")
    for key in (f"networks/{network_id}", f"images/{image_id}", f"users/{user_id}"):
        assert key in there
    assert not [key for key in of_sample(there, sample) if key.startswith(("servers/", "volumes/"))]

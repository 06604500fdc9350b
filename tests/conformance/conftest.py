"""The story that every kind has a part in: one sample tenant, moved once, with all that can happen on the way."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from openstack.connection import Connection

from lab import Lab
from lab.populate import Sample, populate, remove
from lab.sample.base import Sizes, connect, get, post, send, until
from pumphouse.verify import Known
from tests.faults.driver import KILLED
from tests.real.breaks import BREAKS, There
from tests.real.conftest import discard, lab, make_partner
from tests.real.listing import Listing, changes, listing
from tests.real.mutation import SOME, Bench
from tests.real.runner import Runner

__all__ = ["lab"]

# The attribute of a project that says which tenant it was made from.
STAMP = "pumphouse_source_id"
TIMEOUT_S = 300
# What somebody else changes that keeps no revert from removing what it was done to.
CHANGED = ("readdress_user", "limit_gigabytes", "turn_flavor", "describe_network", "forget_nameserver")


@dataclass
class Story:
    """What was seen in each of its chapters.

    namesakes: the plan beside a tenant of the same name with the same things in it, none of which is ours.
    before: all that there was at the destination before the first run.
    killed: how many resources the run had made that was killed in the middle.
    first, second: the reports of the run after it, and of one more.
    verified: what verify says of the result.
    noticed: whether verify notices when the destination says one thing otherwise, by kind and field.
    broken: what verify says when somebody has changed it.
    after: all that there is at the destination when all runs are reverted.
    """

    sample: Sample
    namesakes: Any = None
    before: Listing = field(default_factory=dict)
    killed: Listing = field(default_factory=dict)
    first: Any = None
    second: Any = None
    verified: Any = None
    noticed: dict[tuple[str, str], list[bool]] = field(default_factory=dict)
    broken: Any = None
    moved: Listing = field(default_factory=dict)
    after: Listing = field(default_factory=dict)


def complete(lab: Lab, sample: Sample) -> None:
    """Give the tenant what no sample has: a snapshot of a volume, and that it is disabled."""
    storage = owner(lab, "source", sample).block_storage
    fields = {"description": "Before the sale", "metadata": {"keep": "7 years"}}
    snapshot = {"name": "monday", "volume_id": sample.made["volume"]["archive"], **fields}
    path = f"/snapshots/{post(storage, '/snapshots', snapshot=snapshot)['snapshot']['id']}"
    until(lambda: get(storage, path)["snapshot"]["status"] == "available", "a snapshot")
    identity = connect(lab.clouds_yaml, "source").identity
    send(identity, "PATCH", f"/projects/{sample.tenant_id}", project={"enabled": False})


def owner(lab: Lab, cloud: str, sample: Sample) -> Connection:
    """The session of the user who owns what is in the tenant."""
    login = {"username": f"{sample.name}.alice", "password": sample.passwords["alice"]}
    return connect(lab.clouds_yaml, cloud).connect_as(
        **login, user_domain_id="default", project_id=sample.tenant_id
    )


def namesakes(lab: Lab, runner: Runner, sample: Sample, namesake: Sample) -> Any:
    """The plan of the tenant beside its namesake, of which only the project itself is said to be ours."""
    volume = {"name": "monday", "size": 1}  # what the snapshot would become
    post(owner(lab, "destination", namesake).block_storage, "/volumes", volume=volume)
    identity = connect(lab.clouds_yaml, "destination").identity
    send(identity, "PATCH", f"/projects/{namesake.tenant_id}", project={STAMP: sample.tenant_id})
    return runner.json("migrate", "tenant", sample.tenant_id, "--dry-run")


def start_and_kill(lab: Lab, runner: Runner, sample: Sample, before: Listing) -> Listing:
    """Kill a run as soon as its first server is at the destination; returns what it has made."""
    command = runner.start("migrate", "tenant", sample.tenant_id, "--yes")
    compute = connect(lab.clouds_yaml, "destination").compute
    known = {key.partition("/")[2] for key in before if key.startswith("servers/")}

    def made() -> bool:
        servers = {server["id"] for server in get(compute, "/servers?all_tenants=1")["servers"]}
        assert servers - known or not command.has_ended(), f"it ended and made no server\n{command.output()}"
        return bool(servers - known)

    until(made, "the first server", TIMEOUT_S)
    command.signal()
    assert command.wait().code == KILLED
    return {key: value for key, value in listing(lab.clouds_yaml, "destination").items() if key not in before}


def change(lab: Lab, runner: Runner, sample: Sample, destination_id: str) -> Any:
    """What verify says when somebody has changed what was moved."""
    there = There(connect(lab.clouds_yaml, "destination"), sample, destination_id)
    for each in BREAKS:
        if each.act.__name__ in CHANGED:
            each.act(there)
    return runner.json("verify", "tenant", sample.tenant_id, exit_code=6)


def revert_all(runner: Runner, sample: Sample) -> None:
    """Undo all runs of the tenant, the newest first."""
    for run in runner.json("runs", "list", "--tenant", sample.tenant_id):
        if run["state"] != "REVERTED":
            runner.run("revert", run["run"], "--yes", exit_code=0)


@pytest.fixture(scope="session")
def story(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The sample tenant from its namesake to the last revert."""
    runner = Runner(lab, tmp_path_factory.mktemp("conformance"))
    runner.write_config(runner.config, volume_snapshots="copy")
    name = f"conform-{uuid.uuid4().hex[:6]}"
    try:
        with ThreadPoolExecutor() as pool:
            there = pool.submit(populate, lab.clouds_yaml, name, Sizes(), cloud="destination")
            story = Story(populate(lab.clouds_yaml, name, Sizes()))
        tell(lab, runner, story, there.result())
        yield story
    finally:
        discard(lab, name)


def tell(lab: Lab, runner: Runner, story: Story, namesake: Sample) -> None:
    """Let it all happen."""
    sample = story.sample
    complete(lab, sample)
    story.namesakes = namesakes(lab, runner, sample, namesake)
    remove(lab.clouds_yaml, sample.name, cloud="destination")
    make_partner(lab, sample)
    story.before = listing(lab.clouds_yaml, "destination")
    story.killed = start_and_kill(lab, runner, sample, story.before)
    story.first = runner.json("migrate", "tenant", sample.tenant_id, "--yes")
    # The table first: what it says is read by whoever finds this failed.
    runner.run("verify", "tenant", sample.tenant_id, exit_code=0)
    story.verified = runner.json("verify", "tenant", sample.tenant_id, "--deep")
    known = Known(policies={"volume_snapshots": "copy"})
    story.noticed = Bench.of(lab, sample.tenant_id, known).noticed(SOME)
    story.moved = listing(lab.clouds_yaml, "destination")
    story.second = runner.json("migrate", "tenant", sample.tenant_id, "--yes")
    assert changes(story.moved, listing(lab.clouds_yaml, "destination"))["added"] == []
    story.broken = change(lab, runner, sample, story.verified["destination_tenant_id"])
    revert_all(runner, sample)
    story.after = listing(lab.clouds_yaml, "destination")

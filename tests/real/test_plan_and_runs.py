"""Plans as files that a person edits, runs that are looked at and taken back, by the command line."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab import Lab
from lab.populate import Sample
from lab.sample.base import connect, get
from pumphouse.cloud import Cloud
from pumphouse.model import Action, Record, Ref, Step
from pumphouse.plan.image_contents import mismatches
from tests.real.listing import NOTHING, Listing, changes, listing
from tests.real.runner import Runner


@pytest.fixture(scope="module")
def runner(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(lab, tmp_path_factory.mktemp("plans"))


def both(lab: Lab) -> dict[str, Listing]:
    return {cloud: listing(lab.clouds_yaml, cloud) for cloud in ("source", "destination")}


def edited(path: Path, name: str) -> Path:
    """The plan file without its server, and with another name for its network."""
    data = yaml.safe_load(path.read_text())
    data["resources"] = [line for line in data["resources"] if line["kind"] != "server"]
    (network,) = (
        line for line in data["resources"] if line["kind"] == "network" and line["action"] == "create"
    )
    network["name"] = name
    changed = path.with_name("edited.yaml")
    changed.write_text(yaml.safe_dump(data, sort_keys=False))
    return changed


def test_mappings_of_what_is_nowhere_are_told_before_anything_is_read(
    lab: Lab, runner: Runner, small: Sample, tmp_path: Path
) -> None:
    def plan(**mappings: dict[str, str]) -> Path:
        config = runner.write_config(tmp_path / "mapped.yaml")
        config.write_text(config.read_text() + yaml.safe_dump({"mappings": mappings}))
        return config

    wrong = {
        "domains": {"Defalut": "Default"},
        "roles": {"mebmer": "member"},
        "flavors": {"m1.tiny": "no-such-flavor-at-all"},
        "external_networks": {"nowhere-0": "nowhere-1"},
        "availability_zones": {"nova": "nvoa"},
        "volume_types": {"0-0-0": "1-1-1"},
        "users": {"somebody-who-left": "nobody-here-0"},
    }
    said = runner.run("plan", "tenant", small.name, config=plan(**wrong), exit_code=2).stderr
    said = " ".join(said.split())
    for expected in (
        "mappings.domains: the source has no 'Defalut': did you mean 'Default'?",
        "mappings.roles: the source has no 'mebmer': did you mean 'member'?",
        "'m1.tiny' is mapped to 'no-such-flavor-at-all', which the destination does not have",
        "mappings.external_networks: the source has no 'nowhere-0'",
        "'nowhere-0' is mapped to 'nowhere-1', which the destination does not have",
        "'nova' is mapped to 'nvoa', which the destination does not have: did you mean 'nova'?",
        "mappings.volume_types: the source has no '0-0-0'",
        "'0-0-0' is mapped to '1-1-1', which the destination does not have",
        "'somebody-who-left' is mapped to 'nobody-here-0', which the destination does not have",
    ):
        assert expected in said
    # They may have gone from the source, and others may have servers of them.
    gone = {"users": {"somebody-who-left": "admin"}, "availability_zones": {"az-that-was": "nova"}}
    planned = runner.run("plan", "tenant", small.name, config=plan(**gone), exit_code=0)
    assert "mappings.users: the source has no 'somebody-who-left'" in " ".join(planned.stdout.split())
    assert "mappings.availability_zones: the source has no 'az-that-was'" in " ".join(planned.stdout.split())


def test_a_plan_is_written_shown_edited_run_and_taken_back(
    lab: Lab, runner: Runner, small: Sample, tmp_path: Path
) -> None:
    """One long test, because what it shows is the order."""
    before = both(lab)
    path = tmp_path / "plan.yaml"
    runner.run("plan", "tenant", small.name, "-o", str(path), exit_code=0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {cloud: changes(before[cloud], now) for cloud, now in both(lab).items()} == dict.fromkeys(
        before, NOTHING
    )
    shown = runner.run("plan", "show", str(path), exit_code=0, configured=False)
    assert f"Migrate tenant {small.name}" in shown.stdout
    dot = runner.run("plan", "show", str(path), "-f", "dot", exit_code=0, configured=False)
    assert dot.stdout.startswith("digraph")

    plan = edited(path, "renamed-by-hand")
    result = runner.json("migrate", "--plan", str(plan), "--yes")
    outcomes = {item["kind"]: item["outcome"] for item in result["resources"]}
    assert (outcomes["server"], outcomes["network"], outcomes["image"]) == ("skipped", "created", "created")
    new_tenant = next(item["destination_id"] for item in result["resources"] if item["kind"] == "tenant")
    networks = get(connect(lab.clouds_yaml, "destination").network, f"/networks?project_id={new_tenant}")
    assert [network["name"] for network in networks["networks"]] == ["renamed-by-hand"]

    stale = runner.run("migrate", "--plan", str(plan), "--yes", exit_code=5)
    assert "is out of date" in stale.stderr
    assert f"tenant {small.name}" in stale.stderr

    (run,) = runner.json("runs", "list", "--tenant", small.name)
    assert (run["state"], run["tenant"]["id"]) == ("SUCCESS", small.tenant_id)
    details = runner.json("runs", "show", run["run"])
    tasks = [task for unit in details["units"] for task in unit["tasks"]]
    assert {task["state"] for task in tasks} == {"SUCCESS"}
    assert all(task["started_at"] <= task["ended_at"] for task in tasks)
    assert "renamed-by-hand" in [item["name"] for item in details["resources"]]
    assert runner.json("runs", "list", "--state", "running") == []

    (image,) = (item for item in runner.json("report", run["run"])["resources"] if item["kind"] == "image")
    arrived = get(connect(lab.clouds_yaml, "destination").image, f"/images/{image['destination_id']}")
    assert image["hashes"] == {arrived["os_hash_algo"]: arrived["os_hash_value"]}
    assert image["copied_bytes"] == arrived["size"]
    (known,) = runner.json("ids", image["source_id"])
    assert (known["destination_id"], known["run"]) == (image["destination_id"], run["run"])

    undone = runner.json("revert", run["run"], "--yes")
    assert undone["summary"].keys() <= {"reverted", "reused"}
    assert {cloud: changes(before[cloud], now) for cloud, now in both(lab).items()} == dict.fromkeys(
        before, NOTHING
    )
    refused = runner.run("resume", run["run"], "--yes", exit_code=2)
    assert "was reverted" in refused.stderr


def test_a_plan_of_other_clouds_is_refused(runner: Runner, small: Sample, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    runner.run("plan", "tenant", small.name, "-o", str(path), exit_code=0)
    config = tmp_path / "pumphouse.yaml"
    written = runner.config.read_text()
    config.write_text(written.replace("source: {cloud: source}", "source: {cloud: destination}"))
    refused = runner.run("migrate", "--plan", str(path), "--yes", config=config, exit_code=2)
    assert "but the configuration names" in refused.stderr


def test_a_plan_is_stale_when_the_source_has_changed(
    lab: Lab, runner: Runner, small: Sample, tmp_path: Path
) -> None:
    path = tmp_path / "plan.yaml"
    runner.run("migrate", "tenant", small.name, "--dry-run", "-o", str(path), exit_code=0)
    image = connect(lab.clouds_yaml, "source").image
    image_id = small.made["image"]["base"]
    headers = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    patch = [{"op": "add", "path": "/colour", "value": "green"}]
    assert image.patch(f"/images/{image_id}", json=patch, headers=headers).status_code == 200
    stale = runner.run("migrate", "--plan", str(path), "--yes", exit_code=5)
    assert "image base" in stale.stderr
    assert "green" in stale.stderr
    assert f"pumphouse plan refresh {path}" in stale.stderr

    # What was left out by hand stays left out, and the file is in force again.
    line = next(line for line in path.read_text().splitlines() if "kind: keypair, name: " in line)
    path.write_text(path.read_text().replace(line, line.replace("action: create", "action: skip")))
    refreshed = runner.run("plan", "refresh", str(path), exit_code=0)
    assert "green" in refreshed.stdout
    assert "- {action: skip, kind: keypair, " in path.read_text()
    assert "reason: left out by hand" in path.read_text()
    again = runner.run("migrate", "--plan", str(path), "--dry-run", exit_code=0)
    assert "Tasks in the order of the run" in again.stdout
    assert "create keypair" not in again.stdout


def test_an_unknown_run_is_one_message(runner: Runner) -> None:
    for command in (["runs", "show"], ["resume", "--yes"], ["revert", "--yes"]):
        result = runner.run(*command, "0000aaaa", exit_code=2)
        assert "there is no run '0000aaaa'" in result.stderr


@pytest.fixture
def no_computes(lab: Lab) -> Iterator[None]:
    """The destination's only host takes no servers."""
    compute = connect(lab.clouds_yaml, "destination").compute

    def put(status: str) -> None:
        found = compute.get("/os-services?binary=nova-compute", microversion="2.53").json()["services"]
        for service in found:
            path = f"/os-services/{service['id']}"
            assert compute.put(path, json={"status": status}, microversion="2.53").status_code == 200

    put("disabled")
    yield
    put("enabled")


@pytest.mark.usefixtures("no_computes")
def test_a_destination_that_boots_nothing_is_refused_before_anything_is_stopped(
    lab: Lab, runner: Runner, small: Sample
) -> None:
    before = both(lab)
    said = "no nova-compute of the destination is enabled and up (1 disabled and up): no server would boot"
    assert said in runner.run("check", exit_code=1).stdout
    assert runner.run("check", "--tenant", small.name, exit_code=1).stdout.count(said) == 1
    plan = runner.json("migrate", "tenant", small.name, "--dry-run")
    assert [obstacle["what"] for obstacle in plan["obstacles"]] == [said]
    refused = runner.run("migrate", "tenant", small.name, "--yes", exit_code=1)
    assert said in " ".join(refused.stderr.split())
    assert "start all the same with --force" in refused.stderr
    assert {cloud: changes(before[cloud], now) for cloud, now in both(lab).items()} == dict.fromkeys(
        before, NOTHING
    )


def test_the_first_bytes_of_an_image_tell_what_it_is(lab: Lab, runner: Runner, small: Sample) -> None:
    plan = runner.json("plan", "tenant", small.name, "--only", "image")
    assert "obstacles" not in plan
    source = Cloud.from_clouds_yaml("source", clouds_file=Path(lab.clouds_yaml), read_only=True)
    steps = [step for unit in plan["units"] for step in unit["steps"] if step["kind"] == "image"]
    (data, size_bytes, ref) = next(
        (record["data"], record["size_bytes"], Ref("image", step["id"]))
        for step in steps
        if (record := step["record"])["data"]["container_format"] == "bare"
    )
    said = {**data, "disk_format": "vhdx"}
    record = Record(ref, "disguised", said, size_bytes=size_bytes)
    (found,) = mismatches(source, [Step(record, Action.CREATE, "", "disguised")])
    assert "image disguised is said to be vhdx, and its first bytes are those of " in found.what


def test_a_run_that_is_too_slow_is_made_fast_while_it_goes_on(
    lab: Lab, runner: Runner, small: Sample, tmp_path: Path
) -> None:
    """At the first limit the images take hours."""
    before, log = both(lab), tmp_path / "log"
    limits = ("--limit-rate", "100", "--transfers", "1")
    slow = runner.start(
        "migrate", "tenant", small.name, "--only", "image", "--yes", "--log-json", str(log), *limits
    )
    slow.says("Run [0-9a-f]{8}")
    told = runner.run("runs", "limit", "last", exit_code=2).stderr
    assert "expected --transfers N or --limit-rate BYTES" in told
    run = slow.says("Run ([0-9a-f]{8})")[1]
    slow.says("created   tenant")
    runner.run("runs", "limit", run, "--limit-rate", "none", "--transfers", "3", exit_code=0)
    slow.says("the limits are changed: 3 transfers at a time, bytes as fast as they go")
    slow.wait().expect(0)
    assert '"event": "limits_changed"' in log.read_text()
    late = runner.run("runs", "limit", run, "--transfers", "2", exit_code=2).stderr
    assert f"run {run} is SUCCESS" in late
    runner.run("revert", run, "--yes", exit_code=0)
    assert {cloud: changes(before[cloud], now) for cloud, now in both(lab).items()} == dict.fromkeys(
        before, NOTHING
    )


def test_the_speed_is_measured_and_remembered_and_nothing_stays(
    lab: Lab, runner: Runner, small: Sample
) -> None:
    before = both(lab)
    found = runner.json("check", "--speed", "--tenant", small.name)
    assert found["bytes_per_s"].keys() == {"source to destination", "destination to source"}
    assert min(found["bytes_per_s"].values()) > 0
    assert found["obstacles"] == []
    shown = runner.run("plan", "tenant", small.name, "--summary", exit_code=0).stdout
    assert "a second (measured)" in " ".join(shown.split())
    assert {cloud: changes(before[cloud], now) for cloud, now in both(lab).items()} == dict.fromkeys(
        before, NOTHING
    )

"""A tenant moves between two real clouds, as an operator moves it: by the command line."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from lab.populate import Sample, populate, remove
from lab.proof import compare, facts
from lab.sample.base import Sizes, connect, get
from tests.real.listing import changes, listing
from tests.real.runner import Runner


@pytest.fixture(scope="module")
def runner(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(lab, tmp_path_factory.mktemp("migrate"))


@pytest.fixture(scope="module")
def shop(lab: Lab) -> Iterator[Sample]:
    """The whole sample tenant."""
    sample = populate(lab.clouds_yaml, f"shop-{uuid.uuid4().hex[:6]}", Sizes())
    yield sample
    for cloud in ("source", "destination"):
        remove(lab.clouds_yaml, sample.name, cloud=cloud)


@pytest.fixture
def small(lab: Lab) -> Iterator[Sample]:
    """A tenant with one server."""
    sample = populate(lab.clouds_yaml, f"small-{uuid.uuid4().hex[:6]}", Sizes.small())
    yield sample
    for cloud in ("source", "destination"):
        remove(lab.clouds_yaml, sample.name, cloud=cloud)


def by_kind(result: dict, *outcomes: str) -> Counter[str]:
    return Counter(item["kind"] for item in result["resources"] if item["outcome"] in outcomes)


def why(result: dict, kind: str) -> str:
    return next(item["reason"] for item in result["resources"] if item["kind"] == kind)


def test_the_sample_tenant_from_dry_run_to_second_run(lab: Lab, runner: Runner, shop: Sample) -> None:
    """One long test, because what it shows is the order: nothing, everything, nothing more."""
    before = {cloud: listing(lab.clouds_yaml, cloud) for cloud in ("source", "destination")}
    tenant = facts(lab.dir, "source", shop.tenant_id)

    plan = runner.json("migrate", "tenant", shop.name, "--dry-run")
    for cloud in before:
        assert changes(before[cloud], listing(lab.clouds_yaml, cloud)) == {"added": [], "removed": [], "changed": []}
    assert plan["tenant"] == {"id": shop.tenant_id, "name": shop.name}
    assert plan["summary"]["conflict"] == 0

    result = runner.json("migrate", "tenant", shop.tenant_id, "--yes")
    assert result["summary"].get("failed", 0) == 0
    planned = Counter(step["kind"] for unit in plan["units"] for step in unit["steps"] if step["action"] == "create")
    assert by_kind(result, "created") == planned
    new_id = next(item["new_id"] for item in result["resources"] if item["kind"] == "tenant")
    assert compare(tenant, facts(lab.dir, "destination", new_id)) == []

    left = changes(before["source"], listing(lab.clouds_yaml, "source"))
    assert (left["added"], left["removed"]) == ([], [])
    assert {key.partition("/")[0] for key in left["changed"]} <= {"servers"}
    operator = connect(lab.clouds_yaml, "destination").current_user_id
    added = changes(before["destination"], listing(lab.clouds_yaml, "destination"))["added"]
    assert [key for key in added if key.startswith("role_assignments/") and operator in key] == []
    assert len([key for key in added if key.startswith("images/")]) == planned["image"]

    counts = {cloud: Counter(key.partition("/")[0] for key in listing(lab.clouds_yaml, cloud)) for cloud in before}
    again = runner.json("migrate", "tenant", shop.name, "--yes")
    assert by_kind(again, "created", "failed") == Counter()
    for cloud, count in counts.items():
        assert Counter(key.partition("/")[0] for key in listing(lab.clouds_yaml, cloud)) == count


def test_a_disk_changed_after_boot_arrives_with_the_change(lab: Lab, runner: Runner, small: Sample) -> None:
    images = {image["SHA-512"] for name, image in facts(lab.dir, "source", small.tenant_id).items() if "image" in name}
    source = facts(lab.dir, "source", small.tenant_id)
    disk = next(found["disk"] for name, found in source.items() if name.startswith("server"))
    assert disk not in images
    result = runner.json("migrate", "tenant", small.name, "--yes")
    new_id = next(item["new_id"] for item in result["resources"] if item["kind"] == "tenant")
    after = facts(lab.dir, "destination", new_id)
    assert [found["disk"] for name, found in after.items() if name.startswith("server")] == [disk]


def test_a_flavor_of_other_values_is_a_conflict_and_the_rest_arrives(lab: Lab, runner: Runner, small: Sample) -> None:
    name = f"{small.name}.tiny"
    flavors = connect(lab.clouds_yaml, "destination").compute
    flavor = flavors.create_flavor(name=name, ram=1, vcpus=1, disk=1)
    try:
        result = runner.json("migrate", "tenant", small.name, "--yes", exit_code=3)
        assert "ram is 1" in why(result, "flavor")
        assert f"needs flavor {name}, which is in conflict" in why(result, "server")
        assert by_kind(result, "created")["image"] == 1
        assert by_kind(result, "failed") == Counter()
    finally:
        flavors.delete_flavor(flavor)


def test_a_quota_of_zero_fails_the_server_alone_and_leaves_nothing(
    lab: Lab, runner: Runner, small: Sample
) -> None:
    source = facts(lab.dir, "source", small.tenant_id)
    compute = connect(lab.clouds_yaml, "destination").compute
    compute.put("/os-quota-class-sets/default", json={"quota_class_set": {"instances": 0}})
    try:
        result = runner.json("migrate", "tenant", small.name, "--yes", exit_code=3)
    finally:
        compute.put("/os-quota-class-sets/default", json={"quota_class_set": {"instances": -1}})
    assert "uota exceeded" in why(result, "server")
    assert set(by_kind(result, "failed")) == {"server", "port"}
    new_id = next(item["new_id"] for item in result["resources"] if item["kind"] == "tenant")
    destination = connect(lab.clouds_yaml, "destination")
    ports = get(destination.network, f"/ports?project_id={new_id}")["ports"]
    assert [port for port in ports if not port["device_owner"].startswith("network:")] == []
    assert [name for name in facts(lab.dir, "destination", new_id) if name.startswith("server")] == []
    assert len(facts(lab.dir, "destination", new_id)) == 1
    assert facts(lab.dir, "source", small.tenant_id) == source

    assert by_kind(runner.json("migrate", "tenant", small.name, "--yes"), "created") == Counter(server=1, port=1)


def test_an_image_whose_bytes_do_not_match_is_not_made(lab: Lab, runner: Runner, small: Sample) -> None:
    (image_id,) = small.made["image"].values()
    (stored,) = (lab.cloud_dir("source") / "glance").rglob(image_id)
    with stored.open("r+b") as data:
        data.seek(1000)
        data.write(b"damaged")
    result = runner.json("migrate", "tenant", small.name, "--yes", exit_code=3)
    assert "do not match" in why(result, "image")
    new_id = next(item["new_id"] for item in result["resources"] if item["kind"] == "tenant")
    assert [name for name in facts(lab.dir, "destination", new_id) if name.startswith("image")] == []
    assert by_kind(result, "created")["server"] == 1


def test_unknown_tenant(runner: Runner) -> None:
    result = runner.run("migrate", "tenant", "nobody", exit_code=2)
    assert "error: the source has no tenant 'nobody'" in result.stderr


def test_a_refused_login_is_one_message(runner: Runner, tmp_path: Path) -> None:
    clouds = runner.lab.clouds_yaml.read_text().replace("password: ", "password: wrong-", 1)
    (tmp_path / "clouds.yaml").write_text(clouds)
    (tmp_path / "clouds.yaml").chmod(0o600)
    config = runner.write_config(tmp_path / "pumphouse.yaml", clouds_file=tmp_path / "clouds.yaml")
    result = runner.run("check", config=config, exit_code=4)
    assert result.stderr.count("error: ") == 1
    assert "wrong-" not in result.stderr + result.stdout


def test_same_cloud_twice_is_refused(runner: Runner) -> None:
    result = runner.run("migrate", "tenant", "x", "--destination-cloud", "source", exit_code=2)
    assert "the same cloud" in result.stderr


def test_json_of_check_names_both_clouds(runner: Runner) -> None:
    found = runner.json("check")
    assert [found[side]["name"] for side in ("source", "destination")] == ["source", "destination"]
    assert {service["type"] for service in found["source"]["services"]} >= {"compute", "identity", "image", "network"}


def test_secrets_stay_out_of_everything_that_is_printed(lab: Lab, runner: Runner, small: Sample) -> None:
    result = runner.run("migrate", "tenant", small.name, "--yes", "--debug", "-f", "json", exit_code=0)
    printed = result.stdout + result.stderr
    (generated,) = [line.rpartition(",")[2] for line in runner.passwords.read_text().splitlines() if small.name in line]
    admin = json.loads(json.dumps(__import__("yaml").safe_load(lab.clouds_yaml.read_text())))["clouds"]
    for secret in (generated, *(cloud["auth"]["password"] for cloud in admin.values())):
        assert secret not in printed
    user_data = [found["user data"] for found in facts(lab.dir, "source", small.tenant_id).values() if found.get("user data")]
    assert user_data
    assert user_data[0] not in printed

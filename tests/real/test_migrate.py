"""A tenant moves between two real clouds, as an operator moves it: by the command line."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab import Lab
from lab.populate import Sample, populate
from lab.proof import compare, facts
from lab.sample.base import Sizes, connect, get, put
from tests.real.conftest import discard
from tests.real.listing import NOTHING, Listing, changes, listing
from tests.real.runner import Runner


@pytest.fixture(scope="module")
def runner(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(lab, tmp_path_factory.mktemp("migrate"))


@pytest.fixture(scope="module")
def shop(lab: Lab) -> Iterator[Sample]:
    """The whole sample tenant."""
    sample = populate(lab.clouds_yaml, f"shop-{uuid.uuid4().hex[:6]}", Sizes())
    yield sample
    discard(lab, sample.name)


@pytest.fixture
def small(lab: Lab) -> Iterator[Sample]:
    """A tenant with one server."""
    sample = populate(lab.clouds_yaml, f"small-{uuid.uuid4().hex[:6]}", Sizes.small())
    yield sample
    discard(lab, sample.name)


def by_kind(result: dict, *outcomes: str) -> Counter[str]:
    return Counter(item["kind"] for item in result["resources"] if item["outcome"] in outcomes)


def why(result: dict, kind: str) -> str:
    return next(item["reason"] for item in result["resources"] if item["kind"] == kind)


def new_tenant(result: dict) -> str:
    return next(item["destination_id"] for item in result["resources"] if item["kind"] == "tenant")


def timeless(found: Listing) -> Listing:
    """A listing without the times of the last changes: Cinder counts it as one when a volume is read out."""
    return {
        key: {name: value for name, value in item.items() if name != "updated_at"}
        for key, item in found.items()
    }


def stored_image(lab: Lab, sample: Sample) -> Path:
    """The file in which the source's Glance keeps the bytes of the sample's image."""
    (image_id,) = sample.made["image"].values()
    (stored,) = (path for path in (lab.cloud_dir("source") / "glance").rglob(image_id) if path.is_file())
    return stored


@pytest.mark.exhaustive
def test_the_sample_tenant_from_dry_run_to_second_run(lab: Lab, runner: Runner, shop: Sample) -> None:
    """One long test, because what it shows is the order: nothing, everything, nothing more."""
    before = {cloud: listing(lab.clouds_yaml, cloud) for cloud in ("source", "destination")}
    tenant = facts(lab.dir, "source", shop.tenant_id)

    plan = runner.json("migrate", "tenant", shop.name, "--dry-run")
    for cloud in before:
        assert changes(before[cloud], listing(lab.clouds_yaml, cloud)) == NOTHING
    assert plan["data"]["tenant"] == {"id": shop.tenant_id, "name": shop.name}
    assert plan["summary"]["conflict"] == 0

    # What it shares with a tenant that is not at the destination is left behind.
    result = runner.json("migrate", "tenant", shop.tenant_id, "--yes", exit_code=3)
    assert {ref.partition("/")[0] for ref in result["left_behind"]} == {"rbac_policy"}
    assert result["summary"].get("failed", 0) == 0
    planned = Counter(
        step["kind"] for unit in plan["units"] for step in unit["steps"] if step["action"] == "create"
    )
    assert by_kind(result, "created") == planned
    assert compare(tenant, facts(lab.dir, "destination", new_tenant(result))) == []

    notes = {(s["kind"], s["id"]): s.get("notes", []) for unit in plan["units"] for s in unit["steps"]}
    said = {
        item["kind"]
        for item in result["resources"]
        if item["notes"] != notes[item["kind"], item["source_id"]]
    }
    # Whom an image is shared with, and which address the destination gives, is seen only when it is made.
    assert said <= {"image", "floating_ip"}

    left = changes(timeless(before["source"]), timeless(listing(lab.clouds_yaml, "source")))
    assert (left["added"], left["removed"]) == ([], [])
    assert {key.partition("/")[0] for key in left["changed"]} <= {"servers"}
    operator = connect(lab.clouds_yaml, "destination").current_user_id
    added = changes(before["destination"], listing(lab.clouds_yaml, "destination"))["added"]
    assert [key for key in added if key.startswith("role_assignments/") and operator in key] == []
    assert len([key for key in added if key.startswith("images/")]) == planned["image"]

    counts = {
        cloud: Counter(key.partition("/")[0] for key in listing(lab.clouds_yaml, cloud)) for cloud in before
    }
    again = runner.json("migrate", "tenant", shop.name, "--yes", exit_code=3)
    assert by_kind(again, "created", "failed") == Counter()
    for cloud, count in counts.items():
        assert Counter(key.partition("/")[0] for key in listing(lab.clouds_yaml, cloud)) == count


def test_a_tenant_with_troubles_arrives_as_far_as_it_can_and_in_full_when_they_are_gone(
    lab: Lab, runner: Runner, small: Sample
) -> None:
    """A flavor of other values, a damaged image, a quota of zero: one message each, and nothing half made."""
    compute = connect(lab.clouds_yaml, "destination").compute
    tenant = facts(lab.dir, "source", small.tenant_id)
    image = stored_image(lab, small)
    whole = image.read_bytes()

    image.write_bytes(whole.replace(whole[1000:1007], b"damaged", 1))
    flavor = compute.create_flavor(name=f"{small.name}.tiny", ram=1, vcpus=1, disk=1)
    try:
        result = runner.json("migrate", "tenant", small.name, "--yes", exit_code=3)
    finally:
        compute.delete_flavor(flavor)
    assert "ram is 1" in why(result, "flavor")
    assert f"needs flavor {small.name}.tiny, which is in conflict" in why(result, "server")
    assert "do not match" in why(result, "image")
    assert by_kind(result, "failed") == Counter(image=1)
    new_id = new_tenant(result)
    assert facts(lab.dir, "destination", new_id) == {}
    assert facts(lab.dir, "source", small.tenant_id) == tenant

    image.write_bytes(whole)
    quota = f"/os-quota-sets/{new_id}"
    instances = get(compute, quota)["quota_set"]["instances"]
    put(compute, quota, quota_set={"instances": 0})
    result = runner.json("migrate", "tenant", small.name, "--yes", exit_code=3)
    put(compute, quota, quota_set={"instances": instances})
    assert "limit of instances at the destination is 0, of which 0 are in use" in why(result, "server")
    assert by_kind(result, "conflict") == Counter(server=1)
    assert list(facts(lab.dir, "destination", new_id)) == ["image base"]
    ports = get(connect(lab.clouds_yaml, "destination").network, f"/ports?project_id={new_id}")["ports"]
    assert [port["name"] for port in ports if not port["device_owner"].startswith("network:")] == ["vip"]
    assert facts(lab.dir, "source", small.tenant_id) == tenant

    result = runner.json("migrate", "tenant", small.name, "--yes")
    assert by_kind(result, "created") == Counter(server=1, port=1)
    assert compare(tenant, facts(lab.dir, "destination", new_id)) == []


def test_a_tenant_with_a_changed_disk_from_dry_run_to_second_run_and_no_secret_is_printed(
    lab: Lab, runner: Runner, small: Sample
) -> None:
    before = {cloud: listing(lab.clouds_yaml, cloud) for cloud in ("source", "destination")}
    runner.json("migrate", "tenant", small.name, "--keep-running", "--dry-run")
    for cloud, found in before.items():
        assert changes(found, listing(lab.clouds_yaml, cloud)) == NOTHING
    tenant = facts(lab.dir, "source", small.tenant_id)
    server = next(found for name, found in tenant.items() if name.startswith("server"))
    assert server["disk"] != hashlib.sha512(stored_image(lab, small).read_bytes()).hexdigest()
    arguments = ("migrate", "tenant", small.name, "--keep-running", "--yes", "--debug", "-f", "json")
    result = runner.run(*arguments, exit_code=0)
    assert facts(lab.dir, "source", small.tenant_id) == tenant
    new_id = new_tenant(json.loads(result.stdout))
    assert compare(tenant, facts(lab.dir, "destination", new_id)) == []
    moved = listing(lab.clouds_yaml, "destination").keys()
    again = runner.json("migrate", "tenant", small.name, "--yes")
    assert by_kind(again, "created", "failed") == Counter()
    assert listing(lab.clouds_yaml, "destination").keys() == moved

    passwords = [
        row.rpartition(",")[2] for row in runner.passwords.read_text().splitlines() if small.name in row
    ]
    clouds = yaml.safe_load(lab.clouds_yaml.read_text())["clouds"].values()
    secrets = [*passwords, *(cloud["auth"]["password"] for cloud in clouds), server["user data"]]
    assert len(secrets) == 4
    for secret in secrets:
        assert secret not in result.stdout + result.stderr


def test_a_root_disk_made_from_the_image_again_is_asked_for_and_said(
    lab: Lab, runner: Runner, small: Sample, tmp_path: Path
) -> None:
    config = runner.write_config(tmp_path / "pumphouse.yaml", root_disk="image")
    result = runner.json("migrate", "tenant", small.name, "--yes", config=config)
    server = next(item for item in result["resources"] if item["kind"] == "server")
    assert any("changes on the disk are not carried" in note for note in server["notes"])
    after = facts(lab.dir, "destination", new_tenant(result))
    assert after["server web"]["disk"] == after["image base"]["SHA-512"]
    assert after["server web"]["status"] == "ACTIVE"


def test_unknown_tenant(runner: Runner) -> None:
    result = runner.run("migrate", "tenant", "nobody", "--yes", exit_code=2)
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
    result = runner.run("migrate", "tenant", "x", "--destination-cloud", "source", "--yes", exit_code=2)
    assert "the same cloud" in result.stderr


def test_json_of_check_names_both_clouds(runner: Runner) -> None:
    found = runner.json("check")
    assert [found[side]["name"] for side in ("source", "destination")] == ["source", "destination"]
    assert {service["type"] for service in found["source"]["services"]} >= {
        "compute",
        "identity",
        "image",
        "network",
    }

"""The lab itself: what it starts, keeps, puts back and ends, on a lab of its own beside the shared one."""

from __future__ import annotations

import hashlib
import random
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from openstack.connection import Connection

from lab import Lab, furnish
from lab.__main__ import main
from lab.disks import server_disk, sha512, write_bytes

# All other tests have a lab; only these need one more.
pytestmark = pytest.mark.exhaustive

BYTES = random.Random(5).randbytes(1 << 20)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("own"))
    try:
        lab.up()
        yield lab
    finally:
        lab.down(purge=True)


@pytest.fixture
def source(own: Lab) -> Connection:
    own.up()
    return furnish.connect(own.clouds()[0])


def pids(lab: Lab) -> dict[tuple[str, str], int | None]:
    return {(cloud.name, name): process and process.pid for cloud, name, process in lab.status()}


def ports(lab: Lab) -> set[int]:
    return {port for cloud in lab.clouds() for port in cloud.ports.values()}


def until(condition: Callable[[], Any], timeout_s: float = 120) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return result


def boot(cloud: Connection, name: str) -> Any:
    """A server on a network of its own, from an image of BYTES."""
    image = cloud.image.create_image(name=name, disk_format="raw", container_format="bare")
    headers = {"Content-Type": "application/octet-stream"}
    assert cloud.image.put(f"/images/{image.id}/file", data=BYTES, headers=headers).ok
    network = cloud.network.create_network(name=name)
    cloud.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.5.0.0/24")
    flavor = cloud.compute.find_flavor("m1.tiny")
    server = cloud.compute.create_server(
        name=name, image_id=image.id, flavor_id=flavor.id, networks=[{"uuid": network.id}]
    )
    return cloud.compute.wait_for_server(server, interval=0.2, wait=120)


def test_two_labs_run_beside_each_other(lab: Lab, own: Lab) -> None:
    assert lab.is_up()
    assert own.is_up()
    assert not ports(lab) & ports(own)


def test_each_database_has_a_folder_of_its_own_for_what_is_temporary(lab: Lab) -> None:
    """One that starts removes what is temporary of another in the same folder, which ends that one."""
    commands = [process.cmdline() for _, name, process in lab.status() if name == "mysqld"]
    folders = [Path(part.partition("=")[2]) for line in commands for part in line if "--tmpdir=" in part]
    assert len({*folders}) == len(commands) == 2
    assert all(lab.dir in folder.parents for folder in folders)


def test_both_clouds_are_furnished_and_independent(own: Lab) -> None:
    clouds = [furnish.connect(cloud) for cloud in own.clouds()]
    for cloud in clouds:
        assert {"m1.tiny", "m1.small"} <= {flavor.name for flavor in cloud.compute.flavors()}
        assert {"member", "reader"} <= {role.name for role in cloud.identity.roles()}
        assert cloud.network.find_network("public").is_router_external
        assert furnish.VOLUME_TYPE in {each.name for each in cloud.block_storage.types()}
    first, second = ({project.id for project in cloud.identity.projects()} for cloud in clouds)
    assert not first & second


def test_up_again_leaves_what_runs(own: Lab) -> None:
    before = pids(own)
    result = CliRunner().invoke(main, ["--dir", str(own.dir), "up"])
    assert result.exit_code == 0
    assert "up already" in result.output
    assert pids(own) == before


def test_up_starts_only_what_is_missing(own: Lab, source: Connection) -> None:
    before = pids(own)
    dead = {("source", "glance"), ("destination", "mysqld")}
    for cloud, name, process in own.status():
        if (cloud.name, name) in dead:
            process.kill()
            process.wait()
    assert CliRunner().invoke(main, ["--dir", str(own.dir), "status"]).exit_code == 3
    assert own.up()
    after = pids(own)
    assert all(after.values())
    assert {key for key in after if after[key] != before[key]} == dead
    assert list(source.image.images()) == []


def test_a_snapshot_carries_what_a_guest_wrote(own: Lab, source: Connection) -> None:
    server = boot(source, "written")
    disk = server_disk(own.dir, "source", server.id)
    assert disk.read_bytes() == BYTES
    written = write_bytes(disk, 4096, b"what the guest wrote")
    assert written != hashlib.sha512(BYTES).hexdigest()
    image = source.compute.create_server_image(server, "snapshot")
    image = until(lambda: (found := source.image.get_image(image.id)).status == "active" and found)
    assert image.hash_value == written


def test_servers_and_their_disks_outlive_a_restart(own: Lab, source: Connection) -> None:
    running, stopped = boot(source, "running"), boot(source, "stopped")
    source.compute.stop_server(stopped)
    source.compute.wait_for_server(stopped, status="SHUTOFF", interval=0.2, wait=60)
    disk = server_disk(own.dir, "source", running.id)
    written = write_bytes(disk, 0, b"kept")
    assert own.down() == len(pids(own))
    assert not any(pids(own).values())
    assert own.up()
    assert source.compute.get_server(running.id).status == "ACTIVE"
    assert source.compute.get_server(stopped.id).status == "SHUTOFF"
    assert sha512(disk) == written
    source.compute.start_server(stopped)
    source.compute.wait_for_server(stopped, interval=0.2, wait=60)


def test_reset_forgets_the_tenants(own: Lab, source: Connection) -> None:
    server = boot(source, "forgotten")
    source.identity.create_project(name="forgotten", domain_id="default")
    own.reset()
    fresh = furnish.connect(own.clouds()[0])
    assert list(fresh.compute.servers(all_projects=True)) == []
    assert fresh.identity.find_project("forgotten") is None
    assert [network.name for network in fresh.network.networks()] == ["public"]
    assert not server_disk(own.dir, "source", server.id).exists()
    assert boot(fresh, "forgotten").status == "ACTIVE"


def test_secrets_stay_in_private_files(own: Lab) -> None:
    password = own.clouds()[0].password
    assert stat.S_IMODE(own.clouds_yaml.stat().st_mode) == 0o600
    assert password not in repr(own.clouds())
    assert not any(password in " ".join(process.cmdline()) for _, _, process in own.status())
    assert not any(password in log.read_text(errors="replace") for log in own.dir.glob("*/logs/*.log"))

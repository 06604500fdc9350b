"""Servers that are neither running nor stopped, between two real Novas."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import Lab
from lab.disks import server_disk
from lab.sample.base import until
from pumphouse.cloud import Cloud, call
from pumphouse.model import Json
from pumphouse.tasks.glance.common import list_images
from pumphouse.tasks.nova.common import TASK, wait_for_server
from pumphouse.tasks.nova.shelved import OFFLOADED
from tests.real.runner import Runner
from tests.real.test_kind_server import Shop, clouds, of_kind, runner, shop

__all__ = ["clouds", "runner", "shop"]


def reach(cloud: Cloud, tenant_id: str, server_id: str, status: str) -> Json:
    return wait_for_server(
        cloud,
        tenant_id,
        server_id,
        lambda server: server["status"] == status and not server.get(TASK),
        title=status,
        timeout_s=120,
    )


def shelve(cloud: Cloud, tenant_id: str, server_id: str) -> None:
    """As one of the tenant does it, whose token Nova needs until it is done: the image is the tenant's."""
    with cloud.in_tenant(tenant_id) as there:
        there.nova.servers.shelve(server_id)
        reach(cloud, tenant_id, server_id, OFFLOADED)


def unshelve(cloud: Cloud, server: Json) -> None:
    with cloud.in_tenant(server["tenant_id"]) as there:
        there.nova.servers.unshelve(server["id"])
        reach(cloud, server["tenant_id"], server["id"], "ACTIVE")


def test_a_shelved_server_arrives_shelved_with_its_bytes(lab: Lab, shop: Shop, runner: Runner) -> None:
    """Without being started at the source; Nova's images of it are carried by neither kind, and stay what they are."""
    tenant_id = shop.tenant()
    network = shop.network(tenant_id, "front", 81)
    server_id = shop.boot(tenant_id, "db", imageRef=shop.image(tenant_id), networks=[{"uuid": network}])
    disk = server_disk(lab.dir, "source", server_id)
    disk.write_bytes(written := b"written since it was booted" * 4000)
    shelve(shop.source, tenant_id, server_id)
    (kept,) = list_images(shop.source, instance_uuid=server_id)

    done = runner.json("migrate", "tenant", shop.tag, "--yes")
    assert [item["outcome"] for item in of_kind(done, "server")] == ["created"]
    assert "db-shelved" not in [item["name"] for item in of_kind(done, "image")]
    assert shop.source.nova.servers.get(server_id).status == OFFLOADED
    twin = shop.twin("db")
    assert twin["status"] == OFFLOADED
    assert [image["name"] for image in list_images(shop.destination, instance_uuid=twin["id"])] == [
        "db-shelved"
    ]
    found = runner.json("verify", "tenant", shop.tag)
    assert not [item for item in found["resources"] if item["outcome"] in ("missing", "different")]

    unshelve(shop.destination, twin)
    assert server_disk(lab.dir, "destination", twin["id"]).read_bytes() == written
    assert [image["id"] for image in list_images(shop.source, instance_uuid=server_id)] == [kept["id"]]
    found = runner.json("verify", "tenant", shop.tag, exit_code=6)
    (server,) = of_kind(found, "server")
    assert [item["field"] for item in server["differences"]] == ["status"]
    runner.run("revert", "last", "--yes", "--force", exit_code=0)
    assert shop.tag not in [project.name for project in shop.destination.keystone.projects.list()]


@pytest.mark.exhaustive
def test_a_shelved_server_is_taken_back_while_it_is_shelved(shop: Shop, runner: Runner) -> None:
    """Its tenant goes with it: the image that Nova keeps of it is no stranger."""
    tenant_id = shop.tenant()
    server_id = shop.boot(tenant_id, "db", imageRef=shop.image(tenant_id))
    shelve(shop.source, tenant_id, server_id)
    runner.json("migrate", "tenant", shop.tag, "--yes")
    twin_id = shop.twin("db")["id"]
    runner.run("revert", "last", "--yes", exit_code=0)
    assert shop.tag not in [project.name for project in shop.destination.keystone.projects.list()]
    assert not list_images(shop.destination, instance_uuid=twin_id)


def test_halted_and_broken_servers_arrive_as_the_policies_say(
    shop: Shop, runner: Runner, tmp_path: Path
) -> None:
    tenant_id = shop.tenant()
    image = shop.image(tenant_id)
    nova = shop.source.nova.servers
    paused = shop.boot(tenant_id, "paused", imageRef=image)
    nova.pause(paused)
    reach(shop.source, tenant_id, paused, "PAUSED")
    rescued, erring = (shop.boot(tenant_id, name, imageRef=image) for name in ("rescued", "erring"))
    nova.rescue(rescued)
    reach(shop.source, tenant_id, rescued, "RESCUE")
    with shop.source.in_tenant(tenant_id) as there:
        body = {"volume": {"name": "root", "size": 1, "imageRef": image}}
        volume_id = call(there.cinder, "POST", "/volumes", body)["volume"]["id"]
    path = f"/volumes/{volume_id}"
    until(lambda: call(shop.source.cinder, "GET", path)["volume"]["status"] == "available", "volume")
    root = {"source_type": "volume", "destination_type": "volume", "uuid": volume_id, "boot_index": 0}
    lost = shop.boot(tenant_id, "lost", block_device_mapping_v2=[root])
    for server_id in (erring, lost):
        nova.reset_state(server_id, "error")

    plan = runner.json("migrate", "tenant", shop.tag, "--dry-run")
    said = {s["name"]: s for unit in plan["units"] for s in unit["steps"] if s["kind"] == "server"}
    assert "is PAUSED and arrives SHUTOFF: its memory is not carried" in said["paused"]["notes"]
    assert f"openstack server unrescue {rescued}" in said["rescued"]["reason"]
    assert "policies.broken_servers" not in said["erring"]["reason"]
    assert "policies.broken_servers: move" in said["lost"]["reason"]

    config = runner.write_config(tmp_path / "p.yaml", paused_servers="started", broken_servers="move")
    done = runner.json("migrate", "tenant", shop.tag, "--yes", config=config, exit_code=3)
    outcomes = {item["name"]: item["outcome"] for item in of_kind(done, "server")}
    assert outcomes == {"paused": "created", "lost": "created", "rescued": "skipped", "erring": "skipped"}
    assert {server["name"]: server["status"] for server in shop.twins()} == {
        "paused": "ACTIVE",
        "lost": "SHUTOFF",
    }
    found = runner.json("verify", "tenant", shop.tag, exit_code=6)
    assert {item["name"]: item["outcome"] for item in of_kind(found, "server")} == {
        "paused": "noted",
        "lost": "noted",
        "rescued": "missing",
        "erring": "missing",
    }


@pytest.mark.exhaustive
def test_what_nova_is_doing_with_a_server_is_waited_for(shop: Shop, runner: Runner) -> None:
    tenant_id = shop.tenant()
    server_id = shop.boot(tenant_id, "busy", imageRef=shop.image(tenant_id))
    shop.source.nova.servers.create_image(server_id, "i2")
    plan = runner.json("migrate", "tenant", shop.tag, "--dry-run")
    (server,) = [s for unit in plan["units"] for s in unit["steps"] if s["kind"] == "server"]
    assert server["action"] == "create"

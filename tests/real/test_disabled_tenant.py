"""A disabled tenant moves by the command line: it is filled while it is enabled, and disabled at the end."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab import Lab
from pumphouse.tasks.glance.common import list_images, stamp_of
from pumphouse.tasks.neutron.common import NETWORKS
from tests.real.by_hand import Clouds
from tests.real.neutron_world import neutron_world
from tests.real.runner import Runner


@pytest.fixture
def disabled(lab: Lab) -> Iterator[SimpleNamespace]:
    """A disabled tenant with an image and a network; all of it is removed from both clouds."""
    with neutron_world(lab) as world:
        network, subnet = world.network()
        glance = world.source.glance
        made = glance.images.create(
            name="kept", disk_format="raw", container_format="bare", owner=world.tenant_id
        )
        body = uuid.uuid4().bytes * 1024
        glance.images.upload(made["id"], io.BytesIO(body))
        world.source.keystone.projects.update(world.tenant_id, enabled=False)
        try:
            yield SimpleNamespace(world=world, image_id=made["id"], network=network, subnet=subnet)
        finally:
            for cloud in (world.source, world.destination):
                for image in list_images(cloud):
                    if made["id"] in (image["id"], stamp_of(image)):
                        cloud.glance.images.delete(image["id"])


def created(result: dict) -> list[str]:
    return sorted(item["kind"] for item in result["resources"] if item["outcome"] == "created")


def test_a_disabled_tenant_arrives_in_full_and_disabled(
    lab: Lab, disabled: SimpleNamespace, tmp_path: Path
) -> None:
    runner = Runner(lab, tmp_path)
    world, clouds = disabled.world, Clouds(disabled.world.source, disabled.world.destination)
    tenant = clouds.source.keystone.projects.get(world.tenant_id)

    result = runner.json("migrate", "tenant", tenant.name, "--yes")
    assert {"image", "network", "subnet", "tenant", "tenant_state"} <= set(created(result))
    twin = clouds.destination.keystone.projects.get(world.twin_tenant())
    assert (twin.name, twin.enabled) == (tenant.name, False)
    assert world.twin(NETWORKS, disabled.network)["name"] == "lan"
    (arrived,) = [i for i in list_images(clouds.destination) if stamp_of(i) == disabled.image_id]
    assert arrived["os_hash_value"] == clouds.source.glance.images.get(disabled.image_id)["os_hash_value"]
    assert clouds.source.keystone.projects.get(world.tenant_id).enabled is False

    assert created(runner.json("migrate", "tenant", tenant.name, "--yes")) == []
    assert clouds.destination.keystone.projects.get(twin.id).enabled is False

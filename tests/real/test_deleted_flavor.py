"""A server whose flavor its cloud no longer has, and which is in a server group."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from pumphouse.cloud import call
from pumphouse.model import Action, Json, Ref
from pumphouse.tasks.base import ensured_id
from pumphouse.tasks.glance.common import list_images
from pumphouse.tasks.keystone import domain, tenant
from pumphouse.tasks.nova import flavor, server
from pumphouse.tasks.nova.common import servers_of, wait_for_server
from tests.real.by_hand import ByHand, connect

pytestmark = pytest.mark.exhaustive

VALUES: Json = {"ram": 64, "vcpus": 1, "disk": 1, "swap": 32}


@pytest.fixture
def world(lab: Any) -> Iterator[SimpleNamespace]:
    clouds, tag = connect(lab), f"deleted-{uuid4().hex[:8]}"
    source, nova = clouds.source, clouds.source.adapter("compute")
    project = source.keystone.projects.create(tag, "default")
    fields = {"name": "i", "owner": project.id, "disk_format": "raw", "container_format": "bare"}
    image = source.glance.images.create(**fields)
    source.glance.images.upload(image["id"], io.BytesIO(b"x" * 1024))
    made = call(nova, "POST", "/flavors", {"flavor": {"name": tag, **VALUES}})["flavor"]
    call(nova, "POST", f"/flavors/{made['id']}/os-extra_specs", {"extra_specs": {"shop:rack": "left"}})
    with source.in_tenant(project.id) as cloud:
        group = {"server_group": {"name": "g", "policy": "soft-affinity"}}
        group_id = call(cloud.adapter("compute"), "POST", "/os-server-groups", group)["server_group"]["id"]
        body = {"name": "s", "imageRef": image["id"], "flavorRef": made["id"], "networks": "none"}
        hints = {"os:scheduler_hints": {"group": group_id}}
        server_id = call(cloud.adapter("compute"), "POST", "/servers", {"server": body, **hints})["server"][
            "id"
        ]
    title = "the server booting"
    wait_for_server(
        source, project.id, server_id, lambda s: s["status"] == "ACTIVE", title=title, timeout_s=120
    )
    call(nova, "DELETE", f"/flavors/{made['id']}")
    yield SimpleNamespace(
        source=source,
        destination=clouds.destination,
        tag=tag,
        tenant_id=project.id,
        server_id=server_id,
        group_id=group_id,
    )
    call(nova, "DELETE", f"/servers/{server_id}")
    call(nova, "DELETE", f"/os-server-groups/{group_id}")
    for item in list_images(source, owner=project.id):
        source.glance.images.delete(item["id"])
    for cloud in (source, clouds.destination):
        for left in (f for f in cloud.nova.flavors.list(is_public=None) if f.name.startswith(tag)):
            cloud.nova.flavors.delete(left)
        for left in (p for p in cloud.keystone.projects.list() if p.name == tag):
            cloud.keystone.projects.delete(left)


def test_a_private_one_is_made_of_what_the_server_tells_of_it(world: SimpleNamespace) -> None:
    (record,) = server.discover(world.source, world.tenant_id)
    ref = Ref("flavor", f"deleted.{world.server_id}")
    assert record.skip == ""
    assert {ref, Ref("server_group", world.group_id)} <= set(record.needs)
    assert server.fetch(world.source, [world.server_id])[world.server_id].needs == record.needs

    by_hand = ByHand(world.source, world.destination, world.tenant_id, (domain, tenant, flavor))
    records = by_hand.records
    by_hand.records = lambda: {**records(), **fetched(world, ref)}  # type: ignore[method-assign]
    steps = by_hand.steps()
    results = by_hand.run(steps)
    twin = world.destination.nova.flavors.get(ensured_id(results, "flavor", ref.id))
    assert {field: getattr(twin, field) for field in VALUES} == VALUES
    assert (twin.name, twin.is_public, twin.get_keys()) == (world.tag, False, {"shop:rack": "left"})
    access = world.destination.nova.flavor_access.list(flavor=twin)
    assert [item.tenant_id for item in access] == [ensured_id(results, "tenant", world.tenant_id)]
    assert by_hand.steps()[ref].action is Action.REUSE

    # Another flavor that has taken the name is not mistaken for it.
    call(
        world.source.adapter("compute"),
        "POST",
        "/flavors",
        {"flavor": {"name": world.tag, **VALUES, "ram": 96}},
    )
    assert fetched(world, ref)[ref].name == f"{world.tag}-{world.server_id[:8]}"
    (record,) = server.discover(world.source, world.tenant_id)
    assert ref in record.needs
    assert [item["id"] for item in servers_of(world.source, world.tenant_id)] == [world.server_id]


def fetched(world: SimpleNamespace, ref: Ref) -> dict[Ref, Any]:
    return {ref: flavor.fetch(world.source, [ref.id])[ref.id]}

"""A flow that somebody composes by hand, who has read only the names of the classes and the factory."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from taskflow import engines
from taskflow.patterns import graph_flow

from lab import Lab
from lab.sample.base import connect
from pumphouse.cloud import Cloud
from pumphouse.tasks import BaseCloudTask, BaseRetrieveTask, EnsureTenant, RetrieveTenant, migrate_tenant


@pytest.fixture(scope="module")
def clouds(lab: Lab) -> tuple[Cloud, Cloud]:
    source, destination = (
        Cloud.from_clouds_yaml(n, clouds_file=lab.clouds_yaml) for n in ("source", "destination")
    )
    return source, destination


@pytest.fixture
def tenant_id(lab: Lab) -> Iterator[str]:
    name = f"hand-{uuid.uuid4().hex[:6]}"
    identities = [connect(lab.clouds_yaml, cloud).identity for cloud in ("source", "destination")]
    yield identities[0].create_project(name=name, description="made by hand").id
    for identity in identities:
        for project in identity.projects(name=name):
            identity.delete_project(project)


class Boom(BaseCloudTask):
    def execute(self, ensured: dict) -> None:
        raise RuntimeError(f"after {ensured['id']}")


def test_the_classes(clouds: tuple[Cloud, Cloud], tenant_id: str) -> None:
    source, destination = clouds
    flow = graph_flow.Flow("by hand")
    flow.add(
        RetrieveTenant(source, provides="tenant", rebind=["tenant-id"]),
        EnsureTenant(destination, provides="ensured-tenant", rebind=["tenant"]),
    )
    results = engines.run(flow, engine="parallel", store={"tenant-id": tenant_id})
    made = destination.keystone.projects.get(results["ensured-tenant"]["id"])
    assert (made.name, made.description) == (results["tenant"]["name"], "made by hand")
    assert results["ensured-tenant"]["made"] is True


def test_the_factory_twice_finds_what_it_made(clouds: tuple[Cloud, Cloud], tenant_id: str) -> None:
    ids = []
    for _ in range(2):
        flow, store = migrate_tenant(*clouds, {}, tenant_id)
        results = engines.run(flow, engine="parallel", store=store)
        ids.append(results[f"tenant-{tenant_id}-ensured"]["id"])
    assert ids[0] == ids[1]
    name = clouds[0].keystone.projects.get(tenant_id).name
    assert len([p for p in clouds[1].keystone.projects.list() if p.name == name]) == 1


def test_a_failure_further_on_takes_the_tenant_back(clouds: tuple[Cloud, Cloud], tenant_id: str) -> None:
    flow, store = migrate_tenant(*clouds, {}, tenant_id)
    flow.add(Boom(clouds[1], provides="boom", rebind=[f"tenant-{tenant_id}-ensured"]))
    with pytest.raises(RuntimeError, match="after "):
        engines.run(flow, engine="parallel", store=store)
    name = clouds[0].keystone.projects.get(tenant_id).name
    assert [p for p in clouds[1].keystone.projects.list() if p.name == name] == []


def test_the_names_of_the_clients(clouds: tuple[Cloud, Cloud]) -> None:
    source, _ = clouds
    assert source.keystone.projects.get(source.project_id).id == source.project_id
    assert isinstance(source.nova.servers.list(), list)
    assert list(source.glance.images.list()) is not None


class RetrieveName(BaseRetrieveTask):
    def retrieve(self, resource_id: str) -> dict:
        return {"name": self.cloud.keystone.projects.get(resource_id).name}


def test_a_retrieve_task_of_ones_own(clouds: tuple[Cloud, Cloud], tenant_id: str) -> None:
    flow = graph_flow.Flow("own").add(RetrieveName(clouds[0], provides="name", rebind=["tenant-id"]))
    results = engines.run(flow, engine="parallel", store={"tenant-id": tenant_id})
    assert results["name"]["name"].startswith("hand-")

"""A tenant of the source with whatever of Neutron a test gives it, and its twin at the destination."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any
from uuid import uuid4

from keystoneauth1.exceptions import NotFound

from pumphouse.cloud import Cloud
from pumphouse.model import Action, Json, Ref, Step
from pumphouse.tasks.base import STAMP, stamp_tag
from pumphouse.tasks.keystone import domain, tenant
from pumphouse.tasks.neutron import (
    address_group,
    floating_ip,
    network,
    port,
    rbac_policy,
    router,
    security_group,
    subnet,
    subnet_pool,
    trunk,
)
from pumphouse.tasks.neutron.common import (
    ADDRESS_GROUPS,
    FLOATING_IPS,
    NETWORKS,
    PORTS,
    ROUTERS,
    SECURITY_GROUPS,
    SUBNET_POOLS,
    SUBNETS,
    TRUNKS,
    Collection,
)
from pumphouse.tasks.neutron.port_forwardings import delete, listed
from pumphouse.tasks.neutron.router_links import disconnect, interfaces
from tests.real.by_hand import ByHand, connect

KINDS: Sequence[ModuleType] = (
    *(domain, tenant, network, subnet_pool, subnet, address_group, security_group, rbac_policy),
    *(router, port, trunk, floating_ip),
)
COLLECTIONS = (
    *(FLOATING_IPS, ROUTERS, TRUNKS, PORTS, SUBNETS, NETWORKS, SUBNET_POOLS),
    *(SECURITY_GROUPS, ADDRESS_GROUPS),
)


class World:
    """A tenant of the source, and other tenants on both sides where a test makes some."""

    def __init__(self, source: Cloud, destination: Cloud) -> None:
        self.source = source
        self.destination = destination
        self.tag = f"net-{uuid4().hex[:8]}"
        self.tenant_id = self.project(source)

    def project(self, cloud: Cloud, suffix: str = "") -> str:
        """A tenant of a cloud; all of it is removed at the end."""
        return str(cloud.keystone.projects.create(self.tag + suffix, "default", description="networked").id)

    def make(self, collection: Collection, tags: Sequence[str] = (), **fields: Any) -> Json:
        """Something of the tenant at the source."""
        made = collection.create(self.source, {"project_id": self.tenant_id, **fields})
        if tags:
            collection.put(self.source, made["id"], "tags", tags=list(tags))
        return {**made, "tags": sorted(tags)}

    def network(self, cidr: str = "10.9.0.0/24", **fields: Any) -> tuple[Json, Json]:
        """A network of the source with a subnet of these addresses."""
        made = self.make(NETWORKS, **{"name": "lan", **fields})
        version = 6 if ":" in cidr else 4
        return made, self.make(SUBNETS, network_id=made["id"], cidr=cidr, ip_version=version)

    def carry(self, tenant_id: str = "", **mappings: dict[str, str]) -> ByHand:
        """The migration of the tenant, or of another one, with the kinds of Neutron."""
        tenant_id = tenant_id or self.tenant_id
        return ByHand(self.source, self.destination, tenant_id, KINDS, mappings=mappings)

    def make_tenant(self) -> str:
        """Make the tenant at the destination, with nothing in it; its id."""
        by_hand = self.carry()
        steps = by_hand.steps()
        by_hand.run({ref: step for ref, step in steps.items() if ref.kind in ("domain", "tenant")})
        return self.twin_tenant()

    def external(self, cloud: Cloud, *cidrs: str) -> Json:
        """An external network of somebody else, under the same name on both clouds."""
        owner = {"project_id": self.project(cloud, "-provider")}
        made = NETWORKS.create(cloud, {"name": f"{self.tag}-public", "router:external": True, **owner})
        for cidr in cidrs:
            subnet = {"network_id": made["id"], "cidr": cidr, "ip_version": 4}
            SUBNETS.create(cloud, {**subnet, **owner})
        return made

    def migrate(self, on_conflict: str = "fail", **mappings: dict[str, str]) -> dict[str, Any]:
        """Carry all that can be; the results of all tasks."""
        by_hand = self.carry(**mappings)
        return by_hand.run(by_hand.steps(on_conflict))

    def step(self, kind: str, item: Json, on_conflict: str = "fail", **mappings: dict[str, str]) -> Step:
        """What the plan decides for one resource."""
        return self.carry(**mappings).steps(on_conflict)[Ref(kind, item["id"])]

    def twin_tenant(self, tenant_id: str = "") -> str:
        """The id of the twin of the tenant, or of another one."""
        projects = self.destination.keystone.projects.list()
        return next(str(p.id) for p in projects if getattr(p, STAMP, None) == (tenant_id or self.tenant_id))

    def twin(self, collection: Collection, item: Json) -> Json:
        """The one item of the destination that carries the stamp of an item of the source."""
        (found,) = [i for i in collection.all(self.destination) if stamp_tag(item["id"]) in i["tags"]]
        assert found["project_id"] == self.twin_tenant()
        return {**found, "tags": sorted(tag for tag in found["tags"] if not tag.startswith(STAMP))}


@contextmanager
def neutron_world(lab: Any) -> Iterator[World]:
    """A World whose traces are removed from both clouds; fails when any stay."""
    clouds = connect(lab)
    both = (clouds.source, clouds.destination)
    before = [everything(cloud) for cloud in both]
    world = World(*both)
    try:
        yield world
    finally:
        for cloud in both:
            projects = [p.id for p in cloud.keystone.projects.list() if p.name.startswith(world.tag)]
            _remove(cloud, projects)
            _remove_orphans(cloud)
    assert [everything(cloud) for cloud in both] == before


def everything(cloud: Cloud) -> dict[str, list[str]]:
    """The ids of all tenants and of all that Neutron has, but for default groups of tenants that are gone."""
    projects = sorted(p.id for p in cloud.keystone.projects.list())
    listed = {
        collection.name: sorted(
            item["id"]
            for item in collection.all(cloud)
            if item.get("name") != "default" or item["project_id"] in projects
        )
        for collection in COLLECTIONS
    }
    return {"tenant": projects, **listed}


def _delete(cloud: Cloud, collection: Collection, item_id: str) -> None:
    with suppress(NotFound):  # a network takes its subnets with it
        collection.delete(cloud, item_id)


def _remove_orphans(cloud: Cloud) -> None:
    """The default groups that Neutron makes for a tenant while the tenant is being taken back."""
    projects = {project.id for project in cloud.keystone.projects.list()}
    for group in SECURITY_GROUPS.all(cloud, name="default"):
        if group["project_id"] and group["project_id"] not in projects:
            SECURITY_GROUPS.delete(cloud, group["id"])


def same(wanted: Json, actual: Json, fields: Sequence[str]) -> bool:
    """Whether the fields are equal; fails naming those that are not."""
    assert {field: actual[field] for field in fields} == {field: wanted[field] for field in fields}
    return True


def decisions(steps: dict[Ref, Step]) -> dict[str, Action]:
    """The decision for each of Neutron's resources."""
    kinds = [kind.KIND.name for kind in KINDS if kind not in (domain, tenant)]
    return {str(ref): step.action for ref, step in steps.items() if ref.kind in kinds}


def made(results: dict[str, Any]) -> list[str]:
    """What tasks made."""
    return sorted(
        name for name, r in results.items() if isinstance(r, dict) and (r.get("made") or r.get("added"))
    )


def _remove_floating_ips(cloud: Cloud, projects: Sequence[str]) -> None:
    for item in FLOATING_IPS.all(cloud):
        if item["project_id"] in projects:
            for forwarding in listed(cloud, item["id"]):
                delete(cloud, item["id"], forwarding["id"])
            FLOATING_IPS.delete(cloud, item["id"])


def _remove(cloud: Cloud, projects: Sequence[str]) -> None:
    _remove_floating_ips(cloud, projects)
    for item in TRUNKS.all(cloud):
        if item["project_id"] in projects:  # a disabled one cannot be deleted
            TRUNKS.update(cloud, item["id"], admin_state_up=True)
    for item in ROUTERS.all(cloud):
        if item["project_id"] in projects:
            ROUTERS.update(cloud, item["id"], routes=[])
            for connected in interfaces(cloud, [item["id"]])[item["id"]]:
                disconnect(cloud, item["id"], {"port_id": connected["id"]})
    for collection in COLLECTIONS:
        ids = [item["id"] for item in collection.all(cloud) if item["project_id"] in projects]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda item_id, of=collection: _delete(cloud, of, item_id), ids))
    for project_id in projects:
        cloud.keystone.projects.delete(project_id)

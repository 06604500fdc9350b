"""Projects below others, projects that may not be changed, and what of a tenant is only noted."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from pumphouse.cloud import call
from pumphouse.model import Action, Ref
from pumphouse.plan import uncarried
from pumphouse.tasks.base import ensured_id
from pumphouse.tasks.keystone import domain, tenant
from tests.real.by_hand import ByHand, connect

pytestmark = pytest.mark.exhaustive


@pytest.fixture
def world(lab: Any) -> Iterator[SimpleNamespace]:
    """A project below another, which may not be changed, in domains of its own."""
    clouds, tag = connect(lab), f"below-{uuid4().hex[:8]}"
    old = clouds.source.keystone.domains.create(f"old-{tag}")
    new = clouds.destination.keystone.domains.create(f"new-{tag}")
    parent = clouds.source.keystone.projects.create("parent", old)
    child = clouds.source.keystone.projects.create(
        "child", old, parent=parent, tags=["b", "a=1"], options={"immutable": True}
    )
    yield SimpleNamespace(
        source=clouds.source, destination=clouds.destination, old=old, new=new, parent=parent, child=child
    )
    for cloud, found in ((clouds.source, old), (clouds.destination, new)):
        for project in cloud.keystone.projects.list(domain=found):
            cloud.keystone.projects.update(project, options={"immutable": None})
        cloud.keystone.domains.update(found, enabled=False)
        cloud.keystone.domains.delete(found)


def carry(world: SimpleNamespace, tenant_id: str) -> ByHand:
    mappings = {"domains": {world.old.name: world.new.name}}
    return ByHand(world.source, world.destination, tenant_id, (domain, tenant), mappings=mappings)


def test_a_project_becomes_the_child_of_its_parents_twin(world: SimpleNamespace) -> None:
    parents = carry(world, world.parent.id)
    parent_id = ensured_id(parents.run(parents.steps()), "tenant", world.parent.id)
    by_hand = carry(world, world.child.id)
    steps = by_hand.steps()
    results = by_hand.run(steps)
    twin = world.destination.keystone.projects.get(ensured_id(results, "tenant", world.child.id))
    assert (twin.parent_id, sorted(twin.tags), twin.options) == (parent_id, ["a=1", "b"], {"immutable": True})
    assert results[f"tenant-{world.child.id}-ensured"]["notes"] == []
    assert by_hand.steps()[Ref("tenant", world.child.id)].action is Action.REUSE
    by_hand.run(steps)


def test_without_that_it_is_one_of_the_domain_and_a_failure_takes_it_back(world: SimpleNamespace) -> None:
    by_hand = carry(world, world.child.id)
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    assert world.destination.keystone.projects.list(domain=world.new) == []
    results = by_hand.run(by_hand.steps())
    twin = world.destination.keystone.projects.get(ensured_id(results, "tenant", world.child.id))
    assert twin.parent_id == world.new.id
    (note,) = results[f"tenant-{world.child.id}-ensured"]["notes"]
    assert note == "its parent parent is not at the destination: it is a project of the domain there"


def test_what_cannot_be_carried_is_noted(world: SimpleNamespace) -> None:
    keystone, project_id = world.source.keystone, world.child.id
    assert uncarried.notes(world.source, project_id) == []
    roles = {item.name: item for item in keystone.roles.list()}
    ann = keystone.users.create("ann", world.old)
    keystone.roles.grant(roles["member"], user=ann, project=world.child)
    keystone.roles.grant(roles["reader"], user=ann, domain=world.old, os_inherit_extension_inherited=True)
    keystone.roles.grant(roles["member"], user=ann, project=world.parent, os_inherit_extension_inherited=True)
    keystone.ec2.create(ann.id, project_id)
    quotas = f"/os-quota-sets/{project_id}?user_id={ann.id}"
    call(world.source.adapter("compute"), "PUT", quotas, {"quota_set": {"instances": 3}})
    keystone.credentials.create(ann, "totp", "GEZDGNBVGY3TQOJQ")
    service = keystone.services.list(type="compute")[0]
    registered = keystone.registered_limits.create(service, "class:SEATS", 5)
    limit = keystone.limits.create(project_id, service, "class:SEATS", 7)
    endpoint = keystone.endpoints.list(service=service)[0]
    keystone.endpoint_filter.add_endpoint_to_project(project_id, endpoint)
    operator = keystone.users.get(world.source.user_id)
    above = {"user": operator, "domain": world.old, "os_inherit_extension_inherited": True}
    keystone.roles.grant(roles["reader"], **above)
    scope = {"name": "scope", "ip_version": 4, "project_id": project_id}
    neutron = world.source.neutron
    made = call(neutron, "POST", "/address-scopes", {"address_scope": scope})["address_scope"]
    dmz = {"name": "dmz", "project_id": project_id}
    network = call(neutron, "POST", "/networks", {"network": dmz})["network"]
    share = {"object_type": "network", "object_id": network["id"], "action": "access_as_external"}
    share |= {"target_tenant": world.parent.id, "project_id": project_id}
    call(neutron, "POST", "/rbac-policies", {"rbac_policy": share})
    try:
        notes = uncarried.notes(world.source, project_id)
        skipped = uncarried.notes(world.source, project_id, skip=uncarried.names())
    finally:
        call(world.source.adapter("compute"), "DELETE", quotas)
        keystone.endpoint_filter.delete_endpoint_from_project(project_id, endpoint)
        keystone.limits.delete(limit)
        keystone.registered_limits.delete(registered)
        call(neutron, "DELETE", f"/address-scopes/{made['id']}")
        call(neutron, "DELETE", f"/networks/{network['id']}")
    assert skipped == []
    assert sorted(notes) == [
        f"1 EC2 credentials not carried, their owners have to make them anew: of user {ann.id}",
        "1 Keystone limits not carried: class:SEATS=7: openstack limit create",
        "1 address scopes not carried: scope",
        f"1 endpoint filters not carried: the tenant's catalog has only {endpoint.url}",
        f"1 other credentials not carried, their owners have to make them anew: totp of user {ann.id}",
        f"1 shares of networks as external ones not carried: network {network['id']} with tenant {world.parent.id}",
        f"the quotas that Nova has of user {ann.id} alone are not carried: instances=3: "
        f"nova quota-update --user {ann.id}",
        "the role member that user ann inherits from project parent is not carried: grant it",
        f"the role reader that user ann inherits from domain {world.old.name} is not carried: grant it",
    ]

"""The resource kinds, one module each: every kind is registered here, and nowhere else.

What a kind is: kind.py. Its tasks may be executed twice, in another process too, and be reverted at any point: see
base.EnsureMixin. What a revert cannot undo is its result, `{"kept": "why"}`.
"""

from __future__ import annotations

from pumphouse.tasks import quota
from pumphouse.tasks.base import BaseCloudsTask, BaseCloudTask, BaseEnsureTask, BaseRetrieveTask
from pumphouse.tasks.cinder import volume, volume_snapshot
from pumphouse.tasks.glance import image
from pumphouse.tasks.keystone import assignment, domain, group, membership, role, tenant, tenant_state, user
from pumphouse.tasks.keystone.tenant import EnsureTenant, RetrieveTenant, migrate_tenant
from pumphouse.tasks.kind import Kind
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
from pumphouse.tasks.nova import flavor, keypair, server, server_group

# A kind comes after those that it needs, because twins are recognised by the twins of their parents.
KINDS: dict[str, Kind] = {
    module.KIND.name: module.KIND
    for module in (
        domain,
        role,
        tenant,
        quota,
        user,
        group,
        membership,
        assignment,
        flavor,
        keypair,
        image,
        network,
        subnet_pool,
        subnet,
        address_group,
        security_group,
        rbac_policy,
        router,
        port,
        trunk,
        server_group,
        volume,
        volume_snapshot,
        server,
        floating_ip,
        tenant_state,
    )
}

__all__ = [
    "KINDS",
    "BaseCloudTask",
    "BaseCloudsTask",
    "BaseEnsureTask",
    "BaseRetrieveTask",
    "EnsureTenant",
    "Kind",
    "RetrieveTenant",
    "migrate_tenant",
]

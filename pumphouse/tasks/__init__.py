"""The resource kinds: one module each, registered here.

A kind is a module with NAME and the functions discover, fetch, find and tasks. It may have besides:

- under(record, policies): the record as the policies make it.
- arriving(search, records): the records with what the destination makes of them: notes, or why it cannot be.
- changed(cloud, destination_id, since): what others have done to a resource of the destination after an
  aware time by the destination's clock, in words; empty when nothing. A revert asks it before it removes.
- ADMINISTRATORS: what only they can do with it, see rights.py.
- RENAMABLE, REUSABLE, ACTS_IN_TENANT: what a plan and a run may do with it.

Its tasks may be executed twice, in another process too, and be reverted at any point: see base.EnsureMixin.
What a revert cannot undo is its result, `{"kept": "why"}`.
"""

from __future__ import annotations

from types import ModuleType

from pumphouse.tasks import quota
from pumphouse.tasks.base import BaseCloudsTask, BaseCloudTask, BaseEnsureTask, BaseRetrieveTask
from pumphouse.tasks.cinder import volume, volume_snapshot
from pumphouse.tasks.glance import image
from pumphouse.tasks.keystone import assignment, domain, group, membership, role, tenant, tenant_state, user
from pumphouse.tasks.keystone.tenant import EnsureTenant, RetrieveTenant, migrate_tenant
from pumphouse.tasks.neutron import (
    address_group,
    floating_ip,
    network,
    port,
    rbac_policy,
    router,
    security_group,
    subnet,
    trunk,
)
from pumphouse.tasks.nova import flavor, keypair, server, server_group

# A kind comes after those that it needs, because twins are recognised by the twins of their parents.
KINDS: dict[str, ModuleType] = {
    kind.NAME: kind
    for kind in (
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
    "RetrieveTenant",
    "migrate_tenant",
]

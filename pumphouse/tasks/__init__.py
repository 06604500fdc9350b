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

from pumphouse.tasks import (
    address_group,
    assignment,
    domain,
    flavor,
    floating_ip,
    group,
    image,
    keypair,
    membership,
    network,
    port,
    quota,
    rbac_policy,
    role,
    router,
    security_group,
    server,
    server_group,
    subnet,
    tenant,
    tenant_state,
    trunk,
    user,
    volume,
    volume_snapshot,
)
from pumphouse.tasks.base import BaseCloudsTask, BaseCloudTask, BaseEnsureTask, BaseRetrieveTask
from pumphouse.tasks.tenant import EnsureTenant, RetrieveTenant, migrate_tenant

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

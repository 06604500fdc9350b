"""The resource kinds: one module each, registered here."""

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

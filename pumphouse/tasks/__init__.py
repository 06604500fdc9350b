"""The resource kinds: one module each, registered here."""

from __future__ import annotations

from pumphouse.tasks.base import BaseCloudsTask, BaseCloudTask, BaseEnsureTask, BaseRetrieveTask
from pumphouse.tasks.tenant import EnsureTenant, RetrieveTenant, migrate_tenant

__all__ = [
    "BaseCloudTask",
    "BaseCloudsTask",
    "BaseEnsureTask",
    "BaseRetrieveTask",
    "EnsureTenant",
    "RetrieveTenant",
    "migrate_tenant",
]

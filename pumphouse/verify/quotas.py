"""Quotas: the limits of a tenant that are not the defaults of the source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pumphouse.cloud import Cloud, call
from pumphouse.verify.compare import Field, Item, Kind, Named

# Nova's API shows until 2.36 the limits of what is Neutron's.
_NEUTRONS = ("fixed_ips", "floating_ips", "networks", "security_groups", "security_group_rules")
# Cinder has these limits for each volume type too, as `gigabytes_<type>`.
_BY_TYPE = ("volumes_", "snapshots_", "gigabytes_")

# By the names that limits have in plans: the service, the paths of a tenant's limits and of the defaults, their key.
_SERVICES = {
    "compute": ("compute", "/os-quota-sets/{}/detail", "/os-quota-sets/{}/defaults", "quota_set"),
    "network": ("network", "/quotas/{}", "/quotas/{}/default", "quota"),
    "volume": ("block-storage", "/os-quota-sets/{}", "/os-quota-sets/{}/defaults", "quota_set"),
}

# A limit is a resource of its own: so it is named by itself when it is lost.
QUOTA = Kind(
    "quota",
    (Field("limit", lambda raw: raw["limit"]),),
    lambda raw: (raw["service"], raw["name"]),
    shared=True,
)
KINDS = (QUOTA,)


def read(cloud: Cloud, tenant_id: str) -> list[Item]:
    """All limits of a tenant; those that are not the cloud's defaults are its own."""
    there = [name for name, (service_type, *_) in _SERVICES.items() if cloud.has(service_type)]
    return [item for name in there for item in _items(cloud, tenant_id, name)]


def _items(cloud: Cloud, tenant_id: str, service: str) -> Iterator[Item]:
    service_type, limits, default_limits, key = _SERVICES[service]
    adapter = cloud.adapter(service_type)
    defaults = call(adapter, "GET", default_limits.format(tenant_id))[key]
    for name, limit in call(adapter, "GET", limits.format(tenant_id))[key].items():
        limit = limit.get("limit") if isinstance(limit, dict) else limit
        if isinstance(limit, int) and not (service == "compute" and name in _NEUTRONS):
            raw = {"service": service, "name": _name(name), "limit": limit}
            owned = limit != defaults.get(name)
            yield QUOTA.item(raw, f"{tenant_id}.{service}.{name}", name=f"{service} {name}", owned=owned)


def _name(name: str) -> Any:
    prefix = next((p for p in _BY_TYPE if name.startswith(p)), "")
    return (prefix, Named("volume_types", name.removeprefix(prefix))) if prefix else name

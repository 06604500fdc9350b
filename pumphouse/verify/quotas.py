"""Quotas: the limits of a tenant that are not the defaults of the source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pumphouse.cloud import Cloud, call
from pumphouse.model import Json
from pumphouse.verify.cinder import has_cinder
from pumphouse.verify.compare import Field, Item, Kind, Named
from pumphouse.verify.fields import adapter

# Nova's API shows until 2.36 the limits of what is Neutron's.
_NEUTRONS = ("fixed_ips", "floating_ips", "networks", "security_groups", "security_group_rules")
# Cinder has these limits for each volume type too, as `gigabytes_<type>`.
_BY_TYPE = ("volumes_", "snapshots_", "gigabytes_")

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
    nova = adapter(cloud, "compute", default_microversion=cloud.nova.api_version.get_string())
    services: dict[str, Callable[[str], Json]] = {
        "compute": lambda suffix: call(nova, "GET", f"/os-quota-sets/{tenant_id}{suffix or '/detail'}")[
            "quota_set"
        ],
        "network": lambda suffix: call(
            cloud.neutron, "GET", f"/quotas/{tenant_id}{'/default' if suffix else ''}"
        )["quota"],
    }
    if has_cinder(cloud):
        cinder = cloud.cinder
        services["volume"] = lambda suffix: call(cinder, "GET", f"/os-quota-sets/{tenant_id}{suffix}")[
            "quota_set"
        ]
    return [item for service, get in services.items() for item in _items(tenant_id, service, get)]


def _items(tenant_id: str, service: str, get: Callable[[str], Json]) -> Iterator[Item]:
    defaults = get("/defaults")
    for name, limit in get("").items():
        limit = limit.get("limit") if isinstance(limit, dict) else limit
        if isinstance(limit, int) and not (service == "compute" and name in _NEUTRONS):
            raw = {"service": service, "name": _name(name), "limit": limit}
            owned = limit != defaults.get(name)
            yield QUOTA.item(raw, f"{tenant_id}.{service}.{name}", name=f"{service} {name}", owned=owned)


def _name(name: str) -> Any:
    prefix = next((p for p in _BY_TYPE if name.startswith(p)), "")
    return (prefix, Named("volume_types", name.removeprefix(prefix))) if prefix else name

"""Quotas: the limits of a tenant that are not the source's defaults, and of users that are not the tenant's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pumphouse.cloud import Cloud, call
from pumphouse.model import Json
from pumphouse.verify.compare import Field, Item, Kind, Named
from pumphouse.verify.fields import ref

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
    lambda raw: (raw["service"], raw["name"], ref("user", raw["user_id"])),
)
KINDS = (QUOTA,)


def read(cloud: Cloud, tenant_id: str, users: Collection[str]) -> list[Item]:
    """All limits of a tenant, and Nova's of single users in it; those that are not the defaults are its own."""
    there = [name for name, (service_type, *_) in _SERVICES.items() if cloud.has(service_type)]
    return [item for name in there for item in _items(cloud, tenant_id, name, users)]


def _items(cloud: Cloud, tenant_id: str, service: str, users: Collection[str]) -> Iterator[Item]:
    service_type, limits, default_limits, key = _SERVICES[service]
    adapter = cloud.adapter(service_type)
    defaults = _limits(call(adapter, "GET", default_limits.format(tenant_id))[key], service)
    path = limits.format(tenant_id)
    found = _limits(call(adapter, "GET", path)[key], service)
    yield from _tenants(tenant_id, service, found, defaults)
    if service != "compute":
        return
    with ThreadPoolExecutor() as pool:
        listed = pool.map(lambda user: call(adapter, "GET", path, params={"user_id": user})[key], users)
        for user_id, own in zip(users, listed, strict=True):
            yield from _tenants(tenant_id, service, _limits(own, service), found, user_id)


def _limits(listed: Json, service: str) -> dict[str, int]:
    told = {name: limit.get("limit") if isinstance(limit, dict) else limit for name, limit in listed.items()}
    others = _NEUTRONS if service == "compute" else ()
    return {name: limit for name, limit in told.items() if isinstance(limit, int) and name not in others}


def _tenants(
    tenant_id: str, service: str, limits: Mapping[str, int], defaults: Mapping[str, int], user_id: str = ""
) -> Iterator[Item]:
    for name, limit in limits.items():
        owned = limit != defaults.get(name)
        raw = {"service": service, "name": _name(name), "limit": limit, "user_id": user_id}
        title = f"{service} {name}{f' of user {user_id}' * bool(user_id)}"
        item_id = f"{tenant_id}.{service}.{name}{f'.{user_id}' * bool(user_id)}"
        yield QUOTA.item(raw, item_id, name=title, owned=owned)


def _name(name: str) -> Any:
    prefix = next((p for p in _BY_TYPE if name.startswith(p)), "")
    return (prefix, Named("volume_types", name.removeprefix(prefix))) if prefix else name

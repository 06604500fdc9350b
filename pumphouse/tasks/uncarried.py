"""What a tenant owns and a migration does not carry: said in the plan, one note each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pumphouse.cloud import get_all
from pumphouse.errors import http_status
from pumphouse.model import Json

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud


def notes(source: Cloud, tenant_id: str) -> list[str]:
    """One note for each kind of which the tenant has something, with the names; a bounded number of list calls."""
    found = {
        "volumes": _cinder(source, "volumes", tenant_id),
        "volume snapshots": _cinder(source, "snapshots", tenant_id),
        "floating IPs": [_address(ip) for ip in _neutron(source, "floatingips", tenant_id)],
        "trunks": [_named(trunk) for trunk in _neutron(source, "trunks", tenant_id)],
        "server groups": _server_groups(source, tenant_id),
        "group assignments": _groups(source, tenant_id),
        "quotas": _quotas(source, tenant_id),
    }
    return [
        f"{len(names)} {what} not carried: {', '.join(sorted(names))}"
        for what, names in found.items()
        if names
    ]


def _cinder(source: Cloud, what: str, tenant_id: str) -> list[str]:
    params = {"all_tenants": 1, "project_id": tenant_id}
    items = get_all(source.cinder, f"/{what}/detail", what, **params)
    owner = {
        "volumes": "os-vol-tenant-attr:tenant_id",
        "snapshots": "os-extended-snapshot-attributes:project_id",
    }
    return [_named(item) for item in items if item.get(owner[what]) == tenant_id]


def _neutron(source: Cloud, what: str, tenant_id: str) -> Iterable[Json]:
    """The items of the tenant; none where the cloud lacks the extension."""
    try:
        items = get_all(source.neutron, f"/{what}", what, project_id=tenant_id)
    except Exception as error:
        if http_status(error) == 404:
            return []
        raise
    return [item for item in items if item["project_id"] == tenant_id]


def _server_groups(source: Cloud, tenant_id: str) -> list[str]:
    groups = source.nova.server_groups.list(all_projects=True)
    return [group.name for group in groups if getattr(group, "project_id", None) == tenant_id]


def _groups(source: Cloud, tenant_id: str) -> list[str]:
    assignments = source.keystone.role_assignments.list(project=tenant_id, include_names=True)
    return [f"{a.group['name']} as {a.role['name']}" for a in assignments if hasattr(a, "group")]


def _quotas(source: Cloud, tenant_id: str) -> list[str]:
    """The Nova quotas that are not the defaults of the cloud, and the Neutron quotas that were set."""
    actual, default = (
        quotas.to_dict()
        for quotas in (source.nova.quotas.get(tenant_id), source.nova.quotas.defaults(tenant_id))
    )
    changed = [
        f"{name}={actual[name]}" for name in actual if name != "id" and actual[name] != default.get(name)
    ]
    mine = [
        quota for quota in get_all(source.neutron, "/quotas", "quotas") if quota["project_id"] == tenant_id
    ]
    default_network = source.neutron.get(f"/quotas/{tenant_id}/default").json()["quota"] if mine else {}
    changed += [
        f"{k}={v}"
        for quota in mine
        for k, v in quota.items()
        if k in default_network and v != default_network[k]
    ]
    return changed


def _named(item: Json) -> str:
    return str(item["name"] or item["id"])


def _address(floating_ip: Json) -> str:
    return str(floating_ip["floating_ip_address"])

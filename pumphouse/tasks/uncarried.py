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
        "volume snapshots": _cinder(source, "snapshots", tenant_id),
        "trunks": [_named(trunk) for trunk in _neutron(source, "trunks", tenant_id)],
        "group assignments": _groups(source, tenant_id),
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


def _groups(source: Cloud, tenant_id: str) -> list[str]:
    assignments = source.keystone.role_assignments.list(project=tenant_id, include_names=True)
    return [f"{a.group['name']} as {a.role['name']}" for a in assignments if hasattr(a, "group")]


def _named(item: Json) -> str:
    return str(item["name"] or item["id"])

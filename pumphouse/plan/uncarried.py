"""What a tenant owns and a migration does not carry: said in the plan, one note each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pumphouse.cloud import get_all, or_none
from pumphouse.cloud.services import NOT_CARRIED, service_types
from pumphouse.model import Json
from pumphouse.tasks.keystone.common import INHERITED_TO, carried_users, is_of_user

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud


def notes(source: Cloud, tenant_id: str) -> list[str]:
    """One note for each kind of which the tenant has something, with the names; a bounded number of list calls."""
    found = {
        "QoS policies": _neutron(source, "/qos/policies", "policies", tenant_id),
        "address scopes": _neutron(source, "/address-scopes", "address_scopes", tenant_id),
    }
    listed = [
        f"{len(names)} {what} not carried: {', '.join(sorted(names))}"
        for what, names in found.items()
        if names
    ]
    return [*listed, *_secrets(source, tenant_id), *_from_above(source, tenant_id), *_services(source)]


def _neutron(source: Cloud, path: str, key: str, tenant_id: str) -> list[str]:
    """The items of the tenant; none where the cloud does not have the extension."""
    if not source.has("network"):
        return []
    items = or_none(get_all, source.neutron, path, key, project_id=tenant_id) or []
    return [_named(item) for item in items if item["project_id"] == tenant_id]


def _secrets(source: Cloud, tenant_id: str) -> Iterator[str]:
    """What only its owner can make anew, because Keystone never shows the secret of it."""
    keystone, users = source.keystone, carried_users(source, tenant_id)
    # Application credentials can be listed for one user at a time only.
    applications = {i: _listed(keystone.application_credentials.list, user=i) for i in sorted(users)}
    ec2 = _listed(keystone.credentials.list, type="ec2")
    trusts = _listed(keystone.trusts.list, **({} if source.is_admin else {"trustor_user": source.user_id}))
    found = {
        "application credentials": [
            f"{item.name} of user {i}"
            for i, items in applications.items()
            for item in items
            if item.project_id == tenant_id
        ],
        "EC2 credentials": [f"of user {item.user_id}" for item in ec2 if item.project_id == tenant_id],
        "trusts": [
            f"of user {item.trustor_user_id} in user {item.trustee_user_id}"
            for item in trusts
            if item.project_id == tenant_id
        ],
    }
    for what, names in found.items():
        if names:
            yield f"{len(names)} {what} not carried, their owners have to make them anew: {', '.join(names)}"


def _listed(list_all: Any, **filters: Any) -> list[Any]:
    """What a list call gives; nothing where the cloud does not have it."""
    return list(or_none(list_all, **filters) or ())


def _from_above(source: Cloud, tenant_id: str) -> Iterator[str]:
    """The roles that the tenant inherits from its domain and from the projects above it."""
    if not source.is_admin:
        return
    project = source.keystone.projects.get(tenant_id)
    scopes = [("domain", project.domain_id)]
    while project.parent_id not in (None, project.domain_id):
        scopes.append(("project", project.parent_id))
        project = source.keystone.projects.get(project.parent_id)
    for kind, scope_id in scopes:
        listed = source.keystone.role_assignments.list(**{kind: scope_id}, include_names=True)
        for item in (item for item in listed if INHERITED_TO in item.scope):
            actor = f"user {item.user['name']}" if is_of_user(item) else f"group {item.group['name']}"
            place = f"{kind} {item.scope[kind]['name']}"
            yield f"the role {item.role['name']} that {actor} inherits from {place} is not carried: grant it"


def _services(source: Cloud) -> list[str]:
    """What the services of the source have that no migration carries, whether the tenant uses them or not."""
    there = service_types(source.access.service_catalog.catalog or ())
    return [f"the source has {kind}: its {NOT_CARRIED[kind]}" for kind in sorted(there & NOT_CARRIED.keys())]


def _named(item: Json) -> str:
    return str(item["name"] or item["id"])

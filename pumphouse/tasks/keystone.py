"""What the kinds of Keystone share: the grants of a tenant, and who is never migrated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

# Keystone's default policies give these roles power over more than one tenant.
PRIVILEGED_ROLES = frozenset({"admin", "service"})
SERVICE_PROJECTS = frozenset({"service", "services"})
# The accounts of the services as the installation guides of OpenStack name them.
SERVICE_USERS = frozenset(
    {
        *(
            "aodh",
            "barbican",
            "ceilometer",
            "cinder",
            "cloudkitty",
            "cyborg",
            "designate",
            "glance",
            "gnocchi",
        ),
        *(
            "heat",
            "ironic",
            "keystone",
            "magnum",
            "manila",
            "masakari",
            "mistral",
            "neutron",
            "nova",
            "octavia",
        ),
        *("placement", "swift", "trove", "vitrage", "watcher", "zaqar", "zun"),
    }
)
INHERITED = "inherited"
INHERITED_TO = "OS-INHERIT:inherited_to"


@dataclass(frozen=True)
class Grant:
    """A role that a user has on a tenant.

    assignment_id: see `assignment_id`.
    refusal: why it is not migrated; empty when it is.
    """

    assignment_id: str
    tenant_id: str
    user_id: str
    user_name: str
    role_id: str
    role_name: str
    refusal: str


def grants(cloud: Cloud, tenant_id: str) -> list[Grant]:
    """The roles that users have on a tenant by themselves, not by a group."""
    protected = protected_users(cloud)
    return [_grant(item, protected) for item in assignments(cloud, tenant_id, include_names=True)]


def assignments(cloud: Cloud, tenant_id: str, **options: Any) -> list[Any]:
    """Keystone's role assignments of users on a tenant, for itself or for the projects below it."""
    listed = cloud.keystone.role_assignments.list(project=tenant_id, **options)
    return [item for item in listed if _is_of_user(item, tenant_id)]


def assignment_id(item: Any) -> str:
    """The address of an assignment, which has no id: `<tenant id>.<user id>.<role id>`, and `.inherited`."""
    inherited = [INHERITED] if INHERITED_TO in item.scope else []
    return ".".join((item.scope["project"]["id"], item.user["id"], item.role["id"], *inherited))


def carried_users(cloud: Cloud, tenant_id: str) -> set[str]:
    """The ids of the users who have a role on the tenant that is migrated."""
    return {grant.user_id for grant in grants(cloud, tenant_id) if not grant.refusal}


def protected_users(cloud: Cloud) -> dict[str, str]:
    """The accounts that run a cloud, with what they are: its services' and the one that is logged in.

    A service's account holds the role `service`, or is named like a service and has a role on its project.
    """
    holders = set()
    for role in _of_name(cloud.keystone.roles, "service"):
        listed = cloud.keystone.role_assignments.list(role=role)
        holders |= {item.user["id"] for item in listed if hasattr(item, "user")}
    for name in sorted(SERVICE_PROJECTS):
        for project in _of_name(cloud.keystone.projects, name):
            members = assignments(cloud, project.id, include_names=True)
            holders |= {item.user["id"] for item in members if item.user["name"] in SERVICE_USERS}
    return {**dict.fromkeys(holders, "the account of a service"), cloud.user_id: "the operator's own account"}


def by_name(items: Iterable[Any]) -> dict[str, list[Any]]:
    """Keystone's resources by their names."""
    found: dict[str, list[Any]] = defaultdict(list)
    for item in items:
        found[item.name].append(item)
    return dict(found)


def _of_name(manager: Any, name: str) -> list[Any]:
    return [item for item in manager.list(name=name) if item.name == name]


def _is_of_user(item: Any, tenant_id: str) -> bool:
    return hasattr(item, "user") and item.scope.get("project", {}).get("id") == tenant_id


def _grant(item: Any, protected: dict[str, str]) -> Grant:
    return Grant(
        assignment_id=assignment_id(item),
        tenant_id=item.scope["project"]["id"],
        user_id=item.user["id"],
        user_name=item.user["name"],
        role_id=item.role["id"],
        role_name=item.role["name"],
        refusal=_refusal(item, protected),
    )


def _refusal(item: Any, protected: dict[str, str]) -> str:
    if item.user["id"] in protected:
        return f"{item.user['name']} is {protected[item.user['id']]}"
    # With include_names Keystone gives an empty name to a user that is no longer there.
    if not item.user["name"]:
        return "its user no longer exists"
    if item.role["name"].casefold() in PRIVILEGED_ROLES:
        return f"the role {item.role['name']} is never granted by a migration; grant it by hand where wanted"
    if INHERITED_TO in item.scope:
        return "it is inherited by projects below the tenant, which are not migrated with it"
    return ""

"""What a tenant owns and a migration does not carry: said in the plan, one note each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any

from pumphouse.cloud import call, get_all, or_none
from pumphouse.cloud.services import LOOKED_INTO, NOT_CARRIED, UNKNOWN, service_types
from pumphouse.errors import explain, http_status
from pumphouse.model import Json, Record
from pumphouse.tasks import KINDS
from pumphouse.tasks.keystone.common import INHERITED_TO, carried_users, is_of_user, protected_users
from pumphouse.words import counted

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

_Look = Callable[["Cloud", str], Iterator[str]]

# What Cinder has beside volumes and their snapshots: the path and the key of its list, the field that says whose it is
# (backups since 3.18, transfers since 3.57, groups since 3.58), and whether Cinder filters the list by that.
_CINDERS = {
    "volume backups": ("/backups/detail", "backups", "os-backup-project-attr:project_id", True),
    "volume groups": ("/groups/detail", "groups", "project_id", True),
    "snapshots of volume groups": ("/group_snapshots/detail", "group_snapshots", "project_id", True),
    "consistency groups": ("/consistencygroups/detail", "consistencygroups", "project_id", True),
    "snapshots of consistency groups": ("/cgsnapshots/detail", "cgsnapshots", "project_id", True),
    "volume transfers": ("/os-volume-transfer/detail", "transfers", "source_project_id", False),
}


def notes(source: Cloud, tenant_id: str, skip: Collection[str] = ()) -> list[str]:
    """One note for each kind of which the tenant has something, with the names; a bounded number of list calls.

    What the login may not look at is a note, too: a plan does not end for want of one.

    skip: those of `names` that are not looked at, because the operator does not miss them.
    """
    looks = {what: look for what, look in _looks().items() if _name(what) not in skip}
    return [note for what, look in looks.items() for note in _allowed(what, look, source, tenant_id)]


def of_tenant(source: Cloud, tenant_id: str) -> list[str]:
    """One note for each kind of Neutron and Cinder that no migration carries and of which the tenant owns something."""
    looks = _looks()
    return [
        note
        for what in ("QoS policies", "address scopes", *_CINDERS)
        for note in _allowed(what, looks[what], source, tenant_id)
    ]


def names() -> list[str]:
    """How a selection calls what is looked at, e.g. `ec2_credentials`."""
    return list(map(_name, _looks()))


def _name(what: str) -> str:
    return what.lower().replace(" ", "_")


def _looks() -> dict[str, _Look]:
    return {
        "QoS policies": partial(_neutron_notes, "QoS policies", "/qos/policies", "policies"),
        "address scopes": partial(_neutron_notes, "address scopes", "/address-scopes", "address_scopes"),
        "external shares": _external_shares,
        **{what: partial(_cinder_notes, what, *found) for what, found in _CINDERS.items()},
        "application credentials": _applications,
        "EC2 credentials": _ec2,
        "other credentials": _other_credentials,
        "identity provider links": _federated,
        "trusts": _trusts,
        "Keystone limits": _keystone_limits,
        "endpoint filters": _endpoint_filters,
        "user quotas": _user_quotas,
        "inherited roles": _from_above,
    }


def of_others(records: Iterable[Record]) -> list[str]:
    """One note for each kind of Neutron of which the tenant uses what other tenants own, with the names."""
    found: dict[str, list[str]] = defaultdict(list)
    for record in records:
        if record.must_exist and "owner_name" in record.data:
            owner = record.data["owner_name"] or record.data["project_id"]
            found[record.ref.kind].append(f"{record.name or record.ref.id} of tenant {owner}")
    return [
        f"{counted(len(names), KINDS[kind].title)} of other tenants, used and not made: {', '.join(sorted(names))}"
        for kind, names in found.items()
    ]


def _allowed(what: str, look: _Look, source: Cloud, tenant_id: str) -> list[str]:
    """The notes on one thing, or the note that the login may not look at it."""
    try:
        return list(look(source, tenant_id))
    except Exception as error:
        if http_status(error) != 403:
            raise
        return [f"whether the tenant has {what} could not be looked at: {explain(error)}"]


def _neutron_notes(what: str, path: str, key: str, source: Cloud, tenant_id: str) -> Iterator[str]:
    if names := _neutron(source, path, key, tenant_id):
        yield f"{len(names)} {what} not carried: {', '.join(sorted(names))}"


def _neutron(source: Cloud, path: str, key: str, tenant_id: str) -> list[str]:
    """The items of the tenant; none where the cloud does not have the extension."""
    if not source.has("network"):
        return []
    items = or_none(get_all, source.neutron, path, key, project_id=tenant_id) or []
    return [_named(item) for item in items if item["project_id"] == tenant_id]


def _external_shares(source: Cloud, tenant_id: str) -> Iterator[str]:
    """Networks that single tenants may use as external ones; that all may is a field of the network."""
    if not source.has("network"):
        return
    filters = {"project_id": tenant_id, "action": "access_as_external"}
    found = or_none(get_all, source.neutron, "/rbac-policies", "rbac_policies", **filters) or []
    if mine := [p for p in found if p["project_id"] == tenant_id and p["target_tenant"] != "*"]:
        shares = sorted(f"network {p['object_id']} with tenant {p['target_tenant']}" for p in mine)
        yield f"{len(shares)} shares of networks as external ones not carried: {', '.join(shares)}"


def _cinder_notes(
    what: str, path: str, key: str, owner: str, filters: bool, source: Cloud, tenant_id: str
) -> Iterator[str]:
    if not source.has("block-storage"):
        return
    newest = copy(source.cinder)
    newest.default_microversion = "latest"
    query = {"all_tenants": 1, "project_id": tenant_id} if filters else {"all_tenants": 1}
    try:
        items = or_none(get_all, newest, path, key, **(query if source.is_admin else {})) or []
    except Exception as error:
        # A release that knows no such filter or microversion.
        if http_status(error) not in (400, 406):
            raise
        yield f"whether the tenant has {what} could not be looked at: {explain(error)}"
        return
    unsaid = tenant_id if filters else None
    if names := sorted(_named(item) for item in items if item.get(owner, unsaid) == tenant_id):
        yield f"{len(names)} {what} not carried: {', '.join(names)}"


def _applications(source: Cloud, tenant_id: str) -> Iterator[str]:
    users = carried_users(source, tenant_id)
    # Application credentials can be listed for one user at a time only.
    list_all = source.keystone.application_credentials.list
    found = {user_id: _listed(list_all, user=user_id) for user_id in sorted(users)}
    return _to_be_made_anew(
        "application credentials",
        [
            f"{item.name} of user {user_id}"
            for user_id, items in found.items()
            for item in items
            if item.project_id == tenant_id
        ],
    )


def _ec2(source: Cloud, tenant_id: str) -> Iterator[str]:
    found = _listed(source.keystone.credentials.list, type="ec2")
    names = [f"of user {item.user_id}" for item in found if item.project_id == tenant_id]
    return _to_be_made_anew("EC2 credentials", names)


def _other_credentials(source: Cloud, tenant_id: str) -> Iterator[str]:
    """Those of users and not of a project, such as TOTP, without which a user whose rules ask for it cannot log in."""
    found = [item for item in _listed(source.keystone.credentials.list) if item.type != "ec2"]
    users = carried_users(source, tenant_id) if found else set()
    names = [f"{item.type} of user {item.user_id}" for item in found if item.user_id in users]
    return _to_be_made_anew("other credentials", names)


def _federated(source: Cloud, tenant_id: str) -> Iterator[str]:
    """The users of the tenant who log in by another identity provider; Keystone says so since Ussuri."""
    if not source.is_admin:
        return
    linked = [user for user in source.keystone.users.list() if getattr(user, "federated", None)]
    users = carried_users(source, tenant_id) if linked else set()
    if names := sorted(user.name for user in linked if user.id in users):
        yield (
            f"{len(names)} identity provider links not carried, without which these users cannot log in by them: "
            f"{', '.join(names)}"
        )


def _keystone_limits(source: Cloud, tenant_id: str) -> Iterator[str]:
    """The limits that Keystone itself has of the tenant (unified limits, Queens)."""
    items = or_none(get_all, source.adapter("identity"), "/limits", "limits", project_id=tenant_id) or []
    mine = [item for item in items if item["project_id"] == tenant_id]
    if names := sorted(f"{item['resource_name']}={item['resource_limit']}" for item in mine):
        yield f"{len(names)} Keystone limits not carried: {', '.join(names)}: openstack limit create"


def _endpoint_filters(source: Cloud, tenant_id: str) -> Iterator[str]:
    """What the catalog of the tenant is narrowed to, which only administrators may see."""
    if not source.is_admin:
        return
    # Those of the tenant's endpoint groups are among them.
    path = f"/OS-EP-FILTER/projects/{tenant_id}/endpoints"
    found = or_none(call, source.adapter("identity"), "GET", path) or {"endpoints": []}
    if urls := sorted(item["url"] for item in found["endpoints"]):
        yield f"{len(urls)} endpoint filters not carried: the tenant's catalog has only {', '.join(urls)}"


def _user_quotas(source: Cloud, tenant_id: str) -> Iterator[str]:
    """The limits that Nova has of single users in the tenant; it tells those of one user at a time only."""
    if not source.is_admin or not source.has("compute"):
        return
    compute, path = source.adapter("compute"), f"/os-quota-sets/{tenant_id}"
    ours = call(compute, "GET", path)["quota_set"]
    for user_id in sorted(carried_users(source, tenant_id)):
        theirs = call(compute, "GET", path, params={"user_id": user_id})["quota_set"]
        if own := ", ".join(f"{name}={limit}" for name, limit in theirs.items() if limit != ours.get(name)):
            command = f"nova quota-update --user {user_id}"
            yield f"the quotas that Nova has of user {user_id} alone are not carried: {own}: {command}"


def _trusts(source: Cloud, tenant_id: str) -> Iterator[str]:
    mine = {} if source.is_admin else {"trustor_user": source.user_id}
    return _to_be_made_anew(
        "trusts",
        [
            f"of user {item.trustor_user_id} in user {item.trustee_user_id}"
            for item in _listed(source.keystone.trusts.list, **mine)
            if item.project_id == tenant_id
        ],
    )


def _to_be_made_anew(what: str, names: list[str]) -> Iterator[str]:
    """What only its owner can make anew, because Keystone never shows the secret of it."""
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
    protected = protected_users(source)
    for kind, scope_id in scopes:
        listed = source.keystone.role_assignments.list(**{kind: scope_id}, include_names=True)
        for item in (item for item in listed if INHERITED_TO in item.scope):
            if is_of_user(item) and item.user["id"] in protected:
                continue
            actor = f"user {item.user['name']}" if is_of_user(item) else f"group {item.group['name']}"
            place = f"{kind} {item.scope[kind]['name']}"
            yield f"the role {item.role['name']} that {actor} inherits from {place} is not carried: grant it"


def services(source: Cloud) -> list[str]:
    """What the services of the source have that no migration carries, whether the tenant uses them or not."""
    there = service_types(source.access.service_catalog.catalog or ())
    return [
        f"the source has {kind}: {f'its {NOT_CARRIED[kind]}' if kind in NOT_CARRIED else UNKNOWN}"
        for kind in sorted(there - LOOKED_INTO)
    ]


def _named(item: Json) -> str:
    return str(item["name"] or item["id"])

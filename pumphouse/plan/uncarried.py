"""What a tenant owns and a migration does not carry: said in the plan, one note each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from pumphouse.cloud import get_all, or_none
from pumphouse.cloud.services import NOT_CARRIED, service_types
from pumphouse.errors import explain, http_status
from pumphouse.model import Json
from pumphouse.tasks.keystone.common import INHERITED_TO, carried_users, is_of_user

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

_Look = Callable[["Cloud", str], Iterator[str]]


def notes(source: Cloud, tenant_id: str, skip: Collection[str] = ()) -> list[str]:
    """One note for each kind of which the tenant has something, with the names; a bounded number of list calls.

    What the login may not look at is a note, too: a plan does not end for want of one.

    skip: those of `names` that are not looked at, because the operator does not miss them.
    """
    looks = {what: look for what, look in _looks().items() if _name(what) not in skip}
    return [note for what, look in looks.items() for note in _allowed(what, look, source, tenant_id)]


def names() -> list[str]:
    """How a selection calls what is looked at, e.g. `ec2_credentials`."""
    return list(map(_name, _looks()))


def _name(what: str) -> str:
    return what.lower().replace(" ", "_")


def _looks() -> dict[str, _Look]:
    return {
        "QoS policies": partial(_neutron_notes, "QoS policies", "/qos/policies", "policies"),
        "address scopes": partial(_neutron_notes, "address scopes", "/address-scopes", "address_scopes"),
        "application credentials": _applications,
        "EC2 credentials": _ec2,
        "trusts": _trusts,
        "inherited roles": _from_above,
    }


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
    for kind, scope_id in scopes:
        listed = source.keystone.role_assignments.list(**{kind: scope_id}, include_names=True)
        for item in (item for item in listed if INHERITED_TO in item.scope):
            actor = f"user {item.user['name']}" if is_of_user(item) else f"group {item.group['name']}"
            place = f"{kind} {item.scope[kind]['name']}"
            yield f"the role {item.role['name']} that {actor} inherits from {place} is not carried: grant it"


def services(source: Cloud) -> list[str]:
    """What the services of the source have that no migration carries, whether the tenant uses them or not."""
    there = service_types(source.access.service_catalog.catalog or ())
    return [f"the source has {kind}: its {NOT_CARRIED[kind]}" for kind in sorted(there & NOT_CARRIED.keys())]


def _named(item: Json) -> str:
    return str(item["name"] or item["id"])

"""Keystones of releases whose answers lack what newer ones have: fields, resources, whole calls."""

from __future__ import annotations

from typing import Any

import pytest

from pumphouse.errors import CloudError
from pumphouse.model import Action, Ref
from pumphouse.plan import uncarried
from pumphouse.plan.decide import decide
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import Search
from pumphouse.tasks.keystone.common import lacking
from tests.unit.test_services import NAMES, TENANT, PlainCloud, connect, there

__all__ = ["connect", "there"]

NO_MAPPINGS: dict[str, dict[str, str]] = {"domains": {}, "roles": {}, "users": {}}
IDENTITY_KINDS = [KINDS[name] for name in ("domain", "role", "tenant", "user", "group", "assignment")]
# What each release tells of a resource, besides what all of them do.
NEWER: dict[str, dict[str, Any]] = {
    "Mitaka": {"project": {}, "role": {}, "user": {}},
    "Pike": {"project": {}, "role": {}, "user": {"options": {}, "password_expires_at": None}},
    "Stein": {
        "project": {"tags": ["b", "a"]},
        "role": {"description": None},
        "user": {"options": {}, "password_expires_at": None},
    },
}


def answers(release: str) -> dict[str, Any]:
    """A tenant with a member and a group, as a Keystone of that release tells of them."""
    newer = NEWER[release]
    project = {"id": TENANT, "name": "p", "domain_id": "default", "enabled": True, "parent_id": "default"}
    project |= {"description": "", "is_domain": False, "links": {}, "contract": "C-1", **newer["project"]}
    role = {"id": "r", "name": "member", "domain_id": None, "links": {}, **newer["role"]}
    user = {"id": "a", "name": "ann", "domain_id": "default", "enabled": True, "links": {}, "phone": "7"}
    group = {"id": "g", "name": "ops", "domain_id": "default", "description": "", "links": {}}
    domain = {"id": "default", "name": "Default", "enabled": True, "links": {}}
    held = {"scope": {"project": {"id": TENANT, "name": "p", "domain": NAMES}}, "links": {}}
    held |= {"role": {"id": "r", "name": "member"}}
    grants = [
        {**held, "user": {"id": "a", "name": "ann", "domain": NAMES}},
        {**held, "group": {"id": "g", "name": "ops", "domain": NAMES}},
    ]
    lists = {"projects": [project], "roles": [role], "users": [user | newer["user"]], "groups": [group]}
    lists |= {"domains": [domain], "role_assignments": grants, "credentials": [], "trusts": []}
    return {
        **{f"/v3/{name}": {name: items, "links": {}} for name, items in lists.items()},
        **{
            f"/v3/{kind}s/{item['id']}": {kind: item} for kind, item in (("project", project), ("role", role))
        },
        "/v3/groups/g/users": {"users": [], "links": {}},
        "/v3/roles?name=service": {"roles": [], "links": {}},
        "/v3/projects?name=service": {"projects": [], "links": {}},
        "/v3/projects?name=services": {"projects": [], "links": {}},
    }


@pytest.mark.parametrize("release", NEWER)
def test_an_old_keystone_is_planned(there: PlainCloud, connect: Any, release: str) -> None:
    there.answers |= answers(release)
    cloud = connect()
    records = {r.ref: r for kind in IDENTITY_KINDS for r in kind.discover(cloud, TENANT)}
    for ref in (Ref("domain", "default"), Ref("role", "r")):
        records |= {r.ref: r for r in KINDS[ref.kind].fetch(cloud, [ref.id]).values()}
    ids: dict[Ref, str] = {}
    for kind in IDENTITY_KINDS:
        mine = [record for record in records.values() if record.ref.kind == kind.name]
        for ref, twins in kind.find(Search(cloud, ids, NO_MAPPINGS, cloud, {}), mine).items():
            step = decide(records[ref], twins, "reuse")
            assert (step.action, [n for n in step.notes if "differs" in n]) == (Action.REUSE, []), ref
            ids[ref] = twins[0].id
    assert ids.keys() == records.keys()
    assert {ref.kind for ref in records} == {kind.name for kind in IDENTITY_KINDS}
    assert records[Ref("tenant", TENANT)].data["tags"] == sorted(NEWER[release]["project"].get("tags", []))
    assert records[Ref("user", "a")].data["extra"] == {"phone": "7"}
    assert uncarried.notes(cloud, TENANT) == []


def test_one_that_tells_no_names_is_refused(there: PlainCloud, connect: Any) -> None:
    there.answers |= answers("Mitaka")
    for grant in there.answers["/v3/role_assignments"]["role_assignments"]:
        grant["role"] = {"id": "r"}
    with pytest.raises(CloudError, match="does not tell the names") as caught:
        KINDS["assignment"].discover(connect(), TENANT)
    assert "older than Mitaka" in caught.value.hint


def test_what_an_update_would_set() -> None:
    wanted = {
        "email": "a@b",
        "tags": ["a", "b"],
        "options": {"x": 1, "y": False},
        "enabled": True,
        "cost": {},
    }
    there = {"tags": ["b", "c"], "options": {"x": 2}, "enabled": False}
    assert lacking(wanted, there) == {"email": "a@b", "tags": ["a", "b", "c"], "options": {"y": False}}
    assert lacking(wanted, {**wanted, "email": "other@b"}) == {}
    assert lacking(wanted, {"options": {"immutable": True}}) == {}

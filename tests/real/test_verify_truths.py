"""`pumphouse verify` of two tenants that nobody migrated: what was lost is said, whoever would have to bring it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from openstack.connection import Connection

from lab import Lab
from lab.sample.base import connect, get, post, put, send, until
from lab.sample.inventory import remove_tenant
from pumphouse.verify import Finding, Known, verify
from tests.real.by_hand import connect as clouds_of
from tests.real.plain import FLAVOR

# What only the tenant of the source has.
EXTRA = {"contract": "C-17"}
PASSWORD = "Anna-pass-1"  # of a user who is gone a minute later


@pytest.fixture(scope="module")
def findings(lab: Lab) -> Iterator[dict[str, Finding]]:
    """What is found of a tenant of which only a part is at the destination, by kind and name."""
    name = f"truths-{uuid.uuid4().hex[:6]}"
    source, destination = (connect(lab.clouds_yaml, cloud) for cloud in ("source", "destination"))
    try:
        theirs, _ = tenant(destination, name)
        network(destination, theirs)
        mine, user = tenant(source, name, **EXTRA)
        path = f"/os-quota-sets/{mine}?user_id={user}"
        put(source.compute, path, quota_set={"instances": 3, "force": True})
        let_others_act(source, f"{name}.anna", user, mine)
        with gateway(source, network(source, mine)), foreigner(source, name, mine), qos_policy(source, mine):
            broken_server(source, mine)
            both = clouds_of(lab)
            found = verify(both.source, both.destination, mine, {}, Known()).findings
            yield {
                f"{each.kind} {each.name.replace(name, 'x').replace(user, 'anna')}": each for each in found
            }
    finally:
        for admin in (source, destination):
            remove_tenant(admin, name)


def tenant(admin: Connection, name: str, **extra: str) -> tuple[str, str]:
    """A project with a user and an image, which has properties that sound like Nova's; the ids of both."""
    fields = {"name": name, "domain_id": "default", **extra}
    project_id = str(post(admin.identity, "/projects", project=fields)["project"]["id"])
    user = {"name": f"{name}.anna", "domain_id": "default", "phone": "1", "password": PASSWORD}
    user_id = str(post(admin.identity, "/users", user=user)["user"]["id"])
    grant(admin, project_id, user_id, "member")
    image = {"name": "gold", "disk_format": "raw", "container_format": "bare", "owner": project_id}
    image_id = post(admin.image, "/images", **image, user_id="u-77", image_type="gold")["id"]
    headers = {"Content-Type": "application/octet-stream"}
    admin.image.put(f"/images/{image_id}/file", data=b"gold", headers=headers).raise_for_status()
    return project_id, user_id


def grant(admin: Connection, project_id: str, user_id: str, name: str) -> None:
    """Give a user a role in the tenant."""
    role = next(role["id"] for role in get(admin.identity, "/roles")["roles"] if role["name"] == name)
    put(admin.identity, f"/projects/{project_id}/users/{user_id}/roles/{role}")


def network(admin: Connection, project_id: str) -> str:
    """A network with a subnet; the id of the subnet."""
    owner = {"project_id": project_id}
    made = post(admin.network, "/networks", network={"name": "app", **owner})["network"]["id"]
    subnet = {"network_id": made, "ip_version": 4, "cidr": "10.77.0.0/24", **owner}
    return str(post(admin.network, "/subnets", subnet=subnet)["subnet"]["id"])


@contextmanager
def gateway(admin: Connection, subnet_id: str) -> Iterator[None]:
    """The way out of a subnet by the router of an administrator."""
    path = f"/routers/{post(admin.network, '/routers', router={'name': 'edge'})['router']['id']}"
    put(admin.network, f"{path}/add_router_interface", subnet_id=subnet_id)
    try:
        yield
    finally:
        put(admin.network, f"{path}/remove_router_interface", subnet_id=subnet_id)
        send(admin.network, "DELETE", path)


@contextmanager
def foreigner(admin: Connection, name: str, project_id: str) -> Iterator[None]:
    """A user of the tenant whose domain the destination does not have."""
    path = f"/domains/{post(admin.identity, '/domains', domain={'name': name})['domain']['id']}"
    try:
        user = {"name": f"{name}.foreigner", "domain_id": path.rpartition("/")[2]}
        grant(admin, project_id, post(admin.identity, "/users", user=user)["user"]["id"], "member")
        yield
    finally:
        send(admin.identity, "PATCH", path, domain={"enabled": False})
        send(admin.identity, "DELETE", path)


def let_others_act(admin: Connection, name: str, user_id: str, project_id: str) -> None:
    """What only a user himself can make: a trust, and credentials for programs."""
    login = {"username": name, "password": PASSWORD, "user_domain_id": "default", "project_id": project_id}
    identity = admin.connect_as(**login).identity
    path = f"/users/{user_id}/application_credentials"
    post(identity, path, application_credential={"name": "ci"})
    post(identity, f"/users/{user_id}/credentials/OS-EC2", tenant_id=project_id)
    trust = {"trustor_user_id": user_id, "trustee_user_id": admin.current_user_id, "project_id": project_id}
    post(identity, "/OS-TRUST/trusts", trust={**trust, "impersonation": False, "roles": [{"name": "member"}]})


@contextmanager
def qos_policy(admin: Connection, project_id: str) -> Iterator[None]:
    """A QoS policy of the tenant."""
    policy = post(admin.network, "/qos/policies", policy={"name": "gold", "project_id": project_id})["policy"]
    try:
        yield
    finally:
        send(admin.network, "DELETE", f"/qos/policies/{policy['id']}")


def broken_server(admin: Connection, project_id: str) -> None:
    """A server that is in ERROR."""
    grant(admin, project_id, admin.current_user_id, "admin")
    compute: Any = admin.connect_as_project({"id": project_id}).compute
    compute.default_microversion = "2.90"
    flavors = {flavor["name"]: flavor["id"] for flavor in get(compute, "/flavors")["flavors"]}
    (image,) = admin.image.images(owner=project_id)
    fields = {"name": "prod", "flavorRef": flavors[FLAVOR], "imageRef": image.id, "networks": "none"}
    path = f"/servers/{post(compute, '/servers', server=fields)['server']['id']}"
    until(lambda: get(compute, path)["server"]["status"] in ("ACTIVE", "ERROR"), "a server")
    post(compute, f"{path}/action", **{"os-resetState": {"state": "error"}})


def test_what_is_lost_is_missing_whoever_would_have_to_bring_it(findings: dict[str, Finding]) -> None:
    assert {name for name, found in findings.items() if found.verdict == "missing"} == {
        "server prod",
        "trusts of user anna",
        "application_credentials ci of user anna",
        "ec2_credentials of user anna",
        "qos_policies gold",
        "user x.foreigner",
        "assignment member of user x.foreigner",
    }


def test_what_differs_is_named_and_nothing_else(findings: dict[str, Finding]) -> None:
    found = {
        name: [each.field for each in found.differences if not each.excuse]
        for name, found in findings.items()
        if found.verdict not in ("missing", "equal", "noted")
    }
    assert found == {
        "tenant x": ["extra attributes"],
        "quota compute instances of user anna": ["limit"],
        "network app": ["gateways of others"],
    }
    assert findings["image gold"].verdict == findings["user x.anna"].verdict == "equal"

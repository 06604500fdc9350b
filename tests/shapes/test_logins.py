"""Logins and certificates as operators have them: what they can do is planned, and what they cannot is said."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Lab
from lab.populate import Sample
from lab.sample.base import connect, get, post, put, send
from tests.real.listing import NOTHING, Listing, changes, listing
from tests.shapes.certificates import Certificates
from tests.shapes.conftest import Arrival, Operator, arrival
from tests.shapes.front import fronted
from tests.shapes.shapes import SIDES, Shape, both, each
from tests.shapes.traits import Regions

PLAN = ("migrate", "tenant")


@pytest.fixture
def manager(lab: Lab, tenant: Sample) -> Iterator[dict[str, str]]:
    """The login of a manager of the tenant, who is nothing else."""
    identity = connect(lab.clouds_yaml, "source").identity
    login = {"username": f"{tenant.name}.manager", "password": secrets.token_urlsafe(16)}
    user = {"name": login["username"], "password": login["password"], "domain_id": "default"}
    user_id = post(identity, "/users", user=user)["user"]["id"]
    (role,) = get(identity, "/roles?name=manager")["roles"]
    put(identity, f"/projects/{tenant.tenant_id}/users/{user_id}/roles/{role['id']}")
    yield {**login, "project_name": tenant.name}
    send(identity, "DELETE", f"/users/{user_id}")


@pytest.fixture
def application_credential(lab: Lab) -> Iterator[dict[str, str]]:
    """One of the source's administrator."""
    identity = connect(lab.clouds_yaml, "source").identity
    path = f"/users/{identity.get_user_id()}/application_credentials"
    made = post(identity, path, application_credential={"name": secrets.token_hex(8)})[
        "application_credential"
    ]
    yield {"application_credential_id": made["id"], "application_credential_secret": made["secret"]}
    send(identity, "DELETE", f"{path}/{made['id']}")


def planned(operator: Operator, tenant: Sample, **settings: Any) -> Any:
    """The plan with other settings of the source's cloud."""
    operator.sees(Shape(changes={"source": settings}))
    return operator.json(*PLAN, tenant.name, "--dry-run")


@pytest.mark.exhaustive
def test_tokens_move_a_tenant_as_their_users_do(
    lab: Lab, operator: Operator, tenant: Sample, empty: Listing
) -> None:
    nobody = {"username": None, "password": None, "user_domain_name": None}
    tokens = {name: connect(lab.clouds_yaml, name).identity.get_token() for name in SIDES}
    logins = {
        name: {"auth_type": "v3token", "auth": {**nobody, "token": token}} for name, token in tokens.items()
    }
    operator.sees(Shape(changes=logins))
    assert arrival(operator, tenant) == Arrival()
    operator.run("revert", "last", "--yes", exit_code=0)
    assert changes(empty, listing(lab.clouds_yaml, "destination")) == NOTHING


def by_credential(application_credential: dict[str, str]) -> dict[str, Any]:
    """The settings of a cloud for a login by an application credential."""
    nobody = dict.fromkeys(
        ("username", "password", "user_domain_name", "project_name", "project_domain_name"), None
    )
    return {"auth_type": "v3applicationcredential", "auth": {**nobody, **application_credential}}


def test_an_application_credential_plans_and_check_says_what_it_cannot_do(
    operator: Operator, tenant: Sample, application_credential: dict[str, str]
) -> None:
    assert planned(operator, tenant, **by_credential(application_credential))["summary"]["create"] > 10
    told = operator.json("check")["not_possible"]
    assert [text for text in told if "application credential, to which keystone shows no trusts" in text]


@pytest.mark.exhaustive
def test_an_application_credential_of_the_source_moves_all_and_does_not_know_of_trusts(
    operator: Operator, tenant: Sample, empty: Listing, application_credential: dict[str, str]
) -> None:
    operator.sees(Shape(changes={"source": by_credential(application_credential)}))
    assert arrival(operator, tenant) == Arrival(exit_code=3)


def test_a_manager_of_the_tenant_is_no_administrator(
    operator: Operator, tenant: Sample, manager: dict[str, str]
) -> None:
    plan = planned(operator, tenant, auth=manager)
    assert [note for note in plan["notes"] if "the login of the source is not an administrator's" in note]
    assert plan["summary"]["create"] > 10


@pytest.mark.exhaustive
def test_a_manager_of_the_tenant_moves_what_a_member_may_see(
    operator: Operator, tenant: Sample, empty: Listing, manager: dict[str, str]
) -> None:
    operator.sees(Shape(changes={"source": {"auth": manager}}))
    moved = operator.run("migrate", "tenant", tenant.name, "--yes", exit_code=0)
    assert "all that the login is shown of tenant" in moved.stderr + moved.stdout
    operator.run(
        "verify", "tenant", tenant.name, exit_code=2
    )  # who is no administrator sees too little for it
    operator.sees(Shape())
    found = operator.json("verify", "tenant", tenant.name, exit_code=6)["resources"]
    lost = {item["kind"] for item in found if item["outcome"] == "missing"}
    lost |= {change["field"] for item in found for change in item["differences"] if not change["excuse"]}
    assert lost == {"assignment", "keypair", "role", "user", "limit", "key_name", "user_data"}


def test_an_administrator_of_the_system_is_told_to_name_a_project(operator: Operator, tenant: Sample) -> None:
    project = dict.fromkeys(("project_name", "project_domain_name"), None)
    operator.sees(Shape(changes={"source": {"auth": {**project, "system_scope": "all"}}}))
    ended = operator.run(*PLAN, tenant.name, "--dry-run", exit_code=4)
    assert "not scoped to a project" in ended.stderr


def test_several_regions_of_which_none_is_named_are_an_error(operator: Operator, tenant: Sample) -> None:
    operator.sees(Shape(both(Regions()), each(region_name=None)))
    ended = operator.run("check", exit_code=4)
    assert "it has the regions elsewhere, lab" in ended.stderr


def test_certificates_of_a_private_authority(
    lab: Lab, tenant: Sample, certificates: Certificates, tmp_path: Path
) -> None:
    client = {"cert": str(certificates.client_cert), "key": str(certificates.client_key)}
    with fronted(lab, certificates.server) as front:
        operator = Operator(front, lab, tmp_path)
        for trusted in ({"cacert": str(certificates.authority)}, {"verify": False}):
            operator.sees(Shape(changes=each(**client, **trusted)))
            plan = operator.run(*PLAN, tenant.name, "--dry-run", exit_code=0)
            assert "create" in plan.stdout
            assert plan.stderr.count("Warning") == 0
        operator.sees(Shape(changes=each(**client)))
        assert "certificate is not trusted" in operator.run("check", exit_code=4).stderr
        operator.sees(Shape(changes=each(cacert=str(certificates.authority))))
        assert "wants a certificate of its clients" in operator.run("check", exit_code=4).stderr


@pytest.mark.exhaustive
def test_a_tenant_moves_between_clouds_of_a_private_authority(
    lab: Lab, tenant: Sample, empty: Listing, certificates: Certificates, tmp_path: Path
) -> None:
    client = {"cert": str(certificates.client_cert), "key": str(certificates.client_key)}
    with fronted(lab, certificates.server) as front:
        operator = Operator(front, lab, tmp_path)
        operator.sees(Shape(changes=each(**client, cacert=str(certificates.authority))))
        assert arrival(operator, tenant) == Arrival()
        assert any(front.uploaded.values())

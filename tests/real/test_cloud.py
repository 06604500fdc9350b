"""Clouds, their clients and the borrowing of tenants, against two real clouds."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from pumphouse.cloud import Cloud, call, get_all, same_keystone
from pumphouse.cloud.check import check_clouds
from pumphouse.config.settings import CloudConfig
from pumphouse.errors import CloudError, PumphouseError, ReadOnlyError, explain, http_status


@pytest.fixture(scope="module")
def settings(lab: Any) -> dict[str, Any]:
    """What clouds.yaml says, by cloud."""
    clouds: dict[str, Any] = yaml.safe_load(Path(lab.clouds_yaml).read_text())["clouds"]
    return clouds


def connect(lab: Any, name: str, **kwargs: Any) -> Cloud:
    return Cloud.from_clouds_yaml(name, clouds_file=Path(lab.clouds_yaml), **kwargs)


def inline(settings: dict[str, Any], auth: dict[str, Any], auth_type: str = "password") -> Cloud:
    """The source with other credentials."""
    config = CloudConfig(
        auth_type=auth_type,
        auth={"auth_url": settings["source"]["auth"]["auth_url"], **auth},
        region_name=settings["source"].get("region_name"),
    )
    return Cloud(config, name="source")


@pytest.fixture(scope="module")
def source(lab: Any) -> Cloud:
    return connect(lab, "source")


@pytest.fixture(scope="module")
def destination(lab: Any) -> Cloud:
    return connect(lab, "destination")


@pytest.fixture
def tenant(source: Cloud) -> Iterator[Any]:
    project = source.keystone.projects.create(f"cloud-{uuid.uuid4().hex}", "default")
    yield project
    source.keystone.projects.delete(project)


@pytest.fixture
def user(source: Cloud, tenant: Any) -> Iterator[dict[str, str]]:
    """The credentials of a user who is only a member of the tenant."""
    name, password = f"cloud-{uuid.uuid4().hex}", uuid.uuid4().hex
    made = source.keystone.users.create(name, domain="default", password=password)
    source.keystone.roles.grant(role_id(source, "member"), user=made, project=tenant)
    yield {"username": name, "password": password, "user_domain_id": "default", "project_id": tenant.id}
    source.keystone.users.delete(made)


def role_id(cloud: Cloud, name: str) -> str:
    return next(role.id for role in cloud.keystone.roles.list() if role.name == name)


def assignments(cloud: Cloud, tenant: Any) -> list[Any]:
    found: list[Any] = cloud.keystone.role_assignments.list(project=tenant.id)
    return found


def test_all_clients_work_on_one_login(lab: Any) -> None:
    cloud = connect(lab, "source", read_only=True)
    token = cloud.access.auth_token
    assert cloud.project_id in {project.id for project in cloud.keystone.projects.list()}
    assert isinstance(cloud.nova.servers.list(search_opts={"all_tenants": True}), list)
    assert isinstance(list(cloud.glance.images.list()), list)
    assert isinstance(get_all(cloud.neutron, "/networks", "networks"), list)
    assert isinstance(get_all(cloud.cinder, "/volumes", "volumes"), list)
    assert cloud.access.auth_token == token
    assert "admin" in cloud.roles


def test_nova_speaks_the_highest_microversion_that_both_know(source: Cloud) -> None:
    from novaclient import API_MAX_VERSION
    from novaclient.api_versions import APIVersion

    server = source.nova.versions.get_current()
    assert source.nova.api_version == min(API_MAX_VERSION, APIVersion(server.version))


def test_novaclient_writes_nothing_into_the_home_directory(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NOVACLIENT_UUID_CACHE_DIR", raising=False)
    connect(lab, "source").nova.flavors.list(is_public=None)
    assert list(tmp_path.iterdir()) == []


def test_threads_share_each_client(lab: Any) -> None:
    cloud = connect(lab, "source")
    barrier = threading.Barrier(16)

    def touch(_: int) -> tuple[int, ...]:
        barrier.wait()
        return tuple(id(getattr(cloud, name)) for name in ("neutron", "cinder", "nova", "glance", "keystone"))

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(touch, range(16)))) == 1


def test_all_pages_are_read(source: Cloud, tenant: Any) -> None:
    groups = [{"name": f"group {number}", "tenant_id": tenant.id} for number in range(5)]
    call(source.neutron, "POST", "/security-groups", {"security_groups": groups})
    found = get_all(source.neutron, "/security-groups", "security_groups", project_id=tenant.id, limit=2)
    assert sorted(group["name"] for group in found) == ["default", *(group["name"] for group in groups)]
    for group in found:
        assert call(source.neutron, "DELETE", f"/security-groups/{group['id']}") == {}


def test_all_pages_are_read_where_links_have_another_name(source: Cloud) -> None:
    one_page = get_all(source.cinder, "/types", "volume_types")
    assert len(one_page) > 1
    pages = get_all(source.cinder, "/types", "volume_types", limit=1)
    assert {kind["id"] for kind in pages} == {kind["id"] for kind in one_page}


def test_an_error_carries_the_message_and_the_request(source: Cloud) -> None:
    with pytest.raises(Exception, match="nowhere could not be found") as caught:
        call(source.neutron, "GET", "/networks/nowhere")
    assert http_status(caught.value) == 404
    explanation = explain(caught.value)
    assert explanation.what == "the cloud answered 404: Network nowhere could not be found."
    assert explanation.request_id.startswith("req-")


def test_a_read_only_cloud_refuses_to_write(lab: Any, tenant: Any) -> None:
    cloud = connect(lab, "source", read_only=True)
    for write in (
        lambda: cloud.keystone.projects.delete(tenant.id),
        lambda: cloud.nova.flavors.create("x", 1, 1, 1),
        lambda: cloud.glance.images.create(name="x"),
        lambda: call(cloud.neutron, "POST", "/networks", {"network": {}}),
        lambda: cloud.in_tenant(tenant.id).__enter__(),
    ):
        with pytest.raises(ReadOnlyError):
            write()
    assert assignments(cloud, tenant) == []


def test_a_tenant_is_borrowed_and_given_back(source: Cloud, tenant: Any) -> None:
    with source.in_tenant(tenant.id) as inside:
        assert inside.project_id == tenant.id
        assert "member" in inside.roles
        assert isinstance(inside.nova.servers.list(), list)
        assert [assigned.user["id"] for assigned in assignments(source, tenant)] == [source.user_id]
    assert assignments(source, tenant) == []


def test_a_tenant_is_given_back_when_its_use_fails(source: Cloud, tenant: Any) -> None:
    with pytest.raises(ZeroDivisionError), source.in_tenant(tenant.id):
        raise ZeroDivisionError
    assert assignments(source, tenant) == []


def test_all_users_of_a_tenant_share_one_grant(source: Cloud, tenant: Any) -> None:
    with ExitStack() as stack:
        with source.in_tenant(tenant.id) as first:
            second = stack.enter_context(source.in_tenant(tenant.id))
            assert second is first
            with first.in_tenant(tenant.id) as nested:
                assert nested is first
        assert len(assignments(source, tenant)) == 1
        assert second.keystone.projects.get(tenant.id).id == tenant.id
    assert assignments(source, tenant) == []


def test_the_own_project_is_not_borrowed(source: Cloud) -> None:
    with source.in_tenant(source.project_id) as inside:
        assert inside is source


@pytest.mark.parametrize("role", ["member", "admin"])
def test_an_assignment_that_was_there_stays(source: Cloud, tenant: Any, role: str) -> None:
    source.keystone.roles.grant(role_id(source, role), user=source.user_id, project=tenant)
    with source.in_tenant(tenant.id):
        assert len(assignments(source, tenant)) == 1
    assert [assigned.role["id"] for assigned in assignments(source, tenant)] == [role_id(source, role)]


def test_an_assignment_through_a_group_is_enough(source: Cloud, tenant: Any) -> None:
    group = source.keystone.groups.create(f"cloud-{uuid.uuid4().hex}", domain="default")
    try:
        source.keystone.users.add_to_group(source.user_id, group)
        source.keystone.roles.grant(role_id(source, "member"), group=group, project=tenant)
        with source.in_tenant(tenant.id) as inside:
            assert inside.project_id == tenant.id
            assert [hasattr(assigned, "group") for assigned in assignments(source, tenant)] == [True]
        assert len(assignments(source, tenant)) == 1
    finally:
        source.keystone.groups.delete(group)


def test_an_unknown_role_is_named(source: Cloud, tenant: Any) -> None:
    with (
        pytest.raises(PumphouseError, match=r"there is no role nobody, only .*member"),
        source.in_tenant(tenant.id, "nobody"),
    ):
        pass
    assert assignments(source, tenant) == []


def test_borrowing_and_revoking_fail_no_thread(lab: Any, source: Cloud, tenant: Any) -> None:
    cloud = connect(lab, "source")
    stop, read = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            read.append(cloud.keystone.projects.get(tenant.id).id)

    with ThreadPoolExecutor(32) as pool:
        threads = [pool.submit(work) for _ in range(32)]
        try:
            for _ in range(3):
                with cloud.in_tenant(tenant.id) as inside:
                    inside.keystone.projects.get(tenant.id)
                revoked = {"X-Subject-Token": cloud.access.auth_token}
                source.session.delete(f"{cloud.auth_url.removesuffix('/v3')}/v3/auth/tokens", headers=revoked)
        finally:
            stop.set()
    assert [thread.exception() for thread in threads] == [None] * 32
    assert len(read) > 32
    assert assignments(source, tenant) == []


def test_many_threads_borrow_at_once(source: Cloud, tenant: Any) -> None:
    def use(_: int) -> str:
        with source.in_tenant(tenant.id) as inside:
            return str(inside.keystone.projects.get(tenant.id).id)

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(use, range(64))) == {tenant.id}
    assert assignments(source, tenant) == []


def test_a_member_cannot_borrow_and_is_told_why(settings: dict[str, Any], source: Cloud, user: Any) -> None:
    cloud = inline(settings, user)
    other = source.keystone.projects.create(f"cloud-{uuid.uuid4().hex}", "default")
    try:
        with pytest.raises(PumphouseError, match=f"no access to tenant {other.id}: .* 403") as caught:
            cloud.in_tenant(other.id).__enter__()
        assert "member" in caught.value.hint
        assert assignments(source, other) == []
    finally:
        source.keystone.projects.delete(other)


def test_a_token_is_taken_along(settings: dict[str, Any], source: Cloud, tenant: Any) -> None:
    auth = {"token": source.access.auth_token, "project_id": source.project_id}
    with inline(settings, auth, "token").in_tenant(tenant.id) as inside:
        assert inside.project_id == tenant.id
    assert assignments(source, tenant) == []


def test_an_application_credential_cannot_be_taken_along(
    settings: dict[str, Any], source: Cloud, tenant: Any
) -> None:
    made = source.keystone.application_credentials.create(f"cloud-{uuid.uuid4().hex}", unrestricted=True)
    auth = {"application_credential_id": made.id, "application_credential_secret": made.secret}
    try:
        cloud = inline(settings, auth, "v3applicationcredential")
        cloud.login()
        with pytest.raises(PumphouseError, match=f"no login in tenant {tenant.id}") as caught:
            cloud.in_tenant(tenant.id).__enter__()
        assert "a user name and a password" in caught.value.hint
        assert assignments(source, tenant) == []
    finally:
        source.keystone.application_credentials.delete(made.id)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"password": "not-the-password"}, "the login was refused"),
        ({"project_name": "no-such-project"}, "the login was refused"),
        ({"auth_url": "http://127.0.0.1:9/v3"}, "it cannot be reached"),
        ({"auth_url": "http://no-such-host.invalid:5000/v3"}, "it cannot be reached"),
        ({"project_name": None, "project_id": None}, "not scoped to a project"),
    ],
)
def test_a_failed_login_is_one_clear_message(
    settings: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    auth = {**settings["source"]["auth"], **change}
    cloud = inline(settings, {name: value for name, value in auth.items() if value})
    with pytest.raises(CloudError, match=message) as caught:
        cloud.login()
    error = caught.value
    assert str(error).startswith("cloud source")
    assert "\n" not in str(error)
    assert error.hint
    assert error.exit_code == 4
    assert auth["password"] not in f"{error} {error.hint}"


def test_an_address_without_keystone_is_named(settings: dict[str, Any], source: Cloud) -> None:
    glance = source.session.get_endpoint(service_type="image")
    with pytest.raises(CloudError, match="no Keystone answers at this address"):
        inline(settings, {**settings["source"]["auth"], "auth_url": glance}).login()


def test_one_keystone_is_known_by_all_its_names(lab: Any, settings: dict[str, Any], source: Cloud) -> None:
    alias = {**settings["source"]["auth"]}
    alias["auth_url"] = alias["auth_url"].replace("127.0.0.1", "localhost")
    assert same_keystone(source, inline(settings, alias))
    assert not same_keystone(source, connect(lab, "destination"))


def test_check_sees_two_complete_clouds(lab: Any) -> None:
    found = check_clouds(connect(lab, "source", read_only=True), connect(lab, "destination", read_only=True))
    for cloud in (found.source, found.destination):
        assert {"identity", "image", "compute", "network", "block-storage"} <= {
            s.type for s in cloud.services
        }
        assert [service.problem for service in cloud.services if service.problem] == []
        nova = cloud.service("compute")
        assert nova is not None
        assert (nova.project, nova.version, nova.min_microversion) == ("nova", "2.1", "2.1")
        assert "security-group" in cloud.extensions
        assert "admin" in cloud.roles
        assert abs(cloud.clock_difference_s or 0) < 2
    assert [sentence for sentence in found.not_possible if "extension" not in sentence] == []


def test_check_says_what_a_member_cannot_do(settings: dict[str, Any], source: Cloud, user: Any) -> None:
    found = check_clouds(source, inline(settings, user))
    assert any("is not admin of source but member" in sentence for sentence in found.not_possible)
    assert any("the same Keystone" in sentence for sentence in found.not_possible)

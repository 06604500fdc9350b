"""Runs of two tenants beside each other, which need the same user, role, group, flavor and public image."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import Lab
from lab.sample.base import connect, content, get, post, put
from lab.sample.inventory import remove_tenant
from tests.faults.commands import RECORDED
from tests.faults.driver import KILLED, Nursery, Operator
from tests.faults.proxy import Proxy
from tests.faults.rules import IMAGE_BYTES, Hold, Rule

CLOUDS = ("source", "destination")
# What both tenants need, and is made once; both tenants themselves.
ONCE = {"users": 1, "roles": 1, "groups": 1, "flavors": 1, "images": 1}
TENANTS = {"projects": 2}


@dataclass(frozen=True)
class Pair:
    """Two tenants that share nearly all.

    name: what the names of all that is theirs begin with.
    """

    lab: Lab
    name: str

    @property
    def tenants(self) -> tuple[str, str]:
        return f"{self.name}.a", f"{self.name}.b"

    def migrate(self, number: int, *options: str) -> tuple[str, ...]:
        return *options, "migrate", "tenant", self.tenants[number], "--yes"

    def images(self, cloud: str) -> dict[str, str]:
        images = connect(self.lab.clouds_yaml, cloud).image.images()
        return {image.id: image.visibility for image in images if str(image.name).startswith(self.name)}

    def counted(self) -> Counter[str]:
        """How many there are at the destination."""
        destination = connect(self.lab.clouds_yaml, "destination")
        flavors = get(destination.compute, "/flavors/detail?is_public=None")
        items = {
            "flavors": flavors["flavors"],
            "images": [{"name": self.name} for _ in self.images("destination")],
        }
        for what in ("users", "roles", "groups", "projects"):
            items[what] = get(destination.identity, f"/{what}")[what]
        mine = {
            what: [item for item in found if item["name"].startswith(self.name)]
            for what, found in items.items()
        }
        return +Counter({what: len(found) for what, found in mine.items()})


@pytest.fixture
def pair(lab: Lab) -> Iterator[Pair]:
    pair = Pair(lab, f"pair-{uuid.uuid4().hex[:6]}")
    try:
        _make(pair)
        yield pair
    finally:
        for cloud in CLOUDS:
            admin = connect(lab.clouds_yaml, cloud)
            for name in (*pair.tenants, pair.name):
                remove_tenant(admin, name)
            for image_id in pair.images(cloud):
                admin.image.delete_image(image_id)


def _make(pair: Pair) -> None:
    admin, name = connect(pair.lab.clouds_yaml, "source"), pair.name
    identity, headers = admin.identity, {"Content-Type": "application/octet-stream"}
    user = {"name": f"{name}.carol", "domain_id": "default", "password": uuid.uuid4().hex}
    user_id = post(identity, "/users", user=user)["user"]["id"]
    group = {"name": f"{name}.ops", "domain_id": "default"}
    group_id = post(identity, "/groups", group=group)["group"]["id"]
    put(identity, f"/groups/{group_id}/users/{user_id}")
    role_id = post(identity, "/roles", role={"name": f"{name}.keeper"})["role"]["id"]
    flavor = {"name": f"{name}.tiny", "ram": 64, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": False}
    flavor_id = post(admin.compute, "/flavors", flavor=flavor)["flavor"]["id"]
    post(admin.compute, f"/flavors/{flavor_id}/os-extra_specs", extra_specs={"hw:cpu_policy": "shared"})
    kernel = {
        "name": f"{name}.kernel",
        "disk_format": "aki",
        "container_format": "aki",
        "visibility": "public",
    }
    kernel_id = post(admin.image, "/images", **kernel)["id"]
    admin.image.put(
        f"/images/{kernel_id}/file", data=b"".join(content(name, 1)), headers=headers
    ).raise_for_status()
    for tenant in pair.tenants:
        project = {"name": tenant, "domain_id": "default"}
        project_id = post(identity, "/projects", project=project)["project"]["id"]
        put(identity, f"/projects/{project_id}/users/{user_id}/roles/{role_id}")
        put(identity, f"/projects/{project_id}/groups/{group_id}/roles/{role_id}")
        post(admin.compute, f"/flavors/{flavor_id}/action", addTenantAccess={"tenant": project_id})
        image = {"name": "own", "disk_format": "ami", "container_format": "ami", "owner": project_id}
        image_id = post(admin.image, "/images", **image, kernel_id=kernel_id)["id"]
        admin.image.put(f"/images/{image_id}/file", data=tenant.encode(), headers=headers).raise_for_status()


@pytest.fixture
def operators(
    nursery: Nursery, lab: Lab, shared_proxy: Proxy, tmp_path: Path
) -> Iterator[tuple[Operator, Operator]]:
    """Two people, each with a folder and a state store of his own."""
    shared_proxy.forget()
    first, second = (Operator(nursery, lab, tmp_path / name, shared_proxy.environment) for name in "ab")
    yield first, second
    shared_proxy.forget()


def test_each_thing_is_made_once_though_the_state_stores_are_two(
    pair: Pair, operators: tuple[Operator, Operator]
) -> None:
    commands = [operator.start(*pair.migrate(number)) for number, operator in enumerate(operators)]
    for command in commands:
        command.wait().expect(0)
    assert pair.counted() == ONCE | TENANTS
    assert list(pair.images("destination").values()) == ["public"]
    for number, operator in enumerate(operators):
        operator.run("verify", "tenant", pair.tenants[number]).expect(0)


def test_one_that_is_killed_and_undone_leaves_the_other_whole(
    pair: Pair, operators: tuple[Operator, Operator], shared_proxy: Proxy
) -> None:
    first, second = operators
    second.configure(state_url=f"sqlite:///{first.folder}/state.db")
    hold = Hold("upload")
    shared_proxy.rules = [Rule([hold], method="PUT", path=IMAGE_BYTES, count=1)]
    killed = first.start(*pair.migrate(0))
    run = killed.says(RECORDED)[1]
    assert killed.reaches(hold.reached)
    other = second.start(*pair.migrate(1, "-v"))
    other.says("the upload of another run is waited for")
    killed.signal()
    hold.go_on.set()
    assert killed.wait().code == KILLED

    ended = first.run("revert", run, "--yes").expect(3)
    said = ended.stdout + ended.stderr
    assert "used by run" in said
    other.wait().expect(0)
    counted = pair.counted()
    assert {what: counted[what] for what in ONCE} == ONCE, said
    assert list(pair.images("destination").values()) == ["public"]
    second.run("verify", "tenant", pair.tenants[1]).expect(0)
    second.run("revert", "last", "--yes").expect(0)
    first.run("revert", run, "--yes").expect(0)
    assert pair.counted() == {}

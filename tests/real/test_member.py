"""Two logins of members and no administrator: what they may do is done, and what they may not is said."""

from __future__ import annotations

import json
import secrets
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import Lab
from lab.populate import Sample, populate, remove
from lab.sample.base import Sizes, connect, get, post, put
from tests.real.listing import changes, listing
from tests.real.runner import Runner

SIZES = Sizes(users=2, images=3, networks=2, security_groups=3, volumes=2, servers=2, image_mib=1, disk_mib=1)
NOT_MADE = {"group", "role", "assignment", "membership", "quota"}


@dataclass(frozen=True)
class Members:
    """A sample tenant, and the configuration of two members: its first user, and one of a project that waits."""

    sample: Sample
    project_id: str
    user_id: str
    config: Path


@pytest.fixture
def members(lab: Lab, tmp_path: Path) -> Iterator[Members]:
    name = f"member-{uuid.uuid4().hex[:6]}"
    try:
        sample = populate(lab.clouds_yaml, name, SIZES)
        password = secrets.token_urlsafe(16)
        project_id, user_id = make_destination(lab, sample, password)
        logins = {
            "source": (f"{name}.alice", sample.passwords["alice"]),
            "destination": (f"{name}.dora", password),
        }
        yield Members(sample, project_id, user_id, write_config(lab, tmp_path, name, logins))
    finally:
        for cloud in ("source", "destination"):
            remove(lab.clouds_yaml, name, cloud=cloud)


def make_destination(lab: Lab, sample: Sample, password: str) -> tuple[str, str]:
    """What an administrator of the destination prepares: a project, a member of it, the private flavor."""
    admin = connect(lab.clouds_yaml, "destination")
    project_id, user_id = make_member(admin, sample.name, f"{sample.name}.dora", password)
    (theirs,) = (
        flavor
        for flavor in connect(lab.clouds_yaml, "source").compute.flavors(is_public=None)
        if flavor.name.startswith(f"{sample.name}.")
    )
    copied = ("name", "ram", "vcpus", "disk", "ephemeral", "swap", "rxtx_factor", "is_public")
    flavor = admin.compute.create_flavor(**{field: getattr(theirs, field) for field in copied})
    admin.compute.create_flavor_extra_specs(flavor, theirs.extra_specs)
    admin.compute.flavor_add_tenant_access(flavor, project_id)
    return project_id, user_id


@pytest.fixture
def guests(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """The configuration of members of two projects whose only port is on a network that an administrator shares."""
    name, password, logins = f"guest-{uuid.uuid4().hex[:6]}", secrets.token_urlsafe(16), {}
    try:
        for cloud in ("source", "destination"):
            admin = connect(lab.clouds_yaml, cloud)
            logins[cloud] = (f"{name}.guest", password)
            project_id = make_member(admin, name, *logins[cloud])[0]
            network = admin.network.create_network(name=f"{name}.lan", is_shared=True)
            admin.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.77.0.0/24", name="lan")
            if cloud == "source":
                admin.network.create_port(network_id=network.id, project_id=project_id, name="guest")
        yield write_config(lab, tmp_path, name, logins)
    finally:
        for cloud in logins:
            admin = connect(lab.clouds_yaml, cloud)
            remove(lab.clouds_yaml, name, cloud=cloud)
            admin.network.delete_network(admin.network.find_network(f"{name}.lan"))


def make_member(admin: Any, project: str, username: str, password: str) -> tuple[str, str]:
    body = {"name": project, "domain_id": "default", "description": "for the tenant"}
    project_id = post(admin.identity, "/projects", project=body)["project"]["id"]
    user = {"name": username, "password": password, "domain_id": "default"}
    user_id = post(admin.identity, "/users", user=user)["user"]["id"]
    (role,) = get(admin.identity, "/roles?name=member")["roles"]
    put(admin.identity, f"/projects/{project_id}/users/{user_id}/roles/{role['id']}")
    return project_id, user_id


def write_config(lab: Lab, folder: Path, project: str, logins: dict[str, tuple[str, str]]) -> Path:
    clouds = yaml.safe_load(lab.clouds_yaml.read_text())["clouds"]
    for side, (username, password) in logins.items():
        clouds[side]["auth"] |= {"username": username, "password": password, "project_name": project}
    clouds_file = folder / "clouds.yaml"
    clouds_file.write_text(json.dumps({"clouds": clouds}))
    clouds_file.chmod(0o600)
    return Runner(lab, folder).write_config(folder / "member.yaml", clouds_file=clouds_file)


def by_kind(result: Any, *outcomes: str) -> Counter[str]:
    return Counter(item["kind"] for item in result["resources"] if item["outcome"] in outcomes)


@pytest.mark.exhaustive
def test_members_move_what_is_theirs_and_are_told_the_rest(
    lab: Lab, members: Members, tmp_path: Path
) -> None:
    runner, sample, config = Runner(lab, tmp_path), members.sample, members.config
    before = {cloud: listing(lab.clouds_yaml, cloud) for cloud in ("source", "destination")}

    told = runner.json("check", config=config)["not_possible"]
    assert [text for text in told if "quotas" in text and "not admin of source" in text]
    assert [text for text in told if "quotas" in text and "not admin of destination" in text]

    refused = runner.run("migrate", "tenant", "admin", "--yes", config=config, exit_code=2)
    assert f"the login of the source sees tenant {sample.name} only, not 'admin'" in refused.stderr
    refused = runner.run("verify", "tenant", sample.name, config=config, exit_code=2)
    assert "administrator" in refused.stderr

    plan = runner.json("migrate", "tenant", sample.name, "--dry-run", config=config)
    assert [note for note in plan["notes"] if "not an administrator's" in note and "quotas" in note]
    assert not NOT_MADE & {step["kind"] for unit in plan["units"] for step in unit["steps"]}
    assert plan["summary"]["conflict"] == 0

    # What it shares with a tenant that is not at the destination is left behind.
    result = runner.json("migrate", "tenant", sample.tenant_id, "--yes", config=config, exit_code=3)
    assert {ref.partition("/")[0] for ref in result["left_behind"]} == {"rbac_policy"}
    assert by_kind(result, "failed", "blocked", "conflict") == Counter()
    created = by_kind(result, "created")
    assert created["server"] == 3
    assert created.keys() >= {
        "image",
        "network",
        "subnet",
        "router",
        "security_group",
        "port",
        "volume",
        "keypair",
    }
    reused = {
        item["kind"]: item["destination_id"] for item in result["resources"] if item["outcome"] == "reused"
    }
    assert (reused["tenant"], reused["user"]) == (members.project_id, members.user_id)

    left = changes(before["source"], listing(lab.clouds_yaml, "source"))
    assert (left["added"], left["removed"]) == ([], [])
    after = listing(lab.clouds_yaml, "destination")
    added = Counter(key.partition("/")[0] for key in changes(before["destination"], after)["added"])
    assert {kind: added[f"{kind}s"] for kind in ("image", "server", "volume", "network")} == {
        kind: created[kind] for kind in ("image", "server", "volume", "network")
    }
    assert {"users", "projects", "roles", "role_assignments", "flavors"} & added.keys() == set()

    again = runner.json("migrate", "tenant", sample.name, "--yes", config=config, exit_code=3)
    assert by_kind(again, "created", "failed") == Counter()


def test_a_port_on_a_network_of_others_arrives_with_what_neutron_gives_it(
    lab: Lab, guests: Path, tmp_path: Path
) -> None:
    runner = Runner(lab, tmp_path)
    plan = runner.json("migrate", "tenant", project_of(guests), "--dry-run", config=guests)
    (port,) = (step for unit in plan["units"] for step in unit["steps"] if step["kind"] == "port")
    assert any("only the owner of its network" in note for note in port["notes"])

    result = runner.json("migrate", "tenant", project_of(guests), "--yes", config=guests)
    (new,) = (item for item in result["resources"] if item["kind"] == "port")
    assert new["outcome"] == "created"
    assert any("only the owner of its network" in note for note in new["notes"])
    again = runner.json("migrate", "tenant", project_of(guests), "--yes", config=guests)
    assert by_kind(again, "created", "failed") == Counter()


def project_of(config: Path) -> str:
    """The project that the logins of a configuration are scoped to."""
    clouds_file = Path(yaml.safe_load(config.read_text())["clouds_file"])
    return str(json.loads(clouds_file.read_text())["clouds"]["source"]["auth"]["project_name"])

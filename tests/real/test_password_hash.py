"""Users keep their passwords where both Keystones' databases may be used: the hash is copied, and nobody sees it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import yaml
from keystoneauth1.exceptions import Unauthorized
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from lab import Lab
from lab.sample.base import Tenant, connect
from lab.sample.identity import finish, make_tenant
from lab.sample.inventory import remove_tenant
from lab.sample.sizes import Sizes
from tests.real.runner import Runner

pytestmark = pytest.mark.exhaustive


@pytest.fixture
def tenant(lab: Lab) -> Iterator[Tenant]:
    """A tenant of two users and nothing else."""
    name = f"hash-{uuid.uuid4().hex[:6]}"
    try:
        tenant = make_tenant(connect(lab.clouds_yaml, "source"), name, Sizes(users=2, images=1))
        finish(tenant)
        yield tenant
    finally:
        for cloud in ("source", "destination"):
            remove_tenant(connect(lab.clouds_yaml, cloud), name)


def databases(lab: Lab) -> dict[str, str]:
    return {cloud.name: cloud.database_url("keystone") for cloud in lab.clouds()}


def configured(runner: Runner, path: Path, urls: Mapping[str, Any]) -> Path:
    """A configuration with the policy, and with these URLs of databases."""
    settings = yaml.safe_load(runner.write_config(path, user_passwords="hash").read_text())
    for side, url in urls.items():
        settings[side]["keystone_database"] = url
    path.write_text(json.dumps(settings))
    path.chmod(0o600)
    return path


def hashes(lab: Lab, cloud: str) -> list[str]:
    with sqlalchemy.create_engine(databases(lab)[cloud]).connect() as connection:
        found = connection.execute(sqlalchemy.text("SELECT password_hash FROM password"))
        return [row.password_hash for row in found if row.password_hash]


def log_in(lab: Lab, cloud: str, user: str, password: str) -> str:
    auth_url = yaml.safe_load(lab.clouds_yaml.read_text())["clouds"][cloud]["auth"]["auth_url"]
    auth = v3.Password(auth_url, username=user, password=password, user_domain_id="default", unscoped=True)
    return str(auth.get_access(Session()).user_id)


def test_a_user_logs_in_at_the_destination_with_the_old_password(
    lab: Lab, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, urls = Runner(lab, tmp_path), databases(lab)
    monkeypatch.setenv("SOURCE_DATABASE", urls["source"])
    config = configured(runner, tmp_path / "p.yaml", {**urls, "source": {"env": "SOURCE_DATABASE"}})
    result = runner.run(
        "migrate", "tenant", tenant.name, "--yes", "--debug", "-f", "json", config=config, exit_code=0
    )
    ids = {
        r["name"]: r["destination_id"] for r in json.loads(result.stdout)["resources"] if r["kind"] == "user"
    }
    for user, password in tenant.passwords.items():
        assert log_in(lab, "destination", f"{tenant.name}.{user}", password) == ids[f"{tenant.name}.{user}"]
    with pytest.raises(Unauthorized):
        log_in(lab, "destination", f"{tenant.name}.alice", "another")

    kept = result.stdout + result.stderr + (tmp_path / "state.db").read_bytes().decode(errors="replace")
    assert hashes(lab, "source")
    assert [secret for secret in hashes(lab, "source") if secret in kept] == []
    assert not runner.passwords.exists()

    before = hashes(lab, "destination")
    again = runner.json("migrate", "tenant", tenant.name, "--yes", config=config)
    assert "created" not in again["summary"]
    assert hashes(lab, "destination") == before


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (None, "destination.keystone_database is missing"),
        ("mysql+pymysql://me:hunter2@127.0.0.1:1/keystone", "destination.keystone_database cannot be used: "),
        ("nosql://me:hunter2@there/keystone", "destination.keystone_database cannot be used: "),
        ("sqlite://", "it has no table password"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_message_before_anything_moves(
    lab: Lab, tmp_path: Path, url: str | None, said: str
) -> None:
    runner, urls = Runner(lab, tmp_path), databases(lab)
    given = {"source": urls["source"], **({"destination": url} if url else {})}
    config = configured(runner, tmp_path / "p.yaml", given)
    result = runner.run("check", config=config, exit_code=1 if url else 2)
    assert said in result.stderr
    assert result.stderr.count("error: ") == 1
    assert "hunter2" not in result.stderr + result.stdout

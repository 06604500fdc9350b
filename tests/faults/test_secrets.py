"""Nothing secret in anything that is written: every byte of it is searched."""

from __future__ import annotations

import base64
import json

import pytest
import yaml

from tests.conftest import Seen
from tests.faults.commands import RESUME, REVERT, SHOW, migrate
from tests.faults.driver import KILLED, Operator
from tests.faults.proxy import Proxy
from tests.faults.reference import Reference, undo
from tests.faults.rules import IMAGE_BYTES, Echo, Hold, Listen, Rule
from tests.faults.world import World

# What every token of Keystone begins with: the version of the Fernet format, and the time.
TOKEN = "gAAAAA"
BOOT = "/servers$"


def leaks(operator: Operator, secrets: set[str]) -> list[str]:
    """Where any of the secrets is: all that was printed, logged, planned and recorded, but for the passwords."""
    files = [path for path in operator.folder.rglob("*") if path.is_file() and path != operator.passwords]
    assert {"state.db", "pumphouse.yaml", "1.out", "1.err"} <= {path.name for path in files}
    contents = {path.name: path.read_bytes() for path in files}
    return [
        f"{name} has {secret[:4]}..."
        for name, content in contents.items()
        for secret in secrets
        if secret.encode() in content
    ]


def known(world: World, operator: Operator) -> set[str]:
    """The secrets of the tenant, also as they are sent, of the users that were made, and of both clouds."""
    clouds = yaml.safe_load(world.lab.clouds_yaml.read_text())["clouds"].values()
    made = [row.rpartition(",")[2] for row in operator.passwords.read_text().splitlines()[1:]]
    user_data = [each[0]["OS-EXT-SRV-ATTR:user_data"] for each in [_servers(world)]]
    assert made
    assert any(secret in base64.b64decode(user_data[0]).decode() for secret in world.secrets)
    return {*world.secrets, *made, *user_data, *(cloud["auth"]["password"] for cloud in clouds), TOKEN}


def _servers(world: World) -> list[dict[str, str]]:
    return [item for key, item in world.listing("source").items() if key == f"servers/{world.server_id}"]


def test_no_secret_is_in_anything_written(
    world: World, operator: Operator, proxy: Proxy, reference: Reference, seen: Seen
) -> None:
    """Through a plan file, a kill with all of it in the write-ahead log, a resume and a revert."""
    hold, listen = Hold("upload"), Listen()
    plan = str(operator.folder / "plan.yaml")
    operator.run("plan", "tenant", world.name, "-o", plan, "--debug").expect(0)
    operator.run("plan", "show", plan, "-f", "json").expect(0)
    proxy.rules = [
        Rule([hold], method="PUT", path=IMAGE_BYTES, count=1),
        Rule([listen], method="POST", path=BOOT),
    ]
    command = operator.start("migrate", "--plan", plan, "--yes", "--debug")
    assert command.reaches(hold.reached)
    command.signal()
    hold.go_on.set()
    assert command.wait().code == KILLED
    secrets = known(world, operator)
    assert (operator.folder / "state.db-wal").stat().st_size > 0
    assert leaks(operator, secrets) == []

    operator.run(*RESUME, "--debug", "-f", "json").expect(0)
    reference.assert_same()
    operator.run(*SHOW).expect(0)
    operator.run("runs", "list").expect(0)
    operator.run(*REVERT, "--debug").expect(0)
    reference.assert_untouched()
    secrets.add(json.loads(listen.heard)["server"]["adminPass"])
    assert leaks(operator, secrets) == []
    debug = "".join(path.read_text() for path in operator.folder.glob("*.err"))
    assert "***" in debug
    seen(
        f"{len(secrets)} secrets searched in {len(list(operator.folder.rglob('*')))} files, {len(debug)} bytes of log"
    )


@pytest.mark.parametrize("path", ["/v3/users$", pytest.param(BOOT, marks=pytest.mark.exhaustive)])
def test_a_refusal_that_repeats_the_request_gives_nothing_away(
    world: World, operator: Operator, proxy: Proxy, reference: Reference, path: str
) -> None:
    proxy.rules = [Rule([Echo()], service="destination/*", method="POST", path=path)]
    ended = operator.run(*migrate(world), "--debug").expect(3)
    assert "not valid" in ended.stdout
    operator.run(*SHOW).expect(0)
    proxy.rules = ()
    operator.run(*RESUME).expect(0)
    reference.assert_same()
    assert leaks(operator, known(world, operator)) == []
    undo(operator, reference)

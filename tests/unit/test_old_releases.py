"""Plans between clouds of older releases and the newest one, of what real ones answered: python -m bench.record."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest

from pumphouse.cloud import Cloud
from pumphouse.cloud.check import check_clouds
from pumphouse.config.settings import CloudConfig, Config
from pumphouse.model import Action, Plan
from pumphouse.plan.make import make_plan
from pumphouse.tasks import KINDS
from pumphouse.tasks.neutron.port import EnsurePort
from pumphouse.tasks.neutron.security_group import EnsureSecurityGroup, MakeDefaultGroup
from tests.unit.test_services import NAMES, Handler, PlainCloud, connect, there

__all__ = ["connect", "there"]

RECORDED = Path(__file__).parents[1] / "recorded"
RELEASES = sorted(path.stem for path in RECORDED.glob("*.json"))
# What the recorded tenants have none of.
SELDOM = {"address_group", "subnet_pool", "tenant_state", "volume_snapshot"}
# With whom the tenant shares has not moved.
NOT_THERE = {"rbac_policy"}
# Partners that have not moved, addresses of external networks, and hostnames at Nova before Xena.
ALLOWED = tuple(
    f"differs: {what}"
    for what in (
        "not shared with tenant forth.partner",
        "its address is ",
        "its external address ",
        "dns_name is ",
        "hostname is ",
    )
)


@dataclass
class RecordedCloud(PlainCloud):
    """A cloud that answers as a real one did."""

    recorded: Any = None

    def token(self) -> dict[str, Any]:
        who = {"user": {"id": self.recorded["user"], "name": "admin", "domain": NAMES}}
        where = {"project": {"id": self.recorded["project"], "name": "admin", "domain": NAMES}}
        return super().token() | who | where

    def start(self, url: str) -> None:
        self.url = url
        self.recorded = json.loads(json.dumps(self.recorded).replace("@/", f"{url}/"))
        self.answers = self.recorded["answers"]
        self.catalog = [(kind, place.removeprefix(url)) for kind, place in self.recorded["catalog"].items()]

    def found(self, path: str) -> Any:
        """What was answered; to what was not asked for in these words, what was answered in others that fits."""
        parts = urlsplit(self.url + path.rstrip("/"))
        place = parts._replace(query="").geturl()
        query = urlencode(sorted(parse_qsl(parts.query)))
        exact = self.answers.get(f"{place}?{query}" if query else place)
        if exact is not None:
            return exact
        others = [answer for asked, answer in self.answers.items() if asked.partition("?")[0] == place]
        # Of a single one, which may be long, the length need not be known.
        longest = (
            max(others, key=lambda answer: len(str(answer)), default=404) if others[1:] else [*others, 404][0]
        )
        return _fitting(longest, parse_qs(parts.query))


def _fitting(answer: Any, query: dict[str, list[str]]) -> Any:
    """An answer whose lists have only the items that a query asks for, by fields that they have."""
    if not isinstance(answer, dict):
        return answer

    def fits(item: Any) -> bool:
        return all(str(item[name]) in values for name, values in query.items() if name in item)

    return {
        name: [*filter(fits, value)] if isinstance(value, list) else value for name, value in answer.items()
    }


class Replay(Handler):
    cloud: RecordedCloud

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(201, {"token": self.cloud.token()}, X_Subject_Token="t")

    def do_GET(self) -> None:
        found = self.cloud.found(self.path)
        if isinstance(found, int):
            self.answer(found, {"error": {"message": f"not recorded: {self.path}"}})
        else:
            self.answer(200, found)


@contextmanager
def serving(recorded: Any, name: str) -> Iterator[Cloud]:
    """A recorded cloud that is asked through HTTP."""
    there = RecordedCloud(recorded=recorded)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Replay,), {"cloud": there}))
    there.start(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        auth = {"auth_url": f"{there.url}/identity/v3", "username": "admin", "password": "p"}
        auth |= {"project_name": "admin", "user_domain_name": "Default", "project_domain_name": "Default"}
        yield Cloud(CloudConfig(auth=auth, region_name="R"), name=name, read_only=True)
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(params=RELEASES)
def clouds(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Cloud, Cloud]]:
    """What was recorded with a release, and its two clouds: the old one and the newest."""
    recorded = json.loads((RECORDED / f"{request.param}.json").read_text())
    with ExitStack() as stack:
        old, new = (stack.enter_context(serving(recorded[name], name)) for name in ("source", "destination"))
        yield recorded, old, new


def plan(source: Cloud, destination: Cloud, tenant_id: str) -> Plan:
    config = Config(source=CloudConfig(), destination=CloudConfig())
    for cloud in (source, destination):
        cloud.login()
    with ThreadPoolExecutor(8) as pool, source.session.reading_once(), destination.session.reading_once():
        return make_plan(source, destination, tenant_id, config, pool)


def test_nothing_is_left_to_make_of_what_has_moved(clouds: tuple[Any, Cloud, Cloud]) -> None:
    recorded, old, new = clouds
    forth, back = plan(old, new, recorded["forth"]), plan(new, old, recorded["back"])
    for made in (forth, back):
        assert {step.ref.kind for step in made.steps() if step.action is not Action.REUSE} <= NOT_THERE
        assert [note for note in made.notes if "not known to Pumphouse" in note] == []
        for step in made.steps():
            differing = [
                note for note in step.notes if note.startswith("differs") and not note.startswith(ALLOWED)
            ]
            assert differing == [], step.ref
    assert {step.ref.kind for step in forth.steps()} >= KINDS.keys() - SELDOM
    assert {step.ref.kind for step in back.steps()} >= {"server", "volume", "port", "image", "keypair"}


def test_check_tells_the_releases(clouds: tuple[Any, Cloud, Cloud]) -> None:
    recorded, *pair = clouds
    found = check_clouds(*pair)
    assert [found.source.release, found.destination.release] == recorded["releases"]
    assert found.too_old == ()


def test_the_default_group_is_asked_for_as_train_knows_it(there: PlainCloud, connect: Any) -> None:
    there.catalog.append(("network", ""))
    there.answers["/v2.0/security-groups?project_id=t&tenant_id=t"] = {"security_groups": [{"id": "g"}]}
    there.answers["/v2.0/security-groups"] = {"security_groups": []}
    task = MakeDefaultGroup(connect(), provides="groups")
    assert task.execute({"id": "t", "made": True}) == {"groups": ["g"]}


def test_only_a_stateless_group_is_said_to_be_one() -> None:
    task = EnsureSecurityGroup(SimpleNamespace(), provides="group")
    assert [task.fields({"stateful": stateful}, {}) for stateful in (True, False)] == [
        {},
        {"stateful": False},
    ]
    assert task.fields({}, {}) == {}


def test_a_port_of_a_server_is_made_without_the_dns_name_that_nova_gives_it() -> None:
    task = EnsurePort(SimpleNamespace(is_admin=True), provides="port")
    data = {"id": "p", "network_id": "n", "fixed_ips": [], "security_groups": [], "mac_address": "m"}
    data |= {"dns_name": "shop", "dns_domain": "shop.example.", "device_id": ""}
    ensured = {"network-n-ensured": {"id": "twin", "made": True}}
    made = {owner: task.fields(data | {"device_owner": owner}, ensured) for owner in ("compute:nova", "")}
    assert [fields.get("dns_name") for fields in made.values()] == [None, "shop"]
    assert [fields["dns_domain"] for fields in made.values()] == ["shop.example."] * 2


def test_check_fails_below_the_oldest_release(there: PlainCloud, tmp_path: Path) -> None:
    there.catalog.append(("volumev2", "/volume/v2.0"))
    there.offer("/volume", "2.0")
    auth = {"auth_url": f"{there.url}/v3", "username": "u", "password": "p", "project_name": "p"}
    cloud = {"auth": auth | {"user_domain_name": "Default", "project_domain_name": "Default"}}
    config = tmp_path / "pumphouse.yaml"
    config.write_text(json.dumps({"source": cloud, "destination": cloud}))
    config.chmod(0o600)
    command = [sys.executable, "-m", "pumphouse", "check", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "block-storage  cinder     2.0" in done.stdout
    assert "error: source has cinder 2.0, not 3.0 (Mitaka): the calls are of that version" in done.stderr
    assert done.returncode == 1

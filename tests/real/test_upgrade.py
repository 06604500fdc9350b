"""What an earlier release has begun is ended by this one: its plan, and its runs, whatever became of them.

The clouds are others than those that its files are about: the tenant is made as it was, at the destination with the
stamps of that release, and the files get the new ids.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from lab.sample.base import connect, delete, get, put
from tests.real.conftest import discard
from tests.real.listing import NOTHING, changes, listing
from tests.real.runner import Runner
from tests.upgrade import recorded, shop

CLOUDS = ("source", "destination")
# All kinds of which the tenant has something of its own.
KINDS = {
    *("tenant", "user", "assignment", "keypair", "image", "network", "subnet", "security_group"),
    *("volume", "port", "server"),
}


class Operator:
    """Somebody who goes on with what the earlier release has left in the lab's clouds."""

    def __init__(self, lab: Lab, folder: Path, source: recorded.Ids) -> None:
        self.runner = Runner(lab, folder)
        self.admin = connect(lab.clouds_yaml, "destination")
        self._lab, self._folder, self._source = lab, folder, source
        self._urls = {c: connect(lab.clouds_yaml, c).config.get_auth_args()["auth_url"] for c in CLOUDS}
        self._before = listing(lab.clouds_yaml, "destination")

    def plan(self, name: str) -> Path:
        """A plan of the earlier release."""
        path = self._folder / name
        path.write_text(self._moved(name, "finished", shop.lasting(self.admin)))
        return path

    def has_run(self, run: str, destination: recorded.Ids) -> None:
        """Have the earlier release have run, and what it gave the user as a password in the file of it."""
        recorded.store(self._folder / "state.db", self._moved(f"{run}.sql", run, destination))
        with self.runner.passwords.open("w", newline="") as file:
            account = self._urls["destination"], "Default", f"{shop.NAME}.alice"
            csv.writer(file).writerows([["cloud", "domain", "name", "password"], [*account, "secret"]])

    def run(self, *arguments: str) -> dict[str, set[str]]:
        """The kinds of resources by what a command says became of them."""
        found: dict[str, set[str]] = {}
        for item in self.runner.json(*arguments, "--yes")["resources"]:
            found.setdefault(item["outcome"], set()).add(item["kind"])
        return found

    def state(self) -> str:
        """The state of the one run."""
        (run,) = self.runner.json("runs", "list")
        return str(run["state"])

    def ids(self) -> dict[str, str | None]:
        """The new ids by the kinds and names of what the run made."""
        found = self.runner.json("runs", "show", "last")["resources"]
        return {f"{item['kind']} {item['name']}": item["destination_id"] for item in found}

    def assert_untouched(self) -> None:
        """The destination is as it was before the earlier release came, and nobody's password is kept."""
        assert changes(self._before, listing(self._lab.clouds_yaml, "destination")) == NOTHING
        assert shop.NAME not in self.runner.passwords.read_text()

    def _moved(self, name: str, run: str, destination: recorded.Ids) -> str:
        return recorded.moved(name, run, self._source, destination, self._urls, self.runner.passwords)


@pytest.fixture(scope="module")
def source(lab: Lab) -> Iterator[recorded.Ids]:
    """The ids of the tenant at the source."""
    yield shop.Shop(connect(lab.clouds_yaml, "source")).make_all()
    discard(lab, shop.NAME)


@pytest.fixture
def operator(lab: Lab, source: recorded.Ids, tmp_path: Path) -> Operator:
    return Operator(lab, tmp_path, source)


def server_status(lab: Lab, source: recorded.Ids) -> str:
    compute = connect(lab.clouds_yaml, "source").compute
    return str(get(compute, f"/servers/{source['server']}")["server"]["status"])


def test_a_killed_run_is_resumed_and_reverted(lab: Lab, operator: Operator, source: recorded.Ids) -> None:
    admin = operator.admin
    left = shop.Shop(admin, source).make_half()
    operator.has_run("killed", left)
    lent = "/projects/{project}/users/{operator}/roles/{role}".format_map(left)
    put(admin.identity, lent)
    assert operator.state() == "INTERRUPTED"

    made = operator.run("resume", "last")
    assert made == {"created": KINDS, "reused": {"domain", "role", "flavor"}}
    assert operator.state() == "SUCCESS"
    ids = operator.ids()
    for role, name in {
        "project": f"tenant {shop.NAME}",
        "network": "network lan",
        "image": "image base",
    }.items():
        assert ids[name] == left[role]
    network = get(admin.network, f"/networks/{left['network']}")["network"]
    assert (network["description"], network["tags"]) == ("", [f"{shop.STAMP}={source['network']}"])
    image = get(admin.image, f"/images/{left['image']}")
    assert (image["status"], image["size"]) == ("active", len(shop.BYTES))
    assert admin.identity.get(lent).status_code == 404

    assert operator.run("revert", "last") == {"reverted": KINDS}
    operator.assert_untouched()
    assert server_status(lab, source) == "ACTIVE"


def test_a_killed_run_is_reverted_as_it_is(operator: Operator, source: recorded.Ids) -> None:
    operator.has_run("killed", shop.Shop(operator.admin, source).make_half())
    operator.run("revert", "last")
    assert operator.state() == "REVERTED"
    operator.assert_untouched()


def test_a_finished_run_is_reverted(operator: Operator, source: recorded.Ids) -> None:
    operator.has_run("finished", shop.Shop(operator.admin, source).make_all())
    assert operator.state() == "SUCCESS"
    assert operator.run("revert", "last") == {"reverted": KINDS}
    operator.assert_untouched()


def test_a_failed_run_is_resumed_and_reverted(operator: Operator, source: recorded.Ids) -> None:
    made = shop.Shop(operator.admin, source).make_all()
    delete(operator.admin.compute, "os-keypairs", [f"{shop.KEYPAIR}?user_id={made['user']}"])
    operator.has_run("failed", made)
    assert operator.state() == "FAILURE"
    assert operator.run("resume", "last")["created"] == KINDS
    assert operator.state() == "SUCCESS"
    assert operator.ids()["keypair laptop"] == f"{made['user']}.{shop.KEYPAIR}"
    operator.run("revert", "last")
    operator.assert_untouched()


@pytest.mark.parametrize("name", ["plan.yaml", pytest.param("plan.json", marks=pytest.mark.exhaustive)])
def test_a_plan_is_run(operator: Operator, name: str) -> None:
    path = operator.plan(name)
    assert operator.run("migrate", "--plan", str(path))["created"] == KINDS
    operator.run("revert", "last")
    operator.assert_untouched()

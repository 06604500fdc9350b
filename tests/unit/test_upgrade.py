"""What an earlier release has written is read: plans and runs, without the clouds that they are about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from pumphouse.cli import cli
from pumphouse.model import Json
from pumphouse.plan.file import load
from tests.upgrade.recorded import DAY, FOLDER, IDS, RUNS, at_destination, read, store

STATES = {"finished": "SUCCESS", "killed": "INTERRUPTED", "failed": "FAILURE"}
STEP = ["retrieved", "ensured"]
GROUP = [*STEP, "rules-ensured"]
COPIED = ["image-retrieved", "image-ensured", "image-uploaded"]
IMAGED = ["snapshot-taken", "snapshot-retrieved", "snapshot-ensured", "snapshot-uploaded"]
# The verbs of the tasks of all resources that are made, sorted.
VERBS = {
    ("tenant", "upgrade-shop"): [*STEP, "prepared"],
    ("user", "upgrade-shop.alice"): STEP,
    ("assignment", "of the role member to upgrade-shop.alice"): STEP,
    ("keypair", "laptop"): STEP,
    ("image", "base"): [*STEP, "uploaded", "closed"],
    ("network", "lan"): STEP,
    ("subnet", "lan-4"): STEP,
    ("security_group", "default"): GROUP,
    ("security_group", "web"): GROUP,
    ("volume", "data"): [*STEP, "exported", *COPIED, "copies-removed", "completed"],
    ("port", "web-0"): STEP,
    ("server", "web"): [*STEP, "stopped", *IMAGED, "settled", "snapshot-removed", "completed"],
}
REUSED = [("domain", "Default"), ("role", "member"), ("flavor", "m1.tiny")]
# The tasks that are not done, by run: resource, verb, state.
UNDONE = {
    "finished": [],
    "killed": [
        ("image base", "uploaded", "RUNNING"),
        ("image base", "closed", "PENDING"),
        ("network lan", "ensured", "RUNNING"),
        ("subnet lan-4", "ensured", "PENDING"),
    ],
    "failed": [("keypair laptop", "ensured", "FAILURE")],
}
# How many resources have an id at the destination that the run got to know.
MADE = {"finished": 12, "killed": 8, "failed": 11}
CONFLICT = "the user has another keypair named 'laptop' at the destination; rename or delete that one, then plan again"
LEFT = "left as it is, because keypair laptop failed"
# The resources that are neither made nor reused, by run: kind, outcome, why.
NOT_MADE = {
    "finished": [],
    "killed": [
        *((kind, "pending", "interrupted") for kind in ("image", "network", "subnet")),
        *((kind, "pending", "not started") for kind in ("port", "server")),
    ],
    "failed": [
        *((kind, "failed", LEFT) for kind in ("user", "assignment")),
        ("keypair", "failed", CONFLICT),
    ],
}


class Machine:
    """Where the command line runs, with a state store and without clouds."""

    def __init__(self, folder: Path) -> None:
        self._config, self.state = folder / "pumphouse.yaml", folder / "state.db"
        self._environment = {"XDG_STATE_HOME": str(folder), "COLUMNS": "200"}
        cloud = {"auth": {"auth_url": "http://192.0.2.1/v3", "username": "a", "password": "b"}}
        settings = {"source": cloud, "destination": cloud, "state": {"url": f"sqlite:///{self.state}"}}
        self._config.write_text(json.dumps(settings))
        self._config.chmod(0o600)

    def run(self, *arguments: str) -> str:
        """What a command prints that succeeds."""
        ended = CliRunner().invoke(cli, arguments, env=self._environment, catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
        return ended.stdout

    def runs(self, *arguments: str) -> str:
        """The same of a command that looks at runs."""
        return self.run("runs", *arguments, "--config", str(self._config))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(params=RUNS)
def recorded(request: pytest.FixtureRequest, machine: Machine) -> str:
    """The name of the run that the store has."""
    store(machine.state, read(f"{request.param}.sql"))
    return str(request.param)


def test_the_run_is_listed(machine: Machine, recorded: str) -> None:
    (run,) = json.loads(machine.runs("list", "-f", "json"))
    assert run["state"] == STATES[recorded]
    assert run["tenant"] == {"id": IDS["source"]["project"], "name": "upgrade-shop"}
    assert run["version"] == "0.1.0"
    assert run["created_at"].startswith(f"{DAY}T17:0")
    assert [run[cloud] for cloud in ("source", "destination")] == [
        f"{cloud} {IDS['auth_urls'][cloud]}" for cloud in ("source", "destination")
    ]
    table = machine.runs("list")
    assert all(text in table for text in (run["run"], STATES[recorded], "upgrade-shop"))


def test_the_states_and_ids_of_its_tasks_are_shown(machine: Machine, recorded: str) -> None:
    details = json.loads(machine.runs("show", "last", "-f", "json"))
    tasks = [task for unit in details["units"] for task in unit["tasks"]]
    undone = [(task["resource"], task["verb"], task["state"]) for task in tasks if task["state"] != "SUCCESS"]
    assert sorted(undone) == sorted(UNDONE[recorded])
    made = [task for task in tasks if task["verb"] == "ensured" and task["state"] == "SUCCESS"]
    assert len(made) == MADE[recorded]
    for task in made:
        old_id = task["name"].removesuffix("-ensured").partition("-")[2]
        assert task["id"] == at_destination(old_id, recorded)


def test_what_became_of_each_resource_is_shown(machine: Machine, recorded: str) -> None:
    resources = json.loads(machine.runs("show", "last", "-f", "json"))["resources"]
    assert {(item["kind"], item["name"]) for item in resources} == {*VERBS, *REUSED}
    not_made = [item for item in resources if item["outcome"] not in ("created", "reused")]
    assert [(item["kind"], item["outcome"], item["reason"]) for item in not_made] == NOT_MADE[recorded]
    for item in (item for item in resources if item not in not_made):
        assert item["destination_id"] == at_destination(item["source_id"], recorded)
        assert (item["outcome"] == "reused") == ((item["kind"], item["name"]) in REUSED)


def test_the_run_is_shown_as_a_table(machine: Machine, recorded: str) -> None:
    shown = machine.runs("show", "last", "--tasks")
    assert f"state {STATES[recorded]}" in shown
    assert "of operator on ops1" in shown
    rows = shown.splitlines()
    units = json.loads(machine.runs("show", "last", "-f", "json"))["units"]
    lines = {(task["resource"], task["verb"]): task["line"] for unit in units for task in unit["tasks"]}
    for resource, verb, state in UNDONE[recorded]:
        line = lines[resource, verb]
        assert any(row.startswith(f"{line} ") and state in row.split() for row in rows), line
    assert ("5 resources not done yet" in shown) == (recorded == "killed")


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_the_plan_is_shown_with_the_tasks_that_the_run_of_it_had(machine: Machine, suffix: str) -> None:
    path = str(FOLDER / f"plan.{suffix}")
    shown = json.loads(machine.run("plan", "show", path, "-f", "json"))
    steps = [step for unit in shown["units"] for step in unit["steps"]]
    prefix = "{kind}-{id}-"
    verbs = {
        (step["kind"], step["name"]): [
            task["name"].removeprefix(prefix.format_map(step)) for task in step["tasks"]
        ]
        for step in steps
        if step["action"] == "create"
    }
    assert {key: sorted(found) for key, found in verbs.items()} == {
        key: sorted(wanted) for key, wanted in VERBS.items()
    }
    assert [(step["kind"], step["name"]) for step in steps if step["action"] == "reuse"] == REUSED
    table = machine.run("plan", "show", path)
    assert "Migrate tenant upgrade-shop" in table
    assert all(f"{kind} {name}".replace("_", " ") in table for kind, name in VERBS)


# The policies that an earlier release did not know, as it acted.
LATER = {"paused_servers": "stopped", "broken_servers": "skip"}


def test_the_plan_is_the_same_in_both_formats_and_after_it_was_read(machine: Machine) -> None:
    written = json.loads(read("plan.json"))
    assert yaml.safe_load(read("plan.yaml")) == written
    shown = json.loads(machine.run("plan", "show", str(FOLDER / "plan.yaml"), "-f", "json"))
    # A policy that there was not then has its default, and is one of what the digest is of.
    assert shown["data"]["policies"].pop("raw_volume_types") == []
    shown["data"]["settings_digest"] = written["data"]["settings_digest"]
    assert _without_tasks(shown) == _without_tasks(written)
    assert {name: shown["data"]["policies"][name] for name in LATER} == LATER


def _without_tasks(plan: Json) -> Json:
    """A plan without what this release computes anew, the lines and numbers of tasks, and without policies of later
    releases, which are as these were."""
    steps = [step for unit in plan["units"] for step in unit["steps"]]
    policies = {name: value for name, value in plan["data"]["policies"].items() if name not in LATER}
    return {
        **plan,
        "data": {**plan["data"], "policies": policies, "settings_digest": None},
        "units": [
            {**step, "tasks": sorted(task["name"] for task in step.get("tasks", ()))} for step in steps
        ],
    }


def test_a_plan_file_of_each_format_is_the_same_plan() -> None:
    assert load(FOLDER.parent / "plan-2.yaml") == load(FOLDER / "plan.yaml") == load(FOLDER / "plan.json")

"""Parts of tenants, and several tenants with one command, by the command line."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Lab
from lab.populate import Sample
from lab.sample.base import connect
from tests.real.listing import changes, listing
from tests.real.runner import Runner

CLOUDS = ("source", "destination")


@pytest.fixture(scope="module")
def runner(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(lab, tmp_path_factory.mktemp("selection"))


@pytest.fixture(scope="module")
def bare(lab: Lab) -> Iterator[list[str]]:
    """Two tenants with nothing in them: their names."""
    yield from empty_tenants(lab)


@pytest.fixture
def fresh(lab: Lab) -> Iterator[list[str]]:
    """Two tenants of a test's own with nothing in them."""
    yield from empty_tenants(lab)


def empty_tenants(lab: Lab) -> Iterator[list[str]]:
    names = [f"bare-{uuid.uuid4().hex[:6]}" for _ in range(2)]
    identity = connect(lab.clouds_yaml, "source").identity
    for name in names:
        identity.create_project(name=name, domain_id="default")
    yield names
    for cloud in CLOUDS:
        identity = connect(lab.clouds_yaml, cloud).identity
        for project in [project for project in identity.projects() if project.name in names]:
            identity.delete_project(project)


def created(result: Any) -> Counter[str]:
    return Counter(item["kind"] for item in result["resources"] if item["outcome"] == "created")


def steps(plan: Any, kind: str) -> dict[str, Any]:
    found = [step for unit in plan["units"] for step in unit["steps"] if step["kind"] == kind]
    return {step["record"]["name"]: step for step in found}


@pytest.mark.exhaustive
def test_a_server_moves_with_what_it_needs_and_nothing_else(
    lab: Lab, runner: Runner, small: Sample, tmp_path: Path
) -> None:
    """One long test, because what it shows is the order: one server, its check, then the rest."""
    before = {cloud: listing(lab.clouds_yaml, cloud) for cloud in CLOUDS}
    path = tmp_path / "plan.json"
    server_id = small.made["server"]["web"]
    runner.run("migrate", "server", server_id, "--dry-run", "-o", str(path), exit_code=0)
    plan = json.loads(path.read_text())
    assert plan["data"]["selection"] == {"resources": [f"server/{server_id}"]}
    assert steps(plan, "network")["front"]["because"] == "needed by server web"
    assert steps(plan, "subnet")["front-v4"]["because"] == "belongs to network front"
    assert "because" not in steps(plan, "server")["web"]
    shown = runner.run("plan", "show", str(path), exit_code=0, configured=False).stdout
    assert "with --server web" in shown
    assert "resources of the tenant are not selected" in shown

    result = runner.json("migrate", "--plan", str(path), "--yes")
    outcomes = Counter(item["outcome"] for item in result["resources"])
    assert outcomes.keys() == {"created", "reused"}
    made = created(result)
    assert (made["server"], made["network"], made["flavor"], made["tenant"]) == (1, 1, 1, 1)
    there = changes(before["destination"], listing(lab.clouds_yaml, "destination"))
    added = Counter(key.partition("/")[0] for key in there["added"])
    nothing_of = ("users", "roles", "images", "keypairs", "routers", "floatingips", "volumes", "groups")
    assert {name: added[name] for name in nothing_of} == dict.fromkeys(nothing_of, 0)
    here = changes(before["source"], listing(lab.clouds_yaml, "source"))
    assert (here["added"], here["removed"]) == ([], [])

    runs = runner.json("runs", "list", "--tenant", small.name)
    checked = runner.json("verify", "tenant", small.name, "--run", runs[0]["run"])
    assert [finding for finding in checked["resources"] if finding["outcome"] == "missing"] == []
    missing = runner.json("verify", "tenant", small.name, exit_code=6)
    assert "image" in {finding["kind"] for finding in missing["resources"] if finding["outcome"] == "missing"}

    stale = runner.run("migrate", "--plan", str(path), "--yes", exit_code=5)
    assert "is new at the source" not in stale.stderr

    rest = runner.json("migrate", "tenant", small.name, "--skip", "floating-ip", "--skip", "router", "--yes")
    made = created(rest)
    assert made["image"] == made["user"] == 1
    assert {"server", "network", "router", "floating_ip", "tenant"}.isdisjoint(made)
    assert not {item["kind"] for item in rest["resources"]} & {"router", "floating_ip"}


def test_only_what_is_selected_is_planned(runner: Runner, small: Sample) -> None:
    plan = runner.json("plan", "tenant", small.name, "--only", "image", "--user", f"{small.name}.alice")
    kinds = {step["kind"] for unit in plan["units"] for step in unit["steps"]}
    assert {"image", "user", "assignment", "role", "tenant", "domain"} <= kinds
    assert {"server", "network", "port", "keypair", "flavor", "volume"}.isdisjoint(kinds)
    assert all("because" not in step for step in steps(plan, "image").values())
    (role,) = (s for name, s in steps(plan, "role").items() if name == f"{small.name}.operator")
    assert role["because"].startswith("needed by user")
    image_id = small.made["image"]["base"]
    one = runner.json("migrate", "image", image_id, "--dry-run")
    assert [step["id"] for step in steps(one, "image").values()] == [image_id]


@pytest.mark.exhaustive
def test_what_cannot_be_selected_is_said_at_once(runner: Runner, small: Sample) -> None:
    options = ["--only", "imge", "--server", "wbe", "--network", "front", "--skip", "network"]
    refused = runner.run("migrate", "tenant", small.name, *options, "--yes", exit_code=2).stderr
    assert "--only imge: there is no such kind; did you mean 'image'?" in refused
    assert "--server wbe: the tenant has none of this name or id; did you mean 'web'?" in refused
    assert "--network and --skip network are both given" in refused
    name = f"nothing-{uuid.uuid4().hex}"
    for kind in ("server", "image", "network", "volume"):
        refused = runner.run("migrate", kind, name, "--yes", exit_code=2).stderr
        assert f"the source has no {kind} {name!r} in any tenant" in refused
    refused = runner.run("migrate", "tenant", "none-1", "none-2", "--yes", exit_code=2).stderr
    assert "no tenant 'none-1'" in refused
    assert "no tenant 'none-2'" in refused


@pytest.mark.exhaustive
def test_several_tenants_are_planned_together_and_moved_one_after_the_other(
    lab: Lab, runner: Runner, bare: list[str]
) -> None:
    plans = runner.json("migrate", "tenant", *bare, "--dry-run")
    assert [plan["data"]["tenant"]["name"] for plan in plans] == bare

    everything = runner.run("plan", "tenant", "--all-tenants", "--only", "tenant", exit_code=0)
    assert all(f"Migrate tenant {name} " in everything.stdout for name in bare)
    assert "left out of --all-tenants: admin" in everything.stderr
    assert "Migrate tenant service " not in everything.stdout

    # The name of the second one is taken at the destination: that does not stop the first.
    identity = connect(lab.clouds_yaml, "destination").identity
    twin = identity.create_project(name=bare[1], domain_id="default")
    results = runner.json("migrate", "tenant", *reversed(bare), "--yes", exit_code=3)
    identity.delete_project(twin)
    assert [result["tenant"]["name"] for result in results] == [*reversed(bare)]
    assert [result["exit_code"] for result in results] == [3, 0]
    assert created(results[1])["tenant"] == 1

    shown = runner.run("migrate", "tenant", *bare, "--yes", exit_code=0).stdout
    assert "2 tenants:" in shown
    assert f"tenant {bare[0]}: nothing to do" in shown
    recorded = {run["run"] for name in bare for run in runner.json("runs", "list", "--tenant", name)}
    # Of what is in conflict as a whole, and of what has arrived, there is no run.
    assert results[0]["run"] is None
    assert results[1]["run"] in recorded
    assert len(recorded) == 2


@pytest.mark.exhaustive
def test_several_tenants_are_moved_beside_each_other(runner: Runner, fresh: list[str]) -> None:
    ended = runner.run("migrate", "tenant", *fresh, "--parallel", "2", "--yes", "-f", "json", exit_code=0)
    assert [result["tenant"]["name"] for result in ended.json] == fresh
    assert [created(result)["tenant"] for result in ended.json] == [1, 1]
    for name, result in zip(fresh, ended.json, strict=True):
        assert f"{name}: everything that tenant {name} owns is at the destination" in ended.stderr
        assert f"tenant {name}: run {result['run']}: " in ended.stderr
    late = runner.run("migrate", "tenant", *fresh, "--until", "2020-01-01 00:00", "--yes", exit_code=130)
    assert "not started, because of the interruption or --until" in late.stdout


@pytest.mark.exhaustive
def test_a_run_that_is_late_begins_with_nothing_and_is_resumed(runner: Runner, fresh: list[str]) -> None:
    late = runner.run("migrate", "tenant", fresh[0], "--until", "2020-01-01 00:00", "--yes", exit_code=130)
    (run,) = runner.json("runs", "list", "--tenant", fresh[0])
    assert run["state"] == "SUSPENDED"
    assert f"go on with pumphouse resume {run['run']}" in late.stderr
    assert created(runner.json("resume", run["run"], "--yes"))["tenant"] == 1

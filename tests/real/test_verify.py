"""`pumphouse verify`: silent on what arrived whole, exact on what somebody broke afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from lab import Lab
from lab.populate import Sample, populate, remove
from lab.sample.base import Sizes, connect, get
from pumphouse.verify import Known
from tests.conftest import Seen
from tests.real.breaks import BREAKS, Break, There, bad_fields
from tests.real.conftest import make_partner
from tests.real.listing import changes, listing
from tests.real.mutation import NOT_COMPARED, Bench
from tests.real.runner import Runner

pytestmark = pytest.mark.exhaustive

CLOUDS = ("source", "destination")


@pytest.fixture(scope="module")
def runner(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(lab, tmp_path_factory.mktemp("verify"))


@pytest.fixture(scope="module")
def shop(lab: Lab) -> Iterator[Sample]:
    """The whole sample tenant; the partner that it shares with is at the destination already."""
    sample = populate(lab.clouds_yaml, f"shop-{uuid.uuid4().hex[:6]}", Sizes())
    make_partner(lab, sample)
    yield sample
    for cloud in CLOUDS:
        remove(lab.clouds_yaml, sample.name, cloud=cloud)


@pytest.fixture(scope="module")
def migrated(runner: Runner, shop: Sample) -> dict[str, Any]:
    """The report of the migration."""
    report: dict[str, Any] = runner.json("migrate", "tenant", shop.name, "--yes")
    return report


@pytest.fixture(scope="module")
def whole(lab: Lab, runner: Runner, shop: Sample, migrated: dict[str, Any]) -> dict[str, Any]:
    """What verify says of the tenant as it arrived; it has to change nothing."""
    before = {cloud: listing(lab.clouds_yaml, cloud) for cloud in CLOUDS}
    found: dict[str, Any] = runner.json("verify", "tenant", shop.name, "--deep")
    for cloud in CLOUDS:
        assert not any(changes(before[cloud], listing(lab.clouds_yaml, cloud)).values())
    return found


@pytest.fixture(scope="module")
def noticed(lab: Lab, shop: Sample, whole: dict[str, Any]) -> dict[tuple[str, str], list[bool]]:
    """Whether verify notices when the destination says anything else of anything, by kind and field."""
    return Bench.of(lab, shop.tenant_id, Known()).noticed()


@pytest.fixture(scope="module")
def broken(
    lab: Lab, runner: Runner, shop: Sample, whole: dict[str, Any], noticed: object
) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """What verify finds wrong when everything has been broken: the fields, by kind, name and verdict."""
    there = There(connect(lab.clouds_yaml, "destination"), shop, whole["destination_tenant_id"])
    for broken in BREAKS:
        broken.act(there)
    found = runner.json("verify", "tenant", shop.tenant_id, exit_code=6)
    return {
        (item["kind"], item["name"], item["outcome"]): bad_fields(item)
        for item in found["resources"]
        if item["outcome"] not in ("equal", "noted")
    }


def expected(lab: Lab, shop: Sample, broken: Break) -> tuple[str, str, str]:
    source = connect(lab.clouds_yaml, "source")
    listed = get(source.network, f"/floatingips?project_id={shop.tenant_id}")["floatingips"]
    door = next(ip["floating_ip_address"] for ip in listed if ip["description"] == "Back door")
    partner = shop.made["project"][f"{shop.name}.partner"]
    return broken.kind, broken.name.format(shop=shop.name, partner=partner, door=door), broken.verdict


def test_what_arrived_is_equal(whole: dict[str, Any], shop: Sample) -> None:
    assert whole["equal"]
    assert {item["outcome"] for item in whole["resources"]} == {"equal", "noted"}
    assert {item["kind"] for item in whole["resources"]} >= {each.kind for each in BREAKS}
    images = [item for item in whole["resources"] if item["kind"] == "image" and item["name"] == "base"]
    assert [("bytes" in image["compared"], image["recognised_by"]) for image in images] == [(True, "stamp")]


def test_the_recorded_run_gives_the_same(
    runner: Runner, shop: Sample, migrated: dict[str, Any], whole: dict[str, Any]
) -> None:
    found = runner.json("verify", "tenant", shop.name, "--run", "last")
    told = {item["source_id"]: (item["outcome"], item["destination_id"]) for item in found["resources"]}
    assert told == {
        item["source_id"]: (item["outcome"], item["destination_id"]) for item in whole["resources"]
    }
    assert "recorded run" in {item["recognised_by"] for item in found["resources"]}


def test_whatever_the_destination_says_otherwise_is_noticed(
    noticed: dict[tuple[str, str], list[bool]], seen: Seen
) -> None:
    passed_over = {(kind, field) for kind, fields in NOT_COMPARED.items() for field in fields}
    missed = {key for key, changes in noticed.items() if not all(changes)}
    seen(f"{sum(map(len, noticed.values()))} changes of {len(noticed)} fields, {len(missed)} not compared")
    assert missed - passed_over == set()


@pytest.mark.parametrize("each", BREAKS, ids=lambda each: each.act.__name__)
def test_what_somebody_broke_is_named(
    lab: Lab, shop: Sample, broken: dict[tuple[str, str, str], tuple[str, ...]], each: Break
) -> None:
    assert broken[expected(lab, shop, each)] == each.fields


def test_nothing_else_is_named(
    lab: Lab, shop: Sample, broken: dict[tuple[str, str, str], tuple[str, ...]]
) -> None:
    assert broken.keys() == {expected(lab, shop, each) for each in BREAKS}

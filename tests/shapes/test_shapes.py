"""A tenant moves between clouds of every shape that operators have, or it is said what does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from lab import Lab
from lab.populate import Sample, remove
from lab.sample.base import connect
from tests.real.listing import NOTHING, Listing, changes, listing
from tests.real.runner import Runner
from tests.shapes.conftest import Arrival, Operator, arrival
from tests.shapes.shapes import (
    ADDRESSES,
    CAPPED,
    LACKS,
    POLICIES,
    QUOTAS,
    WRITES,
    Shape,
    both,
    source,
)
from tests.shapes.traits import Limits, Zones

PAGES = "pages of two items"
MIGRATED = {**ADDRESSES, **WRITES, **LACKS, **POLICIES, **QUOTAS}
# Those of the source, and Cinder's of the destination, whose Nova has another one alone.
ZONES = {"web": "az-1", "vault": "az-2", "data": "az-1", "root": "az-2"}


def _wherever(name: str) -> object:
    # Every list in pages is more requests than all other shapes together.
    return pytest.param(ADDRESSES[name], marks=pytest.mark.exhaustive if name == PAGES else ())


def planned(plan: Any) -> Counter[str]:
    """How many steps a plan has of each kind that make something, or take what is there."""
    steps = [step for unit in plan["units"] for step in unit["steps"]]
    return Counter(step["kind"] for step in steps if step["action"] in ("create", "reuse"))


def is_noted(wanted: str, notes: list[str]) -> bool:
    return any(wanted in note for note in notes)


@pytest.fixture(scope="session")
def whole(lab: Lab, tenant: Sample, tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """What the plan between clouds without oddities has."""
    return planned(
        Runner(lab, tmp_path_factory.mktemp("plain")).json("migrate", "tenant", tenant.name, "--dry-run")
    )


@pytest.mark.parametrize("shape", [*map(_wherever, ADDRESSES)], ids=[*ADDRESSES])
def test_all_is_found_wherever_the_services_are(
    operator: Operator, tenant: Sample, whole: Counter[str], shape: Shape
) -> None:
    operator.sees(shape)
    assert planned(operator.json("migrate", "tenant", tenant.name, "--dry-run")) == whole


@pytest.mark.parametrize("shape", [*LACKS.values()], ids=[*LACKS])
def test_what_a_cloud_lacks_is_left_out_of_the_plan(
    operator: Operator, tenant: Sample, whole: Counter[str], shape: Shape
) -> None:
    operator.sees(shape)
    plan = operator.json("migrate", "tenant", tenant.name, "--dry-run")
    assert [note for note in shape.notes if not is_noted(note, plan["notes"])] == []
    found = planned(plan)
    assert [kind for kind in shape.absent if found[kind]] == []
    assert found["tenant"] == found["user"] == whole["user"]


def test_quotas_without_a_limit_are_no_quotas(
    operator: Operator, tenant: Sample, whole: Counter[str]
) -> None:
    operator.sees(Shape(both(Limits(-1))))
    found = planned(operator.json("migrate", "tenant", tenant.name, "--dry-run"))
    assert found == Counter({kind: count for kind, count in whole.items() if kind != "quota"})


def test_quotas_of_nothing_are_conflicts_before_anything_is_made(operator: Operator, tenant: Sample) -> None:
    operator.sees(Shape({"source": [Limits(-1)], "destination": [Limits(0)]}))
    plan = operator.json("migrate", "tenant", tenant.name, "--dry-run")
    steps = [step for unit in plan["units"] for step in unit["steps"] if step["action"] == "conflict"]
    assert {"network", "port", "security_group", "volume"} <= {step["kind"] for step in steps}
    assert [step["reason"] for step in steps if "at the destination is 0" not in step["reason"]] == []


@pytest.fixture
def zone(lab: Lab, tenant: Sample) -> Iterator[str]:
    """The only availability zone of the destination's Nova; its Cinder has none of that name."""
    compute = connect(lab.clouds_yaml, "destination").compute
    zone = compute.create_aggregate(name="shapes", availability_zone="zone-b")
    (host,) = {service.host for service in compute.services(binary="nova-compute")}
    compute.add_host_to_aggregate(zone, host)
    yield "zone-b"
    remove(lab.clouds_yaml, tenant.name, cloud="destination")  # a host with servers stays in its zone
    compute.remove_host_from_aggregate(zone, host)
    compute.delete_aggregate(zone)


@pytest.mark.exhaustive
def test_zones_are_those_that_the_mapping_names_where_a_service_has_them(
    lab: Lab, operator: Operator, tenant: Sample, zone: str
) -> None:
    operator.sees(Shape(source(Zones(ZONES))), availability_zones={"az-1": zone, "az-2": "nova"})
    plan = operator.json("migrate", "tenant", tenant.name, "--dry-run")
    notes = {step["name"]: step.get("notes", []) for unit in plan["units"] for step in unit["steps"]}
    lost = {name for name in ZONES if is_noted("is not at the destination, which chooses one", notes[name])}
    assert lost == {"vault", "data"}
    elsewhere = frozenset({"server.availability_zone", "volume.availability_zone"})
    assert arrival(operator, tenant) == Arrival(different=elsewhere)
    compute = connect(lab.clouds_yaml, "destination").compute
    assert {server.availability_zone for server in compute.servers(all_projects=True)} == {zone}


@pytest.mark.exhaustive
@pytest.mark.parametrize("shape", [*MIGRATED.values()], ids=[*MIGRATED])
def test_what_can_arrive_does_and_nothing_is_left_of_a_run_that_is_undone(
    lab: Lab, operator: Operator, tenant: Sample, empty: Listing, shape: Shape
) -> None:
    operator.sees(shape)
    assert arrival(operator, tenant) == Arrival.of(shape)
    again = operator.json("migrate", "tenant", tenant.name, "--yes", exit_code=shape.exit_code)
    assert [item for item in again["resources"] if item["outcome"] == "created"] == []
    # What failed makes a second run.
    for run in operator.json("runs", "list"):
        operator.run("revert", run["run"], "--yes", exit_code=0)
    assert changes(empty, listing(lab.clouds_yaml, "destination")) == NOTHING


@pytest.mark.exhaustive
@pytest.mark.parametrize("shape", [*CAPPED.values()], ids=[*CAPPED])
def test_a_tenant_moves_at_every_microversion(
    operator: Operator, tenant: Sample, empty: Listing, shape: Shape
) -> None:
    operator.sees(shape)
    assert arrival(operator, tenant) == Arrival.of(shape)

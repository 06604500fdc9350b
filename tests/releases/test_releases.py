"""Tenants move from clouds of older releases of OpenStack to the newest one, and back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Lab, machine
from lab.populate import populate
from lab.proof import compare, facts
from lab.release import NEWEST, RELEASES, Release
from lab.sample.base import Sizes
from tests.conftest import Seen
from tests.real.conftest import make_partner
from tests.real.runner import Runner

IN_EVERY_RUN = "zed"
# What an old destination cannot be given: hostnames came with Nova 2.90 (Xena), and DNS names of ports are theirs.
OLD_NOVA = {"hostname", "dns_name"}
LOST_AT = {"train": OLD_NOVA, "wallaby": OLD_NOVA}


def _parameter(release: str) -> object:
    return pytest.param(release, marks=() if release == IN_EVERY_RUN else pytest.mark.exhaustive)


@pytest.fixture(scope="module", params=[_parameter(name) for name in RELEASES if name != NEWEST.name])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab whose source is of an older release, where there is the Python that this runs on."""
    try:
        machine.python_of(RELEASES[request.param])
    except machine.MissingPython as error:
        pytest.skip(str(error))
    lab = Lab(tmp_path_factory.mktemp("lab"))
    try:
        lab.up(releases={"source": request.param})
        yield lab
    finally:
        lab.down(purge=True)


def test_a_tenant_arrives_field_by_field_and_byte_by_byte(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory, seen: Seen
) -> None:
    runner = Runner(lab, tmp_path_factory.mktemp("forth"))
    sample = populate(lab.clouds_yaml, "forth")
    before = facts(lab.dir, "source", sample.tenant_id)
    make_partner(lab, sample)
    result = runner.json("migrate", "tenant", sample.name, "--yes")
    (tenant_id,) = (item["destination_id"] for item in result["resources"] if item["kind"] == "tenant")
    assert compare(before, facts(lab.dir, "destination", tenant_id)) == []
    assert [note for note in result["notes"] if "not known to Pumphouse" in note] == []
    verified = runner.json("verify", "tenant", sample.name)
    seen(f"{lab.clouds()[0].release.name} to the newest: {result['summary']}, then {verified['summary']}")
    assert [verified["summary"][verdict] for verdict in ("different", "missing", "extra")] == [0, 0, 0]


def test_a_tenant_goes_back_and_the_run_is_reverted(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    runner = Runner(lab, tmp_path_factory.mktemp("back"), back=True)
    sample = populate(lab.clouds_yaml, "back", Sizes.small(), cloud="destination")
    before = facts(lab.dir, "destination", sample.tenant_id)
    result = runner.json("migrate", "tenant", sample.name, "--yes")
    (tenant_id,) = (item["destination_id"] for item in result["resources"] if item["kind"] == "tenant")
    assert compare(before, facts(lab.dir, "source", tenant_id)) == []
    lost = LOST_AT.get(lab.clouds()[0].release.name, set())
    notes = [note for item in result["resources"] for note in item["notes"] if "does not take" in note]
    assert bool(notes) == bool(lost)
    verified = runner.json("verify", "tenant", sample.name, exit_code=6 if lost else 0)
    differences = (d for item in verified["resources"] for d in item["differences"])
    assert {d["field"] for d in differences if not d["excuse"]} == lost
    runner.run("revert", "last", "--yes", exit_code=0)
    assert facts(lab.dir, "source", tenant_id) == {}


def test_a_release_whose_python_is_nowhere_says_which_it_needs() -> None:
    with pytest.raises(machine.MissingPython, match=r"the release old needs Python 3\.1, and neither PATH,"):
        machine.python_of(Release("old", python="3.1"))

"""Every field that the services answer with is known: of the sample tenant, in old and in new microversions."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from lab import Lab
from pumphouse.cloud import Cloud, call
from pumphouse.model import Json, Record
from pumphouse.plan.make import discover, with_needs
from pumphouse.tasks import KINDS
from tests.conformance.conftest import Story

# What is told from something else's answers.
UNANSWERED = {
    "domain": "a plan asks for the names of domains only",
    "membership": "it is nothing but the ids that it connects",
    "quota": "all of its fields are limits",
    "tenant_state": "it is a field of the tenant",
}
# Those of the oldest releases that have the calls which a plan needs, and the newest.
MICROVERSIONS = {
    "oldest": {"compute_default_microversion": "2.13", "block_storage_default_microversion": "3.0"},
    "newest": {"block_storage_default_microversion": "3.71"},
}


# What is asked for of single resources, when they are moved; only shared images have members.
PARTS: dict[str, Callable[[Cloud, Record], Json]] = {
    "server": lambda cloud, server: {
        **call(cloud.adapter("compute"), "GET", f"/servers/{server.ref.id}/os-interface"),
        **call(cloud.adapter("compute"), "GET", f"/servers/{server.ref.id}/os-volume_attachments"),
    },
    "image": lambda cloud, image: {
        "members": list(cloud.glance.image_members.list(image.ref.id))
        if image.data["visibility"] == "shared"
        else []
    },
    "floating_ip": lambda cloud, address: call(
        cloud.neutron, "GET", f"/floatingips/{address.ref.id}/port_forwardings"
    ),
}


@pytest.fixture(scope="module", params=MICROVERSIONS)
def source(lab: Lab, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    """The source, asked in these microversions."""
    clouds_file: Path = tmp_path_factory.mktemp("clouds") / "clouds.yaml"
    clouds = yaml.safe_load(lab.clouds_yaml.read_text())["clouds"]
    clouds["source"] |= MICROVERSIONS[request.param]
    clouds_file.write_text(json.dumps({"clouds": clouds}))
    return Cloud.from_clouds_yaml("source", clouds_file=clouds_file, read_only=True)


@pytest.fixture(scope="module")
def records(source: Cloud, story: Story) -> list[Record]:
    """All that a plan reads of the sample tenant."""
    policies = {"user_passwords": "generate", "root_disk": "snapshot", "source_servers": "stop"}
    with ThreadPoolExecutor() as pool:
        own = discover(source, story.sample.tenant_id, policies, pool)
        return list(with_needs(source, own, pool).values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_known(records: list[Record], kind: str) -> None:
    answers = [record.answer for record in records if record.ref.kind == kind]
    assert answers
    assert all(answers) != (kind in UNANSWERED)
    assert {field for answer in answers for field in KINDS[kind].fields.unknown(answer)} == set()


@pytest.mark.parametrize("kind", PARTS)
def test_every_field_of_a_part_is_known(source: Cloud, records: list[Record], kind: str) -> None:
    answers = [PARTS[kind](source, record) for record in records if record.ref.kind == kind]
    assert any(part for answer in answers for part in answer.values())
    assert {field for answer in answers for field in KINDS[kind].fields.unknown(answer)} == set()

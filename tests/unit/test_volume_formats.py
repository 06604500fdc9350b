"""In which format volumes travel: decided from what both clouds and the operator say, and written into the plan."""

from __future__ import annotations

import io
import json
import struct
from types import SimpleNamespace
from typing import Any, cast

import pytest
from keystoneauth1.exceptions import NotFound

from pumphouse.cloud import Cloud
from pumphouse.errors import ConfigError, ConversionError, WaitError
from pumphouse.model import Action, CopyFormat, Json, Plan, Record, Ref, Step, Unit
from pumphouse.plan.data import plan_data, plan_from
from pumphouse.plan.overview import copy_formats, estimate
from pumphouse.show.console import PrintableConsole
from pumphouse.show.plan import Detail, print_plan
from pumphouse.tasks.base import BaseEnsureTask, Migration, Search
from pumphouse.tasks.cinder import volume_copy, volume_format, volume_make
from pumphouse.tasks.glance import common
from pumphouse.tasks.glance.transfer import TransferLimits

BOTH = ["raw", "qcow2"]
NOTHING = cast("Cloud", None)
AS_QCOW2 = CopyFormat("qcow2", "what was never written stays behind")


def cloud(name: str, formats: list[str] | None) -> Cloud:
    return cast("Cloud", SimpleNamespace(name=name, formats=formats, adapter=lambda service: (name, formats)))


@pytest.fixture(autouse=True)
def _clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Glances that give a schema, or none; a destination with two types."""

    def call(glance: tuple[str, list[str] | None], method: str, path: str) -> Json:
        if glance[1] is None:
            raise NotFound("no schema")
        enum = {"enum": glance[1]} if glance[1] else {}
        return {"properties": {"disk_format": enum}}

    monkeypatch.setattr(common, "call", call)
    monkeypatch.setattr(volume_format, "volume_types", lambda cloud: {"standard": {}, "ceph": {}})
    monkeypatch.setattr(volume_format, "default_type", lambda cloud: "standard")


def record(volume_type: str | None = "standard", **fields: Any) -> Record:
    data = {"id": "v", "name": "data", "size": 2, "status": "available", "tenant_id": "t"}
    return Record(
        Ref("volume", "v"), "data", {**data, "volume_type": volume_type, **fields}, size_bytes=2 << 30
    )


def chosen(
    source: list[str] | None = BOTH,
    destination: list[str] | None = BOTH,
    policies: Json | None = None,
    mapping: dict[str, str] | None = None,
    of: Record | None = None,
) -> CopyFormat | None:
    clouds = cloud("destination", destination), cloud("source", source)
    mappings, given = {"volume_types": mapping or {}}, {"volume_format": "auto", **(policies or {})}
    search = Search(clouds[0], {}, mappings, clouds[1], given)
    (found,) = volume_format.with_formats(search, [of or record()])
    return found.copied_as


def test_qcow2_is_taken_where_both_glances_list_it() -> None:
    assert chosen() == chosen([], []) == AS_QCOW2


@pytest.mark.parametrize(
    ("source", "destination", "lacking"),
    [
        (["raw"], BOTH, "source"),
        (BOTH, ["raw"], "destination"),
        (BOTH, None, "destination"),
        (None, BOTH, "source"),
    ],
)
def test_a_glance_that_does_not_list_it_is_the_reason_for_raw(
    source: list[str] | None, destination: list[str] | None, lacking: str
) -> None:
    wanted = CopyFormat("raw", f"Glance of the {lacking} lists no qcow2 among its formats")
    assert chosen(source, destination) == wanted


def test_types_are_named_as_the_destination_has_them() -> None:
    named = {"raw_volume_types": ["ceph"]}
    as_raw = CopyFormat("raw", "policies.raw_volume_types has its type ceph")
    assert chosen(policies=named, of=record("ceph")) == as_raw
    assert chosen(policies=named, of=record("old"), mapping={"old": "ceph"}) == as_raw
    assert chosen(policies=named, of=record("old")) == AS_QCOW2
    assert chosen(policies={"raw_volume_types": ["standard"]}, of=record(None)) == CopyFormat(
        "raw", "policies.raw_volume_types has its type standard"
    )
    with pytest.raises(ConfigError, match=r"no volume type 'cehp'"):
        chosen(policies={"raw_volume_types": ["cehp"]})


@pytest.mark.parametrize("policy", ["raw", "qcow2"])
def test_what_the_operator_says_is_asked_of_no_cloud(policy: str) -> None:
    wanted = CopyFormat(policy, f"policies.volume_format is {policy}")
    assert chosen(None, None, {"volume_format": policy, "raw_volume_types": ["cehp"]}) == wanted


@pytest.mark.parametrize(
    ("policies", "planned", "exported", "falls_back"),
    [
        ({"volume_format": "auto"}, AS_QCOW2, "qcow2", True),
        ({"volume_format": "auto"}, CopyFormat("raw", ""), "raw", False),
        ({"volume_format": "auto"}, None, "raw", False),
        ({"volume_format": "qcow2"}, CopyFormat("qcow2", ""), "qcow2", False),
        ({"volume_format": "qcow2"}, None, "qcow2", False),  # of an older release
        ({"volume_format": "raw"}, None, "raw", False),
        ({}, None, "raw", False),  # of one before there was the policy
    ],
)
def test_a_run_does_what_its_plan_says(
    policies: Json, planned: CopyFormat | None, exported: str, falls_back: bool
) -> None:
    step = Step(Record(**{**vars(record()), "copied_as": planned}), Action.CREATE, "", "data")
    migration = Migration(NOTHING, NOTHING, {"mappings": {}, "policies": policies}, TransferLimits(1))
    tasks = {task.name: task for task in volume_copy.copy_tasks(migration, step)}
    export = tasks["volume-v-exported"]
    assert isinstance(export, volume_copy.ExportVolume)
    assert (export.disk_format, export.unconverted is not None) == (exported, falls_back)
    assert (volume_copy.image_of(migration, step)["raw_copy"] is not None) == falls_back


def head(size_gib: float, magic: bytes = b"QFI\xfb") -> bytes:
    """What a file of qcow2 begins with, as the specification of QEMU has it."""
    return struct.pack(">4sIQIIQ", magic, 3, 0, 0, 16, int(size_gib * (1 << 30)))


@pytest.mark.parametrize("wrong", [head(0.5), head(2, b"KDMV"), head(3)])
def test_an_image_of_another_disk_is_not_one_of_the_volume(wrong: bytes) -> None:
    data = record().data
    volume_format.check_size(head(2), data)
    with pytest.raises(ConversionError, match="looks like the image of a disk"):
        volume_format.check_size(wrong, data)


def plan(*formats: CopyFormat | None) -> Plan:
    steps = [
        Step(
            Record(Ref("volume", str(n)), "v", {}, size_bytes=(n + 1) << 30, copied_as=copied_as),
            Action.CREATE,
            "",
            "v",
        )
        for n, copied_as in enumerate(formats)
    ]
    image = Step(Record(Ref("image", "i"), "i", {}, size_bytes=1 << 20), Action.CREATE, "", "i")
    units = (Unit("all", (image, *steps)),)
    return Plan(Ref("tenant", "t"), "shop", "old http://a", "new http://b", units)


def test_the_plan_says_which_and_why_and_counts_what_travels_in_any_case() -> None:
    as_raw = CopyFormat("raw", "it is named")
    made = plan(AS_QCOW2, as_raw, None, AS_QCOW2)
    numbers = {chosen: [step.ref.id for step in steps] for chosen, steps in copy_formats(made).items()}
    assert numbers == {AS_QCOW2: ["0", "3"], as_raw: ["1"]}
    assert estimate(made).least_bytes == (2 << 30) + (1 << 20)
    again = plan_from(json.loads(json.dumps(plan_data(made))))
    assert [step.record for step in again.steps()] == [step.record for step in made.steps()]


def test_the_page_of_a_plan_says_what_travels_as_what() -> None:
    made = plan(AS_QCOW2, CopyFormat("raw", "it is named"), AS_QCOW2)
    out = PrintableConsole(width=100, file=io.StringIO())
    print_plan(made, out, Detail.RESOURCES)
    page = cast("io.StringIO", out.file).getvalue()
    assert "at most 6.0 GiB and at least 2.0 GiB, at" in page
    assert "2 volumes, 4.0 GiB, as qcow2: what was never written stays behind" in page
    assert "1 volume, 2.0 GiB, as raw: it is named" in page
    assert "volume v, 3.0 GiB as qcow2" in page


def test_what_a_source_does_not_convert_is_exported_as_raw_and_found_out_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def export(self: Any, data: Json, origin: Json, disk_format: str) -> str:
        asked.append(disk_format)
        if disk_format == "qcow2":
            raise ConversionError("the source's Cinder gave up the image of volume data")
        return "image"

    monkeypatch.setattr(volume_copy.ExportVolume, "export", export)
    monkeypatch.setattr(volume_copy.ExportVolume, "_find", lambda self, data, disk_format: None)
    monkeypatch.setattr(volume_copy.ExportVolume, "_wait_free", lambda self, origin: None)
    source, data = cloud("source", BOTH), record().data
    task = volume_copy.ExportVolume(source, provides="exported", disk_format="qcow2", unconverted={})
    for _ in range(2):
        result = task.execute(data, {"id": "clone"})
        assert result["id"] == "image"
        assert "copied as raw after all: the source makes no qcow2 of it" in result["notes"][0]
    assert asked == ["qcow2", "raw", "raw"]
    asked_for = volume_copy.ExportVolume(source, provides="exported", disk_format="qcow2")
    with pytest.raises(ConversionError):
        asked_for.execute(data, {"id": "clone"})


@pytest.mark.parametrize(("host", "falls_back"), [("lab@lab", True), (None, False)])
def test_a_volume_that_failed_at_its_back_end_is_made_of_a_raw_image(
    monkeypatch: pytest.MonkeyPatch, host: str | None, falls_back: bool
) -> None:
    """Not one that no back end had room for, which is given to none."""
    images: list[str] = []

    def execute(self: Any, data: Json, **ensured: Any) -> Json:
        images.append(ensured["image"]["id"])
        if ensured["image"]["id"] == "first":
            raise WaitError("its status became error")
        return {"id": "made", "made": True}

    raw_copy = SimpleNamespace(
        read="read", unconverted={}, make=lambda data, ensured, tell: ({"id": "raw"}, 2 << 30)
    )
    failed = {"status": "error", "os-vol-host-attr:host": host}
    monkeypatch.setattr(BaseEnsureTask, "execute", execute)
    monkeypatch.setattr(volume_make.EnsureVolume, "_stamped", lambda self, data, ensured: [failed])
    task = volume_make.EnsureVolume(
        cloud("destination", BOTH),
        provides="ensured",
        image_symbol="image",
        raw_copy=cast("Any", raw_copy),
        types={},
        zones={},
    )
    given: Json = {"image": {"id": "first"}, "read": {"disk_format": "qcow2"}}
    if not falls_back:
        with pytest.raises(WaitError):
            task.execute(record().data, **given)
        return
    result = task.execute(record().data, **given)
    assert images == ["first", "raw"]
    assert (result["id"], result["size_bytes"]) == ("made", 2 << 30)
    assert "copied as raw after all: the destination makes no volume" in result["notes"][0]

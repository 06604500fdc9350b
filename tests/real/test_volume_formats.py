"""Volumes in the format that is chosen for each: the bytes arrive, and only what was written travels where it may."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import Lab, boot, machine
from lab.disks import sparse_sha512, volume_file
from lab.layout import write_private
from pumphouse.errors import ConfigError, ConversionError, WaitError
from pumphouse.model import CopyFormat, Json, Ref, symbol
from pumphouse.tasks.cinder.common import act
from tests.real.test_kind_volume import Shelf, clouds, shelf

__all__ = ["clouds", "shelf"]

GIB = 1 << 30
AUTO = {"volume_format": "auto"}


def of(made: Json, verb: str, results: dict[str, Any]) -> Any:
    return results[symbol(Ref("volume", made["id"]), verb)]


def arrived(shelf: Shelf, made: Json) -> bool:
    before, after = map(sparse_sha512, shelf.files(made))
    return before == after


@contextmanager
def conversion_disabled(lab: Lab, name: str) -> Iterator[None]:
    """Have the Cinder of a cloud convert no images, as some operators do."""
    cloud = next(cloud for cloud in lab.clouds() if cloud.name == name)
    file = cloud.dir / "etc" / "cinder" / "cinder.conf"
    plain = file.read_text()
    write_private(file, plain.replace("[DEFAULT]", "[DEFAULT]\nimage_conversion_disable = True", 1))
    try:
        boot.restart(cloud, machine.venv_dir(cloud.release), "cinder")
        yield
    finally:
        write_private(file, plain)
        boot.restart(cloud, machine.venv_dir(cloud.release), "cinder")


def test_what_was_never_written_stays_behind_by_default(shelf: Shelf) -> None:
    made = shelf.make()
    assert shelf.step(made, **AUTO).record.copied_as == CopyFormat(
        "qcow2", "what was never written stays behind"
    )
    results = shelf.migrate(**AUTO)
    assert arrived(shelf, made)
    assert of(made, "image-uploaded", results)["size_bytes"] < GIB // 10
    assert "notes" not in of(made, "ensured", results)


@pytest.mark.exhaustive
def test_volumes_of_the_types_that_are_named_travel_as_they_are(shelf: Shelf) -> None:
    made = shelf.make()
    with pytest.raises(ConfigError, match=r"has no volume type 'nowhere'"):
        shelf.step(made, raw_volume_types=["nowhere"], **AUTO)
    types = {"raw_volume_types": [made["volume_type"]], **AUTO}
    assert shelf.step(made, **types).record.copied_as.name == "raw"  # type: ignore[union-attr]
    results = shelf.migrate(**types)
    assert arrived(shelf, made)
    assert of(made, "image-uploaded", results)["size_bytes"] == GIB


@pytest.mark.exhaustive
@pytest.mark.parametrize("attached", [False, True], ids=["itself", "clone"])
def test_what_the_source_does_not_convert_travels_as_it_is(shelf: Shelf, attached: bool) -> None:
    """Cinder gives up the first image, and makes the second of the same volume; the type is known from then on."""
    made, again = shelf.make(), shelf.make()
    if attached:
        act(shelf.clouds.source, made["id"], "os-attach", host_name="host", mountpoint="/dev/vdb", mode="rw")
    with conversion_disabled(shelf.lab, "source"):
        results = shelf.migrate(**AUTO)
    for one in (made, again):
        assert (
            "copied as raw after all: the source makes no qcow2 of it"
            in of(one, "exported", results)["notes"][0]
        )
        assert of(one, "image-uploaded", results)["size_bytes"] == GIB
        assert arrived(shelf, one)
    if attached:
        act(shelf.clouds.source, made["id"], "os-force_detach")


@pytest.mark.exhaustive
def test_what_the_destination_does_not_convert_travels_once_more(shelf: Shelf) -> None:
    made = shelf.make()
    with conversion_disabled(shelf.lab, "destination"):
        results = shelf.migrate(**AUTO)
    ensured = of(made, "ensured", results)
    assert (
        "copied as raw after all: the destination makes no volume of the first image" in ensured["notes"][0]
    )
    assert ensured["size_bytes"] == GIB
    assert arrived(shelf, made)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["source", "destination"])
def test_qcow2_is_qcow2_where_it_is_asked_for(shelf: Shelf, name: str) -> None:
    shelf.make()
    with (
        conversion_disabled(shelf.lab, name),
        pytest.raises((ConversionError, WaitError), match=r"gave up|error"),
    ):
        shelf.migrate(volume_format="qcow2")


@pytest.mark.exhaustive
def test_a_volume_that_holds_the_image_of_a_disk_is_not_taken_for_that_disk(shelf: Shelf) -> None:
    """Cinder has qemu-img guess what it converts: it gives the inner disk for the volume."""
    made = shelf.make()
    file = volume_file(shelf.lab.dir, "source", made["id"])
    inner = Path(f"{file}.inner")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", inner, "64M"], check=True)
    with file.open("r+b") as volume:
        volume.write(inner.read_bytes())
    inner.unlink()
    with pytest.raises(ConversionError, match="looks like the image of a disk"):
        shelf.migrate(volume_format="qcow2")

"""Transfers between the Glances of two real clouds."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, BinaryIO

import pytest

from pumphouse.cloud import Cloud
from pumphouse.errors import TransferError
from pumphouse.tasks.glance.transfer import Copied, Hashes, TransferLimits, copy_image

MIB = 1 << 20
BYTES = os.urandom(20 * MIB + 321)


class Clouds:
    """Both clouds, and the images that a test makes in them."""

    def __init__(self, clouds_yaml: Any, made: ExitStack) -> None:
        self.source = Cloud.from_clouds_yaml("source", clouds_file=clouds_yaml)
        self.destination = Cloud.from_clouds_yaml("destination", clouds_file=clouds_yaml)
        self._made = made

    def queued(self, cloud: Cloud, disk_format: str = "raw") -> str:
        image = cloud.glance.images.create(name="odd", disk_format=disk_format, container_format="bare")
        self._made.callback(cloud.glance.images.delete, image["id"])
        return str(image["id"])

    def active(self, data: bytes | BinaryIO) -> Any:
        image_id = self.queued(self.source)
        self.source.glance.images.upload(image_id, io.BytesIO(data) if isinstance(data, bytes) else data)
        return self.source.glance.images.get(image_id)

    def copy(self, image: Any, destination_id: str, **changes: Any) -> Copied:
        arguments: dict[str, Any] = {
            "size_bytes": image["size"],
            "expected": Hashes.of(image),
            "limits": TransferLimits(4),
            "on_progress": lambda _: None,
        }
        arguments |= changes
        return copy_image(self.source, self.destination, image["id"], destination_id, **arguments)

    def arrived(self, image_id: str) -> bytes:
        return b"".join(self.destination.glance.images.data(image_id, do_checksum=False))

    def status(self, image_id: str) -> str:
        return str(self.destination.glance.images.get(image_id)["status"])


@pytest.fixture
def clouds(lab: Any) -> Iterator[Clouds]:
    with ExitStack() as made:
        yield Clouds(lab.clouds_yaml, made)


def test_bytes_arrive(clouds: Clouds) -> None:
    progress: list[int] = []
    image, destination_id = clouds.active(BYTES), clouds.queued(clouds.destination)
    copied = clouds.copy(image, destination_id, on_progress=progress.append)
    assert copied == Copied(len(BYTES), "sha512", hashlib.sha512(BYTES).hexdigest())
    assert clouds.arrived(destination_id) == BYTES
    assert clouds.status(destination_id) == "active"
    assert progress[-1] == len(BYTES)


def test_empty_image(clouds: Clouds) -> None:
    image, destination_id = clouds.active(b""), clouds.queued(clouds.destination)
    assert clouds.copy(image, destination_id).size_bytes == 0
    arrived = clouds.destination.glance.images.get(destination_id)
    assert (arrived["status"], arrived["size"]) == ("active", 0)


def test_several_at_once(clouds: Clouds) -> None:
    images = [clouds.active(os.urandom(5 * MIB)) for _ in range(6)]
    ids = [clouds.queued(clouds.destination) for _ in images]
    limits = TransferLimits(3)
    with ThreadPoolExecutor(6) as pool:
        copies = list(pool.map(lambda pair: clouds.copy(*pair, limits=limits), zip(images, ids, strict=True)))
    assert [copied.digest for copied in copies] == [image["os_hash_value"] for image in images]


def test_other_bytes_than_the_hash_never_become_active(clouds: Clouds) -> None:
    image, destination_id = clouds.active(BYTES), clouds.queued(clouds.destination)
    with pytest.raises(TransferError, match="the source's bytes do not match its own sha512"):
        clouds.copy(image, destination_id, expected=Hashes("sha512", "0" * 128))
    assert clouds.status(destination_id) != "active"


@pytest.mark.parametrize("difference", [-1, 1])
def test_another_size_never_becomes_active(clouds: Clouds, difference: int) -> None:
    image, destination_id = clouds.active(BYTES), clouds.queued(clouds.destination)
    with pytest.raises(TransferError, match=r"the source (broke off|sends more)"):
        clouds.copy(image, destination_id, size_bytes=image["size"] + difference)
    assert clouds.status(destination_id) != "active"


def test_bytes_that_the_destination_refuses(clouds: Clouds) -> None:
    """Glance checks that the bytes are of the disk format."""
    image, destination_id = clouds.active(BYTES), clouds.queued(clouds.destination, "qcow2")
    with pytest.raises(TransferError, match=r"the destination .* 415"):
        clouds.copy(image, destination_id)
    assert clouds.status(destination_id) != "active"


def test_an_upload_is_never_repeated(clouds: Clouds) -> None:
    image, destination_id = clouds.active(BYTES), clouds.queued(clouds.destination)
    clouds.copy(image, destination_id)
    with pytest.raises(TransferError, match="is active, not queued"):
        clouds.copy(image, destination_id)


def test_a_revoked_token_is_replaced_before_the_upload(clouds: Clouds) -> None:
    image, destination_id = clouds.active(BYTES), clouds.queued(clouds.destination)
    clouds.destination.keystone.tokens.revoke_token(clouds.destination.session.get_token())
    assert clouds.copy(image, destination_id).digest == image["os_hash_value"]


def test_memory_is_bounded(clouds: Clouds) -> None:
    clouds.copy(clouds.active(BYTES), clouds.queued(clouds.destination))
    with tempfile.TemporaryFile() as sparse:
        sparse.truncate(256 * MIB)
        image, destination_id = clouds.active(sparse), clouds.queued(clouds.destination)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clouds.copy(image, destination_id)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 32 * 1024

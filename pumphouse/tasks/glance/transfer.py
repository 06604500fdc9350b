"""The bytes of an image, from one cloud's Glance to another's: one pass, hashed on the way, never on disk.

The calls are those of the Image API v2, https://docs.openstack.org/api-ref/image/v2/#image-data
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, Protocol

import requests
import urllib3.exceptions
from keystoneauth1.adapter import Adapter
from keystoneauth1.exceptions import ClientException, ConnectFailure

from pumphouse.errors import BrokenOffError, Interruption, TransferError, explain, http_status

CHUNK_BYTES = 1 << 20
PREFETCH_CHUNKS = 8
PROGRESS_BYTES = 16 << 20
PROGRESS_S = 0.25
CONNECT_S = 10
# A socket that moves nothing for this long is broken; storage behind Glance may stall for minutes.
STALL_S = 300
# Glance looks at the token when the upload starts, not when it ends.
TOKEN_LIFE_S = 600
POLL_S = 0.5
# As many as a configuration may ask for.
TRANSFERS_MAX = 64
# Of the answers 4xx those that another attempt may not get: a token that was revoked, a record that still waits
# for the bytes of an earlier attempt, a limit of the rate.
PASSING_STATUSES = (401, 408, 409, 429)

_NETWORK_ERRORS = (ClientException, requests.RequestException, urllib3.exceptions.HTTPError, OSError)
_HINT = "the destination's image is not usable; once the cause is gone, run the migration again"


class HasImages(Protocol):
    """A cloud, as far as a transfer needs one: the requests to its Image API v2.

    They are not glanceclient's, which would send a body of its own making.
    """

    def adapter(self, service_type: str, /) -> Adapter: ...


@dataclass(frozen=True)
class Hashes:
    """What Glance says of an image's bytes: os_hash_algo, os_hash_value, MD5 checksum; all may be missing."""

    algorithm: str | None = None
    digest: str | None = None
    checksum: str | None = None

    @classmethod
    def of(cls, image: Mapping[str, Any]) -> Hashes:
        """Take the hashes out of an image record of the API."""
        return cls(image.get("os_hash_algo"), image.get("os_hash_value"), image.get("checksum"))

    def by_algorithm(self) -> dict[str, str]:
        """The digests there are, by the name of their algorithm."""
        known = {"md5": self.checksum, self.algorithm: self.digest}
        return {algorithm: digest for algorithm, digest in known.items() if algorithm and digest}

    def best_algorithm(self) -> str:
        """The algorithm to hash the bytes with: Glance's own, else MD5, else SHA-512, Glance's default."""
        if self.digest and self.algorithm and self.algorithm in hashlib.algorithms_available:
            return self.algorithm
        return "md5" if self.checksum else "sha512"


@dataclass(frozen=True)
class Copied:
    """What arrived at the destination, and was checked there."""

    size_bytes: int
    algorithm: str
    digest: str


class Slots:
    """A semaphore whose size can be changed; whoever holds a slot keeps it when there are fewer."""

    def __init__(self, size: int) -> None:
        self._size, self._taken = size, 0
        self._changed = threading.Condition()

    def resize(self, size: int) -> None:
        """Let so many be held at a time from now on."""
        with self._changed:
            self._size = size
            self._changed.notify_all()

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self._size)
            self._taken += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._taken -= 1
            self._changed.notify()


class TransferLimits:
    """How many transfers run at a time, and how fast all of them together may be; shared by a run.

    slot: to be held while bytes move.
    stop: once set, no byte is moved any more.
    bytes_per_second: None for no limit.
    """

    def __init__(
        self,
        transfers: int,
        bytes_per_second: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.slot = Slots(transfers)
        self.stop = threading.Event()
        self.bytes_per_second = bytes_per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._due_s = clock()

    @property
    def chunk_bytes(self) -> int:
        """How much to read at once, small enough for an even flow at a low rate."""
        return min(CHUNK_BYTES, max(1 << 14, (self.bytes_per_second or CHUNK_BYTES * 8) // 8))

    def change(self, transfers: int, bytes_per_second: int | None) -> None:
        """Set other limits; transfers under way go on, at the new speed."""
        self.slot.resize(transfers)
        with self._lock:
            self.bytes_per_second, self._due_s = bytes_per_second, self._clock()

    def delay_s(self, size_bytes: int) -> float:
        """Book size_bytes, and return how long to wait before moving them; 0.25 s may be caught up."""
        with self._lock:
            if not self.bytes_per_second:
                return 0.0
            now_s = self._clock()
            start_s = max(self._due_s, now_s - 0.25)
            self._due_s = start_s + size_bytes / self.bytes_per_second
        return max(0.0, start_s - now_s)


def copy_image(
    source: HasImages,
    destination: HasImages,
    image_id: str,
    destination_id: str,
    *,
    size_bytes: int,
    expected: Hashes,
    limits: TransferLimits,
    on_progress: Callable[[int], None],
) -> Copied:
    """Stream an image's bytes into a queued image record of the destination, and check what arrived.

    size_bytes, expected: what the source says of the image.
    on_progress: is given the bytes moved so far, every quarter second or 16 MiB, and at the end.

    Raises TransferError when the bytes do not arrive, or not the same bytes; deleting the destination's
    record is then up to the caller. Raises Interruption once the copies are to stop. A source whose bytes do not match its own hash is found before the
    last chunk is sent, so that the destination's image never becomes active.
    """
    reading, writing = source.adapter("image"), destination.adapter("image")
    with limits.slot:
        title = _prepare(writing, destination_id, f"image {image_id}")
        with _blaming(f"{title}: the source does not give its bytes"):
            response = _download(reading, image_id)
        with _Stream(response, title, size_bytes, expected, limits, on_progress) as stream:
            _put(writing, destination_id, stream, title)
        copied = Copied(size_bytes, expected.best_algorithm(), stream.digest)
        with _blaming(f"{title}: the destination's image cannot be checked"):
            _verify(writing, destination_id, copied, expected, title)
    on_progress(size_bytes)
    return copied


class _Stream:
    """An image's bytes, read and hashed ahead by a thread, handed out once.

    requests sends an iterable that has a length with a Content-Length, chunk by chunk.
    """

    def __init__(
        self,
        response: requests.Response,
        title: str,
        size_bytes: int,
        expected: Hashes,
        limits: TransferLimits,
        on_progress: Callable[[int], None],
    ) -> None:
        self.sent_bytes = 0
        self._response = response
        self._title = title
        self._size_bytes = size_bytes
        self._limits = limits
        self._on_progress = on_progress
        self._expected_digest = expected.by_algorithm().get(expected.best_algorithm())
        self._hash = hashlib.new(expected.best_algorithm(), usedforsecurity=False)
        self._taken = False
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(PREFETCH_CHUNKS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, name=f"read-{title}", daemon=True)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def __len__(self) -> int:
        return self._size_bytes

    def __enter__(self) -> _Stream:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the thread wherever it waits: for its turn, for the socket, or for room in the queue."""
        self._stop.set()
        if self._thread.is_alive():
            with suppress(ValueError, RuntimeError, OSError):
                self._response.raw.shutdown()
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        self._thread.join()
        self._response.close()

    def __iter__(self) -> Iterator[bytes]:
        if self._taken:
            raise TransferError(f"{self._title}: the upload was about to be sent a second time", _HINT)
        self._taken = True
        reported_s, reported_bytes = time.monotonic(), 0
        while (item := self._next()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
            self.sent_bytes += len(item)
            now_s = time.monotonic()
            if now_s - reported_s >= PROGRESS_S or self.sent_bytes - reported_bytes >= PROGRESS_BYTES:
                reported_s, reported_bytes = now_s, self.sent_bytes
                self._on_progress(self.sent_bytes)

    def _next(self) -> bytes | BaseException | None:
        while not self._limits.stop.is_set():
            with suppress(queue.Empty):
                return self._queue.get(timeout=POLL_S)
        raise Interruption

    def _fill(self) -> None:
        try:
            for chunk in self._chunks():
                self._queue.put(chunk)
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)

    def _chunks(self) -> Iterator[bytes]:
        """Read the image; the last chunk is held back until the whole is known to be right."""
        left_bytes, held = self._size_bytes, b""
        while left_bytes:
            chunk = self._read(min(self._limits.chunk_bytes, left_bytes), left_bytes)
            if self._stop.is_set():
                return
            left_bytes -= len(chunk)
            self._hash.update(chunk)
            if held:
                yield held
            held = chunk
        self._check_end()
        yield held

    def _read(self, size_bytes: int, left_bytes: int) -> bytes:
        self._wait_for_turn(size_bytes)
        done = _of(self._size_bytes - left_bytes, self._size_bytes)
        broken = f"{self._title}: the source broke off after {done}"
        with _blaming(broken):
            chunk: bytes = self._response.raw.read(size_bytes)
        if not chunk and not self._stop.is_set():
            raise BrokenOffError(broken, _HINT)
        return chunk

    def _wait_for_turn(self, size_bytes: int) -> None:
        """Wait as long as the speed wants, unless that is changed meanwhile: at a low one it may be minutes."""
        speed = self._limits.bytes_per_second
        end_s = time.monotonic() + self._limits.delay_s(size_bytes)
        while self._limits.bytes_per_second == speed and (left_s := end_s - time.monotonic()) > 0:
            if self._stop.wait(min(left_s, POLL_S)):
                return

    def _check_end(self) -> None:
        if self._size_bytes and self._response.raw.read(1):
            raise TransferError(f"{self._title}: the source sends more than {self._size_bytes} bytes", _HINT)
        if self._expected_digest not in (None, self.digest):
            raise TransferError(
                f"{self._title}: the source's bytes do not match its own {self._hash.name}: "
                f"{self.digest} instead of {self._expected_digest}; the upload was stopped",
                "the image is damaged in the source cloud",
            )


def read_head(cloud: HasImages, image_id: str, size_bytes: int) -> bytes:
    """The first bytes of an image; a Glance that knows no ranges begins to give all of them, and is left."""
    headers = {"Range": f"bytes=0-{size_bytes - 1}"}
    with (
        _blaming(f"image {image_id}: the {size_bytes} bytes that it begins with cannot be read"),
        _download(cloud.adapter("image"), image_id, headers) as response,
    ):
        head: bytes = response.raw.read(size_bytes)
    return head


def _prepare(images: Adapter, image_id: str, title: str) -> str:
    """Check that an image waits for its bytes, with a token that is valid for long enough; return a title for messages."""
    with _blaming(f"{title}: the destination does not take it"):
        image = images.get(f"/images/{image_id}").json()
        auth: Any = images.session.auth
        # The session does it, not the plugin: other threads go on with the old token meanwhile.
        if auth.get_access(images.session).will_expire_soon(TOKEN_LIFE_S):
            images.session.invalidate(auth)
    if image["status"] != "queued":
        found = f"its record {image_id} at the destination is {image['status']}, not queued"
        # Glance may just have begun to take the bytes of an attempt that died.
        raise BrokenOffError(f"{title}: {found}", "another run may be at work on it")
    return f"{title} ({image.get('name')})"


def _download(
    images: Adapter, image_id: str, headers: Mapping[str, str] = MappingProxyType({})
) -> requests.Response:
    return images.get(
        f"/images/{image_id}/file",
        stream=True,
        headers={"Accept": "application/octet-stream", "Accept-Encoding": "identity", **headers},
        timeout=(CONNECT_S, STALL_S),
    )


def _put(images: Adapter, image_id: str, stream: _Stream, title: str) -> None:
    """Upload, once: a replay of the stream would upload nothing and yet succeed, so nothing may retry it."""
    # urllib3's first timeout is that of the connection and of each chunk sent, the second that of the answer.
    try:
        response = images.put(
            f"/images/{image_id}/file",
            data=stream if len(stream) else b"".join(stream),
            headers={"Content-Type": "application/octet-stream", "x-openstack-image-size": str(len(stream))},
            timeout=(STALL_S, STALL_S),
            allow_reauth=False,
            connect_retries=0,
            status_code_retries=0,
            redirect=False,
        )
    except _NETWORK_ERRORS as error:
        broken = f"{title}: the destination broke off after {_of(stream.sent_bytes, len(stream))}"
        lost = isinstance(error, ConnectFailure) and stream.sent_bytes
        raise _failed(error)(broken if lost else f"{broken}: {explain(error)}", _HINT) from error
    if response.status_code != 204:
        raise TransferError(f"{title}: the destination answered {response.status_code}, not 204", _HINT)


def _verify(images: Adapter, image_id: str, copied: Copied, expected: Hashes, title: str) -> None:
    """Compare what Glance made of the upload with what was sent, by a hash that both sides know."""
    image = images.get(f"/images/{image_id}").json()
    if (image["status"], image["size"]) != ("active", copied.size_bytes):
        found = f"{image['status']} with {image['size']} bytes"
        raise TransferError(
            f"{title}: {found} at the destination, not active with {copied.size_bytes}", _HINT
        )
    sent = {copied.algorithm: copied.digest} | expected.by_algorithm()
    arrived = Hashes.of(image).by_algorithm()
    if not sent.keys() & arrived.keys():
        arrived = {copied.algorithm: _hash(images, image_id, copied.algorithm)}
    algorithm = next(algorithm for algorithm in sent if algorithm in arrived)
    if sent[algorithm] != arrived[algorithm]:
        differ = f"{arrived[algorithm]} instead of {sent[algorithm]}"
        raise TransferError(f"{title}: the {algorithm} at the destination is {differ}", _HINT)


def _hash(images: Adapter, image_id: str, algorithm: str) -> str:
    """Read an image back, for two Glances that have no hash algorithm in common."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with _download(images, image_id) as response:
        for chunk in iter(partial(response.raw.read, CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _blaming(what: str) -> Iterator[None]:
    try:
        yield
    except urllib3.exceptions.ProtocolError as error:
        raise BrokenOffError(what, _HINT) from error
    except _NETWORK_ERRORS as error:
        raise _failed(error)(f"{what}: {explain(error)}", _HINT) from error


def _failed(error: Exception) -> type[TransferError]:
    """What an error means to a copy: that it broke off, or that another attempt would end in the same way."""
    status = http_status(error) or 500
    return TransferError if 400 <= status < 500 and status not in PASSING_STATUSES else BrokenOffError


def _of(done_bytes: int, size_bytes: int) -> str:
    return f"{done_bytes} of {size_bytes} bytes"

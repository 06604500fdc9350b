"""Compare Pumphouse's copy of an image with a plain `curl | curl` pipe between the same two Glances.

Makes an image of random bytes in the source cloud, copies it both ways in turn, and removes all that it made:

    python -m bench.image_copy --source old --destination new --mib 1024 --rounds 3 --parallel 1,4

Exit code 1 when the ratio of the medians is under 0.8.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumphouse.cloud import Cloud
from pumphouse.errors import PumphouseError, explain
from pumphouse.tasks.glance.transfer import Hashes, TransferLimits, copy_image

MIB = 1 << 20
LEAST_RATIO = 0.8


class Curl:
    """Plain downloads and uploads; a private file keeps each token out of the list of processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def pipe(self, reader: list[str], cloud: Cloud, image_id: str) -> None:
        """Upload what a command prints."""
        upload = [
            *self.download(cloud, image_id),
            "-X",
            "PUT",
            "-H",
            "Content-Type: application/octet-stream",
        ]
        with subprocess.Popen(reader, stdout=subprocess.PIPE) as process:
            uploaded = subprocess.run([*upload, "-T", "-"], stdin=process.stdout)
        if uploaded.returncode or process.returncode:
            raise SystemExit(f"image {image_id}: {reader[0]} | curl failed, see above")

    def download(self, cloud: Cloud, image_id: str) -> list[str]:
        """Return the command that prints an image's bytes."""
        descriptor, header = tempfile.mkstemp(dir=self._folder)
        with open(descriptor, "w") as file:
            file.write(f"X-Auth-Token: {cloud.session.get_token()}")
        url = f"{cloud.glance.http_client.get_endpoint()}/v2/images/{image_id}/file"
        return ["curl", "--silent", "--show-error", "--fail", "-H", f"@{header}", url]


@dataclass
class Bench:
    """The two clouds, and the image to copy."""

    source: Cloud
    destination: Cloud
    curl: Curl
    image: Mapping[str, Any]

    def copy_by_curl(self, destination_id: str) -> None:
        """Copy the plain way, which neither hashes nor checks."""
        self.curl.pipe(self.curl.download(self.source, self.image["id"]), self.destination, destination_id)

    def copy_by_pumphouse(self, destination_id: str) -> None:
        """Copy the way under test."""
        copy_image(
            self.source,
            self.destination,
            self.image["id"],
            destination_id,
            size_bytes=self.image["size"],
            expected=Hashes.of(self.image),
            limits=TransferLimits(1),
            on_progress=lambda _: None,
        )

    def mib_per_second(self, copy: Callable[[str], None], count: int) -> float:
        """Run `count` copies at once into new images, which are deleted afterwards."""
        with ExitStack() as made, ThreadPoolExecutor(count) as pool:
            ids = [_create(self.destination, made) for _ in range(count)]
            start_s = time.monotonic()
            list(pool.map(copy, ids))
            elapsed_s = time.monotonic() - start_s
            for image_id in ids:
                self._check(image_id)
        return count * float(self.image["size"]) / MIB / elapsed_s

    def _check(self, image_id: str) -> None:
        image = self.destination.glance.images.get(image_id)
        if image["os_hash_value"] != self.image["os_hash_value"]:
            raise SystemExit(
                f"image {image_id} at the destination differs from the source's {self.image['id']}"
            )


def main() -> int:
    """Measure, print, clean up; returns the exit code."""
    args = _arguments()
    clouds_file = Path(args.clouds_file) if args.clouds_file else None
    source, destination = (
        Cloud.from_clouds_yaml(cloud, name=name, clouds_file=clouds_file)
        for name, cloud in (("source", args.source), ("destination", args.destination))
    )
    source.login()
    destination.login()
    with ExitStack() as made:
        curl = Curl(Path(made.enter_context(tempfile.TemporaryDirectory())))
        image_id = _create(source, made)
        curl.pipe(["head", "-c", str(args.mib * MIB), "/dev/urandom"], source, image_id)
        bench = Bench(source, destination, curl, source.glance.images.get(image_id))
        ratios = [_compare(bench, args.rounds, count) for count in args.parallel]
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")
    return 0 if min(ratios) >= LEAST_RATIO else 1


def _compare(bench: Bench, rounds: int, count: int) -> float:
    """Measure both ways in turn, print the figures, return the ratio of the medians."""
    print(f"{count} x {bench.image['size'] // MIB} MiB at once, MiB/s in total")
    curl, pumphouse = [], []
    for number in range(1, rounds + 1):
        curl.append(bench.mib_per_second(bench.copy_by_curl, count))
        pumphouse.append(bench.mib_per_second(bench.copy_by_pumphouse, count))
        print(f"  round {number}: curl {curl[-1]:6.1f}   pumphouse {pumphouse[-1]:6.1f}", flush=True)
    ratio = statistics.median(pumphouse) / statistics.median(curl)
    print(
        f"  median:  curl {statistics.median(curl):6.1f}   pumphouse {statistics.median(pumphouse):6.1f}",
        end="",
    )
    print(f"   ratio {ratio:.2f}")
    return ratio


def _create(cloud: Cloud, made: ExitStack) -> str:
    images = cloud.glance.images
    image = images.create(name="pumphouse-bench", disk_format="raw", container_format="bare")
    made.callback(images.delete, image["id"])
    return str(image["id"])


def _arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--source", required=True, metavar="CLOUD", help="a cloud of clouds.yaml")
    parser.add_argument("--destination", required=True, metavar="CLOUD", help="a cloud of clouds.yaml")
    parser.add_argument("--clouds-file", metavar="FILE", help="the clouds.yaml to use")
    parser.add_argument("--mib", type=int, default=1024, help="the size of the image (default 1024)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is measured (default 3)")
    parser.add_argument("--parallel", type=_counts, default=[1], help="copies at once, e.g. 1,4 (default 1)")
    return parser.parse_args()


def _counts(text: str) -> list[int]:
    return [int(count) for count in text.split(",")]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PumphouseError as problem:
        sys.exit(str(explain(problem)))

"""What each format of the images that volumes travel in costs: moves a sample tenant in each and takes it back.

    python -m lab up
    python -m bench.volume_formats --lab DIRECTORY [--formats raw,qcow2,auto] [--rounds 1]

Prints for each format the seconds, the CPU seconds of the clouds' processes and of what they start, and the bytes that
were copied, medians of the rounds. The tenant is made before the first round and removed in the end.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml

from bench.fidelity import run, write_config
from lab import Lab, processes
from lab.populate import populate, remove
from lab.sample.base import Sizes

MIB = 1 << 20


class Cost(NamedTuple):
    """What one migration took."""

    seconds: float
    cpu_s: float
    mib: float


def cpu_s(lab: Lab) -> float:
    """The CPU seconds that the clouds have used so far, with the commands that they ran to an end."""
    return sum(sum(process.cpu_times()[:4]) for process in _processes(lab))


def _processes(lab: Lab) -> Iterator[psutil.Process]:
    for cloud in lab.clouds():
        for process in processes.find(cloud).values():
            yield process
            yield from process.children(recursive=True)


def measure(lab: Lab, config: Path, tenant_id: str) -> Cost:
    """Migrate a tenant, and take it back."""
    began_s, began_cpu_s = time.monotonic(), cpu_s(lab)
    report = run(config, "migrate", "tenant", tenant_id, "--yes")
    cost = Cost(time.monotonic() - began_s, cpu_s(lab) - began_cpu_s, report["copied_bytes"] / MIB)
    failed = [item for item in report["resources"] if item["outcome"] in ("failed", "blocked")]
    run(config, "revert", "last", "--yes")
    if failed:
        sys.exit(f"{len(failed)} failed, the first is: {failed[0]}")
    return cost


def configured(folder: Path, lab: Lab, volume_format: str) -> Path:
    """A configuration with that format."""
    folder.mkdir(exist_ok=True)
    config = write_config(folder, lab.clouds_yaml)
    settings: dict[str, Any] = yaml.safe_load(config.read_text())
    settings["policies"]["volume_format"] = volume_format
    config.write_text(yaml.safe_dump(settings))
    return config


def main() -> int:
    """Measure the formats that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lab", type=Path, required=True, help="the directory of a lab that is up")
    parser.add_argument("--formats", default="raw,qcow2,auto")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    lab, formats = Lab(options.lab), options.formats.split(",")
    sample = populate(lab.clouds_yaml, f"formats-{uuid.uuid4().hex[:6]}", Sizes())
    costs: dict[str, list[Cost]] = {name: [] for name in formats}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in formats * options.rounds:
                config = configured(Path(folder) / name, lab, name)
                costs[name].append(measure(lab, config, sample.tenant_id))
                print(name, costs[name][-1], file=sys.stderr)
    finally:
        for cloud in ("source", "destination"):
            remove(lab.clouds_yaml, sample.name, cloud=cloud)
    print(f"{'format':8}{'seconds':>10}{'CPU s':>10}{'MiB':>10}")
    for name, found in costs.items():
        medians = [statistics.median(values) for values in zip(*found, strict=True)]
        print(f"{name:8}" + "".join(f"{value:10.1f}" for value in medians))
    return 0


if __name__ == "__main__":
    sys.exit(main())

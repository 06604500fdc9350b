"""A big tenant of small things: makes one in a lab, migrates it by the command line, verifies it, removes it.

    python -m lab up
    python -m bench.hundred --lab DIRECTORY [--servers 100 --volumes 100 --networks 20 --images 50]

Prints how many resources of each kind there are and what became of them, how long each step took, the requests
of the discovery by service, and whatever failed. Exit code 1 when anything failed or verify finds a difference.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import Lab
from lab.layout import default_dir
from lab.populate import populate, remove
from lab.sample.base import Sizes
from tests.faults.proxy import Proxy, running

# What migrate and verify end with when they have something to tell: a failure, a difference.
TELLING = (0, 3, 6)
STATES = ("created", "reused", "skipped", "conflict", "blocked", "failed")


class Bench:
    """Runs commands with a configuration for a lab's two clouds, and notes how long each took."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.config = folder / "pumphouse.yaml"
        self.config.write_text(
            f"clouds_file: {lab.clouds_yaml}\nsource: {{cloud: source}}\ndestination: {{cloud: destination}}\n"
            f"policies: {{passwords_file: {folder}/passwords.csv, volume_format: qcow2}}\n"
            f"state: {{url: 'sqlite:///{folder}/state.db'}}\n"
        )
        self.seconds: dict[str, float] = {}

    def run(self, step: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Any:
        """What a command of pumphouse prints as JSON."""
        command = [sys.executable, "-m", "pumphouse", *arguments, "-f", "json", "--config", str(self.config)]
        start_s = time.monotonic()
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}
        )
        self.seconds[step] = time.monotonic() - start_s
        if done.returncode not in TELLING:
            sys.exit(f"{' '.join(arguments)} ended with {done.returncode}\n{done.stderr}")
        return json.loads(done.stdout)


def requests(proxy: Proxy) -> Counter[str]:
    """How many requests each service got."""
    return Counter(exchange.request.service for exchange in proxy.exchanges)


def measure(lab: Lab, bench: Bench, tenant: str, sizes: Sizes) -> bool:
    """Make, plan, migrate and verify the tenant, and print the figures; whether all arrived."""
    start_s = time.monotonic()
    populate(lab.clouds_yaml, tenant, sizes)
    bench.seconds["make the tenant"] = time.monotonic() - start_s
    with running(lab) as proxy:
        bench.run("plan", "migrate", "tenant", tenant, "--dry-run", environment=proxy.environment)
        asked = requests(proxy)
    result = bench.run("migrate", "migrate", "tenant", tenant, "--yes")
    verified = bench.run("verify", "verify", "tenant", tenant)
    show(bench, result, verified, asked)
    differing = [
        item for item in verified["resources"] if item["outcome"] in ("different", "missing", "extra")
    ]
    return not differing and not any(item["outcome"] in ("failed", "blocked") for item in result["resources"])


def show(bench: Bench, result: Any, verified: Any, asked: Counter[str]) -> None:
    """Print the tables."""
    outcomes = Counter((item["kind"], item["outcome"]) for item in result["resources"])
    print(f"{'kind':20}" + "".join(f"{state:>10}" for state in STATES))
    for kind in dict.fromkeys(item["kind"] for item in result["resources"]):
        print(f"{kind:20}" + "".join(f"{outcomes[kind, state]:10}" for state in STATES))
    totals = Counter(item["outcome"] for item in result["resources"])
    print(f"{'all':20}" + "".join(f"{totals[state]:10}" for state in STATES))
    print("\nverify: " + ", ".join(f"{n} {verdict}" for verdict, n in verdicts(verified).items()))
    print("\n" + "\n".join(f"{step:20}{seconds:10.1f} s" for step, seconds in bench.seconds.items()))
    print(f"\n{'requests of the plan':32}{sum(asked.values()):6}")
    print("\n".join(f"  {service:30}{count:6}" for service, count in sorted(asked.items())))
    for item in result["resources"]:
        if item["outcome"] in ("failed", "blocked", "conflict"):
            print(f"{item['outcome']}: {item['kind']} {item['name']}: {item['reason']}")
    for item in verified["resources"]:
        if item["outcome"] in ("different", "missing", "extra"):
            print(
                f"{item['outcome']}: {item['kind']} {item['name']}: {item['differences'] or item['reason']}"
            )


def verdicts(verified: Any) -> Counter[str]:
    """How many resources verify found equal, different and so on."""
    return Counter(item["outcome"] for item in verified["resources"])


def main() -> int:
    """Measure a tenant of the sizes that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lab", type=Path, default=default_dir(), help="the directory of a lab that is up")
    for name, default in (("servers", 100), ("volumes", 100), ("networks", 20), ("images", 50)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    sizes = Sizes(
        servers=options.servers,
        volumes=options.volumes,
        networks=options.networks,
        images=options.images,
        image_mib=1,
        disk_mib=1,
    )
    lab, tenant = Lab(options.lab), f"hundred-{uuid.uuid4().hex[:6]}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            arrived = measure(lab, Bench(lab, Path(folder)), tenant, sizes)
        finally:
            for cloud in ("source", "destination"):
                remove(lab.clouds_yaml, tenant, cloud=cloud)
    return 0 if arrived else 1


if __name__ == "__main__":
    sys.exit(main())

"""How a plan grows with a tenant: seconds, CPU and memory for up to 10,000 networks, subnets, ports and groups.

Both clouds answer what real ones did, as `bench.record` wrote it down, with one network, subnet, port and security
group of the tenant at the source as often as it is asked for; they answer from a process of their own, and each plan
is made in a new one. The figures become a section of docs/performance.md:

    python -m bench.growth [--most 2500]

Exit code 1 when the CPU per resource grows by more than 1.3 from the fewest to the most, or when the greatest plan
takes more than 60 s or 300 MB.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Any

from bench.measured import machine, publish
from pumphouse.cloud import Cloud
from pumphouse.config.settings import CloudConfig, Config
from pumphouse.plan.make import make_plan
from tests.unit.test_old_releases import RECORDED, serving

RELEASE = "zed"
SIZES = (300, 1_000, 2_500)
MOST_GROWTH = 1.3
MOST_S = 60.0
MOST_MB = 300
PATHS = {"networks": "networks", "subnets": "subnets", "ports": "ports", "security_groups": "security-groups"}


@dataclass(frozen=True)
class Figures:
    """What one plan took, and how many resources it has."""

    resources: int
    requests: int
    wall_s: float
    cpu_s: float
    peak_mb: float

    @property
    def cpu_ms(self) -> float:
        """CPU per resource."""
        return 1000 * self.cpu_s / self.resources


def multiplied(recorded: Any, count: int) -> Any:
    """What was recorded, with so many more networks, subnets, ports and groups of the tenant that moves forth."""
    answers, tenant = recorded["source"]["answers"], recorded["forth"]
    lists = {name: answers[f"@/network/v2.0/{path}"][name] for name, path in PATHS.items()}
    own = {name: [item for item in items if item["project_id"] == tenant] for name, items in lists.items()}
    network = next(item for item in own["networks"] if not item["router:external"] and item["subnets"])
    subnet = next(item for item in own["subnets"] if item["ip_version"] == 4)
    port = {**own["ports"][0], "device_id": "", "device_owner": "", "allowed_address_pairs": []}
    group = next(item for item in own["security_groups"] if item["name"] != "default")
    for number in range(count):
        ids = {name: str(uuid.uuid5(uuid.NAMESPACE_OID, f"{name}{number}")) for name in PATHS}
        block = f"10.{number // 250}.{number % 250}"
        name = f"many-{number}"
        lists["networks"].append(
            {**network, "id": ids["networks"], "name": name, "subnets": [ids["subnets"]]}
        )
        addresses = {"cidr": f"{block}.0/24", "gateway_ip": f"{block}.1", "host_routes": []}
        pools = [{"start": f"{block}.2", "end": f"{block}.254"}]
        lists["subnets"].append(
            {
                **{**subnet, **addresses, "allocation_pools": pools, "subnetpool_id": None},
                **{"id": ids["subnets"], "name": name, "network_id": ids["networks"]},
            }
        )
        fixed = [{"subnet_id": ids["subnets"], "ip_address": f"{block}.9"}]
        mac = f"fa:16:3e:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
        lists["ports"].append(
            {
                **{**port, "id": ids["ports"], "name": name, "network_id": ids["networks"]},
                **{"fixed_ips": fixed, "mac_address": mac, "security_groups": [ids["security_groups"]]},
            }
        )
        rules = [
            {**rule, "id": f"{ids['security_groups']}-{n}", "remote_group_id": None}
            for n, rule in enumerate(group["security_group_rules"])
        ]
        lists["security_groups"].append(
            {**group, "id": ids["security_groups"], "name": name, "security_group_rules": rules}
        )
    for cloud in ("source", "destination"):
        for path, answer in recorded[cloud]["answers"].items():
            if "/quotas/" in path:
                answer["quota"] = {name: _unlimited(quota) for name, quota in answer["quota"].items()}
    return recorded


def _unlimited(quota: Any) -> Any:
    return {**quota, "limit": -1} if isinstance(quota, dict) else -1


def serve(count: int, urls: Any, end: Event) -> None:
    """Answer as both clouds until it is said that nobody asks any more."""
    recorded = multiplied(json.loads((RECORDED / f"{RELEASE}.json").read_text()), count)
    with ExitStack() as stack:
        found = [stack.enter_context(serving(recorded[name], name)) for name in ("source", "destination")]
        urls.put((recorded["forth"], [cloud.auth_url for cloud in found]))
        end.wait()


def measure(tenant_id: str, auth_urls: list[str]) -> Figures:
    """Make a plan, in the process that this is called in."""
    auth = {"username": "admin", "password": "p", "project_name": "admin"}
    auth |= {"user_domain_name": "Default", "project_domain_name": "Default"}
    source, destination = (
        Cloud(CloudConfig(auth={**auth, "auth_url": url}, region_name="R"), name=name, read_only=True)
        for name, url in zip(("source", "destination"), auth_urls, strict=True)
    )
    asked, began_s, cpu_s = 0, time.monotonic(), time.process_time()
    for cloud in (source, destination):
        cloud.login()
    config = Config(source=CloudConfig(), destination=CloudConfig())
    with ThreadPoolExecutor(8) as pool, source.session.reading_once(), destination.session.reading_once():
        plan = make_plan(source, destination, tenant_id, config, pool)
        asked = sum(len(cloud.session._read._answers) for cloud in (source, destination))  # type: ignore[union-attr]
    wall_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Figures(len(list(plan.steps())), asked, wall_s, cpu_s, peak_mb)


def in_new_processes(count: int) -> Figures:
    """One line of the table."""
    context = multiprocessing.get_context("spawn")
    urls, end = context.Queue(), context.Event()
    clouds = context.Process(target=serve, args=(count, urls, end))
    clouds.start()
    try:
        with context.Pool(1) as pool:
            return pool.apply(measure, urls.get())
    finally:
        end.set()
        clouds.join()


def main() -> int:
    """Measure each size, and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--most", type=int, default=SIZES[-1], help="of each kind")
    most = parser.parse_args().most
    lines = [machine(), ""]
    lines.append(
        f"{'of each':>8}{'resources':>11}{'requests':>10}{'wall s':>8}{'CPU s':>8}{'CPU ms each':>13}{'MB':>6}"
    )
    found = []
    for count in [size for size in SIZES if size < most] + [most]:
        line = in_new_processes(count)
        found.append(line)
        lines.append(
            f"{count:8,}{line.resources:11,}{line.requests:10,}{line.wall_s:8.1f}{line.cpu_s:8.1f}"
            f"{line.cpu_ms:13.2f}{line.peak_mb:6.0f}"
        )
    growth, last = found[-1].cpu_ms / found[0].cpu_ms, found[-1]
    lines += [
        "",
        f"CPU per resource at {last.resources:,} is {growth:.2f} of that at {found[0].resources:,} (at most "
        f"{MOST_GROWTH}); {last.wall_s:.0f} s (at most {MOST_S:.0f}), {last.peak_mb:.0f} MB (at most {MOST_MB})",
    ]
    publish("growth", "\n".join(lines))
    return int(growth > MOST_GROWTH or last.wall_s > MOST_S or last.peak_mb > MOST_MB)


if __name__ == "__main__":
    sys.exit(main())

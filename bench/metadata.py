"""What it costs to move many small things: Pumphouse beside a bare script with bulk calls, and beside a peer.

Networks with a subnet each and security groups of three rules are made in a lab's source; each contender moves them
to an empty destination, several times by itself for the seconds and the CPU, and once through a proxy that counts.
The figures become a section of docs/performance.md:

    python -m lab up
    python -m bench.metadata [--lab DIRECTORY] [--rounds 3] [--networks 20 --groups 20]

Exit code 1 when Pumphouse takes more than 1.5 requests per object (a network, a subnet, a group, a rule), 1.2 times
the script's time, or a tenth of what the peer took.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from openstack.connection import Connection

from bench.measured import Cost, counted, machine, medians, publish, pumphouse, timed
from lab import Lab
from lab.layout import default_dir
from lab.sample.base import connect, post
from lab.sample.inventory import remove_tenant

RULES = 3
MOST_REQUESTS_PER_OBJECT = 1.5
MOST_TIMES_SCRIPT = 1.2
# openstack-migrate with 20 networks, 20 subnets and 20 groups of three rules, as it was measured on a lab of this
# kind on two cores: recorded here and not measured again.
PEER = {"wall_s": 96.0, "requests": 2_312, "logins": 559}
PEER_SIZES = (20, 20)


def populate(source: Connection, name: str, networks: int, groups: int) -> str:
    """Make the tenant; its id."""
    project_id = str(source.identity.create_project(name=name, domain_id="default").id)
    network = source.network
    # Two first calls for a project would make its default group twice.
    list(network.security_groups(project_id=project_id))
    owner = {"project_id": project_id}
    made = post(
        network,
        "/networks",
        networks=[{**owner, "name": f"net-{n}", "description": f"number {n}"} for n in range(networks)],
    )["networks"]
    cidrs = (f"10.{n // 256}.{n % 256}.0/24" for n in range(networks))
    subnets = [
        {**owner, "name": f"sub-{item['name']}", "network_id": item["id"], "ip_version": 4, "cidr": cidr}
        for item, cidr in zip(made, cidrs, strict=True)
    ]
    post(network, "/subnets", subnets=subnets)
    bodies = [{**owner, "name": f"group-{n}", "description": f"number {n}"} for n in range(groups)]
    for group in post(network, "/security-groups", security_groups=bodies)["security_groups"]:
        rules = [
            {
                **owner,
                "security_group_id": group["id"],
                **{"direction": "ingress", "ethertype": "IPv4", "protocol": "tcp"},
                **dict.fromkeys(("port_range_min", "port_range_max"), 8000 + n),
            }
            for n in range(RULES)
        ]
        post(network, "/security-group-rules", security_group_rules=rules)
    return project_id


def measure(lab: Lab, name: str, rounds: int, command: Callable[[Path], Sequence[str]]) -> Cost:
    """What a contender costs: each time to a destination without the tenant, with a state of its own."""

    def fresh(work: Callable[[Sequence[str]], Cost | tuple]) -> Cost | tuple:  # type: ignore[type-arg]
        with tempfile.TemporaryDirectory(prefix="metadata-") as folder:
            try:
                return work(command(Path(folder)))
            finally:
                remove_tenant(connect(lab.clouds_yaml, "destination"), name)

    costs = [fresh(lambda line: timed(lab, line)) for _ in range(rounds)]
    found = medians(costs)  # type: ignore[arg-type]
    found.requests, found.logins = fresh(lambda line: counted(lab, line))  # type: ignore[misc]
    return found


def table(found: dict[str, Cost], objects: int) -> Iterator[str]:
    """The lines of all figures."""
    yield (
        f"{'':12}{'seconds':>9}{'requests':>10}{'per object':>12}{'logins':>8}{'client CPU s':>14}{'clouds CPU s':>14}"
    )
    for name, cost in found.items():
        requests = sum(cost.requests.values())
        yield (
            f"{name:12}{cost.wall_s:9.1f}{requests:10,}{requests / objects:12.2f}{cost.logins:8}"
            f"{cost.client_s:14.1f}{cost.clouds_s:14.1f}"
        )
    yield (
        f"{'the peer':12}{PEER['wall_s']:9.1f}{PEER['requests']:10,.0f}"
        f"{PEER['requests'] / objects:12.2f}{PEER['logins']:8.0f}   recorded, not measured now"
    )
    for name, cost in found.items():
        yield from ("", f"{name}: requests by service and method")
        yield from (f"  {what:36}{count:6}" for what, count in sorted(cost.requests.items()))
        services = sorted((s, n) for n, s in cost.services_s.items() if s >= 0.1)
        yield "  CPU s: " + ", ".join(f"{n} {s:.1f}" for s, n in reversed(services))


def bounds(found: dict[str, Cost], objects: int, sizes: tuple[int, int]) -> list[tuple[str, float, float]]:
    """What is compared with what: in words, the value, and the most that it may be."""
    ours, script = found["pumphouse"], found["script"]
    requests = sum(ours.requests.values())
    compared = [
        ("requests per object", requests / objects, MOST_REQUESTS_PER_OBJECT),
        ("times the script's seconds", ours.wall_s / script.wall_s, MOST_TIMES_SCRIPT),
    ]
    if sizes == PEER_SIZES:
        compared.append(("of the peer's requests", requests / PEER["requests"], 0.1))
        compared.append(("of the peer's seconds", ours.wall_s / PEER["wall_s"], 0.1))
    return compared


def main() -> int:
    """Measure both, and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lab", type=Path, default=default_dir(), help="the directory of a lab that is up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--groups", type=int, default=20)
    options = parser.parse_args()
    lab, name = Lab(options.lab), f"metadata-{uuid.uuid4().hex[:6]}"
    objects = 2 * options.networks + (1 + RULES) * options.groups
    source = connect(lab.clouds_yaml, "source")
    try:
        tenant_id = populate(source, name, options.networks, options.groups)
        script = [sys.executable, "-m", "bench.bare", str(lab.clouds_yaml), tenant_id, name]
        found = {
            "script": measure(lab, name, options.rounds, lambda _: script),
            "pumphouse": measure(
                lab,
                name,
                options.rounds,
                lambda folder: pumphouse(lab, folder, "migrate", "tenant", tenant_id, "--yes"),
            ),
        }
    finally:
        remove_tenant(source, name)
    judged = bounds(found, objects, (options.networks, options.groups))
    lines = [
        f"{machine()}, both clouds on them; medians of {options.rounds}; {objects} objects",
        "",
        *table(found, objects),
        "",
    ]
    lines += [f"{value:6.2f} {what}, at most {most}" for what, value, most in judged]
    publish("metadata", "\n".join(lines))
    return int(any(value > most for _, value, most in judged))


if __name__ == "__main__":
    sys.exit(main())

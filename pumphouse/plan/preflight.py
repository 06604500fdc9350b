"""What a run of a plan would fail over in the middle of the night, found when it is made: reads, and changes nothing.

Limits of the tenant are in `capacity`; what single resources meet at the destination their kinds say.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from heapq import nlargest
from pathlib import Path
from typing import TYPE_CHECKING

from pumphouse.cloud import call, get_all
from pumphouse.errors import explain, http_status
from pumphouse.model import Action, Json, Obstacle, Plan, Step
from pumphouse.plan.overview import UNITS_PER_TRANSFER, estimate
from pumphouse.words import counted, lasting, size

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud
    from pumphouse.config.settings import Config

_MIB = 1 << 20
# Placement tells all resources of a host in one answer, and may leave out hosts that are disabled (Train).
_PLACEMENT = "1.29"
_ENABLED = "!COMPUTE_STATUS_DISABLED"
_RESOURCES = {"VCPU": "VCPUs", "MEMORY_MB": "MiB of RAM", "DISK_GB": "GiB of disk"}
_SQLITE = "sqlite:///"
# The answers to a login that is not to know, and of a service that does not tell.
_UNTOLD = (400, 401, 403, 404, 406)

Found = Iterator[Obstacle]


def obstacles(
    plan: Plan, source: Cloud, destination: Cloud, config: Config, pool: Executor
) -> tuple[Obstacle, ...]:
    """What stands in the way of a plan, what is certain first; each check is a list call or two."""
    made = [step for step in plan.steps() if step.action is Action.CREATE and step.destination_id is None]
    servers = [step for step in made if step.ref.kind == "server"]
    flavors = {step.ref.id: step.record.data for step in plan.steps() if step.ref.kind == "flavor"}
    networks = {step.ref.id: step.destination_id for step in plan.steps() if step.ref.kind == "network"}
    checks: list[Callable[[], Found]] = [
        lambda: _computes(destination) if servers else iter(()),
        lambda: _hosts(destination, servers, flavors) if servers else iter(()),
        lambda: _back_ends(destination, made),
        lambda: _copies(plan, source),
        lambda: _floating_addresses(destination, made, networks),
        lambda: _formats(destination, made),
        lambda: _contents(source, made),
        lambda: _images(plan, source),
        lambda: _images(plan, destination),
        lambda: _login(plan, source),
        lambda: _login(plan, destination),
        lambda: _files(config, made),
    ]
    found = [obstacle for result in pool.map(_tried, checks) for obstacle in result]
    return tuple(sorted(found, key=lambda obstacle: not obstacle.is_certain))


def of_clouds(destination: Cloud, config: Config) -> tuple[Obstacle, ...]:
    """What stands in the way of whatever is migrated."""
    return (*_tried(lambda: _computes(destination)), *_files(config, ()))


def _tried(check: Callable[[], Found]) -> list[Obstacle]:
    """What a check finds; what a service does not tell this login stands in nobody's way."""
    try:
        return list(check())
    except Exception as error:
        if http_status(error) in _UNTOLD:
            return []
        what = f"something could not be checked: {explain(error)}"
        return [Obstacle(what, "see that the service answers", is_certain=False)]


def _computes(destination: Cloud) -> Found:
    """Whether there is a host that Nova would boot a server on."""
    if not destination.has("compute"):
        return
    query = {"binary": "nova-compute"}
    services = call(destination.adapter("compute"), "GET", "/os-services", params=query)["services"]
    states = Counter((service["status"], service["state"]) for service in services)
    if services and not states["enabled", "up"]:
        seen = ", ".join(f"{number} {status} and {state}" for (status, state), number in states.items())
        yield Obstacle(
            f"no nova-compute of the destination is enabled and up ({seen}): no server would boot",
            "enable them with: openstack compute service set --enable HOST nova-compute",
        )


def _hosts(destination: Cloud, servers: Iterable[Step], flavors: Mapping[str, Json]) -> Found:
    """Whether the hosts have room for the servers, all together and the largest one, as Placement counts."""
    sizes = [_taken(step, flavors.get(step.record.data.get("flavor_id") or "", {})) for step in servers]
    hosts = _free(destination)
    for name, title in _RESOURCES.items():
        free = [host[name] for host in hosts if name in host]
        needed = sum(taken[name] for taken in sizes)
        if free and needed > sum(free):
            yield Obstacle(
                f"the hosts of the destination have {sum(free):,} {title} free, and the servers need {needed:,}",
                "free some, add hosts, or leave out servers",
            )
    largest = max(sizes, key=lambda taken: (taken["MEMORY_MB"], taken["VCPU"]))
    if hosts and not any(all(host.get(n, taken) >= taken for n, taken in largest.items()) for host in hosts):
        needed_each = ", ".join(f"{largest[name]:,} {title}" for name, title in _RESOURCES.items())
        yield Obstacle(
            f"no host of the destination has room for the largest server ({needed_each})",
            "free one, or add one",
        )


def _taken(step: Step, flavor: Json) -> Counter[str]:
    """What a server takes of its host."""
    root_gib = flavor.get("disk", 0) if step.record.data.get("image_id") else 0
    swap_gib = -(-flavor.get("swap", 0) // 1024)
    disk_gib = root_gib + flavor.get("ephemeral", 0) + swap_gib
    return Counter(VCPU=flavor.get("vcpus", 0), MEMORY_MB=flavor.get("ram", 0), DISK_GB=disk_gib)


def _free(destination: Cloud) -> list[dict[str, int]]:
    """What each host has left, by Placement's names; none where there is no Placement."""
    if not destination.has("placement"):
        return []
    query = {"resources": "VCPU:1", "required": _ENABLED}
    adapter = destination.adapter("placement")
    found = call(adapter, "GET", "/allocation_candidates", params=query, microversion=_PLACEMENT)
    return [
        {name: told["capacity"] - told["used"] for name, told in host["resources"].items()}
        for host in found["provider_summaries"].values()
    ]


def _back_ends(destination: Cloud, made: Iterable[Step]) -> Found:
    """Whether the back ends of Cinder have room for the volumes."""
    sizes = [
        step.record.data.get("size", 0) for step in made if step.ref.kind in ("volume", "volume_snapshot")
    ]
    if not sizes or not destination.has("block-storage"):
        return
    rooms = _pools(destination)
    if rooms and None not in rooms and sum(sizes) > sum(filter(None, rooms)):
        yield Obstacle(
            f"the back ends of Cinder at the destination have {sum(filter(None, rooms)):,.0f} GiB free, "
            f"and the volumes need {sum(sizes):,}",
            "add room, or leave out volumes",
        )


def _pools(cloud: Cloud) -> list[float | None]:
    """The GiB that each pool of Cinder can still give; None where it does not know, or there is no end."""
    pools = call(cloud.cinder, "GET", "/scheduler-stats/get_pools", params={"detail": "true"})["pools"]
    return [_pool_room(pool["capabilities"]) for pool in pools]


def _pool_room(told: Json) -> float | None:
    total, free = told.get("total_capacity_gb"), told.get("free_capacity_gb")
    if not isinstance(total, int | float) or not isinstance(free, int | float):
        return None
    kept = total * told.get("reserved_percentage", 0) / 100
    if not told.get("thin_provisioning_support"):
        return float(free - kept)
    ratio = float(told.get("max_over_subscription_ratio") or 1)
    room: float = (total - kept) * ratio - told.get("provisioned_capacity_gb", 0)
    return max(0.0, room)


def _copies(plan: Plan, source: Cloud) -> Found:
    """Whether the operator's project at the source has room for the copies of attached volumes that are made at once."""
    attached = [
        sum(step.record.data["size"] for step in unit.steps if _is_copied(step)) for unit in plan.units
    ]
    needed = 2 * sum(nlargest(_at_once(plan), attached))
    if not needed or not source.has("block-storage"):
        return
    limits = call(source.cinder, "GET", "/limits")["limits"]["absolute"]
    most, used = limits.get("maxTotalVolumeGigabytes", -1), limits.get("totalGigabytesUsed", 0)
    if 0 <= most < used + needed:
        yield Obstacle(
            f"the copies of attached volumes at the source may take {needed:,} GiB at the same time, of which the "
            f"operator's project may have {max(most - used, 0):,} more",
            f"raise it with: openstack quota set --gigabytes {used + needed} {source.project_id}",
            is_certain=False,
        )


def _is_copied(step: Step) -> bool:
    return (
        step.action is Action.CREATE
        and step.ref.kind == "volume"
        and bool(step.record.data.get("attachments"))
    )


def _at_once(plan: Plan) -> int:
    return UNITS_PER_TRANSFER * plan.cfg["limits"]["transfers"]


def _floating_addresses(
    destination: Cloud, made: Iterable[Step], networks: Mapping[str, str | None]
) -> Found:
    """Whether the external networks have an address left for each floating IP, and those that are asked for."""
    wanted: dict[str, list[str]] = {}
    for step in made:
        twin = networks.get(step.record.data.get("floating_network_id", ""))
        if step.ref.kind == "floating_ip" and twin:
            wanted.setdefault(twin, []).append(step.record.data["floating_ip_address"])
    for network_id, addresses in wanted.items():
        yield from _addresses(destination, network_id, addresses)


def _addresses(destination: Cloud, network_id: str, addresses: list[str]) -> Found:
    ports = get_all(destination.neutron, "/ports", "ports", network_id=network_id, fields="fixed_ips")
    held = {fixed["ip_address"] for port in ports for fixed in port["fixed_ips"]}
    if taken := sorted(held.intersection(addresses)):
        yield Obstacle(
            f"{counted(len(taken), 'floating address')} of the tenant belong to others at the destination, and "
            f"become others: {', '.join(taken[:5])}{', ...' * (len(taken) > 5)}",
            "free them there, or tell those who use them",
            is_certain=False,
        )
    told = call(destination.neutron, "GET", f"/network-ip-availabilities/{network_id}")
    subnets = told["network_ip_availability"]["subnet_ip_availability"]
    free = sum(subnet["total_ips"] - subnet["used_ips"] for subnet in subnets if subnet["ip_version"] == 4)
    if len(addresses) > free:
        yield Obstacle(
            f"external network {told['network_ip_availability']['network_name']} of the destination has "
            f"{counted(max(free, 0), 'free address')}, and the plan needs {len(addresses):,}",
            "add a subnet or addresses to it, or give --skip floating_ip",
        )


def _formats(destination: Cloud, made: Iterable[Step]) -> Found:
    """Whether Glance takes the formats of the images, and of those that volumes travel in."""
    images = [step for step in made if step.ref.kind == "image"]
    copied = [step for step in made if step.record.copied_as]
    if not images and not copied:
        return
    known = call(destination.adapter("image"), "GET", "/schemas/image")["properties"]
    for field in ("disk_format", "container_format"):
        taken = known[field].get("enum")
        refused = [step for step in images if taken and step.record.data.get(field) not in taken]
        for value in sorted({str(step.record.data.get(field)) for step in refused}):
            names = [step.record.name for step in refused if str(step.record.data.get(field)) == value]
            yield Obstacle(
                f"Glance of the destination takes no images of {field} {value}: {', '.join(names[:5])}",
                f"add it to {field}s of its configuration, or leave these images out",
            )
    taken = known["disk_format"].get("enum")
    for value in sorted({step.record.copied_as.name for step in copied if step.record.copied_as}):
        if taken and value not in taken:
            yield Obstacle(
                f"Glance of the destination takes no images of disk_format {value}, which the volumes travel as",
                "set policies.volume_format to auto, or add it to disk_formats of its configuration",
            )


def _contents(source: Cloud, made: Iterable[Step]) -> Found:
    """Whether the bytes of the images are what their formats say."""
    images = [step for step in made if step.ref.kind == "image"]
    if not images:
        return
    from pumphouse.plan.image_contents import mismatches

    yield from mismatches(source, images)


def _images(plan: Plan, cloud: Cloud) -> Found:
    """Whether the operator's project may have the images that are there for a while."""
    sizes = [
        sum(
            step.record.size_bytes
            for step in unit.steps
            if step.action is Action.CREATE and step.ref.kind != "image"
        )
        for unit in plan.units
    ]
    needed = nlargest(_at_once(plan), filter(None, sizes))
    if not needed:
        return
    usage = call(cloud.adapter("image"), "GET", "/info/usage")["usage"]
    for name, amount, text in (
        ("image_size_total", -(-sum(needed) // _MIB), f"{size(sum(needed))} of images"),
        ("image_count_total", len(needed), counted(len(needed), "image")),
    ):
        told = usage.get(name)
        if told and 0 <= told["limit"] < told["usage"] + amount:
            yield Obstacle(
                f"copies may take {text} at the same time at the {cloud.name}, more than the operator's project may "
                f"have: {name} is {told['limit']}, of which {told['usage']} are in use",
                f"raise {name} of project {cloud.project_id}: openstack limit set",
                is_certain=False,
            )


def _login(plan: Plan, cloud: Cloud) -> Found:
    """Whether a login that cannot be renewed lasts as long as the run will."""
    ends_at = cloud.login_ends_at
    if ends_at is None:
        return
    left, needed_s = ends_at - datetime.now(UTC), estimate(plan).duration_s
    if left < timedelta(seconds=needed_s):
        yield Obstacle(
            f"the login to the {cloud.name} ends in {lasting(max(left.total_seconds(), 0))} and cannot be renewed; "
            f"the run will take about {lasting(needed_s)}",
            "log in with a password or an application credential instead of a token",
            is_certain=False,
        )


def _files(config: Config, made: Iterable[Step]) -> Found:
    """Whether what a run writes on this machine can be written."""
    writes: dict[str, Path] = {}
    if config.state_url.startswith(_SQLITE):
        writes["the state store"] = Path(config.state_url.removeprefix(_SQLITE))
    if any(step.ref.kind == "user" for step in made) and config.policies.user_passwords == "generate":
        writes["the file of passwords"] = config.policies.passwords_file
    for what, path in writes.items():
        if not _is_writable(path):
            yield Obstacle(
                f"{what} cannot be written: {path}", "make it writable, or name another in the configuration"
            )


def _is_writable(path: Path) -> bool:
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    return os.access(existing, os.W_OK) and (existing != path or path.is_file())

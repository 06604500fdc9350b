"""What of a plan the limits of the tenant at the destination refuse: known before anything is stopped or made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pumphouse.errors import http_status
from pumphouse.model import Action, Json, Ref, Step
from pumphouse.tasks.quota import SERVICES, Limits, first_limits, renamed, settable

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

# The limit on how many there are of a kind, by the names of quotas: the service, and the name that it has there.
_COUNTED = {
    "floating_ip": ("network", "floatingip"),
    "network": ("network", "network"),
    "port": ("network", "port"),
    "rbac_policy": ("network", "rbac_policy"),
    "router": ("network", "router"),
    "security_group": ("network", "security_group"),
    "server": ("compute", "instances"),
    "server_group": ("compute", "server_groups"),
    "subnet": ("network", "subnet"),
    "subnet_pool": ("network", "subnetpool"),
    "trunk": ("network", "trunk"),
    "volume": ("volume", "volumes"),
    "volume_snapshot": ("volume", "volumes"),
}
# The limit on how large a single one may be: the service, the name of the limit, and the size.
_EACH: dict[str, tuple[str, str, Callable[[Json], int]]] = {
    "volume": ("volume", "per_volume_gigabytes", lambda data: data.get("size", 0)),
    "volume_snapshot": ("volume", "per_volume_gigabytes", lambda data: data.get("size", 0)),
    "server_group": ("compute", "server_group_members", lambda data: len(data.get("members", ()))),
}
_Use = tuple[str, str, int]


@dataclass(frozen=True)
class _Room:
    """The limits of a service for a tenant while a plan is run, and what is in use of each."""

    limits: Limits
    in_use: Limits

    def refuses(self, name: str, needed: int) -> bool:
        """Whether that much more of something is too much; -1 is no limit."""
        limit = self.limits.get(name, -1)
        return limit >= 0 and self.in_use.get(name, 0) + needed > limit


def refuse_excess(
    steps: Mapping[Ref, Step], destination: Cloud, tenant: Ref, types: Mapping[str, str]
) -> dict[Ref, Step]:
    """The steps, those in conflict of whose kind more is to be made than the limits of the tenant leave room for.

    All of such a kind are, because it is the operator's to choose which are to arrive. Ports that Neutron makes
    for itself are not counted. Two calls for each service of which something is to be made.

    types: names of volume types at the destination by those of the source.
    """
    users: dict[tuple[str, str], list[tuple[Ref, int]]] = defaultdict(list)
    for step in steps.values():
        if step.action is Action.CREATE and step.destination_id is None:
            for service, name, amount in _uses(step, steps):
                (ours,) = renamed({name: amount}, types)
                users[service, ours].append((step.ref, amount))
    rooms = {service: _room(destination, service, steps, tenant, types) for service in {s for s, _ in users}}
    found = dict(steps)
    for (service, name), needs in users.items():
        room, needed = rooms[service], sum(amount for _, amount in needs)
        if room is not None and room.refuses(name, needed):
            reason = (
                f"the tenant's limit of {name} at the destination is {room.limits[name]}, of which "
                f"{room.in_use.get(name, 0)} are in use, and the plan needs {needed} more: raise it there, "
                "or the default where the tenant is not there yet (openstack quota set)"
            )
            found |= {ref: replace(found[ref], action=Action.CONFLICT, reason=reason) for ref, _ in needs}
    return found | {
        ref: replace(found[ref], action=Action.CONFLICT, reason=reason)
        for ref, reason in _too_large(steps, rooms)
        if found[ref].action is Action.CREATE
    }


def _too_large(steps: Mapping[Ref, Step], rooms: Mapping[str, _Room | None]) -> Iterator[tuple[Ref, str]]:
    """What is larger than the tenant's limit on a single one of its kind, and what to do."""
    for ref, step in steps.items():
        service, name, size_of = _EACH.get(ref.kind, ("", "", len))
        if room := rooms.get(service):
            limit, size = room.limits.get(name, -1), size_of(step.record.data)
            if 0 <= limit < size:
                yield (
                    ref,
                    f"the tenant's limit of {name} at the destination is {limit}, and this has {size}: raise it there, "
                    "or the default where the tenant is not there yet (openstack quota set)",
                )


def _uses(step: Step, steps: Mapping[Ref, Step]) -> Iterator[_Use]:
    """What a step takes of which limits."""
    data, kind = step.record.data, step.ref.kind
    if kind in _COUNTED:
        yield (*_COUNTED[kind], 1)
    if kind == "server":
        flavor = steps.get(Ref("flavor", data.get("flavor_id") or ""))
        sizes = flavor.record.data if flavor else {}
        yield "compute", "cores", sizes.get("vcpus", 0)
        yield "compute", "ram", sizes.get("ram", 0)
    if kind in ("volume", "volume_snapshot"):
        yield "volume", "gigabytes", data.get("size", 0)
    if kind == "volume" and data.get("volume_type"):
        yield "volume", f"volumes_{data['volume_type']}", 1
        yield "volume", f"gigabytes_{data['volume_type']}", data.get("size", 0)
    if kind == "security_group":
        yield "network", "security_group_rule", len(data.get("rules", ()))


def _room(
    destination: Cloud, name: str, steps: Mapping[Ref, Step], tenant: Ref, types: Mapping[str, str]
) -> _Room | None:
    """The room for a tenant; None where the destination does not tell it to the login."""
    service, twin_id = SERVICES[name], steps[tenant].destination_id
    quota = steps.get(Ref("quota", f"{tenant.id}.{name}"))
    carried = quota.record.data if quota and quota.action is Action.CREATE else None
    try:
        if twin_id is None:
            limits = service.read(destination, destination.project_id, service.default)
            set_first = renamed(first_limits(carried), types) if carried else {}
            return _Room(limits | set_first, {})
        limits, in_use = service.read_usage(destination, twin_id)
        return _Room(limits | (settable(destination, twin_id, carried, types) if carried else {}), in_use)
    except Exception as error:
        if http_status(error) not in (403, 404):
            raise
        return None

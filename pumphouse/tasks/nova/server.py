"""Servers: stopped, imaged, copied and booted on ports that were made before, with the bytes of their disk."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from taskflow import task

from pumphouse.cloud import get_all, or_none
from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    STAMP,
    BaseRetrieveTask,
    Before,
    Migration,
    Search,
    differences,
    ensure,
    retrieve,
    symbol,
)
from pumphouse.tasks.cinder.common import VOLUMES, owned
from pumphouse.tasks.fields import Fields, Noted
from pumphouse.tasks.kind import Found, Kind, matching
from pumphouse.tasks.neutron.common import PORTS
from pumphouse.tasks.nova.common import TASK, list_flavors, list_server_groups, servers_of
from pumphouse.tasks.nova.server_boot import (
    UNFINISHED,
    CompleteServer,
    EnsureServer,
    StopBootedServer,
    StopServer,
    is_broken,
    state_at_destination,
)
from pumphouse.tasks.nova.server_disk import ENSURED, UPLOADED, copy_tasks, removal_tasks

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "server"
FIELDS = ("name", "description", "metadata", "tags", "key_name", "config_drive", "hostname", "locked")
_ARRIVES_SHUTOFF = ("PAUSED", "SUSPENDED")
_MIGRATABLE = ("ACTIVE", "SHUTOFF", *_ARRIVES_SHUTOFF)
_GIB = 1 << 30
USER_DATA_UNSEEN = "its user data, if it has any, are not carried: Nova shows them to administrators only"
# The field of a server that lists its volumes.
ATTACHED = "os-extended-volumes:volumes_attached"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The servers of the tenant, with the ports, volumes, flavors and groups they were given; five list calls."""
    servers = servers_of(source, tenant_id)
    devices = _devices(source, tenant_id, servers)
    flavors = {flavor["name"]: flavor for flavor in list_flavors(source)} if servers else {}
    ports = _ports_by_server(source, [server["id"] for server in servers])
    groups = _groups_by_server(source) if servers else {}
    records = [_record(s, flavors, ports[s["id"]], devices, groups.get(s["id"], ())) for s in servers]
    return [_as_shown(source, record) for record in records]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """Servers by id, one call each: Nova lists by id only one, and what follows takes far longer."""
    records = [record for server_id in ids for record in _records(source, server_id)]
    return {record.ref.id: record for record in records}


def apply_policies(record: Record, policies: Mapping[str, Any]) -> Record:
    """The record as the policy for root disks makes it: with an image instead of bytes of its own."""
    if policies["root_disk"] == "snapshot" or record.skip or not record.data["image_id"]:
        return record
    note = f"its root disk is made anew from image {record.data['image_id']}: changes on the disk are not carried"
    needs = (*record.needs, Ref("image", record.data["image_id"]))
    return replace(record, needs=needs, size_bytes=0, notes=(*record.notes, note))


def as_before(record: Record, before: Before) -> Record:
    """The record of a server that an earlier run has stopped, as the server was before that."""
    stopped = symbol(record.ref, "stopped") in before.done and before.record.data["status"] == "ACTIVE"
    if not stopped or record.data["status"] != "SHUTOFF":
        return record
    note = "is SHUTOFF because an earlier run stopped it: it arrives ACTIVE, as it was"
    return replace(record, data={**record.data, "status": "ACTIVE"}, notes=(*record.notes, note))


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The server that carries the stamp, else those of the same name."""
    tenants = {record.ref: search.ids.get(Ref("tenant", record.data["tenant_id"])) for record in records}
    servers = {tenant: servers_of(search.destination, tenant) for tenant in set(tenants.values()) if tenant}
    return {record.ref: _twins(record, servers.get(tenants[record.ref] or "", [])) for record in records}


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read, stop, image and copy the server; boot it; bring it to the state it was in; clean up.

    A server that an earlier run has booted is neither stopped, imaged nor copied again.
    """
    ref, title, policies = step.ref, step.record.title, migration.policies
    retrieved, settled = symbol(ref, "retrieved"), symbol(ref, "settled")
    is_new, image_id = step.destination_id is None, step.record.data["image_id"]
    copies = bool(image_id) and policies["root_disk"] == "snapshot"
    before: list[task.Task] = [
        retrieve(RetrieveServer, migration, step, planned_status=step.record.data["status"])
    ]
    still, image, also = retrieved, None, []
    if is_new:
        if policies["source_servers"] == "stop" and step.record.data["status"] == "ACTIVE":
            still = symbol(ref, "stopped")
            before.append(
                StopServer(
                    migration.source,
                    provides=still,
                    rebind=[retrieved],
                    line=f"stop {title} at the source",
                    undo_line=f"start {title} at the source again",
                )
            )
        image = symbol(Ref("image", image_id), "ensured") if image_id else None
        if copies:
            image, also = symbol(ref, ENSURED), [symbol(ref, ENSURED), symbol(ref, UPLOADED)]
            before += copy_tasks(migration, step, still)
    create = ensure(
        EnsureServer,
        [migration.source, migration.destination],
        step,
        line=f"boot {title}" if is_new else f"wait for {title}",
        also_requires=also,
        may_boot=is_new,
        image_symbol=image,
        zones=migration.settings["mappings"]["availability_zones"],
    )
    stop = StopBootedServer(
        migration.destination,
        provides=settled,
        rebind=[retrieved, symbol(ref, "ensured")],
        line=f"bring {title} to its state ({state_at_destination(step.record.data)})",
    )
    removal = removal_tasks(migration, step, settled) if copies else []
    complete = CompleteServer(
        migration.destination,
        provides=symbol(ref, "completed"),
        rebind=[retrieved, symbol(ref, "ensured"), removal[-1].name if removal else settled],
        line=f"mark {title} as complete",
    )
    return [*before, create, stop, *removal, complete]


def changed(cloud: Cloud, destination_id: str, since: datetime) -> str:
    """What somebody has had Nova do with the server of the destination; empty when nothing.

    since: an aware time, by the destination's clock, at which the migration was done with it.
    """
    actions = or_none(cloud.nova.instance_action.list, destination_id) or []
    later = [action for action in reversed(actions) if _started(action) > since]
    return ", ".join(f"{action.action} at {action.start_time}" for action in later)


def _started(action: Any) -> datetime:
    # Nova gives its times in UTC and without saying so.
    return datetime.fromisoformat(action.start_time).replace(tzinfo=UTC)


class RetrieveServer(BaseRetrieveTask):
    """Reads a server of the source; user_data, which may hold secrets, is left out."""

    def execute(self, resource_id: str, planned_status: str = "") -> Json:
        """Its fields, the status as planned where the source's is what stopping it left, and a name for the attempt."""
        data = self.retrieve(resource_id)
        stopped = (planned_status, data["status"]) == ("ACTIVE", "SHUTOFF")
        return {**data, "status": planned_status if stopped else data["status"], "attempt": uuid4().hex}

    def retrieve(self, resource_id: str) -> Json:
        """Its fields, with its ports in the order of its NICs, its volumes in that of its disks and with their tags."""
        data = self.cloud.batch(fetch).get(resource_id).data
        if not data["volumes"]:
            return data
        # The list of servers does not give the tags (compute API 2.70).
        attached = self.cloud.nova.volumes.get_server_volumes(resource_id)
        tags = {attachment.volumeId: getattr(attachment, "tag", None) for attachment in attached}
        return {**data, "volumes": [{**volume, "tag": tags.get(volume["id"])} for volume in data["volumes"]]}


def _records(source: Cloud, server_id: str) -> list[Record]:
    found = or_none(source.nova.servers.get, server_id)
    if found is None:
        return []
    server = found.to_dict()
    flavors = {flavor["name"]: flavor for flavor in list_flavors(source)}
    devices = _devices(source, server["tenant_id"], [server])
    ports = _ports_by_server(source, [server_id])[server_id]
    groups = _groups_by_server(source).get(server_id, ())
    return [_as_shown(source, _record(server, flavors, ports, devices, groups))]


def _as_shown(source: Cloud, record: Record) -> Record:
    """The record with notes on what Nova shows only to administrators, and without what it refers to of that."""
    if source.is_admin:
        return record
    notes, data = [*record.notes, USER_DATA_UNSEEN], record.data
    if data["key_name"] and data["user_id"] != source.user_id:
        owner = f"user {data['user_id']}"
        notes.append(f"its keypair {data['key_name']} is not carried: it is shown to its owner only, {owner}")
        data = {**data, "key_name": None}
    return replace(record, data=data, notes=tuple(notes))


def _groups_by_server(source: Cloud) -> Mapping[str, list[str]]:
    """The server groups of each server: Nova tells them of a single server only, and that since 2.71 (Stein)."""
    groups: dict[str, list[str]] = defaultdict(list)
    for group in list_server_groups(source):
        for server_id in group["members"]:
            groups[server_id].append(group["id"])
    return groups


def _devices(source: Cloud, tenant_id: str, servers: Iterable[Json]) -> Mapping[tuple[str, str], str]:
    """Under which name each server knows its volumes, by server and volume; asked only where there are any."""
    if not any(server.get(ATTACHED) for server in servers):
        return {}
    return {
        (attached["server_id"], volume["id"]): attached["device"]
        for volume in owned(source, VOLUMES, tenant_id)
        for attached in volume["attachments"]
    }


def _ports_by_server(source: Cloud, server_ids: Collection[str]) -> Mapping[str, list[Json]]:
    """The ports of each server, also those that another tenant owns."""
    ports: dict[str, list[Json]] = defaultdict(list)
    for port in PORTS.by(source, "device_id", server_ids):
        ports[port["device_id"]].append(port)
    return ports


def _record(
    server: Json,
    flavors: Mapping[str, Json],
    ports: Sequence[Json],
    devices: Mapping[tuple[str, str], str],
    group_ids: Iterable[str],
) -> Record:
    flavor = _flavor(server, flavors)
    port_ids = _in_nic_order(server, ports)
    data = {
        "id": server["id"],
        "name": server["name"],
        "tenant_id": server["tenant_id"],
        "user_id": server["user_id"],
        "status": server["status"],
        "description": server.get("description"),
        "metadata": _own(server["metadata"]),
        "tags": sorted(server.get("tags", [])),
        "key_name": server["key_name"],
        "config_drive": bool(server["config_drive"]),
        "hostname": server.get("OS-EXT-SRV-ATTR:hostname"),
        "availability_zone": server.get("pinned_availability_zone"),
        "locked": server.get("locked", False),
        "locked_reason": server.get("locked_reason"),
        "image_id": (server["image"] or {}).get("id"),
        "flavor_id": flavor["id"] if flavor else None,
        "port_ids": port_ids,
        "server_group_ids": sorted(group_ids),
        "volumes": _volumes(server, devices),
    }
    needs = [Ref("tenant", server["tenant_id"]), *(Ref("port", port_id) for port_id in port_ids)]
    needs += [Ref("volume", volume["id"]) for volume in data["volumes"]]
    needs += [Ref("server_group", group_id) for group_id in data["server_group_ids"]]
    # A port whose server has booted cannot become the parent of a trunk any more.
    needs += [Ref("trunk", port["trunk_details"]["trunk_id"]) for port in ports if port.get("trunk_details")]
    return Record(
        Ref(NAME, server["id"]),
        server["name"],
        data,
        (*needs, Ref("flavor", flavor["id"])) if flavor else tuple(needs),
        size_bytes=max(1, flavor["disk"]) * _GIB if flavor and server["image"] else 0,
        notes=_notes(server, flavor),
        skip=_skip(server, flavor),
        answer=server,
    )


def _volumes(server: Json, devices: Mapping[tuple[str, str], str]) -> list[Json]:
    """The volumes of a server as its guest counts its disks: the root disk, vdb, ..., vdz, vdaa."""
    root_device = server.get("OS-EXT-SRV-ATTR:root_device_name")
    volumes = [
        {
            "id": volume["id"],
            "device": devices.get((server["id"], volume["id"])),
            "delete_on_termination": volume.get("delete_on_termination", False),
        }
        for volume in server.get(ATTACHED, [])
    ]
    ordered = sorted(volumes, key=lambda volume: _disk_number(volume["device"], root_device))
    from_volume = not server["image"]
    return [{**volume, "is_root": from_volume and n == 0} for n, volume in enumerate(ordered)]


def _disk_number(device: str | None, root_device: str | None) -> tuple[bool, int, str]:
    return device != root_device, len(device or ""), device or ""


def _flavor(server: Json, flavors: Mapping[str, Json]) -> Json | None:
    """The flavor of a server; one that was deleted, or has become another, as the server itself tells of it.

    Servers tell of their flavors since microversion 2.47 (Pike).
    """
    told = server["flavor"]
    found = flavors.get(told.get("original_name")) or next(
        (flavor for flavor in flavors.values() if flavor["id"] == told.get("id")), None
    )
    if found and all(told.get(field, value) == value for field, value in _sizes(found).items()):
        return {"id": found["id"], **_sizes(found)}
    return {**told, "id": f"deleted.{server['id']}"} if "ram" in told else None


def _sizes(flavor: Json) -> Json:
    sizes = {field: flavor[field] for field in ("ram", "vcpus", "disk")}
    return {**sizes, "ephemeral": flavor["OS-FLV-EXT-DATA:ephemeral"], "swap": flavor["swap"] or 0}


def _in_nic_order(server: Json, ports: Iterable[Json]) -> list[str]:
    """The server's ports as its addresses list them, which is the order of its NICs; those without one last."""
    macs = [
        address["OS-EXT-IPS-MAC:mac_addr"]
        for addresses in server["addresses"].values()
        for address in addresses
    ]
    known = sorted(ports, key=lambda port: port["id"])
    return [port["id"] for port in sorted(known, key=lambda port: _position(macs, port["mac_address"]))]


def _position(macs: Sequence[str], mac: str) -> int:
    return macs.index(mac) if mac in macs else len(macs)


def _skip(server: Json, flavor: Json | None) -> str:
    if server.get(TASK):
        return f"Nova is at work on it ({server[TASK]}): wait, then plan again"
    if server["status"].startswith("SHELVED"):
        return "it is shelved and has no disk to image: unshelve and stop it, then plan again"
    if server["status"] not in _MIGRATABLE:
        return f"its status is {server['status']}: bring it to ACTIVE or SHUTOFF, then plan again"
    if not server["image"] and not server.get(ATTACHED):
        return "it has neither an image nor a volume to boot from"
    if flavor is None:
        return "its flavor does not exist any more at the source: resize it to one that does, then plan again"
    return ""


def _notes(server: Json, flavor: Json | None) -> tuple[str, ...]:
    notes = []
    if flavor and (flavor["ephemeral"] or flavor["swap"]):
        notes.append("its ephemeral and swap disks arrive empty: a snapshot does not hold them")
    if server["status"] in _ARRIVES_SHUTOFF:
        notes.append(f"is {server['status']} and arrives SHUTOFF: its memory is not carried")
    return tuple(notes)


def _twins(record: Record, servers: Iterable[Json]) -> list[Twin]:
    sound = [server for server in servers if not (_is_twin(record, server) and is_broken(server))]
    candidates = [server for server in sound if _is_twin(record, server)]
    return [
        _twin(record, server) for server in candidates or sound if server["name"] == record.name or candidates
    ]


def _is_twin(record: Record, server: Json) -> bool:
    return bool(server["metadata"].get(STAMP) == record.ref.id)


def _twin(record: Record, server: Json) -> Twin:
    actual = {
        **server,
        "metadata": _own(server["metadata"]),
        "hostname": server.get("OS-EXT-SRV-ATTR:hostname"),
    }
    actual |= {"config_drive": bool(server["config_drive"]), "tags": sorted(server.get("tags", []))}
    found = differences(record.data, actual, FIELDS)
    if server["status"] == "ERROR":
        found = (f"its status is {server['status']}", *found)
    unfinished = "an earlier run ended before it was complete" if UNFINISHED in server["metadata"] else ""
    return Twin(server["id"], _is_twin(record, server), found, unfinished)


def _own(metadata: Mapping[str, str]) -> Json:
    """The metadata without what migrations put there."""
    return {key: value for key, value in metadata.items() if key not in (STAMP, UNFINISHED)}


def strangers(cloud: Cloud, tenant_id: str) -> list[str]:
    """The servers of a tenant that no migration has made."""
    return [server["id"] for server in servers_of(cloud, tenant_id) if STAMP not in server["metadata"]]


def find_anywhere(source: Cloud, wanted: Json) -> list[Found]:
    """The servers of that id or name, in whichever tenant."""
    # Nova takes a name for a regular expression that a part of the name has to match, so it only narrows down.
    narrow = {"name": re.sub(r"[^\w-]", ".", wanted["name"])} if "name" in wanted else {}
    filters = {"uuid": wanted["id"]} if "id" in wanted else narrow
    everywhere = {"all_tenants": 1} if source.is_admin else {}
    items = get_all(source.adapter("compute"), "/servers/detail", "servers", **everywhere, **filters)
    return matching(items, wanted, "tenant_id")


KIND = Kind(
    NAME,
    "compute",
    discover,
    fetch,
    find,
    tasks,
    acts_in_tenant=True,
    apply_policies=apply_policies,
    as_before=as_before,
    changed=changed,
    nameable=True,
    strangers=strangers,
    find_anywhere=find_anywhere,
    fields=Fields(
        carried="name description metadata tags config_drive status locked locked_reason "
        "OS-EXT-SRV-ATTR:hostname OS-EXT-SRV-ATTR:user_data os-extended-volumes:volumes_attached/delete_on_termination",
        mapped={
            "tenant_id": "the tenant's twin",
            "key_name": "the keypair's twin",
            "flavor": "the flavor's twin",
            "image": "the bytes of its disk, or the image's twin",
            "os-extended-volumes:volumes_attached/id": "the volume's twin",
            "addresses": "its ports' twins",
            "security_groups": "its ports' twins",
            "server_groups": "the server group's twin",
            "scheduler_hints/group": "the server group's twin",
            "pinned_availability_zone": "mappings.availability_zones, else the same name",
        },
        derived="id links created updated progress fault hostId host_status "
        "OS-EXT-AZ:availability_zone OS-EXT-STS:task_state OS-EXT-STS:vm_state OS-EXT-STS:power_state "
        "OS-SRV-USG:launched_at OS-SRV-USG:terminated_at OS-EXT-SRV-ATTR:host OS-EXT-SRV-ATTR:instance_name "
        "OS-EXT-SRV-ATTR:hypervisor_hostname OS-EXT-SRV-ATTR:kernel_id OS-EXT-SRV-ATTR:ramdisk_id "
        "OS-EXT-SRV-ATTR:launch_index OS-EXT-SRV-ATTR:reservation_id OS-EXT-SRV-ATTR:root_device_name",
        noted={
            "user_id": "it becomes the operator's own server in the tenant: Nova gives it to who boots it",
            "accessIPv4": "its access address {value} is not carried: set it when clients are to use another",
            "accessIPv6": "its access address {value} is not carried: set it when clients are to use another",
            "OS-DCF:diskConfig": Noted(
                "that Nova adapts its disk to a new size ({value}) is not carried", ("MANUAL",)
            ),
            "trusted_image_certificates": "its trusted image certificates {value} are not carried: "
            "they lie in the source's Barbican",
            "scheduler_hints/*": "{name} ({value}) is not carried: Nova chose its host at the source by that",
        },
    ),
)

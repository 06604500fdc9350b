"""Servers: stopped, imaged, copied and booted on ports that were made before, with the bytes of their disk."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from taskflow import task

from pumphouse.cloud import get_all, or_none
from pumphouse.cloud.wait import wait_for
from pumphouse.errors import WaitError
from pumphouse.model import Json, Record, Ref, Step, Twin, symbol
from pumphouse.tasks.base import BaseRetrieveTask, Before, Migration, Search, differences, ensure, retrieve
from pumphouse.tasks.cinder.common import VOLUMES, owned, zone_notes
from pumphouse.tasks.fields import Fields, Noted
from pumphouse.tasks.kind import Found, Kind, Names, matching
from pumphouse.tasks.neutron.common import PORTS, closed_networks, shares_with
from pumphouse.tasks.nova.common import (
    BOOT_TAGS,
    OWNERS,
    TASK,
    has_room,
    is_unfinished,
    list_flavors,
    list_keypairs,
    list_server_groups,
    metadata_max,
    own_metadata,
    own_tags,
    server_zones,
    servers_of,
    stamp_of,
    supports,
    unmark,
)
from pumphouse.tasks.nova.nics import UNTOLD, in_nic_order, nic_tags, untold
from pumphouse.tasks.nova.server_boot import (
    ADDRESSES,
    DEVICE_TAGS,
    HALTED,
    SINCE,
    CompleteServer,
    EnsureServer,
    StopBootedServer,
    StopServer,
    is_broken,
    remove,
    state_at_destination,
)
from pumphouse.tasks.nova.server_disk import (
    ENSURED,
    UPLOADED,
    copy_tasks,
    removal_tasks,
    temporaries,
)
from pumphouse.tasks.nova.shelved import NOTE, OFFLOADED, is_shelved, shelved_image

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "server"
FIELDS = ("name", "description", "metadata", "tags", "key_name", "config_drive", "hostname", "locked")
# The images outside its disk that a server boots by; Nova shows them to administrators (compute API 2.3).
_BOOT_IMAGES = ("OS-EXT-SRV-ATTR:kernel_id", "OS-EXT-SRV-ATTR:ramdisk_id")
_NO_ROOM = (
    "a migration marks what it makes, and this server has neither room for two metadata items more nor for two "
    "tags more: delete one or two of them, or raise the tenant's quota metadata_items at the destination"
)
_MIGRATABLE = ("ACTIVE", "SHUTOFF", *HALTED, "SHELVED", OFFLOADED)
# The states in which Nova makes no image of a server's disk, and how to get a server out of each.
BROKEN = {
    "ERROR": "look for the reason in `openstack server event list {id}`; if its disk is whole, "
    "`openstack server set --state active {id}` and stop it",
    "RESCUE": "end that by `openstack server unrescue {id}`",
    "VERIFY_RESIZE": "end its resize by `openstack server resize confirm {id}`, or `revert`",
}
# How long a plan waits for what Nova is doing with a server: to start, stop or snapshot one takes no longer.
_BUSY_TIMEOUT_S = 60.0
_GIB = 1 << 30
USER_DATA_UNSEEN = "its user data, if it has any, are not carried: Nova shows them to administrators only"
# The field of a server that lists its volumes.
ATTACHED = "os-extended-volumes:volumes_attached"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The servers of the tenant, with the ports, volumes, flavors and groups they were given; six list calls."""
    servers = _when_idle(source, tenant_id)
    devices = _devices(source, tenant_id, servers)
    flavors = {flavor["name"]: flavor for flavor in list_flavors(source)} if servers else {}
    ports = _ports_by_server(source, servers)
    groups = _groups_by_server(source) if servers else {}
    shares = shares_with(source, tenant_id) if servers else {}
    records = [
        _with_disk(source, _record(s, flavors, ports[s["id"]], devices, groups.get(s["id"], ())))
        for s in servers
    ]
    records = [replace(record, needs=(*record.needs, *_shares(record, shares))) for record in records]
    return _with_keys(source, [_as_shown(source, record) for record in records])


def _when_idle(source: Cloud, tenant_id: str) -> list[Json]:
    """The servers of the tenant, when Nova has done what it is doing with them, or has had time for it."""
    title = "what the source's Nova does with the tenant's servers"
    try:
        found = wait_for(
            source.batch(_servers_by_tenant), tenant_id, _are_idle, title=title, timeout_s=_BUSY_TIMEOUT_S
        )
    except WaitError:
        return servers_of(source, tenant_id)
    return found or []


def _servers_by_tenant(cloud: Cloud, tenant_ids: Collection[str]) -> dict[str, list[Json]]:
    return {tenant_id: servers_of(cloud, tenant_id) for tenant_id in tenant_ids}


def _are_idle(servers: Sequence[Json] | None) -> bool:
    return not any(server.get(TASK) for server in servers or ())


def _shares(record: Record, shares: Mapping[str, Ref]) -> list[Ref]:
    """The shares by which its tenant may use the networks of a server."""
    return [shares[need.id] for need in record.needs if need.kind == "network" and need.id in shares]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """Servers by id, one call each: Nova lists by id only one, and what follows takes far longer."""
    records = [record for server_id in ids for record in _records(source, server_id)]
    return {record.ref.id: record for record in records}


def apply_policies(record: Record, policies: Mapping[str, Any]) -> Record:
    """The record as the policies make it: with an image instead of bytes of its own, and what becomes of its state."""
    record = _with_state(record, policies)
    if policies["root_disk"] == "snapshot" or record.skip or not record.data["image_id"]:
        return record
    note = f"its root disk is made anew from image {record.data['image_id']}: changes on the disk are not carried"
    needs = (*record.needs, Ref("image", record.data["image_id"]))
    return replace(record, needs=needs, size_bytes=0, notes=(*record.notes, note))


def _with_state(record: Record, policies: Mapping[str, Any]) -> Record:
    """The record of a server that is halted or broken with what becomes of that."""
    status = record.data["status"]
    if status in HALTED and not record.skip:
        arrives = state_at_destination(record.data, policies)
        note = f"is {status} and arrives {arrives}: its memory is not carried"
        return replace(record, notes=(*record.notes, note))
    if status in BROKEN and record.skip == _refused(record.answer) and _moves_broken(record.data, policies):
        note = f"is {status} and arrives SHUTOFF, with its volumes as they are (policies.broken_servers)"
        return replace(record, skip="", notes=(*record.notes, note))
    return record


def _moves_broken(data: Json, policies: Mapping[str, Any]) -> bool:
    has_disk = data["volumes"] and not data["image_id"] and data["flavor_id"]
    return bool(has_disk and policies.get("broken_servers") == "move")


def as_before(record: Record, before: Before) -> Record:
    """The record of a server that an earlier run has stopped, as the server was before that."""
    was = before.record.data
    stopped = symbol(record.ref, "stopped") in before.done and was["status"] == "ACTIVE"
    if not stopped or record.data["status"] != "SHUTOFF":
        return record
    note = "is SHUTOFF because an earlier run stopped it: it arrives ACTIVE, as it was"
    port_ids = _as_planned(record.data["port_ids"], was["port_ids"])
    # Its NICs are as they were planned, and with them what was said of their order.
    notes = [other for other in record.notes if not other.startswith(UNTOLD)]
    notes += [other for other in before.record.notes if other.startswith(UNTOLD)]
    data = {**record.data, "status": "ACTIVE", "port_ids": port_ids}
    return replace(record, data=data, notes=(*notes, note))


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records with what the destination makes of them: notes, or why they cannot be booted there."""
    if not records:
        return []
    zones, by_tenant = server_zones(search.destination), defaultdict(list)
    for record in records:
        by_tenant[search.ids.get(Ref("tenant", record.data["tenant_id"]))].append(record)
    return [
        _with_zone(search, zones, record)
        for tenant_id, listed in by_tenant.items()
        for record in _in_tenant(search, tenant_id, listed)
    ]


def _with_zone(search: Search, zones: Collection[str], record: Record) -> Record:
    notes = zone_notes(record.data["availability_zone"], search.mappings["availability_zones"], zones)
    return replace(record, notes=(*record.notes, *notes))


def _untaken(destination: Cloud, data: Json) -> Iterator[str]:
    """What an old Nova does not take of a server; its hostname is told of when it is booted."""
    version = destination.nova.api_version
    known = (version.ver_major, version.ver_minor)
    tagged = data.get("nic_tags") or any(volume.get("tag") for volume in data.get("volumes", ()))
    fields = (
        ("description", data.get("description"), SINCE["description"]),
        ("tags", data.get("tags"), SINCE["tags"]),
        ("tags of NICs and volumes", tagged, DEVICE_TAGS),
    )
    for field, value, (major, minor) in fields:
        if value and known < (major, minor):
            yield f"not carried: its {field}, which Nova takes since microversion {major}.{minor}"


def _in_tenant(search: Search, tenant_id: str | None, records: Sequence[Record]) -> Iterator[Record]:
    """The records with what the destination allows in their tenant; None for one that is yet to be made."""
    networks = {record.ref: _networks(search, record) for record in records}
    closed = closed_networks(search.destination, {i for ids in networks.values() for i in ids}, tenant_id)
    items_max = metadata_max(search.destination, tenant_id)
    for_tags = supports(search.destination, BOOT_TAGS)
    for record in records:
        names = sorted(closed[i] for i in networks[record.ref] if i in closed)
        notes = (*record.notes, *_untaken(search.destination, record.data))
        known = replace(record, must_exist="; ".join(map(_not_shared, names)), notes=notes)
        yield _with_room(known, items_max, for_tags)


def _networks(search: Search, record: Record) -> list[str]:
    """The networks of the destination that a server gets NICs on, as far as they are there, and not shared for it."""
    if any(need.kind == "rbac_policy" for need in record.needs):
        return []
    twins = (search.ids.get(need) for need in record.needs if need.kind == "network")
    return [twin for twin in twins if twin]


def _with_room(record: Record, items_max: int, for_tags: bool) -> Record:
    items = len(record.data["metadata"])
    if 0 <= items_max < items:
        note = f"its tenant's quota of metadata items at the destination is {items_max}: it has {items}"
        record = replace(record, notes=(*record.notes, note))
    room = has_room(record.data, items_max, for_tags=for_tags)
    return record if room or record.must_exist else replace(record, must_exist=_NO_ROOM)


def _not_shared(name: str) -> str:
    return (
        f"network {name} is not shared with this tenant at the destination: share it there, or migrate the tenant "
        "that it belongs to once more, now that this one is there; then plan again"
    )


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The server that carries the stamp, else those of the same name."""
    tenants = {record.ref: search.ids.get(Ref("tenant", record.data["tenant_id"])) for record in records}
    servers = {tenant: servers_of(search.destination, tenant) for tenant in set(tenants.values()) if tenant}
    found = {
        record.ref: _candidates(record, servers.get(tenants[record.ref] or "", [])) for record in records
    }
    ours = {server["id"] for listed in found.values() for server in listed if stamp_of(server)}
    parts: dict[str, set[Ref]] = defaultdict(set)
    for port in PORTS.by(search.destination, "device_id", ours):
        parts[port["device_id"]].add(Ref("port", port["id"]))
    for server in (server for listed in found.values() for server in listed):
        parts[server["id"]] |= {Ref("volume", volume["id"]) for volume in server.get(ATTACHED, ())}
    return {
        record.ref: [_twin(record, s, _lacking(search, record, parts[s["id"]])) for s in found[record.ref]]
        for record in records
    }


def _lacking(search: Search, record: Record, parts: Collection[Ref]) -> str:
    """What a twin has not been given, or not kept; empty when it has all.

    parts: the ports and volumes that the twin has, by their ids at the destination.
    """
    for kind, word in (("port", "NICs"), ("volume", "volumes")):
        wanted = [need for need in record.needs if need.kind == kind]
        missing = [need for need in wanted if Ref(kind, search.ids.get(need, "")) not in parts]
        if missing:
            return f"it lacks {len(missing)} of its {len(wanted)} {word}"
    return ""


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read, stop, image and copy the server; boot it; bring it to the state it was in; clean up.

    A server that an earlier run has booted is neither stopped, imaged nor copied again.
    """
    ref, title, policies = step.ref, step.record.title, migration.policies
    retrieved, settled = symbol(ref, "retrieved"), symbol(ref, "settled")
    is_new, image_id = step.destination_id is None, step.record.data["image_id"]
    copies = bool(image_id) and policies["root_disk"] == "snapshot"
    before: list[task.Task] = [
        retrieve(
            RetrieveServer,
            migration,
            step,
            planned_status=step.record.data["status"],
            planned_port_ids=step.record.data.get("port_ids", ()),
        )
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
    # Cinder lets servers reserve a volume that they share one after the other only.
    others = {i for volume in step.record.data.get("volumes", ()) for i in volume.get("shared_with", ())}
    create.after = tuple(symbol(Ref(NAME, i), "ensured") for i in sorted(others) if i < ref.id)
    stop = StopBootedServer(
        migration.destination,
        provides=settled,
        rebind=[retrieved, symbol(ref, "ensured")],
        policies=policies,
        line=f"bring {title} to its state ({state_at_destination(step.record.data, policies)})",
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
    return _said(_later(cloud, destination_id, since))


def _later(cloud: Cloud, server_id: str, since: datetime) -> list[Any]:
    actions = or_none(cloud.nova.instance_action.list, server_id) or []
    return [action for action in reversed(actions) if _started(action) > since]


def _said(actions: Iterable[Any]) -> str:
    return ", ".join(f"{action.action} at {action.start_time}" for action in actions)


def _started(action: Any) -> datetime:
    # Nova gives its times in UTC and without saying so.
    return datetime.fromisoformat(action.start_time).replace(tzinfo=UTC)


class RetrieveServer(BaseRetrieveTask):
    """Reads a server of the source; user_data, which may hold secrets, is left out."""

    def execute(
        self, resource_id: str, planned_status: str = "", planned_port_ids: Sequence[str] = ()
    ) -> Json:
        """Its fields, and a name for the attempt.

        Its status and the order of its NICs are those of the plan where stopping the server has changed the one
        and hidden the other.
        """
        data = self.retrieve(resource_id)
        stopped = (planned_status, data["status"]) == ("ACTIVE", "SHUTOFF")
        return {
            **data,
            "status": planned_status if stopped else data["status"],
            "port_ids": _as_planned(data["port_ids"], planned_port_ids),
            "attempt": uuid4().hex,
        }

    def retrieve(self, resource_id: str) -> Json:
        """Its fields, with its ports in the order of its NICs, its volumes in that of its disks, and the tags of both."""
        data = self.cloud.batch(fetch).get(resource_id).data
        data = {**data, "nic_tags": nic_tags(self.cloud, resource_id) if data["port_ids"] else {}}
        if not data["volumes"]:
            return data
        # The list of servers does not give the tags (compute API 2.70).
        attached = self.cloud.nova.volumes.get_server_volumes(resource_id)
        tags = {attachment.volumeId: getattr(attachment, "tag", None) for attachment in attached}
        return {**data, "volumes": [{**volume, "tag": tags.get(volume["id"])} for volume in data["volumes"]]}


def _as_planned(port_ids: list[str], planned: Sequence[str]) -> list[str]:
    """The ports in the planned order, if they are the planned ones."""
    return list(planned) if sorted(planned) == sorted(port_ids) else port_ids


def _records(source: Cloud, server_id: str) -> list[Record]:
    found = or_none(source.nova.servers.get, server_id)
    if found is None:
        return []
    server = found.to_dict()
    flavors = {flavor["name"]: flavor for flavor in list_flavors(source)}
    devices = _devices(source, server["tenant_id"], [server])
    ports = _ports_by_server(source, [server])[server_id]
    groups = _groups_by_server(source).get(server_id, ())
    record = _with_disk(source, _record(server, flavors, ports, devices, groups))
    return _with_keys(source, [_as_shown(source, record)])


def _with_disk(source: Cloud, record: Record) -> Record:
    """The record with the image that Nova keeps of a shelved server."""
    if not is_shelved(record.data) or not record.data["image_id"] or record.skip:
        return record
    image = shelved_image(source, record.ref.id)
    if image is None:
        gone = "it is shelved, and the image that Nova keeps of its disk is not there any more: unshelve it"
        return replace(record, skip=gone)
    data = {**record.data, "shelved_image_id": image["id"]}
    return replace(record, data=data, size_bytes=image["size"] or 0, notes=(*record.notes, NOTE))


def _as_shown(source: Cloud, record: Record) -> Record:
    """The record with notes on what Nova shows only to administrators, if to them, and without what it refers to of that."""
    notes, data = list(record.notes), record.data
    if not source.is_admin:
        notes.append(USER_DATA_UNSEEN)
    is_shown = source.is_admin and supports(source, OWNERS)
    if data["key_name"] and data["user_id"] != source.user_id and not is_shown:
        owner = f"user {data['user_id']}"
        notes.append(f"its keypair {data['key_name']} is not carried: it is shown to its owner only, {owner}")
        data = {**data, "key_name": None}
    return replace(record, data=data, notes=tuple(notes))


def _with_keys(source: Cloud, records: Sequence[Record]) -> list[Record]:
    """The records without the names of keypairs that their users have deleted; one list call for each user."""
    if not supports(source, OWNERS):
        return list(records)
    users = {record.data["user_id"] for record in records if record.data["key_name"]}
    names = {user_id: {key["name"] for key in list_keypairs(source, user_id)} for user_id in users}
    return [_with_key(record, names.get(record.data["user_id"], ())) for record in records]


def _with_key(record: Record, names: Collection[str]) -> Record:
    name = record.data["key_name"]
    if not name or name in names:
        return record
    note = (
        f"its keypair {name} does not exist any more: the server boots without the name of one, and whoever can "
        "log in by the key on its disk still can"
    )
    return replace(record, data={**record.data, "key_name": None}, notes=(*record.notes, note))


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


def _ports_by_server(source: Cloud, servers: Iterable[Json]) -> Mapping[str, tuple[list[Json], bool]]:
    """The ports of each server in the order of its NICs, also those of other tenants; and whether that is certain."""
    by_id = {server["id"]: server for server in servers}
    ports: dict[str, list[Json]] = defaultdict(list)
    for port in PORTS.by(source, "device_id", by_id):
        ports[port["device_id"]].append(port)
    return {i: in_nic_order(source, server, ports[i]) for i, server in by_id.items()}


def _record(
    server: Json,
    flavors: Mapping[str, Json],
    found: tuple[Sequence[Json], bool],
    devices: Mapping[tuple[str, str], str],
    group_ids: Iterable[str],
) -> Record:
    """The record of a server.

    found: its ports in the order of its NICs, and whether that is certain.
    """
    flavor, (ports, is_told) = _flavor(server, flavors), found
    port_ids = [port["id"] for port in ports]
    data = {
        "id": server["id"],
        "name": server["name"],
        "tenant_id": server["tenant_id"],
        "user_id": server["user_id"],
        "status": server["status"],
        "description": server.get("description"),
        "metadata": own_metadata(server["metadata"]),
        "tags": own_tags(server),
        "key_name": server["key_name"],
        "config_drive": bool(server["config_drive"]),
        "hostname": server.get("OS-EXT-SRV-ATTR:hostname"),
        "availability_zone": _zone(server),
        **{field: server[field] for field in ADDRESSES if server.get(field)},
        "locked": server.get("locked", False),
        "locked_reason": server.get("locked_reason"),
        "image_id": (server["image"] or {}).get("id"),
        "flavor_id": flavor["id"] if flavor else None,
        "port_ids": port_ids,
        "server_group_ids": sorted(group_ids),
        "volumes": _volumes(server, devices),
    }
    needs = [Ref("tenant", server["tenant_id"]), *(Ref("port", port_id) for port_id in port_ids)]
    needs += [Ref("network", network_id) for network_id in sorted({port["network_id"] for port in ports})]
    # A volume is not told what kernel its server boots by.
    boot_images = _BOOT_IMAGES if server["image"] else ()
    needs += [Ref("image", server[field]) for field in boot_images if server.get(field)]
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
        notes=(*_notes(server, flavor), *(() if is_told else (untold(ports),))),
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
            **_sharing(server["id"], volume["id"], devices),
        }
        for volume in server.get(ATTACHED, [])
    ]
    ordered = sorted(volumes, key=lambda volume: _disk_number(volume["device"], root_device))
    from_volume = not server["image"]
    return [{**volume, "is_root": from_volume and n == 0} for n, volume in enumerate(ordered)]


def _sharing(server_id: str, volume_id: str, devices: Iterable[tuple[str, str]]) -> Json:
    others = sorted(other for other, volume in devices if volume == volume_id and other != server_id)
    return {"shared_with": others} if others else {}


def _zone(server: Json) -> str | None:
    """The availability zone that a server was asked for; Nova tells it since 2.96, and before it only where it is."""
    if "pinned_availability_zone" in server:
        return server["pinned_availability_zone"] or None
    return server.get("OS-EXT-AZ:availability_zone") or None


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


def _skip(server: Json, flavor: Json | None) -> str:
    if server.get(TASK):
        return f"Nova is at work on it ({server[TASK]}): wait, then plan again"
    if server["status"] == OFFLOADED and server.get(ATTACHED):
        return (
            "it is shelved, and Cinder copies none of its volumes for as long as they are reserved for it: "
            "unshelve and stop it, then plan again"
        )
    if server["status"] not in _MIGRATABLE:
        return _refused(server)
    if not server["image"] and not server.get(ATTACHED):
        return "it has neither an image nor a volume to boot from"
    if flavor is None:
        return "its flavor does not exist any more at the source: resize it to one that does, then plan again"
    return ""


def _refused(server: Mapping[str, Any]) -> str:
    """Why a server in a state that no image can be made of is not moved, and what to do."""
    status = server["status"]
    if status not in BROKEN:
        return f"its status is {status}: bring it to ACTIVE or SHUTOFF, then plan again"
    forced = "" if server["image"] else ", or move its volumes as they are by policies.broken_servers: move"
    return f"its status is {status}: {BROKEN[status].format(id=server['id'])}; then plan again{forced}"


def _notes(server: Json, flavor: Json | None) -> tuple[str, ...]:
    notes = []
    if flavor and (flavor["ephemeral"] or flavor["swap"]):
        notes.append("its ephemeral and swap disks arrive empty: a snapshot does not hold them")
    return tuple(notes)


def _candidates(record: Record, servers: Iterable[Json]) -> list[Json]:
    """The servers that carry the stamp, else those of the same name; none that never came up."""
    sound = [server for server in servers if not (_is_twin(record, server) and is_broken(server))]
    ours = [server for server in sound if _is_twin(record, server)]
    return ours or [server for server in sound if server["name"] == record.name]


def _is_twin(record: Record, server: Json) -> bool:
    return stamp_of(server) == record.ref.id


def _twin(record: Record, server: Json, lacking: str) -> Twin:
    actual = {
        **server,
        "metadata": own_metadata(server["metadata"]),
        "hostname": server.get("OS-EXT-SRV-ATTR:hostname"),
    }
    actual |= {"config_drive": bool(server["config_drive"]), "tags": own_tags(server)}
    found = differences(record.data, actual, FIELDS)
    if server["status"] == "ERROR":
        found = (f"its status is {server['status']}", *found)
    unfinished = "an earlier run ended before it was complete" if is_unfinished(server) else lacking
    return Twin(server["id"], _is_twin(record, server), found, unfinished)


def strangers(cloud: Cloud, tenant_id: str) -> list[str]:
    """The servers of a tenant that no migration has made."""
    return [server["id"] for server in servers_of(cloud, tenant_id) if not stamp_of(server)]


def find_anywhere(source: Cloud, wanted: Json) -> list[Found]:
    """The servers of that id or name, in whichever tenant."""
    # Nova takes a name for a regular expression that a part of the name has to match, so it only narrows down.
    narrow = {"name": re.sub(r"[^\w-]", ".", wanted["name"])} if "name" in wanted else {}
    filters = {"uuid": wanted["id"]} if "id" in wanted else narrow
    everywhere = {"all_tenants": 1} if source.is_admin else {}
    items = get_all(source.adapter("compute"), "/servers/detail", "servers", **everywhere, **filters)
    return matching(items, wanted, "tenant_id")


def used(source: Cloud, record: Record, since: datetime) -> str:
    """What has been done with a server of the source since it was copied; empty when nothing."""
    if record.data["status"] == "ACTIVE":
        return "it is running"
    # Whoever deletes it may have begun before.
    return _said(a for a in _later(source, record.ref.id, since) if a.action != "delete")


_WAVE_TAG = "wave-"


def _waves(record: Record) -> list[str]:
    """The waves that an operator has put a server into: by a tag such as `wave-1`, or metadata such as `wave=1`."""
    tagged = [tag.removeprefix(_WAVE_TAG) for tag in record.data["tags"] if tag.startswith(_WAVE_TAG)]
    return [*tagged, *filter(None, [record.data["metadata"].get("wave")])]


CONDITIONS: dict[str, Callable[[Record], Collection[str]]] = {
    "name": lambda record: [record.name],
    "tag": lambda record: record.data["tags"],
    "metadata": lambda record: [f"{key}={value}" for key, value in record.data["metadata"].items()],
    "wave": _waves,
    "zone": lambda record: [record.answer.get("OS-EXT-AZ:availability_zone") or ""],
    "host": lambda record: [record.answer.get("OS-EXT-SRV-ATTR:host") or ""],
}


KIND = Kind(
    NAME,
    "compute",
    discover,
    fetch,
    find,
    tasks,
    moved_by=("image", "network"),
    acts_in_tenant=True,
    adapt=adapt,
    apply_policies=apply_policies,
    as_before=as_before,
    changed=changed,
    mapped_names={"availability_zones": lambda cloud, wanted: Names(server_zones(cloud, also_down=True))},
    nameable=True,
    conditions=CONDITIONS,
    strangers=strangers,
    temporaries=temporaries,
    find_anywhere=find_anywhere,
    unmark=unmark,
    remove=lambda cloud, record: remove(cloud, record.ref.id),
    used=used,
    fields=Fields(
        carried="name description metadata tags accessIPv4 accessIPv6 config_drive status locked locked_reason "
        "OS-EXT-SRV-ATTR:hostname OS-EXT-SRV-ATTR:user_data os-extended-volumes:volumes_attached/delete_on_termination "
        "interfaceAttachments/tag volumeAttachments/tag volumeAttachments/device volumeAttachments/delete_on_termination",
        mapped={
            "tenant_id": "the tenant's twin",
            "key_name": "the keypair's twin",
            "flavor": "the flavor's twin",
            "image": "the bytes of its disk, or the image's twin",
            "os-extended-volumes:volumes_attached/id": "the volume's twin",
            "interfaceAttachments/port_id": "the port's twin",
            "volumeAttachments/volumeId": "the volume's twin",
            "addresses": "its ports' twins",
            "security_groups": "its ports' twins",
            "server_groups": "the server group's twin",
            "scheduler_hints/group": "the server group's twin",
            **dict.fromkeys(
                ("pinned_availability_zone", "OS-EXT-AZ:availability_zone"),
                "mappings.availability_zones, else the same name",
            ),
            **dict.fromkeys(_BOOT_IMAGES, "the image's twin"),
        },
        derived="id links created updated progress fault hostId host_status "
        "OS-EXT-STS:task_state OS-EXT-STS:vm_state OS-EXT-STS:power_state "
        "OS-SRV-USG:launched_at OS-SRV-USG:terminated_at OS-EXT-SRV-ATTR:host OS-EXT-SRV-ATTR:instance_name "
        "OS-EXT-SRV-ATTR:hypervisor_hostname "
        "OS-EXT-SRV-ATTR:launch_index OS-EXT-SRV-ATTR:reservation_id OS-EXT-SRV-ATTR:root_device_name "
        "interfaceAttachments/net_id interfaceAttachments/mac_addr interfaceAttachments/port_state "
        "interfaceAttachments/fixed_ips volumeAttachments/id volumeAttachments/serverId "
        "volumeAttachments/attachment_id volumeAttachments/bdm_uuid",
        noted={
            "user_id": "it becomes the operator's own server in the tenant: Nova gives it to who boots it",
            "OS-DCF:diskConfig": Noted(
                "that Nova adapts its disk to a new size ({value}) is not carried", ("MANUAL",)
            ),
            "trusted_image_certificates": "its trusted image certificates {value} are not carried: "
            "they lie in the source's Barbican",
            "scheduler_hints/*": "{name} ({value}) is not carried: Nova chose its host at the source by that",
        },
        summary="root disk with its bytes; NICs and volumes in their order; boot from volume; a flavor that was deleted at the source, too; ACTIVE, SHUTOFF or shelved",
    ),
)

"""Servers: stopped, imaged, copied and booted on ports that were made before, with the bytes of their disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from taskflow import task

from pumphouse.errors import ConflictError, PumphouseError, http_status
from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    STAMP,
    BaseCloudTask,
    BaseEnsureFromSourceTask,
    BaseRetrieveTask,
    Before,
    Migration,
    Search,
    differences,
    ensure,
    ensured_id,
    kept,
    retrieve,
    symbol,
    undo,
)
from pumphouse.tasks.boot_key import boot_key
from pumphouse.tasks.neutron import PORTS
from pumphouse.tasks.nova import (
    STATE_TIMEOUT_S,
    TASK,
    bring_to,
    servers_by_key,
    servers_of,
    wait_for_server,
)
from pumphouse.tasks.snapshot import ENSURED, UPLOADED, copy_tasks, removal_tasks
from pumphouse.wait import wait_for

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "server"
ACTS_IN_TENANT = True
FIELDS = ("name", "description", "metadata", "tags", "key_name", "config_drive", "hostname", "locked")
BOOT_TIMEOUT_S = 1800.0
# The metadata key that a server has from its create call until nothing is left to do for it.
UNFINISHED = "pumphouse_unfinished"
_ARRIVES_SHUTOFF = ("PAUSED", "SUSPENDED")
_MIGRATABLE = ("ACTIVE", "SHUTOFF", *_ARRIVES_SHUTOFF)
# The microversion from which Nova takes a field of the create call (compute API history).
_SINCE = {"description": (2, 19), "tags": (2, 52), "hostname": (2, 90)}
_GIB = 1 << 30


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The servers of the tenant, with the ports and flavors they were given; three list calls."""
    servers = servers_of(source, tenant_id)
    flavors = {flavor.name: flavor for flavor in source.nova.flavors.list(is_public=None)} if servers else {}
    ports = _ports_by_server(source, [server["id"] for server in servers])
    return [_record(server, flavors, ports[server["id"]]) for server in servers]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """Servers by id, one call each: Nova lists by id only one, and what follows takes far longer."""
    records = [record for server_id in ids for record in _records(source, server_id)]
    return {record.ref.id: record for record in records}


def under(record: Record, policies: Mapping[str, Any]) -> Record:
    """The record as the policy for root disks makes it: with an image instead of bytes of its own."""
    if policies["root_disk"] == "snapshot" or record.skip:
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
    copies = policies["root_disk"] == "snapshot"
    before: list[task.Task] = [
        retrieve(RetrieveServer, migration, step, planned_status=step.record.data["status"])
    ]
    still, image, also = retrieved, None, []
    if step.destination_id is None:
        if policies["source_servers"] == "stop" and step.record.data["status"] == "ACTIVE":
            still, line = symbol(ref, "stopped"), f"stop {title} at the source"
            before.append(StopServer(migration.source, provides=still, rebind=[retrieved], line=line))
        image = symbol(Ref("image", step.record.data["image_id"]), "ensured")
        if copies:
            image, also = symbol(ref, ENSURED), [symbol(ref, ENSURED), symbol(ref, UPLOADED)]
            before += copy_tasks(migration, step, still)
    create = ensure(
        EnsureServer,
        [migration.source, migration.destination],
        step,
        line=f"boot {title}" if image else f"wait for {title}",
        also_requires=also,
        image_symbol=image,
        zones=migration.settings["mappings"]["availability_zones"],
    )
    settle = SettleServer(
        migration.destination,
        provides=settled,
        rebind=[retrieved, symbol(ref, "ensured")],
        line=f"bring {title} to its state ({_state_at_destination(step.record.data)})",
    )
    removal = removal_tasks(migration, step, settled) if copies else []
    complete = CompleteServer(
        migration.destination,
        provides=symbol(ref, "completed"),
        rebind=[symbol(ref, "ensured"), removal[-1].name if removal else settled],
        line=f"mark {title} as complete",
    )
    return [*before, create, settle, *removal, complete]


def changed(cloud: Cloud, destination_id: str, since: datetime) -> str:
    """What somebody has had Nova do with the server of the destination; empty when nothing.

    since: an aware time, by the destination's clock, at which the migration was done with it.
    """
    try:
        actions = cloud.nova.instance_action.list(destination_id)
    except Exception as error:
        if http_status(error) == 404:
            return ""
        raise
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
        """Its fields, with its ports in the order of its NICs."""
        return self.cloud.batch(fetch).get(resource_id).data


class StopServer(BaseCloudTask):
    """Stops a server of the source, so that its disk stands still."""

    def execute(self, data: Json) -> Json:
        """Stop it and wait; provides whether it ran."""
        bring_to(self.cloud, data["tenant_id"], data["id"], "SHUTOFF", self.cloud.nova.servers.stop)
        return {"ran": data["status"] == "ACTIVE"}

    def revert(self, data: Json, result: Any, **_: Any) -> Json | None:
        """Start it again, also when it died while it stopped it."""
        return kept(undo(self.name, self._start, data) if data["status"] == "ACTIVE" else "")

    def _start(self, data: Json) -> None:
        self.cloud.nova.servers.get(data["id"])  # one that was deleted needs no start
        bring_to(self.cloud, data["tenant_id"], data["id"], "ACTIVE", self.cloud.nova.servers.start)


class EnsureServer(BaseEnsureFromSourceTask):
    """Finds or boots the server at the destination, in the tenant's name, on the ports made for it.

    image_symbol: the task that gives the image to boot; None where the server has to be there.
    """

    def __init__(
        self, *clouds: Cloud, image_symbol: str | None, zones: Mapping[str, str], **kwargs: Any
    ) -> None:
        super().__init__(*clouds, **kwargs)
        self.image_symbol = image_symbol
        self.zones = zones

    def find(self, data: Json, ensured: Mapping[str, Json]) -> str | None:
        """The stamped server; one that did not come up is removed."""
        ids = []
        for server in self._stamped(data, ensured):
            if _is_broken(server):
                self.remove(server["id"])
            else:
                ids.append(str(server["id"]))
        if len(ids) > 1:
            raise ConflictError(
                f"{len(ids)} servers of the destination carry the stamp of {data['id']}: {', '.join(ids)}",
                "delete those that are not in use",
            )
        return ids[0] if ids else None

    def leftovers(self, data: Json, ensured: Mapping[str, Json]) -> list[str]:
        """The stamped servers that were not completed, in whatever state they are."""
        return [server["id"] for server in self._stamped(data, ensured) if UNFINISHED in server["metadata"]]

    def _stamped(self, data: Json, ensured: Mapping[str, Json]) -> list[Json]:
        tenant_id = ensured_id(ensured, "tenant", data["tenant_id"])
        return self.destination.batch(_stamped).get(f"{tenant_id}/{data['id']}")

    def create(self, data: Json, ensured: Mapping[str, Json]) -> str:
        """Have Nova boot it, with the user_data read afresh."""
        if self.image_symbol is None:
            raise PumphouseError(f"server {data['name']} is no longer at the destination", "plan again")
        tenant_id = ensured_id(ensured, "tenant", data["tenant_id"])
        source = self.source.nova.servers.get(data["id"]).to_dict()
        image_id = ensured[self.image_symbol]["id"]
        server = self._body(data, ensured, image_id, source.get("OS-EXT-SRV-ATTR:user_data"))
        body = {"server": server, **_hints(data, ensured)}
        with self.destination.in_tenant(tenant_id) as tenant_cloud, self._key(data):
            try:
                _, answer = tenant_cloud.nova.client.post("/servers", body=body)
            except Exception as error:
                # Where the operator's role was taken away meanwhile, Nova itself answers 401, or 400 or 403
                # for what Glance and Neutron answered it; nothing was made then.
                refused = http_status(error) in (400, 401, 403)
                if not refused or not self.destination.renew_tenant(tenant_id):
                    raise
                _, answer = tenant_cloud.nova.client.post("/servers", body=body)
        return str(answer["server"]["id"])

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Json]) -> None:
        """Wait until it has come up."""
        wait_for_server(
            self.destination,
            ensured_id(ensured, "tenant", data["tenant_id"]),
            destination_id,
            lambda server: bool(server["status"] != "BUILD" and not server.get(TASK)),
            title=f"server {data['name']} booting",
            timeout_s=BOOT_TIMEOUT_S,
        )

    def remove(self, destination_id: str) -> None:
        """Delete the server and wait until its ports are free."""
        server = self.destination.nova.servers.get(destination_id).to_dict()
        if server["locked"]:
            self.destination.nova.servers.unlock(destination_id)
        if server.get(TASK) != "deleting":
            self.destination.nova.servers.delete(destination_id)
        wait_for(
            self.destination.batch(servers_by_key),
            f"{server['tenant_id']}/{destination_id}",
            lambda found: found is None,
            title=f"deletion of server {server['name']}",
            timeout_s=STATE_TIMEOUT_S,
        )

    def _key(self, data: Json) -> Any:
        """The keypair has to be the operator's own for as long as the create call takes."""
        if not data["key_name"]:
            return nullcontext()
        return boot_key(self.source, self.destination, data["user_id"], data["key_name"])

    def _body(self, data: Json, ensured: Mapping[str, Json], image_id: str, user_data: str | None) -> Json:
        body = {
            "name": data["name"],
            "imageRef": image_id,
            "flavorRef": ensured_id(ensured, "flavor", data["flavor_id"]),
            "networks": [{"port": ensured_id(ensured, "port", port_id)} for port_id in data["port_ids"]]
            or "none",
            "metadata": {**data["metadata"], STAMP: data["id"], UNFINISHED: "yes"},
            "config_drive": data["config_drive"],
            "description": data["description"],
            "tags": data["tags"],
            "hostname": data["hostname"],
            "key_name": data["key_name"],
            "user_data": user_data,
            "availability_zone": self._zone(data["availability_zone"]),
        }
        version = self.destination.nova.api_version
        known = (version.ver_major, version.ver_minor)
        return {
            key: value
            for key, value in body.items()
            if value not in (None, "") and known >= _SINCE.get(key, (2, 1))
        }

    def _zone(self, zone: str | None) -> str | None:
        if zone is None or zone in self.zones:
            return self.zones.get(zone or "")
        zones = {found.zoneName for found in self.destination.nova.availability_zones.list(detailed=False)}
        return zone if zone in zones else None


def _hints(data: Json, ensured: Mapping[str, Json]) -> Json:
    """What has Nova make the server a member of its group; Nova lets it be in one only."""
    groups = [ensured_id(ensured, "server_group", group_id) for group_id in data["server_group_ids"]]
    return {"os:scheduler_hints": {"group": groups[0]}} if groups else {}


class SettleServer(BaseCloudTask):
    """Stops the booted server if the source's was not running, and locks it if that was locked."""

    def execute(self, data: Json, server: Json) -> Json:
        """Bring it to its state."""
        servers, server_id = self.cloud.nova.servers, server["id"]
        if _state_at_destination(data) == "SHUTOFF":
            tenant_id = servers.get(server_id).tenant_id
            bring_to(self.cloud, tenant_id, server_id, "SHUTOFF", servers.stop)
        if data["locked"]:
            servers.lock(server_id)
        return {"id": server_id}


class CompleteServer(BaseCloudTask):
    """Takes the mark off a server that says that something is left to do for it."""

    def execute(self, server: Json, last: Json) -> Json:
        """Delete the metadata key."""
        try:
            self.cloud.nova.servers.delete_meta(server["id"], [UNFINISHED])
        except Exception as error:
            if http_status(error) != 404:
                raise
        return {"id": server["id"]}


def _stamped(cloud: Cloud, keys: Collection[str]) -> dict[str, list[Json]]:
    """Servers by `<tenant id>/<id of the source's server>`, with one list call for each tenant."""
    found: dict[str, list[Json]] = {key: [] for key in keys}
    for server in servers_by_key(cloud, keys).values():
        found.setdefault(f"{server['tenant_id']}/{server['metadata'].get(STAMP)}", []).append(server)
    return found


def _is_broken(server: Json) -> bool:
    """Whether a server never came up, or is going; one that has served and went to ERROR later is not broken."""
    gone = server.get(TASK) == "deleting" or server["status"] == "ERROR"
    return gone and UNFINISHED in server["metadata"]


def _records(source: Cloud, server_id: str) -> list[Record]:
    try:
        server = source.nova.servers.get(server_id).to_dict()
    except Exception as error:
        if http_status(error) == 404:
            return []
        raise
    flavors = {flavor.name: flavor for flavor in source.nova.flavors.list(is_public=None)}
    return [_record(server, flavors, _ports_by_server(source, [server_id])[server_id])]


def _ports_by_server(source: Cloud, server_ids: Collection[str]) -> Mapping[str, list[Json]]:
    """The ports of each server, also those that another tenant owns."""
    ports: dict[str, list[Json]] = defaultdict(list)
    for port in PORTS.by(source, "device_id", server_ids):
        ports[port["device_id"]].append(port)
    return ports


def _record(server: Json, flavors: Mapping[str, Any], ports: Sequence[Json]) -> Record:
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
        "image_id": (server["image"] or {}).get("id"),
        "flavor_id": flavor["id"] if flavor else None,
        "port_ids": port_ids,
        "server_group_ids": list(server.get("server_groups") or ()),
    }
    needs = [Ref("tenant", server["tenant_id"]), *(Ref("port", port_id) for port_id in port_ids)]
    needs += [Ref("server_group", group_id) for group_id in data["server_group_ids"]]
    # A port whose server has booted cannot become the parent of a trunk any more.
    needs += [Ref("trunk", port["trunk_details"]["trunk_id"]) for port in ports if port.get("trunk_details")]
    return Record(
        Ref(NAME, server["id"]),
        server["name"],
        data,
        (*needs, Ref("flavor", flavor["id"])) if flavor else tuple(needs),
        size_bytes=max(1, flavor["disk"]) * _GIB if flavor else 0,
        notes=_notes(server, flavor),
        skip=_skip(server, flavor),
    )


def _flavor(server: Json, flavors: Mapping[str, Any]) -> Json | None:
    """The flavor of a server; one that was deleted, or has become another, as the server itself tells of it.

    Servers tell of their flavors since microversion 2.47 (Pike).
    """
    told = server["flavor"]
    found = flavors.get(told.get("original_name")) or next(
        (flavor for flavor in flavors.values() if flavor.id == told.get("id")), None
    )
    if found and all(told.get(field, value) == value for field, value in _sizes(found).items()):
        return {"id": found.id, **_sizes(found)}
    return {**told, "id": f"deleted.{server['id']}"} if "ram" in told else None


def _sizes(flavor: Any) -> Json:
    sizes = {field: getattr(flavor, field) for field in ("ram", "vcpus", "disk", "ephemeral")}
    return {**sizes, "swap": flavor.swap or 0}


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
    if not server["image"]:
        return "it boots from a volume, and volumes are not carried"
    if flavor is None:
        return "its flavor does not exist any more at the source: resize it to one that does, then plan again"
    return ""


def _notes(server: Json, flavor: Json | None) -> tuple[str, ...]:
    volumes = [volume["id"] for volume in server.get("os-extended-volumes:volumes_attached", [])]
    notes = ["it becomes the operator's own server in the tenant: Nova gives it to who boots it"]
    notes += [
        f"needs volume {volume_id}, which is not carried: attach a copy by hand" for volume_id in volumes
    ]
    if flavor and (flavor["ephemeral"] or flavor["swap"]):
        notes.append("its ephemeral and swap disks arrive empty: a snapshot does not hold them")
    if server["status"] in _ARRIVES_SHUTOFF:
        notes.append(f"is {server['status']} and arrives SHUTOFF: its memory is not carried")
    return tuple(notes)


def _state_at_destination(data: Json) -> str:
    return "ACTIVE" if data["status"] == "ACTIVE" else "SHUTOFF"


def _twins(record: Record, servers: Iterable[Json]) -> list[Twin]:
    sound = [server for server in servers if not (_is_twin(record, server) and _is_broken(server))]
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

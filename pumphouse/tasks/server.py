"""Servers: stopped, imaged, copied and booted on ports that were made before, with the bytes of their disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.errors import WaitError, http_status
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
    retrieve,
    symbol,
    undo,
)
from pumphouse.tasks.boot_key import boot_key
from pumphouse.tasks.neutron import PORTS
from pumphouse.tasks.snapshot import ENSURED, UPLOADED, snapshot_tasks
from pumphouse.wait import wait_for

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "server"
ACTS_IN_TENANT = True
FIELDS = ("name", "description", "metadata", "tags", "key_name", "config_drive", "hostname", "locked")
BOOT_TIMEOUT_S = 1800.0
STOP_TIMEOUT_S = 600.0
_ARRIVES_SHUTOFF = ("PAUSED", "SUSPENDED")
_MIGRATABLE = ("ACTIVE", "SHUTOFF", *_ARRIVES_SHUTOFF)
# The microversion from which Nova takes a field of the create call (compute API history).
_SINCE = {"description": (2, 19), "tags": (2, 52), "hostname": (2, 90)}
_GIB = 1 << 30


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The servers of the tenant, with the ports and flavors they were given; three list calls."""
    servers = _list(source, tenant_id)
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
    servers = {tenant: _list(search.destination, tenant) for tenant in set(tenants.values()) if tenant}
    return {record.ref: _twins(record, servers.get(tenants[record.ref] or "", [])) for record in records}


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read, stop, image and copy the server; boot it; bring it to the state it was in; clean up."""
    ref, title, policies = step.ref, step.record.title, migration.policies
    retrieved, ensured = symbol(ref, "retrieved"), symbol(ref, "ensured")
    stops = policies["source_servers"] == "stop" and step.record.data["status"] == "ACTIVE"
    copies = policies["root_disk"] == "snapshot"
    before: list[task.Task] = [retrieve(RetrieveServer, migration, step)]
    if stops:
        stopped = symbol(ref, "stopped")
        stop = StopServer(
            migration.source, provides=stopped, rebind=[retrieved], line=f"stop {title} at the source"
        )
        stop.undo_line = f"start {title} at the source again"
        before.append(stop)
    image = symbol(ref, ENSURED) if copies else symbol(Ref("image", step.record.data["image_id"]), "ensured")
    create = ensure(
        EnsureServer,
        [migration.source, migration.destination],
        step,
        line=f"boot {title}",
        also_requires=[image, symbol(ref, UPLOADED)] if copies else [],
        image_symbol=image,
        zones=migration.settings["mappings"]["availability_zones"],
    )
    settle = SettleServer(
        migration.destination,
        provides=symbol(ref, "settled"),
        rebind=[retrieved, ensured],
        line=f"bring {title} to its state ({_state_at_destination(step.record.data)})",
    )
    if not copies:
        return [*before, create, settle]
    still = symbol(ref, "stopped") if stops else retrieved
    first, last = snapshot_tasks(migration, step, still, settled=symbol(ref, "settled"))
    return [*before, *first, create, settle, *last]


class RetrieveServer(BaseRetrieveTask):
    """Reads a server of the source; user_data, which may hold secrets, is left out."""

    def retrieve(self, resource_id: str) -> Json:
        """Its fields, with its ports in the order of its NICs."""
        return self.cloud.batch(fetch).get(resource_id).data


class StopServer(BaseCloudTask):
    """Stops a server of the source, so that its disk stands still."""

    def execute(self, data: Json) -> Json:
        """Stop it and wait; provides whether it ran."""
        server = self.cloud.nova.servers.get(data["id"])
        if server.status == "SHUTOFF":
            return {"ran": data["status"] == "ACTIVE"}
        self.cloud.nova.servers.stop(server)
        _wait_for_status(self.cloud, data["tenant_id"], data["id"], "SHUTOFF", STOP_TIMEOUT_S)
        return {"ran": True}

    def revert(self, data: Json, result: Any, **_: Any) -> None:
        """Start it again."""
        if not isinstance(result, dict) or result["ran"]:
            undo(self.name, self._start, data)

    def _start(self, data: Json) -> None:
        if self.cloud.nova.servers.get(data["id"]).status == "SHUTOFF":
            self.cloud.nova.servers.start(data["id"])
            _wait_for_status(self.cloud, data["tenant_id"], data["id"], "ACTIVE", STOP_TIMEOUT_S)


class EnsureServer(BaseEnsureFromSourceTask):
    """Finds or boots the server at the destination, in the tenant's name, on the ports made for it."""

    def __init__(self, *clouds: Cloud, image_symbol: str, zones: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*clouds, **kwargs)
        self.image_symbol = image_symbol
        self.zones = zones

    def find(self, data: Json, ensured: Mapping[str, Json]) -> str | None:
        """The stamped server; one that did not come up is removed."""
        tenant_id = ensured_id(ensured, "tenant", data["tenant_id"])
        try:
            server = self.destination.batch(_stamped).get(f"{tenant_id}/{data['id']}")
        except KeyError:
            return None
        if server["status"] != "ERROR":
            return str(server["id"])
        self.remove(server["id"])
        return None

    def create(self, data: Json, ensured: Mapping[str, Json]) -> str:
        """Boot it, with the user_data read afresh, and wait until it is ACTIVE."""
        tenant_id = ensured_id(ensured, "tenant", data["tenant_id"])
        source = self.source.nova.servers.get(data["id"]).to_dict()
        body = self._body(data, ensured, source.get("OS-EXT-SRV-ATTR:user_data"))
        with self.destination.in_tenant(tenant_id) as tenant_cloud, self._key(data):
            _, answer = tenant_cloud.nova.client.post("/servers", body={"server": body})
        server_id = str(answer["server"]["id"])
        try:
            _wait_for_status(self.destination, tenant_id, server_id, "ACTIVE", BOOT_TIMEOUT_S)
        except BaseException:
            self.undo(server_id)
            raise
        return server_id

    def remove(self, destination_id: str) -> None:
        """Delete the server and wait until its ports are free."""
        server = self.destination.nova.servers.get(destination_id).to_dict()
        if server["locked"]:
            self.destination.nova.servers.unlock(destination_id)
        self.destination.nova.servers.delete(destination_id)
        wait_for(
            self.destination.batch(_by_key),
            f"{server['tenant_id']}/{destination_id}",
            lambda found: found is None,
            title=f"deletion of server {server['name']}",
            timeout_s=STOP_TIMEOUT_S,
        )

    def _key(self, data: Json) -> Any:
        """The keypair has to be the operator's own for as long as the create call takes."""
        if not data["key_name"]:
            return nullcontext()
        return boot_key(self.source, self.destination, data["user_id"], data["key_name"])

    def _body(self, data: Json, ensured: Mapping[str, Json], user_data: str | None) -> Json:
        body = {
            "name": data["name"],
            "imageRef": ensured[self.image_symbol]["id"],
            "flavorRef": ensured_id(ensured, "flavor", data["flavor_id"]),
            "networks": [{"port": ensured_id(ensured, "port", port_id)} for port_id in data["port_ids"]]
            or "none",
            "metadata": {**data["metadata"], STAMP: data["id"]},
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


class SettleServer(BaseCloudTask):
    """Stops the booted server if the source's was not running, and locks it if that was locked."""

    def execute(self, data: Json, server: Json) -> Json:
        """Bring it to its state."""
        actual = self.cloud.nova.servers.get(server["id"]).to_dict()
        if _state_at_destination(data) == "SHUTOFF" and actual["status"] == "ACTIVE":
            self.cloud.nova.servers.stop(server["id"])
            _wait_for_status(self.cloud, actual["tenant_id"], server["id"], "SHUTOFF", STOP_TIMEOUT_S)
        if data["locked"]:
            self.cloud.nova.servers.lock(server["id"])
        return {"id": server["id"]}


def _list(cloud: Cloud, tenant_id: str) -> list[Json]:
    options = {"all_tenants": 1, "project_id": tenant_id}
    servers = [server.to_dict() for server in cloud.nova.servers.list(search_opts=options, limit=-1)]
    return [server for server in servers if server["tenant_id"] == tenant_id]


def _by_key(cloud: Cloud, keys: Collection[str]) -> dict[str, Json]:
    """Servers by `<tenant id>/<server id>`, with one list call for each tenant."""
    tenants = {key.partition("/")[0] for key in keys}
    return {f"{tenant}/{server['id']}": server for tenant in tenants for server in _list(cloud, tenant)}


def _stamped(cloud: Cloud, keys: Collection[str]) -> dict[str, Json]:
    """Servers by `<tenant id>/<id of the source's server>`, with one list call for each tenant."""
    servers = _by_key(cloud, keys).values()
    return {f"{server['tenant_id']}/{server['metadata'].get(STAMP)}": server for server in servers}


def _wait_for_status(cloud: Cloud, tenant_id: str, server_id: str, status: str, timeout_s: float) -> None:
    def done(server: Json | None) -> bool:
        if server is None:
            raise WaitError(f"server {server_id} has disappeared while it was to become {status}")
        if server["status"] == "ERROR":
            fault = server.get("fault", {}).get("message", "Nova gives no reason")
            raise WaitError(
                f"server {server['name']} went to ERROR: {fault}", "ask the cloud's administrator why"
            )
        return bool(server["status"] == status and not server.get("OS-EXT-STS:task_state"))

    title = f"server {server_id} becoming {status}"
    wait_for(cloud.batch(_by_key), f"{tenant_id}/{server_id}", done, title=title, timeout_s=timeout_s)


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


def _record(server: Json, flavors: Mapping[str, Any], ports: Iterable[Json]) -> Record:
    name = server["flavor"].get("original_name")
    flavor = flavors.get(name) or next(
        (f for f in flavors.values() if f.id == server["flavor"].get("id")), None
    )
    port_ids = _in_nic_order(server, ports)
    data = {
        "id": server["id"],
        "name": server["name"],
        "tenant_id": server["tenant_id"],
        "user_id": server["user_id"],
        "status": server["status"],
        "description": server.get("description"),
        "metadata": server["metadata"],
        "tags": sorted(server.get("tags", [])),
        "key_name": server["key_name"],
        "config_drive": bool(server["config_drive"]),
        "hostname": server.get("OS-EXT-SRV-ATTR:hostname"),
        "availability_zone": server.get("pinned_availability_zone"),
        "locked": server.get("locked", False),
        "image_id": (server["image"] or {}).get("id"),
        "flavor_id": flavor.id if flavor else None,
        "port_ids": port_ids,
    }
    needs = [Ref("tenant", server["tenant_id"]), *(Ref("port", port_id) for port_id in port_ids)]
    return Record(
        Ref(NAME, server["id"]),
        server["name"],
        data,
        (*needs, Ref("flavor", flavor.id)) if flavor else tuple(needs),
        size_bytes=max(1, flavor.disk) * _GIB if flavor else 0,
        notes=_notes(server, flavor),
        skip=_skip(server, flavor),
    )


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


def _skip(server: Json, flavor: Any) -> str:
    if server.get("OS-EXT-STS:task_state"):
        return f"Nova is at work on it ({server['OS-EXT-STS:task_state']}): wait, then plan again"
    if server["status"].startswith("SHELVED"):
        return "it is shelved and has no disk to image: unshelve and stop it, then plan again"
    if server["status"] not in _MIGRATABLE:
        return f"its status is {server['status']}: bring it to ACTIVE or SHUTOFF, then plan again"
    if not server["image"]:
        return "it boots from a volume, and volumes are not carried"
    if flavor is None:
        return "its flavor does not exist any more at the source: resize it to one that does, then plan again"
    return ""


def _notes(server: Json, flavor: Any) -> tuple[str, ...]:
    volumes = [volume["id"] for volume in server.get("os-extended-volumes:volumes_attached", [])]
    floating = [a["addr"] for addresses in server["addresses"].values() for a in addresses if _is_floating(a)]
    notes = ["it becomes the operator's own server in the tenant: Nova gives it to who boots it"]
    notes += [
        f"needs volume {volume_id}, which is not carried: attach a copy by hand" for volume_id in volumes
    ]
    notes += [
        f"needs floating IP {address}, which is not carried: associate one by hand" for address in floating
    ]
    notes += [
        f"needs server group {group}, which is not carried" for group in server.get("server_groups") or []
    ]
    if flavor and (flavor.ephemeral or flavor.swap):
        notes.append("its ephemeral and swap disks arrive empty: a snapshot does not hold them")
    if server["status"] in _ARRIVES_SHUTOFF:
        notes.append(f"is {server['status']} and arrives SHUTOFF: its memory is not carried")
    return tuple(notes)


def _is_floating(address: Json) -> bool:
    return bool(address["OS-EXT-IPS:type"] == "floating")


def _state_at_destination(data: Json) -> str:
    return "ACTIVE" if data["status"] == "ACTIVE" else "SHUTOFF"


def _twins(record: Record, servers: Iterable[Json]) -> list[Twin]:
    candidates = [server for server in servers if server["metadata"].get(STAMP) == record.ref.id]
    return [
        _twin(record, server)
        for server in candidates or servers
        if server["name"] == record.name or candidates
    ]


def _twin(record: Record, server: Json) -> Twin:
    ours = server["metadata"].get(STAMP) == record.ref.id
    carried = {key: value for key, value in server["metadata"].items() if key != STAMP}
    actual = {**server, "metadata": carried, "hostname": server.get("OS-EXT-SRV-ATTR:hostname")}
    actual |= {"config_drive": bool(server["config_drive"]), "tags": sorted(server.get("tags", []))}
    unfinished = f"its status is {server['status']}" if server["status"] in ("ERROR", "BUILD") else ""
    return Twin(server["id"], ours, differences(record.data, actual, FIELDS), unfinished)

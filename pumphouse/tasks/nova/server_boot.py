"""The tasks that stop a server, boot its twin, and bring that to the state of the source's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pumphouse.cloud.wait import wait_for
from pumphouse.errors import PumphouseError
from pumphouse.model import Json
from pumphouse.tasks.base import (
    STAMP,
    BaseCloudTask,
    BaseEnsureFromSourceTask,
    Ensured,
    create_in_tenant,
    ensured_id,
    kept_result,
    only_twin,
    why_not_undone,
)
from pumphouse.tasks.nova.boot_key import operators_keypair
from pumphouse.tasks.nova.common import (
    STATE_TIMEOUT_S,
    TASK,
    bring_to,
    servers_by_key,
    supports,
    wait_for_server,
)

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

BOOT_TIMEOUT_S = 1800.0
# What Nova answers who has no role in the tenant any more, or what Glance and Neutron then answered Nova.
REFUSALS = (400, 401, 403)
# The metadata key that a server has from its create call until nothing is left to do for it.
UNFINISHED = "pumphouse_unfinished"
# The microversion from which Nova takes a field of the create call (compute API history).
_SINCE = {"description": (2, 19), "tags": (2, 52), "hostname": (2, 90)}


class StopServer(BaseCloudTask):
    """Stops a server of the source, so that its disk stands still."""

    def execute(self, data: Json) -> Json:
        """Stop it and wait; provides whether it ran."""
        bring_to(self.cloud, data["tenant_id"], data["id"], "SHUTOFF", self.cloud.nova.servers.stop)
        return {"ran": data["status"] == "ACTIVE"}

    def revert(self, data: Json, result: Any, **_: Any) -> Json | None:
        """Start it again, also when it died while it stopped it."""
        return kept_result(why_not_undone(self.name, self._start, data) if data["status"] == "ACTIVE" else "")

    def _start(self, data: Json) -> None:
        self.cloud.nova.servers.get(data["id"])  # one that was deleted needs no start
        bring_to(self.cloud, data["tenant_id"], data["id"], "ACTIVE", self.cloud.nova.servers.start)


class EnsureServer(BaseEnsureFromSourceTask):
    """Finds or boots the server at the destination, in the tenant's name, on the ports made for it.

    may_boot: whether it is to be booted when it is not there.
    image_symbol: the task that gives the image to boot; None where it boots from a volume.
    """

    adopts_unfinished = True

    def __init__(
        self,
        *clouds: Cloud,
        may_boot: bool,
        image_symbol: str | None,
        zones: Mapping[str, str],
        **kwargs: Any,
    ) -> None:
        super().__init__(*clouds, **kwargs)
        self.may_boot = may_boot
        self.image_symbol = image_symbol
        self.zones = zones

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The stamped server; one that did not come up is removed."""
        ids = []
        for server in self._stamped(data, ensured):
            if is_broken(server):
                self.remove(server["id"])
            else:
                ids.append(str(server["id"]))
        return only_twin("server", data["id"], ids)

    def leftovers(self, data: Json, ensured: Mapping[str, Ensured]) -> list[str]:
        """The stamped servers that were not completed, in whatever state they are."""
        return [server["id"] for server in self._stamped(data, ensured) if UNFINISHED in server["metadata"]]

    def _stamped(self, data: Json, ensured: Mapping[str, Ensured]) -> list[Json]:
        tenant_id = ensured_id(ensured, "tenant", data["tenant_id"])
        return self.destination.batch(_stamped).get(f"{tenant_id}/{data['id']}")

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Have Nova boot it, with the user_data read afresh."""
        if not self.may_boot:
            raise PumphouseError(f"server {data['name']} is no longer at the destination", "plan again")
        tenant_id = ensured_id(ensured, "tenant", data["tenant_id"])
        source = self.source.nova.servers.get(data["id"]).to_dict()
        image_id = ensured[self.image_symbol]["id"] if self.image_symbol else None
        server = self._body(data, ensured, image_id, source.get("OS-EXT-SRV-ATTR:user_data"))
        body = {"server": server, **_hints(data, ensured)}

        def create(cloud: Cloud) -> str:
            with self._key(data):
                _, answer = cloud.nova.client.post("/servers", body=body)
            return str(answer["server"]["id"])

        return create_in_tenant(self.destination, tenant_id, REFUSALS, create)

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Ensured]) -> None:
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
        return operators_keypair(self.source, self.destination, data["user_id"], data["key_name"])

    def _body(
        self, data: Json, ensured: Mapping[str, Ensured], image_id: str | None, user_data: str | None
    ) -> Json:
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
        body["block_device_mapping_v2"] = _devices(data, ensured, image_id, known)
        return {
            key: value
            for key, value in body.items()
            if value not in (None, "", []) and known >= _SINCE.get(key, (2, 1))
        }

    def _zone(self, zone: str | None) -> str | None:
        if zone is None or zone in self.zones:
            return self.zones.get(zone or "")
        zones = {found.zoneName for found in self.destination.nova.availability_zones.list(detailed=False)}
        return zone if zone in zones else None


def _devices(
    data: Json, ensured: Mapping[str, Ensured], image_id: str | None, known: tuple[int, int]
) -> list[Json]:
    """The disks of a server with volumes, in their order; none for one without.

    known: the microversion; one of 2.42 and later takes tags of volumes.
    """
    volumes = [
        {
            "source_type": "volume",
            "destination_type": "volume",
            "uuid": ensured_id(ensured, "volume", volume["id"]),
            "boot_index": 0 if volume["is_root"] else -1,
            "delete_on_termination": volume["delete_on_termination"],
            **({"device_name": volume["device"]} if volume["device"] else {}),
            **({"tag": volume["tag"]} if volume.get("tag") and known >= (2, 42) else {}),
        }
        for volume in data["volumes"]
    ]
    if not volumes or image_id is None:
        return volumes
    # Nova takes a server's image for its root disk only where the list of disks says so too.
    root = {"source_type": "image", "destination_type": "local", "uuid": image_id, "boot_index": 0}
    return [{**root, "delete_on_termination": True}, *volumes]


def _hints(data: Json, ensured: Mapping[str, Ensured]) -> Json:
    """What has Nova make the server a member of its group; Nova lets it be in one only."""
    groups = [ensured_id(ensured, "server_group", group_id) for group_id in data["server_group_ids"]]
    return {"os:scheduler_hints": {"group": groups[0]}} if groups else {}


class StopBootedServer(BaseCloudTask):
    """Stops the booted server if the source's was not running."""

    def execute(self, data: Json, server: Json) -> Json:
        """Bring it to its state."""
        servers, server_id = self.cloud.nova.servers, server["id"]
        if state_at_destination(data) == "SHUTOFF":
            tenant_id = servers.get(server_id).tenant_id
            bring_to(self.cloud, tenant_id, server_id, "SHUTOFF", servers.stop)
        return {"id": server_id}


class CompleteServer(BaseCloudTask):
    """Takes the mark off a server that says that something is left to do for it, and locks it if need be.

    In this order, because only an administrator changes the metadata of a locked server.
    """

    def execute(self, data: Json, server: Json, last: Json) -> Json:
        """Delete the metadata key; lock the server if the source's was locked."""
        servers, server_id = self.cloud.nova.servers, server["id"]
        actual = servers.get(server_id).to_dict()
        if UNFINISHED in actual["metadata"]:
            servers.delete_meta(server_id, [UNFINISHED])
        if data["locked"] and not actual["locked"]:
            # A plan of an earlier release has no reason in it, and Nova takes one from 2.73 (Train) on.
            reason = data.get("locked_reason") if supports(self.cloud, "2.73") else None
            servers.lock(server_id, **({"reason": reason} if reason else {}))
        return {"id": server_id}


def _stamped(cloud: Cloud, keys: Collection[str]) -> dict[str, list[Json]]:
    """Servers by `<tenant id>/<id of the source's server>`, with one list call for each tenant."""
    found: dict[str, list[Json]] = {key: [] for key in keys}
    for server in servers_by_key(cloud, keys).values():
        found.setdefault(f"{server['tenant_id']}/{server['metadata'].get(STAMP)}", []).append(server)
    return found


def is_broken(server: Json) -> bool:
    """Whether a server never came up, or is going; one that has served and went to ERROR later is not broken."""
    gone = server.get(TASK) == "deleting" or server["status"] == "ERROR"
    return gone and UNFINISHED in server["metadata"]


def state_at_destination(data: Json) -> str:
    """The status that a server is brought to."""
    return "ACTIVE" if data["status"] == "ACTIVE" else "SHUTOFF"

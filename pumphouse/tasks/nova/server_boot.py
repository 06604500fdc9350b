"""The tasks that stop a server, boot its twin, and bring that to the state of the source's."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pumphouse.cloud import call
from pumphouse.cloud.wait import wait_for
from pumphouse.errors import PumphouseError, WaitError
from pumphouse.model import Json
from pumphouse.tasks.base import (
    BaseCloudTask,
    BaseEnsureFromSourceTask,
    Ensured,
    create_in_tenant,
    ensured_id,
    kept_result,
    only_twin,
    why_not_undone,
)
from pumphouse.tasks.cinder.common import zone_at_destination
from pumphouse.tasks.nova.boot_key import operators_keypair
from pumphouse.tasks.nova.common import (
    STATE_TIMEOUT_S,
    TASK,
    UNFINISHED,
    bring_to,
    is_unfinished,
    marked,
    read_keypair,
    server_zones,
    servers_by_key,
    stamp_of,
    supports,
    wait_for_server,
)
from pumphouse.tasks.nova.server_check import (
    chosen,
    give_nics,
    give_volumes,
    is_member,
    unlike,
)
from pumphouse.tasks.nova.shelved import is_shelved, shelve

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

BOOT_TIMEOUT_S = 1800.0
USER_DATA = "OS-EXT-SRV-ATTR:user_data"
# What Nova answers who has no role in the tenant any more, or what Glance and Neutron then answered Nova.
REFUSALS = (400, 401, 403)
# The states of a server whose guest waits in memory.
HALTED = ("PAUSED", "SUSPENDED")
# The hostnames that Nova takes since 2.94, and before; what it makes of a name itself may have accents as well.
_HOSTNAME = re.compile(r"[a-zA-Z0-9-._]{1,255}")
_SHORT_HOSTNAME = re.compile(r"(?=.{2,63}$)[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+")
# From Pike on, for NICs and volumes.
DEVICE_TAGS = (2, 42)
# The addresses by which a server says that it is reached; sent only when they are set.
ADDRESSES = ("accessIPv4", "accessIPv6")
# The microversion from which Nova takes a field of the create call (compute API history).
SINCE = {"description": (2, 19), "tags": (2, 52), "hostname": (2, 90)}


class StopServer(BaseCloudTask):
    """Stops a server of the source, so that its disk stands still."""

    def execute(self, data: Json) -> Json:
        """Stop it and wait; provides whether it ran."""
        bring_to(self.cloud, data["tenant_id"], data["id"], ("SHUTOFF",), self.cloud.nova.servers.stop)
        ran = data["status"] == "ACTIVE"
        return {"ran": ran, "meanwhile": "it is stopped at the source" if ran else ""}

    def revert(self, data: Json, result: Any, **_: Any) -> Json | None:
        """Start it again, also when it died while it stopped it."""
        return kept_result(why_not_undone(self.name, self._start, data) if data["status"] == "ACTIVE" else "")

    def _start(self, data: Json) -> None:
        self.cloud.nova.servers.get(data["id"])  # one that was deleted needs no start
        bring_to(self.cloud, data["tenant_id"], data["id"], ("ACTIVE",), self.cloud.nova.servers.start)


def remove(cloud: Cloud, server_id: str) -> None:
    """Delete a server and wait until its ports are free."""
    server = cloud.nova.servers.get(server_id).to_dict()
    if server["locked"]:
        cloud.nova.servers.unlock(server_id)
    if server.get(TASK) != "deleting":
        cloud.nova.servers.delete(server_id)
    wait_for(
        cloud.batch(servers_by_key),
        f"{server['tenant_id']}/{server_id}",
        lambda found: found is None,
        title=f"deletion of server {server['name']}",
        timeout_s=STATE_TIMEOUT_S,
    )


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
        return [server["id"] for server in self._stamped(data, ensured) if is_unfinished(server)]

    def _stamped(self, data: Json, ensured: Mapping[str, Ensured]) -> list[Json]:
        tenant_id = ensured_id(ensured, "tenant", data["tenant_id"])
        return self.destination.batch(_stamped).get(f"{tenant_id}/{data['id']}")

    def execute(self, data: Json, **ensured: Ensured) -> Ensured:
        """Find or boot it, and give it what it lacks; notes say what Nova chose otherwise."""
        self.notes, self.once = list[str](), dict[str, Any]()
        return {**super().execute(data, **ensured), "notes": self.notes}

    def _take(self, found: str, made: bool, data: Json, ensured: Mapping[str, Ensured]) -> Ensured:
        """Wait until it has come up, and see to it that it is what it was asked to be."""
        server = wait_for_server(
            self.destination,
            ensured_id(ensured, "tenant", data["tenant_id"]),
            found,
            lambda server: bool(server["status"] != "BUILD" and not server.get(TASK)),
            title=f"server {data['name']} booting",
            timeout_s=BOOT_TIMEOUT_S,
        )
        self._complete(server, data, ensured)
        # One that an earlier run completed is in use by now, and not this run's own to remove.
        return {"id": found, "made": made and is_unfinished(server)}

    def _complete(self, server: Json, data: Json, ensured: Mapping[str, Ensured]) -> None:
        port_ids = [ensured_id(ensured, "port", i) for i in data["port_ids"]]
        volumes = [{**v, "id": ensured_id(ensured, "volume", v["id"])} for v in data["volumes"]]
        tags = {ensured_id(ensured, "port", i): tag for i, tag in data.get("nic_tags", {}).items()}
        ports = give_nics(self.destination, server["id"], port_ids, tags)
        attached = give_volumes(self.destination, server["id"], volumes)
        if not is_unfinished(server):
            return
        wrong = [*unlike(self.destination, server, self._body(data, ensured), ports, attached, tags)]
        wrong += [
            f"it is not in server group {group_id}"
            for group_id in _groups(data, ensured)
            if not is_member(self.destination, server["id"], group_id)
        ]
        wrong += [f"its {field} is not the one" for field in self._wrong_once(server)]
        if wrong:
            raise WaitError(
                f"server {data['name']} is not what Nova was asked for: {'; '.join(wrong)}",
                f"look for the reason in: openstack server event list {server['id']}",
            )
        self.notes += chosen(server, data, attached, volumes)

    def _wrong_once(self, server: Json) -> list[str]:
        """What only served the create call, and Nova tells otherwise; it is secret in part."""
        told = {"key_name": server["key_name"], "imageRef": (server["image"] or {}).get("id")}
        told["user_data"] = server.get(USER_DATA, self.once.get("user_data"))
        return [field for field, value in self.once.items() if value and told[field] != value]

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Have Nova boot it, with the user_data read afresh."""
        if not self.may_boot:
            raise PumphouseError(f"server {data['name']} is no longer at the destination", "plan again")
        tenant_id = ensured_id(ensured, "tenant", data["tenant_id"])
        source = self.source.nova.servers.get(data["id"]).to_dict()
        image_id = ensured[self.image_symbol]["id"] if self.image_symbol else None
        key, groups = self._key(data), _groups(data, ensured)
        server = _with_image(self._body(data, ensured), image_id)
        server["networks"] = server["networks"] or "none"
        once = {"key_name": key and key["name"], "user_data": source.get(USER_DATA)}
        server |= {field: value for field, value in once.items() if value}
        self.once = {**once, "imageRef": server.get("imageRef")}
        hints = {"os:scheduler_hints": {"group": groups[0]}} if groups else {}

        def create(cloud: Cloud) -> str:
            body = {"server": {**server, **marked(cloud, data)}, **hints}
            with operators_keypair(self.destination, key) if key else nullcontext():
                return str(call(cloud.adapter("compute"), "POST", "/servers", body)["server"]["id"])

        return create_in_tenant(self.destination, tenant_id, REFUSALS, create)

    def remove(self, destination_id: str) -> None:
        """Delete the server and wait until its ports are free."""
        remove(self.destination, destination_id)

    def _key(self, data: Json) -> Json | None:
        """The keypair of the source, which has to be the operator's own for as long as the create call takes."""
        if not data["key_name"]:
            return None
        key = read_keypair(self.source, data["user_id"], data["key_name"])
        if key is None:
            self.notes.append(f"its keypair {data['key_name']} was deleted at the source meanwhile")
        return key

    def _body(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """The create call, without what only serves it: the image, the key, the user data and the marks."""
        tags, zone = data.get("nic_tags", {}), data["availability_zone"]
        body = {
            "name": data["name"],
            "flavorRef": ensured_id(ensured, "flavor", data["flavor_id"]),
            "networks": [
                {"port": ensured_id(ensured, "port", i), **({"tag": tags[i]} if i in tags else {})}
                for i in data["port_ids"]
            ],
            "metadata": data["metadata"],
            "config_drive": data["config_drive"],
            "description": data["description"],
            "tags": data["tags"],
            "hostname": data["hostname"],
            "availability_zone": zone_at_destination(zone, self.zones, server_zones(self.destination))
            if zone
            else None,
            **{field: data.get(field) for field in ADDRESSES},
            "block_device_mapping_v2": _volumes(data, ensured),
        }
        version = self.destination.nova.api_version
        return as_taken(body, (version.ver_major, version.ver_minor))


def as_taken(body: Json, known: tuple[int, int]) -> Json:
    """What of a create call a Nova takes whose highest microversion is `known`; nothing empty but the networks."""
    taken = {
        key: value for key, value in body.items() if value not in (None, "", [], {}) or key == "networks"
    }
    taken = {key: value for key, value in taken.items() if known >= SINCE.get(key, (2, 1))}
    pattern = _HOSTNAME if known >= (2, 94) else _SHORT_HOSTNAME
    if not pattern.fullmatch(taken.get("hostname", "")):
        taken.pop("hostname", None)
    if known < DEVICE_TAGS:
        for key in ("networks", "block_device_mapping_v2"):
            taken[key] = [{k: v for k, v in item.items() if k != "tag"} for item in taken.get(key, ())]
    return taken


def _volumes(data: Json, ensured: Mapping[str, Ensured]) -> list[Json]:
    """The volumes of a server in the order of its disks."""
    return [
        {
            "source_type": "volume",
            "destination_type": "volume",
            "uuid": ensured_id(ensured, "volume", volume["id"]),
            "boot_index": 0 if volume["is_root"] else -1,
            "delete_on_termination": volume["delete_on_termination"],
            **({"device_name": volume["device"]} if volume["device"] else {}),
            **({"tag": volume["tag"]} if volume.get("tag") else {}),
        }
        for volume in data["volumes"]
    ]


def _with_image(body: Json, image_id: str | None) -> Json:
    """The create call with the image of the root disk; without one where the server boots from a volume."""
    volumes = body.get("block_device_mapping_v2")
    if image_id is None or not volumes:
        return {**body, "imageRef": image_id} if image_id else body
    # Nova takes a server's image for its root disk only where the list of disks says so too.
    root = {"source_type": "image", "destination_type": "local", "uuid": image_id, "boot_index": 0}
    disks = [{**root, "delete_on_termination": True}, *volumes]
    return {**body, "imageRef": image_id, "block_device_mapping_v2": disks}


def _groups(data: Json, ensured: Mapping[str, Ensured]) -> list[str]:
    """The group that the server joins as it boots; Nova lets it be in one only."""
    return [ensured_id(ensured, "server_group", group_id) for group_id in data["server_group_ids"][:1]]


class StopBootedServer(BaseCloudTask):
    """Stops the booted server if the source's was not running.

    policies: those of the run, which say what becomes of one that was halted.
    """

    def __init__(self, cloud: Cloud, *, policies: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(cloud, **kwargs)
        self.policies = policies

    def execute(self, data: Json, server: Json) -> Json:
        """Bring it to its state, unless an earlier run has and it is in use by now."""
        servers, server_id = self.cloud.nova.servers, server["id"]
        booted = servers.get(server_id).to_dict()
        if state_at_destination(data, self.policies) != "ACTIVE" and is_unfinished(booted):
            bring_to(self.cloud, booted["tenant_id"], server_id, ("SHUTOFF",), servers.stop)
        return {"id": server_id}


class CompleteServer(BaseCloudTask):
    """Takes the mark off a server that says that something is left to do for it; shelves and locks it if need be.

    In this order, because nobody changes the metadata of a shelved server, and only an administrator those of a
    locked one.
    """

    def execute(self, data: Json, server: Json, last: Json) -> Json:
        """Delete the mark; shelve and lock the server if the source's was shelved and locked."""
        servers, server_id = self.cloud.nova.servers, server["id"]
        actual = servers.get(server_id).to_dict()
        if UNFINISHED in actual["metadata"]:
            servers.delete_meta(server_id, [UNFINISHED])
        if UNFINISHED in actual.get("tags", ()):
            servers.delete_tag(server_id, UNFINISHED)
        if is_shelved(data):
            shelve(self.cloud, data, actual, REFUSALS)
        if data["locked"] and not actual["locked"]:
            # A plan of an earlier release has no reason in it, and Nova takes one from 2.73 (Train) on.
            reason = data.get("locked_reason") if supports(self.cloud, "2.73") else None
            servers.lock(server_id, **({"reason": reason} if reason else {}))
        return {"id": server_id}


def _stamped(cloud: Cloud, keys: Collection[str]) -> dict[str, list[Json]]:
    """Servers by `<tenant id>/<id of the source's server>`, with one list call for each tenant."""
    found: dict[str, list[Json]] = {key: [] for key in keys}
    for server in servers_by_key(cloud, keys).values():
        found.setdefault(f"{server['tenant_id']}/{stamp_of(server)}", []).append(server)
    return found


def is_broken(server: Json) -> bool:
    """Whether a server never came up, or is going; one that has served and went to ERROR later is not broken."""
    gone = server.get(TASK) == "deleting" or server["status"] == "ERROR"
    return gone and is_unfinished(server)


def state_at_destination(data: Json, policies: Mapping[str, Any]) -> str:
    """The status that a server is brought to."""
    status = str(data["status"])
    # A plan of an earlier release has no policy for them.
    started = status in HALTED and policies.get("paused_servers") == "started"
    return status if status == "ACTIVE" or is_shelved(data) else "ACTIVE" if started else "SHUTOFF"

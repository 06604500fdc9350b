"""Nova: servers, and the flavors, keypairs and groups that they were booted with."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

from pumphouse.cloud import Cloud, call, get_all
from pumphouse.errors import http_status
from pumphouse.model import Json, Ref
from pumphouse.tasks.base import STAMP
from pumphouse.verify.compare import Field, Item, Kind, Named
from pumphouse.verify.fields import mapped, metadata, plain, ref, reference, refs, renamed, tag_stamp, tags

_FLAVOR_STAMP = f"{STAMP}="
_ARRIVES_OFF = ("PAUSED", "SUSPENDED", "SHELVED", "SHELVED_OFFLOADED", "RESCUE", "STOPPED")
_NOT_MIGRATED = ("ERROR", "BUILD", "DELETED", "SOFT_DELETED", "UNKNOWN", "REVERT_RESIZE", "VERIFY_RESIZE")
_PAGE = 500
# Before the NICs of a server of which nobody tells the order; behind the name of a keypair that is gone.
UNTOLD = "in an order that Nova does not tell of server "
DELETED = ", which was deleted"
# The status of a server of which no recorded run tells whether it ran before a migration stopped it.
STOPPED = "SHUTOFF, perhaps by the migration"


def _server_flavor(raw: Json) -> Any:
    """The flavor as the server has it: from microversion 2.47 on it is told by name and values."""
    flavor = raw["flavor"]
    return (
        Named("flavors", flavor["original_name"])
        if "original_name" in flavor
        else Ref("flavor", flavor["id"])
    )


def _flavor_values(raw: Json) -> Json:
    flavor = raw["flavor"]
    return {
        key: flavor[key]
        for key in ("vcpus", "ram", "disk", "ephemeral", "swap", "extra_specs")
        if key in flavor
    }


def _status(wanted: Any, actual: Any) -> str:
    if wanted in _ARRIVES_OFF and actual == "SHUTOFF":
        return f"a server that is {wanted} arrives SHUTOFF"
    if wanted == STOPPED and actual in ("ACTIVE", "SHUTOFF"):
        return "no recorded run tells whether it ran before the migration"
    return ""


def _addresses(raw: Json) -> Json:
    return {
        label: frozenset(a["addr"] for a in listed if a.get("OS-EXT-IPS:type") != "floating")
        for label, listed in raw["addresses"].items()
    }


def _nics(nova: Any, raw: Json) -> tuple[str, ...]:
    """The MAC addresses in the order of the NICs; UNTOLD before them where Nova does not tell it.

    It lists addresses by network, where the first NIC on it is; what a guest that runs has is in its diagnostics.
    """
    listed = [{a["OS-EXT-IPS-MAC:mac_addr"]: a for a in group} for group in raw["addresses"].values()]
    macs = [mac for group in listed for mac in group]
    if all(len(group) == 1 for group in listed[:-1]) and all(listed):
        return tuple(macs)
    told = _diagnosed(nova, raw["id"]) if raw["status"] == "ACTIVE" else []
    # With its id, so that it equals no other, in whatever order that one's are.
    return tuple(told) or (f"{UNTOLD}{raw['id']}", *sorted(macs))


def _diagnosed(nova: Any, server_id: str) -> list[str]:
    try:
        told = call(nova, "GET", f"/servers/{server_id}/diagnostics")
    except Exception as error:
        if http_status(error) in (400, 404, 409, 501):
            return []
        raise
    return [nic["mac_address"] for nic in told.get("nic_details", ())]


def _order(wanted: Any, actual: Any) -> str:
    both = [{mac for mac in macs if not mac.startswith(UNTOLD)} for macs in (wanted, actual)]
    is_told = (len(wanted), len(actual)) == (len(both[0]), len(both[1]))
    return "" if is_told or both[0] != both[1] else "Nova does not tell in which order the NICs are"


def _nic_tags(nova: Any, server_id: str) -> dict[str, str]:
    """The tags of NICs by their MAC addresses; Nova shows them since 2.70."""
    listed = call(nova, "GET", f"/servers/{server_id}/os-interface")["interfaceAttachments"]
    return {nic["mac_addr"]: nic["tag"] for nic in listed if nic.get("tag")}


def _key(wanted: Any, actual: Any) -> str:
    gone = str(wanted).removesuffix(DELETED)
    return "its user has deleted the keypair" if gone != wanted and actual in (None, gone) else ""


def _volumes(raw: Json) -> tuple[Any, ...]:
    """The volumes in the order of their devices."""
    listed = sorted(raw["volumes"], key=lambda volume: str(volume.get("device")))
    return tuple(
        (
            Ref("volume", volume["volumeId"]),
            volume.get("device"),
            volume.get("delete_on_termination"),
            volume.get("tag"),
        )
        for volume in listed
    )


def _user_data(raw: Json) -> Any:
    value = raw.get("OS-EXT-SRV-ATTR:user_data")
    return f"sha256:{hashlib.sha256(value.encode()).hexdigest()[:16]}" if value else None


def _owner(_wanted: Any, _actual: Any) -> str:
    return "a server belongs to the user who booted it: the migration's operator"


def _boot(raw: Json) -> str:
    return "image" if raw.get("image") else "volume"


def _description(raw: Json) -> str:
    """A flavor's own; a migration that has not ended has its mark there."""
    text = raw.get("description") or ""
    return "" if text.startswith(_FLAVOR_STAMP) else text


FLAVOR = Kind(
    "flavor",
    (
        mapped("name", "flavors", "name"),
        *plain("ram", "vcpus", "disk"),
        renamed("ephemeral", "OS-FLV-EXT-DATA:ephemeral"),
        Field("swap", lambda raw: raw["swap"] or 0),
        *plain("rxtx_factor"),
        renamed("is_public", "os-flavor-access:is_public"),
        Field("extra_specs", lambda raw: raw["extra_specs"]),
        Field("description", _description),
        Field("access", lambda raw: refs("tenant", raw["access"])),
        Field(
            "id",
            lambda raw: raw["id"],
            lambda *_: "a flavor that was there, or whose id was taken, has another",
        ),
    ),
    lambda raw: Named("flavors", raw["name"]),
    {"access of other tenants": "each gets it when it is migrated itself"},
    shared=True,
)
KEYPAIR = Kind(
    "keypair",
    (*plain("name"), reference("user", "user", "user_id"), *plain("type", "public_key", "fingerprint")),
    lambda raw: (Ref("user", raw["user_id"]), raw["name"]),
    shared=True,
)
SERVER_GROUP = Kind(
    "server_group",
    (
        *plain("name"),
        Field("policy", lambda raw: raw.get("policy") or next(iter(raw.get("policies") or ()), None)),
        Field("rules", lambda raw: raw.get("rules") or {}),
        Field("members", lambda raw: refs("server", raw["members"])),
    ),
    lambda raw: raw["name"],
)
SERVER = Kind(
    "server",
    (
        *plain("name", "description"),
        Field("status", lambda raw: raw["status"], _status),
        *plain("locked", "locked_reason"),
        Field("metadata", metadata),
        Field("tags", tags),
        Field("key_name", lambda raw: raw["key_name"], _key),
        Field("user_data", _user_data),
        Field("config_drive", lambda raw: bool(raw["config_drive"])),
        renamed("hostname", "OS-EXT-SRV-ATTR:hostname"),
        mapped("availability_zone", "availability_zones", "OS-EXT-AZ:availability_zone"),
        Field("flavor", _server_flavor),
        Field("flavor's values", _flavor_values),
        Field("server_groups", lambda raw: refs("server_group", raw.get("server_groups") or ())),
        *plain("accessIPv4", "accessIPv6"),
        Field("NICs", lambda raw: raw["nics"], _order),
        Field("NIC tags", lambda raw: raw["nic_tags"]),
        Field("addresses", _addresses),
        Field("boots from", _boot),
        Field("volumes", _volumes),
        renamed("root_device_name", "OS-EXT-SRV-ATTR:root_device_name"),
        Field("user", lambda raw: ref("user", raw["user_id"]), _owner),
    ),
    lambda raw: raw["name"],
    {
        "bytes of the root disk": "Nova shows a disk's bytes only by a snapshot, which would be a write",
        "ephemeral and swap disks": "they are in no snapshot and are not migrated",
        "image": "a server boots from the snapshot of its disk at the destination",
    },
)
KINDS = (FLAVOR, KEYPAIR, SERVER_GROUP, SERVER)


def read(cloud: Cloud, tenant_id: str, users: Collection[str]) -> dict[str, list[Item]]:
    """What a tenant has of a Nova; the keypairs of the given users."""
    if not cloud.has("compute"):
        return {}
    nova = cloud.adapter("compute")
    query = {"all_tenants": 1, "project_id": tenant_id}
    servers = [s for s in get_all(nova, "/servers/detail", "servers", **query) if s["tenant_id"] == tenant_id]
    for server in servers:
        attached = server.get("os-extended-volumes:volumes_attached")
        server["volumes"] = _attachments(nova, server["id"]) if attached else []
        server["nics"] = _nics(nova, server)
        server["nic_tags"] = _nic_tags(nova, server["id"]) if server["nics"] else {}
    _name_deleted_keys(nova, servers)
    keypairs = {user: get_all(nova, "/os-keypairs", "keypairs", user_id=user) for user in sorted(users)}
    used = {server["flavor"].get("original_name") for server in servers}
    return {
        "flavor": _flavors(nova, tenant_id, used),
        "keypair": [
            _keypair(wrapped["keypair"], user) for user, listed in keypairs.items() for wrapped in listed
        ],
        "server_group": [
            SERVER_GROUP.item(raw, raw["id"], name=raw["name"])
            for raw in _groups(nova)
            if raw["project_id"] == tenant_id
        ],
        "server": [_server(raw) for raw in servers],
    }


def _name_deleted_keys(nova: Any, servers: Collection[Json]) -> None:
    """Say of the servers that no migration has made which of their keypairs do not exist any more."""
    own = [server for server in servers if server["key_name"] and not _stamp(server)]
    users = {server["user_id"] for server in own}
    names = {
        user: {item["keypair"]["name"] for item in get_all(nova, "/os-keypairs", "keypairs", user_id=user)}
        for user in users
    }
    for server in own:
        if server["key_name"] not in names[server["user_id"]]:
            server["key_name"] += DELETED


def _stamp(raw: Json) -> str:
    return raw["metadata"].get(STAMP) or tag_stamp(raw)


def _attachments(nova: Any, server_id: str) -> list[Json]:
    found: list[Json] = call(nova, "GET", f"/servers/{server_id}/os-volume_attachments")["volumeAttachments"]
    return found


def _flavors(nova: Any, tenant_id: str, used: Collection[str | None]) -> list[Item]:
    """All flavors; the tenant's own are those that it alone may use and those that its servers have."""
    flavors = get_all(nova, "/flavors/detail", "flavors", is_public="None")
    items = []
    for raw in flavors:
        tenants = [] if raw["os-flavor-access:is_public"] else _access(nova, raw["id"])
        raw["access"] = [tenant_id] if tenant_id in tenants else []
        mine = tenant_id in tenants or raw["name"] in used
        items.append(FLAVOR.item(raw, raw["id"], name=raw["name"], owned=mine))
    return items


def _access(nova: Any, flavor_id: str) -> list[str]:
    listed = call(nova, "GET", f"/flavors/{quote(flavor_id, safe='')}/os-flavor-access")["flavor_access"]
    return [access["tenant_id"] for access in listed]


def _groups(nova: Any) -> list[Json]:
    """The server groups of all tenants: Nova gives no links to further pages."""
    groups: list[Json] = []
    while True:
        query = {"all_projects": "True", "limit": _PAGE, "offset": len(groups)}
        page = call(nova, "GET", "/os-server-groups", params=query)["server_groups"]
        groups += page
        if not page:
            return groups


def _keypair(raw: Json, user_id: str) -> Item:
    raw = {"type": "ssh", **raw, "user_id": user_id}
    return KEYPAIR.item(raw, f"{user_id}.{raw['name']}", name=raw["name"])


def _server(raw: Json) -> Item:
    refused = ""
    if raw["status"] in _NOT_MIGRATED:
        refused = f"a server that is {raw['status']} is not migrated"
    return SERVER.item(raw, raw["id"], name=raw["name"], stamp=_stamp(raw), not_expected=refused)

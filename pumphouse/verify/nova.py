"""Nova: servers, and the flavors, keypairs and groups that they were booted with."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import quote

from pumphouse.cloud import Cloud, call, get_all
from pumphouse.errors import http_status
from pumphouse.model import Json, Ref
from pumphouse.verify.compare import ABSENT, NOT_KNOWN, Field, Item, Kind, Named
from pumphouse.verify.fields import (
    STAMP,
    mapped,
    metadata,
    plain,
    ref,
    reference,
    refs,
    renamed,
    tag_stamp,
    tags,
)

_ARRIVES_OFF = ("PAUSED", "SUSPENDED", "RESCUE", "ERROR", "VERIFY_RESIZE", "STOPPED")
_HALTED = ("PAUSED", "SUSPENDED")
_SHELVED = ("SHELVED", "SHELVED_OFFLOADED")
_DELETED = ("DELETED", "SOFT_DELETED")
# Compute API: the tag of each network card in os-interface (Stein), the cards in diagnostics (Pike).
_TAGS_SINCE, _CARDS_SINCE = (2, 70), (2, 48)
# And that an administrator is shown the keypairs of others (Mitaka).
_KEYS_SINCE = (2, 10)
# What Nova answers of a server that does not run, or where its hypervisor tells none.
_NO_DIAGNOSTICS = (400, 404, 409, 501)
_PAGE = 500
# Behind the name of a keypair that is gone.
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
    if wanted in _HALTED and actual == "ACTIVE":
        return f"a server that is {wanted} is started where policies.paused_servers says so"
    if {wanted, actual} <= {*_SHELVED}:
        return "each cloud says by itself when the host of a shelved server gives it up"
    if wanted == STOPPED and actual in ("ACTIVE", "SHUTOFF"):
        return "no recorded run tells whether it ran before the migration"
    return ""


def _addresses(raw: Json) -> Json:
    return {
        label: frozenset(a["addr"] for a in listed if a.get("OS-EXT-IPS:type") != "floating")
        for label, listed in raw["addresses"].items()
    }


def _macs(raw: Json) -> list[tuple[str, ...]]:
    """The MAC addresses of the cards on each network, of all networks of one name together."""
    listed = raw["addresses"].values()
    return [tuple(dict.fromkeys(a["OS-EXT-IPS-MAC:mac_addr"] for a in addresses)) for addresses in listed]


def _order(raw: Json) -> Any:
    """The MAC addresses in the order of the cards.

    Nova lists the networks by the first card of each, so that of two networks one of which has several cards only the
    hypervisor tells it, and that only of a server that runs.
    """
    networks, told = _macs(raw), raw.get("cards")
    flat = tuple(mac for macs in networks for mac in macs)
    if all(len(macs) == 1 for macs in networks[:-1]):
        return flat
    return tuple(told) if told and sorted(told) == sorted(flat) else NOT_KNOWN


def _key(wanted: Any, actual: Any) -> str:
    name, arrived = (str(key).removesuffix(DELETED) for key in (wanted, actual))
    if name != wanted and (actual is None or arrived == name):
        return "its user has deleted the keypair"
    # The server's user there is the operator, who had the key for as long as it was booted.
    return "the operator has no keypair of that name" if arrived != actual and arrived == name else ""


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


def _untold(wanted: Any, actual: Any) -> str:
    """What is said of volumes that differ only in what a service does not tell."""
    pairs = [
        pair for mine, theirs in zip(wanted, actual, strict=False) for pair in zip(mine, theirs, strict=True)
    ]
    told_alike = all(mine == theirs or NOT_KNOWN in (mine, theirs) for mine, theirs in pairs)
    return "not known: the services do not tell all of it" * (told_alike and len(wanted) == len(actual))


def _user_data(raw: Json) -> Any:
    if "OS-EXT-SRV-ATTR:user_data" not in raw:
        return ABSENT
    value = raw["OS-EXT-SRV-ATTR:user_data"]
    return f"sha256:{hashlib.sha256(value.encode()).hexdigest()[:16]}" if value else None


def _zone(raw: Json) -> Any:
    """The zone that a server was asked for, which Nova tells since 2.96; before that only where it is."""
    name = raw.get("pinned_availability_zone", raw.get("OS-EXT-AZ:availability_zone"))
    return Named("availability_zones", name) if name else None


def _chosen_zone(wanted: Any, _actual: Any) -> str:
    return (
        ""
        if wanted
        else "the source's was asked for no zone, and the destination does not tell whether its was"
    )


def _owner(_wanted: Any, _actual: Any) -> str:
    return "a server belongs to the user who booted it: the migration's operator"


def _boot(raw: Json) -> str:
    return "image" if raw.get("image") else "volume"


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
        *plain("description"),
        renamed("disabled", "OS-FLV-DISABLED:disabled"),
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
        Field("config_drive", lambda raw: str(raw["config_drive"]).lower() == "true"),
        renamed("hostname", "OS-EXT-SRV-ATTR:hostname"),
        Field("availability_zone", _zone, _chosen_zone),
        Field("flavor", _server_flavor),
        Field("flavor's values", _flavor_values),
        Field("server_groups", lambda raw: refs("server_group", raw.get("server_groups") or ())),
        Field("NICs", lambda raw: frozenset(mac for macs in _macs(raw) for mac in macs)),
        Field("order of NICs", _order),
        Field("tags of NICs", lambda raw: raw["nic_tags"]),
        Field("addresses", _addresses),
        *plain("accessIPv4", "accessIPv6", "trusted_image_certificates"),
        renamed("diskConfig", "OS-DCF:diskConfig"),
        Field("boots from", _boot),
        reference("kernel", "image", "OS-EXT-SRV-ATTR:kernel_id"),
        reference("ramdisk", "image", "OS-EXT-SRV-ATTR:ramdisk_id"),
        Field("volumes", _volumes, _untold),
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
    owners = sorted(users) if _version(cloud) >= _KEYS_SINCE else []
    flavors = get_all(nova, "/flavors/detail", "flavors", is_public="None")
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(_complete, cloud), servers))
        list(pool.map(partial(_give_specs, nova), flavors))
        listed = pool.map(lambda user: get_all(nova, "/os-keypairs", "keypairs", user_id=user), owners)
        keypairs = dict(zip(owners, listed, strict=True))
    if _version(cloud) >= _KEYS_SINCE:
        _name_deleted_keys(nova, servers)
    _name_flavors(servers, flavors)
    used = {server["flavor"].get("original_name") for server in servers}
    return {
        "flavor": _flavors(nova, flavors, tenant_id, used),
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


def _version(cloud: Cloud) -> tuple[int, int]:
    return cloud.nova.api_version.ver_major, cloud.nova.api_version.ver_minor


def _complete(cloud: Cloud, server: Json) -> None:
    """Add what no list tells of a server: its volumes, and its network cards."""
    nova, path = cloud.adapter("compute"), f"/servers/{server['id']}"
    version = _version(cloud)
    attached = server.get("os-extended-volumes:volumes_attached")
    server["volumes"] = (
        call(nova, "GET", f"{path}/os-volume_attachments")["volumeAttachments"] if attached else []
    )
    # Attachments say it themselves since 2.79, servers of theirs since 2.3.
    goes_with = {volume["id"]: volume.get("delete_on_termination", NOT_KNOWN) for volume in attached or ()}
    for volume in server["volumes"]:
        volume.setdefault("delete_on_termination", goes_with.get(volume["volumeId"], NOT_KNOWN))
        if version < _TAGS_SINCE:
            volume["tag"] = NOT_KNOWN
    server["nic_tags"] = ABSENT
    if version >= _TAGS_SINCE:
        cards = call(nova, "GET", f"{path}/os-interface")["interfaceAttachments"]
        server["nic_tags"] = {card["mac_addr"]: card["tag"] for card in cards if card.get("tag")}
    if version >= _CARDS_SINCE and _order(server) == NOT_KNOWN:
        server["cards"] = _cards(nova, path)


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


def _cards(nova: Any, path: str) -> list[str]:
    """The MAC addresses of a server's network cards in their order; none where its hypervisor does not tell."""
    try:
        found = call(nova, "GET", f"{path}/diagnostics")["nic_details"]
    except Exception as error:
        if http_status(error) not in _NO_DIAGNOSTICS:
            raise
        return []
    return [card["mac_address"] for card in found]


def _give_specs(nova: Any, flavor: Json) -> None:
    """Add the extra specs of a flavor, which lists have since microversion 2.61 (Rocky)."""
    if "extra_specs" not in flavor:
        path = f"/flavors/{quote(flavor['id'], safe='')}/os-extra_specs"
        flavor["extra_specs"] = call(nova, "GET", path)["extra_specs"]


def _name_flavors(servers: Collection[Json], flavors: Collection[Json]) -> None:
    """Tell the flavors of servers by name and values, as Nova does since microversion 2.47 (Pike); not deleted ones."""
    known = {flavor["id"]: flavor for flavor in flavors}
    for told in (server["flavor"] for server in servers):
        if flavor := known.get(told.get("id", "")):
            sizes = {key: flavor[key] for key in ("vcpus", "ram", "disk", "extra_specs")}
            swap, ephemeral = flavor["swap"] or 0, flavor["OS-FLV-EXT-DATA:ephemeral"]
            told.update(sizes, original_name=flavor["name"], swap=swap, ephemeral=ephemeral)


def _flavors(nova: Any, flavors: list[Json], tenant_id: str, used: Collection[str | None]) -> list[Item]:
    """All flavors; the tenant's own are those that it alone may use and those that its servers have."""
    with ThreadPoolExecutor() as pool:
        granted = pool.map(lambda raw: _access(nova, raw), flavors)
        for raw, tenants in zip(flavors, granted, strict=True):
            raw["access"] = [tenant_id] if tenant_id in tenants else []
    return [
        FLAVOR.item(raw, raw["id"], name=raw["name"], owned=bool(raw["access"]) or raw["name"] in used)
        for raw in flavors
    ]


def _access(nova: Any, flavor: Json) -> list[str]:
    """Who may use a flavor; nobody in particular where all may."""
    if flavor["os-flavor-access:is_public"]:
        return []
    path = f"/flavors/{quote(flavor['id'], safe='')}/os-flavor-access"
    return [access["tenant_id"] for access in call(nova, "GET", path)["flavor_access"]]


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
    refused = "it is deleted already" if raw["status"] in _DELETED else ""
    return SERVER.item(raw, raw["id"], name=raw["name"], stamp=_stamp(raw), not_expected=refused)

"""Clouds as operators have them: what is odd about each, and what of a tenant arrives."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pumphouse
from tests.faults.rules import Page, Rule
from tests.shapes.traits import (
    Capped,
    Forbidden,
    Limits,
    NoExtensions,
    NoHashes,
    OldCinders,
    Only,
    Paged,
    Regions,
    Trait,
    Versioned,
    Without,
)

SIDES = ("source", "destination")
Traits = Mapping[str, Sequence[Trait]]


@dataclass(frozen=True)
class Shape:
    """A pair of clouds.

    traits: of each cloud by its name.
    changes: of each cloud's settings in clouds.yaml.
    notes: texts of which each is in one of the notes of the plan.
    absent: the kinds of which nothing is made because a cloud lacks them.
    failed: those of which something fails; missing: those of which `verify` then misses some.
    different: the fields that it finds otherwise, as `port.mac_address`; the kinds of which there are others.
    exit_code: of the migration.
    rules: makes those of the Front; leaves_links, idle_s: as a Front has them.
    """

    traits: Traits = field(default_factory=dict)
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: Collection[str] = ()
    absent: Collection[str] = ()
    failed: Collection[str] = ()
    missing: Collection[str] = ()
    different: Collection[str] = ()
    exit_code: int = 0
    rules: Callable[[], Sequence[Rule]] = tuple
    leaves_links: bool = False
    idle_s: float | None = None


def both(*traits: Trait) -> Traits:
    """Both clouds are alike."""
    return dict.fromkeys(SIDES, traits)


def each(**settings: Any) -> dict[str, dict[str, Any]]:
    """Settings of both clouds in clouds.yaml."""
    return {name: dict(settings) for name in SIDES}


def source(*traits: Trait) -> Traits:
    """Only the source is odd."""
    return {"source": traits}


def destination(*traits: Trait) -> Traits:
    """Only the destination is odd."""
    return {"destination": traits}


# As DevStack and most installers write catalogs, and as old ones did.
PLAIN_TYPES = {"block-storage": "volumev3"}
VERSIONS = {"identity": "/v3", "image": "/v2", "network": "/v2.0"}
WITH_PROJECT = {**VERSIONS, "compute": "/v2.1/{project}", "block-storage": "/v3/{project}"}
WITHOUT_PROJECT = {**VERSIONS, "compute": "/v2.1", "block-storage": "/v3"}
L3 = NoExtensions(
    ("router", "extraroute", "ext-gw-mode", "floating-ip-port-forwarding", "l3-ha", "dvr"),
    r"^/v2.0/(routers|floatingips)",
)
TRUNK = NoExtensions(("trunk", "trunk-details"), "^/v2.0/trunks", ("trunk_details",))
POOLS = NoExtensions(("subnet_allocation",), "^/v2.0/subnetpools", ("subnetpool_id",))
SHARES = NoExtensions(("rbac-policies",), "^/v2.0/rbac-policies")
QOS = NoExtensions(("qos",), "^/v2.0/qos", ("qos_policy_id", "qos_network_policy_id"))
TAGS = NoExtensions(("standard-attr-tag",), "/tags", ("tags",))
ADDRESS_GROUPS = NoExtensions(
    ("address-group", "security-groups-remote-address-group", "rbac-address-group"),
    "^/v2.0/address-groups",
    ("remote_address_group_id",),
)
NETWORK_KINDS = (
    *(
        "network",
        "subnet",
        "security_group",
        "address_group",
        "port",
        "trunk",
        "router",
        "floating_ip",
        "server",
    ),
)

ENDPOINTS = {
    "identity_endpoint_override": "{url}/identity/v3",
    "image_endpoint_override": "{url}/image/v2",
    "network_endpoint_override": "{url}/network",
    "block_storage_endpoint_override": "{url}/block-storage/v3",
    "compute_endpoint_override": "{url}/compute/v2.1",
    "placement_endpoint_override": "{url}/placement",
}
API_VERSIONS = {
    "identity_api_version": "3",
    "image_api_version": "2",
    "network_api_version": "2",
    "volume_api_version": "3",
    "compute_api_version": "2.96",
}


# Writes that are answered by pages of HTML, and were not carried out, or were.
def _pages(chance: float, *pages: Page, method: str) -> Callable[[], list[Rule]]:
    return lambda: [Rule([*pages], method=method, chance=chance)]


# Where the services are, and how they answer.
ADDRESSES = {
    "versions and project ids in the catalog": Shape(both(Versioned(WITH_PROJECT, PLAIN_TYPES))),
    "no versions in the catalog": Shape(both(Versioned({"identity": ""}, PLAIN_TYPES))),
    "services that do not know their proxy": Shape(
        both(Versioned(WITHOUT_PROJECT, PLAIN_TYPES)), leaves_links=True
    ),
    "a region that is elsewhere": Shape(both(Regions())),
    "internal endpoints": Shape(both(Only("internal")), each(interface="internal")),
    "endpoints of clouds.yaml": Shape(both(Only("none")), each(**ENDPOINTS)),
    "versions of clouds.yaml": Shape(changes=each(**API_VERSIONS)),
    "pages of two items": Shape(both(Paged(2))),
    "three Cinders in the catalog": Shape(both(OldCinders())),
    "reads that are answered by pages of HTML": Shape(
        rules=_pages(0.1, Page(502), Page(504), method="GET|HEAD")
    ),
    "connections that are cut when nothing is sent": Shape(idle_s=0.05),
}
# What a cloud does not have.
LACKS = {
    "no Cinder at the source": Shape(
        source(Without(["block-storage"])),
        notes=["the source has no block-storage service: volumes, volume snapshots are not looked for"],
        absent=("volume",),
        missing=("server", "port"),
        exit_code=3,
    ),
    "no Cinder at the destination": Shape(
        destination(Without(["block-storage"])),
        notes=["the destination has no block-storage service: not carried: 1 quota, 2 volumes"],
        absent=("volume",),
        missing=("volume", "server", "port", "quota"),
        exit_code=3,
    ),
    # The ports of the routers that are not seen are still there.
    "no L3 at the source": Shape(
        source(L3), absent=("router", "floating_ip"), different=("network.gateways of others",)
    ),
    "no L3 at the destination": Shape(
        destination(L3),
        notes=["the destination has no neutron extension router: not carried: 1 router, 1 floating ip"],
        absent=("router", "floating_ip"),
        missing=("router", "floating_ip"),
        exit_code=3,
    ),
    "an old Neutron at the source": Shape(
        source(TRUNK, POOLS, SHARES, QOS, TAGS, ADDRESS_GROUPS), absent=("trunk", "address_group")
    ),
    # A port whose server has booted becomes no trunk any more: the server waits for the trunk.
    "no trunks, pools, shares and QoS at the destination": Shape(
        destination(TRUNK, POOLS, SHARES, QOS),
        notes=["the destination has no neutron extension trunk: not carried: 1 trunk"],
        absent=("trunk",),
        missing=("port", "trunk", "floating_ip", "server"),
        exit_code=3,
    ),
    "no address groups at the destination": Shape(
        destination(ADDRESS_GROUPS),
        notes=["the destination has no neutron extension address-group: not carried: 1 address group"],
        absent=("address_group",),
        missing=(
            *("address_group", "security_group", "port", "trunk", "floating_ip"),
            *("server", "volume"),
        ),
        exit_code=3,
    ),
    "no tags at the destination": Shape(
        destination(TAGS),
        notes=["the destination has no neutron extension standard-attr-tag: not carried: "],
        absent=NETWORK_KINDS,
        missing=(*NETWORK_KINDS, "volume"),
        different=("security_group.rules",),
        exit_code=3,
    ),
    "no Neutron at the destination": Shape(
        destination(Without(["network"])),
        notes=["the destination has no network service: not carried: "],
        absent=NETWORK_KINDS,
        missing=(*NETWORK_KINDS, "volume", "quota"),
        exit_code=3,
    ),
    "no Neutron at the source": Shape(
        source(Without(["network"])),
        notes=[
            "the source has no network service: networks, ",
            "the source has no network service: not carried: 2 servers",
        ],
        absent=NETWORK_KINDS,
        missing=("server", "volume"),
        exit_code=3,
    ),
    "no Nova at the source": Shape(
        source(Without(["compute"])),
        notes=[
            "the source has no compute service: flavors, keypairs, server groups, servers are not looked for"
        ],
        absent=("flavor", "keypair", "server"),
        missing=("volume",),
        different=("port.dns_name", "port.device"),
        exit_code=3,
    ),
    "no Glance at the source": Shape(
        source(Without(["image"])),
        notes=[
            "the source has no image service: images are not looked for",
            "the source has no image service: not carried: 2 volumes, 2 servers",
        ],
        absent=("image", "server", "volume"),
        missing=("server", "volume", "port", "trunk", "floating_ip"),
        exit_code=3,
    ),
    "no Glance at the destination": Shape(
        destination(Without(["image"])),
        notes=["the destination has no image service: not carried: "],
        absent=("image", "server", "volume"),
        missing=("image", "server", "volume", "port", "trunk", "floating_ip"),
        exit_code=3,
    ),
    "an old Glance at the source": Shape(source(NoHashes())),
    "an old Glance at the destination": Shape(destination(NoHashes())),
}
WRITES = {
    "writes that are answered by pages of HTML": Shape(
        rules=_pages(0.05, Page(502), Page(504), Page(504, is_done=True), method="POST|PUT|PATCH|DELETE")
    ),
}
# What an administrator may not choose.
NICS = ("server.NICs", "server.order of NICs")
POLICIES = {
    "nobody chooses MACs": Shape(
        destination(Forbidden("neutron", "POST", "^/v2.0/ports", r'^[^\[]*"mac_address"')),
        different=("port.mac_address", *NICS),
    ),
    # A router keeps its addresses, or is not made: its networks know them.
    "nobody chooses addresses of ports": Shape(
        destination(Forbidden("neutron", "POST", "^/v2.0/ports", r'"fixed_ips": \[[^\]]*"ip_address"')),
        failed=("router",),
        missing=("router", "floating_ip"),
        different=("port.fixed_ips", "server.addresses"),
        exit_code=3,
    ),
    "nobody chooses public addresses": Shape(
        destination(Forbidden("neutron", "POST|PUT", "^/v2.0/floatingips", "floating_ip_address"))
    ),
    "nobody chooses owners": Shape(
        destination(Forbidden("neutron", "POST", "^/v2.0/", "project_id|tenant_id")),
        failed=("network", "subnet", "address_group", "security_group"),
        missing=(*NETWORK_KINDS, "volume"),
        different=("security_group.rules",),
        exit_code=3,
    ),
}
QUOTAS = {"no quotas": Shape(both(Limits(-1)))}
# Each microversion of Nova at which our code does something else, as it says itself.
_PLACES = ("tasks/nova/*.py", "verify/nova.py", "cloud/services.py")
_FILES = [file for place in _PLACES for file in Path(pumphouse.__file__).parent.glob(place)]
_STEPS = {step for file in _FILES for step in re.findall(r'["(]2(?:\.|, )(\d+)[")]', file.read_text())}


def _capped(step: int, side: str) -> Shape:
    """A cloud whose Nova has no later microversion than 2.`step`, and what an older one cannot tell or take."""
    traits = {side: [Capped(f"2.{step}")]}
    if side == "source":
        unseen = {"port.dns_name": 3, "server.key_name": 10}
        lost = [field for field, since in unseen.items() if step < since]
        return Shape(traits, different=lost, exit_code=3 if step < 10 else 0)
    untaken = {"server.tags": range(52), "port.dns_name": range(90), "server.hostname": range(3, 90)}
    lost = [field for field, steps in untaken.items() if step in steps]
    kinds = ("keypair",) if step < 10 else ()
    return Shape(traits, different=lost, missing=kinds, exit_code=3 if kinds else 0)


CAPPED = {
    f"microversion 2.{step} at the {side}": _capped(step, side)
    for step in sorted(map(int, _STEPS))
    for side in SIDES
}

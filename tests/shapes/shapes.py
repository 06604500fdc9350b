"""Clouds as operators have them: what is odd about each, and what of a tenant arrives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.rules import Page, Rule
from tests.shapes.traits import (
    Capped,
    Forbidden,
    NoExtensions,
    NoHashes,
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
    failed: those of which something fails.
    exit_code: of the migration; verified: of `verify` after it.
    rules: makes those of the Front; leaves_links, idle_s: as a Front has them.
    """

    traits: Traits = field(default_factory=dict)
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: Collection[str] = ()
    absent: Collection[str] = ()
    failed: Collection[str] = ()
    exit_code: int = 0
    verified: int = 0
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
NETWORK_KINDS = ("network", "subnet", "security_group", "port", "router", "server")

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
    "reads that are answered by pages of HTML": Shape(
        rules=lambda: [Rule([Page(502), Page(504)], method="GET|HEAD", chance=0.1)]
    ),
    "connections that are cut after each answer": Shape(idle_s=0),
}
# What a cloud does not have.
LACKS = {
    "no Cinder at the source": Shape(
        source(Without(["block-storage"])),
        notes=["the source has no block-storage service: volumes, volume snapshots are not looked for"],
        absent=("volume",),
    ),
    "no Cinder at the destination": Shape(
        destination(Without(["block-storage"])),
        notes=["the destination has no block-storage service: not carried: 2 volumes"],
        absent=("volume",),
        exit_code=3,
        verified=6,
    ),
    "no L3 at the source": Shape(source(L3), absent=("router", "floating_ip")),
    "no L3 at the destination": Shape(
        destination(L3),
        notes=["the destination has no neutron extension router: not carried: 1 router"],
        absent=("router", "floating_ip"),
        exit_code=3,
        verified=6,
    ),
    "an old Neutron at the source": Shape(
        source(TRUNK, POOLS, SHARES, QOS, TAGS, ADDRESS_GROUPS), absent=("trunk", "address_group")
    ),
    "no trunks, pools, shares and QoS at the destination": Shape(destination(TRUNK, POOLS, SHARES, QOS)),
    "no tags at the destination": Shape(
        destination(TAGS),
        notes=["the destination has no neutron extension standard-attr-tag: not carried: "],
        absent=NETWORK_KINDS,
        exit_code=3,
        verified=6,
    ),
    "no Neutron at the destination": Shape(
        destination(Without(["network"])),
        notes=["the destination has no network service: not carried: "],
        absent=NETWORK_KINDS,
        exit_code=3,
        verified=6,
    ),
    "no Neutron at the source": Shape(
        source(Without(["network"])),
        notes=["the source has no network service: networks, "],
        absent=NETWORK_KINDS,
    ),
    "no Nova at the source": Shape(
        source(Without(["compute"])),
        notes=[
            "the source has no compute service: flavors, keypairs, server groups, servers are not looked for"
        ],
        absent=("flavor", "keypair", "server"),
    ),
    "no Glance at the destination": Shape(
        destination(Without(["image"])),
        notes=["the destination has no image service: not carried: "],
        absent=("image", "server", "volume"),
        exit_code=3,
        verified=6,
    ),
    "an old Glance at the source": Shape(source(NoHashes())),
    "an old Glance at the destination": Shape(destination(NoHashes())),
}
# A port's address and MAC are chosen by nobody.
NO_CHOICE = Forbidden("neutron", "POST", "^/v2.0/ports", "mac_address")
POLICIES = {
    "nobody chooses addresses": Shape(destination(NO_CHOICE), verified=6),
    "nobody chooses owners": Shape(
        destination(Forbidden("neutron", "POST", "^/v2.0/networks", "project_id")),
        failed=("network", "subnet"),
        exit_code=3,
        verified=6,
    ),
}
# Each microversion of Nova that is asked for, and the first of all.
CAPS = ("2.1", "2.3", "2.10", "2.19", "2.52", "2.53", "2.55", "2.70", "2.90")
CAPPED = {
    f"microversion {most} at the {side}": Shape({side: [Capped(most)]}) for most in CAPS for side in SIDES
}

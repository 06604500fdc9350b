"""What a check concludes from what it saw."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pumphouse.cloud.check import CloudCheck, Service, _not_possible
from pumphouse.cloud.rights import UNMADE, UNSEEN

COMPLETE = (
    Service("block-storage", "cinder", "3.0", "3.0", "3.71"),
    Service("compute", "nova", "2.1", "2.1", "2.96"),
    Service("identity", "keystone", "3.14"),
    Service("image", "glance", "2.17"),
    Service("network", "neutron", "2.0"),
)
SOURCE = CloudCheck(
    name="old",
    auth_url="http://old:5000/v3",
    region=None,
    user="operator",
    project="admin",
    roles=("admin",),
    is_admin=True,
    services=COMPLETE,
    extensions=("router", "trunk"),
    clock_difference_s=0.2,
)
DESTINATION = replace(SOURCE, name="new", auth_url="http://new:5000/v3")


def without(service_type: str) -> tuple[Service, ...]:
    return tuple(service for service in COMPLETE if service.type != service_type)


def test_two_complete_clouds_leave_nothing_to_say() -> None:
    assert list(_not_possible(SOURCE, DESTINATION)) == []


@pytest.mark.parametrize(
    ("source", "destination", "sentence"),
    [
        (
            SOURCE,
            replace(DESTINATION, roles=("member", "reader"), is_admin=False),
            "operator is not admin of new but member, reader: "
            f"it can only move into project admin, and cannot make {UNMADE}",
        ),
        (
            replace(SOURCE, roles=(), is_admin=False),
            DESTINATION,
            "operator is not admin of old but no role: "
            f"it can only move tenant admin, and cannot see {UNSEEN}",
        ),
        (
            SOURCE,
            replace(DESTINATION, services=without("image")),
            "new has no usable image service (it is not in the catalog): "
            "images cannot be moved, nor the disks of servers",
        ),
        (
            SOURCE,
            replace(DESTINATION, services=(*without("image"), Service("image", "glance", problem="broken"))),
            "new has no usable image service (broken): images cannot be moved, nor the disks of servers",
        ),
        (
            SOURCE,
            replace(DESTINATION, services=without("block-storage")),
            "new has no cinder: volumes cannot be moved, nor servers that have some",
        ),
        (
            SOURCE,
            replace(DESTINATION, extensions=("router",)),
            "new has no neutron extension trunk: no trunk ports",
        ),
        (
            SOURCE,
            replace(DESTINATION, clock_difference_s=-125.0),
            "the clock of new is -125 s off: logins may end early; set the clocks",
        ),
        (
            replace(SOURCE, services=(*without("identity"), Service("identity", "keystone", "3.4"))),
            DESTINATION,
            "old has keystone 3.4, not 3.6 (Mitaka): "
            "it does not tell the names of who has a role, so no tenant can be moved",
        ),
        (
            replace(SOURCE, services=(*COMPLETE, Service("dns", "designate"))),
            DESTINATION,
            "old has designate: its zones and records are not carried",
        ),
    ],
)
def test_one_lack_is_one_sentence(source: CloudCheck, destination: CloudCheck, sentence: str) -> None:
    assert list(_not_possible(source, destination)) == [sentence]


def test_each_microversion_that_is_missing_is_named() -> None:
    old = replace(SOURCE, services=(*without("compute"), Service("compute", "nova", "2.1", "2.1", "2.53")))
    assert list(_not_possible(old, DESTINATION)) == [
        "old has nova 2.53, not 2.55: no descriptions of flavors",
        "old has nova 2.53, not 2.90: no hostnames of servers",
    ]


def test_what_only_the_destination_has_is_no_lack() -> None:
    rich = replace(
        DESTINATION, services=(*COMPLETE, Service("dns", "designate")), extensions=("qos", "router", "trunk")
    )
    assert list(_not_possible(SOURCE, rich)) == []

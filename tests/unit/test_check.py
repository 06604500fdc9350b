"""What a check concludes from what it saw."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pumphouse.cloud.check import CloudCheck, Service, _not_possible, _too_old
from pumphouse.cloud.releases import is_untested, releases
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
    extensions=("router", "standard-attr-tag", "trunk"),
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
            f"it can only move into project admin, and cannot make {UNMADE}; log in as an administrator for those",
        ),
        (
            replace(SOURCE, roles=(), is_admin=False),
            DESTINATION,
            "operator is not admin of old but no role: "
            f"it can only move tenant admin, and cannot see {UNSEEN}; log in as an administrator for those",
        ),
        (
            SOURCE,
            replace(DESTINATION, is_of_one_project=True),
            "operator logs in to new by an application credential, which is of project admin "
            "alone: servers, server groups and volumes cannot be made in another; use a user name and a password",
        ),
        (
            replace(SOURCE, is_of_one_project=True),
            DESTINATION,
            "operator logs in to old by an application credential, to which keystone shows no trusts: "
            "whether the tenant has some is not seen; use a user name and a password",
        ),
        (
            SOURCE,
            replace(DESTINATION, services=without("image")),
            "new has no usable image service (it is not in the catalog): "
            "images cannot be moved, nor the disks of servers; look at: openstack catalog show image",
        ),
        (
            SOURCE,
            replace(DESTINATION, services=(*without("image"), Service("image", "glance", problem="broken"))),
            "new has no usable image service (broken): "
            "images cannot be moved, nor the disks of servers; look at: openstack catalog show image",
        ),
        (
            SOURCE,
            replace(DESTINATION, services=without("block-storage")),
            "new has no cinder: volumes cannot be moved, nor servers that have some; "
            "give it one, or copy what is on the volumes",
        ),
        (
            SOURCE,
            replace(DESTINATION, extensions=("router", "standard-attr-tag")),
            "new has no neutron extension trunk: no trunk ports, nor servers that have some; "
            "load what brings it, or do without",
        ),
        (
            replace(SOURCE, extensions=()),
            replace(DESTINATION, extensions=("router", "trunk")),
            "new has no neutron extension standard-attr-tag, by which a migration knows what it has made: "
            "nothing of neutron's can be moved, nor servers; load it",
        ),
        (
            SOURCE,
            replace(DESTINATION, clock_difference_s=-125.0),
            "the clock of new is -125 s off: logins may end early; set the clocks",
        ),
        (
            replace(SOURCE, releases=("Rocky", "Stein")),
            DESTINATION,
            "old is of Rocky to Stein, older than Train, the oldest release that migrations are tested from; "
            "move one tenant and verify it before the others",
        ),
        (
            replace(SOURCE, services=(*COMPLETE, Service("dns", "designate"))),
            DESTINATION,
            "old has designate: its zones and records are not carried; make anew what is needed",
        ),
    ],
)
def test_one_lack_is_one_sentence(source: CloudCheck, destination: CloudCheck, sentence: str) -> None:
    assert list(_not_possible(source, destination)) == [sentence]


def nova(cloud: CloudCheck, microversion: str) -> CloudCheck:
    service = Service("compute", "nova", "2.1", "2.1" if microversion else "", microversion)
    return replace(cloud, services=(*without("compute"), service))


def test_each_microversion_that_the_destination_lacks_is_named() -> None:
    assert list(_not_possible(SOURCE, nova(DESTINATION, "2.53"))) == [
        "new has nova 2.53, not 2.55: no descriptions of flavors; upgrade it, or do without",
        "new has nova 2.53, not 2.90: no hostnames of servers; upgrade it, or do without",
    ]


def test_what_an_old_source_does_not_have_is_no_lack() -> None:
    assert list(_not_possible(nova(SOURCE, "2.53"), DESTINATION)) == []
    assert list(_not_possible(nova(SOURCE, "2.53"), nova(DESTINATION, "2.53"))) == []


def test_what_an_old_source_has_and_does_not_show_is_named() -> None:
    assert list(_not_possible(nova(SOURCE, ""), DESTINATION)) == [
        "old has nova 2.1, not 2.3: it does not show user data and hostnames of servers; set them by hand",
        "old has nova 2.1, not 2.10: it does not show keypairs of other users than the operator; set them by hand",
    ]


@pytest.mark.parametrize(
    ("service", "sentence"),
    [
        (
            Service("identity", "keystone", "3.4"),
            "old has keystone 3.4, not 3.6 (Mitaka): an older one does not tell the names of who has a role",
        ),
        (
            Service("compute", "nova", "2.0"),
            "old has nova 2.0, not 2.1 (Mitaka): the calls are of that version",
        ),
        (
            Service("block-storage", "cinder", "2.0"),
            "old has cinder 2.0, not 3.0 (Mitaka): the calls are of that version",
        ),
    ],
)
def test_below_the_oldest_apis_nothing_is_possible(service: Service, sentence: str) -> None:
    assert list(_too_old(replace(SOURCE, services=(*without(service.type), service)))) == [sentence]
    assert list(_too_old(SOURCE)) == []


@pytest.mark.parametrize(
    ("identity", "compute", "volume", "release"),
    [
        ("3.8", "2.53", "3.43", "Pike"),
        ("3.13", "2.79", "3.59", "Train"),
        ("3.14", "2.93", "3.70", "Zed"),
        ("3.14", "2.95", "3.70", "2023.1 to 2023.2"),
        ("3.14", "2.90", "", "Xena to Yoga"),
        ("3.14", "2.79", "3.59", "not known: its services have not the versions of one release"),
    ],
)
def test_the_release_is_guessed_from_what_the_services_tell(
    identity: str, compute: str, volume: str, release: str
) -> None:
    told = {"identity": identity, "compute": compute, "block-storage": volume, "network": "2.0"}
    found = releases({service_type: version for service_type, version in told.items() if version})
    assert replace(SOURCE, releases=found).release == release


def test_releases_before_the_oldest_tested_one_are_untested() -> None:
    assert is_untested(("Queens",))
    assert not is_untested(("Stein", "Train"))
    assert not is_untested(())


def test_what_only_the_destination_has_is_no_lack() -> None:
    rich = replace(
        DESTINATION,
        services=(*COMPLETE, Service("dns", "designate")),
        extensions=("qos", "router", "standard-attr-tag", "trunk"),
    )
    assert list(_not_possible(SOURCE, rich)) == []

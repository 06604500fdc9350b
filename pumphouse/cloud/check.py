"""What both clouds are, and what will not be possible between them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime

from keystoneauth1.discover import version_to_string
from keystoneauth1.exceptions import ClientException
from os_service_types import ServiceTypes

from pumphouse.cloud import Cloud, same_keystone
from pumphouse.cloud.releases import OLDEST_TESTED, is_untested, releases
from pumphouse.cloud.rights import UNMADE, UNSEEN
from pumphouse.cloud.services import (
    EXTENSIONS,
    MICROVERSIONS,
    MINIMUM,
    NOT_CARRIED,
    REQUIRED,
    TAGS,
    UNSEEN_BEFORE,
    service_types,
)
from pumphouse.errors import explain

# A login is renewed two minutes before its end by the local clock.
CLOCK_TOLERANCE_S = 60
# The clouds tell times in whole seconds, and so the difference of their clocks.
CLOCK_PRECISION = timedelta(seconds=2)
# The oldest versions that can be worked with, all of Mitaka, and why.
OLDEST = {
    "identity": ("3.6", "an older one does not tell the names of who has a role"),
    "compute": (MINIMUM["compute"], "the calls are of that version"),
    "block-storage": (f"{MINIMUM['block-storage']}.0", "the calls are of that version"),
}


@dataclass(frozen=True)
class Service:
    """One service of a catalog; problem says why it did not answer."""

    type: str
    project: str
    version: str = ""
    min_microversion: str = ""
    max_microversion: str = ""
    problem: str = ""


@dataclass(frozen=True)
class CloudCheck:
    """What a login to one cloud shows.

    clock_difference_s: the cloud's clock less the local one.
    extensions: those of Neutron's that a migration uses, by alias.
    releases: of OpenStack, that it may be of by the versions of its services.
    is_of_one_project: whether the login is an application credential, with which nobody logs in elsewhere.
    """

    name: str
    auth_url: str
    region: str | None
    user: str
    project: str
    roles: tuple[str, ...]
    is_admin: bool
    services: tuple[Service, ...]
    extensions: tuple[str, ...]
    clock_difference_s: float | None
    releases: tuple[str, ...] = ()
    is_of_one_project: bool = False

    @property
    def release(self) -> str:
        """The releases that it may be of, in words."""
        if not self.releases:
            return "not known: its services have not the versions of one release"
        first, last = self.releases[0], self.releases[-1]
        return first if first == last else f"{first} to {last}"

    def service(self, service_type: str) -> Service | None:
        """The service of that type, if it is there and answers."""
        return next((s for s in self.services if s.type == service_type and not s.problem), None)


@dataclass(frozen=True)
class Check:
    """Both clouds, what will not be possible between them and what to do, one sentence each.

    too_old: why nothing at all is possible.
    """

    source: CloudCheck
    destination: CloudCheck
    not_possible: tuple[str, ...]
    too_old: tuple[str, ...] = ()


def check_clouds(source: Cloud, destination: Cloud) -> Check:
    """Log in to both clouds and read what they offer.

    Raises CloudError when a login fails.
    """
    with ThreadPoolExecutor(2) as pool:
        seen, offered = pool.map(_check_cloud, (source, destination))
    same = ["source and destination are the same Keystone: a tenant cannot be moved onto itself"]
    sentences = [*(same if same_keystone(source, destination) else ()), *_not_possible(seen, offered)]
    too_old = (sentence for cloud in (seen, offered) for sentence in _too_old(cloud))
    return Check(seen, offered, tuple(sentences), tuple(too_old))


def _check_cloud(cloud: Cloud) -> CloudCheck:
    cloud.login()
    cloud.outages.limit_s = None  # what does not answer is said, not waited for
    access = cloud.access
    services = _services(cloud)
    network = next((s for s in services if s.type == "network" and not s.problem), None)
    extensions = cloud.extensions if network else frozenset()
    return CloudCheck(
        name=cloud.name,
        auth_url=cloud.auth_url,
        region=cloud.region_name,
        user=access.username,
        project=access.project_name,
        roles=cloud.roles,
        is_admin=cloud.is_admin,
        services=services,
        extensions=tuple(sorted(extensions & set(EXTENSIONS))),
        clock_difference_s=clock_difference_s(cloud),
        releases=releases({s.type: s.max_microversion or s.version for s in services if not s.problem}),
        is_of_one_project=access.application_credential_id is not None,
    )


def _services(cloud: Cloud) -> tuple[Service, ...]:
    """The services of the catalog, those that a migration uses with the versions that they answer."""
    found = sorted(service_types(cloud.access.service_catalog.catalog or ()))
    with ThreadPoolExecutor(8) as pool:
        return tuple(pool.map(lambda service_type: _service(cloud, service_type), found))


def _service(cloud: Cloud, service_type: str) -> Service:
    project = ServiceTypes().get_project_name(service_type) or service_type
    if service_type not in (*REQUIRED, "block-storage", "placement"):
        return Service(service_type, project)
    try:
        data = cloud.endpoint(service_type)
    except ClientException as error:
        return Service(service_type, project, problem=str(explain(error)))
    if data is None:
        return Service(
            service_type, project, problem=f"no {cloud.interface} endpoint in region {cloud.region_name}"
        )
    versions = (data.api_version, data.min_microversion, data.max_microversion)
    return Service(service_type, project, *(version_to_string(v) if v else "" for v in versions))


def clock_difference_s(cloud: Cloud) -> float | None:
    """The cloud's clock less the local one; the header Date is whole seconds, so exact to half a second."""
    sent_s = time.time()
    answer = cloud.session.get(cloud.auth_url, authenticated=False, raise_exc=False)
    received_s = time.time()
    if "Date" not in answer.headers:
        return None
    cloud_s = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    return round(cloud_s + 0.5 - (sent_s + received_s) / 2, 1)


def _not_possible(source: CloudCheck, destination: CloudCheck) -> Iterator[str]:
    yield from _missing_rights(source, f"it can only move tenant {source.project}, and cannot see {UNSEEN}")
    yield from _missing_rights(
        destination, f"it can only move into project {destination.project}, and cannot make {UNMADE}"
    )
    if is_untested(source.releases):
        yield (
            f"{source.name} is of {source.release}, older than {OLDEST_TESTED}, the oldest release that "
            "migrations are tested from; move one tenant and verify it before the others"
        )
    for cloud in (source, destination):
        yield from _missing_services(cloud)
        yield from _wrong_clock(cloud)
    if source.is_of_one_project:
        yield (
            f"{source.user} logs in to {source.name} by an application credential, to which keystone shows no trusts: "
            "whether the tenant has some is not seen; use a user name and a password"
        )
    yield from _one_project(destination)
    if source.service("block-storage") and not destination.service("block-storage"):
        yield (
            f"{destination.name} has no cinder: volumes cannot be moved, nor servers that have some; "
            "give it one, or copy what is on the volumes"
        )
    yield from _unseen_before(source)
    yield from _missing_microversions(source, destination)
    yield from _missing_extensions(source, destination)
    for service in source.services:
        if service.type in NOT_CARRIED:
            yield f"{source.name} has {service.project}: its {NOT_CARRIED[service.type]}; make anew what is needed"


def _missing_rights(cloud: CloudCheck, what: str) -> Iterator[str]:
    if not cloud.is_admin:
        roles = ", ".join(cloud.roles) or "no role"
        yield f"{cloud.user} is not admin of {cloud.name} but {roles}: {what}; log in as an administrator for those"


def _one_project(cloud: CloudCheck) -> Iterator[str]:
    if cloud.is_of_one_project:
        yield (
            f"{cloud.user} logs in to {cloud.name} by an application credential, which is of project {cloud.project} "
            "alone: servers, server groups and volumes cannot be made in another; use a user name and a password"
        )


def _missing_services(cloud: CloudCheck) -> Iterator[str]:
    problems = {service.type: service.problem for service in cloud.services}
    for service_type, consequence in REQUIRED.items():
        if why := problems.get(service_type, "it is not in the catalog"):
            look = f"openstack catalog show {service_type}"
            yield f"{cloud.name} has no usable {service_type} service ({why}): {consequence}; look at: {look}"


def _too_old(cloud: CloudCheck) -> Iterator[str]:
    for service_type, (oldest, why) in OLDEST.items():
        service = cloud.service(service_type)
        if service and _parsed(service.version or oldest) < _parsed(oldest):
            yield f"{cloud.name} has {service.project} {service.version}, not {oldest} (Mitaka): {why}"


def _unseen_before(source: CloudCheck) -> Iterator[str]:
    for needed, what in MICROVERSIONS:
        if needed in UNSEEN_BEFORE and _lacks(source, needed):
            nova = _microversion(source)
            yield f"{source.name} has nova {nova}, not {needed}: it does not show {what}; set them by hand"


def _missing_microversions(source: CloudCheck, destination: CloudCheck) -> Iterator[str]:
    for needed, what in MICROVERSIONS:
        if _lacks(destination, needed) and not _lacks(source, needed):
            nova = _microversion(destination)
            yield f"{destination.name} has nova {nova}, not {needed}: no {what}; upgrade it, or do without"


def _lacks(cloud: CloudCheck, microversion: str) -> bool:
    return bool(cloud.service("compute")) and _parsed(_microversion(cloud)) < _parsed(microversion)


def _microversion(cloud: CloudCheck) -> str:
    nova = cloud.service("compute")
    return nova.max_microversion if nova and nova.max_microversion else MINIMUM["compute"]


def _parsed(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _wrong_clock(cloud: CloudCheck) -> Iterator[str]:
    difference_s = cloud.clock_difference_s or 0
    if abs(difference_s) > CLOCK_TOLERANCE_S:
        yield f"the clock of {cloud.name} is {difference_s:+.0f} s off: logins may end early; set the clocks"


def _missing_extensions(source: CloudCheck, destination: CloudCheck) -> Iterator[str]:
    if not destination.service("network"):
        return
    if TAGS not in destination.extensions:
        yield (
            f"{destination.name} has no neutron extension {TAGS}, by which a migration knows what it has made: "
            "nothing of neutron's can be moved, nor servers; load it"
        )
    for alias in sorted(set(source.extensions) - {*destination.extensions, TAGS}):
        yield (
            f"{destination.name} has no neutron extension {alias}: no {EXTENSIONS[alias]}; "
            "load what brings it, or do without"
        )

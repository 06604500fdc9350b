"""What a login cannot do that is not an administrator's, by the default policies of the services."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING

from pumphouse.model import NOT_ALL_SHOWN

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud


class Rights(StrEnum):
    """Who can do what with the resources of a kind."""

    ANYBODY = "anybody makes them"
    ADMINISTRATORS_MAKE = "others see them and cannot make them"
    ADMINISTRATORS_SEE = "others are not even shown them"


# What neither a plan nor a check can name one by one, because the login does not see it.
UNSEEN = (
    "groups, roles and their assignments, quotas, other users and their keypairs, user data of servers, "
    "and who else may use a private flavor"
)
UNMADE = (
    "a tenant, users, groups, roles and their assignments, quotas, flavors, networks and subnet pools "
    "that all may use, service types of subnets, the source NAT of routers, and chosen floating addresses"
)
REFUSED = "only an administrator of the destination can make it: ask one, or use the login of one"


def can_see(cloud: Cloud, rights: Rights) -> bool:
    """Whether a cloud shows the login the resources of a kind."""
    return rights is not Rights.ADMINISTRATORS_SEE or cloud.is_admin


def can_make(cloud: Cloud, rights: Rights) -> bool:
    """Whether a cloud lets the login make resources of a kind."""
    return rights is Rights.ANYBODY or cloud.is_admin


def notes(source: Cloud, destination: Cloud) -> Iterator[str]:
    """What a plan has to say of its logins; nothing of those of administrators."""
    if not source.is_admin:
        yield f"{NOT_ALL_SHOWN}: not carried, because not shown to it: {UNSEEN}"
    if not destination.is_admin:
        project = destination.access.project_name
        yield (
            f"the login of the destination is not an administrator's: all is made in its project {project}; "
            f"it cannot make {UNMADE}"
        )

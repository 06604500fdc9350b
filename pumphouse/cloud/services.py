"""The services of OpenStack: which versions of their APIs the calls are written for, what needs which of their features."""

from __future__ import annotations

import re
from collections.abc import Iterable

from os_service_types import ServiceTypes

from pumphouse.model import Json

# The oldest versions that the calls to these services are written for, where keystoneauth finds the endpoint.
MINIMUM = {"compute": "2.1", "block-storage": "3"}
# The paths of the others never change, so nobody has to ask for them: an old Neutron does not tell its versions
# to everybody, and a Glance is listed both with and without one.
PATHS = {"identity": "/v3", "image": "/v2", "network": "/v2.0"}

# What cannot be moved where a service is missing.
REQUIRED = {
    "identity": "nothing can be moved",
    "compute": "flavors, keypairs and servers cannot be moved",
    "image": "images cannot be moved, nor the disks of servers",
    "network": "networks, routers, security groups and ports cannot be moved, nor servers",
}

# The first microversion of Nova that has a feature, from its REST API Version History.
MICROVERSIONS: tuple[tuple[str, str], ...] = (
    ("2.3", "user data and hostnames of servers"),
    ("2.10", "keypairs of other users than the operator"),
    ("2.19", "descriptions of servers"),
    ("2.52", "tags of servers"),
    ("2.55", "descriptions of flavors"),
    ("2.90", "hostnames of servers"),
)

# Those before which Nova does not even show what there is.
UNSEEN_BEFORE = ("2.3", "2.10")

# Neutron's extensions by alias, and what needs them.
EXTENSIONS = {
    "address-scope": "address scopes",
    "allowed-address-pairs": "allowed address pairs of ports",
    "dns-integration": "DNS names of ports and networks",
    "external-net": "external networks",
    "extra_dhcp_opt": "DHCP options of ports",
    "extraroute": "static routes of routers",
    "net-mtu-writable": "the MTU of networks",
    "port-security": "port security",
    "qos": "QoS policies",
    "rbac-policies": "networks shared with single projects",
    "router": "routers and floating IPs",
    "security-group": "security groups",
    "security-groups-remote-address-group": "security group rules with address groups, nor groups and servers that have such",
    "standard-attr-tag": "tags",
    "stateful-security-group": "stateless security groups",
    "subnet-service-types": "service types of subnets",
    "subnet_allocation": "subnet pools",
    "trunk": "trunk ports, nor servers that have some",
}

# That by which a migration knows what it has made.
TAGS = "standard-attr-tag"

# Services whose resources no migration carries, and what becomes of what depends on them.
NOT_CARRIED = {
    "application-container": "containers are not carried",
    "backup": "backups are not carried",
    "baremetal": "bare metal nodes are not carried",
    "container-infrastructure-management": "clusters are not carried; their servers arrive without them",
    "database": "database instances are not carried",
    "dns": "zones and records are not carried",
    "instance-ha": "recovery segments are not carried",
    "key-manager": "secrets are not carried, so that encrypted volumes and signed images lose their keys",
    "load-balancer": "load balancers are not carried",
    "object-store": "containers and objects are not carried",
    "orchestration": "stacks are not carried; their resources arrive without the stack",
    "reservation": "leases are not carried",
    "shared-file-system": "shares are not carried",
    "workflow": "workflows are not carried",
}

# The services of which all is looked into; Nova's Placement has nothing of a tenant's own, the last are second names.
LOOKED_INTO = {*REQUIRED, "block-storage", "placement", "compute_legacy", "cloudformation", "ec2", "s3"}
# What is said of any other service.
UNKNOWN = "what the tenant has there is not looked into, and not carried"

_VERSION = re.compile(r"/v\d+(\.\d+)?$")


def unversioned(url: str) -> str:
    """An endpoint without the version at its end, if it has one."""
    return _VERSION.sub("", url.rstrip("/"))


def is_of_version(url: str, version: str) -> bool:
    """Whether an endpoint ends with a version of an API, or with the id of a project after it."""
    return re.search(rf"/v{re.escape(version)}(\.0)?(/[^/]+)?$", url.rstrip("/")) is not None


def service_types(catalog: Iterable[Json]) -> set[str]:
    """The services of a catalog by their official types, e.g. `block-storage` for `volumev3`."""
    known = ServiceTypes()
    return {known.get_service_type(entry["type"]) or entry["type"] for entry in catalog}

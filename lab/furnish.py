"""What a new cloud is given through its public APIs, so that a tenant can be made in it."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from openstack.connection import Connection
from openstack.exceptions import raise_from_response

from lab.config import REGION, administrator
from lab.layout import LabCloud

# Each service's name, its types in the catalog, and the path of its API; Cinder's is the release's.
CATALOG = (
    ("glance", ("image",), ""),
    ("placement", ("placement",), ""),
    ("nova", ("compute",), "/v2.1"),
    ("neutron", ("network",), ""),
    ("cinder", ("block-storage", "volumev3"), "{volume_path}"),
)
# name, memory in MiB, vCPUs, root disk in GiB
FLAVORS = (("m1.tiny", 64, 1, 1), ("m1.small", 128, 1, 2), ("m1.medium", 256, 2, 5), ("m1.large", 512, 4, 10))
EXTERNAL_CIDRS = {"source": "172.24.0.0/16", "destination": "172.25.0.0/16"}
VOLUME_TYPE = "standard"
CINDER_QUOTAS = ("volumes", "snapshots", "gigabytes", "groups", "backups", "backup_gigabytes")


def connect(cloud: LabCloud) -> Connection:
    """A connection to a cloud as its administrator."""
    return Connection(auth=administrator(cloud), region_name=REGION, identity_api_version="3")


def register_services(cloud: LabCloud) -> None:
    """Give each service its user and its entries in the catalog: they need both to start."""
    identity: Any = connect(cloud).identity
    project = identity.create_project(name="service", domain_id="default", is_enabled=True)
    if "service" not in {role.name for role in identity.roles()}:  # Keystone makes it since 23.0.0 (2023.1)
        identity.create_role(name="service")
    roles = [role for role in identity.roles() if role.name in ("admin", "service")]

    def register(name: str, types: tuple[str, ...], path: str) -> None:
        user = identity.create_user(
            name=name, password=cloud.password, domain_id="default", default_project_id=project.id
        )
        for role in roles:
            identity.assign_project_role_to_user(project, user, role)
        url = cloud.url(name) + path.format(volume_path=cloud.release.volume_path)
        for service_type in types:
            service = identity.create_service(name=name, type=service_type)
            for interface in ("public", "internal", "admin"):
                identity.create_endpoint(
                    service_id=service.id, interface=interface, region_id=REGION, url=url
                )

    with ThreadPoolExecutor() as pool:
        list(pool.map(register, *zip(*CATALOG, strict=True)))


def furnish(cloud: LabCloud) -> None:
    """Make the flavors, the external network and the volume type of a cloud."""
    connection = connect(cloud)
    with ThreadPoolExecutor() as pool:
        made: list[Future[Any]] = [
            pool.submit(_make_flavors, connection),
            pool.submit(_make_external_network, connection, cloud.name),
            pool.submit(connection.block_storage.create_type, name=VOLUME_TYPE),
            pool.submit(_lift_volume_quotas, connection),
        ]
    for each in made:
        each.result()


def _make_flavors(connection: Connection) -> None:
    for flavor, memory_mib, vcpus, disk_gib in FLAVORS:
        connection.compute.create_flavor(name=flavor, ram=memory_mib, vcpus=vcpus, disk=disk_gib)


def _make_external_network(connection: Connection, name: str) -> None:
    network = connection.network.create_network(
        name="public",
        is_router_external=True,
        provider_network_type="flat",
        provider_physical_network="external",
    )
    connection.network.create_subnet(
        name=f"public-{name}",
        network_id=network.id,
        ip_version=4,
        cidr=EXTERNAL_CIDRS[name],
        is_dhcp_enabled=False,
    )


def _lift_volume_quotas(connection: Connection) -> None:
    quotas = {"quota_class_set": dict.fromkeys(CINDER_QUOTAS, -1)}
    raise_from_response(connection.block_storage.put("/os-quota-class-sets/default", json=quotas))

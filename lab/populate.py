"""The sample tenant: one of everything a migration has to carry, with no field left at its default."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from openstack.connection import Connection

from lab.sample.base import MIB, Sizes, Tenant, connect, content, together
from lab.sample.identity import UNFINISHED, finish, make_tenant
from lab.sample.images import make_images
from lab.sample.inventory import find_project, inventory, remove_tenant
from lab.sample.networks import make_floating_ip, make_networks, make_virtual_ip, server_ports
from lab.sample.security import make_security_groups
from lab.sample.servers import (
    FROM_VOLUME, attach, make_flavor, make_keypairs, make_servers, nics, security_groups, switch_off)
from lab.sample.volumes import ROOT, make_volumes, wait_for_volumes

T = TypeVar("T")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Sample:
    """A sample tenant as it is in its cloud.

    made: ids by name, by kind; things without a name go by their id or address.
    passwords: of the users by their short names; empty when the tenant existed before.
    """

    name: str
    tenant_id: str
    made: dict[str, dict[str, str]]
    passwords: dict[str, str] = field(default_factory=dict, repr=False)

    def summary(self) -> dict[str, Any]:
        """What may be shown to anybody: everything but the passwords."""
        return {"name": self.name, "tenant_id": self.tenant_id, "made": self.made}


def populate(clouds_yaml: Path, name: str = "demo", sizes: Sizes | None = None, *,
             cloud: str = "source", say: Say = lambda line: None) -> Sample:
    """Make a sample tenant; one that is complete already is left as it is, a half-made one is made anew.

    clouds_yaml: the one in a lab's directory: the disks whose bytes are changed are beside it.
    name: of the project, and the prefix of all that is known by its name in the whole cloud.
    say: is given a line about each step as it ends.
    """
    admin = connect(clouds_yaml, cloud)
    project = find_project(admin, name)
    if project and UNFINISHED not in project["tags"]:
        say(f"tenant {name} exists in {cloud}; nothing to do")
        return Sample(name, project["id"], inventory(admin, name, project["id"]))
    if project:
        say(f"tenant {name} was left half made in {cloud}; removing it first")
        remove_tenant(admin, name, project["id"])
    return _make(admin, clouds_yaml.parent / cloud, name, sizes or Sizes(), say)


def remove(clouds_yaml: Path, name: str = "demo", *, cloud: str = "source") -> None:
    """Delete the tenant of this name with all that is in it, and the users, groups, roles, flavors of its prefix.

    It need not have been made here: a tenant that was migrated from a sample is removed the same way.
    """
    admin = connect(clouds_yaml, cloud)
    project = find_project(admin, name)
    if project:
        remove_tenant(admin, name, project["id"])


def _make(admin: Connection, cloud_dir: Path, name: str, sizes: Sizes, say: Say) -> Sample:
    def timed(title: str, function: Callable[..., T], *arguments: Any) -> T:
        start_s = time.monotonic()
        result = function(*arguments)
        say(f"{time.monotonic() - start_s:5.1f} s  {title}")
        return result

    tenant = timed("project, users, group, roles, quotas", make_tenant, admin, name, sizes)
    with ThreadPoolExecutor() as pool:
        images = pool.submit(timed, f"{sizes.images} images", make_images, tenant)
        volumes = pool.submit(timed, f"{sizes.volumes} volumes", _make_volumes, tenant, images)
        ports = pool.submit(timed, "networks, router, security groups, ports", _make_ports, tenant)
        flavor = pool.submit(timed, "private flavor", make_flavor, tenant)
        pool.submit(timed, "keypairs", make_keypairs, tenant).result()
    servers = timed(f"{len(ports.result())} servers", make_servers, tenant, ports.result(), images.result(),
                    flavor.result(), volumes.result().get(ROOT))
    timed("servers' states, their volume and floating IP", _settle, tenant, servers, volumes.result())
    timed("bytes on disks", _write_disks, tenant, cloud_dir, servers, volumes.result())
    finish(tenant)
    return Sample(name, tenant.id, inventory(admin, name, tenant.id), tenant.passwords)


def _make_volumes(tenant: Tenant, images: Future[dict[str, str]]) -> dict[str, str]:
    return make_volumes(tenant, images.result()["base"])


def _make_ports(tenant: Tenant) -> dict[str, list[str]]:
    """Make all that is Neutron's; returns the port ids of each server in the order of its NICs."""
    with ThreadPoolExecutor() as pool:
        groups = pool.submit(make_security_groups, tenant)
        networks = make_networks(tenant)
    make_virtual_ip(tenant, networks, [groups.result()["default"]])
    ports = server_ports(tenant, networks, groups.result(), nics(tenant, networks.ids), security_groups(tenant))
    if "db" in ports:
        make_floating_ip(tenant, networks, ports["db"][0])
    return ports


def _settle(tenant: Tenant, servers: dict[str, str], volumes: dict[str, str]) -> None:
    """Switch off the server that is off by day, and give the database its volume."""
    with ThreadPoolExecutor() as pool:
        stopped = pool.submit(switch_off, tenant, servers["batch"]) if "batch" in servers else None
        if "db" in servers and "data" in volumes:
            attach(tenant, servers["db"], volumes["data"])
            wait_for_volumes(tenant, "in-use", {volumes["data"]})
    if stopped:
        stopped.result()


def _write_disks(tenant: Tenant, cloud_dir: Path, servers: dict[str, str], volumes: dict[str, str]) -> None:
    """Change bytes on every server's disk and every volume, as their guests would."""
    instances, storage = cloud_dir / "nova" / "instances", cloud_dir / "cinder" / "volumes"
    files = {f"server/{name}": instances / server_id / "disk" for name, server_id in servers.items()}
    files.pop(f"server/{FROM_VOLUME}", None)
    files |= {f"volume/{name}": storage / volume_id for name, volume_id in volumes.items()}
    together(lambda seed: _overwrite(files[seed], f"{tenant.name}/{seed}", tenant.sizes.disk_mib), list(files))


def _overwrite(path: Path, seed: str, mib: int) -> None:
    """Replace the bytes from the first MiB on, in a file that has at least so many."""
    with path.open("r+b") as file:
        file.seek(MIB // 2)
        file.writelines(content(seed, mib))

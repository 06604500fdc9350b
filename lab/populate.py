"""The sample tenant: one of everything a migration has to carry, with no field left at its default."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import click
from keystoneauth1.exceptions import ClientException
from openstack.connection import Connection
from openstack.exceptions import SDKException

from lab import Lab
from lab.layout import CLOUDS, LabError
from lab.sample.base import Tenant, connect
from lab.sample.disks import write_disks
from lab.sample.identity import UNFINISHED, finish, make_tenant
from lab.sample.images import make_images
from lab.sample.inventory import find_project, inventory, remove_tenant
from lab.sample.networks import (
    make_floating_ip,
    make_forwarding,
    make_networks,
    make_trunk,
    make_virtual_ip,
    server_ports,
    share,
)
from lab.sample.security import default_group, make_security_groups
from lab.sample.servers import (
    attach,
    make_flavor,
    make_keypairs,
    make_servers,
    nics,
    switch_off,
)
from lab.sample.sizes import Sizes
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


def populate(
    clouds_yaml: Path,
    name: str = "demo",
    sizes: Sizes | None = None,
    *,
    cloud: str = "source",
    say: Say = lambda _: None,
) -> Sample:
    """Make a sample tenant; one that is complete already is left as it is, a half-made one is made anew.

    clouds_yaml: the one in a lab's directory: the disks whose bytes are changed are beside it.
    name: of the project, and the prefix of all that is known by its name in the whole cloud.
    say: is given a line about each step as it ends.

    Raises LabError when the cloud cannot hold the sample.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name):
        raise LabError(f"the name {name!r} of a sample tenant: use up to 40 letters, digits, '-' and '_'")
    admin = connect(clouds_yaml, cloud)
    project = find_project(admin, name)
    if project and UNFINISHED not in project["tags"]:
        say(f"tenant {name} exists in {cloud}; nothing to do")
        return Sample(name, project["id"], inventory(admin, name, project["id"]))
    if project:
        say(f"tenant {name} was left half made in {cloud}; removing it first")
        remove_tenant(admin, name)
    return _make(admin, clouds_yaml.parent, name, sizes or Sizes(), say)


def remove(clouds_yaml: Path, name: str = "demo", *, cloud: str = "source") -> None:
    """Delete the tenant of this name with all that is in it, its users, groups, roles and flavors.

    It need not have been made here: a tenant that was migrated from a sample is removed the same way.
    """
    remove_tenant(connect(clouds_yaml, cloud), name)


def _make(admin: Connection, lab_dir: Path, name: str, sizes: Sizes, say: Say) -> Sample:
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
    servers = timed(
        f"{len(ports.result())} servers",
        make_servers,
        tenant,
        ports.result(),
        images.result(),
        flavor.result(),
        volumes.result().get(ROOT),
    )
    timed("servers' states, their volumes and floating IP", _settle, tenant, servers, volumes.result())
    timed("bytes on disks", write_disks, tenant, lab_dir, servers, volumes.result())
    finish(tenant)
    return Sample(name, tenant.id, inventory(admin, name, tenant.id), tenant.passwords)


def _make_volumes(tenant: Tenant, images: Future[dict[str, str]]) -> dict[str, str]:
    return make_volumes(tenant, images.result()["base"])


def _make_ports(tenant: Tenant) -> dict[str, list[str]]:
    """Make all that is Neutron's; returns the port ids of each server in the order of its NICs."""
    # Two first calls for a project at once race for its default group, and Neutron answers one of them 500.
    default_id = default_group(tenant)
    with ThreadPoolExecutor() as pool:
        groups = pool.submit(make_security_groups, tenant, default_id)
        networks = make_networks(tenant)
    make_virtual_ip(tenant, networks, [default_id])
    ports = server_ports(tenant, networks, groups.result(), nics(tenant, networks.ids))
    if "db" in ports:
        make_floating_ip(tenant, networks, ports["db"][0])
    if len(ports.get("web", ())) > 1:
        _, front, *_ = ports["web"]
        make_forwarding(tenant, networks, front)
        # A trunk's MTU may not be less than that of a subport.
        make_trunk(tenant, networks, front)
    if tenant.partner_id:
        share(tenant, networks)
    return ports


def _settle(tenant: Tenant, servers: dict[str, str], volumes: dict[str, str]) -> None:
    """Switch off the server that is off by day, and give the database its volumes."""
    with ThreadPoolExecutor() as pool:
        stopped = pool.submit(switch_off, tenant, servers["batch"]) if "batch" in servers else None
        if "db" in servers:
            _attach_all(tenant, servers["db"], volumes)
    if stopped:
        stopped.result()


def _attach_all(tenant: Tenant, server_id: str, volumes: dict[str, str]) -> None:
    """Give the database its volumes, the second disk last: only the names of the devices tell their order."""
    if "logs" in volumes:
        attach(tenant, server_id, volumes["logs"], "/dev/vdc", delete_on_termination=True)
        wait_for_volumes(tenant, "in-use", {volumes["logs"]})
    if "data" in volumes:
        attach(tenant, server_id, volumes["data"], "/dev/vdb", tag="orders")
        wait_for_volumes(tenant, "in-use", {volumes["data"]})


def _size_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each of the sizes."""
    for size in reversed([size for size in fields(Sizes) if size.metadata]):
        kind = click.IntRange(size.metadata["least"], size.metadata["most"])
        command = click.option(
            f"--{size.name.replace('_', '-')}",
            type=kind,
            default=size.default,
            show_default=True,
            help=size.metadata["help"],
        )(command)
    return command


@click.command("populate")
@click.option(
    "--cloud", type=click.Choice(CLOUDS), default="source", show_default=True, help="The cloud to fill."
)
@click.option(
    "--name", default="demo", show_default=True, help="The tenant's name, and the prefix of its users'."
)
@_size_options
@click.option(
    "--boot-from-volume/--no-boot-from-volume",
    default=True,
    show_default=True,
    help="Add a server, vault, whose root disk is a volume.",
)
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="json: the names and ids of all that was made.",
)
@click.pass_obj
def command(directory: Path, /, cloud: str, name: str, form: str, **sizes: Any) -> None:
    """Make a sample tenant, one of everything that a migration has to carry."""
    lab = Lab(directory)
    lab.clouds()
    if not lab.is_up():
        raise LabError(f"the lab in {directory} is not up; start it with: python -m lab --dir {directory} up")
    start_s = time.monotonic()
    try:
        sample = populate(lab.clouds_yaml, name, Sizes(**sizes), cloud=cloud, say=_say)
    except (SDKException, ClientException) as error:
        raise LabError(
            f"{cloud} refused a part of tenant {name}: {error}; "
            "populate again to have the half-made tenant removed and made anew"
        ) from error
    _say(f"{time.monotonic() - start_s:5.1f} s  in all")
    click.echo(json.dumps(sample.summary(), indent=2) if form == "json" else _table(sample))


def _say(line: str) -> None:
    click.echo(line, err=True)


def _table(sample: Sample) -> str:
    rows = [f"{kind:15} {', '.join(sorted(ids))}" for kind, ids in sample.made.items() if ids]
    return "\n".join([*rows, f"tenant {sample.name}: {sample.tenant_id}"])

"""The sample's private flavor, keypairs and servers."""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Collection
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from openstack.connection import Connection
from openstack.utils import supports_microversion

from lab.layout import LabError
from lab.sample.base import (
    COMPUTE_MICROVERSION,
    IMAGE_RAM_MIB,
    Tenant,
    get,
    names,
    post,
    together,
    until_none_left,
)

SERVERS = ("web", "batch", "db")
FROM_VOLUME = "vault"
GROUPED = ("web", "db")
# The networks of a server's NICs, in an order that no sorting gives; further servers have those of "".
NICS = {"web": ("back", "front", "storage"), "batch": ("back",), "db": ("front", "back"), "": ("front",)}
DESCRIPTIONS = {
    "web": "Shop front",
    "batch": "Runs at night; off by day",
    "db": "The shop's database",
    FROM_VOLUME: "Its root disk is a volume",
}
USER_DATA = "#cloud-config\nhostname: {server}\nruncmd: [touch /var/lib/{server}]\n"


def server_names(tenant: Tenant) -> list[str]:
    """The names of all servers of the sample."""
    return names(SERVERS, "worker", tenant.sizes.servers) + [FROM_VOLUME] * tenant.sizes.boot_from_volume


def nics(tenant: Tenant, networks: Collection[str]) -> dict[str, list[str]]:
    """The networks of each server in the order of its NICs, as far as there are such networks."""

    def order(server: str) -> list[str]:
        return [network for network in NICS.get(server, NICS[""]) if network in networks] or ["front"]

    return {server: order(server) for server in server_names(tenant)}


def _from_image(server: str, images: dict[str, str]) -> dict[str, Any]:
    return {"imageRef": images["appliance" if server == "batch" and "appliance" in images else "base"]}


def make_flavor(tenant: Tenant) -> str:
    """Create a flavor that only the tenant (and its partner) may use; returns its id."""
    flavor_id = f"{tenant.name}.tiny"
    post(
        tenant.admin.compute,
        "/flavors",
        flavor={
            "id": flavor_id,
            "name": flavor_id,
            "ram": 96,
            "vcpus": 1,
            "disk": 1,
            "swap": 32,
            "OS-FLV-EXT-DATA:ephemeral": 1,
            "rxtx_factor": 1.5,
            "os-flavor-access:is_public": False,
            "description": "For the shop alone",
        },
    )
    post(
        tenant.admin.compute,
        f"/flavors/{flavor_id}/os-extra_specs",
        extra_specs={"hw_rng:allowed": "true", "quota:disk_read_iops_sec": "500", "shop:rack": "left"},
    )
    for project_id in filter(None, (tenant.id, tenant.partner_id)):
        post(tenant.admin.compute, f"/flavors/{flavor_id}/action", addTenantAccess={"tenant": project_id})
    return flavor_id


def make_keypairs(tenant: Tenant) -> None:
    """Create a keypair of the first user, of type ssh, and of the second, of type x509."""
    makers = ((_ssh_key, "ssh", "laptop"), (_certificate, "x509", "badge"))
    for member, (public_key, kind, name) in zip(tenant.members, makers, strict=False):
        post(
            member.compute,
            "/os-keypairs",
            keypair={"name": name, "type": kind, "public_key": public_key(f"{tenant.name}/{name}")},
        )


def _private_key(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest())


def _ssh_key(seed: str) -> str:
    key = _private_key(seed).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return f"{key.decode()} {seed}"


def _certificate(seed: str) -> str:
    key, subject = _private_key(seed), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, seed)])
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(
        issuer_name=subject,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=4711,
        not_valid_before=start,
        not_valid_after=start + datetime.timedelta(days=36500),
    )
    return builder.sign(key, None).public_bytes(Encoding.PEM).decode()


def make_servers(
    tenant: Tenant,
    ports: dict[str, list[str]],
    images: dict[str, str],
    flavor_id: str,
    root_volume_id: str | None,
) -> dict[str, str]:
    """Boot the servers and wait until all are ACTIVE; returns ids by name.

    ports: the port ids of each server, in the order of its NICs.
    """
    public_flavor_id = _public_flavor(tenant.admin)
    wanted = server_names(tenant)
    hints = _make_group(tenant) if set(GROUPED) <= set(wanted) else {}

    def boot(server: str) -> str:
        body = _server(server, ports[server]) | _key(tenant, server) | _hostname(tenant, server)
        body["flavorRef"] = flavor_id if server == "web" else public_flavor_id
        body |= _from_volume(root_volume_id) if server == FROM_VOLUME else _from_image(server, images)
        hint = hints if server in GROUPED else {}
        return str(post(_booted_by(tenant, server).compute, "/servers", server=body, **hint)["server"]["id"])

    ids = dict(zip(wanted, together(boot, wanted), strict=True))
    wait_for_servers(tenant, dict.fromkeys(ids.values(), "ACTIVE"))
    return ids


def _make_group(tenant: Tenant) -> dict[str, Any]:
    """Create a server group; returns what a server is booted with to be in it."""
    group = {"name": "spread", "policy": "soft-anti-affinity"}
    made = post(tenant.owner.compute, "/os-server-groups", server_group=group)["server_group"]
    return {"os:scheduler_hints": {"group": made["id"]}}


def _public_flavor(admin: Connection) -> str:
    """The smallest flavor that everybody may use and that has a disk."""
    public = admin.compute.flavors(is_public=True)
    flavors = [flavor for flavor in public if flavor.disk and flavor.ram >= IMAGE_RAM_MIB]
    if not flavors:
        raise LabError(f"the cloud has no public flavor with a disk and {IMAGE_RAM_MIB} MiB of memory")
    return str(min(flavors, key=lambda flavor: (flavor.disk, flavor.ram)).id)


def _booted_by(tenant: Tenant, server: str) -> Connection:
    """batch belongs to the second user if there is one, everything else to the first."""
    return tenant.members[:2][-1 if server == "batch" else 0]


def _key(tenant: Tenant, server: str) -> dict[str, str]:
    if server in ("web", "db"):
        return {"key_name": "laptop"}
    return {"key_name": "badge"} if server == "batch" and len(tenant.members) > 1 else {}


def _server(server: str, port_ids: list[str]) -> dict[str, Any]:
    return {
        "name": server,
        "description": DESCRIPTIONS.get(server, "One more hand"),
        "metadata": {"shop_role": server, "note": "käse & wine"},
        "tags": ["sample", f"role-{server}"],
        "user_data": base64.b64encode(USER_DATA.format(server=server).encode()).decode(),
        "config_drive": True,
        "networks": [{"port": port_id} for port_id in port_ids],
    }


def _hostname(tenant: Tenant, server: str) -> dict[str, str]:
    known = supports_microversion(tenant.owner.compute, COMPUTE_MICROVERSION)
    return {"hostname": f"{server}-1"} if known else {}


def _from_volume(volume_id: str | None) -> dict[str, Any]:
    return {
        "block_device_mapping_v2": [
            {
                "source_type": "volume",
                "destination_type": "volume",
                "uuid": volume_id,
                "boot_index": 0,
                "delete_on_termination": True,
            }
        ]
    }


def switch_off(tenant: Tenant, server_id: str) -> None:
    """Stop a server and lock it."""
    post(tenant.admin.compute, f"/servers/{server_id}/action", **{"os-stop": None})
    wait_for_servers(tenant, {server_id: "SHUTOFF"})
    post(
        _booted_by(tenant, "batch").compute,
        f"/servers/{server_id}/action",
        lock={"locked_reason": "Runs at night"},
    )


def attach(tenant: Tenant, server_id: str, volume_id: str, device: str, **options: Any) -> None:
    """Attach a volume as one of a server's disks."""
    post(
        tenant.owner.compute,
        f"/servers/{server_id}/os-volume_attachments",
        volumeAttachment={"volumeId": volume_id, "device": device, **options},
    )


def wait_for_servers(tenant: Tenant, statuses: dict[str, str]) -> None:
    """Wait until each server has its status; raises LabError with Nova's reason when one fails."""

    def left() -> int:
        servers = {server["id"]: server for server in get(tenant.owner.compute, "/servers/detail")["servers"]}
        for server_id in statuses:
            if servers[server_id]["status"] == "ERROR":
                fault = servers[server_id].get("fault", {}).get("message", "without saying why")
                raise LabError(f"Nova could not make server {servers[server_id]['name']}: {fault}")
        return sum(servers[server_id]["status"] != status for server_id, status in statuses.items())

    until_none_left(left, "servers in their state", timeout_s=300)

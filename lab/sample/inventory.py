"""What a sample tenant consists of, read back from the cloud; and its removal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from openstack.connection import Connection

from lab.sample.base import delete, get, put, together, until


def find_project(admin: Connection, name: str) -> dict[str, Any] | None:
    """The project of this name in the default domain."""
    found = get(admin.identity, f"/projects?name={name}&domain_id=default")["projects"]
    return found[0] if found else None


def inventory(admin: Connection, name: str, project_id: str) -> dict[str, dict[str, str]]:
    """Ids by name of everything that belongs to the sample tenant, by kind; unnamed things go by their id."""
    identity: Any = admin.identity  # openstacksdk's type for it allows for version 2
    users = _own(identity.users(), name)
    return {
        "project": _own(identity.projects(), name) | {name: project_id},
        "user": users,
        "group": _own(identity.groups(), name),
        "role": _own(identity.roles(), name),
        "flavor": _own(admin.compute.flavors(is_public=None), name),
        "keypair": {
            f"{user}/{key.name}": key.name
            for user, user_id in users.items()
            for key in admin.compute.keypairs(user_id=user_id)
        },
        "image": _ids(
            [
                image
                for hidden in (False, True)
                for image in admin.image.images(owner=project_id, is_hidden=hidden)
            ]
        ),
        "server": _ids(admin.compute.servers(all_projects=True, project_id=project_id)),
        "volume": _ids(admin.block_storage.volumes(all_projects=True, project_id=project_id)),
        "snapshot": _ids(admin.block_storage.snapshots(all_projects=True, project_id=project_id)),
    } | _network_inventory(admin, project_id)


def _network_inventory(admin: Connection, project_id: str) -> dict[str, dict[str, str]]:
    network = admin.network
    return {
        "network": _ids(network.networks(project_id=project_id)),
        "subnet": _ids(network.subnets(project_id=project_id)),
        "router": _ids(network.routers(project_id=project_id)),
        "port": _ids(network.ports(project_id=project_id)),
        "security_group": _ids(network.security_groups(project_id=project_id)),
        "floating_ip": {ip.floating_ip_address: ip.id for ip in network.ips(project_id=project_id)},
    }


def _ids(resources: Iterable[Any]) -> dict[str, str]:
    """Ids by name, of namesakes and unnamed ones the id by itself."""
    ids: dict[str, str] = {}
    for resource in resources:
        ids[resource.id if resource.name in ids else resource.name or resource.id] = resource.id
    return ids


def _own(resources: Iterable[Any], name: str) -> dict[str, str]:
    """Of a kind that knows no project, those with the sample's prefix."""
    return _ids(resource for resource in resources if resource.name.startswith(f"{name}."))


def remove_tenant(admin: Connection, name: str, project_id: str) -> None:
    """Delete a sample tenant, complete or half made, and everything that has come to belong to it since."""
    made = inventory(admin, name, project_id)
    ours: dict[str, Any] = {"all_projects": True, "project_id": project_id}
    delete(admin.compute, "servers", made["server"].values())
    until(lambda: not list(admin.compute.servers(**ours)), "servers deleted")
    storage = admin.block_storage
    delete(storage, "snapshots", made["snapshot"].values())
    until(lambda: not list(storage.snapshots(**ours)), "snapshots deleted")
    delete(storage, "volumes", made["volume"].values())
    _remove_networks(admin, made, project_id)
    together(
        lambda image_id: admin.image.update_image(image_id, is_protected=False), list(made["image"].values())
    )
    delete(admin.image, "images", made["image"].values())
    delete(admin.compute, "flavors", made["flavor"].values())
    until(lambda: not list(storage.volumes(**ours)), "volumes deleted")
    _remove_identity(admin, made, project_id)


def _remove_networks(admin: Connection, made: dict[str, dict[str, str]], project_id: str) -> None:
    network = admin.network
    delete(network, "floatingips", made["floating_ip"].values())
    together(lambda router_id: _empty_router(admin, router_id), list(made["router"].values()))
    delete(network, "routers", made["router"].values())
    delete(network, "ports", (port.id for port in network.ports(project_id=project_id)))
    delete(network, "networks", made["network"].values())
    # To list the groups makes "default" anew, so they are listed no more.
    delete(network, "security-groups", made["security_group"].values())
    delete(network, "quotas", [project_id])


def _empty_router(admin: Connection, router_id: str) -> None:
    network = admin.network
    put(network, f"/routers/{router_id}", router={"routes": [], "external_gateway_info": None})
    for port in network.ports(device_id=router_id, device_owner="network:router_interface"):
        put(network, f"/routers/{router_id}/remove_router_interface", port_id=port.id)


def _remove_identity(admin: Connection, made: dict[str, dict[str, str]], project_id: str) -> None:
    for name, key_name in made["keypair"].items():
        user_id = made["user"][name.removesuffix(f"/{key_name}")]
        delete(admin.compute, "os-keypairs", [f"{key_name}?user_id={user_id}"])
    for service in (admin.compute, admin.block_storage):
        delete(service, "os-quota-sets", [project_id])
    for kind in ("user", "group", "role", "project"):
        delete(admin.identity, f"{kind}s", made[kind].values())

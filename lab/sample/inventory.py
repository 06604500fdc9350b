"""What a sample tenant consists of, read back from the cloud; and its removal."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from openstack.connection import Connection

from lab.sample.base import delete, extends, get, put, together, until_none_left

Inventory = dict[str, dict[str, str]]


def find_project(admin: Connection, name: str) -> dict[str, Any] | None:
    """The project of this name in the default domain."""
    found = get(admin.identity, f"/projects?name={name}&domain_id=default")["projects"]
    return found[0] if found else None


def inventory(admin: Connection, name: str, project_id: str) -> Inventory:
    """Ids by name of everything that belongs to the sample tenant, by kind; unnamed things go by their id."""
    shared = _prefixed(admin, name)
    shared["project"][name] = project_id
    return shared | _owned(admin, project_id) | _networks(admin, project_id)


def _prefixed(admin: Connection, name: str) -> Inventory:
    """What belongs to no project, and is the sample's by its prefix."""
    identity: Any = admin.identity  # openstacksdk's type for it allows for version 2
    kinds = {
        "project": identity.projects(),
        "user": identity.users(),
        "group": identity.groups(),
        "role": identity.roles(),
        "flavor": admin.compute.flavors(is_public=None),
    }
    found = {
        kind: _ids(resource for resource in resources if resource.name.startswith(f"{name}."))
        for kind, resources in kinds.items()
    }
    keypairs = {
        f"{user}/{key.name}": key.name
        for user, user_id in found["user"].items()
        for key in admin.compute.keypairs(user_id=user_id)
    }
    return found | {"keypair": keypairs}


def _images(admin: Connection, project_id: str) -> dict[str, str]:
    listed = [admin.image.images(owner=project_id, is_hidden=hidden) for hidden in (False, True)]
    return _ids(chain(*listed))


def _owned(admin: Connection, project_id: str) -> Inventory:
    ours: dict[str, Any] = {"all_projects": True, "project_id": project_id}
    return {
        "image": _images(admin, project_id),
        "server": _ids(admin.compute.servers(**ours)),
        "server_group": _ids(
            group
            for group in admin.compute.server_groups(all_projects=True)
            if group.project_id == project_id
        ),
        "volume": _ids(admin.block_storage.volumes(**ours)),
        "snapshot": _ids(admin.block_storage.snapshots(**ours)),
    }


def _networks(admin: Connection, project_id: str) -> Inventory:
    network = admin.network
    return {
        "network": _ids(network.networks(project_id=project_id)),
        "subnet": _ids(network.subnets(project_id=project_id)),
        "subnet_pool": _ids(network.subnet_pools(project_id=project_id)),
        "router": _ids(network.routers(project_id=project_id)),
        "port": _ids(network.ports(project_id=project_id)),
        "security_group": _ids(network.security_groups(project_id=project_id)),
        "trunk": _ids(network.trunks(project_id=project_id)),
        "address_group": _ids(
            network.address_groups(project_id=project_id) if extends(network, "address-group") else ()
        ),
        "floating_ip": {ip.floating_ip_address: ip.id for ip in network.ips(project_id=project_id)},
    }


def _ids(resources: Iterable[Any]) -> dict[str, str]:
    """Ids by name, of namesakes and unnamed ones the id by itself."""
    ids: dict[str, str] = {}
    for resource in resources:
        ids[resource.id if resource.name in ids else resource.name or resource.id] = resource.id
    return ids


def remove_tenant(admin: Connection, name: str) -> None:
    """Delete a sample tenant, complete or half made, and everything that has come to belong to it since."""
    project = find_project(admin, name)
    shared = _prefixed(admin, name)
    if project:
        shared["project"][name] = project["id"]
        _remove_owned(admin, project["id"])
        _remove_networks(admin, project["id"])
        for service, collection in (
            (admin.compute, "os-quota-sets"),
            (admin.block_storage, "os-quota-sets"),
            (admin.network, "quotas"),
        ):
            delete(service, collection, [project["id"]])
    for key, key_name in shared["keypair"].items():
        user_id = shared["user"][key.removesuffix(f"/{key_name}")]
        delete(admin.compute, "os-keypairs", [f"{key_name}?user_id={user_id}"])
    delete(admin.compute, "flavors", shared["flavor"].values())
    for kind in ("user", "group", "role", "project"):
        delete(admin.identity, f"{kind}s", shared[kind].values())


def _remove_owned(admin: Connection, project_id: str) -> None:
    storage, owned = admin.block_storage, _owned(admin, project_id)
    ours: dict[str, Any] = {"all_projects": True, "project_id": project_id}
    delete(admin.compute, "servers", owned["server"].values())
    until_none_left(lambda: len(list(admin.compute.servers(**ours))), "servers deleted")
    delete(admin.compute, "os-server-groups", owned["server_group"].values())
    delete(storage, "snapshots", owned["snapshot"].values())
    until_none_left(lambda: len(list(storage.snapshots(**ours))), "snapshots deleted")
    # Those that were to be deleted with their server are on their way out already.
    left = [volume.id for volume in storage.volumes(**ours) if volume.status != "deleting"]
    delete(storage, "volumes", left)
    # Nova has removed those of shelved servers with them.
    image_ids = list(_images(admin, project_id).values())
    together(lambda image_id: admin.image.update_image(image_id, is_protected=False), image_ids)
    delete(admin.image, "images", image_ids)
    until_none_left(lambda: len(list(storage.volumes(**ours))), "volumes deleted")


def _remove_networks(admin: Connection, project_id: str) -> None:
    network, ours = admin.network, _networks(admin, project_id)
    together(lambda ip_id: _stop_forwarding(admin, ip_id), list(ours["floating_ip"].values()))
    delete(network, "floatingips", ours["floating_ip"].values())
    together(lambda router_id: _empty_router(admin, router_id), list(ours["router"].values()))
    delete(network, "routers", ours["router"].values())
    for trunk_id in ours["trunk"].values():  # a disabled one cannot be deleted
        put(network, f"/trunks/{trunk_id}", trunk={"admin_state_up": True})
    delete(network, "trunks", ours["trunk"].values())
    delete(network, "ports", [port.id for port in network.ports(project_id=project_id)])
    delete(network, "networks", ours["network"].values())
    delete(network, "subnetpools", ours["subnet_pool"].values())
    # To list the groups makes "default" anew, so they are listed no more.
    delete(network, "security-groups", ours["security_group"].values())
    delete(network, "address-groups", ours["address_group"].values())


def _stop_forwarding(admin: Connection, floating_ip_id: str) -> None:
    path = f"/floatingips/{floating_ip_id}/port_forwardings"
    forwardings = get(admin.network, path)["port_forwardings"]
    delete(admin.network, path.lstrip("/"), [forwarding["id"] for forwarding in forwardings])


def _empty_router(admin: Connection, router_id: str) -> None:
    network = admin.network
    put(network, f"/routers/{router_id}", router={"routes": [], "external_gateway_info": None})
    for port in network.ports(device_id=router_id, device_owner="network:router_interface"):
        put(network, f"/routers/{router_id}/remove_router_interface", port_id=port.id)

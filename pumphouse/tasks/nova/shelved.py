"""Shelved servers: the image that Nova keeps of one, and shelving its twin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pumphouse.model import Json
from pumphouse.tasks.base import BaseCloudTask, create_in_tenant
from pumphouse.tasks.glance.common import MIGRATABLE, SHELVED, is_snapshot, list_images
from pumphouse.tasks.nova.common import bring_to, wait_until_idle

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

OFFLOADED = "SHELVED_OFFLOADED"
SHELVED_STATES = ("SHELVED", OFFLOADED)
NOTE = "it is shelved: its twin is booted from the image that Nova keeps of it, for as long as it takes to shelve that"


def is_shelved(server: Mapping[str, Any]) -> bool:
    """Whether a server has been shelved; its host may or may not have given it up."""
    return server["status"] in SHELVED_STATES


def shelved_image(cloud: Cloud, server_id: str) -> Mapping[str, Any] | None:
    """The image that Nova keeps of the disk of a shelved server: of all that are called so, the newest.

    It belongs to whoever shelved the server. Nova shows its id to nobody.
    """
    images = [
        image
        for image in list_images(cloud, instance_uuid=server_id)
        if is_snapshot(image) and str(image["name"]).endswith(SHELVED) and image["status"] in MIGRATABLE
    ]
    return max(images, key=lambda image: str(image["created_at"]), default=None)


class FindShelvedImage(BaseCloudTask):
    """Finds the image of a shelved server, which stays what it is: the server's disk."""

    def execute(self, data: Json, still: Json) -> Json:
        """Provides its id."""
        return {"id": data["shelved_image_id"]}


def shelve(cloud: Cloud, data: Json, server: Json, refusals: tuple[int, ...]) -> None:
    """Shelve the twin of a shelved server, unless that was done before; its image belongs to the server's tenant.

    data: the record of the source's server.
    server: the twin, as Nova gives it.
    refusals: see create_in_tenant.
    """
    server_id, tenant_id = server["id"], server["tenant_id"]

    def act(there: Cloud) -> None:
        # Nova needs the token of who asked until it is done.
        bring_to(cloud, tenant_id, server_id, SHELVED_STATES, there.nova.servers.shelve)

    if not is_shelved(wait_until_idle(cloud, tenant_id, server_id)):
        if _was_shelved(cloud, server_id):
            return
        create_in_tenant(cloud, tenant_id, refusals, act)
    # Nova gives up the host by itself after shelved_offload_time, which may be never.
    if data["status"] == OFFLOADED:
        bring_to(cloud, tenant_id, server_id, (OFFLOADED,), cloud.nova.servers.shelve_offload)


def _was_shelved(cloud: Cloud, server_id: str) -> bool:
    """Whether a server has been shelved, and somebody has unshelved it since."""
    actions = cloud.nova.instance_action.list(server_id)
    return any(action.action == "shelve" and not action.message for action in actions)

"""A hypervisor without guests, but with their bytes: a server's root disk is a file of its own.

It is Nova's own fake driver with what that one lacks: a spawn that downloads the image, a snapshot that
uploads the disk, and a memory that outlives the process.
"""
# ruff: noqa: ARG002, RUF012 - the methods' arguments are those of Nova's driver interface

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nova.conf
from nova import exception
from nova.compute import power_state, task_states
from nova.image import glance
from nova.virt import fake

try:
    from nova.image.api import API as ImageAPI
except ImportError:  # since Ussuri
    ImageAPI = glance.API

CONF = nova.conf.CONF
UPTIME = " 00:00:00 up 1 day,  0 users,  load average: 0.00, 0.00, 0.00"


def _directory(uuid: str) -> Path:
    return Path(CONF.instances_path) / uuid


class FileBackedDriver(getattr(fake, "FakeDriverWithoutFakeNodes", fake.FakeDriver)):  # type: ignore[misc]
    """Servers as directories of instances_path: `disk` has the bytes, `state.json` the name and the power."""

    capabilities = {
        **fake.FakeDriver.capabilities,
        "has_imagecache": False,
        "supports_migrate_to_same_host": True,
        "supports_image_type_qcow2": True,
    }

    def init_host(self, host: str) -> None:
        """Take up the servers that were there when the process ended."""
        super().init_host(host)
        for path in Path(CONF.instances_path).glob("*/state.json"):
            state, uuid = json.loads(path.read_text()), path.parent.name
            self.instances[uuid] = fake.FakeInstance(state["name"], state["power"], uuid)

    def spawn(
        self, context: Any, instance: Any, image_meta: Any, injected_files: Any, admin_password: Any,
        allocations: Any, *args: Any, **options: Any,
    ) -> None:  # fmt: skip
        """Download the image as the server's disk, unless it has one (a resize), and start the server."""
        disk = _directory(instance.uuid) / "disk"
        disk.parent.mkdir(parents=True, exist_ok=True)
        if instance.image_ref and not disk.exists():
            partial = disk.with_name("disk.part")
            ImageAPI().download(context, instance.image_ref, dest_path=str(partial))
            partial.rename(disk)
        super().spawn(
            context, instance, image_meta, injected_files, admin_password, allocations, *args, **options
        )
        self._remember(instance.uuid)

    def snapshot(self, context: Any, instance: Any, image_id: str, update_task_state: Any) -> None:
        """Upload the server's disk as it is now."""
        if instance.uuid not in self.instances:
            raise exception.InstanceNotRunning(instance_id=instance.uuid)
        update_task_state(task_state=task_states.IMAGE_PENDING_UPLOAD)
        update_task_state(
            task_state=task_states.IMAGE_UPLOADING, expected_state=task_states.IMAGE_PENDING_UPLOAD
        )
        metadata = {
            "disk_format": self._meta(instance, "disk_format", "raw"),
            "container_format": self._meta(instance, "container_format", "bare"),
            "properties": {"image_location": "snapshot", "image_state": "available"},
        }
        with (_directory(instance.uuid) / "disk").open("rb") as disk:
            ImageAPI().update(context, image_id, metadata, disk)

    @staticmethod
    def _meta(instance: Any, name: str, default: str) -> str:
        image = instance.image_meta
        return (getattr(image, name) if image.obj_attr_is_set(name) else None) or default

    def destroy(
        self, context: Any, instance: Any, network_info: Any, block_device_info: Any = None,
        destroy_disks: bool = True, **options: Any,
    ) -> None:  # fmt: skip
        """Forget the server, and remove its disk unless that is still needed."""
        super().destroy(context, instance, network_info, block_device_info, destroy_disks, **options)
        # A resize on the same host has one disk: to revert it must not remove that.
        if destroy_disks and instance.task_state != task_states.RESIZE_REVERTING:
            shutil.rmtree(_directory(instance.uuid), ignore_errors=True)

    def finish_revert_migration(self, context: Any, instance: Any, *args: Any, **options: Any) -> None:
        """Take the server up again as it was before the resize."""
        super().finish_revert_migration(context, instance, *args, **options)
        self._remember(instance.uuid)

    def migrate_disk_and_power_off(self, context: Any, instance: Any, *args: Any, **options: Any) -> str:
        """Stop the server for a resize; its disk stays where it is."""
        self._set_power(instance, power_state.SHUTDOWN)
        return "[]"

    def power_off(self, instance: Any, timeout: int = 0, retry_interval: int = 0) -> None:
        """Stop the server."""
        self._set_power(instance, power_state.SHUTDOWN)

    def power_on(self, context: Any, instance: Any, *args: Any, **options: Any) -> None:
        """Start the server."""
        self._set_power(instance, power_state.RUNNING)

    def pause(self, instance: Any) -> None:
        """Halt the server in memory."""
        self._set_power(instance, power_state.PAUSED)

    def unpause(self, instance: Any) -> None:
        """Let a paused server go on."""
        self._set_power(instance, power_state.RUNNING)

    def suspend(self, context: Any, instance: Any) -> None:
        """Halt the server on disk."""
        self._set_power(instance, power_state.SUSPENDED)

    def resume(self, context: Any, instance: Any, *args: Any, **options: Any) -> None:
        """Let a suspended server go on."""
        self._set_power(instance, power_state.RUNNING)

    def attach_interface(self, context: Any, instance: Any, image_meta: Any, vif: Any) -> None:
        """Nothing to plug: the port is bound."""

    def detach_interface(self, context: Any, instance: Any, vif: Any) -> None:
        """Nothing to unplug."""

    def get_instance_diagnostics(self, instance: Any) -> Any:
        """What Nova's fake driver tells, with the server's own NICs in their order."""
        found = super().get_instance_diagnostics(instance)
        found.nic_details, found.num_nics = [], 0
        for vif in instance.get_network_info():
            found.add_nic(mac_address=vif["address"])
        return found

    def get_host_uptime(self) -> str:
        """What os-hypervisors shows; Nova's fake driver has none."""
        return UPTIME

    def _set_power(self, instance: Any, power: int) -> None:
        if instance.uuid not in self.instances:
            raise exception.InstanceNotFound(instance_id=instance.uuid)
        self.instances[instance.uuid].state = power
        self._remember(instance.uuid)

    def _remember(self, uuid: str) -> None:
        known = self.instances[uuid]
        path = _directory(uuid) / "state.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_text(json.dumps({"name": known.name, "power": known.state}))
        path.with_suffix(".new").rename(path)

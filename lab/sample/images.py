"""The sample's images: raw and qcow2, each with bytes of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from openstack.exceptions import raise_from_response

from lab.sample.base import IMAGE_RAM_MIB, Tenant, content, names, post, put, together

IMAGES = ("base", "appliance", "shared", "kernel", "legacy", "withdrawn")
FORMS: dict[str, dict[str, Any]] = {
    "base": {
        "min_disk": 1,
        "min_ram": IMAGE_RAM_MIB,
        "tags": ["golden", "linux"],
        "architecture": "x86_64",
        "hw_disk_bus": "virtio",
        "hw_machine_type": "q35",
        "hw_qemu_guest_agent": "yes",
        "os_distro": "debian",
        "os_version": "12",
        "shop_release": "2024.1 (blue)",
    },
    "appliance": {
        "disk_format": "qcow2",
        "protected": True,
        "min_disk": 1,
        "tags": ["vendor"],
        "hw_disk_bus": "scsi",
        "hw_scsi_model": "virtio-scsi",
        "vendor_serial": "A-0042",
    },
    "shared": {"visibility": "shared", "tags": ["partner"], "shop_contract": "C-17"},
    "kernel": {"min_ram": 32, "shop_role": "kernel"},
    "legacy": {"os_hidden": True, "tags": ["old"], "os_version": "7"},
    "withdrawn": {"tags": ["withdrawn"], "shop_reason": "a hole in its web server"},
}


def make_images(tenant: Tenant) -> dict[str, str]:
    """Create the images, upload their bytes, share one and deactivate one; returns ids by name."""
    ids: dict[str, str] = {}
    for name in names(IMAGES, "image", tenant.sizes.images):
        ids[name] = _record(tenant, name, ids)
    with TemporaryDirectory(prefix="sample-images-") as folder:
        together(lambda name: _upload(tenant, name, ids[name], Path(folder)), list(ids))
    if tenant.partner_id and "shared" in ids:
        _share(tenant, ids["shared"], tenant.partner_id)
    if "withdrawn" in ids:
        post(tenant.owner.image, f"/images/{ids['withdrawn']}/actions/deactivate")
    return ids


def _record(tenant: Tenant, name: str, ids: dict[str, str]) -> str:
    body = {"disk_format": "raw", "container_format": "bare", "visibility": "private", **FORMS.get(name, {})}
    if name == "legacy":
        body["kernel_id"] = ids["kernel"]
    return str(post(tenant.owner.image, "/images", name=name, **body)["id"])


def _upload(tenant: Tenant, name: str, image_id: str, folder: Path) -> None:
    write = _write_qcow2 if FORMS.get(name, {}).get("disk_format") == "qcow2" else _write_raw
    path = folder / name
    write(path, f"{tenant.name}/image/{name}", tenant.sizes.image_mib)
    with path.open("rb") as file:
        raise_from_response(
            tenant.owner.image.put(
                f"/images/{image_id}/file", data=file, headers={"Content-Type": "application/octet-stream"}
            )
        )


def _write_raw(path: Path, seed: str, mib: int) -> None:
    with path.open("wb") as file:
        file.writelines(content(seed, mib))


def _write_qcow2(path: Path, seed: str, mib: int) -> None:
    raw = path.with_suffix(".raw")
    _write_raw(raw, seed, mib)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, path], check=True, capture_output=True)
    raw.unlink()


def _share(tenant: Tenant, image_id: str, project_id: str) -> None:
    post(tenant.owner.image, f"/images/{image_id}/members", member=project_id)
    put(tenant.admin.image, f"/images/{image_id}/members/{project_id}", status="accepted")

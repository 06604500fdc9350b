"""The sample's volumes: blank ones, one with an image in it."""

from __future__ import annotations

from typing import Any

from lab.layout import LabError
from lab.sample.base import Tenant, get, names, post, together, until_none_left

VOLUMES = ("data", "archive", "seed", "logs")
ROOT = "root"
FORMS: dict[str, dict[str, Any]] = {
    "data": {"description": "The database's files"},
    "archive": {"description": "Last year's orders, not to be changed"},
    "logs": {"description": "The database's journal, gone with its server"},
    "seed": {"description": "Ready to boot from"},
    ROOT: {"description": "Root disk of the server that boots from a volume"},
}


def make_volumes(tenant: Tenant, image_id: str) -> dict[str, str]:
    """Create the volumes, those to boot from out of an image, and wait until they are there; ids by name."""
    wanted = names(VOLUMES, "volume", tenant.sizes.volumes)
    wanted += [ROOT] if tenant.sizes.boot_from_volume else []
    made = dict(zip(wanted, together(lambda name: _create(tenant, name, image_id), wanted), strict=True))
    wait_for_volumes(tenant, "available", set(made.values()))
    if "archive" in made:
        post(
            tenant.owner.block_storage,
            f"/volumes/{made['archive']}/action",
            **{"os-update_readonly_flag": {"readonly": True}},
        )
    if "seed" in made:
        post(
            tenant.owner.block_storage,
            f"/volumes/{made['seed']}/action",
            **{"os-set_image_metadata": {"metadata": {"hw_watchdog_action": "reset"}}},
        )
    return made


def _create(tenant: Tenant, name: str, image_id: str) -> str:
    body = {
        "name": name,
        "size": tenant.sizes.volume_gib,
        "description": "One more",
        "metadata": {"shop_volume": name, "keep": "7 years"},
        **FORMS.get(name, {}),
    }
    if name in ("seed", ROOT):
        body["imageRef"] = image_id
    return str(post(tenant.owner.block_storage, "/volumes", volume=body)["volume"]["id"])


def wait_for_volumes(tenant: Tenant, status: str, ids: set[str]) -> None:
    """Wait until all these volumes have a status; raises LabError when one fails."""

    def left() -> int:
        listed = get(tenant.owner.block_storage, "/volumes/detail")["volumes"]
        states = {volume["id"]: volume["status"] for volume in listed if volume["id"] in ids}
        failed = [volume_id for volume_id, state in states.items() if state.startswith("error")]
        if failed:
            raise LabError(f"Cinder could not make the volumes {', '.join(failed)}; its log says why")
        return sum(states.get(volume_id) != status for volume_id in ids)

    if ids:
        until_none_left(left, f"volumes {status}")

"""What no migration carries of a tenant: verify counts it, and says that it is missing."""

from __future__ import annotations

from typing import Any

from pumphouse.verify import COUNTED, cinder
from pumphouse.verify.compare import Verdict, compare_items, pair
from tests.unit.test_services import TENANT, PlainCloud, connect, there

__all__ = ["connect", "there"]

VOLUME = {
    "id": "v",
    "name": "data",
    "os-vol-tenant-attr:tenant_id": TENANT,
    "status": "available",
    "bootable": "false",
    "metadata": {},
    "attachments": [],
}


def test_backups_and_groups_of_volumes_are_missing(there: PlainCloud, connect: Any) -> None:
    there.catalog.append(("block-storage", "/volume/v3"))
    there.offer("/volume", "3", "3.71")
    backups = [{"id": "b", "name": "nightly"}, {"id": "c", "name": None}]
    groups = [{"id": "g", "name": "consistent", "volumes": ["v"]}, {"id": "h", "name": "", "volumes": ["w"]}]
    there.answers |= {
        "/volume/v3/volumes/detail": {"volumes": [VOLUME]},
        "/volume/v3/snapshots/detail": {"snapshots": []},
        "/volume/v3/backups/detail": {"backups": backups},
        "/volume/v3/groups/detail": {"groups": groups},
    }
    mine = cinder.read(connect(), TENANT, snapshots_left=False)
    theirs = {"volume": mine["volume"]}
    twins = pair(cinder.KINDS, mine, theirs, {}, {mine["volume"][0].ref: "v"})
    found = compare_items(cinder.KINDS, mine, theirs, twins, {})
    missing = {each.kind: each.name for each in found if each.verdict is Verdict.MISSING}
    assert missing == {"volume_backups": "c, nightly", "volume_groups": "consistent"}
    assert missing.keys() <= set(COUNTED)

"""What is decided about volumes without a cloud."""

from __future__ import annotations

from typing import Any

import pytest

from pumphouse.errors import ConfigError
from pumphouse.flows import unit_flow
from pumphouse.model import Action, Json, Record, Ref, Step, Unit
from pumphouse.tasks.base import STAMP, Ensured, Migration
from pumphouse.tasks.cinder import volume, volume_snapshot
from pumphouse.tasks.cinder.common import (
    ATTEMPT,
    UNFINISHED,
    at_destination,
    own_metadata,
    zone_at_destination,
    zone_notes,
)
from pumphouse.tasks.glance.transfer import TransferLimits
from pumphouse.tasks.nova import server, server_boot

TYPES: dict[str, Json] = {"standard": {}, "fast": {"extra_specs": {"multiattach": "<is> True"}}}
NAMES = ("domains", "roles", "users", "flavors", "external_networks", "availability_zones", "volume_types")
POLICIES = {
    "root_disk": "snapshot",
    "source_servers": "stop",
    "keep_snapshots": False,
    "volume_format": "raw",
}


def cinder_volume(**fields: Any) -> Json:
    """A volume as Cinder lists it."""
    plain = {"id": "v", "name": "data", "description": None, "size": 3, "status": "available", "metadata": {}}
    kind = {"volume_type": "standard", "availability_zone": "nova", "bootable": "false", "encrypted": False}
    return {**plain, **kind, "multiattach": False, "attachments": [], **fields}


def record(**fields: Any) -> Record:
    return volume._record(cinder_volume(**fields), "t", {})


def attached(*servers: str) -> list[Json]:
    return [{"server_id": server_id, "device": "/dev/vdb"} for server_id in servers]


def arriving(found: Record, mapping: dict[str, str] | None = None, default: str = "standard") -> Record:
    mappings = {"volume_types": mapping or {}, "availability_zones": {}}
    return volume._arriving(found, mappings, TYPES, default, ["nova"])


def test_what_cinder_and_migrations_write_is_no_metadata_of_the_volume() -> None:
    noise = {"readonly": "True", "attached_mode": "rw", STAMP: "x", UNFINISHED: "a", ATTEMPT: "b"}
    found = record(metadata={"mine": "1", **noise})
    assert found.data["metadata"] == {"mine": "1"} == own_metadata({"metadata": found.data["metadata"]})
    assert found.data["readonly"] is True


def test_a_volume_stands_or_falls_with_its_servers() -> None:
    found = record(status="in-use", attachments=attached("b", "a"))
    assert found.part_of == Ref("server", "a")
    assert found.needs == (Ref("tenant", "t"), Ref("server", "a"), Ref("server", "b"))
    assert found.size_bytes == 3 << 30
    assert record().part_of is None


@pytest.mark.parametrize("status", ["error", "creating", "deleting", "retyping", "maintenance", "uploading"])
def test_a_volume_in_another_state_is_skipped(status: str) -> None:
    assert status in record(status=status).skip


def test_an_encrypted_volume_is_skipped_with_what_to_do() -> None:
    assert "retype it" in record(encrypted=True).skip


LIMITS = {
    "maxTotalVolumeGigabytes": 10,
    "totalGigabytesUsed": 4,
    "maxTotalVolumes": -1,
    "totalVolumesUsed": 9,
}


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({}, ""),
        (LIMITS, ""),
        (
            {**LIMITS, "totalGigabytesUsed": 5},
            "take 6 GiB of the quota of the operator's project, which has 5",
        ),
        (
            {**LIMITS, "maxTotalVolumes": 9},
            "take 1 volumes of the quota of the operator's project, which has 0",
        ),
        ({**LIMITS, "maxTotalSnapshots": 0}, "take 1 snapshots"),
    ],
)
def test_the_copies_of_what_is_attached_need_room(limits: Json, why: str) -> None:
    assert why in volume._no_room(record(status="in-use").data, limits)
    assert bool(volume._no_room(record(status="in-use").data, limits)) == bool(why)
    assert volume._no_room(record().data, limits) == ""


def test_what_is_not_carried_is_noted() -> None:
    fields: Json = {"volume_image_metadata": {"image_id": "i"}}
    notes = volume._record(cinder_volume(**fields), "t", {"qos_specs_id": "q"}).notes
    assert [word for word in ("image_id", "QoS") if word in " ".join(notes)] == ["image_id", "QoS"]


def test_a_running_server_is_said_to_be_copied_from() -> None:
    found = record(status="in-use", attachments=attached("a"))
    assert "loss of power" in volume.apply_policies(found, {"source_servers": "leave"}).notes[0]
    assert volume.apply_policies(found, {"source_servers": "stop"}) == found


def test_a_type_or_zone_that_is_not_there_is_noted() -> None:
    assert arriving(record()).notes == ()
    assert arriving(record(), {"standard": "fast"}).notes == ()
    assert "standard, the default" in arriving(record(volume_type="gone")).notes[0]
    assert "zone-7 is not at the destination" in arriving(record(availability_zone="zone-7")).notes[0]
    with pytest.raises(ConfigError, match="nowhere"):
        arriving(record(), {"standard": "nowhere"})


def test_multiattach_needs_a_type_that_has_it() -> None:
    twice = record(multiattach=True, attachments=attached("a", "b"), status="in-use")
    assert "multiattach" in arriving(twice).must_exist
    assert arriving(twice, {"standard": "fast"}).must_exist == ""
    once = arriving(record(multiattach=True))
    assert (once.must_exist, "several servers" in once.notes[0]) == ("", True)


@pytest.mark.parametrize(
    ("name", "mapping", "expected"),
    [("a", {}, "a"), ("a", {"a": "b"}, "b"), ("a", {"a": "c"}, None), (None, {}, None), ("c", {}, None)],
)
def test_names_at_the_destination(name: str | None, mapping: dict[str, str], expected: str | None) -> None:
    assert at_destination(name, mapping, ["a", "b"]) == expected


def test_a_zone_that_only_another_service_has_is_kept_and_noted() -> None:
    mapping, there = {"nova": "az1", "old": "az1"}, ["nova"]
    assert zone_at_destination("nova", mapping, there) == "nova"
    assert zone_at_destination("old", mapping, there) is zone_at_destination(None, mapping, there) is None
    assert zone_at_destination("old", mapping, ["az1", "old"]) == "az1"
    assert zone_notes("nova", mapping, ["az1"]) == zone_notes(None, mapping, there) == []
    assert "zone nova is mapped to az1, which is not there" in zone_notes("nova", mapping, there)[0]
    assert "zone az1 is not at the destination" in zone_notes("old", mapping, there)[0]


def twins(*volumes: Json) -> list[tuple[str, bool, str]]:
    found = volume._twins(record(), volumes)
    return [(twin.id, twin.ours, twin.unfinished) for twin in found]


def test_twins_are_stamped_and_namesakes_are_not_ours() -> None:
    mine = cinder_volume(id="1", metadata={STAMP: "v"})
    namesake, others = cinder_volume(id="2"), cinder_volume(id="3", metadata={STAMP: "w"})
    assert twins(mine, namesake, others) == [("1", True, "")]
    assert twins(namesake, others) == [("2", False, "")]
    assert twins(others) == []
    assert volume._twins(record(name=""), [cinder_volume(name="")]) == []


def test_a_stamp_that_names_another_volume_was_copied() -> None:
    own, copied = (cinder_volume(id=name, metadata={STAMP: "v/1"}) for name in ("1", "2"))
    assert twins(own, copied) == [("1", True, "")]
    assert twins(copied) == [("2", False, "")]


def test_a_twin_that_lacks_something_is_unfinished() -> None:
    wanted = record(metadata={"a": "1", "b": "2"}, bootable="true", volume_image_metadata={"os": "x"})
    there = cinder_volume(id="1", metadata={STAMP: "v/1", "a": "changed"})
    (twin,) = volume._twins(wanted, [there])
    assert twin.unfinished == "it lacks metadata b; image metadata os; being bootable"
    whole = {**there, "metadata": {**there["metadata"], "b": "2"}, "bootable": "true"}
    (twin,) = volume._twins(wanted, [{**whole, "volume_image_metadata": {"os": "y", "more": "z"}}])
    assert twin.unfinished == ""


def test_a_half_made_volume_is_a_twin_only_when_a_server_has_it() -> None:
    half: Json = {"metadata": {STAMP: "v", UNFINISHED: "attempt"}}
    assert twins(cinder_volume(**half)) == []
    ((_, ours, unfinished),) = twins(cinder_volume(**half, attachments=attached("a"), status="in-use"))
    assert (ours, bool(unfinished)) == (True, True)


def test_a_copy_is_no_twin() -> None:
    assert twins(cinder_volume(name="other", metadata={STAMP: "v", ATTEMPT: "a"})) == []


def nova_server(image: str, *volumes: str) -> Json:
    listed = [{"id": name, "delete_on_termination": name == "v1"} for name in volumes]
    return {
        "id": "s",
        "image": {"id": image} if image else "",
        server.ATTACHED: listed,
        "OS-EXT-SRV-ATTR:root_device_name": "/dev/vda",
    }


DEVICES = {
    ("s", "v1"): "/dev/vdb",
    ("s", "v2"): "/dev/vdaa",
    ("s", "v3"): "/dev/vdz",
    ("s", "v0"): "/dev/vda",
}


def test_volumes_come_in_the_order_of_the_disks() -> None:
    found = server._volumes(nova_server("", "v2", "v1", "v0", "v3"), DEVICES)
    assert [item["id"] for item in found] == ["v0", "v1", "v3", "v2"]
    assert [item["is_root"] for item in found] == [True, False, False, False]
    assert not any(item["is_root"] for item in server._volumes(nova_server("i", "v1"), DEVICES))


def test_the_disks_that_nova_is_asked_for() -> None:
    ensured: dict[str, Ensured] = {f"volume-v{n}-ensured": {"id": f"n{n}", "made": True} for n in range(4)}
    data = {"volumes": server._volumes(nova_server("i", "v1"), DEVICES)}
    volumes = {"block_device_mapping_v2": server_boot._volumes(data, ensured)}
    root, disk = server_boot._with_image(volumes, "image")["block_device_mapping_v2"]
    assert (root["source_type"], root["uuid"], root["boot_index"]) == ("image", "image", 0)
    assert disk == {
        "source_type": "volume",
        "destination_type": "volume",
        "uuid": "n1",
        "boot_index": -1,
        "delete_on_termination": True,
        "device_name": "/dev/vdb",
    }
    assert server_boot._with_image(volumes, None) == volumes
    assert server_boot._with_image({}, "image") == {"imageRef": "image"}


@pytest.mark.parametrize(
    ("known", "taken"),
    [
        ((2, 94), {"networks": [{"port": "p", "tag": "x"}], "hostname": "a.b_c"}),
        ((2, 93), {"networks": [{"port": "p", "tag": "x"}]}),
        ((2, 41), {"networks": [{"port": "p"}], "block_device_mapping_v2": []}),
    ],
)
def test_nova_is_asked_only_for_what_it_takes(known: tuple[int, int], taken: Json) -> None:
    body = {"networks": [{"port": "p", "tag": "x"}], "hostname": "a.b_c", "tags": [], "description": None}
    assert server_boot.as_taken(body, known) == taken
    assert "hostname" not in server_boot.as_taken({**body, "hostname": "gr\u00f6\u00dfe"}, known)


def unit(action: Action) -> set[tuple[str, str]]:
    """Which task waits for which in the unit of a server and its volume."""
    found = record(status="in-use", attachments=attached("s"))
    needs = (Ref("tenant", "t"), Ref("volume", "v"))
    data: Json = {"status": "ACTIVE", "image_id": None, "volumes": [], "tenant_id": "t", "port_ids": []}
    whole = Record(Ref("server", "s"), "s", data, needs)
    steps = (
        Step(found, Action.CREATE, "", "data"),
        Step(whole, action, "", "s", "there" if action is Action.REUSE else None),
    )
    settings = {"mappings": {name: {} for name in NAMES}, "policies": POLICIES}
    migration = Migration(None, None, settings, TransferLimits(1))  # type: ignore[arg-type]
    flow = unit_flow(migration, Unit("server/s", steps))
    return {(before.name, after.name) for before, after, _ in flow.iter_links()}


def test_a_snapshot_waits_for_the_server_to_stop_and_its_mark_for_the_server_to_arrive() -> None:
    links = unit(Action.CREATE)
    assert ("server-s-stopped", "volume-v-snapshot-taken") in links
    assert ("volume-v-ensured", "server-s-ensured") in links
    assert ("server-s-completed", "volume-v-completed") in links


def test_a_volume_of_a_server_that_is_there_waits_for_nothing_of_it() -> None:
    assert [name for link in unit(Action.REUSE) for name in link if name.startswith("server-")] == []


def test_snapshots_are_carried_only_where_they_are_asked_for() -> None:
    taken = {
        "id": "s",
        "name": "monday",
        "description": None,
        "size": 3,
        "status": "available",
        "metadata": {},
    }
    found = volume_snapshot._record({**taken, "volume_id": "v"}, "t", cinder_volume())
    assert volume_snapshot.apply_policies(found, {"volume_snapshots": "copy"}) == found
    assert "policies.volume_snapshots" in volume_snapshot.apply_policies(found, POLICIES).skip
    assert "error" in volume_snapshot._record({**taken, "volume_id": "v", "status": "error"}, "t", {}).skip

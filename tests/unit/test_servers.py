"""What is decided about servers without a cloud."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from novaclient.api_versions import APIVersion

from pumphouse.cloud import Cloud
from pumphouse.model import Action, Json, Record, Ref, Step, Twin
from pumphouse.plan.decide import decide
from pumphouse.tasks.base import NAME_MAX_LENGTH, STAMP, distinct_name
from pumphouse.tasks.nova import common, server, server_check, server_group
from pumphouse.tasks.nova.nics import in_nic_order
from pumphouse.verify import nova as verified

MAC = "OS-EXT-IPS-MAC:mac_addr"


def cloud(microversion: str) -> Cloud:
    return cast(Cloud, SimpleNamespace(nova=SimpleNamespace(api_version=APIVersion(microversion))))


def nics(addresses: dict[str, list[str]], *macs: str) -> tuple[list[str], bool]:
    """The order of NICs that a stopped server tells by its addresses, and whether it is certain."""
    listed = {name: [{MAC: mac} for mac in found] for name, found in addresses.items()}
    ports = [{"id": mac, "mac_address": mac} for mac in macs]
    found, is_told = in_nic_order(cloud("2.90"), {"addresses": listed, "status": "SHUTOFF"}, ports)
    return [port["id"] for port in found], is_told


@pytest.mark.parametrize(
    ("addresses", "macs", "order", "is_told"),
    [
        ({}, (), [], True),
        ({"b": ["2"], "a": ["1"]}, ("1", "2"), ["2", "1"], True),
        ({"b": ["2", "2"], "a": ["1"]}, ("1", "2"), ["2", "1"], True),
        ({"b": ["3"], "a": ["1", "2"]}, ("1", "2", "3"), ["3", "1", "2"], True),
        ({"a": ["1", "3"], "b": ["2"]}, ("1", "2", "3"), ["1", "3", "2"], False),
        ({"a": []}, ("1",), ["1"], True),
        ({"a": ["1"], "b": [], "c": ["3"]}, ("1", "2", "3"), ["1", "2", "3"], True),
        ({"a": [], "b": []}, ("1", "2"), ["1", "2"], False),
        ({"a": ["1"]}, ("1", "2"), ["1", "2"], False),
    ],
)
def test_the_order_of_nics_is_told_by_addresses_only_where_no_other_is_possible(
    addresses: dict[str, list[str]], macs: tuple[str, ...], order: list[str], is_told: bool
) -> None:
    assert nics(addresses, *macs) == (order, is_told)


def test_verify_excuses_the_name_of_a_key_that_is_gone() -> None:
    gone = f"mine{verified.DELETED}"
    assert verified._key(gone, None)
    assert verified._key(gone, "mine")
    assert not verified._key(gone, "other")
    assert not verified._key("mine", None)


@pytest.mark.parametrize(
    ("told", "zone"),
    [
        ({"OS-EXT-AZ:availability_zone": "az1"}, "az1"),
        ({"OS-EXT-AZ:availability_zone": ""}, None),
        ({"OS-EXT-AZ:availability_zone": "az1", "pinned_availability_zone": None}, None),
        ({"OS-EXT-AZ:availability_zone": "az1", "pinned_availability_zone": "az2"}, "az2"),
        ({}, None),
    ],
)
def test_the_zone_of_a_server_is_known_in_every_release(told: Json, zone: str | None) -> None:
    assert server._zone(told) == zone


def zoned(zone: str | None, **mapping: str) -> tuple[str, ...]:
    search = cast(Any, SimpleNamespace(mappings={"availability_zones": mapping}))
    record = Record(Ref("server", "s"), "s", {"availability_zone": zone})
    return server._with_zone(search, ["nova", "here"], record).notes


def test_a_zone_that_the_destination_lacks_is_said() -> None:
    assert zoned(None) == zoned("nova") == zoned("old", old="here") == ()
    assert "availability zone old is not at the destination" in zoned("old")[0]
    assert "availability zone gone is not at the destination" in zoned("old", old="gone")[0]
    assert "zone nova is mapped to gone, which is not there: it stays nova" in zoned("nova", nova="gone")[0]


def test_marks_are_never_one_item_too_many() -> None:
    few, many = ({"metadata": dict.fromkeys(map(str, range(n))), "tags": ["x"]} for n in (126, 127))
    full = {**many, "tags": [str(n) for n in range(49)]}
    assert common.has_room(few, 128, for_tags=False)
    assert not common.has_room(many, 128, for_tags=False)
    assert common.has_room(many, 128, for_tags=True)
    assert common.has_room(many, -1, for_tags=False)
    assert not common.has_room(full, 128, for_tags=True)


def test_marks_are_known_among_metadata_and_among_tags() -> None:
    plain: Json = {"metadata": {"a": "b"}, "tags": ["x"]}
    by_metadata = {**plain, "metadata": {"a": "b", STAMP: "s", common.UNFINISHED: "yes"}}
    by_tags = {**plain, "tags": ["x", f"{STAMP}=s", common.UNFINISHED]}
    for found in (by_metadata, by_tags):
        assert (common.stamp_of(found), common.is_unfinished(found)) == ("s", True)
        assert (common.own_metadata(found["metadata"]), common.own_tags(found)) == ({"a": "b"}, ["x"])
    assert (common.stamp_of(plain), common.is_unfinished(plain)) == ("", False)
    assert common.stamp_of({"metadata": {}}) == ""


def test_a_name_made_different_is_one_that_services_take() -> None:
    assert distinct_name("network", "web", "0123456789ab") == "web-01234567"
    assert len(distinct_name("network", "x" * 255, "0123456789ab")) == NAME_MAX_LENGTH
    assert len(distinct_name("tenant", "x" * 64, "0123456789ab")) == 64


def test_what_must_be_at_the_destination_is_not_made_beside_a_namesake() -> None:
    record = Record(Ref("server", "s"), "web", must_exist="no network for it")
    assert decide(record, [Twin("t", ours=False)], "rename").action is Action.CONFLICT


def test_a_server_boots_after_those_that_share_a_volume_with_it() -> None:
    listed = {"id": "b", "image": "", server.ATTACHED: [{"id": "v"}, {"id": "w"}]}
    devices = {("a", "v"): "/dev/vdb", ("b", "v"): "/dev/vda", ("c", "v"): "/dev/vdb", ("b", "w"): "/dev/vdc"}
    shared, own = server._volumes(listed, devices)
    assert shared["shared_with"] == ["a", "c"]
    assert "shared_with" not in own


def test_a_kernel_image_is_needed_as_a_volume_is() -> None:
    listed = {
        **dict.fromkeys(("id", "name", "user_id", "tenant_id"), "s"),
        **dict.fromkeys(("key_name", "config_drive"), ""),
        **{"status": "ACTIVE", "metadata": {}, "addresses": {}, "flavor": {}, "image": {"id": "i"}},
        **{"OS-EXT-SRV-ATTR:kernel_id": "k", "OS-EXT-SRV-ATTR:ramdisk_id": ""},
    }
    record = server._record(listed, {}, ([{"id": "p", "network_id": "n"}], True), {}, ())
    assert [str(need) for need in record.needs] == ["tenant/s", "port/p", "network/n", "image/k"]


def test_rules_of_a_group_that_the_destination_does_not_know_are_said() -> None:
    ruled, plain = (
        Record(Ref("server_group", i), i, {"rules": rules}) for i, rules in (("r", {"max": 1}), ("p", {}))
    )
    old, new = (cast(Any, SimpleNamespace(destination=cloud(version))) for version in ("2.63", "2.64"))
    noted, quiet = server_group.adapt(old, [ruled, plain])
    assert "its rules {'max': 1} are not carried" in noted.notes[0]
    assert [quiet, *server_group.adapt(new, [ruled, plain])] == [plain, ruled, plain]


def booted(**fields: Any) -> Json:
    plain = {
        "id": "s",
        "name": "web",
        "metadata": {"a": "b"},
        "tags": [],
        "addresses": {},
        "status": "SHUTOFF",
        "config_drive": "",
        "flavor": {"id": "f"},
    }
    return {**plain, "OS-EXT-AZ:availability_zone": "nova", **fields}


def wrong(found: Json, *ports: str, attached: tuple[Json, ...] = (), **asked: Any) -> list[str]:
    plain = {"name": "web", "metadata": {"a": "b"}, "networks": [], "config_drive": False, "flavorRef": "f"}
    body = {**plain, **asked}
    there = [{"id": port, "mac_address": port} for port in ports]
    return list(server_check.unlike(cloud("2.60"), found, body, there, attached, {}))


def test_a_booted_server_is_compared_with_what_nova_was_asked_for() -> None:
    disk = {"source_type": "volume", "uuid": "v", "delete_on_termination": True}
    assert wrong(booted()) == []
    assert wrong(booted(metadata={})) == ["metadata is {}, source has {'a': 'b'}"]
    assert wrong(booted(), availability_zone="az1") == ["availability_zone is 'nova', source has 'az1'"]
    assert wrong(booted(), config_drive=True) == ["it has no config drive"]
    assert wrong(booted(), flavorRef="g") == ["of its flavor id is 'f', source has 'g'"]
    assert wrong(booted(), networks=[{"port": "p"}]) == ["its NICs are ports [], asked for were ['p']"]
    assert wrong(booted(), block_device_mapping_v2=[disk]) == ["volume v is not attached"]
    attached = {"volumeId": "v", "delete_on_termination": False}
    (found,) = wrong(booted(), attached=(attached,), block_device_mapping_v2=[disk])
    assert found == "of volume v delete_on_termination is False, source has True"


def test_what_nova_may_choose_is_a_note() -> None:
    data = {"hostname": "größe", "config_drive": False}
    volumes = [{"id": "v", "device": "/dev/sdq"}, {"id": "w", "device": None}]
    attached = [{"volumeId": "v", "device": "/dev/vdb"}, {"volumeId": "w", "device": "/dev/vdc"}]
    found = booted(config_drive="True", **{"OS-EXT-SRV-ATTR:hostname": "gre"})
    hostname, drive, device = server_check.chosen(found, data, attached, volumes)
    assert "gre and not größe" in hostname
    assert "/dev/vdb" in device
    assert "a config drive" in drive


def test_a_twin_that_lacks_a_part_is_unfinished() -> None:
    record = Record(Ref("server", "s"), "s", needs=(Ref("port", "p"), Ref("volume", "v")))
    search = cast(Any, SimpleNamespace(ids={Ref("port", "p"): "p2", Ref("volume", "v"): "v2"}))
    both = {Ref("port", "p2"), Ref("volume", "v2")}
    assert server._lacking(search, record, both) == ""
    assert server._lacking(search, record, both - {Ref("port", "p2")}) == "it lacks 1 of its 1 NICs"
    assert server._lacking(search, record, both - {Ref("volume", "v2")}) == "it lacks 1 of its 1 volumes"
    search.ids.clear()
    assert server._lacking(search, record, both) == "it lacks 1 of its 1 NICs"
    step = decide(record, [Twin("t", ours=True, unfinished="it lacks 1 of its 1 NICs")], "fail")
    assert isinstance(step, Step)
    assert (step.action, step.destination_id) == (Action.CREATE, "t")

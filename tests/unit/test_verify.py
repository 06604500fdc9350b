"""What verify concludes from two tenants, and how it says so."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from pumphouse.model import Json, Ref
from pumphouse.show.console import PrintableConsole
from pumphouse.show.verification import not_compared, print_verification, verification_data
from pumphouse.verify import (
    KINDS,
    NOT_CHOSEN,
    Known,
    Verification,
    _as_chosen,
    _as_it_was,
    _as_named,
    _excused,
)
from pumphouse.verify.cinder import VOLUME
from pumphouse.verify.compare import (
    ABSENT,
    BY_IDENTITY,
    BY_RUN,
    BY_STAMP,
    NOT_KNOWN,
    Field,
    Finding,
    Item,
    Kind,
    Named,
    Verdict,
    compare_items,
    needed,
    pair,
)
from pumphouse.verify.fields import STAMP, mapped, plain, reference, tag_stamp, tags
from pumphouse.verify.glance import IMAGE
from pumphouse.verify.neutron import NETWORK, SECURITY_GROUP, Floating, _elsewhere, _item
from pumphouse.verify.nova import FLAVOR, SERVER

BOX = Kind("box", plain("name"), lambda raw: raw["name"])
THING = Kind(
    "thing",
    (
        *plain("name", "size"),
        reference("box", "box", "box"),
        mapped("type", "volume_types", "type"),
        Field("tags", tags),
        Field("others", lambda raw: frozenset(Ref("thing", other) for other in raw.get("others", ()))),
    ),
    lambda raw: (Ref("box", raw["box"]), raw["name"]),
)
PAIR = (BOX, THING)
RAW = {"name": "a", "size": 1, "box": "s-box", "type": "ssd", "tags": ["red"]}
THERE = {**RAW, "box": "d-box", "type": "fast"}
MAPPINGS = {"volume_types": {"ssd": "fast"}}
FLAVORS = {"f": "small", "g": "large"}


def box(item_id: str, **options: Any) -> Item:
    return BOX.item({"name": "box"}, item_id, name="box", **options)


def thing(item_id: str, raw: Json, **options: Any) -> Item:
    return THING.item(raw, item_id, name=raw["name"], **options)


def findings(
    source: list[Item], destination: list[Item], recorded: dict[Ref, str] | None = None, **names: str
) -> dict[str, Finding]:
    """The findings of things, by what they are called; one box on each side."""
    here = {"box": [box("s-box")], "thing": source}
    there = {"box": [box("d-box")], "thing": destination}
    twins = pair(PAIR, here, there, MAPPINGS, recorded or {})
    known = {Ref("thing", item_id): name for item_id, name in names.items()}
    found = compare_items(PAIR, here, there, twins, known)
    return {finding.name: finding for finding in found if finding.kind == "thing"}


def bad(finding: Finding) -> list[str]:
    return [found.field for found in finding.differences if not found.excuse]


def test_twins_are_equal_after_mapping() -> None:
    found = findings([thing("s", RAW)], [thing("d", THERE, stamp="s")])["a"]
    assert (found.verdict, found.told_by, found.destination_id) == (Verdict.EQUAL, BY_STAMP, "d")
    assert found.compared == ("name", "size", "box", "type", "tags", "others")
    assert not found.is_bad


def test_a_twin_without_a_stamp_is_told_by_its_identity() -> None:
    found = findings([thing("s", RAW)], [thing("d", THERE)])["a"]
    assert (found.verdict, found.told_by) == (Verdict.EQUAL, BY_IDENTITY)


def test_a_recorded_run_comes_before_a_stamp() -> None:
    there = [thing("d", THERE), thing("e", {**THERE, "name": "e"}, stamp="s")]
    found = findings([thing("s", RAW)], there, {Ref("thing", "s"): "d"})
    assert (found["a"].destination_id, found["a"].told_by) == ("d", BY_RUN)
    assert found["e"].verdict is Verdict.EXTRA


def verdicts(source: list[Item], destination: list[Item]) -> list[tuple[str, str | None, str | None]]:
    """The verdict of each finding of things, with the ids on both sides."""
    boxes = {"box": [box("s-box")], "thing": source}, {"box": [box("d-box")], "thing": destination}
    found = compare_items(PAIR, *boxes, pair(PAIR, *boxes, MAPPINGS, {}), {})
    return [(f.verdict.value, f.source_id, f.destination_id) for f in found if f.kind == "thing"]


def test_two_of_one_name_are_nobodys_twin() -> None:
    two = [thing("d", THERE), thing("e", {**THERE, "size": 2})]
    assert verdicts([thing("s", RAW)], two) == [
        ("missing", "s", None),
        ("extra", None, "d"),
        ("extra", None, "e"),
    ]
    assert verdicts([thing("s", RAW), thing("t", {**RAW, "size": 2})], [thing("d", THERE)]) == [
        ("missing", "s", None),
        ("missing", "t", None),
        ("extra", None, "d"),
    ]


def test_what_carries_the_stamp_of_another_is_not_taken_for_its_name() -> None:
    there = [thing("e", THERE, stamp="gone")]
    assert verdicts([thing("s", RAW)], there) == [("missing", "s", None), ("extra", "gone", "e")]


def test_two_stamped_alike_are_one_twin_and_one_too_many() -> None:
    there = [thing("d", THERE, stamp="s"), thing("e", THERE, stamp="s")]
    assert verdicts([thing("s", RAW)], there) == [("equal", "s", "d"), ("extra", "s", "e")]


def test_what_was_made_of_a_resource_of_another_kind_is_noted() -> None:
    assert verdicts([thing("s", RAW)], [thing("d", THERE, stamp="s"), thing("e", THERE, stamp="s-box")]) == [
        ("equal", "s", "d"),
        ("noted", "s-box", "e"),
    ]


@pytest.mark.parametrize(
    ("field", "value"), [("size", 2), ("box", "other"), ("type", "slow"), ("tags", ["red", "blue"])]
)
def test_each_field_is_named_when_it_differs(field: str, value: Any) -> None:
    found = findings([thing("s", RAW)], [thing("d", {**THERE, field: value}, stamp="s")])["a"]
    assert (found.verdict, bad(found)) == (Verdict.DIFFERENT, [field])


def test_of_sets_only_the_difference_is_told() -> None:
    found = findings([thing("s", RAW)], [thing("d", {**THERE, "tags": ["red", "blue"]}, stamp="s")])["a"]
    (difference,) = found.differences
    assert (difference.source, difference.destination) == (frozenset(), frozenset({"blue"}))


@pytest.mark.parametrize(("here", "there"), [(None, ""), ("", None), ((), None)])
def test_nothing_is_nothing(here: Any, there: Any) -> None:
    found = findings([thing("s", {**RAW, "size": here})], [thing("d", {**THERE, "size": there}, stamp="s")])
    assert found["a"].verdict is Verdict.EQUAL


@pytest.mark.parametrize(("here", "there"), [(0, None), (False, None), (None, 0)])
def test_zero_and_false_are_something(here: Any, there: Any) -> None:
    found = findings([thing("s", {**RAW, "size": here})], [thing("d", {**THERE, "size": there}, stamp="s")])
    assert bad(found["a"]) == ["size"]


def test_a_field_that_the_destination_does_not_know_is_noted() -> None:
    there = {key: value for key, value in THERE.items() if key != "size"}
    found = findings([thing("s", RAW)], [thing("d", there, stamp="s")])["a"]
    assert found.verdict is Verdict.NOTED
    assert found.differences[0].excuse == "the destination's service has no such field"


def test_a_reference_to_what_is_not_there_is_noted_only_where_that_need_not_be_there() -> None:
    raw, other = {**RAW, "others": ["t"]}, {**RAW, "name": "t"}
    for owned in (True, False):
        found = findings([thing("s", raw), thing("t", other, owned=owned)], [thing("d", THERE, stamp="s")])
        assert bad(found["a"]) == ["others"]
        assert found["t"].verdict is Verdict.MISSING
    left = thing("t", other, not_expected="left out")
    found = findings([thing("s", raw), left], [thing("d", THERE, stamp="s")])
    assert found["a"].verdict is Verdict.NOTED
    assert found["a"].differences[0].excuse == "refers to thing/t: left out"


def test_what_cannot_be_there_for_want_of_another_is_missing() -> None:
    raw = {**RAW, "box": "gone"}
    found = findings([thing("s", raw)], [])["a"]
    assert (found.verdict, found.reason) == (
        Verdict.MISSING,
        "refers to what is not at the destination: box/gone",
    )


@pytest.mark.parametrize(("here", "there"), [(NOT_KNOWN, NOT_KNOWN), (NOT_KNOWN, 1), (1, NOT_KNOWN)])
def test_what_the_services_do_not_tell_is_noted_and_never_equal(here: Any, there: Any) -> None:
    found = findings([thing("s", {**RAW, "size": here})], [thing("d", {**THERE, "size": there}, stamp="s")])
    assert found["a"].verdict is Verdict.NOTED


@pytest.mark.parametrize("text", [str(NOT_KNOWN), str(ABSENT)])
def test_no_text_of_a_tenant_excuses_anything(text: str) -> None:
    for here, there in ((text, "b"), ("b", text)):
        found = findings(
            [thing("s", {**RAW, "size": here})], [thing("d", {**THERE, "size": there}, stamp="s")]
        )
        assert bad(found["a"]) == ["size"]


def test_each_side_is_told_by_its_own_ids() -> None:
    raw, other = {**RAW, "others": ["s", "t"]}, {**RAW, "name": "t"}
    there = [
        thing("d", {**THERE, "others": ["d"]}, stamp="s"),
        thing("e", {**other, "box": "d-box"}, stamp="t"),
    ]
    (difference, *_) = findings([thing("s", raw), thing("t", other)], there)["a"].differences
    assert (difference.source, difference.destination) == (frozenset({Ref("thing", "t")}), frozenset())


def test_what_a_service_makes_by_itself_is_nobodys_business_on_one_side_only() -> None:
    assert findings([thing("s", RAW, tolerated=True)], [])["a"].verdict is Verdict.NOTED
    assert not findings([], [thing("d", THERE, tolerated=True)])
    both = [thing("s", RAW, tolerated=True)], [thing("d", {**THERE, "size": 2})]
    assert findings(*both)["a"].verdict is Verdict.DIFFERENT


def test_what_no_migration_brings_is_noted_and_not_missing() -> None:
    found = findings([thing("s", RAW, not_expected="it is in ERROR")], [])["a"]
    assert (found.verdict, found.reason) == (Verdict.NOTED, "it is in ERROR")


def test_what_no_migration_brings_is_extra_at_the_destination_unless_it_is_tolerated_there() -> None:
    found = findings([], [thing("d", THERE, not_expected="it has no bytes")])["a"]
    assert (found.verdict, found.reason) == (Verdict.EXTRA, "not from the source; it has no bytes")
    assert not findings([], [thing("d", THERE, not_expected="an administrator's", tolerated=True)])


def test_what_a_run_was_not_to_migrate_is_noted_whether_it_is_there_or_not() -> None:
    chosen = {Ref("box", "s-box"), Ref("quota", "t.compute"), Ref("assignment", "t.u.r"), Ref("user", "u")}
    missing, differing = (_as_chosen(thing(i, {**RAW, "name": i}), chosen) for i in ("lost", "other"))
    assert _as_chosen(box("s-box"), chosen).not_expected == ""
    assert missing.not_expected == NOT_CHOSEN
    found = findings([missing, differing], [thing("d", {**THERE, "name": "other", "size": 2})])
    assert (found["lost"].verdict, found["other"].verdict) == (Verdict.NOTED, Verdict.DIFFERENT)
    assert _excused(found["other"], {differing.ref: NOT_CHOSEN}).verdict is Verdict.NOTED
    assert _excused(found["other"], {missing.ref: NOT_CHOSEN}).verdict is Verdict.DIFFERENT

    limit = replace(box("s-box"), ref=Ref("quota", "t.compute.cores"))
    grants = {
        user: replace(
            box("x"), ref=Ref("assignment", user), facts={"who": (Ref("user", user), Ref("role", "r"))}
        )
        for user in ("u", "v")
    }
    assert _as_chosen(limit, chosen).not_expected == _as_chosen(grants["u"], chosen).not_expected == ""
    assert _as_chosen(grants["v"], chosen).not_expected == NOT_CHOSEN


def test_a_name_that_the_plan_gives_is_noted_and_no_other() -> None:
    there = [thing("d", {**THERE, "name": "a-1"}, stamp="s")]
    assert findings([thing("s", RAW)], there, s="a-1")["a"].verdict is Verdict.NOTED
    for names in ({}, {"s": "a"}, {"t": "a-1"}):
        assert bad(findings([thing("s", RAW)], there, **names)["a"]) == ["name"]


def test_two_of_one_name_are_told_apart_by_the_names_that_the_plan_gives() -> None:
    here = [thing("s", RAW), thing("t", RAW)]
    names = {Ref("thing", "t"): "a-t"}
    twins = pair(
        PAIR,
        {"box": [box("s-box")], "thing": [_as_named(item, names) for item in here]},
        {"box": [box("d-box")], "thing": [thing("d", THERE), thing("e", {**THERE, "name": "a-t"})]},
        MAPPINGS,
        {},
    )
    assert {ref.id: twin.ref.id for ref, twin in twins.items.items() if ref.kind == "thing"} == {
        "s": "d",
        "t": "e",
    }


@pytest.mark.parametrize(
    ("names", "excused"),
    [
        ({"flavor/deleted.s": "small-1"}, True),
        ({"flavor/f": "small-1"}, True),
        ({"flavor/g": "small-1"}, False),
        ({}, False),
    ],
)
def test_a_server_may_have_its_flavor_by_the_name_that_the_plan_gives(
    names: dict[str, str], excused: bool
) -> None:
    kinds = [replace(kind, fields=kind.fields[:1]) for kind in (FLAVOR,)]
    server = replace(SERVER, fields=tuple(f for f in SERVER.fields if f.name == "flavor"))
    here = {
        "flavor": [Item(Ref("flavor", i), {"name": Named("flavors", n)}, n, n) for i, n in FLAVORS.items()],
        "server": [Item(Ref("server", "s"), {"flavor": Named("flavors", "small")}, "web", "web")],
    }
    there = {"server": [Item(Ref("server", "d"), {"flavor": Named("flavors", "small-1")}, "web", "web")]}
    known = {Ref(*address.split("/")): name for address, name in names.items()}
    found = compare_items([server], here, there, pair([*kinds, server], here, there, {}, {}), known)
    assert [bad(each) == [] for each in found] == [excused]


def test_only_what_is_used_is_compared() -> None:
    unused = [box("s-box", owned=False), box("x", owned=False)]
    kept = needed({"box": unused, "thing": [thing("s", RAW)]})
    assert [item.ref.id for item in kept["box"]] == ["s-box"]


def test_stamps_are_no_tags() -> None:
    raw = {"tags": ["pumphouse_source_id=abc", "red"]}
    assert (tags(raw), tag_stamp(raw), tag_stamp({})) == (frozenset({"red"}), "abc", "")


@pytest.mark.parametrize(
    ("recorded", "actual", "verdict", "excused"),
    [
        ({}, "ACTIVE", Verdict.NOTED, True),
        ({"s": "ACTIVE"}, "ACTIVE", Verdict.EQUAL, True),
        ({"s": "SHUTOFF"}, "ACTIVE", Verdict.DIFFERENT, False),
        ({"s": "ACTIVE"}, "SHUTOFF", Verdict.DIFFERENT, False),
        ({"s": "PAUSED"}, "SHUTOFF", Verdict.NOTED, True),
        ({}, "ERROR", Verdict.DIFFERENT, False),
    ],
)
def test_a_server_that_the_migration_stopped(
    recorded: dict[str, str], actual: str, verdict: Verdict, excused: bool
) -> None:
    status = replace(SERVER, fields=tuple(f for f in SERVER.fields if f.name == "status"))
    here = Item(Ref("server", "s"), {"status": "SHUTOFF"}, "web", "web")
    there = Item(Ref("server", "d"), {"status": actual}, "web", "web", stamp="s")
    known = Known(statuses={Ref("server", server): was for server, was in recorded.items()})
    sides = {"server": [_as_it_was(here, known)]}, {"server": [there]}
    (found,) = compare_items([status], *sides, pair([status], *sides, {}, {}), {})
    assert found.verdict is verdict
    assert (bad(found) == []) is excused


def test_rules_of_a_security_group_say_the_same_in_many_words() -> None:
    rule = {
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": "tcp",
        "port_range_min": 1,
        "port_range_max": 2,
        "remote_ip_prefix": "0.0.0.0/0",
        "remote_group_id": None,
        "description": None,
    }
    group = {
        "name": "g",
        "description": "",
        "stateful": True,
        "project_id": "p",
        "security_group_rules": [rule],
    }
    anyone = {**group, "security_group_rules": [{**rule, "remote_ip_prefix": None, "description": ""}]}
    host = {**group, "security_group_rules": [{**rule, "remote_ip_prefix": "192.0.2.1/32"}]}
    rules = [SECURITY_GROUP.item(each, "g").facts["rules"] for each in (group, anyone, host)]
    assert rules[0] == rules[1] != rules[2]


def test_user_data_is_never_shown() -> None:
    user_data = next(f for f in SERVER.fields if f.name == "user_data")
    shown = [user_data.read({"OS-EXT-SRV-ATTR:user_data": value}) for value in ("c2VjcmV0", "b3RoZXI=")]
    assert shown[0] != shown[1]
    assert all(value.startswith("sha256:") for value in shown)


def test_all_that_people_may_write_is_compared() -> None:
    image = {"id": "i", "stores": "file", "pumphouse_source_id": "s", "os_glance_stage_host": "here"}
    theirs = {"os_version": "12", "owner_specified.x": "1", "user_id": "u", "image_type": "gold"}
    properties = next(f for f in IMAGE.fields if f.name == "properties")
    assert properties.read({**image, **theirs}) == theirs
    volume = {"metadata": {"readonly": "True", "pumphouse_source_id": "s", "keep": "1"}}
    fields = {f.name: f for f in VOLUME.fields}
    assert (fields["metadata"].read(volume), fields["readonly"].read(volume)) == ({"keep": "1"}, True)


@pytest.mark.parametrize(
    ("wanted", "actual", "excused"),
    [
        ({"image_type": "snapshot", "instance_uuid": "i", "x": "1"}, {"x": "1"}, True),
        ({"image_type": "snapshot", "instance_uuid": "i", "x": "1"}, {}, False),
        ({"image_type": "snapshot", "user_id": "u"}, {}, False),
        ({"image_type": "snapshot", "instance_uuid": "i"}, {"instance_uuid": "another"}, False),
    ],
)
def test_only_what_nova_wrote_into_its_own_snapshot_may_be_lost(
    wanted: Json, actual: Json, excused: bool
) -> None:
    properties = next(f for f in IMAGE.fields if f.name == "properties")
    assert bool(properties.excuse(wanted, actual)) is excused


NIC = "OS-EXT-IPS-MAC:mac_addr"


@pytest.mark.parametrize(
    ("networks", "cards", "order"),
    [
        ({"a": "1", "b": "2"}, [], ("1", "2")),
        ({"a": "12"}, [], ("1", "2")),
        ({"a": "13", "b": "2"}, ["1", "2", "3"], ("1", "2", "3")),
        ({"a": "13", "b": "2"}, [], NOT_KNOWN),
        ({"a": "13", "b": "2"}, ["1", "2", "another"], NOT_KNOWN),
    ],
)
def test_the_order_of_network_cards_is_told_only_where_it_is_known(
    networks: dict[str, str], cards: list[str], order: Any
) -> None:
    addresses = {
        name: [{NIC: mac, "addr": "x"} for mac in macs for _ in "46"] for name, macs in networks.items()
    }
    field = next(f for f in SERVER.fields if f.name == "order of NICs")
    assert field.read({"addresses": addresses, "cards": cards}) == order


def test_only_the_group_that_neutron_made_and_nobody_changed_is_tolerated() -> None:
    everything = dict.fromkeys(
        ("protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "remote_group_id", "description")
    )
    made = [
        {**everything, "direction": direction, "ethertype": version, "remote_group_id": group}
        for version in ("IPv4", "IPv6")
        for direction, group in (("egress", None), ("ingress", "g"))
    ]
    raw = {"id": "g", "name": "default", "project_id": "p", "security_group_rules": made}
    assert _item(SECURITY_GROUP, raw, "p").tolerated
    hardened = {**raw, "security_group_rules": made[1:]}
    opened = {**raw, "security_group_rules": [*made, {**made[0], "direction": "ingress"}]}
    assert not _item(SECURITY_GROUP, hardened, "p").tolerated
    assert not _item(SECURITY_GROUP, opened, "p").tolerated


@pytest.mark.parametrize(("cidr", "excused"), [("172.25.0.0/24", True), ("172.24.0.0/24", False)])
def test_a_floating_address_is_given_up_only_where_the_network_has_it_not(cidr: str, excused: bool) -> None:
    wanted = Floating("172.24.0.9", frozenset({"172.24.0.0/24"}))
    assert bool(_elsewhere(wanted, Floating("172.25.0.3", frozenset({cidr})))) is excused


def excused(kind: Kind, wanted: Json, actual: Json, **mapping: str) -> list[tuple[str, str]]:
    """The fields that say which zone something is in, as far as they differ, each with its excuse."""
    fields = [f for f in kind.fields if "zone" in f.name]
    twins = pair([], {}, {}, {"availability_zones": mapping}, {})
    read = [(f, twins.translate(f.read(wanted)), f.read(actual)) for f in fields]
    return [(f.name, f.excuse(mine, theirs)) for f, mine, theirs in read if mine != theirs]


def test_zones_are_compared_by_their_mapping_and_a_service_may_have_none_of_the_mapped_ones() -> None:
    fields = ((VOLUME, "availability_zone", str), (NETWORK, "availability_zone_hints", lambda zone: [zone]))
    for kind, name, told in fields:
        mine, mapped_one, other = ({name: told(zone)} for zone in ("old", "new", "other"))
        assert excused(kind, mine, mapped_one, old="new") == []
        assert "kept its name" in excused(kind, mine, mine, old="new")[0][1]
        assert excused(kind, mine, other, old="new") == [(name, "")]


def test_a_server_that_was_asked_for_no_zone_may_be_in_any() -> None:
    def server(where: str, **asked: str | None) -> Json:
        pinned = {f"pinned_availability_{name}": zone for name, zone in asked.items()}
        return {"OS-EXT-AZ:availability_zone": where, **pinned}

    free, old = server("a", zone=None), server("a")
    assert excused(SERVER, free, server("b", zone=None)) == []
    assert "asked for no zone" in excused(SERVER, free, server("b"))[0][1]
    assert excused(SERVER, old, server("c", zone="b"), a="b") == []
    assert excused(SERVER, old, server("b", zone=None), a="b") == [("availability_zone", "")]


def test_every_kind_of_the_registry_is_compared() -> None:
    from pumphouse import tasks

    # How they are told here: a membership by its group, the tenant's end state by the tenant; a domain
    # is only mapped.
    parts = {"membership", "tenant_state", "domain"}
    assert tasks.KINDS.keys() - parts <= {kind.name for kind in KINDS if kind.fields}


def test_it_knows_the_stamp_though_it_has_it_from_nobody() -> None:
    from pumphouse.tasks.base import STAMP as WRITTEN

    assert STAMP == WRITTEN


@pytest.fixture
def verification() -> Verification:
    here = [thing("s", RAW), thing("t", {**RAW, "name": "t"})]
    there = [thing("d", {**THERE, "size": 2}, stamp="s"), thing("e", {**THERE, "name": "e"})]
    return Verification("tenant", "twin", False, tuple(findings(here, there).values()))


def test_plain_data(verification: Verification) -> None:
    data = json.loads(json.dumps(verification_data(verification)))
    assert (data["equal"], data["summary"]) == (
        False,
        {"equal": 0, "noted": 0, "different": 1, "missing": 1, "extra": 1},
    )
    (difference,) = data["resources"][0]["differences"]
    assert difference == {"field": "size", "source": 1, "destination": 2, "excuse": ""}
    assert data["not_compared"]["volume"] == not_compared()["volume"]


def test_words(verification: Verification) -> None:
    out = io.StringIO()
    print_verification(verification, PrintableConsole(file=out, width=200), show_equal=False)
    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert "different thing a" in lines
    assert "size: 1 at the source, 2 at the destination" in lines
    assert "missing   thing t: not at the destination" in lines
    assert "extra     thing e: not from the source" in lines
    assert lines[-1] == "3 resources: 1 different, 1 missing, 1 extra"


@pytest.mark.parametrize("show_equal", [True, False])
def test_what_is_equal_is_counted_and_listed_only_when_asked_for(show_equal: bool) -> None:
    found = tuple(findings([thing("s", RAW)], [thing("d", THERE, stamp="s")]).values())
    out = io.StringIO()
    verification = Verification("tenant", "twin", False, found)
    print_verification(verification, PrintableConsole(file=out, width=200), show_equal=show_equal)
    lines = out.getvalue().splitlines()
    assert any(line.startswith("equal     thing a") for line in lines) is show_equal
    assert lines[-1].strip() == "1 resources: 1 equal"
    assert len(verification_data(verification)["resources"]) == 1

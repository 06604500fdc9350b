"""What a selection makes of the records of a tenant: what is in a plan, why, and what is wrong with what was asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pumphouse.cli import planning
from pumphouse.errors import PumphouseError, UsageError
from pumphouse.model import Action, Plan, Record, Ref, Selection, Step, not_made
from pumphouse.plan.decide import block, decide
from pumphouse.plan.make import _selected
from pumphouse.plan.selection import choose, notes, resolve
from pumphouse.plan.units import units
from pumphouse.show.plan import selection_options
from pumphouse.tasks import KINDS

TENANT = Ref("tenant", "t")


def record(address: str, *needs: str, part_of: str = "", **fields: object) -> Record:
    """A record that is called as its id, e.g. `server/web`."""
    ref = of(address)
    return Record(
        ref, ref.id, needs=tuple(map(of, needs)), part_of=of(part_of) if part_of else None, **fields
    )


def of(address: str) -> Ref:
    kind, _, resource_id = address.partition("/")
    return Ref(kind, resource_id)


# A tenant with two servers on one network, an image of nobody's, a user, and a network that others give.
RECORDS = {
    made.ref: made
    for made in (
        record("tenant/t", "domain/d"),
        record("quota/t.compute", "tenant/t", part_of="tenant/t"),
        record("user/alice", "domain/d"),
        record("user/bob", "domain/d"),
        record("assignment/alice-member", "tenant/t", "user/alice", "role/member", part_of="user/alice"),
        record("assignment/bob-member", "tenant/t", "user/bob", "role/member", part_of="user/bob"),
        record("keypair/key", "user/alice", part_of="user/alice"),
        record("image/base", "tenant/t"),
        record("network/lan", "tenant/t"),
        record("network/back", "tenant/t"),
        record("subnet/lan-v4", "tenant/t", "network/lan", part_of="network/lan"),
        record("subnet/lan-v6", "tenant/t", "network/lan", part_of="network/lan"),
        record("security_group/a", "tenant/t", "security_group/b"),
        record("security_group/b", "tenant/t", "security_group/a"),
        record("router/r", "tenant/t", "network/lan", "network/internet", "subnet/lan-v4"),
        record(
            "port/web-1",
            "tenant/t",
            "network/lan",
            "subnet/lan-v4",
            "security_group/a",
            part_of="server/web",
        ),
        record("port/db-1", "tenant/t", "network/lan", "subnet/lan-v4", part_of="server/db"),
        record("port/free", "tenant/t", "network/lan", "subnet/lan-v6"),
        record("volume/data", "tenant/t", "server/db", part_of="server/db"),
        record("volume/archive", "tenant/t"),
        record("server/web", "tenant/t", "port/web-1", "flavor/tiny"),
        record("server/db", "tenant/t", "port/db-1", "volume/data", "flavor/big"),
        record(
            "server/broken", "tenant/t", "flavor/huge", skip="its status is ERROR: mend it, then plan again"
        ),
        record("floating_ip/1.2.3.4", "tenant/t", "network/internet", "port/web-1", "router/r"),
        record("tenant_state/t", "tenant/t", last=True),
    )
}
OWN = frozenset(RECORDS)
RECORDS |= {
    made.ref: made
    for made in (
        record("domain/d", must_exist="make it"),
        record("role/member"),
        record("flavor/tiny"),
        record("flavor/big"),
        record("flavor/huge"),
        record("network/internet", must_exist="map it"),
    )
}
ALWAYS = {"tenant/t", "domain/d", "quota/t.compute"}


def chosen(**selection: object) -> dict[str, str]:
    wanted = resolve(Selection(**selection), RECORDS, KINDS)
    return {str(ref): why for ref, why in choose(wanted, RECORDS, OWN, TENANT).items()}


def test_an_empty_selection_is_everything() -> None:
    assert chosen() == dict.fromkeys(map(str, RECORDS), "")
    assert not Selection()
    assert notes({ref: RECORDS[ref] for ref in OWN}, choose(Selection(), RECORDS, OWN, TENANT)) == ()


def test_one_server_comes_with_what_it_needs_and_nothing_else() -> None:
    assert chosen(names=(("server", "web"),)) == {
        "tenant/t": "",
        "quota/t.compute": "belongs to tenant t",
        "network/lan": "needed by server web",
        "subnet/lan-v4": "belongs to network lan",
        "subnet/lan-v6": "belongs to network lan",
        "security_group/a": "needed by server web",
        "security_group/b": "needed by server web",
        "port/web-1": "needed by server web",
        "server/web": "",
        "domain/d": "needed by tenant t",
        "flavor/tiny": "needed by server web",
    }


def test_what_several_need_says_how_many_they_are() -> None:
    found = chosen(only=("server",))
    assert found["network/lan"] == "needed by server web and 1 more"
    assert found["server/broken"] == ""
    assert "flavor/huge" not in found
    assert found["volume/data"] == "needed by server db"
    assert {"volume/archive", "port/free", "floating_ip/1.2.3.4"}.isdisjoint(found)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"only": ("image",)}, {"image/base"}),
        ({"only": ("network",)}, {"network/lan", "network/back", "subnet/lan-v4", "subnet/lan-v6"}),
        ({"only": ("flavor",)}, {"flavor/tiny", "flavor/big", "flavor/huge"}),
        ({"only": ("keypair",)}, {"keypair/key", "user/alice", "assignment/alice-member", "role/member"}),
        ({"names": (("user", "bob"),)}, {"user/bob", "assignment/bob-member", "role/member"}),
        ({"names": (("user", "bob"),), "skip": ("assignment",)}, {"user/bob"}),
        (
            {"only": ("image",), "names": (("user", "bob"),), "skip": ("assignment",)},
            {"image/base", "user/bob"},
        ),
        ({"only": ("user",), "names": (("user", "bob"),), "skip": ("assignment",)}, {"user/bob"}),
        ({"only": ("tenant_state",)}, {"tenant_state/t"}),
    ],
)
def test_only_and_names(selection: dict[str, object], expected: set[str]) -> None:
    assert set(chosen(**selection)) - ALWAYS == expected


def test_a_volume_brings_the_server_it_is_attached_to() -> None:
    found = chosen(names=(("volume", "data"),))
    assert found["server/db"] == found["port/db-1"] == "needed by volume data"
    assert "server/web" not in found


def test_what_is_not_skipped_is_selected_but_not_the_parts_of_what_is() -> None:
    found = chosen(skip=("server", "router", "floating_ip"))
    assert {"port/web-1", "router/r", "floating_ip/1.2.3.4", "server/web"}.isdisjoint(found)
    assert {"flavor/tiny", "network/internet"}.isdisjoint(found), "only servers and routers need them"
    assert (
        found["port/free"] == found["volume/archive"] == found["volume/data"] == found["subnet/lan-v6"] == ""
    )
    assert found["server/db"] == "needed by volume data"
    assert "tenant_state/t" not in found


def test_notes_count_what_is_left_behind() -> None:
    own = {ref: RECORDS[ref] for ref in OWN}
    left = choose(Selection(skip=("image",)), RECORDS, OWN, TENANT)
    one, disabled = notes(own, left)
    assert one == "1 resource of the tenant is not selected"
    assert "disabled at the source" in disabled
    more = notes(own, choose(resolve(Selection(only=("image",)), RECORDS, KINDS), RECORDS, OWN, TENANT))
    assert more[0] == f"{len(OWN) - 4} resources of the tenant are not selected"


def test_every_problem_is_said_at_once_with_what_was_probably_meant() -> None:
    twice = {**RECORDS, Ref("image", "2"): Record(Ref("image", "2"), "base")}
    wanted = Selection(
        only=("servr", "user"),
        skip=("user", "volume"),
        names=(("server", "wbe"), ("image", "base2"), ("volume", "data"), ("keypair", "zzz")),
    )
    with pytest.raises(UsageError) as caught:
        resolve(wanted, twice, KINDS)
    text = str(caught.value)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert "--only servr: there is no such kind; did you mean 'server'" in text
    assert "--only user and --skip user are both given" in text
    assert "--volume and --skip volume are both given" in text
    assert "--server wbe: the tenant has none of this name or id; did you mean 'web'?" in text
    assert "--keypair zzz: the tenant has none of this name or id; it has key" in text
    assert len(text.splitlines()) == 6


def test_an_id_goes_before_names_and_a_name_of_several_is_refused() -> None:
    twins = {ref: Record(ref, "base") for ref in (Ref("image", "1"), Ref("image", "2"))}
    assert resolve(Selection(names=(("image", "1"),)), twins, KINDS).refs == (Ref("image", "1"),)
    with pytest.raises(UsageError, match="--image base: 2 have this name: 1, 2; give the id"):
        resolve(Selection(names=(("image", "base"),)), twins, KINDS)
    with pytest.raises(UsageError, match="it has no server"):
        resolve(Selection(names=(("server", "web"),)), twins, KINDS)


def test_what_a_plan_named_and_is_gone_is_no_problem_of_the_selection() -> None:
    planned = Selection(refs=(Ref("server", "gone"),))
    assert resolve(planned, RECORDS, KINDS) == planned
    assert set(map(str, choose(planned, RECORDS, OWN, TENANT))) == ALWAYS


def decided(selection: Selection, there: tuple[str, ...] = ()) -> dict[str, Step]:
    """The steps of a plan, when the destination has what `there` names."""

    def decide_all(records: dict[Ref, Record]) -> dict[Ref, Step]:
        return {
            ref: Step(made, Action.REUSE, "already", made.name, f"new-{ref.id}")
            if made.must_exist or str(ref) in there
            else decide(made, [], "fail")
            for ref, made in records.items()
        }

    steps = _selected(selection, RECORDS, OWN, TENANT, decide_all)
    return {str(ref): step for ref, step in block(steps).items()}


def test_nothing_is_made_of_a_kind_that_is_skipped_and_what_needs_it_says_so() -> None:
    steps = decided(Selection(skip=("server",)))
    assert (steps["server/db"].action, steps["server/db"].reason) == (Action.SKIP, not_made("server"))
    assert steps["server/db"].because == "needed by volume data"
    assert steps["volume/data"].reason == "needs server db, which is skipped"
    assert {"port/db-1", "flavor/big"}.isdisjoint(steps), "only the server that is not made needs them"
    assert steps["volume/archive"].action is Action.CREATE


def test_what_is_skipped_and_at_the_destination_is_used() -> None:
    missing = decided(Selection(refs=(Ref("server", "web"),), skip=("network",)))
    assert missing["server/web"].action is Action.SKIP
    there = decided(
        Selection(refs=(Ref("server", "web"),), skip=("network",)), ("network/lan", "subnet/lan-v4")
    )
    assert {there[name].action for name in ("network/lan", "subnet/lan-v4")} == {Action.REUSE}
    assert there["server/web"].action is there["port/web-1"].action is Action.CREATE


def test_options_are_those_of_a_command() -> None:
    selection = Selection(("image",), ("volume",), refs=(Ref("server", "web"), Ref("server", "gone")))
    named = replace(RECORDS[Ref("server", "web")], name="front")
    step = Step(named, Action.CREATE, "why", "x")
    plan = Plan(TENANT, "t", "a", "b", units({named.ref: step}), selection=selection)
    assert selection_options(plan) == "--only image --skip volume --server front --server gone"


# What holds for whatever needs whatever.

KIND = st.sampled_from(["server", "image", "network", "subnet", "port", "volume", "user", "keypair"])


@st.composite
def tenants(draw: st.DrawFn) -> dict[Ref, Record]:
    """Records that need each other in any way, also in circles; parts of what came before."""
    refs = [TENANT, *(Ref(draw(KIND), str(number)) for number in range(draw(st.integers(0, 8))))]
    gone = Ref("role", "gone")
    return {
        ref: Record(
            ref,
            ref.id,
            needs=tuple(draw(st.lists(st.sampled_from([*refs, gone]), max_size=3, unique=True))),
            part_of=draw(st.none() | st.sampled_from(refs[:number])) if number else None,
            skip=draw(st.sampled_from(["", "", "", "it cannot"])),
            must_exist=draw(st.sampled_from(["", "", "", "make it"])),
        )
        for number, ref in enumerate(refs)
    }


@st.composite
def selections(draw: st.DrawFn, records: dict[Ref, Record]) -> Selection:
    kinds = st.lists(KIND, max_size=2, unique=True).map(tuple)
    skip = draw(kinds)
    refs = draw(st.lists(st.sampled_from(sorted(records)), max_size=2, unique=True))
    return Selection(
        tuple(kind for kind in draw(kinds) if kind not in skip),
        skip,
        refs=tuple(ref for ref in refs if ref.kind not in skip),
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_the_choice_is_closed_and_nothing_is_in_it_that_nothing_needs(data: st.DataObject) -> None:
    records = data.draw(tenants())
    selection = data.draw(selections(records))
    own = frozenset(data.draw(st.lists(st.sampled_from(sorted(records)), unique=True)))
    found = choose(selection, records, own, TENANT)
    assert TENANT in found
    assert found.keys() <= records.keys()
    migrated = [records[ref] for ref in found if not records[ref].skip]
    wanted = {need for made in migrated for need in (*made.needs, made.part_of)} & records.keys()
    assert wanted <= found.keys()
    assert set(selection.refs) <= found.keys()
    if not selection:
        return
    wholes = {made.ref for made in migrated}
    for ref, why in found.items():
        if why:
            assert ref in wanted or records[ref].part_of in wholes
        else:
            assert ref == TENANT or ref.kind not in selection.skip
    # Each that was not selected is there for one that was: without them, it would not be.
    selected = [ref for ref, why in found.items() if not why]
    assert all(any(_leads(root, ref, records) for root in selected) for ref, why in found.items() if why)


def _leads(root: Ref, target: Ref, records: dict[Ref, Record]) -> bool:
    seen, waiting = {root}, [root]
    while waiting:
        made = records[waiting.pop()]
        parts = [ref for ref, other in records.items() if other.part_of == made.ref]
        further = {*made.needs, made.part_of, *parts} & records.keys() - seen if not made.skip else set()
        seen |= further
        waiting += further
    return target in seen


def server(name: str, tags: tuple[str, ...], host: str, **metadata: str) -> Record:
    answer = {"OS-EXT-SRV-ATTR:host": host, "OS-EXT-AZ:availability_zone": f"zone-of-{host}"}
    data = {"tags": list(tags), "metadata": metadata}
    return Record(Ref("server", f"id-{name}"), name, data, answer=answer)


SERVERS = {
    made.ref: made
    for made in (
        server("web-1", ("wave-1", "web"), "a", tier="front"),
        server("web-2", ("wave-2", "web"), "b", tier="front"),
        server("db", ("wave-1",), "b", tier="back"),
    )
}


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        (("tag=wave-1",), ["web-1", "db"]),
        (("tag=wave-1", "name=web-*"), ["web-1"]),
        (("metadata=tier=back",), ["db"]),
        (("metadata=tier=*",), ["web-1", "web-2", "db"]),
        (("host=b",), ["web-2", "db"]),
        (("zone=zone-of-a",), ["web-1"]),
        (("wave=1",), ["web-1", "db"]),
        (("wave=2", "host=b"), ["web-2"]),
    ],
)
def test_servers_are_selected_that_meet_all_conditions(conditions: tuple[str, ...], names: list[str]) -> None:
    found = resolve(Selection(conditions=conditions), SERVERS, KINDS)
    assert found.refs == tuple(Ref("server", f"id-{name}") for name in names)
    assert found.is_narrow
    assert not found.conditions


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        (
            "tag=wave-3",
            "--servers tag=wave-3: no server of the tenant meets this; there are wave-1, wave-2, web",
        ),
        ("flavor=big", "--servers flavor: expected name=PATTERN, tag=PATTERN, metadata=PATTERN"),
        ("wave-1", "--servers wave-1: expected name=PATTERN"),
        ("wave=3", "--servers wave=3: no server of the tenant meets this; there are 1, 2"),
    ],
)
def test_conditions_that_no_server_meets_select_nothing_and_not_everything(
    condition: str, problem: str
) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(Selection(conditions=(condition,)), SERVERS, KINDS)
    assert problem in str(caught.value)


def test_metadata_puts_a_server_into_a_wave_too() -> None:
    records = {made.ref: made for made in (server("a", (), "h", wave="7"), server("b", ("wave-8",), "h"))}
    assert resolve(Selection(conditions=("wave=7",)), records, KINDS).refs == (Ref("server", "id-a"),)


def selected(*arguments: str) -> Selection:
    """What a command with these arguments selects."""
    found: list[Selection] = []

    @click.command()
    @planning.selection_options
    def command(selection: Selection) -> None:
        found.append(selection)

    command.main(list(arguments), standalone_mode=False)
    return found[0]


def test_a_wave_is_of_tags_or_of_a_file(tmp_path: Path) -> None:
    waves = tmp_path / "waves.yaml"
    waves.write_text("1: [web, db]\nlast: [0815]\n")
    assert selected("--wave", "1") == Selection(conditions=("wave=1",))
    assert selected("--waves", str(waves), "--wave", "1") == Selection(
        names=(("server", "web"), ("server", "db"))
    )
    assert selected("--waves", str(waves), "--wave", "last").names == (("server", "0815"),)
    with pytest.raises(click.UsageError, match="say by --wave which is meant"):
        selected("--waves", str(waves))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1: [web]\n2: [web]\n", "server web is in wave 1 and in wave 2; expected each once"),
        ("1: [web]\n1: [db]\n", "waves.yaml:2: "),
        ("[web]\n", "expected the servers of each wave by name or id, as in 1: [web, db]"),
        ("1: web\n", "expected the servers of each wave"),
        ("", "expected the servers of each wave"),
        ("2: [web]\n", "has no wave 1"),
        ("1: [web\n", "a list is opened and not closed"),
    ],
)
def test_what_is_wrong_with_a_file_of_waves_is_said(tmp_path: Path, text: str, problem: str) -> None:
    waves = tmp_path / "waves.yaml"
    waves.write_text(text)
    with pytest.raises(PumphouseError) as caught:
        selected("--waves", str(waves), "--wave", "1")
    assert problem in str(caught.value)

"""Flavors and keypairs between two real Novas."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from novaclient.api_versions import APIVersion
from taskflow import task

from pumphouse.cloud import Cloud, call, get_all
from pumphouse.errors import ConfigError, ConflictError, PumphouseError
from pumphouse.model import Action, Json, Ref, symbol
from pumphouse.tasks.base import STAMP, ensured_id
from pumphouse.tasks.keystone import domain, role, tenant, user
from pumphouse.tasks.nova import flavor, keypair
from pumphouse.tasks.nova.common import flavor_path, list_flavors
from tests.real.by_hand import ByHand, Clouds, connect

pytestmark = pytest.mark.exhaustive

KINDS = (domain, role, tenant, user, flavor, keypair)
SPECS = {"hw:cpu_policy": "dedicated", "trait:CUSTOM_FAST": "required", "quota:disk_total_iops_sec": "500"}
VALUES = (
    "ram",
    "vcpus",
    "disk",
    "ephemeral",
    "swap",
    "rxtx_factor",
    "is_public",
    "extra_specs",
    "description",
)


@pytest.fixture(scope="module")
def clouds(lab: Any) -> Clouds:
    return connect(lab)


@pytest.fixture
def world(clouds: Clouds) -> Iterator[SimpleNamespace]:
    """A tenant of the source with a user; whatever is made for it on both sides is removed."""
    before = [everything(cloud) for cloud in (clouds.source, clouds.destination)]
    keystone, tag = clouds.source.keystone, uuid4().hex[:8]
    project = keystone.projects.create(f"tenant-{tag}", "default", description="with flavors")
    alice = keystone.users.create(f"alice-{tag}", "default")
    member = next(item for item in keystone.roles.list() if item.name == "member")
    keystone.roles.grant(member, user=alice, project=project)
    yield SimpleNamespace(tag=tag, project=project, alice=alice)
    for cloud, known in zip((clouds.source, clouds.destination), before, strict=True):
        clean(cloud, known)
    assert [everything(cloud) for cloud in (clouds.source, clouds.destination)] == before


def everything(cloud: Cloud) -> dict[str, list[str]]:
    """The flavors, users, projects and keypairs of a cloud."""
    users = [item.id for item in cloud.keystone.users.list()]
    return {
        "keypairs": sorted(
            f"{owner}/{item['name']}" for owner in users for item in keypair._list(cloud, owner)
        ),
        "users": sorted(users),
        "projects": sorted(item.id for item in cloud.keystone.projects.list()),
        "flavors": sorted(item["id"] for item in list_flavors(cloud)),
    }


def clean(cloud: Cloud, before: dict[str, list[str]]) -> None:
    """Remove all that was not there before."""
    now = everything(cloud)
    new = {kind: [item for item in items if item not in before[kind]] for kind, items in now.items()}
    for owner, _, name in (item.partition("/") for item in new["keypairs"]):
        cloud.nova.keypairs.delete(name, user_id=owner)
    for user_id in new["users"]:
        cloud.keystone.users.delete(user_id)
    for project_id in new["projects"]:
        cloud.keystone.projects.delete(project_id)
    for flavor_id in new["flavors"]:
        call(cloud.adapter("compute"), "DELETE", flavor_path(flavor_id))


def carry(clouds: Clouds, world: SimpleNamespace, **mappings: dict[str, str]) -> ByHand:
    """The migration of the tenant with its flavors and keypairs."""
    found = (clouds.source, clouds.destination, world.project.id, KINDS)
    return ByHand(*found, mappings=mappings)


def make(cloud: Cloud, name: str, specs: dict[str, str] | None = None, **fields: Any) -> str:
    """A flavor, odd where nothing else is said."""
    odd = {
        "ram": 321,
        "vcpus": 3,
        "disk": 0,
        "ephemeral": 2,
        "swap": 7,
        "rxtx_factor": 1.5,
        "is_public": False,
    }
    made = cloud.nova.flavors.create(name, **{**odd, **fields})
    if specs:
        made.set_keys(specs)
    return str(made.id)


def make_private(clouds: Clouds, world: SimpleNamespace, name: str, **fields: Any) -> str:
    """A private flavor of the source that the tenant has access to."""
    made = make(clouds.source, name, **fields)
    clouds.source.nova.flavor_access.add_tenant_access(made, world.project.id)
    return made


def read(cloud: Cloud, flavor_id: str) -> Json:
    """A flavor as it is."""
    return flavor._read(cloud, [flavor_id])[flavor_id]


def public_key(comment: str = "alice@home") -> str:
    key = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return f"{key.decode()} {comment}"


def test_private_flavors_arrive_with_all_fields_and_a_second_time_makes_nothing(
    clouds: Clouds, world: SimpleNamespace
) -> None:
    odd = make_private(
        clouds, world, f"odd {world.tag}", specs=SPECS, flavorid=f"4.2 {world.tag}", description="größer"
    )
    number = str(uuid4().int % 10**9)
    plain = make_private(clouds, world, f"plain-{world.tag}", flavorid=number)
    taken = make_private(clouds, world, f"taken-{world.tag}", flavorid=f"id-{world.tag}")
    make(clouds.destination, f"other-{world.tag}", flavorid=taken)
    make(clouds.source, f"stranger-{world.tag}")

    by_hand = carry(clouds, world)
    first = by_hand.steps()
    results = by_hand.run(first)
    tenant_id = ensured_id(results, "tenant", world.project.id)
    twins = {i: ensured_id(results, "flavor", i) for i in (odd, plain, taken)}
    for mine, twin in twins.items():
        wanted, actual = read(clouds.source, mine), read(clouds.destination, twin)
        assert {name: actual[name] for name in ("name", *VALUES)} == {
            name: wanted[name] for name in ("name", *VALUES)
        }
        assert actual["access"] == [tenant_id]
    assert (twins[odd], twins[plain]) == (odd, number)
    assert twins[taken] != taken
    assert {ref.id for ref in first if ref.kind == "flavor"} == {odd, plain, taken}

    before = everything(clouds.destination)
    assert {step.action for step in by_hand.steps().values()} == {Action.REUSE}
    results = by_hand.run(first)
    made = {name for name, result in results.items() if isinstance(result, dict) and result.get("made")}
    assert made == {f"tenant-{world.project.id}-ensured"}
    assert everything(clouds.destination) == before


def test_the_access_that_is_missing_is_given_and_only_that_is_taken_back(
    clouds: Clouds, world: SimpleNamespace
) -> None:
    mine = make_private(clouds, world, f"shared-{world.tag}", specs=SPECS)
    there = make(clouds.destination, f"shared-{world.tag}", specs=SPECS)
    other = clouds.destination.keystone.projects.create(f"other-{world.tag}", "default")
    clouds.destination.nova.flavor_access.add_tenant_access(there, other.id)

    by_hand = carry(clouds, world)
    step = by_hand.steps()[Ref("flavor", mine)]
    assert (step.action, step.destination_id) == (Action.CREATE, there)
    assert step.reason.endswith("the tenant has no access to it")
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    assert read(clouds.destination, there)["access"] == [other.id]

    results = by_hand.run(by_hand.steps())
    tenant_id = ensured_id(results, "tenant", world.project.id)
    assert read(clouds.destination, there)["access"] == sorted([other.id, tenant_id])
    assert by_hand.steps()[Ref("flavor", mine)].action is Action.REUSE


def test_a_failure_takes_back_flavors_and_keypairs(clouds: Clouds, world: SimpleNamespace) -> None:
    make_private(clouds, world, f"odd-{world.tag}", specs=SPECS)
    clouds.source.nova.keypairs.create("laptop", public_key=public_key(), user_id=world.alice.id)
    before = everything(clouds.destination)
    by_hand = carry(clouds, world)
    with pytest.raises(RuntimeError, match="on purpose"):
        by_hand.run(by_hand.steps(), fail=True)
    assert everything(clouds.destination) == before


def test_a_flavor_with_other_values_is_a_conflict_and_is_never_changed(
    clouds: Clouds, world: SimpleNamespace
) -> None:
    mine = make_private(clouds, world, f"big-{world.tag}", specs=SPECS)
    there = make(clouds.destination, f"big-{world.tag}", specs={"a": "b"}, ram=64)
    was = read(clouds.destination, there)
    by_hand = carry(clouds, world)
    steps = by_hand.steps()
    step = steps[Ref("flavor", mine)]
    assert step.action is Action.CONFLICT
    assert "ram is 64, source has 321" in step.reason
    assert "extra_specs is {'a': 'b'}" in step.reason

    _, ensure, *_ = flavor.tasks(by_hand.migration, step)
    with pytest.raises(ConflictError, match=f"another flavor named 'big-{world.tag}'.*ram is 64"):
        ensure.execute(step.record.data)

    renamed = by_hand.steps("rename")
    results = by_hand.run(renamed)
    twin = read(clouds.destination, ensured_id(results, "flavor", mine))
    assert twin["name"] == f"big-{world.tag}-{mine[:8]}"
    assert {name: twin[name] for name in VALUES} == {name: step.record.data[name] for name in VALUES}
    assert read(clouds.destination, there) == was


def test_an_extra_spec_that_nova_refuses_is_not_the_end_of_the_flavor(
    clouds: Clouds, world: SimpleNamespace
) -> None:
    """What it only does not know any more it takes in the microversion of the time."""
    make_private(clouds, world, f"old-{world.tag}", specs={"hw:cpu_policy": "dedicated"})
    by_hand = carry(clouds, world)
    (step,) = [step for ref, step in by_hand.steps().items() if ref.kind == "flavor"]
    old = {"hw:numa_mempolicy": "strict", "quota:foo": "1"}
    data = {**step.record.data, "extra_specs": {**old, "no/key": "1"}}
    _, ensure, *_ = flavor.tasks(by_hand.migration, step)
    made = ensure.execute(data)
    assert read(clouds.destination, made["id"])["extra_specs"] == old
    (note,) = made["notes"]
    assert note.startswith("its extra spec no/key is not carried: the cloud answered 400")


def test_a_mapping_names_the_flavor(clouds: Clouds, world: SimpleNamespace) -> None:
    mine = make_private(clouds, world, f"mine-{world.tag}", specs=SPECS)
    theirs = make(clouds.destination, f"theirs-{world.tag}", ram=64)
    was = read(clouds.destination, theirs)
    by_hand = carry(clouds, world, flavors={f"mine-{world.tag}": f"theirs-{world.tag}"})
    results = by_hand.run(by_hand.steps())
    assert ensured_id(results, "flavor", mine) == theirs
    tenant_id = ensured_id(results, "tenant", world.project.id)
    assert read(clouds.destination, theirs) == {**was, "access": [tenant_id]}
    step = by_hand.steps()[Ref("flavor", mine)]
    assert step.action is Action.REUSE
    assert "differs: ram is 64, source has 321" in step.notes
    with pytest.raises(ConfigError, match="is mapped to 'nothing', which the destination does not have"):
        carry(clouds, world, flavors={f"mine-{world.tag}": "nothing"}).steps()


def test_a_flavor_that_a_killed_run_left_without_extra_specs_is_finished(
    clouds: Clouds, world: SimpleNamespace
) -> None:
    mine = make_private(clouds, world, f"half-{world.tag}", specs=SPECS, description="whole")
    there = make(clouds.destination, f"half-{world.tag}", description=f"{STAMP}={mine}")
    by_hand = carry(clouds, world)
    step = by_hand.steps()[Ref("flavor", mine)]
    assert (step.action, step.destination_id) == (Action.CREATE, there)
    assert "an earlier run has not set its extra specs" in step.reason
    by_hand.run(by_hand.steps())
    twin = read(clouds.destination, there)
    assert (twin["extra_specs"], twin["description"]) == (SPECS, "whole")


def test_a_nova_of_the_first_days_gets_what_it_takes(clouds: Clouds, world: SimpleNamespace) -> None:
    """2.1 has no descriptions, no extra specs in lists, no zero for swap, and no keypairs of others."""
    mine = make_private(clouds, world, f"first-{world.tag}", specs=SPECS, swap=0, description="later")
    clouds.source.nova.keypairs.create("laptop", public_key=public_key(), user_id=world.alice.id)
    old = Clouds(*(copy.copy(cloud) for cloud in (clouds.source, clouds.destination)))
    for cloud in (old.source, old.destination):
        cloud._reset()
        cloud.nova.api_version = APIVersion("2.1")

    by_hand = carry(Clouds(clouds.source, old.destination), world)
    steps = by_hand.steps()
    step = steps.pop(Ref("keypair", f"{world.alice.id}.laptop"))
    _, ensure = keypair.tasks(by_hand.migration, step)
    with pytest.raises(PumphouseError, match="makes no keypairs for other users"):
        ensure.execute(step.record.data, **{f"user-{world.alice.id}-ensured": {"id": "x"}})
    results = by_hand.run(steps)
    assert results[f"flavor-{mine}-ensured"]["notes"][0].startswith("its description is not carried")
    wanted = {**read(clouds.source, mine), "description": None}
    wanted["access"] = [ensured_id(results, "tenant", world.project.id)]
    assert read(clouds.destination, ensured_id(results, "flavor", mine)) == wanted
    assert by_hand.steps()[Ref("flavor", mine)].action is Action.REUSE

    (record,) = keypair.discover(old.source, world.project.id)
    assert "shows no keypairs of others" in record.skip
    assert read(old.source, mine) == {**read(clouds.source, mine), "description": None}


def test_all_pages_are_read(clouds: Clouds, world: SimpleNamespace) -> None:
    for number in range(3):
        clouds.source.nova.keypairs.create(f"key {number}", public_key=public_key(), user_id=world.alice.id)
    adapter = clouds.source.adapter("compute")
    keys = get_all(adapter, "/os-keypairs", "keypairs", user_id=world.alice.id, limit=1)
    assert [item["keypair"]["name"] for item in keys] == ["key 0", "key 1", "key 2"]
    paged = get_all(adapter, "/flavors/detail", "flavors", is_public="None", limit=1)
    assert paged == list_flavors(clouds.source)
    assert len(paged) > 1


def test_a_public_flavor_is_found_by_its_values(clouds: Clouds, world: SimpleNamespace) -> None:
    same = make(clouds.source, f"same-{world.tag}", is_public=True, specs=SPECS)
    there = make(clouds.destination, f"same-{world.tag}", is_public=True, specs=SPECS, description="theirs")
    by_hand = carry(clouds, world)
    assert not [ref for ref in by_hand.steps() if ref.kind == "flavor"]
    (record,) = flavor.fetch(clouds.source, [same, "no such"]).values()
    assert (record.needs, record.data["access"]) == ((), [])
    search = SimpleNamespace(destination=clouds.destination, ids={}, mappings=by_hand.mappings)
    (twin,) = flavor.find(search, [record])[record.ref]
    assert (twin.id, twin.ours, twin.unfinished) == (there, True, "")
    assert twin.differences == ("description is 'theirs', source has None",)


def test_keypairs_arrive_with_their_owners(clouds: Clouds, world: SimpleNamespace) -> None:
    nova, keys = clouds.source.nova, {name: public_key() for name in ("laptop", "a b.c@d_e-f")}
    for name, key in keys.items():
        nova.keypairs.create(name, public_key=key, user_id=world.alice.id)
    certificate = make_certificate()
    nova.keypairs.create("windows", public_key=certificate, key_type="x509", user_id=world.alice.id)

    by_hand = carry(clouds, world)
    first = by_hand.steps()
    results = by_hand.run(first)
    owner = ensured_id(results, "user", world.alice.id)
    found = {item["name"]: item for item in keypair._list(clouds.destination, owner)}
    wanted = {item["name"]: item for item in keypair._list(clouds.source, world.alice.id)}
    assert found == wanted
    assert {item["type"] for item in found.values()} == {"ssh", "x509"}
    assert {name: found[name]["public_key"] for name in keys} == keys

    before = everything(clouds.destination)
    assert {step.action for step in by_hand.steps().values()} == {Action.REUSE}
    by_hand.run(first)
    assert everything(clouds.destination) == before


def test_another_key_of_that_name_is_a_conflict(clouds: Clouds, world: SimpleNamespace) -> None:
    key = public_key()
    for name, own in (("same", key), ("other", public_key())):
        clouds.source.nova.keypairs.create(name, public_key=own, user_id=world.alice.id)
    there = clouds.destination.keystone.users.create(world.alice.name, "default")
    clouds.destination.nova.keypairs.create(
        "same", public_key=f"{key.rsplit(' ', 1)[0]} elsewhere", user_id=there.id
    )
    clouds.destination.nova.keypairs.create("other", public_key=public_key(), user_id=there.id)

    by_hand = carry(clouds, world)
    steps = by_hand.steps()
    same, other = (steps[Ref("keypair", f"{world.alice.id}.{name}")] for name in ("same", "other"))
    assert (same.action, other.action) == (Action.REUSE, Action.CONFLICT)
    assert same.notes[0].startswith("differs: public_key is")
    assert "fingerprint is" in other.reason
    _, ensure = keypair.tasks(by_hand.migration, other)
    with pytest.raises(ConflictError, match="another keypair named 'other'"):
        ensure.execute(other.record.data, **{f"user-{world.alice.id}-ensured": {"id": there.id}})


@pytest.mark.parametrize(("ago", "made"), [(timedelta(), True), (timedelta(hours=1), False)])
def test_a_keypair_is_a_dead_runs_own_if_it_was_made_when_that_was_about_to(
    clouds: Clouds, world: SimpleNamespace, ago: timedelta, made: bool
) -> None:
    """Later, the user may have imported the key."""
    clouds.source.nova.keypairs.create("laptop", public_key=public_key(), user_id=world.alice.id)
    by_hand = carry(clouds, world)
    results = by_hand.run({ref: s for ref, s in by_hand.steps().items() if ref.kind != "keypair"})
    step = by_hand.steps()[Ref("keypair", f"{world.alice.id}.laptop")]
    ensured = {symbol(Ref("user", world.alice.id), "ensured"): results[f"user-{world.alice.id}-ensured"]}
    dead, resumed = (keypair.tasks(by_hand.migration, step)[1] for _ in range(2))
    noted: Json = {}
    dead.notifier.register(task.EVENT_UPDATE_PROGRESS, lambda _, details: noted.update(details))
    dead.execute(step.record.data, **ensured)
    at = datetime.fromisoformat(noted["before"]) - ago
    resumed.recall({**noted, "made_id": "", "before": at.isoformat()})
    result = resumed.execute(step.record.data, **ensured)
    assert result["made"] is made
    resumed.revert(result, step.record.data, **ensured)
    left = keypair._list(clouds.destination, result["id"].partition(".")[0])
    assert bool(left) is not made


def test_a_keypair_is_fetched_by_its_id(clouds: Clouds, world: SimpleNamespace) -> None:
    clouds.source.nova.keypairs.create("with.dots", public_key=public_key(), user_id=world.alice.id)
    keypair_id = f"{world.alice.id}.with.dots"
    fetched = keypair.fetch(clouds.source, [keypair_id, f"{world.alice.id}.gone"])
    assert set(fetched) == {keypair_id}
    assert fetched[keypair_id].part_of == Ref("user", world.alice.id)


def make_certificate() -> str:
    """A certificate for the type of keypair that Windows guests take."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alice")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

"""Roles, users and assignments between two real Keystones."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from keystoneauth1.exceptions import BadRequest, Conflict
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from pumphouse.cloud import Cloud
from pumphouse.errors import ConfigError
from pumphouse.model import Action, Json, Ref, keystone_at
from pumphouse.plan.decide import decide
from pumphouse.tasks.base import STAMP, ensured_id
from pumphouse.tasks.keystone import assignment, domain, role, tenant, user
from pumphouse.tasks.keystone.common import INHERITED_TO
from tests.real.by_hand import ByHand, Clouds, connect

pytestmark = pytest.mark.exhaustive

KINDS = (domain, role, tenant, user, assignment)
ALICE = "älice, o'hara"
CARRIED = (ALICE, "bob", "heir")
PROJECT_EXTRA = {"contract": "C-1", "contacts": ["a", {"b": None}]}
USER_EXTRA = {"phone": "+41 44", "cost": {"centre": 7}}
OPTIONS = {"ignore_password_expiry": True, "multi_factor_auth_rules": [["password", "totp"]]}


@pytest.fixture(scope="module")
def clouds(lab: Any) -> Clouds:
    return connect(lab)


@pytest.fixture(scope="module")
def people(clouds: Clouds) -> Iterator[SimpleNamespace]:
    """A tenant of the source in a domain of its own, with users and roles of all sorts."""
    keystone, tag = clouds.source.keystone, uuid4().hex[:8]
    before = everything(clouds.source)
    home = keystone.domains.create(f"old-{tag}")
    project = keystone.projects.create(f"tenant-{tag}", home, description="with people", **PROJECT_EXTRA)
    found = SimpleNamespace(tag=tag, domain=home, project=project, users={}, roles={})
    _seed_roles(keystone, found)
    _seed_users(keystone, found)
    yield found
    keystone.inference_rules.delete(found.roles["auditor"], found.roles["reader"])
    clean(clouds.source, home.id, before)
    assert everything(clouds.source) == before


def _seed_roles(keystone: Any, people: SimpleNamespace) -> None:
    standard = {item.name: item for item in keystone.roles.list()}
    people.roles = {name: standard[name] for name in ("member", "reader", "admin")}
    made = keystone.roles.create(f"Auditör {people.tag}", description='sieht, "was" ist', owner="audit")
    people.roles["auditor"] = made
    people.roles["local"] = keystone.roles.create(f"local-{people.tag}", domain=people.domain)
    people.roles["_member_"] = standard.get("_member_") or keystone.roles.create("_member_")
    keystone.inference_rules.create(made, people.roles["reader"])


def _seed_users(keystone: Any, people: SimpleNamespace) -> None:
    def add(name: str, *roles: str, **fields: Any) -> None:
        people.users[name] = made = keystone.users.create(f"{name}-{people.tag}", people.domain, **fields)
        for item in roles:
            keystone.roles.grant(people.roles[item], user=made, project=people.project)

    own = people.project.id
    other = next(project.id for project in keystone.projects.list() if project.id != own)
    alice = {"email": "a@example.org", "default_project": own, "options": OPTIONS, **USER_EXTRA}
    add(ALICE, "member", "auditor", **alice)
    add("bob", "_member_", "local", description="left in\nMay", enabled=False, default_project=other)
    add("chief", "admin", email="c@example.org")
    add("heir")
    heir, reader = people.users["heir"], people.roles["reader"]
    keystone.roles.grant(reader, user=heir, project=people.project, os_inherit_extension_inherited=True)
    add("stranger")


@pytest.fixture
def home(clouds: Clouds, people: SimpleNamespace) -> Iterator[Any]:
    """The domain that the tenant moves to, and what is made in it is removed."""
    keystone = clouds.destination.keystone
    before = everything(clouds.destination)
    made = keystone.domains.create(f"new-{people.tag}")
    yield made
    clean(clouds.destination, made.id, before)


@pytest.fixture
def generate(tmp_path: Path) -> Json:
    """The policy for passwords."""
    return {"user_passwords": "generate", "passwords_file": str(tmp_path / "passwords.csv")}


def everything(cloud: Cloud) -> dict[str, list[str]]:
    """All that Keystone has, by kind."""
    keystone = cloud.keystone
    managers = (keystone.roles, keystone.users, keystone.projects, keystone.domains)
    listed = {manager.collection_key: sorted(item.id for item in manager.list()) for manager in managers}
    links = sorted(item.links["assignment"] for item in keystone.role_assignments.list())
    return {**listed, "assignments": links}


def clean(cloud: Cloud, domain_id: str, before: dict[str, list[str]]) -> None:
    """Remove a domain with all that is in it, and the roles that are new."""
    keystone = cloud.keystone
    for item in keystone.roles.list():
        if item.id not in before["roles"]:
            keystone.roles.delete(item)
    keystone.domains.update(domain_id, enabled=False)
    keystone.domains.delete(domain_id)


def carry(clouds: Clouds, people: SimpleNamespace, policies: Json, **mappings: dict[str, str]) -> ByHand:
    """The migration of the tenant with the kinds of Keystone."""
    domains = {"domains": {people.domain.name: f"new-{people.tag}"}}
    found = (clouds.source, clouds.destination, people.project.id, KINDS)
    return ByHand(*found, policies=policies, mappings={**domains, **mappings})


def passwords(policies: Json) -> list[dict[str, str]]:
    """The rows of the file of passwords."""
    with Path(policies["passwords_file"]).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_users_arrive_with_their_roles_and_a_second_time_makes_nothing(
    clouds: Clouds, people: SimpleNamespace, home: Any, generate: Json
) -> None:
    by_hand = carry(clouds, people, generate)
    first = by_hand.steps()
    results = by_hand.run(first)
    new = clouds.destination.keystone
    project_id = ensured_id(results, "tenant", people.project.id)

    alice, bob, heir = (new.users.get(ensured_id(results, "user", people.users[name].id)) for name in CARRIED)
    assert (alice.name, alice.email) == (f"{ALICE}-{people.tag}", "a@example.org")
    assert (alice.default_project_id, alice.domain_id) == (project_id, home.id)
    assert (alice.options, alice.enabled) == (OPTIONS, True)
    assert (bob.enabled, bob.description, bob.options) == (False, "left in\nMay", {})
    assert getattr(bob, "default_project_id", None) is None
    assert [getattr(item, STAMP) for item in (alice, bob)] == [
        people.users[name].id for name in (ALICE, "bob")
    ]

    held = new.role_assignments.list(project=project_id, include_names=True)
    assert {(item.user["id"], item.role["name"]) for item in held} == {
        (alice.id, "member"),
        (alice.id, f"Auditör {people.tag}"),
        (bob.id, "member"),
        (bob.id, f"local-{people.tag}"),
        (heir.id, "reader"),
    }
    assert [INHERITED_TO in item.scope for item in held if item.user["id"] == heir.id] == [True]
    auditor, local = (
        new.roles.get(ensured_id(results, "role", people.roles[n].id)) for n in ("auditor", "local")
    )
    assert (auditor.description, auditor.domain_id, auditor.owner) == ('sieht, "was" ist', None, "audit")
    assert {**alice.to_dict(), **USER_EXTRA} == alice.to_dict()
    tenant_twin = new.projects.get(project_id).to_dict()
    assert {**tenant_twin, **PROJECT_EXTRA} == tenant_twin
    assert local.domain_id == home.id

    check_passwords(clouds, people, passwords(generate), results)
    before, secrets = everything(clouds.destination), passwords(generate)
    again = by_hand.steps()
    assert {step.action for step in again.values()} == {Action.REUSE, Action.SKIP}
    lacks = "differs: it does not imply reader: openstack implied role create"
    assert again[Ref("role", people.roles["auditor"].id)].notes == (lacks,)
    assert [
        note for step in again.values() if step.ref.kind in ("user", "tenant") for note in step.notes
    ] == []
    # The tasks of the first time once more are what a run does that was killed before it could say so.
    results = by_hand.run(first)
    made = {name for name, result in results.items() if isinstance(result, dict) and result.get("made")}
    assert made == {f"tenant-{people.project.id}-ensured"}
    assert (everything(clouds.destination), passwords(generate)) == (before, secrets)


def check_passwords(
    clouds: Clouds, people: SimpleNamespace, rows: list[dict[str, str]], results: dict[str, Any]
) -> None:
    """Each user that was made can log in with what the file says, and nothing else knows it."""
    assert sorted((row["cloud"], row["domain"], row["name"]) for row in rows) == sorted(
        (keystone_at(clouds.destination.auth_url), f"new-{people.tag}", f"{name}-{people.tag}")
        for name in CARRIED
    )
    password = next(row["password"] for row in rows if row["name"].startswith(ALICE))
    assert not any(row["password"] in repr(results) for row in rows)
    user_id = ensured_id(results, "user", people.users[ALICE].id)
    keystone = clouds.destination.keystone
    keystone.users.update(user_id, options={"multi_factor_auth_rules": None})
    login = v3.Password(clouds.destination.auth_url, user_id=user_id, password=password)
    assert login.get_access(Session(login)).user_id == user_id
    keystone.users.update(user_id, options={"multi_factor_auth_rules": OPTIONS["multi_factor_auth_rules"]})


def test_a_failure_takes_back_all_that_was_made_and_only_that(
    clouds: Clouds, people: SimpleNamespace, home: Any, generate: Json
) -> None:
    new, old = clouds.destination.keystone, clouds.source.keystone
    kept = new.users.create(f"bob-{people.tag}", home, email="here@example.org")
    before = everything(clouds.destination)
    old.roles.update(people.roles["auditor"], options={"immutable": True})
    try:
        by_hand = carry(clouds, people, generate)
        with pytest.raises(RuntimeError, match="on purpose"):
            by_hand.run(by_hand.steps(), fail=True)
    finally:
        old.roles.update(people.roles["auditor"], options={"immutable": None})
    assert everything(clouds.destination) == before
    assert new.users.get(kept).email == "here@example.org"
    assert passwords(generate) == []


def test_a_user_of_that_name_is_taken_as_it_is(
    clouds: Clouds, people: SimpleNamespace, home: Any, generate: Json
) -> None:
    there = clouds.destination.keystone.users.create(f"bob-{people.tag}", home)
    step = carry(clouds, people, generate).steps()[Ref("user", people.users["bob"].id)]
    assert (step.action, step.destination_id) == (Action.REUSE, there.id)
    assert [note.split(" is ")[0] for note in step.notes] == ["differs: description", "differs: enabled"]


def test_what_a_killed_run_left_out_is_set_and_what_others_set_is_left(
    clouds: Clouds, people: SimpleNamespace, home: Any, generate: Json
) -> None:
    keystone, name = clouds.destination.keystone, f"{ALICE}-{people.tag}"
    ours = keystone.users.create(name, home, phone="+1", **{STAMP: people.users[ALICE].id})
    theirs = keystone.users.create(f"bob-{people.tag}", home)
    by_hand = carry(clouds, people, generate)
    steps = by_hand.steps()
    alice, bob = (steps[Ref("user", people.users[name].id)] for name in (ALICE, "bob"))
    unfinished = "at the destination, but unfinished: cost, email, options not set"
    assert (alice.action, alice.reason, bob.action) == (Action.CREATE, unfinished, Action.REUSE)
    by_hand.run({ref: step for ref, step in steps.items() if ref.kind in ("domain", "tenant", "user")})
    found = keystone.users.get(ours).to_dict()
    assert (found["phone"], found["cost"], found["email"]) == ("+1", USER_EXTRA["cost"], "a@example.org")
    assert found["options"] == OPTIONS
    again = by_hand.steps()[alice.ref]
    assert again.action is Action.REUSE
    assert "differs: phone is '+1', source has '+41 44'" in again.notes
    assert keystone.users.get(theirs).to_dict().get("description") is None


def test_a_mapping_names_the_user_and_the_role(
    clouds: Clouds, people: SimpleNamespace, home: Any, generate: Json
) -> None:
    new = clouds.destination.keystone
    robert = new.users.create(f"robert-{people.tag}", home)
    mappings = {"users": {f"bob-{people.tag}": robert.name}, "roles": {f"Auditör {people.tag}": "reader"}}
    by_hand = carry(clouds, people, generate, **mappings)
    steps = by_hand.steps()
    assert steps[Ref("user", people.users["bob"].id)].destination_id == robert.id
    results = by_hand.run(steps)
    project_id = ensured_id(results, "tenant", people.project.id)
    held = new.role_assignments.list(project=project_id, include_names=True)
    assert {(item.user["name"], item.role["name"]) for item in held} == {
        (robert.name, "member"),
        (robert.name, f"local-{people.tag}"),
        (f"{ALICE}-{people.tag}", "member"),
        (f"{ALICE}-{people.tag}", "reader"),
        (f"heir-{people.tag}", "reader"),
    }


@pytest.mark.parametrize(
    ("kind", "name", "mapped", "message"),
    [
        ("roles", "member", "nobody", "'member' is mapped to 'nobody', which the destination does not have"),
        ("roles", "member", "admin", "'member' is mapped to 'admin', which a migration never grants"),
        ("users", "bob-{tag}", "nobody", "is mapped to 'nobody', which the destination does not have"),
    ],
)
@pytest.mark.usefixtures("home")
def test_a_mapping_that_cannot_be_is_one_clear_message(
    clouds: Clouds, people: SimpleNamespace, generate: Json, kind: str, name: str, mapped: str, message: str
) -> None:
    mappings = {kind: {name.format(tag=people.tag): mapped}}
    with pytest.raises(ConfigError, match=message):
        carry(clouds, people, generate, **mappings).steps()


def test_operators_services_and_administrators_stay(clouds: Clouds, people: SimpleNamespace) -> None:
    keystone = clouds.source.keystone
    service = next(item for item in keystone.users.list() if item.name == "nova")
    both = (service.id, clouds.source.user_id)
    for user_id in both:
        keystone.roles.grant(people.roles["member"], user=user_id, project=people.project)
    try:
        records = assignment.discover(clouds.source, people.project.id)
        fetched = user.fetch(clouds.source, [*both, "0" * 32])
    finally:
        for user_id in both:
            keystone.roles.revoke(people.roles["member"], user=user_id, project=people.project)
    assert {record.data["actor_id"]: record.skip for record in records if record.skip} == {
        service.id: "nova is the account of a service",
        clouds.source.user_id: "admin is the operator's own account",
        people.users[
            "chief"
        ].id: "the role admin is never granted by a migration; grant it by hand where wanted",
    }
    assert {user_id: record.skip for user_id, record in fetched.items()} == {
        service.id: "it is the account of a service",
        clouds.source.user_id: "it is the operator's own account",
    }
    users = user.discover(clouds.source, people.project.id)
    assert {record.ref.id for record in users} == {people.users[name].id for name in CARRIED}


def test_an_account_of_the_destination_itself_is_no_twin(
    clouds: Clouds, people: SimpleNamespace, home: Any, generate: Json
) -> None:
    new = clouds.destination.keystone
    there = new.users.create(f"bob-{people.tag}", home)
    service = next(item for item in new.roles.list() if item.name == "service")
    project = next(item for item in new.projects.list() if item.name == "service")
    new.roles.grant(service, user=there, project=project)
    step = carry(clouds, people, generate).steps()[Ref("user", people.users["bob"].id)]
    assert step.action is Action.CONFLICT
    assert "it is the account of a service" in step.reason


def test_admin_is_never_a_role_to_make(clouds: Clouds, people: SimpleNamespace) -> None:
    ids = {name: people.roles[name].id for name in ("admin", "auditor", "local")}
    fetched = role.fetch(clouds.source, [*ids.values(), "0" * 32])
    assert set(fetched) == set(ids.values())
    assert "never made nor granted" in fetched[ids["admin"]].skip
    assert fetched[ids["local"]].needs == (Ref("domain", people.domain.id),)
    assert "implies reader" in fetched[ids["auditor"]].notes[0]


@pytest.mark.usefixtures("home")
def test_without_a_policy_for_passwords_users_have_none(
    clouds: Clouds, people: SimpleNamespace, tmp_path: Path
) -> None:
    policies = {"user_passwords": "disabled", "passwords_file": str(tmp_path / "none.csv")}
    by_hand = carry(clouds, people, policies)
    results = by_hand.run(by_hand.steps())
    user_id = ensured_id(results, "user", people.users[ALICE].id)
    assert clouds.destination.keystone.users.get(user_id).enabled is True
    (note,) = results[f"user-{people.users[ALICE].id}-ensured"]["notes"]
    assert note.startswith("it has no password and cannot log in")
    assert not (tmp_path / "none.csv").exists()


def test_a_user_that_keystone_refuses_leaves_no_password(
    clouds: Clouds, people: SimpleNamespace, home: Any, generate: Json
) -> None:
    by_hand = carry(clouds, people, generate)
    step = by_hand.steps()[Ref("user", people.users["bob"].id)]
    _, ensure = user.tasks(by_hand.migration, step)
    data = {**step.record.data, "options": {"multi_factor_auth_rules": "what"}}
    with pytest.raises(BadRequest, match="what"):
        ensure.execute(data, **{f"domain-{people.domain.id}-ensured": {"id": home.id}})
    assert passwords(generate) == []


def test_a_password_is_kept_when_another_run_was_faster(
    clouds: Clouds, people: SimpleNamespace, home: Any, generate: Json
) -> None:
    by_hand = carry(clouds, people, generate)
    step = by_hand.steps()[Ref("user", people.users["bob"].id)]
    ensured = {f"domain-{people.domain.id}-ensured": {"id": home.id}}
    first, second = (user.tasks(by_hand.migration, step)[1] for _ in range(2))
    first.create(step.record.data, ensured)
    (row,) = passwords(generate)
    with pytest.raises(Conflict):
        second.create(step.record.data, ensured)
    assert passwords(generate) == [row]
    assert second.execute(step.record.data, **ensured)["made"] is False


@pytest.mark.usefixtures("home")
def test_an_assignment_that_was_taken_back_is_not_granted(
    clouds: Clouds, people: SimpleNamespace, generate: Json
) -> None:
    by_hand = carry(clouds, people, generate)
    steps = by_hand.steps()
    grant = {"role": people.roles["local"], "user": people.users["bob"], "project": people.project}
    clouds.source.keystone.roles.revoke(**grant)
    try:
        with pytest.raises(KeyError, match=people.roles["local"].id):
            by_hand.run(steps)
    finally:
        clouds.source.keystone.roles.grant(**grant)


def test_a_password_that_is_in_the_file_of_the_operator_is_the_users(
    clouds: Clouds, people: SimpleNamespace, home: Any, tmp_path: Path
) -> None:
    file = tmp_path / "given.csv"
    password = 's3cret, "quoted"'
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(("cloud", "domain", "name", "password"))
        writer.writerow((clouds.destination.auth_url, home.name, f"heir-{people.tag}", password))
    before = file.read_bytes()
    policies = {"user_passwords": "file", "passwords_file": str(file)}
    by_hand = carry(clouds, people, policies)
    results = by_hand.run(by_hand.steps())
    user_id = ensured_id(results, "user", people.users["heir"].id)
    login = v3.Password(clouds.destination.auth_url, user_id=user_id, password=password)
    assert login.get_access(Session(login)).user_id == user_id
    notes = {name: results[f"user-{people.users[name].id}-ensured"].get("notes") for name in CARRIED}
    assert notes["heir"] == []
    assert notes["bob"][0].startswith("it has no password and cannot log in")
    assert file.read_bytes() == before


@pytest.mark.usefixtures("home")
def test_where_users_are_only_matched_none_is_made(clouds: Clouds, people: SimpleNamespace) -> None:
    policies = {"user_passwords": "map", "passwords_file": "unused"}
    found = user.apply_policies(
        user.fetch(clouds.source, [people.users["bob"].id])[people.users["bob"].id], policies
    )
    assert found.must_exist == user.ONLY_MATCHED
    assert decide(found, (), "fail").action is Action.CONFLICT

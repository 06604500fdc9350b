"""The configuration: what is read, and what each mistake is answered with."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pumphouse.config import settings as config
from pumphouse.config import yamlfile
from pumphouse.config.schema import load_schema, validate
from pumphouse.config.settings import CloudConfig, Limits, Mappings, Policies, load
from pumphouse.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
NAMED = "source: {cloud: old}\ndestination: {cloud: new}\n"
# What stands for every secret in these tests, and must not be in any message.
SECRET = "hunter2"
AUTH = f"{{auth_url: https://old/v3, username: me, password: {SECRET}, project_name: p}}"


@pytest.fixture(autouse=True)
def folder(home: Path) -> Path:
    """The home, with a clouds.yaml."""
    (home / "clouds.yaml").write_text("clouds: {old: {}, new: {}}\n")
    return home


def loaded(text: str, **flags: str) -> config.Config:
    path = Path("p.yaml")
    path.write_text(text)
    path.chmod(0o600)
    return load(path, **flags)


def problems(text: str, **flags: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(text, **flags)
    assert SECRET not in f"{caught.value} {caught.value.hint}"
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{Path.cwd()}/", "").splitlines()


def inline(auth: str, more: str = "") -> str:
    return f"source: {{auth: {auth}{more}}}\ndestination: {{cloud: new}}\n"


def login(settings: str, auth_type: str = "password") -> str:
    return inline(f"{{auth_url: https://old, {settings}}}", f", auth_type: {auth_type}")


A_CLOUD = "expected a cloud: its auth as in clouds.yaml, or {cloud: NAME}"
A_SECRET = "expected text, {env: NAME} or {command: ...}"
AN_ADDRESS = "expected an address such as https://keystone.example.com:5000/v3"
A_MAPPING = "expected a mapping, source name: destination name"
A_FILE = "expected the path of a file"
A_URL = "expected a TaskFlow persistence URL such as sqlite:////var/lib/pumphouse/state.db"
AUTH_SETTINGS = "expected a mapping with auth_url, username, password, project_name ..."
BYTES = "expected a whole number from 1, alone or with a unit as in 100 MiB"
BOTH = "expected two clouds, source and destination"
BY_PASSWORD = "expected what a login by password needs"
BY_CREDENTIAL = "expected what a login by application credential needs"
ELSEWHERE = "cannot be given here; expected it in clouds.yaml, beside the rest of that cloud"
NEIGHBOURS = "expected name: value, indented as its neighbours"
NUMBER, COPIES = "expected a whole number from 1 to 256", "expected a whole number from 1 to 64"
ON_CONFLICT = "expected 'fail', 'reuse' or 'rename'"
QUOTES = "expected it in quotes"
SECTIONS = (
    "expected 'clouds_file', 'destination', 'limits', 'mappings', 'notify', 'policies', 'source' or 'state'"
)
AUTH_NAMES = (
    "expected 'application_credential_id', 'application_credential_name', 'application_credential_secret', "
    "'auth_url', 'default_domain_id', 'default_domain_name', 'domain_id', 'domain_name', 'password', "
    "'project_domain_id', 'project_domain_name', 'project_id', 'project_name', 'system_scope', 'tenant_id', "
    "'tenant_name', 'token', 'trust_id', 'user_domain_id', 'user_domain_name', 'user_id' or 'username'"
)

# What is no YAML, or none that can be used: one message each.
UNREADABLE = {
    "": f"p.yaml: the file is empty; {BOTH}",
    "# nothing\n": f"p.yaml: the file is empty; {BOTH}",
    "- source\n": f"p.yaml:1: the file is a list; {BOTH}",
    f"{SECRET}\n": f"p.yaml:1: the file is a single value; {BOTH}",
    "source:\n\tcloud: old\n": "p.yaml:2: a tab; expected spaces for the indentation",
    "source:\n  cloud: old\n\tx: 1\n": "p.yaml:3: a tab; expected spaces for the indentation",
    f"auth: {{password: '{SECRET}\n": "p.yaml:1: a quote is opened and not closed; expected it closed",
    "a: {b: c\nd: {e: f}\n": "p.yaml:1: a mapping is opened and not closed; expected ',' or '}'",
    "a:\n- [1, 2\n- 3\n": "p.yaml:2: a list is opened and not closed; expected ',' or ']'",
    f"a: 1\npassword: @{SECRET}\n": f"p.yaml:2: a value begins with a sign that YAML reserves; {QUOTES}",
    f"password: *{SECRET}\n": f"p.yaml:1: a value begins with '*' or '&' and is no alias; {QUOTES}",
    f"password: !{SECRET}!x y\n": f"p.yaml:1: a value begins with '!'; {QUOTES}",
    f"a: {{password: !{SECRET}}}\n": f"p.yaml:1: a value begins with '!'; {QUOTES}",
    f"password: |{SECRET}\n": f"p.yaml:1: a value begins with '|' or '>'; {QUOTES}",
    "a: &x 1\nb: &x 2\n": "p.yaml:2: an anchor is given twice; expected each &NAME once",
    f"a: b: {SECRET}\n": f"p.yaml:1: a ':' in the wrong place; {NEIGHBOURS}",
    "a: 1\n b: 2\n": f"p.yaml:2: a ':' in the wrong place; {NEIGHBOURS}",
    "a: 1\nb\n": "p.yaml:3: a name without a value; expected name: value",
    "a: 1\n---\nb: 2\n": "p.yaml:2: a second document; expected one, without '---' in the middle",
    'a: "\\q"\n': "p.yaml:1: an unknown escape after a backslash; expected '\\\\' or single quotes",
    "- a\nb: 1\n": f"p.yaml:2: not valid YAML; {NEIGHBOURS}",
    "a: 1\nb: \x00\n": "p.yaml:2: the control character 0x00; expected text",
    "a: &a {b: *a}\n": "p.yaml: an alias stands in what it stands for; expected it outside",
    "a: " + "[" * 200 + "]" * 200: "p.yaml:1: nested too deeply; expected at most 100 levels",
    "\n" + "[" * 500_000: "p.yaml:2: nested too deeply; expected at most 100 levels",
}

# Mistakes behind two lines of good settings.
IN_SECTIONS = {
    "regoin: x": [f"p.yaml:3: unknown setting 'regoin'; {SECTIONS}"],
    "polices: {}": ["p.yaml:3: unknown setting 'polices'; did you mean 'policies'?"],
    "null: 1": [f"p.yaml:3: unknown setting 'null'; {SECTIONS}"],
    "? [limits]\n: 3": ["p.yaml:3: a name is a list or a mapping; expected text"],
    "limits: {}\n\nlimits: {}": ["p.yaml:5: 'limits' is given twice, first on line 3; expected it once"],
    "limits: !!set {}": [f"p.yaml:3: a value begins with '!'; {QUOTES}"],
    "limits: 3": ["p.yaml:3: limits is a single value; expected a mapping of limits"],
    "limits: {wokers: 3}": ["p.yaml:3: unknown setting 'wokers'; did you mean 'workers'?"],
    "limits: {workers: 0}": [f"p.yaml:3: limits.workers is 0; {NUMBER}"],
    "limits:\n  workers: many": [f"p.yaml:4: limits.workers is 'many'; {NUMBER}"],
    "limits: {workers: '4'}": [f"p.yaml:3: limits.workers is '4'; {NUMBER}"],
    "limits: {workers: 016}": [f"p.yaml:3: limits.workers is '016'; {NUMBER}"],
    "limits: {workers: 1.5}": [f"p.yaml:3: limits.workers is 1.5; {NUMBER}"],
    "limits: {workers: true}": [f"p.yaml:3: limits.workers is true; {NUMBER}"],
    "limits: {transfers: [4]}": [f"p.yaml:3: limits.transfers is a list; {COPIES}"],
    "limits: {bytes_per_second: 100 MB/s}": [f"p.yaml:3: limits.bytes_per_second is '100 MB/s'; {BYTES}"],
    "limits: {bytes_per_second: 0}": [f"p.yaml:3: limits.bytes_per_second is 0; {BYTES}"],
    "limits: {bytes_per_second: 0 MiB}": [f"p.yaml:3: limits.bytes_per_second is '0 MiB'; {BYTES}"],
    "limits: {bytes_per_second: 10:30}": [f"p.yaml:3: limits.bytes_per_second is '10:30'; {BYTES}"],
    "policies: {on_conflict: no}": [f"p.yaml:3: policies.on_conflict is 'no'; {ON_CONFLICT}"],
    "policies: {on_conflict: true}": [f"p.yaml:3: policies.on_conflict is 'true'; {ON_CONFLICT}"],
    "policies: {root_disk: disk}": ["p.yaml:3: policies.root_disk is 'disk'; expected 'snapshot' or 'image'"],
    "policies: {keep_snapshots: yes}": ["p.yaml:3: policies.keep_snapshots is 'yes'; expected true or false"],
    "policies: {passwords_file: ''}": [f"p.yaml:3: policies.passwords_file is empty; {A_FILE}"],
    "policies: {passwords_file: {}}": [f"p.yaml:3: policies.passwords_file is empty; {A_FILE}"],
    "policies: [fail]": ["p.yaml:3: policies is a list; expected a mapping of policies"],
    "mappings: {flavours: {}}": ["p.yaml:3: unknown setting 'flavours'; did you mean 'flavors'?"],
    "mappings: {flavors: m1}": [f"p.yaml:3: mappings.flavors is a single value; {A_MAPPING}"],
    "mappings: {flavors: []}": [f"p.yaml:3: mappings.flavors is a list; {A_MAPPING}"],
    "mappings:\n  flavors:\n    m1.small:\n": [
        "p.yaml:5: mappings.flavors.m1.small is empty; expected a name at the destination"
    ],
    "mappings: {roles: {a: b, a: c}}": ["p.yaml:3: 'a' is given twice, first on line 3; expected it once"],
    "x: &x [1]\nmappings: {<<: *x}": [
        "p.yaml:3: '<<' is given no mapping; expected an alias of a mapping",
        f"p.yaml:3: unknown setting 'x'; {SECTIONS}",
    ],
    f"state: {{url: {SECRET}}}": [f"p.yaml:3: state.url is not usable; {A_URL}"],
    "state: {url: ''}": [f"p.yaml:3: state.url is empty; {A_SECRET}"],
    "clouds_file: none.yaml": ["p.yaml:3: clouds_file is 'none.yaml'; expected what exists"],
    "clouds_file: [a]": [f"p.yaml:3: clouds_file is a list; {A_FILE}"],
}

# Mistakes in the clouds.
IN_CLOUDS = {
    "destination: {cloud: new}\n": [f"p.yaml:1: missing setting 'source'; {BOTH}"],
    "source:\ndestination: {cloud: new}\n": [f"p.yaml:1: source is empty; {A_CLOUD}"],
    "source: []\ndestination: {cloud: new}\n": [f"p.yaml:1: source is a list; {A_CLOUD}"],
    f"source: {SECRET}\ndestination: {{cloud: new}}\n": [f"p.yaml:1: source is a single value; {A_CLOUD}"],
    "destination: {cloud: new}\nsource: {}\n": [f"p.yaml:2: missing setting 'source.auth'; {A_CLOUD}"],
    "source: {clud: old}\ndestination: {cloud: new}\n": [
        f"p.yaml:1: missing setting 'source.auth'; {A_CLOUD}",
        "p.yaml:1: unknown setting 'clud'; did you mean 'cloud'?",
    ],
    "source: {cloud: }\ndestination: {cloud: new}\n": [
        "p.yaml:1: source.cloud is empty; expected the name of a cloud in clouds.yaml"
    ],
    f"source:\n  cloud: old\n  auth: {AUTH}\n  verify: no\ndestination: {{cloud: new}}\n": [
        f"p.yaml:3: source.auth {ELSEWHERE}",
        f"p.yaml:4: source.verify {ELSEWHERE}",
    ],
    inline(AUTH, ", regoin: x"): ["p.yaml:1: unknown setting 'regoin'; did you mean 'region_name'?"],
    inline(AUTH, ", interface: pubic"): [
        "p.yaml:1: source.interface is 'pubic'; expected 'public', 'internal' or 'admin'"
    ],
    inline(AUTH, ", verify: 'false'"): ["p.yaml:1: source.verify is 'false'; expected true or false"],
    inline(AUTH, ", cacert: /none.pem"): ["p.yaml:1: source.cacert is '/none.pem'; expected what exists"],
    inline(AUTH, ", auth_type: []"): [
        "p.yaml:1: source.auth_type is a list; expected a login of keystoneauth such as v3applicationcredential"
    ],
    inline(SECRET): [f"p.yaml:1: source.auth is a single value; {AUTH_SETTINGS}"],
    inline(f"{{auth_url: 'old:{SECRET}@x', user_id: a, password: b}}"): [
        f"p.yaml:1: source.auth.auth_url is not usable; {AN_ADDRESS}"
    ],
    inline("{auth_url: '', username: a, password: b}"): [
        f"p.yaml:1: source.auth.auth_url is empty; {A_SECRET}"
    ],
    inline("{username: a, password: }"): [
        "p.yaml:1: missing setting 'source.auth.auth_url'; expected the address of Keystone",
        f"p.yaml:1: source.auth.password is empty; {A_SECRET}",
    ],
    login(f"pasword: {SECRET}"): [
        f"p.yaml:1: missing setting 'source.auth.password'; {BY_PASSWORD}",
        f"p.yaml:1: missing setting 'source.auth.username' or 'source.auth.user_id'; {BY_PASSWORD}",
        "p.yaml:1: unknown setting 'pasword'; did you mean 'password'?",
    ],
    login("project_name: p", "v3token"): [
        "p.yaml:1: missing setting 'source.auth.token'; expected what a login by token needs"
    ],
    login("application_credential_id: a", "v3applicationcredential"): [
        f"p.yaml:1: missing setting 'source.auth.application_credential_secret'; {BY_CREDENTIAL}"
    ],
    login(f"username: a, password: {{{SECRET}}}"): [
        "p.yaml:1: an unknown setting; expected 'command' or 'env'",
    ],
    login(f"username: a, password: b, {SECRET}: c"): [f"p.yaml:1: an unknown setting; {AUTH_NAMES}"],
    login("username: a, password: {evn: b}"): ["p.yaml:1: unknown setting 'evn'; did you mean 'env'?"],
    login(f"username: a, password: [{SECRET}]"): [f"p.yaml:1: source.auth.password is a list; {A_SECRET}"],
    login("username: a, password: {env: A, command: b}"): [
        f"p.yaml:1: source.auth.password is a mapping; {A_SECRET}"
    ],
    login("username: a, password: {env: ''}"): [
        "p.yaml:1: source.auth.password.env is empty; expected the name of an environment variable"
    ],
    login(f"username: a, password: !{SECRET} "): [
        f"p.yaml:1: a value begins with '!'; {QUOTES}",
        f"p.yaml:1: source.auth.password is empty; {A_SECRET}",
    ],
    "source: {cloud: odl}\n# x\ndestination: {cloud: other}\n": [
        "p.yaml:1: no cloud 'odl' in clouds.yaml, which has new, old; did you mean 'old'?",
        "p.yaml:3: no cloud 'other' in clouds.yaml, which has new, old; expected one of them",
    ],
}


@pytest.mark.parametrize("text", UNREADABLE)
@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
def test_what_is_not_yaml_is_one_message_with_its_line(
    text: str, loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PyYAML may be built without libyaml.
    monkeypatch.setattr(yamlfile, "_LOADER", getattr(yaml, loader, yaml.SafeLoader))
    assert problems(text) == [UNREADABLE[text]]


@pytest.mark.parametrize("text", IN_SECTIONS)
def test_mistake_in_a_section(text: str) -> None:
    assert problems(NAMED + text) == IN_SECTIONS[text]


@pytest.mark.parametrize("text", IN_CLOUDS)
def test_mistake_in_a_cloud(text: str) -> None:
    assert problems(text) == IN_CLOUDS[text]


def test_all_problems_are_said_at_once_in_the_order_of_the_file() -> None:
    text = (
        "limits:\n  workers: 0\n  workers: 4\n"
        "source:\n  auth: {auth_url: https://old, username: me, password: {env: NO}}\n  cacert: none\n"
        "state:\n  ulr: x\n"
    )
    assert problems(text) == [
        f"p.yaml:1: missing setting 'destination'; {BOTH}",
        f"p.yaml:2: limits.workers is 0; {NUMBER}",
        "p.yaml:3: 'workers' is given twice, first on line 2; expected it once",
        "p.yaml:5: source.auth.password: the environment variable NO is not set; expected the value in it",
        "p.yaml:6: source.cacert is 'none'; expected what exists",
        "p.yaml:8: unknown setting 'ulr'; did you mean 'url'?",
    ]


def test_file_that_is_none(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    (folder / "binary").write_bytes(b"\x7fELF\xff\xfe")
    expected = {
        "none.yaml": "none.yaml: cannot be read: No such file or directory; expected a YAML file",
        ".": ".: cannot be read: Is a directory; expected a YAML file",
        "loop": "loop: cannot be read: Too many levels of symbolic links; expected a YAML file",
        "binary": "binary: is not text; expected YAML in UTF-8",
    }
    for name, message in expected.items():
        with pytest.raises(ConfigError) as caught:
            load(Path(name))
        assert str(caught.value) == message


def test_no_file_at_all() -> None:
    with pytest.raises(ConfigError) as caught:
        load(source_cloud="old")
    assert str(caught.value).startswith("no configuration; expected ./pumphouse.yaml")
    assert "--destination-cloud" in caught.value.hint


def test_file_is_looked_for_in_three_places(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = folder / "home" / "xdg_config_home" / "pumphouse"
    own.mkdir(parents=True)
    for number, path in enumerate([own / "pumphouse.yaml", folder / "pumphouse.yaml", folder / "x.yaml"], 1):
        path.write_text(f"{NAMED}limits: {{workers: {number}}}\nclouds_file: {folder}/clouds.yaml\n")
        if path.name == "x.yaml":
            monkeypatch.setenv("PUMPHOUSE_CONFIG", "x.yaml")
        assert load().limits.workers == number
    monkeypatch.setenv("PUMPHOUSE_CONFIG", "y.yaml")
    with pytest.raises(ConfigError, match=r"^y\.yaml: cannot be read"):
        load()


def test_flags_need_no_file_and_replace_what_a_file_says(folder: Path) -> None:
    found = load(source_cloud="old", destination_cloud="new")
    clouds_file = folder / "clouds.yaml"
    assert found.source == CloudConfig(cloud="old", clouds_file=clouds_file)
    assert found.destination == CloudConfig(cloud="new", clouds_file=clouds_file)
    assert found.limits == Limits()
    broken = "source: {regoin: 1}\ndestination: {cloud: old}\nlimits: {workers: 3}\n"
    found = loaded(broken, source_cloud="new")
    assert (found.source.cloud, found.destination.cloud, found.limits.workers) == ("new", "old", 3)
    assert loaded("", source_cloud="old", destination_cloud="new").source.cloud == "old"


def test_unknown_cloud_of_a_flag_is_named_with_the_flag() -> None:
    assert problems(NAMED, destination_cloud="nwe") == [
        "--destination-cloud: no cloud 'nwe' in clouds.yaml, which has new, old; did you mean 'new'?"
    ]


NONE_THERE = "in clouds.yaml, which has none; expected it under 'clouds:'"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clouds:\n  old: [1}\n", ["clouds.yaml:2: a list is opened and not closed; expected ',' or ']'"]),
        ("", [f"p.yaml:1: no cloud 'old' {NONE_THERE}", f"p.yaml:2: no cloud 'new' {NONE_THERE}"]),
        ("- old\n", [f"p.yaml:1: no cloud 'old' {NONE_THERE}", f"p.yaml:2: no cloud 'new' {NONE_THERE}"]),
        (
            "clouds: {new: 1}\nclouds: {old: 1, new: 1}\n",
            [
                "clouds.yaml:2: 'clouds' is given twice, first on line 1; expected it once",
                "p.yaml:1: no cloud 'old' in clouds.yaml, which has new; expected one of them",
            ],
        ),
    ],
)
def test_broken_clouds_yaml_is_named_with_its_line(folder: Path, text: str, expected: list[str]) -> None:
    (folder / "clouds.yaml").write_text(text)
    assert problems(NAMED) == expected


@pytest.mark.skipif(Path("/etc/openstack").exists(), reason="this machine may have a clouds.yaml of its own")
def test_no_clouds_yaml(folder: Path) -> None:
    (folder / "clouds.yaml").unlink()
    assert problems(NAMED)[0] == (
        "p.yaml:1: no clouds.yaml to find 'old' in; expected one here, in ~/.config/openstack or in "
        "/etc/openstack, or the setting clouds_file"
    )
    both = f"source: {{auth: {AUTH}}}\ndestination: {{auth: {AUTH}}}\n"
    assert loaded(both).source.clouds_file is None


def test_clouds_file_comes_before_the_environment_before_this_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "sub").mkdir()
    for name in ("env.yaml", "sub/mine.yaml"):
        (folder / name).write_text("clouds: {old: {}, new: {}}\n")
    assert loaded(NAMED).source.clouds_file == folder / "clouds.yaml"
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", "env.yaml")
    assert loaded(NAMED).source.clouds_file == folder / "env.yaml"
    (folder / "sub" / "p.yaml").write_text(f"{NAMED}clouds_file: mine.yaml\n")
    assert load(Path("sub/p.yaml")).source.clouds_file == folder / "sub" / "mine.yaml"


def test_cloud_of_the_environment_needs_no_clouds_yaml() -> None:
    assert loaded("source: {cloud: envvars}\ndestination: {cloud: new}\n").source.cloud == "envvars"


def test_the_state_url_is_read_without_what_the_clouds_need(folder: Path) -> None:
    path = folder / "p.yaml"
    path.write_text("source: {auth: {password: {env: NOT_SET}}}\nstate: {url: 'dir:///x'}\n")
    assert config.load_state_url(path) == "dir:///x"
    path.write_text("source: {cloud: a}\n")
    assert config.load_state_url(path).endswith("/pumphouse/state.db")
    path.write_text("state: {url: 7}\n")
    with pytest.raises(ConfigError, match=r"p\.yaml:1: "):
        config.load_state_url(path)


def test_everything_arrives(folder: Path) -> None:
    (folder / "ca.pem").touch()
    text = (
        f"source: {{auth_type: v3password, auth: {AUTH}, region_name: R, interface: internal,\n"
        "  cacert: ca.pem, verify: false}\n"
        "destination: {cloud: new, region_name: S, interface: admin}\n"
        "mappings: {flavors: {m1.small: 2}, users: {a: null-user, 10: no}}\n"
        "policies: {on_conflict: rename, user_passwords: disabled, passwords_file: ~/x.csv,\n"
        "  root_disk: image, source_servers: leave, keep_snapshots: true,\n"
        "  paused_servers: started, broken_servers: move,\n"
        "  on_failure: keep, fail_fast: true, allow_same_cloud: True, volume_format: qcow2,\n"
        "  raw_volume_types: [ceph],\n"
        "  volume_snapshots: copy}\n"
        "limits: {workers: 2, transfers: 1.0, bytes_per_second: 100 MiB}\nstate: {url: 'memory://'}\n"
    )
    found = loaded(text)
    auth = {"auth_url": "https://old/v3", "username": "me", "password": SECRET, "project_name": "p"}
    passwords = Path("~/x.csv").expanduser()
    assert found == config.Config(
        source=CloudConfig(None, None, "v3password", auth, "R", "internal", folder / "ca.pem", False),
        destination=CloudConfig("new", folder / "clouds.yaml", region_name="S", interface="admin"),
        mappings=Mappings(flavors={"m1.small": "2"}, users={"a": "null-user", "10": "no"}),
        policies=Policies(
            "rename",
            "disabled",
            passwords,
            "image",
            "leave",
            "started",
            "move",
            True,
            "keep",
            True,
            True,
            "qcow2",
            "copy",
            ["ceph"],
        ),
        limits=Limits(2, 1, 100 << 20),
        state_url="memory://",
    )
    assert type(found.limits.transfers) is int
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    "written", ["12345", "0123", "no", "10:30", "2026-01-01", "1e3", "1.50", "0x1F", "True", "9" * 5000]
)
def test_text_is_taken_as_it_is_written(written: str) -> None:
    text = login(f"username: me, password: b, project_name: {written}")
    found = loaded(text.replace("auth_type: password", f"region_name: {written}"))
    assert (found.source.auth["project_name"], found.source.region_name) == (written, written)


@pytest.mark.parametrize("empty", ["", "~", "null"])
def test_empty_setting_is_its_default(empty: str) -> None:
    text = f"{NAMED}limits: {empty}\nmappings:\n  roles: {empty}\npolicies:\n  on_conflict: {empty}\n"
    found = loaded(f"{text}  passwords_file: {empty}\nclouds_file: {empty}\n")
    assert (found.limits, found.mappings, found.policies) == (Limits(), Mappings(), Policies())


def test_anchors_aliases_and_merge_keys() -> None:
    text = (
        "source:\n  auth: &auth\n    auth_url: https://old\n    username: me\n    password: a\n"
        "destination:\n  auth:\n    <<: *auth\n    auth_url: https://new\n"
    )
    found = loaded(text)
    assert found.destination.auth == {**found.source.auth, "auth_url": "https://new"}
    assert problems(text.replace("me\n", "[]\n") + "    pasword: x\n") == [
        f"p.yaml:4: destination.auth.username is a list; {A_SECRET}",
        f"p.yaml:4: source.auth.username is a list; {A_SECRET}",
        "p.yaml:10: unknown setting 'pasword'; did you mean 'password'?",
    ]


def test_merge_of_several_takes_the_first() -> None:
    text = "a: &a {x: 1}\nb: &b {x: 2, y: 2, z: 2}\nc:\n  z: 3\n  <<: [*a, *b]\n"
    document = yamlfile.load(text, "f")
    assert document.data["c"] == {"x": 1, "y": 2, "z": 3}
    assert [document.line(("c", key)) for key in "xyz"] == [1, 2, 4]


TOO_MUCH = "aliases stand for too many values; expected at most 100000"


@pytest.mark.parametrize(("first", "further"), [("[x, x]", "[{}]"), ("{x: 1, y: 2}", "{{<<: [{}]}}")])
def test_aliases_that_stand_for_more_than_a_machine_can_hold_are_refused(first: str, further: str) -> None:
    tens = [further.format(", ".join([f"*a{n}"] * 10)) for n in range(20)]
    text = "\n".join(f"a{n}: &a{n} {value}" for n, value in enumerate([first, *tens]))
    with pytest.raises(ConfigError) as caught:
        yamlfile.load(text, "f")
    assert caught.value.problems == (f"f:6: {TOO_MUCH}",)


def test_many_aliases_of_little_and_many_values_without_aliases_are_read() -> None:
    text = "\n".join(["a: &a {b: [c, d]}", *(f"x{n}: *a" for n in range(1000))])
    assert yamlfile.load(text, "f").data["x999"] == {"b": ["c", "d"]}
    listed = ", ".join(["x"] * 120_000)
    assert len(yamlfile.load(f"[{listed}]", "f").data) == 120_000


def test_bom_and_windows_line_ends(folder: Path) -> None:
    text = (NAMED + "limits: {workers: 0}\n").replace("\n", "\r\n")
    (folder / "p.yaml").write_bytes(text.encode("utf-8-sig"))
    with pytest.raises(ConfigError, match=r"^p\.yaml:3: limits\.workers is 0;"):
        load(Path("p.yaml"))


def test_secrets_come_from_the_environment_and_from_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLD_PASSWORD", SECRET)
    text = inline(
        "{auth_url: {command: 'printf https://x'}, username: {command: echo me | cat},"
        " password: {env: OLD_PASSWORD}}"
    )
    found = loaded(f"{text}state: {{url: {{command: 'echo sqlite://; echo {SECRET} >&2'}}}}\n")
    assert found.source.auth == {"auth_url": "https://x", "username": "me", "password": SECRET}
    assert found.state_url == "sqlite://"


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (f"echo {SECRET}; exit 3", "failed with exit code 3"),
        (f"no-such-{SECRET}", "failed with exit code 127"),
        ("true", "printed nothing"),
        ("echo; echo", "printed nothing"),
        (f"echo {SECRET}; echo url", "printed several lines"),
        ("printf '\\377'", "printed what is not text"),
        ("sleep 9", "took longer than 0.1 s"),
    ],
)
def test_command_that_fails(command: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "command_s", 0.1 if "sleep" in command else 60)
    assert problems(login(f"username: me, password: {{command: {json.dumps(command)}}}")) == [
        f"p.yaml:1: source.auth.password: its command {what}; expected it to print one line"
    ]


def test_what_a_command_prints_is_checked_too() -> None:
    auth = f"{{auth_url: {{command: echo {SECRET}}}, username: me, password: b}}"
    assert problems(inline(auth)) == [f"p.yaml:1: source.auth.auth_url is not usable; {AN_ADDRESS}"]


def test_no_command_runs_for_a_configuration_with_problems(folder: Path) -> None:
    text = login("username: me, password: {command: touch ran; echo x}")
    problems(f"{text}limits: 3\n")
    assert not (folder / "ran").exists()
    loaded(text)
    assert (folder / "ran").exists()


COMMANDS = f"{login('username: me, password: {command: touch ran; echo x}')}state: {{url: 'memory://'}}\n"
STATE_COMMAND = f'{NAMED}state: {{url: {{command: "touch ran; echo memory://"}}}}\n'


@pytest.mark.parametrize("is_others", [True, False])
@pytest.mark.parametrize(("text", "read"), [(COMMANDS, load), (STATE_COMMAND, config.load_state_url)])
def test_no_command_of_a_strangers_folder_is_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, read: Any, is_others: bool
) -> None:
    path = folder / "pumphouse.yaml"
    path.write_text(text)
    path.chmod(0o600 if is_others else 0o622)
    if is_others:
        monkeypatch.setattr(config.os, "geteuid", lambda: 1000001)
        monkeypatch.setattr(config, "_ROOT", 1000002)
    with pytest.raises(ConfigError, match=r"^pumphouse.yaml has commands, and others own it") as caught:
        read()
    assert caught.value.exit_code == 2
    assert not (folder / "ran").exists()
    read(path)
    assert (folder / "ran").exists()


@pytest.mark.parametrize("text", [COMMANDS, STATE_COMMAND])
def test_commands_of_ones_own_folder_are_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = folder / "pumphouse.yaml"
    path.write_text(text)
    path.chmod(0o600)
    load()
    assert (folder / "ran").exists()
    path.chmod(0o622)
    monkeypatch.setenv("PUMPHOUSE_CONFIG", "pumphouse.yaml")
    load()


def test_a_configuration_without_commands_may_be_anybodys(folder: Path) -> None:
    path = folder / "pumphouse.yaml"
    path.write_text(NAMED)
    path.chmod(0o666)
    assert load().source.cloud == "old"


@pytest.mark.parametrize(
    ("text", "mode", "warned"),
    [
        (inline(AUTH), 0o644, True),
        (inline(AUTH), 0o640, False),
        (NAMED, 0o644, False),
        (login("username: a, password: {command: echo x}"), 0o644, False),
        (f"{NAMED}state: {{url: 'mysql://me:{SECRET}@db/x'}}\n", 0o644, True),
        (f"{NAMED}state: {{url: 'mysql://me@db/x'}}\n", 0o644, False),
    ],
)
def test_secret_that_everybody_can_read_is_warned_of(
    folder: Path, text: str, mode: int, warned: bool
) -> None:
    path = folder / "p.yaml"
    path.write_text(text)
    path.chmod(mode)
    message = f"{path} holds a secret and can be read by everybody; run: chmod 600 {path}"
    assert load(path).warnings == ((message,) if warned else ())


def test_defaults_are_under_the_state_folder(folder: Path) -> None:
    found = loaded(NAMED)
    state = folder / "home" / "xdg_state_home" / "pumphouse"
    assert found.policies.passwords_file == state / "passwords.csv"
    assert found.state_url == f"sqlite:///{state}/state.db"


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [("1", 1), ("5B", 5), ("3 kB", 3000), ("3 KiB", 3072), ("7MB", 7_000_000), ("1 TB", 10**12)],
)
def test_bytes_per_second(written: str, size_bytes: int) -> None:
    assert loaded(f"{NAMED}limits: {{bytes_per_second: {written}}}\n").limits.bytes_per_second == size_bytes


# The schema, the dataclasses and the example say the same.


Setting = tuple[tuple[str, ...], dict[str, Any]]


def every_setting() -> list[Setting]:
    """All settings of the schema with their own schemas, but those inside of auth and state.url."""
    definitions = load_schema()["$defs"]
    clouds = {"source": definitions["inline_cloud"], "destination": definitions["named_cloud"]}
    return list(_settings({**load_schema(), "properties": {**load_schema()["properties"], **clouds}}, ()))


def _settings(node: dict[str, Any], keys: tuple[str, ...]) -> Iterator[Setting]:
    definitions = load_schema()["$defs"]
    for name, value in node.get("properties", {}).items():
        found = {**definitions.get(value.get("$ref", "").rpartition("/")[2], {}), **value}
        if not found or "not" in found:
            continue
        yield (*keys, name), found
        if name not in ("auth", "url"):
            yield from _settings(found, (*keys, name))


def uncommented() -> dict[str, Any]:
    """The example, with the settings that are commented out."""
    text = re.sub(r"(?m)^( *)# ([a-z_]+: .+)$", r"\1\2", EXAMPLE.read_text())
    data: dict[str, Any] = yamlfile.load(text, "example").data
    return data


def test_schema_is_one_and_says_what_each_setting_expects() -> None:
    Draft202012Validator.check_schema(load_schema())
    assert len(every_setting()) > 30
    assert [keys for keys, found in every_setting() if not {"title", "enum"} & found.keys()] == []


def test_example_loads_and_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLD_PASSWORD", SECRET)
    shutil.copy(EXAMPLE, folder / "pumphouse.yaml")
    found = load()
    assert found == config.Config(found.source, found.destination)


def test_example_names_every_setting_with_its_default() -> None:
    example = uncommented()
    for keys, found in every_setting():
        value: Any = example
        for key in keys:
            assert key in value, f"config.example.yaml does not name {'.'.join(keys)}"
            value = value[key]
        if found.get("default") not in (None, {}):
            assert value == found["default"], f"the default of {'.'.join(keys)}"


def test_example_is_valid_with_all_that_is_commented_out() -> None:
    assert validate(yamlfile.Document("example", uncommented()), load_schema()).lines() == []


def test_defaults_of_schema_and_dataclasses_are_the_same() -> None:
    values = dataclasses.asdict(config.Config(CloudConfig(), CloudConfig()))
    for keys, found in every_setting():
        if found.get("default") is not None and len(keys) > 1:
            assert values[keys[0]][keys[1]] == found["default"]
    for section in ("mappings", "policies", "limits"):
        assert set(load_schema()["properties"][section]["properties"]) == set(values[section])


def test_import_is_light() -> None:
    names = ("openstack", "keystoneauth1", "jsonschema", "platformdirs")
    code = f"import sys, pumphouse.config\nprint(*(name for name in {names} if name in sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=EXAMPLE.parent)
    assert done.stdout == "\n"


# What holds for every document.

CLEAN = st.characters(codec="utf-8", exclude_categories=["Cc", "Cn", "Co"], exclude_characters="\ufeff")
NUMBERS = st.integers(-(2**63), 2**63) | st.floats(-1e6, 1e6).map(lambda number: round(number, 3))
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(CLEAN),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(CLEAN), inner, max_size=4),
    max_leaves=12,
)
SIGNS = st.text(st.sampled_from(" \n\t:-[]{}&*!|>'\"%@#,?<~a1.\\\x85\u2028é"))


@given(PLAIN)
def test_what_yaml_and_json_write_is_read_back(data: Any) -> None:
    assert yamlfile.load(yaml.safe_dump(data, allow_unicode=True), "f").data == data
    document = yamlfile.load(json.dumps(data, ensure_ascii=False), "f")
    assert (document.data, document.problems) == (data, ())


@settings(max_examples=400)
@given(SIGNS | st.text())
def test_any_text_without_settings_is_refused_line_by_line(text: str) -> None:
    lines = against_schema(text)
    assert lines
    assert all(re.fullmatch(r"f(:\d+)?: .+; (expected|did you mean) .+", line, re.DOTALL) for line in lines)


def against_schema(text: str) -> list[str]:
    try:
        return validate(yamlfile.load(text, "f"), load_schema()).lines()
    except ConfigError as error:
        return list(error.problems)


@given(st.text(CLEAN, min_size=1))
def test_quoted_secret_arrives_as_it_is(secret: str) -> None:
    text = login(f"username: me, password: {json.dumps(secret, ensure_ascii=False)}")
    document = validate(yamlfile.load(text, "f"), load_schema())
    assert document.lines() == []
    assert document.data["source"]["auth"]["password"] == secret
    assert "password" not in repr(document)

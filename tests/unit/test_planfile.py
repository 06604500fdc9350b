"""Plan files: nothing is lost, every mistake has its line, and what changed since is told from what was edited."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pumphouse.cli import cli
from pumphouse.cli.invocation import migration_of
from pumphouse.config import yamlfile
from pumphouse.config.schema import load_schema, validate
from pumphouse.config.settings import CloudConfig, Config, Policies
from pumphouse.errors import ConfigError, StalePlanError
from pumphouse.model import LEFT_OUT, Action, Plan, PlannedTask, Record, Ref, Selection, Step, Unit, not_made
from pumphouse.plan import data as plan_format
from pumphouse.plan.data import as_written, editable_data, plan_data, plan_from
from pumphouse.plan.decide import block
from pumphouse.plan.file import Loaded, load, save
from pumphouse.plan.file_checks import problems
from pumphouse.plan.make import cfg_of, planned_config, settings_of
from pumphouse.plan.staleness import changes, edits
from pumphouse.plan.task_lines import with_tasks
from pumphouse.plan.units import units
from pumphouse.show.dot import plan_dot
from pumphouse.tasks import KINDS

DEFAULT = Config(CloudConfig(), CloudConfig())
TENANT = Ref("tenant", "t")


def step(
    address: str,
    action: Action = Action.CREATE,
    *,
    name: str | None = None,
    to: str | None = None,
    reason: str = "why",
    **record: Any,
) -> Step:
    kind, _, resource_id = address.partition("/")
    called = record.pop("called", resource_id)
    made = Record(Ref(kind, resource_id), called, **{"data": {"name": called}, **record})
    return Step(made, action, reason, called if name is None else name, to, made.notes)


def plan_of(*steps: Step, **fields: Any) -> Plan:
    decided = block({item.ref: item for item in steps})
    return Plan(
        tenant=TENANT,
        tenant_name="demo",
        source="source https://old",
        destination="destination https://new",
        units=units(decided),
        settings=settings_of(DEFAULT),
        cfg=cfg_of(DEFAULT),
        **fields,
    )


# What holds for every plan.

# Lone surrogates are the only text that no file in UTF-8 can hold.
ODD = ["yes", "null", "1e3", "010", "2026-01-01", "<<", "=", "~", "- a", "a: b", "# a", " a ", "\n", "'\"\\"]
ODD += ["😀", "\x00\x1b\x7f\x85", "\ufeffx", "\u2028", "x " * 200, "\U0001d518" * 300]
TEXT = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(ODD)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e6, 1e6).map(lambda n: round(n, 3)) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NOTES = st.lists(TEXT, max_size=2).map(tuple)
_SOME_KINDS = st.lists(st.sampled_from(sorted(KINDS)), max_size=2, unique=True).map(tuple)
_SOME_REFS = st.lists(st.builds(Ref, st.sampled_from(sorted(KINDS)), TEXT.filter(bool)), max_size=2).map(
    tuple
)
SELECTIONS = st.builds(Selection, _SOME_KINDS, _SOME_KINDS, refs=_SOME_REFS)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans whose decisions fit each other, as make_plan makes them, of resources called anything."""
    ids = draw(st.lists(TEXT.filter(bool), max_size=5, unique=True))
    kinds = st.sampled_from([name for name in KINDS if name != "tenant"])
    refs = [TENANT, *(Ref(draw(kinds), resource_id) for resource_id in ids)]
    steps = [draw(_steps(ref, refs)) for ref in refs]
    made = plan_of(*steps, notes=draw(NOTES), left_out=tuple(Ref("port", f"gone{text}") for text in ids[:2]))
    return replace(
        made,
        tenant_name=draw(TEXT),
        selection=draw(SELECTIONS),
        source=draw(TEXT),
        settings={**made.settings, "mappings": {**made.settings["mappings"], "users": {draw(TEXT): "ü"}}},
        cfg={
            "fail_fast": True,
            "on_failure": "keep",
            "limits": {"workers": 1, "transfers": 2, "bytes_per_second": 9},
        },
    )


@st.composite
def _steps(draw: st.DrawFn, ref: Ref, refs: list[Ref]) -> Step:
    action = draw(st.sampled_from(Action))
    last = ref.kind == "tenant_state"
    others = [other for other in refs if other.kind != "tenant_state"]
    wholes = [other for other in others if other != ref and not last]
    record = Record(
        ref,
        draw(TEXT),
        data=draw(st.dictionaries(TEXT, JSON, max_size=3)),
        needs=tuple(draw(st.lists(st.sampled_from(others), max_size=2, unique=True))),
        part_of=draw(st.none() | st.sampled_from(wholes or [None])),
        size_bytes=draw(st.integers(0, 2**50)),
        notes=draw(NOTES),
        skip=draw(TEXT),
        must_exist=draw(TEXT),
        last=last,
    )
    to = draw(TEXT.filter(bool)) if action is Action.REUSE else draw(st.none() | TEXT.filter(bool))
    notes = draw(NOTES | st.just(record.notes))
    tasks = tuple(draw(st.lists(st.builds(PlannedTask, TEXT, TEXT), max_size=2)))
    return Step(record, action, draw(TEXT), draw(TEXT), to, notes, draw(TEXT), tasks)


def without_tasks(plan: Plan) -> Plan:
    return replace(
        plan,
        units=tuple(
            replace(unit, steps=tuple(replace(item, tasks=()) for item in unit.steps)) for unit in plan.units
        ),
    )


@settings(max_examples=60, deadline=None)
@given(plans())
def test_data_of_a_plan_is_the_plan(plan: Plan) -> None:
    data = plan_data(plan)
    assert plan_from(data) == plan
    assert plan_from(json.loads(json.dumps(data))) == plan
    assert [plan_format.unit_from(plan_format.unit_data(unit)) for unit in plan.units] == list(plan.units)


@pytest.mark.parametrize("name", ["p.yaml", "p.yml", "p.json"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans())
def test_loaded_is_what_was_saved(tmp_path: Path, name: str, plan: Plan) -> None:
    for data in (plan_data(plan), editable_data(plan)):
        save(data, tmp_path / name)
        assert load(tmp_path / name) == Loaded(without_tasks(plan), edited=False)


@settings(max_examples=100, deadline=None)
@given(plans())
def test_nothing_changed_between_a_plan_and_itself(plan: Plan) -> None:
    assert changes(plan, plan) == ()
    assert changes(without_tasks(plan), plan) == ()


# One small plan, in full.

SAMPLE = plan_of(
    step("domain/default", Action.REUSE, to="d2"),
    step("tenant/t", called="demo", needs=(Ref("domain", "default"),)),
    step("flavor/f", Action.REUSE, to="f2", needs=(TENANT,)),
    step("image/i", size_bytes=3 << 20, needs=(TENANT,), notes=("its tags are odd",)),
    step("network/n", needs=(TENANT,)),
    step("subnet/s", needs=(Ref("network", "n"),), part_of=Ref("network", "n")),
    step("keypair/u.k", Action.SKIP, reason="it cannot", skip="it cannot"),
    step("tenant_state/t", needs=(TENANT,), last=True),
    notes=("volumes are not carried",),
)


def sample() -> dict[str, Any]:
    return plan_data(SAMPLE)


def test_file_is_private_and_readable(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("old")
    path.chmod(0o644)
    save(sample(), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["p.yaml"]
    assert path.read_text().startswith("format: 1\nlabel: Migrate tenant demo\nkey: ")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("p.txt", "p.txt: neither YAML nor JSON; expected a name with .yaml, .yml or .json"),
        ("none/p.yaml", "cannot be written: No such file or directory"),
        ("file/p.yaml", "cannot be written: Not a directory"),
        ("folder.json", "cannot be written: Is a directory"),
    ],
)
def test_file_that_cannot_be_written(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ConfigError) as caught:
        save(sample(), tmp_path / name)
    assert expected in str(caught.value)
    assert caught.value.exit_code == 2
    assert {found.name for found in tmp_path.iterdir()} == {"file", "folder.json"}


def test_schema_is_one_and_says_what_each_setting_expects() -> None:
    Draft202012Validator.check_schema(load_schema("plan"))
    definitions = load_schema("plan")["$defs"].values()
    assert [found for found in definitions if "title" not in found] == []


def test_tasks_of_every_kind_are_made_without_clouds() -> None:
    data = {
        "flavor": {"name": "f"},
        "floating_ip": {"port_id": None, "port_forwardings": []},
        "quota": {"service": "compute", "limits": {"cores": 3}},
        "trunk": {"sub_ports": []},
        "router": {"name": "r", "interfaces": [], "routes": []},
        "security_group": {"name": "g", "project_id": "t", "rules": []},
        "server": {"name": "s", "status": "ACTIVE", "image_id": "i", "tenant_id": "t"},
        "volume_snapshot": {"name": "v", "status": "available", "attachments": [], "tenant_id": "t"},
        "volume": {"name": "v", "status": "in-use", "attachments": [], "tenant_id": "t"},
    }
    for kind in KINDS:
        about = data.get(kind, {"name": "x", "project_id": "t"})
        tenant = step("tenant/t", Action.REUSE, to="u")
        only = plan_of(tenant, step(f"{kind}/x", data=about, needs=(TENANT,)))
        with_them = with_tasks(only)
        written = plan_data(with_them)
        tasks = written["units"][1]["steps"][0].get("tasks", [])
        assert all(task["name"].startswith(f"{kind}-") and task["line"] for task in tasks)
        assert (len(tasks) > 0) == (kind != "domain")
        assert written["summary"]["tasks"] == len(tasks)
        assert plan_from(written) == with_them


def test_tasks_and_summary_are_for_the_reader(tmp_path: Path) -> None:
    data = plan_data(with_tasks(SAMPLE))
    first = data["units"][1]["steps"][0]["tasks"][0]
    assert first == {"name": "tenant-t-retrieved", "line": "read tenant demo", "number": 1}
    assert data["summary"]["create"] == 5
    assert data["summary"]["size_bytes"] == 3 << 20
    save(data, tmp_path / "p.yaml")
    assert load(tmp_path / "p.yaml").plan == SAMPLE
    assert with_tasks(load(tmp_path / "p.yaml").plan) == with_tasks(SAMPLE)


def test_a_plan_of_a_release_that_recorded_no_tasks_is_read() -> None:
    written = plan_data(with_tasks(SAMPLE))
    older = {name: value for name, value in written.items() if name != "summary"}
    for unit in older["units"]:
        for item in unit["steps"]:
            item.pop("tasks", None)
    assert plan_from(older) == SAMPLE


def test_an_edited_plan_shows_only_the_tasks_that_will_be_executed(tmp_path: Path) -> None:
    data = plan_data(with_tasks(SAMPLE))
    network = next(unit for unit in data["units"] if unit["name"] == "network/n")
    for item in network["steps"]:
        item["action"] = "skip"
    next(unit for unit in data["units"] if unit["name"] == "image/i")["steps"][0]["tasks"] = "edited as well"
    save(data, tmp_path / "p.yaml")
    result = CliRunner().invoke(cli, ["plan", "show", "--tasks", str(tmp_path / "p.yaml")])
    assert result.exit_code == 0
    assert "     4. read image i\n" in result.output
    assert "create network n" not in result.output


def test_a_plan_is_printed_without_taskflow_and_without_clouds(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan_data(with_tasks(SAMPLE))))
    code = (
        "import json, sys\n"
        "from pumphouse.plan.data import plan_data, plan_from\n"
        "from pumphouse.show.console import console\n"
        "from pumphouse.show.plan import Detail, print_plan\n"
        "from pumphouse.show.report import dump\n"
        f"plan = plan_from(json.load(open({str(path)!r})))\n"
        "print_plan(plan, console(), Detail.TASKS)\n"
        "dump(plan_data(plan), 'json')\n"
        "print('loaded:', *{'taskflow', 'openstack', 'keystoneauth1'} & set(sys.modules))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "   1. read tenant demo" in result.stdout
    assert result.stdout.splitlines()[-1] == "loaded:"


def test_settings_that_were_taken_out_have_their_defaults(tmp_path: Path) -> None:
    data = sample()
    data["cfg"] = {"limits": {"bytes_per_second": "2 MiB"}}
    del data["data"]["mappings"]
    data["data"]["policies"] = {"passwords_file": "new.csv", "root_disk": None}
    save(data, tmp_path / "p.yaml")
    loaded = load(tmp_path / "p.yaml")
    assert loaded.edited
    assert loaded.plan.cfg == {**SAMPLE.cfg, "limits": {**SAMPLE.cfg["limits"], "bytes_per_second": 2 << 20}}
    policies = {**SAMPLE.settings["policies"], "passwords_file": "new.csv"}
    assert loaded.plan.settings == {"mappings": SAMPLE.settings["mappings"], "policies": policies}


@pytest.mark.parametrize("written", ["new.csv", "~/.ssh/config", "/etc/passwd"])
def test_the_file_of_passwords_is_the_configurations_whatever_a_plan_says(
    tmp_path: Path, written: str
) -> None:
    data = sample()
    data["data"]["policies"]["passwords_file"] = written
    save(data, tmp_path / "p.yaml")
    plan = load(tmp_path / "p.yaml").plan
    own = replace(DEFAULT, policies=Policies(passwords_file=tmp_path / "own.csv"))
    assert planned_config(own, plan).policies.passwords_file == tmp_path / "own.csv"
    assert "passwords_file" not in settings_of(planned_config(own, plan))["policies"]


def test_a_run_that_was_recorded_with_a_file_of_passwords_uses_the_configurations(tmp_path: Path) -> None:
    settings = {**SAMPLE.settings, "policies": {**SAMPLE.settings["policies"], "passwords_file": "/x"}}
    own = replace(DEFAULT, policies=Policies(passwords_file=tmp_path / "own.csv"))
    invocation = SimpleNamespace(config=own, clouds=(None, None))
    migration = migration_of(invocation, replace(SAMPLE, settings=settings))
    assert migration.policies == {
        **SAMPLE.settings["policies"],
        "passwords_file": str(tmp_path / "own.csv"),
    }


# Mistakes: each is an edit of the file that save wrote, and one message with its line.

WRITTEN = yaml.safe_dump(json.loads(json.dumps(plan_data(SAMPLE))), sort_keys=False, width=1000)
A_PLAN = "expected a plan, as pumphouse plan writes it"
A_REF = "expected kind/id, e.g. image/3f2a"
NUMBER = "expected a whole number from 1"
TRUE = "expected true or false"
STEP = "expected a step: kind, id, name, action and record"

UNREADABLE = {
    "": f"p.yaml: the file is empty; {A_PLAN}",
    "# nothing\n": f"p.yaml: the file is empty; {A_PLAN}",
    "- a\n": f"p.yaml:1: the file is a list; {A_PLAN}",
    "format: 4\nfuture: [x]\n": "p.yaml:1: format is 4; this pumphouse reads 1 and 2 and 3",
    "# x\nformat: 0\n": "p.yaml:2: format is 0; this pumphouse reads 1 and 2 and 3",
    "format: 1\n\tkey: x\n": "p.yaml:2: a tab; expected spaces for the indentation",
    "format: 1\nkey: {a: b\nc: d\n": "p.yaml:2: a mapping is opened and not closed; expected ',' or '}'",
    "format: 1\nkey: 'a\n": "p.yaml:2: a quote is opened and not closed; expected it closed",
    "format: 1\n---\nformat: 1\n": "p.yaml:2: a second document; expected one, without '---' in the middle",
}

# What is replaced, by what, the text whose line is named afterwards, and the message.
BROKEN: list[tuple[str, str, str, str]] = [
    ("format: 1\n", "", "label:", f"missing setting 'format'; {A_PLAN}"),
    ("format: 1", "format: '1'", "format", "format is '1'; expected 1"),
    ("format: 1", "format: one", "format", "format is 'one'; expected 1"),
    ("label: M", "lable: M", "lable", "unknown setting 'lable'; did you mean 'label'?"),
    ("label: Migrate tenant demo", "label: [a]", "label", "label is a list; expected text"),
    ("label: M", "key: x\nlabel: M", "key: #2", "'key' is given twice, first on line 2; expected it once"),
    ("label: M", "label: !x M", "label", "a value begins with '!'; expected it in quotes"),
    (
        "tenant:\n    id: t",
        "tenant:\n    id: u",
        "key: ",
        "key is '{key}', that of another tenant or other clouds",
    ),
    ("fail_fast: false", "fail_fast: no", "fail_fast", f"cfg.fail_fast is 'no'; {TRUE}"),
    (
        "fail_fast: false",
        "failfast: false",
        "failfast",
        "unknown setting 'failfast'; did you mean 'fail_fast'?",
    ),
    (
        "on_failure: revert",
        "on_failure: stop",
        "on_failure",
        "cfg.on_failure is 'stop'; expected 'revert' or 'keep'",
    ),
    ("workers: 16", "workers: 0", "workers", f"cfg.limits.workers is 0; {NUMBER}"),
    ("workers: 16", "workers: many", "workers", f"cfg.limits.workers is 'many'; {NUMBER}"),
    ("workers: 16", "wokers: 16", "wokers", "unknown setting 'wokers'; did you mean 'workers'?"),
    (
        "bytes_per_second: null",
        "bytes_per_second: fast",
        "bytes_per",
        "cfg.limits.bytes_per_second is 'fast'; expected",
    ),
    (
        "  tenant:\n    id: t\n    name: demo\n",
        "",
        "data:",
        "missing setting 'data.tenant'; expected a mapping with",
    ),
    (
        "    id: t\n    name: demo\n",
        "    id: t\n",
        "tenant:",
        "missing setting 'data.tenant.name'; expected a mapping",
    ),
    (
        "    id: t\n    name: demo\n",
        "    id: ''\n    name: demo\n",
        "id: ''",
        "data.tenant.id is empty; expected text",
    ),
    ("  source: source https://old\n", "", "data:", "missing setting 'data.source'; expected a mapping"),
    ("domains: {}", "domians: {}", "domians", "unknown setting 'domians'; did you mean 'domains'?"),
    (
        "flavors: {}",
        "flavors: m1",
        "flavors",
        "data.mappings.flavors is a single value; expected a mapping, source",
    ),
    (
        "flavors: {}",
        "flavors: {a: ''}",
        "flavors",
        "data.mappings.flavors.a is empty; expected a name at the dest",
    ),
    (
        "flavors: {}",
        "flavors: {a: b, a: c}",
        "flavors",
        "'a' is given twice, first on line {line}; expected it once",
    ),
    (
        "on_conflict: fail",
        "on_conflict: no",
        "on_conflict",
        "data.policies.on_conflict is 'no'; expected 'fail', 'reuse'",
    ),
    (
        "root_disk: snapshot",
        "root_disk: disk",
        "root_disk",
        "data.policies.root_disk is 'disk'; expected 'snapshot'",
    ),
    ("keep_snapshots: false", "keep_snapshots: 1", "keep_snap", f"data.policies.keep_snapshots is 1; {TRUE}"),
    (
        "    on_conflict: fail",
        "    fail_fast: true\n    on_conflict: fail",
        "    fail_fast: true",
        "data.policies.fail_fast cannot be given here; expected it under cfg",
    ),
    ("  - tenant/t\n", "  - tenant\n", "  - tenant\n", f"data.resources.1 is 'tenant'; {A_REF}"),
    ("  - tenant/t\n", "  - tennant/t\n", "  - tennant/t", "unknown kind 'tennant'; did you mean 'tenant'?"),
    ("  - tenant/t\n", "  - [tenant]\n", "  - [tenant]", f"data.resources.1 is a list; {A_REF}"),
    ("units:\n", "unit: 1\nunits:\n", "unit: 1", "unknown setting 'unit'; did you mean 'units'?"),
    (
        "- name: image/i\n",
        "- nmae: x\n  name: image/i\n",
        "- nmae",
        "unknown setting 'nmae'; did you mean 'name'?",
    ),
    (
        "- name: image/i\n",
        "- name: ''\n",
        "- name: ''",
        "units.4.name is empty; expected text that is not empty",
    ),
    (
        "- name: image/i\n  needs:\n  - tenant/t",
        "- name: image/i\n  needs: 1",
        "  needs: 1",
        "units.4.needs is 1; expected a",
    ),
    ("  - kind: image\n", "  - kind: imgae\n", "kind: imgae", "unknown kind 'imgae'; did you mean 'image'?"),
    (
        "  - kind: image\n",
        "  - kind: zoo\n",
        "kind: zoo",
        "unknown kind 'zoo'; expected one of address_group, assignment",
    ),
    (
        "  - kind: image\n",
        "  - kind: ''\n",
        "kind: ''",
        "units.4.steps.0.kind is empty; expected text that is not empty",
    ),
    (
        "  - kind: image\n    id: i\n",
        "  - kind: image\n",
        "- kind: image",
        f"missing setting 'units.4.steps.0.id'; {STEP}",
    ),
    (
        "    id: s\n",
        "    id: n\n    x: 1\n",
        "    x: 1",
        "unknown setting 'x'; expected 'action', 'because', 'destination_id', 'id'",
    ),
    (
        "  - kind: subnet\n    id: s\n",
        "  - kind: network\n    id: n\n",
        "    id: n#2",
        "resource network/n is in the plan twice",
    ),
    (
        "    action: create",
        "    action: make",
        "action: make",
        "units.1.steps.0.action is 'make'; expected 'create', 'reuse'",
    ),
    (
        "    action: create",
        "    action: ",
        "action: #2",
        "units.1.steps.0.action is empty; expected 'create'",
    ),
    (
        "    action: create",
        "    action: [skip]",
        "action: [skip]",
        "units.1.steps.0.action is a list; expected 'create'",
    ),
    (
        "    destination_id: f2\n",
        "",
        "    action: reuse#2",
        "flavor/f is reused, but not which; expected its destination_id",
    ),
    (
        "    destination_id: f2\n",
        "    destination_id: [f2]\n",
        "destination_id: [",
        "destination_id is a list; expected an id",
    ),
    (
        "    notes:\n    - its tags",
        "    notes: its tags\n    x:\n    - its tags",
        "    x:",
        "unknown setting 'x'",
    ),
    (
        "    notes:\n    - its tags are odd\n",
        "    notes: {}\n",
        "    notes: {}",
        "notes is empty; expected a list of notes",
    ),
    (
        "      name: demo\n      data",
        "      nam: demo\n      data",
        "      nam:",
        "unknown setting 'nam'; did you mean 'name'?",
    ),
    (
        "      data:\n        name: i",
        "      data: 7\n      x-name: i",
        "      x-name",
        "unknown setting 'x-name'",
    ),
    (
        "      size_bytes: 3145728",
        "      size_bytes: -1",
        "size_bytes",
        "record.size_bytes is -1; expected a whole number from 0",
    ),
    (
        "      size_bytes: 3145728",
        "      size_bytes: 3 MB",
        "size_bytes",
        "size_bytes is '3 MB'; expected a whole number",
    ),
    ("      last: true", "      last: yes", "last: yes", f"units.6.steps.0.record.last is 'yes'; {TRUE}"),
    (
        "      part_of: network/n",
        "      part_of: network",
        "part_of",
        f"record.part_of is 'network'; {A_REF}",
    ),
    (
        "      part_of: network/n",
        "      part_of: netwrk/n",
        "part_of",
        "unknown kind 'netwrk'; did you mean 'network'?",
    ),
    (
        "      - network/n\n",
        "      - port/x\n",
        "      - port/x",
        "subnet/s needs port/x, which is not in the plan: leave",
    ),
]


def problems_of(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(folder)
    Path("p.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(Path("p.yaml"))
    assert caught.value.exit_code == 2
    return list(caught.value.problems)


def line_of(text: str, mark: str) -> int:
    """The line of a text that begins with a mark, or has it; of the n-th such line after `mark#n`."""
    mark, _, number = mark.partition("#")
    lines = [at for at, line in enumerate(text.splitlines(), 1) if mark.rstrip("\n") in line]
    return lines[int(number or 1) - 1]


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_is_no_plan(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems_of(text, tmp_path, monkeypatch) == [UNREADABLE[text]]


@pytest.mark.parametrize(("old", "new", "mark", "message"), BROKEN, ids=[item[3][:60] for item in BROKEN])
def test_broken_plan(
    old: str, new: str, mark: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert old in WRITTEN
    text = WRITTEN.replace(old, new, 1)
    found = problems_of(text, tmp_path, monkeypatch)
    line = line_of(text, mark)
    expected = message.format(line=line, key=plan_data(SAMPLE)["key"]) if "{" in message else message
    here = [problem for problem in found if problem.startswith(f"p.yaml:{line}: ")]
    assert any(expected in problem for problem in here), found


# The same of a file for people.


def editable(plan: Plan, folder: Path) -> str:
    save(editable_data(plan), folder / "p.yaml")
    return (folder / "p.yaml").read_text()


BROKEN_LINES: list[tuple[str, str, str, str]] = [
    ("format: 3", "format: '3'", "format", "format is '3'; expected 1"),
    ("action: create, kind: image", "action: make, kind: image", "kind: image", "resources.4.action is 'make'"),
    ("kind: image, name: i, ", "kind: imgae, name: i, ", "kind: imgae", "unknown kind 'imgae'; did you mean"),
    ("kind: image, name: i, ", "kind: image, ", "kind: image", "missing setting 'resources.4.name'; expected a"),
    ("reason: why, id: s}", "reason: why, id: n}", "kind: subnet", "subnet/n has no record; expected one"),
    ("kind: subnet, name: s,", "kind: network, name: n, x: y,", "x: y", "unknown setting 'x'; expected 'action'"),
    ("- {kind: tenant, id: t", "- {kind: tenant, id: v", "kind: image", "image/i needs tenant/t, which is not in the"),
    ("reason: why, destination_id: f2, ", "reason: why, ", "kind: flavor", "flavor/f is reused, but not which; exp"),
    ("kind: tenant, id: t", "kind: tenant, id: u", "resources", "tenant/t has no record; expected one under re"),
    ("- {kind: image, id: i,", "- {kind: flavor, id: f,", "kind: flavor, id: f#2", "flavor/f is in the plan twice, first on"),
    ("\nresources:\n", "\nresourcse:\n", "resourcse", "unknown setting 'resourcse'; did you mean 'resources'?"),
    ("domains: {}", "domians: {}", "domians", "unknown setting 'domians'; did you mean 'domains'?"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "mark", "message"), BROKEN_LINES, ids=[item[3][:60] for item in BROKEN_LINES]
)
def test_broken_line(
    old: str, new: str, mark: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = editable(SAMPLE, tmp_path)
    assert old in text
    text = text.replace(old, new, 1)
    found = problems_of(text, tmp_path, monkeypatch)
    assert any(message in problem for problem in found), found


def test_a_file_for_people_says_how_it_is_edited_and_has_a_line_for_each_decision(tmp_path: Path) -> None:
    lines = editable(SAMPLE, tmp_path).splitlines()
    assert lines[0] == "# Migrate tenant demo"
    assert "# To run it:              pumphouse migrate --plan p.yaml" in lines
    at, behind, last = (lines.index(f"{name}:") for name in ("resources", "records", "tasks"))
    assert behind - at - 1 == last - behind - 1 == len(list(SAMPLE.steps()))
    assert len(lines) - last - 1 == len(SAMPLE.units)
    assert "- {action: create, kind: subnet, name: s, reason: why, id: s}" in lines[at:behind]


def test_a_name_with_a_line_break_does_not_take_a_second_line(tmp_path: Path) -> None:
    odd = step("image/i", called="a\n- {action: skip}\n\x1b", needs=(TENANT,), notes=("x\ny",))
    plan = plan_of(step("tenant/t", called="\n# x"), odd)
    text = editable(plan, tmp_path)
    assert load(tmp_path / "p.yaml").plan == plan
    assert (
        len(text[text.index("\nresources:") :].splitlines())
        == 2 * len(list(plan.steps())) + len(plan.units) + 4
    )


def test_what_nobody_has_edited_is_shown_with_the_tasks_that_it_was_written_with(tmp_path: Path) -> None:
    plan = with_tasks(replace(SAMPLE, left_out=(Ref("image", "gone"),), notes=("n",), uncarried=("u",)))
    editable(plan, tmp_path)
    written = yamlfile.load((tmp_path / "p.yaml").read_text(), "p.yaml").data
    assert as_written(written) == plan == with_tasks(load(tmp_path / "p.yaml").plan)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("action: create, kind: image", "action: skip, kind: image"),
        ("domains: {}", "domains: {a: b}"),
        ("line: create image", "line: delete image"),
        ("file_digest: ", "file_digest: x"),
    ],
)
def test_what_was_edited_gets_the_tasks_that_follow(old: str, new: str, tmp_path: Path) -> None:
    text = editable(with_tasks(SAMPLE), tmp_path)
    assert old in text
    path = tmp_path / "p.yaml"
    path.write_text(text.replace(old, new, 1))
    assert as_written(yamlfile.load(path.read_text(), "p.yaml").data) is None
    result = CliRunner().invoke(cli, ["plan", "show", "-f", "json", str(path)])
    assert json.loads(result.stdout) == plan_data(with_tasks(load(path).plan))
    assert "delete image" not in result.stdout


@pytest.mark.parametrize(
    "data", [None, [], {"format": 3}, {"format": 3, "data": 1}, {"format": 3, "data": {}}]
)
def test_what_is_no_plan_is_not_as_it_was_written(data: Any) -> None:
    assert as_written(data) is None


SERVED = plan_of(
    step("tenant/t", called="demo"),
    step("network/n", needs=(TENANT,)),
    step("subnet/s", needs=(Ref("network", "n"),), part_of=Ref("network", "n")),
    step("port/p", needs=(Ref("network", "n"), Ref("subnet", "s"))),
    step("image/i", needs=(TENANT,)),
)


@pytest.mark.parametrize("data", [editable_data, plan_data])
def test_what_is_skipped_by_hand_takes_along_what_needs_it(tmp_path: Path, data: Any) -> None:
    text = json.dumps(data(SERVED)).replace('"reason": "why"', '"reason": "not there"')
    edited = json.loads(text)
    decisions = edited.get("resources") or [s for unit in edited["units"] for s in unit["steps"]]
    next(line for line in decisions if line["kind"] == "network")["action"] = "skip"
    save(edited, tmp_path / "p.yaml")
    plan = load(tmp_path / "p.yaml").plan
    skipped = {item.ref.kind: item.reason for item in plan.steps() if item.action is Action.SKIP}
    assert skipped == {
        "network": "not there",
        "subnet": "needs network n, which is skipped",
        "port": "needs network n, which is skipped",
    }
    assert edits(plan) == ({}, {Ref("network", "n")})


def test_a_line_that_is_taken_out_takes_along_what_needs_it(tmp_path: Path) -> None:
    text = editable(SERVED, tmp_path)
    (tmp_path / "p.yaml").write_text(
        text.replace("- {action: create, kind: subnet, name: s, reason: why, id: s}\n", "")
    )
    plan = load(tmp_path / "p.yaml").plan
    assert edits(plan) == ({}, {Ref("subnet", "s")})
    assert {item.ref.kind for item in plan.steps() if item.action is Action.CREATE} == {
        "tenant",
        "network",
        "image",
    }


def test_there_are_at_least_fifty_broken_plans() -> None:
    assert len(BROKEN) + len(UNREADABLE) >= 50


def test_all_problems_are_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = WRITTEN.replace("workers: 16", "workers: 0").replace("kind: image", "kind: imgae", 1)
    found = problems_of(text.replace("label: M", "lable: M"), tmp_path, monkeypatch)
    words = ["'lable'", "workers is 0", "unknown kind 'imgae'"]
    assert len(found) == len(words)
    assert all(word in problem for word, problem in zip(words, found, strict=True))


def test_tenant_has_to_be_in_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = WRITTEN[: WRITTEN.index("units:\n")] + "units: []\n"
    line = line_of(text, "units:")
    assert problems_of(text, tmp_path, monkeypatch) == [
        f"p.yaml:{line}: the plan lacks tenant/t, which all else belongs to; expected it in the plan"
    ]


def test_unit_without_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = WRITTEN.replace("units:\n", "units:\n- name: x\n  steps: []\n")
    found = problems_of(text, tmp_path, monkeypatch)
    line = line_of(text, "steps: []")
    assert found == [
        f"p.yaml:{line}: units.0.steps is a list; expected at least one step; leave the unit out as a whole"
    ]


def test_what_is_last_waits_only_for_what_is_left(tmp_path: Path) -> None:
    data = sample()
    data["units"] = [unit for unit in data["units"] if unit["name"] != "image/i"]
    save(data, tmp_path / "p.json")
    loaded = load(tmp_path / "p.json").plan
    assert loaded.left_out == (Ref("image", "i"),)
    assert loaded.units[-1].needs == tuple(n for n in SAMPLE.units[-1].needs if n != "image/i")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whatever_is_broken_is_said_and_nothing_is_raised(data: st.DataObject) -> None:
    broken = json.loads(json.dumps(plan_data(SAMPLE)))
    place: Any = broken
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 4)) == 0:
            break
        place = place[key]
    place[key] = data.draw(JSON)
    document = yamlfile.load(yaml.safe_dump(broken), "f")
    document = validate(document, load_schema("plan"))
    for problem in (*document.problems, *problems(document)):
        assert problem.text


# What a person edited, and what changed.

FLAVOR = step("flavor/f", needs=(TENANT,))
SERVER = step("server/s", called="web", data={"name": "web", "status": "ACTIVE"}, needs=(TENANT, FLAVOR.ref))
BASE = (step("tenant/t", called="demo"), FLAVOR, SERVER)


def changed(one: Step, other: Step | None, **options: Any) -> tuple[str, ...]:
    """What changed when of the base plan one step was this and is that now."""
    planned = [one if item.ref == one.ref else item for item in BASE]
    now = [item for item in planned if item.ref != one.ref]
    return changes(plan_of(*planned), plan_of(*now, *([other] if other else [])), **options)


def test_what_a_selection_leaves_out_is_not_left_out_by_hand() -> None:
    network = step("network/n", Action.SKIP, reason=not_made("network"))
    planned = plan_of(step("tenant/t"), network, step("router/r", needs=(Ref("network", "n"),)))
    assert edits(planned) == ({}, frozenset())
    assert edits(plan_of(step("tenant/t"), step("network/n", Action.SKIP)))[1] == {Ref("network", "n")}


def test_kinds_of_a_selection_are_checked(tmp_path: Path) -> None:
    data = sample()
    data["data"]["selection"] = {"only": ["imge"], "skip": ["server"], "resources": ["servr/s"]}
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert "unknown kind 'imge'; did you mean 'image'?" in str(caught.value)
    assert "unknown kind 'servr'; did you mean 'server'?" in str(caught.value)
    assert len(caught.value.problems) == 2


def test_unedited_plan_has_no_edits() -> None:
    renamed = step("network/12345678ab", name="n-12345678", called="n", reason="on_conflict is rename: x")
    blocked = step("server/b", needs=(Ref("flavor", "gone"),))
    skipped = step("server/c", Action.SKIP, skip="it is shelved")
    assert edits(plan_of(*BASE, renamed, blocked, skipped)) == ({}, frozenset())


def test_edits_are_names_and_what_is_left_out() -> None:
    renamed = step("network/12345678ab", name="n", called="n", reason="on_conflict is rename: x")
    plan = plan_of(
        *BASE,
        step("image/i", Action.SKIP),
        step("image/j", Action.SKIP, reason=LEFT_OUT, needs=(Ref("image", "i"),)),
        step("network/m", name="other"),
        renamed,
        left_out=(Ref("keypair", "k"),),
    )
    names, left_out = edits(plan)
    assert names == {Ref("network", "m"): "other", renamed.ref: "n"}
    assert left_out == {Ref("keypair", "k"), Ref("image", "i"), Ref("image", "j")}


def status(value: object) -> Step:
    return replace(SERVER, record=replace(SERVER.record, data={"name": "web", "status": value}))


def flavor(action: Action, to: str | None = None, reason: str = "why", **record: Any) -> Step:
    return step("flavor/f", action, to=to, reason=reason, needs=(TENANT,), **record)


CHANGES: list[tuple[Step, Step | None, str]] = [
    (SERVER, status("SHUTOFF"), "server web: status was 'ACTIVE', is 'SHUTOFF'"),
    (SERVER, status(None), "server web: status was 'ACTIVE', is None"),
    (SERVER, status("x" * 200), "server web: status is not what it was"),
    (
        replace(SERVER, record=replace(SERVER.record, data={"metadata": {"a": 1, "b": 2, "c": 3}})),
        replace(SERVER, record=replace(SERVER.record, data={"metadata": {"a": 1, "b": 3, "d": 4}})),
        "server web: metadata.b was 2, is 3, metadata.c was 3, is None, metadata.d was None, is 4",
    ),
    (
        replace(SERVER, record=replace(SERVER.record, data={**SERVER.record.data, "tags": []})),
        replace(SERVER, record=replace(SERVER.record, data={**SERVER.record.data, "tags": ["a"]})),
        "server web: tags was [], is ['a']",
    ),
    (SERVER, None, "server web is not at the source any more"),
    (
        SERVER,
        replace(SERVER, action=Action.SKIP, record=replace(SERVER.record, skip="it is shelved")),
        "server web: it cannot be migrated now: it is shelved",
    ),
    (
        replace(SERVER, action=Action.SKIP, record=replace(SERVER.record, skip="it is shelved")),
        SERVER,
        "server web: it can be migrated now, which it could not: it is shelved",
    ),
    (
        flavor(Action.CREATE),
        flavor(Action.REUSE, "12ab"),
        "flavor f: the plan creates it, but the destination has one now (12ab)",
    ),
    (
        flavor(Action.CREATE),
        flavor(Action.CREATE, "12ab"),
        "flavor f: the plan creates it, but the destination has one now (12ab)",
    ),
    (
        flavor(Action.CREATE, "12ab"),
        flavor(Action.REUSE, "12ab"),
        "flavor f: the plan finishes 12ab, which is complete now",
    ),
    (
        flavor(Action.CREATE, "12ab"),
        flavor(Action.CREATE),
        "flavor f: the plan finishes 12ab, which is not at the destination any more",
    ),
    (
        flavor(Action.REUSE, "12ab"),
        flavor(Action.CREATE),
        "flavor f: the plan reuses 12ab, which is not at the destination any more",
    ),
    (
        flavor(Action.REUSE, "12ab"),
        flavor(Action.REUSE, "34cd"),
        "flavor f: the plan reuses 12ab, but what fits at the destination is 34cd now",
    ),
    (
        flavor(Action.REUSE, "12ab"),
        flavor(Action.CREATE, "12ab", "no access"),
        "flavor f: the plan reuses 12ab, which is not complete now: no access",
    ),
]


@pytest.mark.parametrize(("one", "other", "sentence"), CHANGES, ids=[item[2] for item in CHANGES])
def test_change_is_one_sentence(one: Step, other: Step | None, sentence: str) -> None:
    assert changed(one, one) == ()
    assert changed(one, other) == (sentence,)


def test_what_is_new_at_the_source() -> None:
    now = plan_of(*BASE, step("server/d", called="db"))
    assert changes(plan_of(*BASE), now) == ("server db is new at the source since the plan was made",)


def test_what_is_to_be_said_of_many_is_said_once_and_a_stale_plan_fills_no_screen(tmp_path: Path) -> None:
    now = plan_of(*BASE, *(step(f"image/i{n:03}") for n in range(200)))
    (sentence,) = changes(plan_of(*BASE), now)
    assert sentence == (
        "200 resources (image i000, image i001, image i002 and 197 more): new at the source since the plan was made"
    )
    error = StalePlanError("my plan.yaml", [f"change {n}" for n in range(9)])
    assert str(error).splitlines()[-2:] == ["change 5", "and 3 more changes"]
    assert error.hint == "see all changes, and keep your edits, with: pumphouse plan refresh 'my plan.yaml'"


def test_conflict_comes_with_what_it_blocks_and_goes() -> None:
    assert changed(flavor(Action.CREATE), flavor(Action.CONFLICT, reason="another one")) == (
        "flavor f: is in conflict now: another one",
        "server web: would be skipped now: needs flavor f, which is in conflict",
    )
    assert changed(flavor(Action.CONFLICT, reason="another one"), flavor(Action.CREATE)) == (
        "flavor f: was in conflict and is not any more: another one",
        "server web: was skipped and would be created now: needs flavor f, which is in conflict",
    )


def left_out(*steps: Step, **fields: Any) -> Plan:
    return plan_of(*(replace(item, action=Action.SKIP, reason=LEFT_OUT) for item in steps), **fields)


def test_what_is_left_out_is_no_change_whatever_became_of_it() -> None:
    skipped = replace(SERVER, action=Action.SKIP)
    planned = plan_of(*BASE[:2], skipped)
    for now in (status("SHUTOFF"), replace(SERVER, action=Action.SKIP, reason=LEFT_OUT)):
        assert changes(planned, plan_of(*BASE[:2], now)) == ()
    assert changes(planned, plan_of(*BASE[:2])) == ()
    deleted = plan_of(*BASE[:2], left_out=(SERVER.ref,))
    assert changes(deleted, plan_of(*BASE[:2], replace(SERVER, action=Action.SKIP, reason=LEFT_OUT))) == ()


def test_chosen_name_is_no_change_but_what_it_meets_is() -> None:
    mine = replace(flavor(Action.REUSE, "12ab"), name="mine")
    assert changed(mine, replace(flavor(Action.CREATE), name="mine")) == ()
    resolved = replace(flavor(Action.CONFLICT), name="mine")
    assert edits(plan_of(resolved))[0] == {FLAVOR.ref: "mine"}
    created = replace(flavor(Action.CREATE), name="mine")
    assert changed(created, replace(flavor(Action.REUSE, "34cd"), name="mine")) == (
        "flavor f: the plan creates it, but the destination has one now (34cd)",
    )


@pytest.mark.parametrize(
    "now", [flavor(Action.CONFLICT), flavor(Action.CREATE), flavor(Action.REUSE, "34cd")]
)
def test_edited_mapping_may_change_decisions(now: Step) -> None:
    assert changed(flavor(Action.REUSE, "12ab"), now, edited=True) == ()


def test_edited_mapping_hides_no_change_at_the_source_and_no_loss() -> None:
    assert changed(SERVER, status("SHUTOFF"), edited=True) == (
        "server web: status was 'ACTIVE', is 'SHUTOFF'",
    )
    assert changed(SERVER, None, edited=True) == ("server web is not at the source any more",)
    reused = replace(SERVER, action=Action.REUSE, destination_id="9")
    assert changed(reused, SERVER, edited=True) == (
        "server web: the plan reuses 9, which is not at the destination any more",
    )


def test_edited_policy_may_need_other_resources_but_hides_no_new_ones() -> None:
    kernel = step("image/k")
    image = step("image/i", needs=(kernel.ref,))
    booted = replace(SERVER, record=replace(SERVER.record, needs=(*SERVER.record.needs, image.ref)))
    small, large = plan_of(*BASE), plan_of(*BASE[:2], booted, image, kernel)
    assert changes(small, large, edited=True) == ()
    assert changes(large, small, edited=True) == ()
    assert changes(small, large) == (
        "2 resources (image k, image i): new at the source since the plan was made",
    )
    assert changes(small, plan_of(*BASE, step("image/z")), edited=True) == (
        "image z is new at the source since the plan was made",
    )


def test_edited_settings_are_noticed(tmp_path: Path) -> None:
    data = sample()
    save({**data, "notes": []}, tmp_path / "p.yaml")
    assert not load(tmp_path / "p.yaml").edited
    about = {**data["data"], "mappings": {**data["data"]["mappings"], "flavors": {"f": "large"}}}
    save({**data, "data": about}, tmp_path / "p.yaml")
    assert load(tmp_path / "p.yaml").edited


# The graph.


def test_graph_has_a_node_for_each_unit_and_an_edge_for_each_need() -> None:
    lines = plan_dot(SAMPLE).splitlines()
    assert lines[0] == "digraph plan {"
    assert lines[-1] == "}"
    assert '  u4 [label="image i\\n1 create\\nat most 3.0 MiB", fillcolor=palegreen];' in lines
    assert '  u2 [label="flavor f\\n1 reuse", fillcolor=lightblue];' in lines
    assert '  u5 [label="network n\\n2 create", fillcolor=palegreen];' in lines
    assert "  u0 -> u1;" in lines
    assert sum(" -> " in line for line in lines) == sum(len(unit.needs) for unit in SAMPLE.units)


def test_graph_quotes_what_anybody_may_be_called() -> None:
    odd = step("tenant/t", called='a"b\\n&lt;<i>\n\x1b')
    assert 'label="tenant a\\"b\\\\n&amp;lt;<i>\\\\n\\\\x1b\\n1 create"' in plan_dot(plan_of(odd))


def test_colour_is_what_matters_most() -> None:
    unit = Unit("network/n", (step("network/n"), step("subnet/s", Action.CONFLICT)))
    assert "fillcolor=salmon" in plan_dot(replace(SAMPLE, units=(unit,)))

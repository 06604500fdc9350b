"""What `python -m build` makes is all that an operator needs, away from the checkout."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from zipfile import ZipFile

from tests.package.conftest import ROOT, Built, Run

DATA = (
    "config.example.yaml",
    "py.typed",
    "schemas/check.json",
    "schemas/config.json",
    "schemas/ids.json",
    "schemas/plan.json",
    "schemas/run.json",
    "schemas/runs.json",
    "schemas/verification.json",
    "show/report.html",
)
BROKEN = """\
source: {auth: {auth_url: "https://old.example.com/v3", username: admin, password: old, project_name: admin}}
destination: {auth: {auth_url: "https://new.example.com/v3", username: admin, password: new, project_name: admin}}
policies:
  on_conflict: perhaps
"""
PLAN = {
    "format": 1,
    "key": "589546bffc33",
    "cfg": {},
    "data": {
        "tenant": {"id": "3f2a", "name": "shop"},
        "source": "source https://old.example.com/v3",
        "destination": "destination https://new.example.com/v3",
        "settings_digest": "4567",
        "resources": ["tenant/3f2a"],
    },
    "units": [
        {
            "name": "tenant/3f2a",
            "steps": [
                {
                    "kind": "tenant",
                    "id": "3f2a",
                    "name": "shop",
                    "action": "create",
                    "reason": "not at the destination",
                    "record": {"name": "shop", "data": {"name": "shop"}},
                }
            ],
        }
    ],
}


def test_the_wheel_holds_what_is_not_code_and_no_tests(built: Built) -> None:
    with ZipFile(built.wheel) as wheel:
        names = set(wheel.namelist())
        example = wheel.read("pumphouse/config.example.yaml").decode()
        assert [name for name in names if name.endswith("dist-info/licenses/LICENSE")]
    assert {f"pumphouse/{name}" for name in DATA} <= names
    assert example == (ROOT / "config.example.yaml").read_text()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"pumphouse"}
    assert "License: Apache-2.0" in built.metadata()


def test_the_sdist_holds_what_a_release_is_checked_with(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    needed = {
        "LICENSE",
        "CHANGELOG.md",
        "config.example.yaml",
        "constraints.txt",
        "requirements.txt",
        "tox.ini",
    }
    assert needed <= names
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "pumphouse").rglob("*.py")} <= names
    assert "tests/package/test_wheel.py" in names


def test_the_installed_command_tells_the_version_of_the_wheel(run: Run, built: Built) -> None:
    result = run("--version")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] == built.wheel.name.split("-")[1]


def test_a_broken_configuration_is_one_message_with_its_line(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "broken.yaml"
    config.write_text(BROKEN)
    config.chmod(0o600)
    result = run("check", "--config", str(config))
    assert result.returncode == 2, result.stderr
    message, hint = result.stderr.splitlines()
    assert message.startswith(f"error: {config}:4: policies.on_conflict is 'perhaps'")
    assert hint == "hint: config.example.yaml explains every setting"


def test_the_example_of_the_package_is_read_up_to_the_secrets_that_it_asks_for(
    run: Run, built: Built
) -> None:
    with ZipFile(built.wheel) as wheel:
        config = wheel.extract("pumphouse/config.example.yaml", built.wheel.parent)
    result = run("check", "--config", config)
    assert result.returncode == 2, result.stderr
    assert "OLD_PASSWORD" in result.stderr


def test_a_plan_is_shown(run: Run, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(json.dumps(PLAN))
    result = run("plan", "show", str(plan))
    assert result.returncode == 0, result.stderr
    assert "create   tenant shop" in result.stdout

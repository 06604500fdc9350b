"""The locked set is for what the wheel requires, and what is newer than it is told."""

from __future__ import annotations

import subprocess
from email.parser import HeaderParser

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench import newer
from tests.package.conftest import CONSTRAINTS, Built

LOCKED = CONSTRAINTS.read_text()
PINS = [Requirement(line) for line in LOCKED.splitlines() if not line.lstrip().startswith("#")]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_each_requirement_and_extra_is_locked_at_one_version_that_it_allows(
    built: Built, python: str
) -> None:
    required = [
        Requirement(line) for line in HeaderParser().parsestr(built.metadata()).get_all("Requires-Dist")
    ]
    assert {"taskflow", "kazoo", "pytest", "ruff", "tox"} <= {item.name for item in required}
    here = {"python_version": python, "python_full_version": f"{python}.0"}
    for item in required:
        name = canonicalize_name(item.name)
        found = [pin for pin in PINS if pin.name == name and (not pin.marker or pin.marker.evaluate(here))]
        assert len(found) == 1, item
        (version,) = found[0].specifier
        assert version.operator == "=="
        assert item.specifier.contains(version.version), item


def test_a_locked_set_names_the_command_that_makes_it_and_no_place() -> None:
    assert newer.command(LOCKED)[:3] == ["pip", "compile", "setup.py"]
    assert "--output-file" not in newer.command(LOCKED)
    assert "//" not in LOCKED
    assert not [line for line in LOCKED.splitlines() if line.startswith("-")]


LOCKED_BEFORE = """\
#    uv pip compile setup.py --output-file constraints.txt
click==8.4.0
    # via pumphouse (setup.py)
networkx==3.5 ; python_full_version < '3.12'
networkx==3.6 ; python_full_version >= '3.12'
"""
BEFORE = newer.pins(LOCKED_BEFORE)


def test_what_is_newer_is_told_by_package_and_python() -> None:
    after = newer.pins(LOCKED_BEFORE.replace("==8.4.0", "==8.5.0").replace("==3.6 ", "==3.7 "))
    assert list(newer.newer(BEFORE, after)) == [
        "click: 8.4.0 is locked, 8.5.0 is the newest",
        "networkx ; python_full_version >= '3.12': 3.6 is locked, 3.7 is the newest",
    ]
    assert list(newer.newer(BEFORE, BEFORE)) == []


def test_a_package_that_comes_in_is_told() -> None:
    assert list(newer.newer(BEFORE, {**BEFORE, "rich": "15"})) == ["rich: none is locked, 15 is the newest"]


def test_upper_bounds_are_left_out_alone() -> None:
    assert (
        newer.without_upper_bounds("# a, b\nPyYAML>=6.0.2,<7\nclick>=8.1\n")
        == "# a, b\nPyYAML>=6.0.2\nclick>=8.1\n"
    )


@pytest.mark.parametrize(("code", "said"), [(0, "green"), (3, "red")])
def test_the_tests_decide_the_exit_code_and_run_only_with_something_newer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, said: str
) -> None:
    runs = []

    def run(words: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[str]:
        runs.append(words)
        return subprocess.CompletedProcess(words, code, newest)

    monkeypatch.setattr(newer.subprocess, "run", run)
    newest = LOCKED
    assert newer.main([]) == 0
    assert newer.TESTS not in runs
    newest = LOCKED.replace("taskflow==", "taskflow==9")
    assert newer.main(["--list"]) == 0
    assert newer.TESTS not in runs
    assert newer.main([]) == code
    assert runs[-1] == newer.TESTS
    assert f"{said} with the newest releases" in capsys.readouterr().out

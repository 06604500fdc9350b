"""The commands in README.md and docs/tutorial.md: what they print is on the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import samples
from bench.terminal import Ran
from lab import Lab

# What the test does not run, in the `sh` blocks of the pages, and why.
CLOUDS = "boots, or takes down, clouds: the test has some already"
NOT_RUN = {
    "python3 -m venv .venv": "sets up what the test runs in",
    "python3 -m venv ~/pumphouse": "sets up what the test runs in",
    ". .venv/bin/activate": "sets up what the test runs in",
    "pip install -c constraints.txt -e '.[lab]'": "sets up what the test runs in",
    "~/pumphouse/bin/pip install -c constraints.txt .": "tests/package installs so",
    "~/pumphouse/bin/pumphouse --version": "tests/package runs what is installed so",
    "pipx install .": "tests/package installs a wheel; pipx is not on every machine",
    ".venv/bin/pip install -c constraints.txt tox": "sets up what the test runs in",
    ".venv/bin/tox -e demo": CLOUDS,
    ".venv/bin/tox -e demo -- --from zed": CLOUDS,
    ".venv/bin/tox": "runs this test",
    "python -m lab up": CLOUDS,
    "export OS_CLIENT_CONFIG_FILE=$(python -m lab clouds)": "each command of the test is given the variable",
    "python -m lab down --purge": CLOUDS,
}


# Both together take more than two minutes, and the tutorial has little that the first page has not.
PAGES = [
    pytest.param(page, id=page.stem, marks=[pytest.mark.exhaustive] if page.stem == "tutorial" else [])
    for page in samples.PAGES
]


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_is_what_its_commands_print(lab: Lab, page: Path) -> None:
    for sample, ran in samples.run(lab, page):
        if difference := sample.difference(ran):
            pytest.fail(difference)  # which says all of it, unlike an assertion


def test_no_command_of_a_page_is_left_out_unsaid() -> None:
    pages = [page.read_text() for page in samples.PAGES]
    assert {command for page in pages for command in samples.commands(page, "sh")} == set(NOT_RUN)
    for page in pages:
        outside = re.sub(r"(?ms)^ *```(console|sh)$.*?^ *```$", "", page)
        # What has a <placeholder> says how a command is called.
        assert re.findall(r"(?m)^(?: {4,}|\$ )(?:\$ )?(?:pumphouse|tox|pip|python) [^<]*$", outside) == []


def test_an_elision_is_anything_and_nothing() -> None:
    assert samples.Sample("x", ("...",)).difference(Ran([], 0)) == ""
    assert samples.Sample("x", ("...",)).difference(Ran(["a", "b"], 0)) == ""
    assert samples.Sample("x", ("a", "...", "b", "...")).difference(Ran(["a b"], 0)) == ""
    assert samples.Sample("x", ("a", "...", "b", "...", "c")).difference(Ran(["a", "c"], 0)) != ""
    assert samples.Sample("x", ()).difference(Ran(["a"], 0)) != ""


SAMPLE = samples.Sample(
    "pumphouse runs list",
    ("created   b", "created   a: 1a2b3c4d", "...", "it took 7 s", "    in all"),
)


@pytest.mark.parametrize(
    ("printed", "is_same"),
    [
        ("created   a: 99999999\ncreated   b\nread x\nit took\n12 min in all", True),
        ("created   b\ncreated   a: 99999999\nit took 1 s in all", True),
        ("created   b\nit took 7 s in all", False),
        ("created   b\ncreated   a: 99999999\nit took 1 s in all\nand more", False),
    ],
    ids=["others ids, order and breaks", "nothing left out", "a line is missing", "a line too many"],
)
def test_a_difference_is_noticed(printed: str, is_same: bool) -> None:
    assert (SAMPLE.difference(Ran(printed.splitlines(), 0)) == "") is is_same
    assert "exit code 3" in SAMPLE.difference(Ran(printed.splitlines(), 3))

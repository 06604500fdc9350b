"""The pages that are made of the code: configuration, formats, exit codes."""

from __future__ import annotations

import re

from bench.reference import meanings, pages, settings
from bench.terminal import ROOT


def test_the_pages_are_those_of_the_code() -> None:
    for path, text in pages().items():
        assert path.read_text() == text, f"{path.name}: make it again with python -m bench.reference"


def test_every_setting_is_explained() -> None:
    known = {(section, name) for section, rules in settings().items() for name in rules}
    said = meanings()
    assert known <= said.keys() | {("source, destination", "auth")}
    assert [key for key in known if key in said and not said[key].endswith(".")] == []


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            found = (page.parent / path) if path else page
            assert found.exists(), f"{page.name} leads to {target}"
            headings = re.findall(r"(?m)^#+ (.*)$", found.read_text()) if anchor else []
            assert not anchor or anchor in map(_anchor, headings), f"{page.name} leads to {target}"


def test_the_index_leads_to_every_page() -> None:
    docs = ROOT / "docs"
    linked = set(re.findall(r"\]\(([^)#\s]+)\)", (docs / "README.md").read_text()))
    assert {page.name for page in docs.glob("*.md")} - {"README.md"} <= linked


def _anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")

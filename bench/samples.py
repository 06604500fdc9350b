"""The samples of README.md and docs/tutorial.md: commands that are run in a lab, and what they print.

    python -m lab up
    python -m bench.samples --lab DIRECTORY

runs each `console` block of both pages and writes down what its commands print now. In a block `...` stands for any
lines, and stays; what is in `sh` blocks is not run. tests/real/test_samples.py compares instead of writing.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from bench.terminal import ROOT, Ran, Terminal
from lab import Lab
from lab.layout import default_dir
from lab.populate import populate
from lab.sample.base import connect
from lab.sample.inventory import remove_tenant
from lab.sample.sizes import Sizes

TENANT = "shop"
# Whether the tenant is there before the first command.
PAGES = {ROOT / "README.md": True, ROOT / "docs" / "tutorial.md": False}
ELISION = "..."
_BLOCK = re.compile(r"(?ms)^(?P<indent> *)```(?P<kind>console|sh)\n(?P<text>.*?)^ *```$")
# Lines that come in another order each time.
_UNORDERED = re.compile(r"(created|reused|reverted|read) ")
# What is told every half minute of a run that takes long, with the lines that it goes on in.
_STATUS = re.compile(r"(?m)^\d\d:\d\d:\d\d .*\n(?:    .*\n)*")
# What is another one each time: ids and hashes, addresses and ports, times and amounts.
_CHANGING = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"(?:[0-9a-f]+-){4}[0-9a-f]{12}|\b(?=[a-f]*\d)[0-9a-f]{8,}\b", "ID"),
        (r"\d+\.\d+\.\d+\.\d+(?::\d+)?", "ADDRESS"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
        (r"[-+]?\d[\d,]*(?:\.\d+)? (?:s|min|h|bytes|[KMGT]iB)\b", "AMOUNT"),
        (r"AMOUNT(?: AMOUNT)+", "AMOUNT"),
    )
]


@dataclass(frozen=True)
class Sample:
    """A command of a page, and the lines below it."""

    command: str
    lines: tuple[str, ...]

    def difference(self, ran: Ran) -> str:
        """What a run has done that the page does not say; empty where there is nothing."""
        if ran.code:
            return "\n".join([f"$ {self.command}", *ran.lines, f"has ended with exit code {ran.code}"])
        if _is_in(list(map(_words, _parts(self.lines))), _words(ran.lines)):
            return ""
        return "\n".join([f"$ {self.command}", *ran.lines, "is on the page:", *self.lines])

    def renewed(self, ran: Ran) -> Sample:
        """The sample with what a run has printed, if that is another; elisions stay where what is around them was found."""
        if not self.difference(ran):
            return self
        parts = _parts(self.lines)
        if len(parts) == 1:
            return Sample(self.command, tuple(ran.lines))
        kept: list[str] = []
        place = 0
        for number, part in enumerate(parts):
            kept += [ELISION] if number else []
            found = _place(ran.lines, part, place) if part else (place, place)
            if found is None:
                return Sample(self.command, tuple(ran.lines))
            kept += ran.lines[slice(*found)]
            place = found[1]
        return Sample(self.command, tuple(kept))


def commands(page: str, kind: str) -> list[str]:
    """The commands in the blocks of a kind, `console` or `sh`."""
    return [
        line.removeprefix("$ ")
        for block in _BLOCK.finditer(page)
        for line in _text(block).splitlines()
        if block["kind"] == kind and (kind == "sh" or line.startswith("$ "))
    ]


def samples(page: str) -> list[Sample]:
    """The samples of a page, in their order."""
    return [sample for block in _console_blocks(page) for sample in _samples(_text(block))]


def run(lab: Lab, page: Path) -> Iterator[tuple[Sample, Ran]]:
    """Run the samples of a page, each when it is asked for; the tenant is removed from both clouds afterwards."""
    try:
        if PAGES[page]:
            populate(lab.clouds_yaml, TENANT, Sizes.small())
        with tempfile.TemporaryDirectory() as home:
            terminal = Terminal(lab, Path(home))
            for sample in samples(page.read_text()):
                lines, code = terminal.run(sample.command)
                text = _STATUS.sub("", "".join(f"{line}\n" for line in lines))
                yield sample, Ran(text.splitlines(), code)
    finally:
        for cloud in ("source", "destination"):
            remove_tenant(connect(lab.clouds_yaml, cloud), TENANT)


def main() -> None:
    """Write down what the samples print now."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lab", type=Path, default=default_dir())
    lab = Lab(parser.parse_args().lab)
    for page in PAGES:
        renewed = []
        for sample, ran in run(lab, page):
            print(f"$ {sample.command}", flush=True)
            renewed.append(sample.renewed(ran))
            if ran.code:
                raise SystemExit(sample.difference(ran))
        page.write_text(_replaced(page.read_text(), renewed))


def _replaced(page: str, renewed: Sequence[Sample]) -> str:
    rest = iter(renewed)

    def block_text(block: re.Match[str]) -> str:
        if block["kind"] != "console":
            return block[0]
        lines = [
            line
            for _ in _samples(_text(block))
            for sample in [next(rest)]
            for line in (f"$ {sample.command}", *sample.lines)
        ]
        indent = block["indent"]
        text = "".join(f"{indent}{line}".rstrip() + "\n" for line in lines)
        return f"{indent}```console\n{text}{indent}```"

    return _BLOCK.sub(block_text, page)


def _console_blocks(page: str) -> Iterator[re.Match[str]]:
    return (block for block in _BLOCK.finditer(page) if block["kind"] == "console")


def _text(block: re.Match[str]) -> str:
    """What is in a block, without the indent that it has in a list."""
    return re.sub(rf"(?m)^{block['indent']}", "", block["text"])


def _samples(text: str) -> list[Sample]:
    found = [part.splitlines() for part in re.split(r"(?m)^\$ ", text)[1:]]
    return [Sample(command, tuple(lines)) for command, *lines in found]


def _parts(lines: Sequence[str]) -> list[list[str]]:
    """The lines between the elisions; an elision at the beginning or at the end has an empty part beside it."""
    parts: list[list[str]] = [[]]
    for line in lines:
        if line.strip() == ELISION:
            parts.append([])
        else:
            parts[-1].append(line)
    return parts


def _is_in(parts: Sequence[list[str]], words: list[str]) -> bool:
    """Whether words are these parts, with any words between one and the next."""
    first, *others = parts
    if not others:
        return words == first
    *middle, last = others
    if words[: len(first)] != first or words[len(words) - len(last) :] != last:
        return False
    place, end = len(first), len(words) - len(last)
    for part in middle:
        starts = range(place, end - len(part) + 1)
        start = next((start for start in starts if words[start : start + len(part)] == part), end)
        place = start + len(part)
    return place <= end


def _words(lines: Sequence[str]) -> list[str]:
    """The words of lines, without what is another one each time: not even the breaks of lines are the same."""
    ordered = [
        line
        for is_unordered, group in groupby(lines, key=lambda line: bool(_UNORDERED.match(line)))
        for line in (sorted(group) if is_unordered else group)
    ]
    text = " ".join(ordered)
    for pattern, name in _CHANGING:
        text = pattern.sub(name, text)
    return text.split()


def _place(lines: Sequence[str], part: Sequence[str], begin: int) -> tuple[int, int] | None:
    """Where a part of a sample is in what was printed, by its first and its last line."""
    words = [_words([line]) for line in lines]
    first, last = _words([part[0]]), _words([part[-1]])
    starts = (number for number in range(begin, len(lines)) if words[number] == first)
    for start in starts:
        for end in range(start, len(lines)):
            if words[end] == last and (end > start or len(part) == 1):
                return start, end + 1
    return None


if __name__ == "__main__":
    main()

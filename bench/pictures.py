"""Pictures of real runs: the terminal as SVG, the report of a run as screenshots at the width of a phone and of a screen.

    python -m lab up
    python -m bench.pictures --lab DIRECTORY

moves a sample tenant of the lab and writes docs/pictures/. It needs Chromium (apt-get install chromium) and the extra `dev`.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyte
from PIL import Image
from rich.console import Console
from rich.style import Style
from rich.text import Text

from bench.terminal import COLUMNS, ROOT, Terminal
from lab import Lab
from lab.layout import default_dir
from lab.populate import populate
from lab.sample.base import connect
from lab.sample.inventory import remove_tenant
from lab.sample.sizes import Sizes

FOLDER = ROOT / "docs" / "pictures"
TENANT = "shop"
# Enough to see what is beside what, and not so much that a picture has to be scrolled.
SIZES = Sizes(users=2, images=3, networks=2, security_groups=2, volumes=2, servers=3, boot_from_volume=False)
ROWS = 30
# Pixels, as far as a screenshot goes down.
SHOTS = {"report-375": (375, 2000), "report-1600": (1600, 1800)}
# Without these, Chromium looks for hosts of its maker at each start.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
# A copy that is under way.
_COPYING = re.compile(r"%.*[KMG]iB/s.*:\d\d$", re.MULTILINE)
# rich's pictures load a font from elsewhere.
_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_COLOURS = {"brown": "yellow"}


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lab", type=Path, default=default_dir())
    lab = Lab(parser.parse_args().lab)
    FOLDER.mkdir(exist_ok=True)
    try:
        populate(lab.clouds_yaml, TENANT, SIZES)
        with tempfile.TemporaryDirectory() as home:
            _take(Terminal(lab, Path(home), "xterm-256color", ROWS))
    finally:
        for cloud in ("source", "destination"):
            remove_tenant(connect(lab.clouds_yaml, cloud), TENANT)


def _take(terminal: Terminal) -> None:
    _last(terminal, "pumphouse init")
    plan = f"pumphouse migrate tenant {TENANT} --dry-run --summary"
    _draw("plan", plan, _last(terminal, plan))
    # With whom the sample tenant shares a network is not at the destination.
    migrate = f"pumphouse migrate tenant {TENANT} --skip rbac_policy --yes"
    screens = list(_screens(terminal, migrate))
    _draw("progress", migrate, max(screens, key=lambda screen: len(_COPYING.findall(screen.plain))))
    _draw("end", migrate, screens[-1])
    _last(terminal, "pumphouse report last -o report.html")
    for name, (width, height) in SHOTS.items():
        shoot(terminal.home / "report.html", FOLDER / f"{name}.png", width, height)


def shoot(page: Path, picture: Path, width: int, height: int, *flags: str) -> None:
    """Make a screenshot of a page."""
    browser = shutil.which("chromium")
    if browser is None:
        raise SystemExit("there is no Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        shot = f"--screenshot={picture}", f"--window-size={width},{height}", f"--user-data-dir={profile}"
        subprocess.run([browser, *FLAGS, *flags, *shot, page.as_uri()], check=True, capture_output=True)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(256).save(picture, optimize=True)


def _screens(terminal: Terminal, command: str) -> Iterator[Text]:
    """What the terminal shows, each time that it has changed."""
    print(f"$ {command}", flush=True)
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    process, ours = terminal.start(command)
    with suppress(OSError):
        while data := os.read(ours, 1 << 16):
            stream.feed(data)
            yield _shown(screen, str(terminal.home))
    os.close(ours)
    yield _shown(screen, str(terminal.home))
    if code := process.wait():
        raise SystemExit(f"{command} has ended with exit code {code}")


def _last(terminal: Terminal, command: str) -> Text:
    *_, last = _screens(terminal, command)
    return last


def _shown(screen: pyte.Screen, home: str) -> Text:
    """A screen with its colours, down to its last line that has something; the home is called `~`."""
    lines = []
    for number in range(ROWS):
        line = Text()
        for column in range(COLUMNS):
            cell = screen.buffer[number][column]
            colour = None if cell.fg == "default" else _COLOURS.get(cell.fg, cell.fg)
            line.append(cell.data, Style(color=colour, bold=cell.bold, italic=cell.italics))
        line.rstrip()
        before, found, _ = line.plain.partition(home)
        lines.append(line[: len(before)] + Text("~") + line[len(before) + len(home) :] if found else line)
    while lines and not lines[-1]:
        lines.pop()
    return Text("\n").join(lines)


def _draw(name: str, title: str, screen: Text) -> None:
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), color_system="standard", force_terminal=True
    )
    console.print(screen)
    svg = _FONT_FACE.sub("", console.export_svg(title=title, unique_id=name))
    (FOLDER / f"{name}.svg").write_text(svg)


if __name__ == "__main__":
    main()

"""Say which locked packages have newer releases, and whether lint and tests are green with them.

Resolves anew by the command that constraints.txt names, and compares. If something is newer, `tox -e newest` runs:

    pip install -c constraints.txt -e '.[dev]' && python -m bench.newer

Exit code 0 when nothing is newer or all is green with it, else that of tox. `--list` leaves the tests out.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKED = ROOT / "constraints.txt"
REQUIREMENTS = ROOT / "requirements.txt"
TESTS = (sys.executable, "-m", "tox", "-e", "newest")

# A package has several versions where Python's own matters: networkx==3.6.1 ; python_full_version < '3.12'
_PIN = re.compile(r"(?P<package>[\w.-]+)==(?P<version>[^\s;]+)(?: ; (?P<where>.+))?")
_HEADER = "#    uv "
Pins = dict[str, str]


def main(arguments: list[str]) -> int:
    """Print a line for each package with a newer release, then run the tests with all of them."""
    locked = LOCKED.read_text()
    allowed = pins(_resolve(command(locked)))
    found = [
        *newer(pins(locked), allowed),
        *(f"{line}, left out by requirements.txt" for line in newer(allowed, _unbounded(locked))),
    ]
    print("\n".join(found) or "nothing is newer than what is locked", flush=True)
    if not found or "--list" in arguments:
        return 0
    code = subprocess.run(TESTS, cwd=ROOT).returncode
    print(f"{'red' if code else 'green'} with the newest releases that requirements.txt allows")
    return code


def command(locked: str) -> list[str]:
    """The command that a locked set names in its header, without the file that it writes to."""
    (line,) = (line for line in locked.splitlines() if line.startswith(_HEADER))
    words = shlex.split(line.removeprefix(_HEADER))
    output = words.index("--output-file")
    return words[:output] + words[output + 2 :]


def pins(locked: str) -> Pins:
    """The versions of a locked set, by the package and where it is for."""
    found = (_PIN.fullmatch(line) for line in locked.splitlines())
    return {" ; ".join(filter(None, pin.group("package", "where"))): pin["version"] for pin in found if pin}


def newer(old: Pins, new: Pins) -> Iterator[str]:
    """A line for each package of the new set that the old one has in another version or not at all."""
    for package, version in new.items():
        if version != old.get(package):
            yield f"{package}: {old.get(package, 'none')} is locked, {version} is the newest"


def without_upper_bounds(requirements: str) -> str:
    """Requirements that leave no newer release out."""
    return re.sub(r",<\S+", "", requirements)


def _unbounded(locked: str) -> Pins:
    """What would be installed if requirements.txt had no upper bounds."""
    sources = {"setup.py": ["-"], "--all-extras": []}
    words = [word for name in command(locked) for word in sources.get(name, [name])]
    return pins(_resolve(words, without_upper_bounds(REQUIREMENTS.read_text())))


def _resolve(words: list[str], given: str = "") -> str:
    uv = (sys.executable, "-m", "uv", "--system-certs", *words)
    return subprocess.run(uv, cwd=ROOT, input=given, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A migration as its operator sees it, at 80 columns: docs/session.md, made of real commands against a lab.

    python -m lab up
    python -m bench.session --lab DIRECTORY

The tenant is made for it and removed afterwards, on both sides.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from lab import Lab
from lab.layout import default_dir
from lab.populate import populate
from lab.sample.base import Sizes, connect
from lab.sample.inventory import remove_tenant

PAGE = Path(__file__).parents[1] / "docs" / "session.md"
TENANT = "shop"
COLUMNS, ROWS = 80, 24
ABOVE = f"""# A migration, as its operator sees it

A small tenant moves between the two clouds of the lab; then it is compared, and the run is taken back. Made by
`python -m bench.session` of real commands, on a terminal of {COLUMNS} columns that
knows no colours.
"""


class Session:
    """Runs commands and writes down what they print.

    home: the folder that the configuration, the runs and the log are in.
    """

    def __init__(self, lab: Lab, home: Path) -> None:
        self.home, self.text = home, ABOVE
        (home / "pumphouse.yaml").write_text(
            f"clouds_file: {lab.clouds_yaml}\nsource: {{cloud: source}}\ndestination: {{cloud: destination}}\n"
        )
        self.environment = {**os.environ, "HOME": str(home), "TERM": "dumb"}
        for name in ("COLUMNS", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "PUMPHOUSE_CONFIG"):
            self.environment.pop(name, None)

    def run(self, title: str, *arguments: str, until: Callable[[str], bool] | None = None) -> None:
        """Run a command of pumphouse to its end.

        until: the line after which Ctrl-C is pressed.
        """
        print(title, flush=True)
        ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, (ROWS, COLUMNS))
        process = subprocess.Popen(
            [sys.executable, "-m", "pumphouse", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            cwd=self.home,
            env=self.environment,
        )
        os.close(theirs)
        said = f"$ pumphouse {' '.join(arguments)}\n"
        for line in _lines(ours):
            said += line.replace(str(self.home), "~").rstrip() + "\n"
            if until and until(line):
                said += "^C\n"
                process.send_signal(signal.SIGINT)
                until = None
        self.text += f"\n## {title}\n\n```text\n{said}```\n\nExit code {process.wait()}.\n"


def _lines(terminal: int) -> Iterator[str]:
    """What is written to a terminal, until whoever writes has ended."""
    with open(terminal, encoding="utf-8") as reader, suppress(OSError):
        yield from reader


def main() -> None:
    """Make the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lab", type=Path, default=default_dir())
    lab = Lab(parser.parse_args().lab)
    try:
        populate(lab.clouds_yaml, TENANT, Sizes.small())
        with tempfile.TemporaryDirectory() as home:
            PAGE.write_text(_session(Session(lab, Path(home))))
    finally:
        for cloud in ("source", "destination"):
            remove_tenant(connect(lab.clouds_yaml, cloud), TENANT)


def _session(session: Session) -> str:
    run = session.run
    run("What both clouds offer", "check")
    run("What will be done", "migrate", "tenant", TENANT, "--dry-run")
    is_copying = lambda line: line.startswith("created") and "network" in line  # noqa: E731
    run(
        "The migration, which is interrupted",
        "migrate",
        "tenant",
        TENANT,
        "--summary",
        "--yes",
        until=is_copying,
    )
    run("What is known of it", "runs", "list")
    run("On with it", "resume", "last", "--yes")
    run("What became of everything", "report", "last")
    run("Whether all is as it was", "verify", "tenant", TENANT)
    run("Back again", "revert", "last", "--yes")
    return session.text


if __name__ == "__main__":
    main()

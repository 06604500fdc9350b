"""A migration as its operator sees it, at 80 columns: docs/session.md, made of real commands against a lab.

    python -m lab up
    python -m bench.session --lab DIRECTORY

The tenant is made for it and removed afterwards, on both sides.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.terminal import COLUMNS, ROOT, Terminal
from lab import Lab
from lab.layout import default_dir
from lab.populate import populate
from lab.sample.base import Sizes, connect
from lab.sample.inventory import remove_tenant

PAGE = ROOT / "docs" / "session.md"
TENANT = "shop"
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
        self.terminal, self.text = Terminal(lab, home), ABOVE
        (home / "pumphouse.yaml").write_text("source: {cloud: source}\ndestination: {cloud: destination}\n")

    def run(self, title: str, *arguments: str, until: Callable[[str], bool] | None = None) -> None:
        """Run a command of pumphouse to its end.

        until: the line after which Ctrl-C is pressed.
        """
        print(title, flush=True)
        command = f"pumphouse {' '.join(arguments)}"
        ran = self.terminal.run(command, until)
        said = "\n".join([f"$ {command}", *ran.lines])
        self.text += f"\n## {title}\n\n```text\n{said}\n```\n\nExit code {ran.code}.\n"


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

"""From which releases of OpenStack to the newest one a sample tenant arrives: the table of the README.

    python -m bench.releases [RELEASE ...]

For each release that the lab knows, or those that are named: makes a lab with a source of it, migrates a sample
tenant, verifies it with --deep and prints one row. Fields are counted as in bench.fidelity. Exit code 1 when
anything is lost.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.fidelity import count, run, write_config
from lab import Lab
from lab.populate import populate
from lab.release import NEWEST, RELEASES

COLUMNS = ("from", "to", "resources", "fields", "equal", "noted", "lost", "seconds")


def migrate(release: str, folder: Path) -> tuple[Counter[str], float]:
    """Resources and fields of the sample by what became of them, and the seconds of the migration."""
    lab = Lab(folder / "lab")
    try:
        lab.up(releases={"source": release})
        sample = populate(lab.clouds_yaml)
        config = write_config(folder, lab.clouds_yaml)
        start_s = time.monotonic()
        run(config, "migrate", "tenant", sample.tenant_id, "--yes")
        duration_s = time.monotonic() - start_s
        resources = run(config, "verify", "tenant", sample.tenant_id, "--deep")["resources"]
    finally:
        lab.down(purge=True)
    return sum(count(resources).values(), Counter()), duration_s


def main() -> int:
    """Print a row for each release."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "releases", nargs="*", metavar="RELEASE", help=f"of {', '.join(RELEASES)}; all by default"
    )
    releases = parser.parse_args().releases or list(RELEASES)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    lost = 0
    for release in releases:
        with tempfile.TemporaryDirectory(prefix="releases-") as folder:
            counts, duration_s = migrate(release, Path(folder))
        figures = [str(counts[column]) for column in COLUMNS[2:-1]]
        print(f"| {' | '.join([release, NEWEST.name, *figures, f'{duration_s:.0f}'])} |", flush=True)
        lost += counts["lost"]
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())

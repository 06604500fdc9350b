"""Between which releases of OpenStack a sample tenant arrives: the table in README.md.

    python -m bench.releases [RELEASE ...]

For each release that the lab knows, or those that are named: makes a lab with a source of it and a destination of the
newest one, migrates a sample tenant forth and another one back, verifies both with --deep, and writes their rows; those
of other releases stay. Fields are counted as in bench.fidelity. Exit code 1 when anything is lost.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.fidelity import count, run, write_config
from bench.fields import END, README
from lab import Lab
from lab.populate import populate
from lab.release import NEWEST, RELEASES

BEGIN = "<!-- made by python -m bench.releases -->\n"
COLUMNS = ("from", "to", "resources", "fields", "equal", "noted", "lost", "seconds")
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"


def migrate(lab: Lab, folder: Path, way: tuple[str, str]) -> tuple[Counter[str], float]:
    """Resources and fields of a sample by what became of them, and the seconds of its migration."""
    sample = populate(lab.clouds_yaml, f"from-{way[0]}", cloud=way[0])
    config = write_config(folder, lab.clouds_yaml)
    clouds = ("--source-cloud", way[0], "--destination-cloud", way[1])
    # The sample shares a network and an image with it.
    run(config, "migrate", "tenant", f"{sample.name}.partner", "--yes", *clouds)
    start_s = time.monotonic()
    run(config, "migrate", "tenant", sample.tenant_id, "--yes", *clouds)
    duration_s = time.monotonic() - start_s
    resources = run(config, "verify", "tenant", sample.tenant_id, "--deep", *clouds)["resources"]
    return sum(count(resources).values(), Counter()), duration_s


def measure(release: str, folder: Path) -> dict[tuple[str, str], Counter[str]]:
    """What became of a sample tenant by the releases that it went from and to; the newest one has one way only."""
    lab = Lab(folder / "lab")
    found = {}
    try:
        lab.up(releases={"source": release})
        for way in (("source", "destination"), ("destination", "source"))[
            : 1 if release == NEWEST.name else 2
        ]:
            counts, duration_s = migrate(lab, folder, way)
            of = {"source": release, "destination": NEWEST.name}
            found[of[way[0]], of[way[1]]] = counts | Counter(seconds=round(duration_s))
    finally:
        lab.down(purge=True)
    return found


def write_rows(found: dict[tuple[str, str], Counter[str]]) -> None:
    """Put rows into README.md in the place of those between the same releases, else below the others."""
    above, _, rest = README.read_text().partition(BEGIN)
    made, _, below = rest.partition(END)
    rows = {tuple(line.split(" | ")[:2]): line for line in made.splitlines() if line.startswith("| ")}
    rows.pop(tuple(HEAD.split(" | ")[:2]), None)
    for (source, destination), counts in found.items():
        cells = [source, destination, *(str(counts[column]) for column in COLUMNS[2:])]
        line = f"| {' | '.join(cells)} |"
        rows[tuple(line.split(" | ")[:2])] = line
        print(line, flush=True)
    table = "".join(f"{line}\n" for line in rows.values())
    README.write_text(f"{above}{BEGIN}\n{HEAD}{table}\n{END}{below}")


def main() -> int:
    """Write the rows of each release."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("releases", nargs="*", help=f"of {', '.join(RELEASES)}; all by default")
    lost = 0
    for release in parser.parse_args().releases or RELEASES:
        with tempfile.TemporaryDirectory(prefix="releases-") as folder:
            found = measure(release, Path(folder))
        write_rows(found)
        lost += sum(counts["lost"] for counts in found.values())
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())

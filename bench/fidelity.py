"""What of a sample tenant arrives, field by field: migrates one between a lab's two clouds and compares it.

    python -m lab up
    python -m bench.fidelity --lab DIRECTORY

Prints for each kind how many resources and fields were compared, and how many fields are equal, noted or
lost; a resource that is missing has lost all its fields. Exit code 1 when anything is lost. All that was made is removed
again, unless --keep is given.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from lab import Lab
from lab.populate import populate, remove
from lab.sample.base import Sizes
from pumphouse.verify import KINDS

FIELDS = {kind.name: len(kind.fields) for kind in KINDS}
COLUMNS = ("kind", "resources", "fields", "equal", "noted", "lost")


def run(config: Path, *arguments: str) -> Any:
    """What a command of pumphouse prints as JSON; 3 is what was left behind, 6 what verify finds different."""
    command = [sys.executable, "-m", "pumphouse", *arguments, "-f", "json", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3, 6):
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


def write_config(folder: Path, clouds_yaml: Path) -> Path:
    """A configuration for both clouds with a state of its own."""
    config = folder / "pumphouse.yaml"
    config.write_text(
        f"clouds_file: {clouds_yaml}\nsource: {{cloud: source}}\ndestination: {{cloud: destination}}\n"
        f"policies: {{passwords_file: {folder}/passwords.csv, volume_format: qcow2}}\n"
        f"state: {{url: 'sqlite:///{folder}/state.db'}}\n"
    )
    return config


def count(resources: list[Any]) -> dict[str, Counter[str]]:
    """Resources and fields of each kind by what became of them."""
    found: dict[str, Counter[str]] = {}
    for item in resources:
        counts = found.setdefault(item["kind"], Counter())
        counts["resources"] += 1
        if not item["compared"]:
            # Nothing of it could be compared: it is missing, too much, or known to stay behind.
            column = (
                "noted" if item["outcome"] == "noted" else "equal" if item["outcome"] == "equal" else "lost"
            )
            counts[column] += FIELDS[item["kind"]] if column != "equal" else 0
            counts["fields"] += FIELDS[item["kind"]] if column != "equal" else 0
            continue
        noted = sum(1 for difference in item["differences"] if difference["excuse"])
        lost = len(item["differences"]) - noted
        counts += Counter(
            fields=len(item["compared"]),
            equal=len(item["compared"]) - noted - lost,
            noted=noted,
            lost=lost,
        )
        found[item["kind"]] = counts
    return found


def show(found: dict[str, Counter[str]]) -> int:
    """Print the table; returns how many fields are lost."""
    total: Counter[str] = Counter()
    print(f"{COLUMNS[0]:16}" + "".join(f"{column:>10}" for column in COLUMNS[1:]))
    for kind, counts in found.items():
        print(f"{kind:16}" + "".join(f"{counts[column]:10}" for column in COLUMNS[1:]))
        total += counts
    print(f"{'all':16}" + "".join(f"{total[column]:10}" for column in COLUMNS[1:]))
    return total["lost"]


def explain(resources: list[Any]) -> None:
    """One line for each thing that is lost or noted, with the reason."""
    for item in resources:
        title = f"{item['kind']} {item['name']}"
        if item["outcome"] in ("missing", "extra") or item["reason"]:
            print(f"{item['outcome']}: {title}: {item['reason']}")
        for difference in item["differences"]:
            word = "noted" if difference["excuse"] else "lost"
            print(f"{word}: {title}: {difference['field']}: {difference['excuse'] or difference}")


def main() -> int:
    """Migrate a sample tenant and say what arrived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lab", type=Path, required=True, help="the directory of a lab that is up")
    parser.add_argument("--keep", action="store_true", help="leave the tenant in both clouds")
    options = parser.parse_args()
    clouds_yaml = Lab(options.lab).clouds_yaml
    sample = populate(clouds_yaml, f"fidelity-{uuid.uuid4().hex[:6]}", Sizes())
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = write_config(Path(folder), clouds_yaml)
            start_s = time.monotonic()
            run(config, "migrate", "tenant", sample.tenant_id, "--yes")
            migrated_s = time.monotonic()
            resources = run(config, "verify", "tenant", sample.tenant_id, "--deep")["resources"]
            verified_s = time.monotonic()
    finally:
        if not options.keep:
            for cloud in ("source", "destination"):
                remove(clouds_yaml, sample.name, cloud=cloud)
    lost = show(count(resources))
    print(f"migrated in {migrated_s - start_s:.1f} s, verified in {verified_s - migrated_s:.1f} s")
    explain(resources)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())

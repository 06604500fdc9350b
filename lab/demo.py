"""The whole story: boot two clouds, fill one, show the plan, migrate, prove what arrived."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from lab import Lab
from lab.populate import populate
from lab.proof import compare, facts
from lab.release import NEWEST, RELEASES
from lab.sample.base import connect
from lab.sample.inventory import find_project

NAME = "demo"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--from",
    "release",
    type=click.Choice(list(RELEASES)),
    default=NEWEST.name,
    show_default=True,
    help="The release of OpenStack to move the tenant away from.",
)
def main(release: str) -> None:
    """Run the demonstration; the exit code is 0 when everything arrived as it was."""
    with tempfile.TemporaryDirectory(prefix="pumphouse-demo-") as folder:
        lab = Lab(Path(folder) / "lab")
        try:
            lab.up(releases={"source": release})
            sys.exit(_demonstrate(lab))
        finally:
            lab.down()


def _demonstrate(lab: Lab) -> int:
    sample = populate(lab.clouds_yaml, NAME, say=print)
    before = facts(lab.dir, "source", sample.tenant_id)
    config = _write_config(lab)
    _pumphouse("check", "--config", str(config))
    # With whom it shares a network is not at the destination, and nobody misses that here.
    migrate = ("migrate", "tenant", NAME, "--skip", "rbac_policy", "--config", str(config))
    _pumphouse(*migrate, "--dry-run")
    start_s = time.monotonic()
    _pumphouse(*migrate, "--yes")
    print(f"\nmigrated in {time.monotonic() - start_s:.1f} s\n")
    return _prove(lab, before)


def _write_config(lab: Lab) -> Path:
    path = lab.dir / "pumphouse.yaml"
    path.write_text(
        f"clouds_file: {lab.clouds_yaml}\n"
        "source: {cloud: source}\n"
        "destination: {cloud: destination}\n"
        f"policies: {{passwords_file: {lab.dir / 'passwords.csv'}}}\n"
        f"state: {{url: 'sqlite:///{lab.dir / 'state.db'}'}}\n"
    )
    return path


def _pumphouse(*arguments: str) -> None:
    print(f"\n$ pumphouse {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "pumphouse", *arguments], check=True)


def _prove(lab: Lab, before: dict[str, dict[str, object]]) -> int:
    """Compare the tenant at the destination with what it was at the source before."""
    project = find_project(connect(lab.clouds_yaml, "destination"), NAME)
    after = facts(lab.dir, "destination", project["id"]) if project else {}
    differences = compare(before, after)
    compared = sum(len(before[name]) for name in before)
    for name in sorted(before):
        print(f"{'differs' if any(d.startswith(name) for d in differences) else 'equal'}: {name}")
    for difference in differences:
        print(f"difference: {difference}")
    print(f"{len(before)} servers and images, {compared} facts compared, {len(differences)} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    main()

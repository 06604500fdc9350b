"""What it costs to move a whole tenant: the lab's sample tenant, or one with more servers and volumes.

    python -m lab up
    python -m bench.tenant [--lab DIRECTORY] [--rounds 1] [--servers 15 --volumes 15]

Migrates, verifies and reverts it, several times by itself for the seconds and the CPU of the client and of each
service, and once through a proxy that counts requests and logins. Prints the critical path of the last run: the units
that waited for each other and so made it as long as it was, with what each of them spent its time on. The figures become a
section of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.measured import Cost, counted, machine, medians, publish, pumphouse, run, timed
from lab import Lab
from lab.layout import default_dir
from lab.populate import populate, remove
from lab.sample.base import Sizes

STEPS = ("migrate", "verify", "revert")
MOST_LOGINS = 10
TASKS_SHOWN = 3


def command(lab: Lab, folder: Path, step: str, tenant: str) -> list[str]:
    """The command of one step."""
    arguments = {
        "migrate": ("migrate", "tenant", tenant, "--yes"),
        "verify": ("verify", "tenant", tenant),
        "revert": ("revert", "last", "--yes"),
    }
    return pumphouse(lab, folder, *arguments[step])


def one_round(lab: Lab, tenant: str) -> tuple[dict[str, Cost], dict[str, Any]]:
    """What each step costs by itself, and the run that was made."""
    with tempfile.TemporaryDirectory(prefix="tenant-") as name:
        folder, found, recorded = Path(name), {}, {}
        for step in STEPS:
            found[step] = timed(lab, command(lab, folder, step, tenant))
            if step == "migrate":
                recorded = json.loads(run(pumphouse(lab, folder, "runs", "show", "last")))
    return found, recorded


def count(lab: Lab, tenant: str, costs: dict[str, Cost]) -> None:
    """Add the requests and logins of each step."""
    with tempfile.TemporaryDirectory(prefix="tenant-") as folder:
        for step in STEPS:
            line = command(lab, Path(folder), step, tenant)
            costs[step].requests, costs[step].logins = counted(lab, line)


def critical_path(recorded: dict[str, Any]) -> list[dict[str, Any]]:
    """The units that made a run as long as it was, the first first: each waited for the one before it."""
    units = {unit["name"]: {**unit, **ends} for unit in recorded["units"] if (ends := _ends(unit))}
    path = [max(units.values(), key=lambda unit: unit["ended"])] if units else []
    while needs := [units[name] for name in path[0]["needs"] if name in units] if path else []:
        path.insert(0, max(needs, key=lambda unit: unit["ended"]))
    return path


def _ends(unit: dict[str, Any]) -> dict[str, datetime]:
    """When the first task of a unit began and the last one ended; empty of one that has none."""
    tasks = [task for task in unit["tasks"] if task["started_at"] and task["ended_at"]]
    if not tasks:
        return {}
    return {
        "began": min(datetime.fromisoformat(task["started_at"]) for task in tasks),
        "ended": max(datetime.fromisoformat(task["ended_at"]) for task in tasks),
    }


def path_lines(path: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each unit of a critical path: when it began and ended, and its longest tasks."""
    for unit in path:
        began_s, ended_s = ((unit[end] - path[0]["began"]).total_seconds() for end in ("began", "ended"))
        tasks = sorted(((_seconds(task), task["verb"]) for task in unit["tasks"]), reverse=True)
        longest = ", ".join(f"{verb} {seconds:.1f} s" for seconds, verb in tasks[:TASKS_SHOWN])
        title = unit["tasks"][0]["resource"]
        yield f"  {began_s:7.1f} to {ended_s:6.1f} s  {ended_s - began_s:6.1f} s  {title}: {longest}"


def _seconds(task: dict[str, Any]) -> float:
    if not task["started_at"] or not task["ended_at"]:
        return 0.0
    began, ended = (datetime.fromisoformat(task[end]) for end in ("started_at", "ended_at"))
    return (ended - began).total_seconds()


def table(found: dict[str, Cost], recorded: dict[str, Any], resources: int) -> Iterator[str]:
    """The lines of all figures."""
    yield (
        f"{'':10}{'seconds':>9}{'requests':>10}{'per resource':>14}{'logins':>8}{'client CPU s':>14}{'clouds CPU s':>14}"
    )
    for step, cost in found.items():
        asked = sum(cost.requests.values())
        yield (
            f"{step:10}{cost.wall_s:9.1f}{asked:10,}{asked / resources:14.2f}{cost.logins:8}"
            f"{cost.client_s:14.1f}{cost.clouds_s:14.1f}"
        )
    migrate = found["migrate"]
    yield from ("", "migrate: requests by service and method")
    yield from (f"  {what:36}{number:6}" for what, number in sorted(migrate.requests.items()))
    services = sorted(((s, n) for n, s in migrate.services_s.items() if s >= 0.1), reverse=True)
    yield "  CPU s: " + ", ".join(f"{name} {seconds:.1f}" for seconds, name in services)
    yield from ("", "migrate: critical path", *path_lines(critical_path(recorded)))


def main() -> int:
    """Measure a tenant of the sizes that are asked for; exit code 1 where a step logs in too often."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lab", type=Path, default=default_dir(), help="the directory of a lab that is up")
    parser.add_argument("--rounds", type=int, default=1)
    for name in ("servers", "volumes"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Sizes(), name))
    options = parser.parse_args()
    lab, tenant = Lab(options.lab), f"tenant-{uuid.uuid4().hex[:6]}"
    try:
        populate(lab.clouds_yaml, tenant, Sizes(servers=options.servers, volumes=options.volumes))
        rounds = [one_round(lab, tenant) for _ in range(options.rounds)]
        found = {step: medians([costs[step] for costs, _ in rounds]) for step in STEPS}
        count(lab, tenant, found)
    finally:
        for cloud in ("source", "destination"):
            remove(lab.clouds_yaml, tenant, cloud=cloud)
    recorded = rounds[-1][1]
    resources = len(recorded["resources"])
    lines = [f"{machine()}, both clouds on them; medians of {options.rounds}; {resources} resources", ""]
    publish("tenant", "\n".join([*lines, *table(found, recorded, resources)]))
    return int(max(cost.logins for cost in found.values()) > MOST_LOGINS)


if __name__ == "__main__":
    sys.exit(main())

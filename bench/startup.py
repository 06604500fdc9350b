"""CPU of commands until they have ended, or have begun to talk to a cloud: `python -m bench.startup`.

All but the first figure are over that of a Python that does nothing.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from pumphouse.config.settings import CloudConfig, Config
from pumphouse.model import Action, Plan, Record, Ref, Step
from pumphouse.plan.file import save_plan
from pumphouse.plan.make import settings_of
from pumphouse.plan.task_lines import with_tasks
from pumphouse.plan.units import units
from pumphouse.run.record import create_run
from pumphouse.store import open_store

REPEATS = 9
RUNS = 50
NETWORKS = 100


def main() -> None:
    """Print the median of each."""
    with TemporaryDirectory() as folder:
        config, plan = _prepare(Path(folder))
        commands = {
            "--help": ["--help"],
            "migrate --help": ["migrate", "--help"],
            f"runs list ({RUNS} runs)": ["runs", "list", "--config", config],
            f"runs show ({NETWORKS + 1} resources)": ["runs", "show", "last", "--config", config],
            f"plan show ({NETWORKS + 1} resources)": ["plan", "show", plan],
        }
        python = _cpu_s([sys.executable, "-c", "pass"])
        print(f"{'python -c pass':32} {python * 1000:5.0f} ms")
        for title, arguments in commands.items():
            over = _cpu_s([sys.executable, "-m", "pumphouse", *arguments]) - python
            print(f"{title:32} {over * 1000:5.0f} ms over that")
        shell = {"_PUMPHOUSE_COMPLETE": "bash_complete", "COMP_WORDS": "pumphouse r", "COMP_CWORD": "1"}
        over = statistics.median(_first_request_s(Path(folder)) for _ in range(REPEATS)) - python
        print(f"{'migrate, to its first request':32} {over * 1000:5.0f} ms over that")
        over = _cpu_s([str(Path(sys.executable).with_name("pumphouse"))], **shell) - python
        print(f"{'completion':32} {over * 1000:5.0f} ms over that")


def _prepare(folder: Path) -> tuple[str, str]:
    """A configuration with a store of runs, and a plan file."""
    plan, url = with_tasks(_plan()), f"sqlite:///{folder}/state.db"
    with closing(open_store(url)) as store:
        for _ in range(RUNS):
            create_run(store, plan)
    config = folder / "pumphouse.yaml"
    config.write_text(f"state: {{url: '{url}'}}\n")
    save_plan(plan, folder / "plan.yaml")
    return str(config), str(folder / "plan.yaml")


def _plan() -> Plan:
    tenant = Ref("tenant", "t" * 32)
    records = [Record(tenant, "shop", {"name": "shop"})] + [
        Record(Ref("network", f"{number:032x}"), f"net-{number}", {"name": f"net-{number}"}, (tenant,))
        for number in range(NETWORKS)
    ]
    steps = {r.ref: Step(r, Action.CREATE, "not at the destination", r.name) for r in records}
    clouds = ("source http://192.0.2.1:5000/v3", "destination http://192.0.2.2:5000/v3")
    settings = settings_of(Config(CloudConfig(), CloudConfig()))
    return Plan(tenant, "shop", *clouds, units(steps), settings)


def _cpu_s(command: Sequence[str], **environment: str) -> float:
    return statistics.median(_cpu_once_s(command, environment) for _ in range(REPEATS))


def _cpu_once_s(command: Sequence[str], environment: dict[str, str]) -> float:
    before = os.times()
    subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _first_request_s(folder: Path) -> float:
    """The CPU of a migration when its first request has come."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v3"
        cloud = {"auth": {"auth_url": url, "username": "u", "password": "p", "project_name": "p"}}
        cloud["auth"] |= {"user_domain_name": "Default", "project_domain_name": "Default"}
        clouds = {"source": cloud, "destination": cloud, "state": {"url": f"sqlite:///{folder}/state.db"}}
        config = folder / "clouds.yaml"
        config.write_text(json.dumps(clouds))
        command = [
            sys.executable,
            "-m",
            "pumphouse",
            "migrate",
            "tenant",
            "t",
            "--yes",
            "--config",
            str(config),
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            listener.accept()[0].close()
            user, system = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()

"""What a command costs the machine and two lab clouds: seconds, CPU of the client and of each service, requests."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from lab import Lab
from tests.faults.proxy import Exchange, running
from tests.faults.rules import LOGIN

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
# What migrate and verify end with when they have something to tell.
TELLING = (0, 3, 6)


@dataclass
class Cost:
    """What one command has cost.

    wall_s, client_s, services_s: as it runs by itself; services_s by cloud and service.
    requests: how often each service got each method, logins apart; counted in a run of its own, by a proxy.
    """

    wall_s: float
    client_s: float
    services_s: dict[str, float]
    requests: Counter[str] = field(default_factory=Counter)
    logins: int = 0
    output: str = field(default="", repr=False)

    @property
    def clouds_s(self) -> float:
        """The CPU of all services of both clouds."""
        return sum(self.services_s.values())


def timed(lab: Lab, command: Sequence[str]) -> Cost:
    """Run a command by itself."""
    before, began_s, used_s = _services_s(lab), time.monotonic(), _children_s()
    output = run(command)
    wall_s, client_s = time.monotonic() - began_s, _children_s() - used_s
    after = _services_s(lab)
    return Cost(wall_s, client_s, {name: after[name] - before[name] for name in after}, output=output)


def counted(lab: Lab, command: Sequence[str]) -> tuple[Counter[str], int]:
    """Run a command through a proxy: the requests by service and method, and how many logins there were besides."""
    with running(lab) as proxy:
        run(command, proxy.environment)
        exchanges = list(proxy.exchanges)
    return by_service(exchanges), sum(map(_is_login, exchanges))


def by_service(exchanges: Iterable[Exchange]) -> Counter[str]:
    """How often each service got each method, without logins."""
    asked = [exchange.request for exchange in exchanges if not _is_login(exchange)]
    return Counter(f"{request.service} {request.method}" for request in asked)


def _is_login(exchange: Exchange) -> bool:
    return exchange.request.method == "POST" and exchange.request.path.endswith(LOGIN)


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What a command prints; ends this process where it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}
    )
    if done.returncode not in TELLING:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def pumphouse(lab: Lab, folder: Path, *arguments: str) -> list[str]:
    """A command of pumphouse for a lab's two clouds, with its state in a folder."""
    config = folder / "pumphouse.yaml"
    config.write_text(
        f"clouds_file: {lab.clouds_yaml}\nsource: {{cloud: source}}\ndestination: {{cloud: destination}}\n"
        f"policies: {{passwords_file: {folder}/passwords.csv}}\n"
        f"state: {{url: 'sqlite:///{folder}/state.db'}}\n"
    )
    return [sys.executable, "-m", "pumphouse", *arguments, "-f", "json", "--config", str(config)]


def medians(costs: Sequence[Cost]) -> Cost:
    """The median of each figure of several runs of the same command."""
    names = costs[0].services_s
    return Cost(
        median(cost.wall_s for cost in costs),
        median(cost.client_s for cost in costs),
        {name: median(cost.services_s[name] for cost in costs) for name in names},
        costs[0].requests,
        costs[0].logins,
    )


def machine() -> str:
    """What the figures are of."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "a processor without a name",
    )
    return f"{os.cpu_count()} cores of {model}"


def _services_s(lab: Lab) -> dict[str, float]:
    found = {}
    for cloud, name, process in lab.status():
        if process:
            times = process.cpu_times()
            found[f"{cloud.name}/{name}"] = times.user + times.system
    return found


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def publish(section: str, text: str) -> None:
    """Print what was measured, and put it into its section of the page."""
    print(text)
    page = PAGE.read_text()
    marks = [f"<!-- {section}, made by python -m bench.{section} -->\n", f"<!-- end of {section} -->"]
    head, _, rest = page.partition(marks[0])
    _, _, tail = rest.partition(marks[1])
    PAGE.write_text(f"{head}{marks[0]}\n```text\n{text.rstrip()}\n```\n\n{marks[1]}{tail}")

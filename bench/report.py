"""How long the HTML report of a run of 1,000 servers, 500 volumes and 200 networks takes to open in Chromium.

    apt-get install chromium chromium-driver
    python -m bench.report

Milliseconds from the begin of the navigation until everything is drawn, as the browser itself has measured it.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from bench.pictures import FLAGS
from pumphouse.show.html import html_text

SERVERS, VOLUMES, NETWORKS = 1_000, 500, 200
LOADS = 9
BEGAN = datetime(2026, 11, 27, 2, tzinfo=UTC)
_SERVER_TASKS = ("retrieved", "port-ensured", "stopped", "snapshot", "snapshot-retrieved", "image-ensured")
_SERVER_TASKS += ("uploaded", "booted", "settled", "cleared", "marked")
_VOLUME_TASKS = ("retrieved", "cloned", "image", "uploaded", "ensured", "settled")
_NOTES = (
    "its ephemeral and swap disks arrive empty: a snapshot does not hold them",
    "it becomes the operator's own server in the tenant: Nova gives it to who boots it",
)
# What the browser knows of a load once it has drawn twice behind it.
_DRAWN = """
const done = arguments[0];
requestAnimationFrame(() => requestAnimationFrame(() => {
  const [load] = performance.getEntriesByType("navigation"), [paint] = performance.getEntriesByName("first-contentful-paint");
  done(Math.max(load.loadEventEnd, paint ? paint.startTime : 0));
}));
"""


def main() -> None:
    """Print the median."""
    text = html_text(run_of(SERVERS, VOLUMES, NETWORKS))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(text)
        with _browser(folder) as session:
            took_ms = [_load_ms(session, page) for _ in range(LOADS)]
    print(f"{SERVERS:,} servers, {VOLUMES:,} volumes, {NETWORKS:,} networks: {len(text) / 2**20:.1f} MiB")
    print(
        f"opened in {statistics.median(took_ms):.0f} ms (median of {LOADS}; {min(took_ms):.0f} to {max(took_ms):.0f})"
    )


def run_of(servers: int, volumes: int, networks: int) -> dict[str, Any]:
    """The data of a run, as `pumphouse report -f json` prints it, with all tasks."""
    resources: list[dict[str, Any]] = []
    units: list[dict[str, Any]] = []
    for number in range(networks):
        resources += [_resource("network", number), _resource("subnet", number)]
        units.append(_unit("network", number, number / 4, ("retrieved", "ensured", "subnet-ensured")))
    for number in range(volumes):
        resources.append(_resource("volume", number, size_bytes=1 << 30))
        units.append(_unit("volume", number, 60 + number, _VOLUME_TASKS))
    for number in range(servers):
        resources += [_resource("port", number), _resource("server", number, 1 << 31, _NOTES)]
        needs = [_id("network", number % networks)] + ([_id("volume", number)] if number < volumes else [])
        units.append(_unit("server", number, 120 + 2 * number, _SERVER_TASKS, needs))
    copied_bytes = sum(each["copied_bytes"] for each in resources)
    end = _time(200 + 2 * servers)
    return {
        "format": 1, "run": "1a2b3c4d", "state": "SUCCESS", "tenant": {"id": "t" * 32, "name": "big"},
        "source": "source https://old.example.com:5000/v3", "destination": "destination https://new.example.com:5000/v3",
        "created_at": _time(0), "began_at": _time(0), "ended_at": end, "owner": None, "version": "1",
        "copied_bytes": copied_bytes, "copying_s": 2.0 * servers, "new_passwords": 0, "resources": resources,
        "notes": [], "uncarried": [], "left_behind": [], "summary": {"created": len(resources)}, "units": units,
    }  # fmt: skip


def _resource(kind: str, number: int, size_bytes: int = 0, notes: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "kind": kind, "name": f"{kind}-{number:04}", "outcome": "created", "source_id": _id(kind, number).split("/")[1],
        "destination_id": f"{number:08x}-0000-4000-9000-00000000000d", "reason": "", "notes": list(notes),
        "copied_bytes": size_bytes, "hashes": {"sha512": f"{number:0128x}"} if size_bytes else {},
        "source_stopped": kind == "server", "downtime_s": 60.5 + number % 90 if kind == "server" else None,
    }  # fmt: skip


def _unit(kind: str, number: int, began_s: float, verbs: tuple[str, ...], needs: Any = ()) -> dict[str, Any]:
    tasks = [
        {
            "name": f"{kind}-{number:04}-{verb}", "resource": f"{kind} {kind}-{number:04}", "verb": verb,
            "line": f"{verb} of {kind} {kind}-{number:04}", "state": "SUCCESS", "started_at": _time(began_s + place),
            "ended_at": _time(began_s + place + 0.9), "id": _id(kind, number).split("/")[1], "reason": "",
        }
        for place, verb in enumerate(verbs)
    ]  # fmt: skip
    return {"name": _id(kind, number), "needs": list(needs), "state": "SUCCESS", "tasks": tasks}


def _id(kind: str, number: int) -> str:
    return f"{kind}/{number:08x}-0000-4000-8000-{len(kind):012x}"


def _time(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


@contextmanager
def _browser(folder: str) -> Iterator[str]:
    """A headless Chromium; gives the address of its WebDriver session."""
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout
        port = next(found[1] for line in driver.stdout if (found := re.search(r"on port (\d+)\.", line)))
        address = f"http://127.0.0.1:{port}/session"
        options = {"args": [*FLAGS, f"--user-data-dir={folder}/profile", "--window-size=1600,1200"]}
        session = _ask(address, capabilities={"alwaysMatch": {"goog:chromeOptions": options}})["sessionId"]
        yield f"{address}/{session}"
        requests.delete(f"{address}/{session}", timeout=60)
    finally:
        driver.terminate()
        driver.wait()


def _load_ms(session: str, page: Path) -> float:
    _ask(f"{session}/url", url="about:blank")
    _ask(f"{session}/url", url=page.as_uri())
    return float(_ask(f"{session}/execute/async", script=_DRAWN, args=[]))


def _ask(address: str, **body: Any) -> Any:
    answer = requests.post(address, json=body, timeout=60)
    answer.raise_for_status()
    return answer.json()["value"]


if __name__ == "__main__":
    main()

"""The processes of a cloud: finding, starting, awaiting and ending them.

A process is known by its command line, which names the cloud's directory. So nothing is kept in pid files
that could go stale, and no process of anybody else is ever ended.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from lab.layout import SERVICES, LabCloud, LabError

DATABASE = "mysqld"
NAMES = (DATABASE, *SERVICES)
SERVE = Path(__file__).parent / "services" / "serve.py"
# Another checkout may have started them.
SERVE_SUFFIX = os.path.join("lab", "services", "serve.py")
START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 20
LOG_TAIL_LINES = 15


def find(cloud: LabCloud) -> dict[str, psutil.Process]:
    """The living processes of a cloud by name; a zombie has no command line, so it is not found."""
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        name = _name(process.info["cmdline"] or [], cloud)
        if name:
            found[name] = process
    return found


def _name(command: Sequence[str], cloud: LabCloud) -> str | None:
    if f"--datadir={cloud.dir}/mysql" in command:
        return DATABASE
    scripts = [index for index, part in enumerate(command) if part.endswith(SERVE_SUFFIX)]
    if scripts and str(cloud.dir) in command:
        return command[scripts[0] + 1]
    return None


def start(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one, with its output appended to a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )


def wait_until_ready(
    process: subprocess.Popen[bytes], ready: Callable[[], bool], name: str, log: Path
) -> None:
    """Wait for a process to get ready; LabError with the end of its log if it ends or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if process.poll() is not None:
            raise LabError(
                f"{name} ended with code {process.returncode} while it started:\n{_tail(log)}\n({log})"
            )
        if time.monotonic() > deadline:
            raise LabError(f"{name} was not ready after {START_TIMEOUT_S} s:\n{_tail(log)}\n({log})")
        time.sleep(0.05)


def listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether this very process, and no other program, accepts connections on a port."""
    try:
        connections = psutil.Process(process.pid).net_connections("tcp4")
    except psutil.NoSuchProcess:
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)


def stop(cloud: LabCloud) -> int:
    """End all processes of a cloud, the database last; their number."""
    found = find(cloud)
    _end([found[name] for name in SERVICES if name in found])
    _end([found[DATABASE]] if DATABASE in found else [])
    return len(found)


def kill(cloud: LabCloud, names: Collection[str]) -> None:
    """End some processes of a cloud at once: for a cloud whose data is about to be replaced."""
    _end([process for name, process in find(cloud).items() if name in names], timeout_s=0)


def _end(processes: Iterable[psutil.Process], timeout_s: float = STOP_TIMEOUT_S) -> None:
    remaining = list(processes)
    if timeout_s:
        for process in remaining:
            _signal(process.terminate)
        _, remaining = psutil.wait_procs(remaining, timeout=timeout_s)
    for process in remaining:
        _signal(process.kill)
    _await_end(remaining)


def _await_end(processes: list[psutil.Process]) -> None:
    # A killed process that its parent has not yet waited for stays as a zombie: it is gone for us.
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while any(_is_alive(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.02)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(send: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):
        send()


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return os.linesep.join(lines[-LOG_TAIL_LINES:])

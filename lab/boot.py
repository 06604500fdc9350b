"""Bringing one cloud to life, keeping a copy of it as it was then, and putting that copy back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import psutil

from lab import config, database, furnish, processes
from lab.layout import SERVICES, LabCloud, LabError, is_listening

# What a cloud remembers: its databases, its images, its servers' disks, its volumes.
DATA = ("mysql", "glance", "nova", "cinder")
# What keeps some of that in its memory too (Keystone's caches, Nova's servers); the rest reads it anew.
REMEMBERING = (processes.DATABASE, "keystone", "nova")


def up(cloud: LabCloud, venv: Path, template: Path) -> None:
    """Start whatever of a cloud is not running; make the cloud first if it was never completed."""
    if cloud.saved.exists():
        start(cloud, venv)
        return
    processes.kill(cloud, processes.NAMES)
    shutil.rmtree(cloud.dir, ignore_errors=True)
    cloud.dir.mkdir(mode=0o700, parents=True)
    for name in DATA:
        (cloud.dir / name).mkdir()
    shutil.copytree(template, cloud.dir / "mysql", dirs_exist_ok=True)
    start(cloud, venv, new=True)
    furnish.furnish(cloud)
    _save(cloud)


def start(cloud: LabCloud, venv: Path, *, new: bool = False) -> None:
    """Start the processes of a cloud that are not running, and wait until all are ready."""
    running = processes.find(cloud)
    _check_ports(cloud, running)
    config.write_configuration(cloud, venv)
    if processes.DATABASE not in running:
        database.start(cloud.dir / "mysql", cloud.socket, _log(cloud, processes.DATABASE))
    _start_services(cloud, venv, {"keystone"} - running.keys())
    if new:
        furnish.register_services(cloud)
    _start_services(cloud, venv, set(SERVICES) - {"keystone"} - running.keys())


def restart(cloud: LabCloud, venv: Path, service: str) -> None:
    """End a service of a cloud and start it again with the configuration that is written now."""
    processes.kill(cloud, (service,))
    _start_services(cloud, venv, {service})


def reset(cloud: LabCloud, venv: Path) -> None:
    """Give a cloud the data it had when it was made."""
    processes.kill(cloud, REMEMBERING)
    for name in DATA:
        shutil.rmtree(cloud.dir / name, ignore_errors=True)
        shutil.copytree(cloud.saved / name, cloud.dir / name)
    start(cloud, venv)


def _start_services(cloud: LabCloud, venv: Path, services: set[str]) -> None:
    started = {service: _start_service(cloud, venv, service) for service in SERVICES if service in services}
    for service, process in started.items():
        ready = partial(processes.listens, process, cloud.ports[service])
        processes.wait_until_ready(process, ready, f"{service} of {cloud.name}", _log(cloud, service))


def _start_service(cloud: LabCloud, venv: Path, service: str) -> subprocess.Popen[bytes]:
    command = [
        str(venv / "bin/python"), str(processes.SERVE), service, str(cloud.dir), str(cloud.ports[service]),
    ]  # fmt: skip
    return processes.start(command, _log(cloud, service), config.environment(cloud, service))


def _check_ports(cloud: LabCloud, running: dict[str, psutil.Process]) -> None:
    for service, port in cloud.ports.items():
        if service not in running and is_listening(port):
            raise LabError(
                f"port {port}, which {service} of {cloud.name} needs, is used by another program; end that, "
                "or make the lab anew with other ports: down --purge, then up"
            )


def _save(cloud: LabCloud) -> None:
    # A stopped server cannot write while its files are copied: the copy is what a crash leaves, from which
    # InnoDB recovers by itself.
    unfinished = cloud.saved.with_suffix(".unfinished")
    server = processes.find(cloud)[processes.DATABASE]
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for name in DATA:
            shutil.copytree(cloud.dir / name, unfinished / name)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    unfinished.rename(cloud.saved)


def _log(cloud: LabCloud, name: str) -> Path:
    return cloud.dir / "logs" / f"{name}.log"

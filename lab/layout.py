"""Where a lab keeps its files, and which ports and passwords its two clouds use."""

from __future__ import annotations

import fcntl
import json
import os
import random
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from lab.release import NEWEST, RELEASES, Release

CLOUDS = ("source", "destination")
SERVICES = ("keystone", "glance", "placement", "neutron", "cinder", "nova")
DATABASES = ("keystone", "glance", "placement", "neutron", "cinder", "nova", "nova_api", "nova_cell0")
HOST = "127.0.0.1"
SOCKET_PATH_BYTES = 107  # the longest path of a unix socket: sun_path in unix(7)


class LabError(Exception):
    """Something the user of the lab has to know or do; its text says what."""


@dataclass(frozen=True)
class LabCloud:
    """One cloud of a lab: its directory, the port of each service, its release, its service users' password."""

    name: str
    dir: Path
    ports: Mapping[str, int]
    password: str = field(repr=False)
    release: Release = NEWEST

    @property
    def socket(self) -> Path:
        """The unix socket of this cloud's database server."""
        return self.dir / "mysqld.sock"

    @property
    def saved(self) -> Path:
        """The copy of the cloud's data as it was when the cloud was made; there only once it is complete."""
        return self.dir / "saved"

    def url(self, service: str) -> str:
        """The address of a service of this cloud."""
        return f"http://{HOST}:{self.ports[service]}"

    def database_url(self, database: str) -> str:
        """SQLAlchemy's address of one of this cloud's databases."""
        return database_url(self.socket, database)


def database_url(unix_socket: Path, database: str) -> str:
    """SQLAlchemy's address of a database that is served on a unix socket."""
    return f"mysql+pymysql://root@localhost/{database}?unix_socket={unix_socket}&charset=utf8mb4"


def cache_dir() -> Path:
    """What the labs of one user share: the services' venv and the template of their databases."""
    return platformdirs.user_cache_path("pumphouse-lab")


def default_dir() -> Path:
    """The lab that is meant when none is named: PUMPHOUSE_LAB_DIR, else one in the user's cache."""
    return Path(os.environ.get("PUMPHOUSE_LAB_DIR") or cache_dir() / "default")


def read_clouds(lab_dir: Path) -> list[LabCloud]:
    """The two clouds of a lab that was made before; LabError if there is none in this directory."""
    try:
        made = json.loads((lab_dir / "lab.json").read_text())
    except FileNotFoundError:
        raise LabError(f"no lab in {lab_dir}; make one with: python -m lab --dir {lab_dir} up") from None
    releases = made.get("releases", {})
    return [
        LabCloud(
            name=name,
            dir=lab_dir / name,
            ports=made["ports"][name],
            password=made["password"],
            release=RELEASES[releases.get(name, NEWEST.name)],
        )
        for name in CLOUDS
    ]


def make_clouds(
    lab_dir: Path, port_base: int | None = None, releases: Mapping[str, str] | None = None
) -> list[LabCloud]:
    """The two clouds of a lab, with ports and a password chosen if the lab is new.

    port_base: the first of twelve ports in a row; without it, twelve that are free now.
    releases: names of RELEASES by the clouds that are not to be of the newest one.
    Raises LabError if a port is in use, the directory's path is too long for a unix socket, or the lab is there
    and has other ports or releases.
    """
    if not (lab_dir / "lab.json").exists():
        _check_socket_path(lab_dir)
        with locked(cache_dir() / "ports"):
            _write_lab(lab_dir, _given_ports(port_base) if port_base else _free_ports(), releases or {})
    clouds = read_clouds(lab_dir)
    if port_base and port_base not in clouds[0].ports.values():
        raise LabError(
            f"the lab in {lab_dir} has other ports since it was made, and its clouds' catalogs name them; "
            "leave --port-base away, or remove the lab first with: down --purge"
        )
    for cloud in clouds:
        if cloud.release.name != (releases or {}).get(cloud.name, cloud.release.name):
            raise LabError(
                f"the {cloud.name} of the lab in {lab_dir} is of the release {cloud.release.name}; "
                "remove the lab first with: down --purge, or name another --dir"
            )
    return clouds


def _write_lab(lab_dir: Path, ports: list[int], releases: Mapping[str, str]) -> None:
    made = {
        "ports": {
            CLOUDS[0]: dict(zip(SERVICES, ports[::2], strict=True)),
            CLOUDS[1]: dict(zip(SERVICES, ports[1::2], strict=True)),
        },
        "password": secrets.token_urlsafe(16),
        "releases": dict(releases),
    }
    lab_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(lab_dir / "lab.json", json.dumps(made, indent=2))
    _claim(ports[0]).write_text(str(lab_dir))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_text(text)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes out of a directory, which is made if it is not there; waits until it is free."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_listening(port: int) -> bool:
    """Whether something accepts connections on this port of the loopback address."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _check_socket_path(lab_dir: Path) -> None:
    longest = LabCloud(CLOUDS[1], lab_dir / CLOUDS[1], {}, "").socket
    if len(os.fsencode(longest)) > SOCKET_PATH_BYTES:
        raise LabError(
            f"the path {lab_dir} is too long for a database's unix socket "
            f"({SOCKET_PATH_BYTES} bytes with {longest.relative_to(lab_dir)}); shorten it with --dir"
        )


def _given_ports(base: int) -> list[int]:
    ports = list(range(base, base + len(CLOUDS) * len(SERVICES)))
    taken = [port for port in ports if is_listening(port)]
    if taken:
        raise LabError(f"ports in use: {', '.join(map(str, taken))}; name another --port-base, or none")
    return ports


def _free_ports() -> list[int]:
    # Below the range that the kernel gives to outgoing connections (32768 and up): one of those could take a
    # port of ours while the lab is down.
    count = len(CLOUDS) * len(SERVICES)
    for base in random.sample(range(20000, 32000, count), 100):
        if not _is_claimed(base) and not any(is_listening(port) for port in range(base, base + count)):
            return list(range(base, base + count))
    raise LabError("found no twelve free ports in a row between 20000 and 32000; name some with --port-base")


def _claim(base: int) -> Path:
    # Names the lab that has the ports from here on: it may be down, or not listen yet because it was made a
    # moment ago.
    return cache_dir() / "ports" / str(base)


def _is_claimed(base: int) -> bool:
    try:
        return (Path(_claim(base).read_text()) / "lab.json").exists()
    except FileNotFoundError:
        return False

"""Real servers for state stores, on loopback: started for the tests, in folders of their own, and killed afterwards.

`python -m tests.stores.servers` installs what they need from Debian's packages.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tenacity import Retrying, stop_after_delay, wait_fixed

from lab.layout import cache_dir, locked

PACKAGES = ("postgresql", "mariadb-server-core", "mariadb-client-core", "zookeeper", "default-jre-headless")
INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES)
START_TIMEOUT_S = 120
PASSWORD = "not-shown-anywhere"
# A server ends when the process of the tests does, however that ends.
_WITH_ME = ("setpriv", "--pdeathsig=KILL")
_POSTGRESQL_USER = "postgres"


class Missing(Exception):
    """A program that a server needs is not installed."""


@dataclass
class Server:
    """A server that can be stopped at any moment, and started again with what it had.

    url: where a state store can be in it, without its name.
    make: makes an empty place for a state store; fails as long as the server does not answer.
    """

    url: str
    log: Path
    command: tuple[str, ...]
    make: Callable[[str], None]
    process: subprocess.Popen[bytes] | None = None

    def new_url(self) -> str:
        """The URL of an empty state store."""
        name = f"store_{uuid.uuid4().hex[:8]}"
        self.make(name)
        return f"{self.url}/{name}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                (*_WITH_ME, *self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            Retrying(stop=stop_after_delay(START_TIMEOUT_S), wait=wait_fixed(0.1), reraise=True)(self._check)
        except Exception as error:
            raise AssertionError(f"{self.url} does not answer\n{self.log.read_text()[-3000:]}") from error

    def kill(self) -> None:
        """End it at once, with all processes that it has started."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _check(self) -> None:
        assert self.process is not None
        assert self.process.poll() is None, "the process has ended"
        self.make(f"probe_{uuid.uuid4().hex[:8]}")


@contextmanager
def running(kind: str) -> Iterator[Server]:
    """A server of a kind: postgresql, mysql or zookeeper. Raises Missing."""
    # Not below a folder of pytest's, which only its own user may enter: PostgreSQL does not run as root.
    with tempfile.TemporaryDirectory(prefix=f"pumphouse-{kind}-") as folder:
        server = _MAKERS[kind](Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.kill()


def install() -> None:
    """Install what is missing; raises Missing with the command when the user may not."""
    if not _missing():
        return
    if os.geteuid() != 0:
        raise Missing(f"{', '.join(_missing())}; install with: sudo {' '.join(INSTALL)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with locked(cache_dir()):  # apt-get does not wait for another, which may be a lab's
        for command in (("apt-get", "update", "--quiet"), INSTALL):
            subprocess.run(command, env=environment, stdout=sys.stderr, check=True)
    if missing := _missing():
        raise Missing(", ".join(missing))


def _missing() -> list[str]:
    programs = ("initdb", "mariadbd", "mariadb-install-db", "java")
    jar = [] if _ZOOKEEPER_JAR.exists() else [str(_ZOOKEEPER_JAR)]
    return [program for program in programs if _find(program) is None] + jar


def _program(name: str) -> str:
    found = _find(name)
    if found is None:
        raise Missing(f"{name}; install with: python -m tests.stores.servers")
    return found


def _find(name: str) -> str | None:
    """Where a program is; Debian keeps those of PostgreSQL by version."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(
        name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *map(str, folders)])
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# PostgreSQL


def _postgresql(folder: Path) -> Server:
    import psycopg

    as_user: tuple[str, ...] = ()
    if os.geteuid() == 0:
        as_user = (*_WITH_ME, f"--reuid={_POSTGRESQL_USER}", f"--regid={_POSTGRESQL_USER}", "--clear-groups")
        shutil.chown(folder, _POSTGRESQL_USER)
    data, password, port = folder / "data", folder / "password", _free_port()
    password.write_text(PASSWORD)
    password.chmod(0o644)
    settings = ("--username=pumphouse", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync")
    subprocess.run(
        (*as_user, _program("initdb"), f"--pgdata={data}", *settings),
        cwd="/",
        check=True,
        capture_output=True,
    )
    login = f"postgresql://pumphouse:{PASSWORD}@127.0.0.1:{port}"

    def make(name: str) -> None:
        with psycopg.connect(f"{login}/postgres", autocommit=True, connect_timeout=5) as connection:
            connection.execute(f"CREATE DATABASE {name}")

    options = (f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
    command = (*as_user, _program("postgres"), "-D", str(data), *(f"-c{option}" for option in options))
    return Server(login, folder / "log", command, make)


# MariaDB


def _mysql(folder: Path) -> Server:
    import pymysql

    data, port, user = folder / "data", _free_port(), f"--user={getpass.getuser()}"
    settings = ("--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", user)
    subprocess.run(
        (_program("mariadb-install-db"), *settings, f"--datadir={data}"), check=True, capture_output=True
    )

    def make(name: str) -> None:
        with pymysql.connect(host="127.0.0.1", port=port, user="root", connect_timeout=5) as connection:
            connection.cursor().execute(f"CREATE DATABASE {name}")

    options = (f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder / 'socket'}", user)
    command = (_program("mariadbd"), "--no-defaults", f"--datadir={data}", *options, "--skip-name-resolve")
    return Server(f"mysql://root@127.0.0.1:{port}", folder / "log", command, make)


# ZooKeeper

_ZOOKEEPER_JAR = Path("/usr/share/java/zookeeper.jar")
_ZOOKEEPER_MAIN = "org.apache.zookeeper.server.ZooKeeperServerMain"


def _zookeeper(folder: Path) -> Server:
    from kazoo.client import KazooClient

    if not _ZOOKEEPER_JAR.exists():
        raise Missing(f"{_ZOOKEEPER_JAR}; install with: python -m tests.stores.servers")
    port = _free_port()
    settings = {
        "clientPort": port,
        "clientPortAddress": "127.0.0.1",
        "dataDir": folder / "data",
        "tickTime": 2000,
        "admin.enableServer": "false",
        "forceSync": "no",
    }
    (folder / "zoo.cfg").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    (folder / "data").mkdir()

    def make(name: str) -> None:
        client = KazooClient(f"127.0.0.1:{port}")
        try:
            client.start(timeout=5)
            client.create(f"/{name}")
        finally:
            client.stop()
            client.close()

    command = (_program("java"), "-Xmx256m", "-cp", str(_ZOOKEEPER_JAR), _ZOOKEEPER_MAIN)
    command = (*command, str(folder / "zoo.cfg"))
    return Server(f"zookeeper://127.0.0.1:{port}", folder / "log", command, make)


_MAKERS: dict[str, Callable[[Path], Server]] = {
    "postgresql": _postgresql,
    "mysql": _mysql,
    "zookeeper": _zookeeper,
}


if __name__ == "__main__":
    install()

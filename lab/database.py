"""MariaDB: one server per cloud on a unix socket, and the template that holds the schemas of all services."""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import processes
from lab.layout import DATABASES, LabError, cache_dir, database_url

# Durability is given up for speed: a lab that loses its power is made again.
SERVER_OPTIONS = (
    "--skip-networking",
    "--skip-grant-tables",  # whoever may enter the lab's directory may use its database
    # Every commit reaches the file, though not the disk: what a killed server leaves is complete.
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-use-native-aio=0",
    "--innodb-log-file-size=16M",
    "--innodb-buffer-pool-size=96M",
    "--performance-schema=OFF",
    "--max-connections=600",
    "--character-set-server=utf8mb4",
)

# What makes each schema: the command, the option group that names the database, and the database.
SYNCS = (
    (("keystone-manage", "db_sync"), "DATABASE", "keystone"),
    (("glance-manage", "db_sync"), "DATABASE", "glance"),
    (("placement-manage", "db", "sync"), "PLACEMENT_DATABASE", "placement"),
    (("neutron-db-manage", "upgrade", "heads"), "DATABASE", "neutron"),
    (("cinder-manage", "db", "sync"), "DATABASE", "cinder"),
    (("nova-manage", "api_db", "sync"), "API_DATABASE", "nova_api"),
    (("nova-manage", "db", "sync", "--local_cell"), "DATABASE", "nova"),
    (("nova-manage", "db", "sync", "--local_cell"), "DATABASE", "nova_cell0"),
)


def start(data_dir: Path, unix_socket: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a database server on a data directory and wait until it answers.

    Its temporary files have a folder of their own: a server that starts removes those of another one there.
    """
    temporary = unix_socket.with_suffix(".tmp")
    temporary.mkdir(exist_ok=True)
    command = [
        _program("mariadbd"),
        "--no-defaults",
        f"--datadir={data_dir}",
        f"--tmpdir={temporary}",
        f"--socket={unix_socket}",
        f"--pid-file={unix_socket.with_suffix('.pid')}",
        f"--user={getpass.getuser()}",
        *SERVER_OPTIONS,
    ]
    process = processes.start(command, log, os.environ)
    processes.wait_until_ready(process, lambda: _answers(unix_socket), "the database server", log)
    return process


def template_dir(venv: Path) -> Path:
    """The data directory that every new cloud is a copy of; named by what it is made from."""
    version = subprocess.run(
        [_program("mariadbd"), "--version"], capture_output=True, check=True, text=True
    ).stdout
    made_from = repr((version, venv.name, SERVER_OPTIONS, DATABASES, SYNCS))
    return cache_dir() / f"template-{hashlib.sha256(made_from.encode()).hexdigest()[:12]}"


def make_template(venv: Path, template: Path) -> None:
    """Make the data directory with all schemas; it appears under its name only when it is complete."""
    with tempfile.TemporaryDirectory(prefix="pumphouse-lab-") as scratch:
        data, unix_socket, log = (Path(scratch) / name for name in ("data", "mysqld.sock", "mysqld.log"))
        subprocess.run(
            [
                _program("mariadb-install-db"), "--no-defaults", "--auth-root-authentication-method=normal",
                "--skip-test-db", f"--user={getpass.getuser()}", f"--datadir={data}", f"--tmpdir={scratch}",
                *SERVER_OPTIONS[2:],
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        server = start(data, unix_socket, log)
        try:
            _make_schemas(venv, unix_socket)
        finally:
            server.terminate()
            server.wait()
        partial = template.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(data, partial)
        partial.rename(template)


def _make_schemas(venv: Path, unix_socket: Path) -> None:
    create = "".join(f"CREATE DATABASE {name} CHARACTER SET utf8mb4;" for name in DATABASES)
    subprocess.run(
        [_program("mariadb"), "--no-defaults", f"--socket={unix_socket}", f"--execute={create}"],
        check=True, capture_output=True,
    )  # fmt: skip
    with ThreadPoolExecutor((os.cpu_count() or 1) + 1) as pool:
        list(pool.map(lambda sync: _sync(venv, unix_socket, *sync), SYNCS))


def _sync(venv: Path, unix_socket: Path, command: tuple[str, ...], group: str, database: str) -> None:
    url = database_url(unix_socket, database)
    environment = {**os.environ, f"OS_{group}__CONNECTION": url, "PYTHONWARNINGS": "ignore"}
    program = str(venv / "bin" / command[0])
    result = subprocess.run([program, *command[1:]], env=environment, capture_output=True, text=True)
    if result.returncode:
        raise LabError(f"{' '.join(command)} failed for the database {database}:\n{result.stderr[-2000:]}")


def _answers(unix_socket: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(unix_socket)) == 0


def find_program(name: str) -> str | None:
    """Where a program is; Debian keeps servers in /usr/sbin, which is not in an ordinary user's PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _program(name: str) -> str:
    path = find_program(name)
    if path is None:
        raise LabError(f"the program {name} is missing; python -m lab up installs it")
    return path

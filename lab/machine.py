"""What a lab needs of its machine: packages of the distribution, and the venv of the services."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from lab import database
from lab.layout import LabError, cache_dir, locked
from lab.progress import Say, step
from lab.release import Release

# Each program the lab runs, and the package of Debian and Ubuntu that brings it. The "core" packages bring no
# service: nothing is started by them, and nothing that runs is disturbed.
PROGRAMS = {"mariadbd": "mariadb-server-core", "mariadb": "mariadb-client-core", "qemu-img": "qemu-utils"}
# Comes along with these; where it is not, the services take PyMySQL. See services/mysql_driver.py.
COMPILED_DRIVER = "python3-mysqldb"
# What makes the packages of older releases that have no wheel.
COMPILER = {"gcc": "gcc", "python3-config": "python3-dev"}
UV = (sys.executable, "-m", "uv", "--system-certs")
COMPLETE = ".complete"  # a venv cannot be made elsewhere and moved: its programs name its path


class MissingPython(LabError):
    """The machine has no Python of the version that a release runs on."""


def prepare(say: Say, release: Release) -> tuple[Path, Path]:
    """Make what is missing of packages, venv and template; the paths of the release's venv and template."""
    with locked(cache_dir()):
        _install_packages(say, release)
        venv = venv_dir(release)
        if not (venv / COMPLETE).exists():
            with step(say, f"installing the services of the release {release.name}"):
                _make_venv(venv, release)
        template = database.template_dir(venv)
        if not template.exists():
            with step(say, f"making the schemas of the release {release.name}"):
                database.make_template(venv, template)
    return venv, template


def venv_dir(release: Release) -> Path:
    """The venv of a release's services; named by what it is made from."""
    packages = release.requirements.read_bytes() + release.constraints.read_bytes()
    python = python_of(release)
    version = subprocess.run([python, "-VV"], capture_output=True, check=True).stdout
    return cache_dir() / f"venv-{hashlib.sha256(packages + version + python.encode()).hexdigest()[:12]}"


def python_of(release: Release) -> str:
    """What runs the services of a release: the distribution's Python if it has that version, else any.

    It is built with a profile of what programs do. One that was built on the machine mostly is not, and the
    services then take a quarter more of the CPU. Raises MissingPython.
    """
    own = f"/usr/bin/python{release.python}"
    if Path(own).exists() and subprocess.run([own, "-c", "import venv"], capture_output=True).returncode == 0:
        return own
    if release.python == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    pyenv = (
        Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob(f"versions/{release.python}*/bin")
    )
    path = os.pathsep.join([os.environ["PATH"], *map(str, pyenv)])
    find = [*UV, "python", "find", "--no-project", "--no-python-downloads", release.python]
    found = subprocess.run(find, capture_output=True, text=True, env={**os.environ, "PATH": path})
    if found.returncode:
        raise MissingPython(
            f"the release {release.name} needs Python {release.python}, and neither PATH, pyenv nor uv has it"
        )
    return found.stdout.strip()


def _install_packages(say: Say, release: Release) -> None:
    programs = PROGRAMS | (COMPILER if release.compiled else {})
    missing = [package for program, package in programs.items() if not database.find_program(program)]
    if not missing:
        return
    packages = [*missing, COMPILED_DRIVER]
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    sudo = _privilege()
    if sudo is None or not shutil.which("apt-get"):
        raise LabError(f"programs are missing; install them with: sudo {' '.join(install)}")
    with step(say, f"installing {' and '.join(packages)}"):
        _apt(sudo, ["apt-get", "update"])
        _apt(sudo, install)


def _privilege() -> list[str] | None:
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ["sudo", "-n"]
    return None


def _apt(sudo: list[str], command: list[str]) -> None:
    _run(*sudo, "env", "DEBIAN_FRONTEND=noninteractive", *command)


def _make_venv(venv: Path, release: Release) -> None:
    _run(*UV, "venv", "--clear", "--python", python_of(release), str(venv))
    _run(
        *UV, "pip", "install", "--python", str(venv / "bin/python"), "--requirement", str(release.requirements),
        "--constraint", str(release.constraints), "--build-constraint", str(release.constraints),
    )  # fmt: skip
    (venv / COMPLETE).touch()


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise LabError(f"{' '.join(command)} failed:\n{(result.stdout + result.stderr)[-2000:]}")

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

# Each program the lab runs, and the package of Debian and Ubuntu that brings it. The "core" packages bring no
# service: nothing is started by them, and nothing that runs is disturbed.
PROGRAMS = {"mariadbd": "mariadb-server-core", "mariadb": "mariadb-client-core", "qemu-img": "qemu-utils"}
# Comes along with these; where it is not, the services take PyMySQL. See services/mysql_driver.py.
COMPILED_DRIVER = "python3-mysqldb"
REQUIREMENTS = Path(__file__).parent / "requirements-services.txt"
CONSTRAINTS = Path(__file__).parent / "constraints-services.txt"
COMPLETE = ".complete"  # a venv cannot be made elsewhere and moved: its programs name its path


def prepare(say: Say) -> tuple[Path, Path]:
    """Make what is missing of packages, venv and template; the paths of the venv and the template."""
    with locked(cache_dir()):
        _install_packages(say)
        venv = venv_dir()
        if not (venv / COMPLETE).exists():
            with step(say, "installing the services"):
                _make_venv(venv)
        template = database.template_dir(venv)
        if not template.exists():
            with step(say, "making the databases' schemas"):
                database.make_template(venv, template)
    return venv, template


def venv_dir() -> Path:
    """The services' venv; named by what it is made from."""
    made_from = REQUIREMENTS.read_bytes() + CONSTRAINTS.read_bytes() + f"{sys.version} {_python()}".encode()
    return cache_dir() / f"venv-{hashlib.sha256(made_from).hexdigest()[:12]}"


def _python() -> str:
    """What runs the services: the distribution's Python, if it is of this version.

    It is built with a profile of what programs do. One that was built on the machine mostly is not, and the
    services then take a quarter more of the CPU.
    """
    own = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    whole = (
        Path(own).exists() and subprocess.run([own, "-c", "import venv"], capture_output=True).returncode == 0
    )
    return own if whole else sys.executable


def _install_packages(say: Say) -> None:
    missing = [package for program, package in PROGRAMS.items() if not database.find_program(program)]
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


def _make_venv(venv: Path) -> None:
    uv = (sys.executable, "-m", "uv", "--quiet", "--system-certs")
    _run(*uv, "venv", "--clear", "--python", _python(), str(venv))
    _run(
        *uv, "pip", "install", "--python", str(venv / "bin/python"),
        "--requirement", str(REQUIREMENTS), "--constraint", str(CONSTRAINTS),
    )  # fmt: skip
    (venv / COMPLETE).touch()


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise LabError(f"{' '.join(command)} failed:\n{(result.stdout + result.stderr)[-2000:]}")

"""The release that is built of this checkout, and the command that it installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"

Run = Callable[..., subprocess.CompletedProcess[str]]


class Built(NamedTuple):
    """The two files of a release."""

    sdist: Path
    wheel: Path

    def metadata(self) -> str:
        """What the wheel says of itself."""
        with ZipFile(self.wheel) as wheel:
            (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
            return wheel.read(name).decode()


def execute(*command: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command with nothing of the checkout in its environment; by default it has to succeed."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PUMPHOUSE_", "OS_"))
    }
    # What builds the package is locked, too.
    environment |= {"UV_CONSTRAINT": str(CONSTRAINTS), "UV_BUILD_CONSTRAINT": str(CONSTRAINTS)}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert not (check and result.returncode), result.stdout + result.stderr
    return result


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist and the wheel, built from what the checkout has under version control."""
    source = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    execute(sys.executable, "-m", "build", "--installer", "uv", "--outdir", "dist", str(source), cwd=source)
    (sdist,), (wheel,) = ((source / "dist").glob(pattern) for pattern in ("*.tar.gz", "*.whl"))
    return Built(sdist, wheel)


@pytest.fixture(scope="session")
def run(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the command that the wheel installs into an empty environment, in an empty folder."""
    away = tmp_path_factory.mktemp("away")
    uv = (sys.executable, "-m", "uv")
    execute(*uv, "venv", "--python", sys.executable, "venv", cwd=away)
    execute(*uv, "pip", "install", "--python", "venv", str(built.wheel), cwd=away)

    def pumphouse(*arguments: str) -> subprocess.CompletedProcess[str]:
        return execute(str(away / "venv" / "bin" / "pumphouse"), *arguments, cwd=away, check=False)

    return pumphouse

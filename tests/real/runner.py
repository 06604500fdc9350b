"""Runs the command line as an operator does, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab import Lab


class Runner:
    """Runs pumphouse with a configuration for the two clouds of a lab."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.passwords = folder / "passwords.csv"
        self._state = folder / "state.db"
        self.config = self.write_config(folder / "pumphouse.yaml")

    def write_config(self, path: Path, clouds_file: Path | None = None, **policies: str) -> Path:
        """A configuration file, with the policies that are given."""
        # A sparse volume of a GiB is 0.2 MB as qcow2.
        settings = {"passwords_file": str(self.passwords), "volume_format": "qcow2", **policies}
        path.write_text(
            f"clouds_file: {clouds_file or self.lab.clouds_yaml}\n"
            "source: {cloud: source}\ndestination: {cloud: destination}\n"
            f"policies: {json.dumps(settings)}\nstate: {{url: 'sqlite:///{self._state}'}}\n"
        )
        return path

    def run(
        self, *arguments: str, config: Path | None = None, exit_code: int, configured: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; it has to end with that exit code, without a traceback."""
        options = ["--config", str(config or self.config)] if configured else []
        command = [sys.executable, "-m", "pumphouse", *arguments, *options]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        assert result.returncode == exit_code, f"{result.stdout[-20_000:]}\n{result.stderr[-20_000:]}"
        assert "Traceback" not in result.stderr
        return result

    def json(self, *arguments: str, config: Path | None = None, exit_code: int = 0) -> Any:
        """What a command prints as JSON."""
        return json.loads(self.run(*arguments, "-f", "json", config=config, exit_code=exit_code).stdout)

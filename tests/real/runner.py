"""Runs the command line as an operator does, in a process of its own."""

from __future__ import annotations

import atexit
import itertools
import json
import os
from pathlib import Path
from typing import Any

from lab import Lab
from tests.faults.driver import Command, Ended, Nursery

NURSERY = Nursery()
atexit.register(NURSERY.__exit__, None, None, None)


class Runner:
    """Runs pumphouse with a configuration for the two clouds of a lab.

    back: the tenants move from the lab's destination to its source.
    """

    def __init__(self, lab: Lab, folder: Path, *, back: bool = False) -> None:
        self.lab, self._folder = lab, folder
        self._clouds = ("destination", "source") if back else ("source", "destination")
        self._numbers = itertools.count(1)
        self.passwords = folder / "passwords.csv"
        self._state = folder / "state.db"
        self.config = self.write_config(folder / "pumphouse.yaml")

    def write_config(self, path: Path, clouds_file: Path | None = None, **policies: str) -> Path:
        """A configuration file, with the policies that are given."""
        # A sparse volume of a GiB is 0.2 MB as qcow2.
        source, destination = self._clouds
        settings = {"passwords_file": str(self.passwords), "volume_format": "qcow2", **policies}
        path.write_text(
            f"clouds_file: {clouds_file or self.lab.clouds_yaml}\n"
            f"source: {{cloud: {source}}}\ndestination: {{cloud: {destination}}}\n"
            f"policies: {json.dumps(settings)}\nstate: {{url: 'sqlite:///{self._state}'}}\n"
        )
        return path

    def start(self, *arguments: str, config: Path | None = None, configured: bool = True) -> Command:
        """Start a command."""
        options = ["--config", str(config or self.config)] if configured else []
        said = self._folder / f"said-{next(self._numbers)}"
        order = {
            "arguments": [*arguments, *options],
            "environment": dict(os.environ),
            "stdout": f"{said}.out",
            "stderr": f"{said}.err",
        }
        return Command(NURSERY, order)

    def run(
        self, *arguments: str, config: Path | None = None, exit_code: int, configured: bool = True
    ) -> Ended:
        """Run a command; it has to end with that exit code, without a traceback."""
        return self.start(*arguments, config=config, configured=configured).wait().expect(exit_code)

    def json(self, *arguments: str, config: Path | None = None, exit_code: int = 0) -> Any:
        """What a command prints as JSON."""
        return self.run(*arguments, "-f", "json", config=config, exit_code=exit_code).json

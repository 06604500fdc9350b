"""Starts the command line as an operator does, and ends it as nobody wishes."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from lab import Lab

TIMEOUT_S = 300
# Of tests that run hundreds of commands, on a machine with as much else to do.
LONG_S = 1800
KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    code: its exit code; negative for the signal that ended it.
    """

    arguments: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    def expect(self, *codes: int) -> Ended:
        """This, if it ended with one of these codes and without a traceback, which only --debug may log."""
        said = (
            f"{' '.join(self.arguments)} ended with {self.code}\n{self.stdout[-6000:]}\n{self.stderr[-6000:]}"
        )
        assert self.code in codes, said
        assert "--debug" in self.arguments or "Traceback" not in self.stderr + self.stdout, said
        return self

    @property
    def json(self) -> Any:
        """What it printed."""
        return json.loads(self.stdout)


class Nursery:
    """Processes that others are forked from; as many as there are commands at once.

    module: what they are, see tests.faults.kill.
    """

    def __init__(self, module: str = "tests.faults.kill") -> None:
        self._module = module
        self._idle: list[subprocess.Popen[str]] = []
        self._busy: set[subprocess.Popen[str]] = set()
        self._all = ExitStack()
        self._lock = threading.Lock()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._busy:
            os.killpg(process.pid, signal.SIGKILL)
        self._all.close()

    def take(self) -> subprocess.Popen[str]:
        """One that has nothing to do."""
        with self._lock:
            process = self._idle.pop() if self._idle else self._new()
            self._busy.add(process)
            return process

    def give(self, process: subprocess.Popen[str]) -> None:
        """Take one back that has nothing to do any more."""
        with self._lock:
            self._busy.discard(process)
            self._idle.append(process)

    def _new(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", self._module]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return self._all.enter_context(subprocess.Popen(command, **pipes, start_new_session=True))


class Command:
    """A command that runs.

    order: its "arguments", its whole "environment", the files of its "stdout" and "stderr"; how many
    "transitions" are left to it, 0 for all, and the "log" of those: see tests.faults.kill.
    """

    def __init__(self, nursery: Nursery, order: Mapping[str, Any]) -> None:
        self._nursery, self._order = nursery, order
        self._parent = nursery.take()
        for stream in ("stdout", "stderr"):
            Path(order[stream]).touch()
        self._tell(json.dumps(order))
        self.pid: int = self._hear()["pid"]

    def signal(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal; one that has just ended does not mind."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def output(self) -> str:
        """What it has said so far."""
        return self._read("stdout") + self._read("stderr")

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until what it has said matches."""
        end_s = time.monotonic() + TIMEOUT_S
        while (found := re.search(pattern, self.output())) is None:
            assert time.monotonic() < end_s, f"not said: {pattern}\n{self.output()[-6000:]}"
            self._is_heard(0.02)
        return found

    def reaches(self, moment: threading.Event) -> bool:
        """Wait until something has happened; False when it has ended without that."""
        end_s = time.monotonic() + TIMEOUT_S
        while not moment.wait(0.02):
            if self.has_ended():
                return False
            assert time.monotonic() < end_s, f"never happened\n{self.output()[-6000:]}"
        return True

    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._is_heard(0)

    def wait(self) -> Ended:
        """Wait for its end, which comes within TIMEOUT_S."""
        if not self._is_heard(TIMEOUT_S):
            self.signal()
            raise AssertionError(f"still running after {TIMEOUT_S} s\n{self.output()[-6000:]}")
        code = self._hear()["code"]
        self._nursery.give(self._parent)
        return Ended(tuple(self._order["arguments"]), code, self._read("stdout"), self._read("stderr"))

    def _read(self, stream: str) -> str:
        return Path(self._order[stream]).read_text()

    def _tell(self, line: str) -> None:
        _pipe(self._parent.stdin).write(f"{line}\n")
        _pipe(self._parent.stdin).flush()

    def _is_heard(self, timeout_s: float) -> bool:
        poll = select.poll()  # select() itself takes no file beyond the first 1,024
        poll.register(_pipe(self._parent.stdout), select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def _hear(self) -> dict[str, int]:
        answer: dict[str, int] = json.loads(_pipe(self._parent.stdout).readline())
        return answer


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


class Operator:
    """Somebody with a configuration for both clouds, and a state store of his own.

    environment: of all commands, e.g. the proxy's.
    """

    def __init__(self, nursery: Nursery, lab: Lab, folder: Path, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.lab, self.environment = folder, lab, environment
        self.passwords = folder / "passwords.csv"
        self.transitions = folder / "transitions"
        self._nursery = nursery
        self._count = 0
        self.configure()

    def configure(
        self, workers: int = 16, state_url: str = "", limits: Mapping[str, Any] | None = None, **policies: Any
    ) -> None:
        """Write the configuration, with the policies and the other limits that are given."""
        settings = {"passwords_file": str(self.passwords), **policies}
        limits = {"workers": workers, **(limits or {})}
        (self.folder / "pumphouse.yaml").write_text(
            f"clouds_file: {self.lab.clouds_yaml}\n"
            "source: {cloud: source}\ndestination: {cloud: destination}\n"
            f"policies: {json.dumps(settings)}\nlimits: {json.dumps(limits)}\n"
            f"state: {{url: '{state_url or f'sqlite:///{self.folder}/state.db'}'}}\n"
        )

    def start(self, *arguments: str, transitions: int = 0) -> Command:
        """Start a command; it kills itself after so many transitions that no command before it made."""
        self._count += 1
        order = {
            "arguments": arguments,
            "environment": {
                **os.environ,
                **self.environment,
                "PUMPHOUSE_CONFIG": str(self.folder / "pumphouse.yaml"),
            },
            "stdout": str(self.folder / f"{self._count}.out"),
            "stderr": str(self.folder / f"{self._count}.err"),
            "transitions": transitions,
            "log": str(self.transitions),
        }
        return Command(self._nursery, order)

    def run(self, *arguments: str, transitions: int = 0) -> Ended:
        """Run a command to its end."""
        return self.start(*arguments, transitions=transitions).wait()

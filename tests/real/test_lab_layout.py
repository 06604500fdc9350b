"""The directory and the ports of a lab."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lab import Lab, LabError, processes
from lab.layout import make_clouds


def test_ports_in_use_are_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LabError, match=f"ports in use: .*{port}"):
            make_clouds(tmp_path / "new", port_base=port)


def test_a_directory_too_deep_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="too long"):
        make_clouds(tmp_path / ("d" * 100))


def test_a_lab_that_was_never_made_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"make one with: python -m lab --dir .* up"):
        Lab(tmp_path).status()


def test_labs_that_are_made_at_the_same_time_have_ports_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(random, "sample", lambda bases, count: bases[-count:])
    made = [make_clouds(tmp_path / name) for name in ("one", "two")]
    ports = [port for clouds in made for cloud in clouds for port in cloud.ports.values()]
    assert len(set(ports)) == len(ports)
    (tmp_path / "one" / "lab.json").unlink()
    assert make_clouds(tmp_path / "three")[0].ports == made[0][0].ports


def test_a_service_is_not_ready_because_another_program_has_its_port() -> None:
    with (
        socket.socket() as ours,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as service,
    ):
        ours.bind(("127.0.0.1", 0))
        ours.listen()
        assert not processes.listens(service, ours.getsockname()[1])
        service.kill()

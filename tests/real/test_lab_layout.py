"""The directory and the ports of a lab."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lab import Lab, LabError
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

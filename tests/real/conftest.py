"""The lab that the tests against real clouds share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab import Lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The running lab that $PUMPHOUSE_LAB_DIR names, else one of the session's own."""
    directory = os.environ.get("PUMPHOUSE_LAB_DIR")
    if directory:
        yield Lab(directory)
        return
    lab = Lab(tmp_path_factory.mktemp("lab"))
    try:
        lab.up()
        # For the other folders of tests in the same session.
        os.environ["PUMPHOUSE_LAB_DIR"] = str(lab.dir)
        yield lab
    finally:
        os.environ.pop("PUMPHOUSE_LAB_DIR", None)
        lab.down(purge=True)

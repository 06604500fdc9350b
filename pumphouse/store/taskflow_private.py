"""The private parts of TaskFlow that Pumphouse replaces: all of them are here.

TaskFlow writes its files in place, so that a process which is killed leaves one half written, and it caches what it
reads by the time of a file, which does not tell two writes of the same moment apart. It has no public way to change
either. `tests/unit/test_private_parts.py` fails when a release of TaskFlow does not have these methods any more.
"""

from __future__ import annotations

import os
from pathlib import Path

from taskflow.persistence.backends import impl_dir


class WholeFileConnection(impl_dir.Connection):  # type: ignore[misc]
    """TaskFlow's connection to a folder, which replaces files instead of writing into them.

    A killed process leaves every file whole; against a power cut it would take a sync of each, at 8 ms.
    """

    def _write_to(self, filename: str, contents: str) -> None:
        new = f"{filename}.new"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(contents)
        os.replace(new, filename)

    def _read_from(self, filename: str) -> str:
        return Path(filename).read_text("utf-8")

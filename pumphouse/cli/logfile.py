"""The file that a log is kept in; apart, because what it is made of takes longer to import than most commands."""

from __future__ import annotations

import os
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler


class PrivateFile(RotatingFileHandler):
    """A file of a bounded size that only its owner reads."""

    kept_file = property(lambda self: self.baseFilename)

    def _open(self) -> TextIOWrapper:
        return open(
            self.baseFilename, "a", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)
        )

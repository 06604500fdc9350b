"""What is logged where: warnings, and more with `-v`, to stderr; everything to a file in the folder of the state."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path

import click

from pumphouse import __version__
from pumphouse.errors import SecretFilter
from pumphouse.show.text import printable

LOG = logging.getLogger(__name__)

FILE_NAME = "pumphouse.log"
FILE_BYTES = 10 << 20
FILES = 4
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_OURS = "pumphouse"


class LineFormatter(logging.Formatter):
    """Writes each record on one line; the lines of a traceback behind it are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The record without its traceback, on one line."""
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """The record with its traceback: nothing in either can pass for another record."""
        first, *traceback = super().format(record).split("\n")
        return "\n".join([first, *(f"  {printable(line)}" for line in traceback)])


class _BriefFormatter(LineFormatter):
    """A warning or an error as other messages of a command are written."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(f"{record.levelname.lower()}: {record.getMessage()}")

    def formatException(self, _error: object) -> str:
        return ""


class _Stderr(logging.Handler):
    """Writes to what stderr is at the moment: while a block of progress is shown, the lines go above it."""

    def __init__(self, level: int, formatter: logging.Formatter) -> None:
        super().__init__(level)
        self.addFilter(SecretFilter())
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, of which each line was made printable."""
        for line in self.format(record).rstrip("\n").split("\n"):
            click.echo(printable(line), err=True)


def log_warnings() -> None:
    """Warnings and errors of ours go to stderr; what the clients log and Python warns of does not."""
    root = logging.getLogger()
    root.addHandler(logging.NullHandler())
    logging.captureWarnings(True)
    logging.getLogger(_OURS).addHandler(_Stderr(logging.WARNING, _BriefFormatter()))


def log_more(*, debug: bool) -> None:
    """Log to stderr what pumphouse does; with debug, what the clients do as well."""
    logger, ours = logging.getLogger() if debug else logging.getLogger(_OURS), logging.getLogger(_OURS)
    for handler in [each for each in ours.handlers if isinstance(each, _Stderr)]:
        ours.removeHandler(handler)
    level = logging.DEBUG if debug else logging.INFO
    logger.addHandler(_Stderr(level, LineFormatter(_FORMAT)))
    logger.setLevel(level)


def keep_log(folder: Path) -> None:
    """Log all that pumphouse does, and what the clients warn of, to a file there; once for a process."""
    from pumphouse.cli.logfile import PrivateFile

    if log_file():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handler = PrivateFile(folder / FILE_NAME, maxBytes=FILE_BYTES, backupCount=FILES - 1)
    except OSError as error:
        LOG.warning("no log is kept in %s: %s", folder, error.strerror)
        return
    handler.addFilter(SecretFilter())
    handler.setFormatter(LineFormatter(f"%(process)d {_FORMAT}"))
    logging.getLogger().addHandler(handler)
    logging.getLogger(_OURS).setLevel(logging.DEBUG)
    LOG.info("pumphouse %s: %s", __version__, shlex.join(sys.argv[1:]))


def log_file() -> str:
    """The file that is logged to; empty when there is none."""
    files = (getattr(handler, "kept_file", "") for handler in logging.getLogger().handlers)
    return next(filter(None, files), "")

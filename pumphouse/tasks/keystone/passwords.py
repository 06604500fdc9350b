"""The file that holds passwords of users, of those that were made or are to be: CSV, readable by its owner alone."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from pumphouse.errors import PumphouseError

_HEADER = ("cloud", "domain", "name", "password")


@dataclass(frozen=True)
class Account:
    """Whose password it is: a user of a domain of a cloud."""

    cloud: str
    domain: str
    name: str


def reserve(path: Path, account: Account) -> str:
    """The password of an account, made and safely on disk before this returns; the same one when asked again.

    Raises PumphouseError when the file cannot be written.
    """
    try:
        with _locked(path) as fd:
            rows = _rows(fd)
            if account in rows:
                return rows[account]
            password = _password()
            _replace(path, {**rows, account: password})
            return password
    except OSError as error:
        raise _unusable(path, error) from error


def lookup(path: Path, account: Account) -> str | None:
    """The password that somebody wrote into a file for an account; None when there is none.

    Raises PumphouseError when the file cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise PumphouseError(
            f"the file of passwords {path} cannot be read: {error.strerror}",
            f"write it, with the columns {','.join(_HEADER)}, or set policies.user_passwords to disabled",
        ) from error
    try:
        return _rows(fd).get(account)
    finally:
        os.close(fd)


def forget(path: Path, account: Account) -> None:
    """Take out the password of an account that was not made, or is no more.

    Raises PumphouseError when the file cannot be written.
    """
    try:
        with _locked(path) as fd:
            rows = _rows(fd)
            if rows.pop(account, None) is not None:
                _replace(path, rows)
    except OSError as error:
        raise _unusable(path, error) from error


def _password() -> str:
    # The ending has what a password_regex of Keystone asks for as a rule: both cases, a digit, a sign.
    return f"{secrets.token_urlsafe(24)}-aA1"


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file, opened for this thread of this process alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Whoever held the lock may have put another file in its place.
            if _is_at(path, fd):
                os.fchmod(fd, 0o600)
                yield fd
                return
        finally:
            os.close(fd)


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _rows(fd: int) -> dict[Account, str]:
    with open(fd, newline="", encoding="utf-8", closefd=False) as file:
        rows = [row for row in csv.reader(file) if len(row) == len(_HEADER) and tuple(row) != _HEADER]
    return {Account(*account): password for *account, password in rows}


def _replace(path: Path, rows: dict[Account, str]) -> None:
    """Write the file anew beside the old one and put it in its place, so that no crash loses a password."""
    text = io.StringIO()
    csv.writer(text).writerow(_HEADER)
    csv.writer(text).writerows([*astuple(account), password] for account, password in rows.items())
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", newline="", encoding="utf-8") as file:
        file.write(text.getvalue())
        file.flush()
        os.fsync(fd)
    new.replace(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unusable(path: Path, error: OSError) -> PumphouseError:
    return PumphouseError(
        f"the file of passwords {path} cannot be written: {error.strerror}",
        "name another in policies.passwords_file, or set policies.user_passwords to disabled",
    )

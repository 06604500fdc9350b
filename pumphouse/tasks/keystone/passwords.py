"""The file that holds passwords of users, of those that were made or are to be: CSV, readable by its owner alone."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from pumphouse.errors import PumphouseError
from pumphouse.model import keystone_at

_HEADER = ("cloud", "domain", "name", "password")
_NAME_ANOTHER = "name another in policies.passwords_file, one that does not exist yet or that pumphouse made"

Rows = list[list[str]]


@dataclass(frozen=True)
class Account:
    """Whose password it is: a user of a domain of a cloud, which is the address of its Keystone."""

    cloud: str
    domain: str
    name: str


def reserve(path: Path, account: Account) -> str:
    """The password of an account, made and safely on disk before this returns; the same one when asked again.

    Raises PumphouseError when the file cannot be written, or is not one that pumphouse may write.
    """
    try:
        with _locked(path) as fd:
            rows = _own_rows(path, fd)
            known = _passwords(rows)
            if account in known:
                return known[account]
            password = _password()
            _replace(path, [*rows, [*astuple(account), password]])
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
        return _passwords(_rows(path, fd)).get(account)
    finally:
        os.close(fd)


def forget(path: Path, account: Account) -> None:
    """Take out the password of an account that was not made, or is no more.

    Raises PumphouseError when the file cannot be written, or is not one that pumphouse may write.
    """
    try:
        with _locked(path) as fd:
            rows = _own_rows(path, fd)
            left = [row for row in rows if not _is_of(account, row)]
            if len(left) < len(rows):
                _replace(path, left)
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
        if path.is_symlink():
            raise _not_ours(path, "is a symbolic link", "expected a file, which is replaced by a newer one")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            _refuse_others(path, os.fstat(fd))
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Whoever held the lock may have put another file in its place.
            if _is_at(path, fd):
                yield fd
                return
        finally:
            os.close(fd)


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _refuse_others(path: Path, found: os.stat_result) -> None:
    """Raise PumphouseError for what is no file, or somebody else's, whom a new file would shut out."""
    if not stat.S_ISREG(found.st_mode):
        raise _not_ours(path, "is not a regular file", "expected one")
    if found.st_uid != os.geteuid():
        raise _not_ours(path, f"belongs to the user with the id {found.st_uid}", "expected a file of yours")


def _own_rows(path: Path, fd: int) -> Rows:
    """All rows of a file that pumphouse made, the header first; the file is closed to everybody else.

    Raises PumphouseError when the file has something else, which is then left as it is.
    """
    rows = _rows(path, fd)
    if rows and tuple(rows[0]) != _HEADER:
        raise _not_ours(path, "is not a file of passwords", f"expected {','.join(_HEADER)} in its first line")
    os.fchmod(fd, 0o600)
    return rows or [list(_HEADER)]


def _rows(path: Path, fd: int) -> Rows:
    """All rows of a file, whatever they are; a spreadsheet may have put a byte order mark before them."""
    try:
        with open(fd, newline="", encoding="utf-8-sig", closefd=False) as file:
            return list(csv.reader(file, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _not_ours(path, "cannot be read as CSV", f"expected {','.join(_HEADER)} in UTF-8") from error


def _passwords(rows: Rows) -> dict[Account, str]:
    return {_account(row): row[3] for row in rows if len(row) == len(_HEADER) and tuple(row) != _HEADER}


def _is_of(account: Account, row: list[str]) -> bool:
    return len(row) == len(_HEADER) and _account(row) == account


def _account(row: list[str]) -> Account:
    """Whose password a row has; people and older releases write an address as they log in with it."""
    cloud, domain, name, _ = row
    return Account(keystone_at(cloud), domain, name)


def _replace(path: Path, rows: Rows) -> None:
    """Write the file anew beside the old one and put it in its place, so that no crash loses a password."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
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


def _not_ours(path: Path, what: str, expected: str) -> PumphouseError:
    return PumphouseError(f"{path} {what}: {expected}; it is left as it is", _NAME_ANOTHER)


def _unusable(path: Path, error: OSError) -> PumphouseError:
    return PumphouseError(
        f"the file of passwords {path} cannot be written: {error.strerror}",
        "name another in policies.passwords_file, or set policies.user_passwords to disabled",
    )

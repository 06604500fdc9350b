"""The file of passwords: nothing is lost, whoever writes at the same time and whenever one is killed."""

from __future__ import annotations

import csv
import os
import stat
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumphouse.errors import PumphouseError
from pumphouse.tasks.keystone.passwords import Account, forget, lookup, reserve

HEADER = "cloud,domain,name,password"
ALICE = Account("new", "Default", "alice")
BOB = Account("new", "Default", "bob")


def read(path: Path) -> dict[Account, str]:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["cloud", "domain", "name", "password"]
    found = {Account(*row[:3]): row[3] for row in rows}
    assert len(found) == len(rows)
    return found


def test_a_password_is_on_disk_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "passwords.csv"
    password = reserve(path, ALICE)
    assert read(path) == {ALICE: password}
    assert len(password) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["passwords.csv"]


def test_asking_again_gives_the_same_password(tmp_path: Path) -> None:
    path = tmp_path / "passwords.csv"
    passwords = {account: reserve(path, account) for account in (ALICE, BOB)}
    assert reserve(path, ALICE) == passwords[ALICE] != passwords[BOB]
    assert read(path) == passwords


def test_a_forgotten_account_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "passwords.csv"
    first, other = reserve(path, ALICE), reserve(path, BOB)
    forget(path, ALICE)
    forget(path, ALICE)
    assert read(path) == {BOB: other}
    assert reserve(path, ALICE) != first


def test_a_file_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "passwords.csv"
    password = reserve(path, ALICE)
    path.chmod(0o644)
    assert reserve(path, ALICE) == password
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_killed_writer_left_beside_the_file_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "passwords.csv"
    password = reserve(path, ALICE)
    path.with_name("passwords.csv.new").write_text("half a li")
    other = reserve(path, BOB)
    assert read(path) == {ALICE: password, BOB: other}


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_any_name_is_found_again(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = tmp_path_factory.mktemp("names") / "passwords.csv"
    account = Account("new", 'a "quoted", domain', name)
    assert reserve(path, account) == reserve(path, account)


def test_threads_and_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "passwords.csv"
    with ProcessPoolExecutor(4) as processes:
        futures = [processes.submit(_reserve_many, path, f"p{number}") for number in range(4)]
        with ThreadPoolExecutor(4) as threads:
            own = list(threads.map(lambda number: _reserve_many(path, f"t{number}"), range(4)))
        made = [*own, *(future.result() for future in futures)]
    wanted = {account: password for passwords in made for account, password in passwords.items()}
    assert len(wanted) == 8 * 5
    assert read(path) == wanted


def test_a_file_that_cannot_be_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PumphouseError, match="cannot be written: Not a directory") as caught:
        reserve(tmp_path / "file" / "deeper" / "passwords.csv", ALICE)
    assert "policies.passwords_file" in caught.value.hint


@pytest.mark.parametrize(
    "content",
    [
        b"name,phone\nbob,123\nanne,456\n# my notes\n",
        b"new,Default,alice,word\n",
        b"\n",
        b"\x89PNG\xff",
        b'cloud,domain,name,password\r\nnew,Default,"alice,word\r\nnew,Default,bob,word\r\n',
    ],
)
@pytest.mark.parametrize("change", [reserve, forget])
def test_a_file_of_something_else_is_refused_and_left_as_it_is(
    tmp_path: Path, content: bytes, change: Any
) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    path.chmod(0o644)
    with pytest.raises(PumphouseError, match=r"mine.csv .*: expected cloud,domain,name,password") as caught:
        change(path, ALICE)
    assert "policies.passwords_file" in caught.value.hint
    assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_every_row_that_somebody_wrote_into_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "passwords.csv"
    password = reserve(path, ALICE)
    by_hand = ["# my notes", "", "new,Default,anne,word,since 2020", "new,Default,bob,word"]
    with path.open("a", newline="") as file:
        file.write("".join(f"{line}\r\n" for line in by_hand))
    carol = reserve(path, Account("new", "Default", "carol"))
    forget(path, Account("new", "Default", "carol"))
    assert path.read_text().splitlines()[2:] == by_hand
    assert carol not in path.read_text()
    assert (reserve(path, ALICE), reserve(path, BOB)) == (password, "word")


def test_a_file_that_a_spreadsheet_has_saved_is_still_one(tmp_path: Path) -> None:
    path = tmp_path / "passwords.csv"
    path.write_text("\ufeffcloud,domain,name,password\nnew,Default,alice,word\n")
    assert (reserve(path, ALICE), lookup(path, ALICE)) == ("word", "word")
    reserve(path, BOB)
    assert read(path)[ALICE] == "word"


def test_a_link_to_a_file_is_refused(tmp_path: Path) -> None:
    target, path = tmp_path / "passwords.csv", tmp_path / "link.csv"
    reserve(target, ALICE)
    before = target.read_bytes()
    path.symlink_to(target)
    with pytest.raises(PumphouseError, match=r"link.csv is a symbolic link: expected a file"):
        reserve(path, BOB)
    assert path.is_symlink()
    assert target.read_bytes() == before


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(PumphouseError, match="fifo is not a regular file: expected one"):
        reserve(path, ALICE)


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "passwords.csv"
    reserve(path, ALICE)
    before = path.read_bytes()
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(PumphouseError, match=r"passwords.csv belongs to the user with the id \d+: expected"):
        reserve(path, BOB)
    assert path.read_bytes() == before


def _reserve_many(path: Path, prefix: str) -> dict[Account, str]:
    """Ten accounts of its own, of which each second one is taken out again."""
    accounts = [Account("new", "Default", f"{prefix}-{number}") for number in range(10)]
    passwords = {account: reserve(path, account) for account in accounts}
    for account in accounts[::2]:
        forget(path, account)
        del passwords[account]
    return passwords


@pytest.mark.parametrize(
    "written", ["https://New.example/v3", "https://new.example:443/v3/", "https://new.example"]
)
def test_a_cloud_is_the_same_however_its_address_is_written(tmp_path: Path, written: str) -> None:
    """As people and older releases write it."""
    path, alice = tmp_path / "passwords.csv", Account("https://new.example", "Default", "alice")
    path.write_text(f"{HEADER}\n{written},Default,alice,first\n")
    assert lookup(path, alice) == reserve(path, alice) == "first"
    forget(path, alice)
    assert read(path) == {}


@pytest.mark.parametrize("written", ["new", "", "https://[new", "https://new.example:port", "file:///v3"])
def test_what_is_no_address_is_a_cloud_of_its_own(tmp_path: Path, written: str) -> None:
    path = tmp_path / "passwords.csv"
    path.write_text(f"{HEADER}\n{written},Default,alice,hers\n")
    assert lookup(path, Account(written, "Default", "alice")) == "hers"
    assert lookup(path, Account("https://new.example", "Default", "alice")) is None

"""What is borrowed is written down first, and struck out when it is given back."""

from __future__ import annotations

import pytest

from pumphouse.cloud.loans import Ledger, keypair_loan, role_loan

ROLE, KEY = role_loan("t", "u", "r"), keypair_loan("u", "key", "aa:bb")


def test_every_change_is_told_with_all_that_is_open() -> None:
    told: list[list[dict]] = []
    ledger = Ledger(told.append)
    ledger.record(ROLE)
    ledger.record(KEY)
    ledger.returned(ROLE)
    ledger.returned(ROLE)
    ledger.returned(KEY)
    assert told == [[ROLE], [ROLE, KEY], [KEY], []]
    assert ledger.open == []


def test_what_cannot_be_written_down_is_not_borrowed() -> None:
    def full(_: list[dict]) -> None:
        raise OSError("disk full")

    ledger = Ledger()
    ledger.record(ROLE)
    ledger.on_change = full
    with pytest.raises(OSError, match="disk full"):
        ledger.record(KEY)
    assert ledger.open == [ROLE]


def test_two_equal_loans_are_two() -> None:
    ledger = Ledger()
    ledger.record(ROLE)
    ledger.record(dict(ROLE))
    ledger.returned(ROLE)
    assert ledger.open == [ROLE]

"""What is borrowed is written down first, and struck out when it is given back."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import MagicMock

import pytest
from keystoneauth1.exceptions import Forbidden, NotFound

from pumphouse.cloud.access import RoleLoan
from pumphouse.cloud.loans import Ledger
from pumphouse.run.execute import _loan
from pumphouse.tasks.nova import boot_key
from pumphouse.tasks.nova.boot_key import KeypairLoan

ROLE, KEY = RoleLoan("t", "u", "r"), KeypairLoan("u", "key", "aa:bb")
# A file format: state stores have loans so.
ROLE_JSON = {"kind": "role", "tenant_id": "t", "user_id": "u", "role_id": "r"}
KEY_JSON = {"kind": "keypair", "user_id": "u", "name": "key", "fingerprint": "aa:bb"}


def test_a_state_store_has_a_loan_as_it_always_had_and_gives_it_back() -> None:
    assert (ROLE.as_json(), KEY.as_json()) == (ROLE_JSON, KEY_JSON)
    assert (_loan(**ROLE_JSON), _loan(**KEY_JSON)) == (ROLE, KEY)


def test_a_loan_gives_itself_back_once() -> None:
    cloud = MagicMock()
    ROLE.give_back(cloud)
    cloud.keystone.roles.revoke.assert_called_once_with("r", user="u", project="t")
    cloud.keystone.roles.revoke.side_effect = NotFound
    ROLE.give_back(cloud)
    cloud.keystone.roles.revoke.side_effect = Forbidden
    with pytest.raises(Forbidden):
        ROLE.give_back(cloud)


@pytest.mark.parametrize(("fingerprint", "deleted"), [("aa:bb", 1), ("another", 0)])
def test_only_the_key_that_was_borrowed_is_deleted(
    fingerprint: str, deleted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, str]] = []
    monkeypatch.setattr(boot_key, "call", lambda _adapter, *request: sent.append(request))
    for found in ({"fingerprint": fingerprint}, None):
        monkeypatch.setattr(boot_key, "read_keypair", lambda *_, found=found: found)
        KEY.give_back(MagicMock(user_id="operator"))
    assert sent == [("DELETE", "/os-keypairs/key?user_id=u")] * deleted


def test_every_change_is_told_with_all_that_is_open() -> None:
    told: list[list[dict]] = []
    ledger = Ledger(told.append)
    ledger.record(ROLE)
    ledger.record(KEY)
    ledger.returned(ROLE)
    ledger.returned(ROLE)
    ledger.returned(KEY)
    assert told == [[ROLE_JSON], [ROLE_JSON, KEY_JSON], [KEY_JSON], []]
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
    ledger.record(replace(ROLE))
    ledger.returned(ROLE)
    assert ledger.open == [ROLE]

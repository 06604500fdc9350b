"""A keypair lent to the operator while a server is created: Nova takes only keys of the user who boots."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pumphouse.cloud.loans import give_back, keypair_loan
from pumphouse.errors import ConflictError, PumphouseError, explain, http_status
from pumphouse.model import Json

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

LOG = logging.getLogger(__name__)


@dataclass
class _Loan:
    """A key in the operator's account: what it is, how many servers are being created with it.

    written: what the ledger has of it; None when the operator has the key anyway.
    """

    fingerprint: str
    users: int = 0
    written: Json | None = None


_loans: dict[tuple[str, str], _Loan] = {}
_changed = threading.Condition()


@contextmanager
def boot_key(source: Cloud, destination: Cloud, user_id: str, name: str) -> Iterator[None]:
    """Let the operator have a keypair of a source user at the destination, for the length of a create call.

    Calls for the same key share it; one for another key of the same name waits.

    Raises ConflictError when the operator has another key of that name, PumphouseError when the source has
    lost the key.
    """
    key = _source_key(source, user_id, name)
    place = destination.user_id, name
    with _changed:
        _changed.wait_for(lambda: place not in _loans or _loans[place].fingerprint == key.fingerprint)
        loan = _loans.setdefault(place, _Loan(key.fingerprint))
        loan.users += 1
        try:
            if loan.users == 1:
                _lend(destination, key, loan)
        except BaseException:
            _return(destination, place, loan)
            raise
    try:
        yield
    finally:
        with _changed:
            _return(destination, place, loan)


def _return(destination: Cloud, place: tuple[str, str], loan: _Loan) -> None:
    loan.users -= 1
    if loan.users:
        return
    del _loans[place]
    _changed.notify_all()
    if loan.written is None:
        return
    try:
        give_back(destination, loan.written)
    except Exception as error:  # the loan stays open; the server that was booted with it is worth more
        LOG.warning("keypair %s stays with the operator: %s", place[1], explain(error))
    else:
        destination.loans.returned(loan.written)


def _source_key(source: Cloud, user_id: str, name: str) -> Any:
    try:
        return source.nova.keypairs.get(name, user_id=user_id)
    except Exception as error:
        if http_status(error) != 404:
            raise
    raise PumphouseError(
        f"keypair {name} was deleted at the source",
        f"create it again there for user {user_id}, with its public key",
    )


def _lend(destination: Cloud, key: Any, loan: _Loan) -> None:
    """Give the key to the operator, unless he has it already."""
    own = {keypair.name: keypair for keypair in destination.nova.keypairs.list()}
    if key.name in own:
        if own[key.name].fingerprint == key.fingerprint:
            return
        raise ConflictError(
            f"the operator has another keypair named {key.name} at the destination",
            "rename or delete it there: the server is booted by the operator, with a key of this name",
        )
    written = keypair_loan(destination.user_id, key.name, key.fingerprint)
    destination.loans.record(written)
    loan.written = written
    destination.nova.keypairs.create(key.name, public_key=key.public_key, key_type=key.type)

"""A keypair that the operator has while a server is created: Nova takes only keys of the user who boots."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar

from pumphouse.cloud import call, or_none
from pumphouse.errors import ConflictError, explain
from pumphouse.model import Json
from pumphouse.tasks.nova.common import KEY_TYPES, keypair_path, list_keypairs, read_keypair, supports

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeypairLoan:
    """A keypair that the operator has for a while."""

    kind: ClassVar[str] = "keypair"

    user_id: str
    name: str
    fingerprint: str

    def as_json(self) -> Json:
        """As state stores have it."""
        return {"kind": self.kind, **asdict(self)}

    def give_back(self, cloud: Cloud) -> None:
        """Delete it if it is still the key that was borrowed, and not one of the operator's that has its name."""
        keypair = read_keypair(cloud, self.user_id, self.name)
        if keypair and keypair["fingerprint"] == self.fingerprint:
            path = keypair_path(cloud, self.user_id, self.name)
            or_none(call, cloud.adapter("compute"), "DELETE", path)


@dataclass
class _Use:
    """A key in the operator's account: what it is, how many servers are being created with it.

    loan: None when the operator has the key anyway.
    """

    fingerprint: str
    users: int = 0
    loan: KeypairLoan | None = None


_uses: dict[tuple[str, str], _Use] = {}
_changed = threading.Condition()


@contextmanager
def operators_keypair(destination: Cloud, key: Json) -> Iterator[None]:
    """Let the operator have a keypair of a source user at the destination, for the length of a create call.

    Calls for the same key share it; one for another key of the same name waits.

    Raises ConflictError when the operator has another key of that name.
    """
    place = destination.user_id, key["name"]
    with _changed:
        _changed.wait_for(lambda: place not in _uses or _uses[place].fingerprint == key["fingerprint"])
        use = _uses.setdefault(place, _Use(key["fingerprint"]))
        use.users += 1
        try:
            if use.users == 1:
                _borrow(destination, key, use)
        except BaseException:
            _end(destination, place, use)
            raise
    try:
        yield
    finally:
        with _changed:
            _end(destination, place, use)


def _end(destination: Cloud, place: tuple[str, str], use: _Use) -> None:
    use.users -= 1
    if use.users:
        return
    del _uses[place]
    _changed.notify_all()
    if use.loan is None:
        return
    try:
        use.loan.give_back(destination)
    except Exception as error:  # the loan stays open; the server that was booted with it is worth more
        LOG.warning("keypair %s stays with the operator: %s", place[1], explain(error))
    else:
        destination.loans.returned(use.loan)


def _borrow(destination: Cloud, key: Json, use: _Use) -> None:
    """Give the key to the operator, unless he has it already."""
    name = key["name"]
    own = {keypair["name"]: keypair for keypair in list_keypairs(destination, destination.user_id)}
    if name in own:
        if own[name]["fingerprint"] == key["fingerprint"]:
            return
        raise ConflictError(
            f"the operator has another keypair named {name} at the destination",
            "rename or delete it there: the server is booted by the operator, with a key of this name",
        )
    loan = KeypairLoan(destination.user_id, name, key["fingerprint"])
    destination.loans.record(loan)
    use.loan = loan
    fields = ("name", "public_key", *(["type"] if supports(destination, KEY_TYPES) else []))
    body = {"keypair": {field: key[field] for field in fields if field in key}}
    call(destination.adapter("compute"), "POST", "/os-keypairs", body)

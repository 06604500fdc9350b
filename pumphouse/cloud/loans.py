"""What a run borrows from a cloud, written down before it is taken, so that a dead run's loans can be given back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pumphouse.errors import http_status
from pumphouse.model import Json

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud


class Ledger:
    """The open loans of one cloud, for many threads.

    on_change: is called with all open loans after each change; when it raises, nothing is borrowed.
    """

    def __init__(self, on_change: Callable[[list[Json]], None] | None = None) -> None:
        self.on_change = on_change
        self._open: list[Json] = []
        self._lock = threading.RLock()

    @property
    def open(self) -> list[Json]:
        """The loans that are not given back yet."""
        with self._lock:
            return list(self._open)

    def record(self, loan: Json) -> None:
        """Write a loan down; to be called before it is taken. Raises what on_change raises."""
        with self._lock:
            self._open.append(loan)
            try:
                self._tell()
            except BaseException:
                self._open.remove(loan)
                raise

    def returned(self, loan: Json) -> None:
        """Strike a loan out; to be called when it has been given back. Nothing if it is not open."""
        with self._lock:
            if loan in self._open:
                self._open.remove(loan)
                self._tell()

    def _tell(self) -> None:
        if self.on_change is not None:
            self.on_change(list(self._open))


def role_loan(tenant_id: str, user_id: str, role_id: str) -> Json:
    """A role that the operator has in a tenant for a while."""
    return {"kind": "role", "tenant_id": tenant_id, "user_id": user_id, "role_id": role_id}


def keypair_loan(user_id: str, name: str, fingerprint: str) -> Json:
    """A keypair that the operator has for a while."""
    return {"kind": "keypair", "user_id": user_id, "name": name, "fingerprint": fingerprint}


def give_back(cloud: Cloud, loan: Json) -> None:
    """Undo a loan, also one of a process that died; nothing when it is undone already, or was never taken.

    Raises what the cloud's clients raise.
    """
    take = {"role": _revoke, "keypair": _delete_keypair}[loan["kind"]]
    try:
        take(cloud, loan)
    except Exception as error:
        if http_status(error) != 404:
            raise


def _revoke(cloud: Cloud, loan: Json) -> None:
    cloud.keystone.roles.revoke(loan["role_id"], user=loan["user_id"], project=loan["tenant_id"])


def _delete_keypair(cloud: Cloud, loan: Json) -> None:
    """Delete it if it is still the key that was lent, and not one of the operator's that has its name."""
    owner: dict[str, Any] = {} if loan["user_id"] == cloud.user_id else {"user_id": loan["user_id"]}
    keypair = cloud.nova.keypairs.get(loan["name"], **owner)
    if keypair.fingerprint == loan["fingerprint"]:
        cloud.nova.keypairs.delete(loan["name"], **owner)

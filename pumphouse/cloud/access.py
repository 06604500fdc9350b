"""The use of tenants by the operator: a role where none is there, for as long as it is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from keystoneauth1 import exceptions

from pumphouse.cloud.calls import or_none
from pumphouse.cloud.loans import Ledger
from pumphouse.cloud.transport import CloudSession
from pumphouse.errors import CloudError, PumphouseError, ReadOnlyError, explain
from pumphouse.model import Json


class OperatorsCloud(Protocol):
    """A cloud, as far as the access to its tenants needs one."""

    name: str
    loans: Ledger
    session: CloudSession

    @property
    def keystone(self) -> Any: ...

    @property
    def user_id(self) -> str: ...

    def login(self) -> None: ...


C = TypeVar("C", bound=OperatorsCloud)


@dataclass(frozen=True)
class RoleLoan:
    """A role that the operator has in a tenant for a while."""

    kind: ClassVar[str] = "role"

    tenant_id: str
    user_id: str
    role_id: str

    def as_json(self) -> Json:
        """As state stores have it."""
        return {"kind": self.kind, **asdict(self)}

    def give_back(self, cloud: OperatorsCloud) -> None:
        """Revoke the role."""
        or_none(cloud.keystone.roles.revoke, self.role_id, user=self.user_id, project=self.tenant_id)


@dataclass
class _Lease(Generic[C]):
    """The use of one tenant: by how many, and the role that was granted for it."""

    cloud: C
    users: int = 0
    loan: RoleLoan | None = None


class Tenancies(Generic[C]):
    """Counts who uses which tenant of a cloud; the first gets the operator a role, the last gives it back.

    scoped: makes the cloud that is scoped to a tenant.
    """

    def __init__(self, cloud: C, scoped: Callable[[str], C]) -> None:
        self._cloud = cloud
        self._scoped = scoped
        self._lock = threading.Lock()
        self._leases: dict[str, _Lease[C]] = {}

    @contextmanager
    def use(self, tenant_id: str, role: str) -> Iterator[C]:
        """The cloud scoped to a tenant; see `Cloud.in_tenant`."""
        with self._lock:
            lease = self._leases.get(tenant_id) or _Lease(self._scoped(tenant_id))
            self._leases[tenant_id] = lease
            if not lease.users:
                self._open(lease, tenant_id, role)
            lease.users += 1
        try:
            yield lease.cloud
        finally:
            with self._lock:
                lease.users -= 1
                if not lease.users:
                    self._take_back(lease, tenant_id)

    def renew(self, tenant_id: str, role: str) -> bool:
        """Grant the role again and log in anew; returns whether it had been taken away in the meantime."""
        with self._lock:
            return self._open(self._leases[tenant_id], tenant_id, role)

    def _open(self, lease: _Lease[C], tenant_id: str, role: str) -> bool:
        """Log the operator in to the tenant; returns whether a role was granted for it."""
        try:
            granted = self._grant(lease, tenant_id, role)
        except BaseException:
            self._take_back(lease, tenant_id)
            raise
        try:
            lease.cloud.session.forget()
            lease.cloud.login()
        except CloudError as error:
            self._take_back(lease, tenant_id)
            message = f"cloud {self._cloud.name}: no login in tenant {tenant_id}: {error}"
            hint = "use credentials that can log in to any project: a user name and a password"
            raise PumphouseError(message, hint) from error
        return granted

    def _grant(self, lease: _Lease[C], tenant_id: str, role: str) -> bool:
        """Grant the role, unless the operator has a suitable one; it is written down before it is granted."""
        keystone, user_id = self._cloud.keystone, self._cloud.user_id
        assigned = {"user": user_id, "project": tenant_id}
        try:
            found = keystone.role_assignments.list(**assigned, effective=True, include_names=True)
            if {_plain(assignment.role["name"]) for assignment in found} & {_plain(role), "admin"}:
                return False
            loan = RoleLoan(tenant_id, user_id, _role_id(keystone.roles.list(), role))
            if lease.loan != loan:
                self._cloud.loans.record(loan)
                lease.loan = loan
            keystone.roles.grant(loan.role_id, **assigned)
        except ReadOnlyError:  # nothing was sent, so nothing is to be taken back
            self._cloud.loans.returned(loan)
            lease.loan = None
            raise
        except exceptions.HttpError as error:
            message = f"cloud {self._cloud.name}: no access to tenant {tenant_id}: {explain(error)}"
            hint = f"give the operator the role {role} in this tenant, or use credentials that may grant it"
            raise PumphouseError(message, hint) from error
        return True

    def _take_back(self, lease: _Lease[C], tenant_id: str) -> None:
        loan, lease.loan = lease.loan, None
        if loan is None:
            return
        try:
            loan.give_back(self._cloud)
        except Exception as error:
            message = f"cloud {self._cloud.name}: role in tenant {tenant_id} not taken back: {explain(error)}"
            hint = (
                f"remove the assignment of role {loan.role_id} to user {loan.user_id} in project {tenant_id}"
            )
            raise PumphouseError(message, hint) from error
        self._cloud.loans.returned(loan)


def _role_id(roles: list[Any], name: str) -> str:
    # An old cloud may have both `_member_` and `member`, of which the policies of today know only the one.
    ordered = sorted(roles, key=lambda role: role.name == name)
    ids = {_plain(role.name): str(role.id) for role in ordered}
    if _plain(name) not in ids:
        raise PumphouseError(
            f"there is no role {name}, only {', '.join(sorted(ids))}", "create it in Keystone"
        )
    return ids[_plain(name)]


def _plain(role_name: str) -> str:
    """A role's name as it compares; older clouds call the member role `Member` or `_member_`."""
    return role_name.lower().strip("_")

"""One OpenStack, seen with one set of credentials."""

from __future__ import annotations

import copy
import logging
import os
import threading
from collections.abc import Callable, Collection, Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from keystoneauth1 import exceptions

from pumphouse.cloud.access import Tenancies
from pumphouse.cloud.batch import Batch
from pumphouse.cloud.loans import Ledger
from pumphouse.cloud.login import cloud_region, refused, scoped_login
from pumphouse.cloud.transport import CloudSession, connection_pool
from pumphouse.errors import CloudError

if TYPE_CHECKING:
    from pumphouse.config.settings import CloudConfig, Limits

T = TypeVar("T")

# The connections of a cloud made without limits.
DEFAULT_THREADS = 16


class Cloud:
    """One OpenStack seen with one set of credentials; all clients and threads share its session.

    name: what the operator calls it: `source` or `destination`.
    limits: how many threads will use it, for the size of the connection pool.
    read_only: refuse every write before it is sent.
    loans: what is borrowed from it at the moment; shared by its scopes.

    Raises CloudError when the credentials are not even complete.
    """

    def __init__(
        self, config: CloudConfig, *, name: str, limits: Limits | None = None, read_only: bool = False
    ) -> None:
        self.name = name
        self.keystone_database_url = config.keystone_database
        self.loans = Ledger()
        self._region = cloud_region(config)
        verify, cert = self._region.get_requests_verify_args()
        pool = connection_pool(limits.workers + limits.transfers if limits else DEFAULT_THREADS)
        login = self._region.get_auth()
        self.session = CloudSession(login, pool, verify=verify, cert=cert, read_only=read_only)
        self._reset()

    @classmethod
    def from_clouds_yaml(
        cls,
        cloud_name: str,
        *,
        name: str | None = None,
        clouds_file: Path | None = None,
        read_only: bool = False,
    ) -> Cloud:
        """The cloud of that name in clouds.yaml, found as openstacksdk does unless a file is given."""
        from pumphouse.config.settings import CloudConfig

        config = CloudConfig(cloud=cloud_name, clouds_file=clouds_file, interface="")
        return cls(config, name=name or cloud_name, read_only=read_only)

    def __repr__(self) -> str:
        return f"<Cloud {self.name} {self.auth_url}>"

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._made: dict[Hashable, Any] = {}
        self._tenancies: Tenancies[Cloud] = Tenancies(self, self._scoped)

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made under this key, made now if it was not, by one thread only."""
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            made: T = self._made[key]
            return made

    @property
    def region_name(self) -> str | None:
        """The region, None for the only one."""
        return self._region.region_name or None

    @property
    def interface(self) -> str:
        """Which endpoints of the catalog are used: public, internal or admin."""
        interface: str = self._region.config["interface"]
        return interface

    @property
    def auth_url(self) -> str:
        """Where the login is sent."""
        return str(self._region.get_auth_args().get("auth_url", ""))

    @property
    def access(self) -> Any:
        """The current login: a keystoneauth1.access.AccessInfo."""
        login: Any = self.session.auth
        return login.get_access(self.session)

    @property
    def project_id(self) -> str:
        """The project that the login is scoped to."""
        return str(self.access.project_id)

    @property
    def user_id(self) -> str:
        """The user who is logged in."""
        return str(self.access.user_id)

    @property
    def roles(self) -> tuple[str, ...]:
        """The names of the roles in the token."""
        return tuple(sorted(self.access.role_names))

    @property
    def is_admin(self) -> bool:
        """Whether the login sees what belongs to others, and may make it; asked once.

        By default only an administrator lists role assignments, whatever a cloud calls the role of one.
        """
        return self._once("is_admin", self._lists_assignments)

    def _lists_assignments(self) -> bool:
        if "admin" in self.roles:
            return True
        try:
            self.keystone.role_assignments.list(user=self.user_id)
        except exceptions.Forbidden:
            return False
        return True

    @property
    def keystone(self) -> Any:
        """The client of Keystone, keystoneclient.v3.client.Client."""
        return self._once("keystone", self._keystone)

    @property
    def nova(self) -> Any:
        """The client of Nova, of the highest microversion that both know."""
        return self._once("nova", self._nova)

    @property
    def glance(self) -> Any:
        """The client of Glance, glanceclient.v2.client.Client."""
        return self._once("glance", self._glance)

    @property
    def neutron(self) -> Any:
        """The openstacksdk proxy of Neutron, an Adapter for `call` and `get_all`."""
        return self._once("neutron", lambda: self._sdk().network)

    @property
    def cinder(self) -> Any:
        """The openstacksdk proxy of Cinder, an Adapter for `call` and `get_all`."""
        return self._once("cinder", lambda: self._sdk().block_storage)

    def _keystone(self) -> Any:
        from keystoneclient.v3.client import Client

        return Client(session=self.session, region_name=self.region_name, interface=self.interface)

    def _nova(self) -> Any:
        # Without it, novaclient writes a cache of ids to the home directory at each list call.
        os.environ.setdefault("NOVACLIENT_UUID_CACHE_DIR", os.devnull)
        from novaclient import api_versions
        from novaclient.client import Client

        logging.getLogger("novaclient.api_versions").handlers.clear()
        options = {"session": self.session, "region_name": self.region_name, "endpoint_type": self.interface}
        latest = api_versions.discover_version(Client("2.1", **options), api_versions.APIVersion("2.latest"))
        return Client(latest, **options)

    def _glance(self) -> Any:
        from glanceclient.v2.client import Client

        return Client(session=self.session, region_name=self.region_name, interface=self.interface)

    def _sdk(self) -> Any:
        from openstack.connection import Connection

        return self._once(
            "sdk",
            lambda: Connection(
                session=self.session, name=self.name, region_name=self.region_name, interface=self.interface
            ),
        )

    def batch(self, fetch: Callable[[Cloud, Collection[str]], Mapping[str, T]]) -> Batch[T]:
        """The Batch that reads single items of this cloud through a function that fetches many."""
        return self._once(fetch, lambda: Batch(partial(fetch, self)))

    def login(self) -> None:
        """Log in now. Raises CloudError, saying what was refused and what to do."""
        try:
            project_id = self.access.project_id
        except exceptions.ClientException as error:
            raise refused(f"cloud {self.name} ({self.auth_url})", error) from error
        if not project_id:
            raise CloudError(
                f"cloud {self.name}: the login is not scoped to a project", "name a project in its auth"
            )

    def in_tenant(self, tenant_id: str, role: str = "member") -> AbstractContextManager[Cloud]:
        """The same cloud scoped to a tenant, with a role of the operator there for as long as it is needed.

        The role is granted only when the operator has neither it nor `admin` in the tenant, and is taken
        back when the last of all who use the tenant leaves. That revokes tokens: hold a tenant for as long
        as a run needs it.

        Raises PumphouseError when the role cannot be granted, or the cloud refuses the scope.
        """
        return nullcontext(self) if tenant_id == self.project_id else self._tenancies.use(tenant_id, role)

    def renew_tenant(self, tenant_id: str, role: str = "member") -> bool:
        """Get back into a tenant that is in use, if the role there has been taken away; whether it had."""
        return tenant_id != self.project_id and self._tenancies.renew(tenant_id, role)

    def _scoped(self, tenant_id: str) -> Cloud:
        """This cloud with a login of its own, over the same connections."""
        cloud = copy.copy(self)
        cloud._reset()
        cloud.session = self.session.with_auth(scoped_login(self._region, self.session, tenant_id))
        return cloud


def same_keystone(a: Cloud, b: Cloud) -> bool:
    """Whether two clouds are the same Keystone: the same address, or the same user and project in it."""
    if _identity_url(a) == _identity_url(b):
        return True
    return (a.user_id, a.project_id) == (b.user_id, b.project_id)


def _identity_url(cloud: Cloud) -> tuple[str | None, int | None, str]:
    url = cloud.session.get_endpoint(
        service_type="identity", region_name=cloud.region_name, interface=cloud.interface, skip_discovery=True
    )
    parts = urlsplit(str(url or cloud.auth_url))
    return parts.hostname, parts.port, parts.path.rstrip("/").removesuffix("/v3")

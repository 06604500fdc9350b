"""One OpenStack, seen with one set of credentials."""

from __future__ import annotations

import copy
import logging
import os
import threading
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from keystoneauth1 import exceptions
from keystoneauth1.adapter import Adapter
from keystoneauth1.discover import EndpointData, version_to_string

from pumphouse.cloud import services
from pumphouse.cloud.access import Tenancies
from pumphouse.cloud.batch import Batch
from pumphouse.cloud.bulk import Bulk
from pumphouse.cloud.calls import WholeLists, get_all
from pumphouse.cloud.loans import Ledger
from pumphouse.cloud.login import NO_KEYSTONE, cloud_region, refuse_misshapen, refused, scoped_login
from pumphouse.cloud.outage import Outages
from pumphouse.cloud.transport import CloudSession, connection_pool
from pumphouse.config.settings import Limits
from pumphouse.errors import CloudError

if TYPE_CHECKING:
    from datetime import datetime

    from pumphouse.config.settings import CloudConfig

T = TypeVar("T")

_LIMITS = Limits()
# Logins that cannot be repeated once their token has ended.
_ONE_TIME = ("token", "v3token", "v3totp", "v3multifactor")


class Cloud:
    """One OpenStack seen with one set of credentials; all clients and threads share its session.

    name: what the operator calls it: `source` or `destination`.
    limits: how many threads will use it, and how long it is waited for once somebody has logged in.
    read_only: refuse every write before it is sent.
    outages: which of its services do not answer; shared by its scopes.
    loans: what is borrowed from it at the moment; shared by its scopes.

    Raises CloudError when the credentials are not even complete.
    """

    def __init__(
        self, config: CloudConfig, *, name: str, limits: Limits = _LIMITS, read_only: bool = False
    ) -> None:
        self.name = name
        self.outages = Outages(name)
        self.outages.login_s, self.outages.answer_s = limits.login_s, limits.answer_s
        self._outage_s = limits.outage_s
        self.keystone_database_url = config.keystone_database
        self.loans = Ledger()
        self._region = cloud_region(config)
        verify, cert = self._region.get_requests_verify_args()
        pool = connection_pool(limits.workers + limits.transfers)
        login = self._region.get_auth()
        self.session = CloudSession(login, pool, self.outages, verify=verify, cert=cert, read_only=read_only)
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
    def region(self) -> str:
        """The region that is used: the one that is set, else the first of the catalog; empty where it has none."""
        endpoints = (e for entry in self.access.service_catalog.catalog for e in entry["endpoints"])
        regions = (endpoint.get("region_id") or endpoint.get("region") for endpoint in endpoints)
        return self.region_name or next(filter(None, regions), "")

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
    def login_ends_at(self) -> datetime | None:
        """When the login ends that is of one token, and so for one time; None of one that can be renewed."""
        is_once = self._region.config["auth_type"] in _ONE_TIME
        ends_at: datetime | None = self.access.expires if is_once else None
        return ends_at

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
    def neutron(self) -> Adapter:
        """Neutron for `call` and `get_all`."""
        return self.adapter("network")

    @property
    def cinder(self) -> Adapter:
        """Cinder for `call` and `get_all`."""
        return self.adapter("block-storage")

    def has(self, service_type: str) -> bool:
        """Whether clouds.yaml or the catalog names a service, by whichever of its types; asked once."""
        return self._once(("has", service_type), lambda: self.url(service_type) is not None)

    @property
    def extensions(self) -> frozenset[str]:
        """The aliases of the extensions that Neutron has loaded; none where there is no Neutron; asked once."""
        return self._once("extensions", self._extensions)

    def _extensions(self) -> frozenset[str]:
        if not self.has("network"):
            return frozenset()
        return frozenset(item["alias"] for item in get_all(self.neutron, "/extensions", "extensions"))

    def url(self, service_type: str) -> str | None:
        """Where clouds.yaml or else the catalog says that a service is; None for one that it does not name."""
        try:
            return self._connected(service_type).get_endpoint(skip_discovery=True)
        except exceptions.EndpointNotFound:
            return None

    def endpoint(self, service_type: str, minimum: str | None = None) -> EndpointData | None:
        """What a service says of its version, of at least the minimum; None where it has no such version.

        Raises EndpointNotFound where there is no such service.
        """
        return self._connected(service_type, min_version=minimum).get_endpoint_data()

    def adapter(self, service_type: str) -> Adapter:
        """A service for `call` and `get_all`, in the version that the calls are written for.

        What clouds.yaml says of its endpoint, interface, region and versions is done, as openstacksdk does it.
        """
        return self._once(("adapter", service_type), lambda: self._adapter(service_type))

    def _adapter(self, service_type: str) -> Adapter:
        if service_type == "compute":
            microversion = self.nova.api_version.get_string()
            return self._connected(
                service_type, endpoint_override=self._compute_url, default_microversion=microversion
            )
        if path := services.PATHS.get(service_type):
            return self._connected(service_type, endpoint_override=self._root(service_type, path))
        if url := self._versioned(service_type):
            microversion = self._microversion(service_type)
            return self._connected(service_type, endpoint_override=url, default_microversion=microversion)
        version = self._region.get_api_version(service_type)
        wanted = {"version": version[0]} if version else {"min_version": services.MINIMUM.get(service_type)}
        return self._connected(service_type, **wanted, default_microversion=self._microversion(service_type))

    def _connected(self, service_type: str, **options: Any) -> Adapter:
        return Adapter(self.session, service_type=service_type, **{**self._place(service_type), **options})

    def _place(self, service_type: str) -> dict[str, Any]:
        """How keystoneauth finds a service, besides its type."""
        region = self._region
        return {
            "service_name": region.get_service_name(service_type),
            "interface": region.get_interface(service_type),
            "region_name": region.get_region_name(service_type) or None,
            "endpoint_override": region.get_endpoint(service_type),
        }

    def _root(self, service_type: str, path: str = "") -> str | None:
        """The endpoint of a service without its version, and a path there; None where there is no such service."""
        url = self.url(service_type)
        return None if url is None else services.unversioned(url) + path

    def _versioned(self, service_type: str) -> str | None:
        """The endpoint of a service as it is named, where that has the version that the calls are written for.

        What a service says of its own address is wrong where it knows nothing of the proxy in front of it.
        """
        url, version = self.url(service_type), services.MINIMUM.get(service_type)
        return url if url and version and services.is_of_version(url, version) else None

    def _microversion(self, service_type: str) -> str | None:
        """The microversion that clouds.yaml asks for, by itself or by an API version such as 2.53."""
        given = self._region.get_default_microversion(service_type)
        version = str(self._region.get_api_version(service_type) or "")
        implied = "." in version and not version.endswith(".0")
        return given or (version if implied else None)

    @property
    def _compute_url(self) -> str | None:
        return self._versioned("compute") or self._compute.url

    @property
    def _compute(self) -> EndpointData:
        return self._once("compute", self._discover_compute)

    def _discover_compute(self) -> EndpointData:
        minimum = services.MINIMUM["compute"]
        found = self.endpoint("compute", minimum)
        if found is None:
            message = f"cloud {self.name}: its compute service does not offer version {minimum} of its API"
            raise CloudError(message, "look at its endpoint in the catalog: openstack endpoint list")
        return found

    def _keystone(self) -> Any:
        from keystoneclient.v3.client import Client

        endpoint = self._root("identity", services.PATHS["identity"])
        session = WholeLists(self.session)
        return Client(session=session, **{**self._place("identity"), "endpoint_override": endpoint})

    def _nova(self) -> Any:
        # Without it, novaclient writes a cache of ids to the home directory at each list call.
        os.environ.setdefault("NOVACLIENT_UUID_CACHE_DIR", os.devnull)
        from novaclient import API_MAX_VERSION
        from novaclient.api_versions import APIVersion
        from novaclient.client import Client

        logging.getLogger("novaclient.api_versions").handlers.clear()
        told, wanted = self._compute.max_microversion, self._microversion("compute")
        versions = [version_to_string(told) if told else services.MINIMUM["compute"], *filter(None, [wanted])]
        latest = min(API_MAX_VERSION, *map(APIVersion, versions))
        return Client(latest, session=self.session, endpoint_override=self._compute_url)

    def _glance(self) -> Any:
        from glanceclient.v2.client import Client

        # It puts the version into each path itself.
        endpoint = self._root("image")
        return Client(session=self.session, **{**self._place("image"), "endpoint_override": endpoint})

    def batch(self, fetch: Callable[[Cloud, Collection[str]], Mapping[str, T]]) -> Batch[T]:
        """The Batch that reads single items of this cloud through a function that fetches many."""
        return self._once(fetch, lambda: Batch(partial(fetch, self), self.outages.pause))

    def claim(self, item_id: str, owner: str) -> bool:
        """Whether a resource is the owner's, who has it to itself in this process if nobody had it before."""
        return self._once(("claim", item_id), lambda: owner) == owner

    def bulk(self, send: Callable[[Cloud, Sequence[T]], Sequence[T]]) -> Bulk[T]:
        """The Bulk that makes single items in this cloud through a function that makes many."""
        return self._once(send, lambda: Bulk(partial(send, self)))

    def login(self) -> None:
        """Log in now. Raises CloudError, saying what was refused and what to do."""
        title = f"cloud {self.name} ({self.auth_url})"
        try:
            access = self.access
        except exceptions.ClientException as error:
            raise refused(title, error) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # of keystoneauth
            raise CloudError(f"{title}: its login gives what is no token", NO_KEYSTONE) from error
        refuse_misshapen(title, access)
        self._check_region()
        self.outages.limit_s = self._outage_s

    def _check_region(self) -> None:
        """Raises CloudError where there is no such region, or several and none is named: each service could be of another."""
        listed = self.access.service_catalog.get_endpoints_data(interface=self.interface).values()
        each = [{item.region_name for item in items if item.region_name} for items in listed]
        regions = ", ".join(sorted(set().union(*each)))
        if self.region_name is None and any(len(found) > 1 for found in each):
            message = f"cloud {self.name}: it has the regions {regions}"
            raise CloudError(message, "say by region_name which is meant")
        if self.region_name and regions and self.region_name not in set().union(*each):
            message = f"cloud {self.name}: it has no region {self.region_name}, only {regions}"
            raise CloudError(message, "correct its region_name")

    def in_tenant(self, tenant_id: str, role: str = "member") -> AbstractContextManager[Cloud]:
        """The same cloud scoped to a tenant, with a role of the operator there for as long as it is needed.

        The role is granted only when the operator has neither it nor `admin` in the tenant, and is taken
        back when the last of all who use the tenant leaves. That revokes tokens: hold a tenant for as long
        as a run needs it.

        Raises PumphouseError when the role cannot be granted, or the cloud refuses the scope.
        """
        return nullcontext(self) if tenant_id == self.project_id else self._tenancies.use(tenant_id, role)

    def renew_tenant(self, tenant_id: str, role: str = "member") -> bool:
        """Grant the role again in a tenant that is in use and log in anew; returns whether it had been taken away."""
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
    parts = urlsplit(services.unversioned(cloud.url("identity") or cloud.auth_url))
    return parts.hostname, parts.port, parts.path

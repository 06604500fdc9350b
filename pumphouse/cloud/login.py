"""The settings and the login of a cloud, and what is wrong with them in words."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keystoneauth1 import exceptions
from keystoneauth1.identity import v3

from pumphouse.cloud.transport import CloudSession
from pumphouse.config import yamlfile
from pumphouse.errors import CloudError, PumphouseError, explain

if TYPE_CHECKING:
    from openstack.config.cloud_region import CloudRegion

    from pumphouse.config.settings import CloudConfig

# Logins that can be repeated for another project; all others are bound to one project, or to one use.
_REPEATABLE = ("password", "v3password", "v3oidcpassword", "v3oidcclientcredentials", "v3oidcaccesstoken")
_SCOPE_OPTIONS = (
    *("project_id", "project_name", "project_domain_id", "project_domain_name"),
    *("tenant_id", "tenant_name", "domain_id", "domain_name", "system_scope", "trust_id"),
)


def cloud_region(config: CloudConfig) -> CloudRegion:
    """The settings of a cloud, out of clouds.yaml or given inline.

    Raises ConfigError for a file that cannot be read, CloudError for settings that make no login.
    """
    title = f"cloud {config.cloud}" if config.cloud else "the settings of a cloud"
    try:
        region = _named(config) if config.cloud else _inline_of(config)
    except PumphouseError:
        raise
    except Exception as error:  # of keystoneauth, openstacksdk or the plugin of an auth_type
        message = f"{title}: {' '.join(str(error).split())}"
        raise CloudError(message, "check its name, auth_type and auth") from error
    if not hasattr(region.get_auth(), "get_access"):
        raise CloudError(f"{title}: its auth_type does not log in to Keystone", "use password, for example")
    return region


def scoped_login(region: CloudRegion, session: CloudSession, tenant_id: str) -> Any:
    """A login in another project with the same credentials, else with the token of the session."""
    config = region.config
    if config["auth_type"] not in _REPEATABLE:
        auth_url: Any = config["auth"]["auth_url"]
        return v3.Auth(auth_url, [_TokenOf(session)], project_id=tenant_id)
    auth = {name: value for name, value in config["auth"].items() if name not in _SCOPE_OPTIONS}
    return _inline({**config, "auth": {**auth, "project_id": tenant_id}}).get_auth()


class _TokenOf(v3.TokenMethod):
    """Logs in with the token that another session has at that time."""

    def __init__(self, session: CloudSession) -> None:
        self._session = session

    @property
    def token(self) -> str:  # type: ignore[override]
        """The other session's token."""
        return str(self._session.get_token())


def _inline_of(config: CloudConfig) -> CloudRegion:
    names = ("auth_type", "auth", "region_name", "interface", "cacert", "verify")
    return _inline({name: getattr(config, name) for name in names})


def _inline(settings: Mapping[str, Any]) -> CloudRegion:
    from openstack.config import OpenStackConfig

    return OpenStackConfig(load_yaml_config=False, load_envvars=False).get_one(
        **copy.deepcopy(dict(settings))
    )


def _named(config: CloudConfig) -> CloudRegion:
    from openstack.config import OpenStackConfig
    from openstack.config.loader import CONFIG_FILES

    standard = [os.environ.get("OS_CLIENT_CONFIG_FILE", ""), *CONFIG_FILES]
    files = (
        [config.clouds_file]
        if config.clouds_file
        else [Path(path) for path in standard if os.path.isfile(path)]
    )
    for path in files:  # openstacksdk takes one that is not YAML as empty without a word
        yamlfile.load(yamlfile.read(path), str(path))
    # openstacksdk reads the file of OS_CLIENT_CONFIG_FILE before any other, even one that is named.
    clouds = OpenStackConfig(
        config_files=[str(path) for path in files] or None, load_envvars=config.clouds_file is None
    )
    names = sorted(name for name in clouds.get_cloud_names() if name != "defaults")
    if config.cloud not in names:
        where = ", ".join(str(path) for path in files) or "clouds.yaml, because there is none"
        raise CloudError(
            f"there is no cloud {config.cloud} in {where}", f"the clouds are: {', '.join(names)}"
        )
    changes: dict[str, Any] = {"region_name": config.region_name, "interface": config.interface}
    return clouds.get_one(cloud=config.cloud, **{name: value for name, value in changes.items() if value})


NO_KEYSTONE = "check auth_url, which mostly ends in /v3"
# What a failed login means, the most special first: exceptions, what happened, what to do.
_LOGIN_FAILURES: tuple[tuple[tuple[type[Exception], ...], str, str], ...] = (
    (
        (exceptions.Unauthorized, exceptions.MissingAuthMethods),
        "the login was refused",
        "check user, password and project, their domains, and that all of them are enabled",
    ),
    ((exceptions.SSLError,), "its TLS certificate is not trusted", "set cacert to the file of its CA"),
    (
        (exceptions.ConnectFailure,),
        "it cannot be reached",
        "check auth_url, the network, and that Keystone runs",
    ),
    (
        (exceptions.DiscoveryFailure, exceptions.NotFound, exceptions.InvalidResponse),
        "no Keystone answers at this address",
        NO_KEYSTONE,
    ),
)


# What of the text of an error tells more than its class: what happened, what to do.
_TOLD = (
    (
        re.compile("(?i)wrong.version.number|record.layer.failure|unknown.protocol|http.request"),
        "it answers plain HTTP, not TLS",
        "write http:// in its auth_url, or check the port",
    ),
    (
        re.compile("Failed to parse|Invalid URL"),
        "its auth_url is no address",
        "give one such as https://keystone.example.com:5000/v3",
    ),
    (
        re.compile("BadStatusLine"),
        "what answers is not HTTP",
        "write https:// in its auth_url, or check the port",
    ),
    (
        re.compile(
            "(?i)alert.(handshake|certificate|bad.certificate|unknown.ca)|EOF.occurred|unexpected.eof"
        ),
        "it ends the TLS connection, as one that wants a certificate of its clients does",
        "give the cloud cert and key in clouds.yaml",
    ),
    (
        re.compile(r"(?i)certificate.verify.failed: (?P<why>[^(]+?)(?: \(|\.|$)"),
        "its TLS certificate is not trusted",
        "set cacert to the file of its CA, or correct the certificate",
    ),
    (
        re.compile(r"has (?P<why>not answered in full within [0-9.]+ s)"),
        "it is too slow",
        "look at Keystone, or raise limits.login_s",
    ),
)


def refused(title: str, error: Exception) -> CloudError:
    """What a failed login means; title names the cloud and its address."""
    for pattern, what, hint in _TOLD:
        if found := pattern.search(str(error)):
            why = found.groupdict().get("why")
            return CloudError(f"{title}: {what}{f': {why}' if why else ''}", hint)
    for classes, what, hint in _LOGIN_FAILURES:
        if isinstance(error, classes):
            return CloudError(f"{title}: {what}", hint)
    told = explain(error)
    return CloudError(f"{title}: the login failed: {told.what}", told.hint or "check its settings")


def refuse_misshapen(title: str, access: Any) -> None:
    """Raise CloudError for a login that gave no usable token: of no project, without services, of another shape."""
    try:
        entries, project_id = access.service_catalog.catalog or (), access.project_id
        urls = [endpoint["url"] for entry in entries for endpoint in entry["endpoints"] if entry["type"]]
    except (AttributeError, KeyError, TypeError) as error:
        raise CloudError(f"{title}: its login gives what is no token", NO_KEYSTONE) from error
    if not project_id:
        raise CloudError(f"{title}: the login is not scoped to a project", "name a project in its auth")
    if not urls:
        raise CloudError(
            f"{title}: its token has no catalog of services",
            "register the endpoints of its services in Keystone",
        )

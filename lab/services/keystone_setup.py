"""The first administrator, project, roles and region of a cloud, as `keystone-manage bootstrap` makes them."""

from __future__ import annotations

from types import SimpleNamespace

from keystone.cmd import bootstrap as keystone_bootstrap


def bootstrap(url: str, password: str, region: str) -> None:
    """Make what a new cloud needs before anybody can log in; what is there already stays."""
    # The application of this process has loaded Keystone's backends, and they refuse to be loaded twice.
    keystone_bootstrap.backends = SimpleNamespace(load_backends=lambda: None)
    bootstrapper = keystone_bootstrap.Bootstrapper()
    bootstrapper.admin_username = "admin"
    bootstrapper.admin_password = password
    bootstrapper.project_name = "admin"
    bootstrapper.admin_role_name = "admin"
    bootstrapper.service_name = "keystone"
    bootstrapper.region_id = region
    bootstrapper.public_url = bootstrapper.internal_url = bootstrapper.admin_url = f"{url}/v3"
    bootstrapper.immutable_roles = True
    bootstrapper.bootstrap()

"""What the kinds of Nova share: raw JSON, which has the links to further pages that novaclient drops."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from keystoneauth1.adapter import Adapter

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud


def compute(cloud: Cloud) -> Adapter:
    """Nova for `call` and `get_all`, of the same microversion as its client."""
    return Adapter(
        cloud.session,
        service_type="compute",
        region_name=cloud.region_name,
        interface=cloud.interface,
        default_microversion=cloud.nova.api_version.get_string(),
    )


def supports(cloud: Cloud, microversion: str) -> bool:
    """Whether this cloud's Nova and our client both know a microversion, e.g. `2.55`."""
    from novaclient.api_versions import APIVersion

    return bool(cloud.nova.api_version >= APIVersion(microversion))


def flavor_path(flavor_id: str, *rest: str) -> str:
    """The path of a flavor; its id is whatever an administrator chose, also with spaces."""
    return "/".join(("/flavors", quote(flavor_id, safe=""), *rest))

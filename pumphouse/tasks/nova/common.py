"""What the kinds of Nova share: its resources as raw JSON, and having a server change its state."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tenacity import Retrying, retry_if_exception, stop_after_attempt

from pumphouse.cloud import call, get_all, or_none
from pumphouse.cloud.wait import wait_for
from pumphouse.errors import PumphouseError, WaitError, http_status
from pumphouse.model import Json
from pumphouse.tasks.base import STAMP, in_doubt, stamp_tag, stamps_among, without_stamps

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

# A guest has a minute to shut down (shutdown_timeout of Nova's images), hypervisors under load need more.
STATE_TIMEOUT_S = 600.0
TASK = "OS-EXT-STS:task_state"
ATTEMPTS = 3
# From Mitaka on, an administrator sees and makes the keypairs of others; keypairs have types since Liberty.
OWNERS = "2.10"
KEY_TYPES = "2.2"
# The mark that a server has from its create call until nothing is left to do for it.
UNFINISHED = "pumphouse_unfinished"
# From Queens on, a server can be booted with tags.
BOOT_TAGS = "2.52"
# How many tags Nova lets a server have (MAX_TAG_COUNT).
_TAGS_MAX = 50
# osapi_max_limit, the most that Nova gives at a time unless it is configured otherwise.
_PAGE = 1000


def supports(cloud: Cloud, microversion: str) -> bool:
    """Whether this cloud's Nova and our client both know a microversion, e.g. `2.55`."""
    from novaclient.api_versions import APIVersion

    return bool(cloud.nova.api_version >= APIVersion(microversion))


def list_server_groups(cloud: Cloud) -> list[Json]:
    """The server groups of all tenants that the login may see, page by page: Nova gives no links to the next."""
    groups: list[Json] = []
    while True:
        everybodys = {"all_projects": "True"} if cloud.is_admin else {}
        params = {**everybodys, "limit": _PAGE, "offset": len(groups)}
        page = call(cloud.adapter("compute"), "GET", "/os-server-groups", params=params)["server_groups"]
        groups += page
        if not page:
            return groups


def list_flavors(cloud: Cloud) -> list[Json]:
    """All flavors, public or not, page by page: what is beyond the first one was not deleted."""
    return get_all(cloud.adapter("compute"), "/flavors/detail", "flavors", is_public="None")


def read_keypair(cloud: Cloud, user_id: str, name: str) -> Json | None:
    """A keypair of a user; None where there is none. Before OWNERS, Nova knows that of the operator only."""
    path = keypair_path(cloud, user_id, name)
    found = or_none(call, cloud.adapter("compute"), "GET", path)
    return found["keypair"] if found else None


def keypair_path(cloud: Cloud, user_id: str, name: str) -> str:
    """Where a keypair of a user is."""
    owner = "" if user_id == cloud.user_id else f"?user_id={quote(user_id, safe='')}"
    return f"/os-keypairs/{quote(name, safe='')}{owner}"


def list_keypairs(cloud: Cloud, user_id: str) -> list[Json]:
    """The keypairs of a user, page by page; Nova lists those of one user at a time only."""
    found = get_all(cloud.adapter("compute"), "/os-keypairs", "keypairs", user_id=user_id)
    return [item["keypair"] for item in found]


def server_zones(cloud: Cloud, *, also_down: bool = False) -> list[str]:
    """The names of the availability zones that take servers, or also of those that take none at the moment."""
    found = call(cloud.adapter("compute"), "GET", "/os-availability-zone")["availabilityZoneInfo"]
    return [zone["zoneName"] for zone in found if also_down or zone["zoneState"]["available"]]


def metadata_max(cloud: Cloud, tenant_id: str | None = None) -> int:
    """How many metadata items a server may have: of a tenant, else of the login's project; -1 for any number."""
    params = {"tenant_id": tenant_id} if tenant_id and cloud.is_admin else {}
    limits = call(cloud.adapter("compute"), "GET", "/limits", params=params)["limits"]["absolute"]
    return int(limits["maxServerMeta"])


def has_room(data: Json, items_max: int, *, for_tags: bool) -> bool:
    """Whether a server takes the two marks of a migration besides what it has.

    items_max: how many metadata items it may have; -1 for any number.
    for_tags: whether Nova takes tags of a server that it boots.
    """
    return _fits(data["metadata"], items_max) or (for_tags and _fits(data["tags"], _TAGS_MAX))


def _fits(marked: Collection[str], most: int) -> bool:
    return most < 0 or len(marked) + 2 <= most


def marked(cloud: Cloud, data: Json) -> Json:
    """A server's metadata and tags with the two marks of a migration: among the tags where the metadata are full.

    cloud: in the tenant of the server.
    """
    metadata, tags = data["metadata"], data["tags"]
    if not supports(cloud, BOOT_TAGS):
        return {"metadata": {**metadata, STAMP: data["id"], UNFINISHED: "yes"}}
    if _fits(metadata, metadata_max(cloud)):
        return {"metadata": {**metadata, STAMP: data["id"], UNFINISHED: "yes"}, "tags": tags}
    return {"metadata": metadata, "tags": [*tags, stamp_tag(data["id"]), UNFINISHED]}


def stamp_of(server: Json) -> str:
    """The id of the source's server that a server was made from; empty when no migration made it."""
    return server["metadata"].get(STAMP) or next(iter(stamps_among(server.get("tags", ()))), "")


def is_unfinished(server: Json) -> bool:
    """Whether something is left to do for a server that a migration has made."""
    return UNFINISHED in server["metadata"] or UNFINISHED in server.get("tags", ())


def own_metadata(metadata: Mapping[str, str]) -> Json:
    """The metadata of a server without what migrations put there."""
    return {key: value for key, value in metadata.items() if key not in (STAMP, UNFINISHED)}


def own_tags(server: Json) -> list[str]:
    """The tags of a server without what migrations put there."""
    return [tag for tag in without_stamps(server.get("tags", ())) if tag != UNFINISHED]


def unmark(cloud: Cloud, server_id: str) -> None:
    """Take the stamp off a server; PumphouseError where it is shelved, because Nova then changes nothing of it."""
    server = cloud.nova.servers.get(server_id).to_dict()
    if server["status"].startswith("SHELVED"):
        raise PumphouseError(
            f"server {server['name']} is shelved, and Nova takes no mark off a shelved server",
            f"openstack server unshelve {server_id}, then finalize again",
        )
    if marks := [mark for mark in (STAMP, UNFINISHED) if mark in server["metadata"]]:
        cloud.nova.servers.delete_meta(server_id, marks)
    for tag in set(server.get("tags", ())) - set(own_tags(server)):
        cloud.nova.servers.delete_tag(server_id, tag)


def flavor_path(flavor_id: str, *rest: str) -> str:
    """The path of a flavor; its id is whatever an administrator chose, also with spaces."""
    return "/".join(("/flavors", quote(flavor_id, safe=""), *rest))


def servers_of(cloud: Cloud, tenant_id: str) -> list[Json]:
    """All servers of a tenant."""
    options = {"all_tenants": 1, "project_id": tenant_id} if cloud.is_admin else {}
    servers = get_all(cloud.adapter("compute"), "/servers/detail", "servers", **options)
    return [server for server in servers if server["tenant_id"] == tenant_id]


def servers_by_key(cloud: Cloud, keys: Collection[str]) -> dict[str, Json]:
    """Servers by `<tenant id>/<server id>`, with one list call for each tenant."""
    tenants = {key.partition("/")[0] for key in keys}
    return {f"{tenant}/{server['id']}": server for tenant in tenants for server in servers_of(cloud, tenant)}


def wait_for_server(
    cloud: Cloud,
    tenant_id: str,
    server_id: str,
    done: Callable[[Json], bool],
    *,
    title: str,
    timeout_s: float,
) -> Json:
    """Wait until a server is as it shall be; WaitError when it disappears or goes to ERROR."""

    def is_done(server: Json | None) -> bool:
        if server is None:
            raise WaitError(f"server {server_id} has disappeared", f"it was waited for: {title}")
        if server["status"] == "ERROR":
            fault = server.get("fault", {}).get("message", "Nova gives no reason")
            raise WaitError(
                f"server {server['name']} went to ERROR: {fault}", "ask the cloud's administrator why"
            )
        return done(server)

    batch = cloud.batch(servers_by_key)
    found = wait_for(batch, f"{tenant_id}/{server_id}", is_done, title=title, timeout_s=timeout_s)
    return found or {}


def wait_until_idle(cloud: Cloud, tenant_id: str, server_id: str) -> Json:
    """Wait until Nova has finished whatever it does with a server; returns the server."""
    title = f"server {server_id}: the end of what Nova does with it"
    return wait_for_server(
        cloud,
        tenant_id,
        server_id,
        lambda server: not server.get(TASK),
        title=title,
        timeout_s=STATE_TIMEOUT_S,
    )


def bring_to(
    cloud: Cloud, tenant_id: str, server_id: str, statuses: Collection[str], act: Callable[[str], Any]
) -> None:
    """Have a server reach one of some statuses, whatever Nova is doing with it at the moment.

    act: the call that has it do so; repeated when it may not have been carried out.
    """

    def act_where_needed() -> bool:
        if wait_until_idle(cloud, tenant_id, server_id)["status"] in statuses:
            return False
        act(server_id)
        return True

    attempts = Retrying(
        retry=retry_if_exception(_may_be_repeated), stop=stop_after_attempt(ATTEMPTS), reraise=True
    )
    if not attempts(act_where_needed):
        return
    wait_for_server(
        cloud,
        tenant_id,
        server_id,
        lambda server: bool(server["status"] in statuses and not server.get(TASK)),
        title=f"server {server_id} becoming {' or '.join(statuses)}",
        timeout_s=STATE_TIMEOUT_S,
    )


def _may_be_repeated(error: BaseException) -> bool:
    # Nova answers 409 when the server has begun something else in the meantime.
    return isinstance(error, Exception) and (in_doubt(error) or http_status(error) == 409)

"""Clouds without some services, with endpoints of every form, against a small HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from keystoneauth1.exceptions import EndpointNotFound, HttpError

from pumphouse.cloud import Cloud, get_all, or_none
from pumphouse.cloud.services import service_types, unversioned
from pumphouse.errors import CloudError
from pumphouse.model import Action, Record, Ref
from pumphouse.plan import uncarried
from pumphouse.plan.decide import decide, decide_all
from pumphouse.plan.make import absent, discover, with_needs
from pumphouse.tasks import KINDS, quota
from pumphouse.tasks.glance.common import list_images
from pumphouse.tasks.neutron.common import SECURITY_GROUPS, list_shares
from pumphouse.tasks.neutron.floating_ip import AssociateFloatingIp
from pumphouse.tasks.neutron.port import EnsurePort
from pumphouse.tasks.neutron.port_forwardings import at_port
from pumphouse.tasks.neutron.security_group import MakeDefaultGroup
from pumphouse.tasks.nova import server as server_kind
from pumphouse.tasks.nova.boot_key import _borrow, _Use
from pumphouse.tasks.nova.common import servers_of
from pumphouse.verify import cinder as verify_cinder
from pumphouse.verify import glance as verify_glance
from pumphouse.verify import neutron as verify_neutron
from pumphouse.verify import nova as verify_nova
from pumphouse.verify import quotas as verify_quotas
from pumphouse.verify.compare import NOT_KNOWN, Named
from pumphouse.verify.keystone import read_credentials

TENANT = "p"
NAMES = {"name": "Default", "id": "default"}
IDENTITY = ("identity", "/v3")


@dataclass
class PlainCloud:
    """A Keystone with a catalog, and the answers of all services by path; 404 for any other path.

    catalog: types of services and the paths of their endpoints.
    """

    catalog: list[tuple[str, str]] = field(default_factory=lambda: [IDENTITY])
    answers: dict[str, Any] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    microversions: dict[str, str] = field(default_factory=dict)
    made: Callable[[Any], tuple[int, Any]] = lambda body: (201, body)  # noqa: E731
    regions: tuple[str, ...] = ("R",)
    logins: int = 0
    url: str = ""

    def token(self) -> dict[str, Any]:
        self.logins += 1
        return {
            "methods": ["password"],
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "user": {"id": "u", "name": "u", "domain": NAMES},
            "project": {"id": TENANT, "name": "p", "domain": NAMES},
            "roles": [{"id": "r", "name": "admin"}],
            "catalog": [
                {
                    "type": kind,
                    "name": kind,
                    "endpoints": [self.endpoint(path, region) for region in self.regions],
                }
                for kind, path in self.catalog
            ],
        }

    def endpoint(self, path: str, region: str) -> dict[str, str]:
        place = {"interface": "public", "region": region, "region_id": region}
        return {"id": f"{path} {region}", **place, "url": self.url + path}

    def offer(self, root: str, version: str, microversion: str = "") -> None:
        """Have a service tell one version of its API, at the root and where that version is."""
        entry = {
            "id": f"v{version}",
            "status": "CURRENT",
            "version": microversion,
            "min_version": "2.1" if microversion else "",
            "links": [{"rel": "self", "href": f"{self.url}{root}/v{version}/"}],
        }
        self.answers |= {root: {"versions": [entry]}, f"{root}/v{version}": {"version": entry}}


class Handler(BaseHTTPRequestHandler):
    cloud: PlainCloud

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v3/auth/tokens":
            return self.answer(201, {"token": self.cloud.token()}, X_Subject_Token="t")
        return self.answer(*self.cloud.made(body))

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        if path == "/v3":
            links = [{"rel": "self", "href": f"{self.cloud.url}/v3/"}]
            return self.answer(200, {"version": {"id": "v3.14", "status": "stable", "links": links}})
        self.cloud.requests.append(path)
        self.cloud.microversions[path] = self.headers.get("OpenStack-API-Version", "")
        found = self.cloud.answers.get(self.path, self.cloud.answers.get(path))
        if isinstance(found, int):
            return self.answer(found, {"error": {"message": "not for you"}})
        return self.answer(404 if found is None else 200, found or {"NeutronError": {"message": "not here"}})

    def answer(self, status: int, body: Any, **headers: str) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """The tests read what was asked for in the cloud."""


@pytest.fixture
def there() -> Iterator[PlainCloud]:
    cloud = PlainCloud()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"cloud": cloud}))
    cloud.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield cloud
    server.shutdown()
    server.server_close()


@pytest.fixture
def connect(there: PlainCloud, tmp_path: Path) -> Any:
    """Makes a cloud of a clouds.yaml with the given settings."""

    def make(**settings: Any) -> Cloud:
        auth = {"auth_url": f"{there.url}/v3", "username": "u", "password": "p", "project_name": "p"}
        auth |= {"user_domain_name": "Default", "project_domain_name": "Default"}
        settings = {name: value for name, value in {"region_name": "R", **settings}.items() if value}
        path = tmp_path / "clouds.yaml"
        path.write_text(yaml.safe_dump({"clouds": {"it": {"auth": auth, **settings}}}))
        return Cloud.from_clouds_yaml("it", clouds_file=path)

    return make


def test_a_cloud_has_what_its_catalog_names_by_any_of_its_types(there: PlainCloud, connect: Any) -> None:
    there.catalog += [("compute", "/compute"), ("volumev3", "/volume/v3/p")]
    cloud = connect()
    asked = ("compute", "block-storage", "image", "network", "dns")
    assert [name for name in asked if cloud.has(name)] == ["compute", "block-storage"]
    assert connect(region_name="R", interface="internal").has("compute") is False
    assert there.requests.count("/compute") == 0


def test_it_is_asked_once_what_a_cloud_has(there: PlainCloud, connect: Any) -> None:
    cloud = connect()
    assert not cloud.has("image")
    cloud.session.auth.auth_ref = None
    logins = there.logins
    assert not cloud.has("image")
    assert there.logins == logins


def test_a_service_in_another_region_is_not_there(there: PlainCloud, connect: Any) -> None:
    there.catalog.append(("image", "/image"))
    assert connect().has("image")
    assert not connect(region_name="other").has("image")


def test_an_endpoint_of_clouds_yaml_is_there_without_a_catalog(there: PlainCloud, connect: Any) -> None:
    assert connect(image_endpoint_override=f"{there.url}/image").has("image")


def test_a_cloud_without_cinder_has_no_volumes_and_no_limits_of_them(there: PlainCloud, connect: Any) -> None:
    cloud = connect()
    for kind in (KINDS["volume"], KINDS["volume_snapshot"]):
        assert kind.discover(cloud, TENANT) == []
        assert kind.strangers(cloud, TENANT) == []
    find = KINDS["volume"].find_anywhere
    assert find is not None
    assert find(cloud, {"id": "v"}) == []
    assert quota.fetch(cloud, ["p.volume"]) == {}
    assert verify_cinder.read(cloud, TENANT, snapshots_left=False) == {}
    assert verify_quotas.read(cloud, TENANT, []) == []


def test_limits_of_volumes_are_a_note_where_there_is_no_cinder(connect: Any) -> None:
    cloud = connect()
    data = {"id": "s.volume", "tenant_id": "s", "service": "volume", "limits": {"volumes": 50}}
    task = quota.EnsureQuota(cloud, provides="q", types={}, rebind={"data": "x"})
    ensured = {"tenant-s-ensured": {"id": "p", "made": True}}
    result = task.execute(data, **ensured)
    assert result == {
        "id": "p.volume",
        "made": False,
        "before": {},
        "notes": ["volumes=50 is not carried: the destination has no such quota"],
    }
    assert task.revert(result, data, **ensured) is None

    record = Record(Ref("quota", "s.volume"), "volume", data)
    search = SimpleNamespace(destination=cloud, ids={Ref("tenant", "s"): "p"}, mappings={"volume_types": {}})
    (adapted,) = quota.adapt(search, [record])
    assert adapted.skip == "the it has no block-storage service"
    (twin,) = quota.find(search, [record])[record.ref]
    assert (twin.differences, twin.unfinished) == (("volumes is unknown, source has 50",), "")


def test_verify_does_not_know_of_trusts_that_are_not_shown_to_the_login(
    there: PlainCloud, connect: Any
) -> None:
    there.answers |= {"/v3/OS-TRUST/trusts": 403, "/v3/credentials": {"credentials": []}}
    (trusts,) = read_credentials(connect(), TENANT, [])["trusts"]
    assert trusts.facts == {"number": NOT_KNOWN}
    assert "is not shown" in trusts.not_expected
    assert trusts.tolerated


def test_verify_reads_clouds_without_nova_and_neutron(connect: Any) -> None:
    cloud = connect()
    assert verify_nova.read(cloud, TENANT, ["u"]) == {}
    assert verify_neutron.read(cloud, TENANT) == {}


@pytest.mark.parametrize(
    "kind", ["router", "floating_ip", "trunk", "address_group", "rbac_policy", "subnet_pool"]
)
def test_a_neutron_without_an_extension_has_nothing_of_it(there: PlainCloud, connect: Any, kind: str) -> None:
    there.catalog.append(("network", ""))
    assert KINDS[kind].discover(connect(), TENANT) == []
    assert there.requests


def test_what_the_destination_has_nothing_for_is_left_out_with_a_note_for_each_lack(
    there: PlainCloud, connect: Any
) -> None:
    there.catalog += [("network", ""), ("image", "/image")]
    there.answers |= {
        "/v2.0/extensions": {"extensions": [{"alias": "standard-attr-tag"}]},
        **{f"/v3/{kind}": {kind: []} for kind in ("domains", "groups", "projects", "roles", "users")},
    }
    kinds = ("router", "floating_ip", "subnet_pool", "volume", "volume_snapshot", "server")
    records = {
        ref: Record(ref, ref.id, {}, must_exist="elsewhere")
        for ref in (Ref(kind, f"one {kind}") for kind in kinds)
    }
    settings = {"mappings": {}, "policies": {"on_conflict": "fail"}}
    steps = decide_all(records, connect(), connect(), settings, {}, [])
    lacks = {
        "the it has no neutron extension router": {"router", "floating_ip"},
        "the it has no neutron extension subnet_allocation": {"subnet_pool"},
        "the it has no block-storage service": {"volume", "volume_snapshot"},
        "the it has no compute service": {"server"},
    }
    assert {(step.ref.kind, step.action, step.reason) for step in steps.values()} == {
        (kind, Action.SKIP, lack) for lack, those in lacks.items() for kind in those
    }
    notes = list(absent(connect(), connect(), steps))
    assert notes[-2:] == [
        "the it has no block-storage service: not carried: 1 volume, 1 volume snapshot",
        "the it has no compute service: not carried: 1 server",
    ]
    assert (
        "the it has no compute service: flavors, keypairs, server groups, servers are not looked for" in notes
    )
    assert "/v2.0/routers" not in there.requests


def test_what_is_there_and_moved_by_a_service_that_is_not_is_left_behind_with_a_note(
    there: PlainCloud, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.catalog += [("compute", "/compute/v2.1"), ("image", "/image")]
    web = Record(Ref("server", "s"), "web", {"image_id": None, "status": "ACTIVE"})
    kind = replace(KINDS["server"], discover=lambda *_: [web], fetch=lambda *_: {"s": web})
    monkeypatch.setattr("pumphouse.plan.make.KINDS", {"server": kind})
    with ThreadPoolExecutor() as pool:
        found = discover(connect(), TENANT, {"root_disk": "snapshot"}, pool)
        volume = Record(Ref("volume", "v"), "data", {}, needs=(web.ref,))
        needed = with_needs(connect(), {volume.ref: volume}, pool)
    assert found[web.ref].skip == needed[web.ref].skip == "the it has no network service"
    steps = {web.ref: decide(found[web.ref], (), "fail")}
    assert list(absent(connect(), connect(), steps)) == [
        "the it has no network service: not carried: 1 server"
    ]


def test_a_cloud_without_neutron_has_nothing_of_it_and_needs_no_default_group(connect: Any) -> None:
    cloud = connect()
    assert [*SECURITY_GROUPS.by(cloud, "id", ["g"]), *list_shares(cloud)] == []
    task = MakeDefaultGroup(cloud, provides="prepared")
    assert task.execute({"id": "t", "made": True}) == {"groups": []}
    assert task.revert({"id": "t", "made": True}) is None


def test_what_is_needed_of_a_service_that_is_not_there_is_not_read(connect: Any) -> None:
    server = Record(Ref("server", "s"), "web", {}, needs=(Ref("volume", "v"), Ref("port", "p")))
    with ThreadPoolExecutor() as pool:
        assert with_needs(connect(), {server.ref: server}, pool) == {server.ref: server}


def test_a_region_that_is_not_named_or_not_there_is_an_error(there: PlainCloud, connect: Any) -> None:
    there.catalog.append(("image", "/image"))
    connect(region_name=None).login()
    there.regions = ("east", "west")
    with pytest.raises(CloudError, match="it has the regions east, west") as caught:
        connect(region_name=None).login()
    assert "region_name" in caught.value.hint
    connect(region_name="east").login()
    with pytest.raises(CloudError, match="it has no region south, only east, west"):
        connect(region_name="south").login()


@pytest.mark.parametrize(
    ("kind", "path", "version"),
    [("compute", "/front/compute/v2.1", "2.1"), ("volumev3", "/front/volume/v3/p", "3")],
)
def test_a_proxy_of_which_a_service_does_not_know_is_not_left(
    there: PlainCloud, connect: Any, kind: str, path: str, version: str
) -> None:
    """The service tells its address without what the proxy puts before it."""
    there.catalog.append((kind, path))
    root = path.removesuffix("/p").removesuffix(f"/v{version}")
    there.offer("", version, "2.60")
    there.answers |= {f"{root}{told}": there.answers.pop(told) for told in ("", f"/v{version}")}
    there.answers[f"{path}/types"] = {"types": [1]}
    adapter = connect().adapter("compute" if kind == "compute" else "block-storage")
    assert get_all(adapter, "/types", "types") == [1]


@pytest.mark.parametrize(
    ("forbidden", "left"),
    [
        (("mac_address",), "MAC"),
        (("ip_address",), "addresses"),
        (("mac_address", "ip_address"), "MAC, addresses"),
        (("port_security_enabled",), "MAC, addresses, port security, allowed address pairs"),
    ],
)
def test_what_nobody_may_choose_of_a_port_is_left_to_neutron(
    there: PlainCloud, connect: Any, forbidden: tuple[str, ...], left: str
) -> None:
    there.catalog.append(("network", ""))

    def made(body: Any) -> tuple[int, Any]:
        if any(field in json.dumps(body) for field in forbidden):
            return 403, {"NeutronError": {"message": "not by the policy"}}
        return 201, {"port": {**body["port"], "id": "new"}}

    there.made = made
    task = EnsurePort(connect(), provides="p", rebind={"data": "x"})
    task.notes = []
    chosen = {"mac_address": "fa:16:3e:00:00:01", "fixed_ips": [{"subnet_id": "s", "ip_address": "10.0.0.5"}]}
    assert task._created({"name": "web", **chosen, "port_security_enabled": True}) == "new"
    assert task.notes == [f"Neutron chooses its {left}: the cloud answered 403: not by the policy"]
    assert task.asked["fixed_ips"][0]["subnet_id"] == "s"

    there.made = lambda body: (403, {"NeutronError": {"message": "none at all"}})
    with pytest.raises(HttpError, match="none at all"):
        task._created({"name": "web", "fixed_ips": []})


@pytest.mark.parametrize(("held", "leads_to"), [("10.0.0.5", "10.0.0.5"), ("10.0.0.77", "10.0.0.77")])
def test_what_leads_to_a_port_leads_to_an_address_that_it_has(
    there: PlainCloud, connect: Any, held: str, leads_to: str
) -> None:
    there.catalog.append(("network", ""))
    fixed = [{"subnet_id": "s", "ip_address": ip} for ip in ("fd00::5", held)]
    there.answers["/v2.0/ports?id=p"] = {"ports": [{"id": "p", "fixed_ips": fixed}]}
    forwarding = {"internal_port_id": "p", "internal_ip_address": "10.0.0.5", "protocol": "tcp"}
    assert at_port(connect(), forwarding)["internal_ip_address"] == leads_to
    address = AssociateFloatingIp(connect(), provides="a")._address("p", {"fixed_ip_address": "10.0.0.5"})
    assert address == ({"fixed_ip_address": "10.0.0.5"} if held == "10.0.0.5" else {})


@pytest.fixture
def old_nova(there: PlainCloud, connect: Any) -> Cloud:
    """A cloud whose Nova knows the first microversion alone."""
    there.catalog.append(("compute", "/compute/v2.1"))
    there.offer("/compute", "2.1")
    return connect()


@pytest.mark.parametrize("latest", ["", "2.1", "2.2"])
def test_a_key_is_borrowed_at_every_nova(there: PlainCloud, connect: Any, latest: str) -> None:
    there.catalog.append(("compute", "/compute/v2.1"))
    there.offer("/compute", "2.1", latest)
    there.answers["/compute/v2.1/os-keypairs"] = {"keypairs": []}
    sent: list[Any] = []
    there.made = lambda body: (200, sent.append(body["keypair"]) or body)
    key = {"name": "laptop", "public_key": "ssh-rsa A", "type": "ssh", "fingerprint": "aa"}
    _borrow(connect(), key, _Use("aa"))
    of_type = {"type": "ssh"} if latest == "2.2" else {}
    assert sent == [{"name": "laptop", "public_key": "ssh-rsa A", **of_type}]


def test_keypairs_that_an_old_nova_does_not_make_are_left_out_of_the_plan(old_nova: Cloud) -> None:
    search = SimpleNamespace(destination=old_nova)
    (found,) = KINDS["keypair"].adapt(search, [Record(Ref("keypair", "u.laptop"), "laptop", {})])
    assert "makes no keypairs of others before microversion 2.10" in found.skip


def test_keys_of_others_that_an_old_nova_does_not_show_are_no_part_of_a_server(old_nova: Cloud) -> None:
    data = {"key_name": "laptop", "user_id": "u"}
    own = server_kind._as_shown(old_nova, Record(Ref("server", "s"), "web", data))
    assert own.data["key_name"] == "laptop"
    other = server_kind._as_shown(old_nova, Record(Ref("server", "s"), "web", data | {"user_id": "alice"}))
    assert other.data["key_name"] is None
    assert "its keypair laptop is not carried: it is shown to its owner only" in other.notes[0]


def test_what_an_old_nova_does_not_take_of_a_server_is_noted(old_nova: Cloud) -> None:
    notes = list(server_kind._untaken(old_nova, {"description": "d", "tags": ["t"], "nic_tags": {"p": "x"}}))
    assert [note.partition(",")[0] for note in notes] == [
        "not carried: its description",
        "not carried: its tags",
        "not carried: its tags of NICs and volumes",
    ]
    assert not list(server_kind._untaken(old_nova, {"description": None, "tags": []}))


def test_verify_reads_the_flavors_of_an_old_nova(there: PlainCloud, old_nova: Cloud) -> None:
    flavor = {"id": "7", "name": "tiny", "vcpus": 1, "ram": 64, "disk": 1, "swap": "", "rxtx_factor": 1.0}
    flavor |= {"OS-FLV-EXT-DATA:ephemeral": 0, "os-flavor-access:is_public": True}
    server = {"id": "s", "name": "web", "flavor": {"id": "7"}, "tenant_id": TENANT, "user_id": "u"}
    server |= {"status": "ACTIVE", "metadata": {}, "key_name": "laptop", "config_drive": "", "addresses": {}}
    server |= {"os-extended-volumes:volumes_attached": [{"id": "v"}]}
    there.answers |= {
        "/compute/v2.1/servers/detail": {"servers": [server]},
        "/compute/v2.1/flavors/detail": {"flavors": [flavor]},
        "/compute/v2.1/flavors/7/os-extra_specs": {"extra_specs": {"hw:x": "1"}},
        "/compute/v2.1/os-server-groups": {"server_groups": []},
        "/compute/v2.1/servers/s/os-volume_attachments": {
            "volumeAttachments": [{"volumeId": "v", "device": "/dev/vda"}]
        },
    }
    found = verify_nova.read(old_nova, TENANT, ["u"])
    (web,), (tiny,) = found["server"], found["flavor"]
    assert web.facts["flavor"] == Named("flavors", "tiny")
    assert web.facts["flavor's values"]["extra_specs"] == tiny.facts["extra_specs"] == {"hw:x": "1"}
    assert web.facts["key_name"] == "laptop"
    told = (Ref("volume", "v"), "/dev/vda", False, "boot")
    assert "do not tell all of it" in verify_nova._untold(web.facts["volumes"], (told,))
    assert not verify_nova._untold(web.facts["volumes"], (told, told))
    assert not verify_nova._untold(web.facts["volumes"], ((Ref("volume", "v"), "/dev/vdb", False, None),))
    assert found["keypair"] == []
    assert "/compute/v2.1/os-keypairs" not in there.requests


@pytest.mark.parametrize("changes", [1, 9])
def test_a_list_that_changes_while_it_is_read_is_read_anew(changes: int) -> None:
    """Nova lists a server that waits for its host before all others, and then among them."""
    left = iter(range(changes, -1, -1))

    def request(path: str, method: str, params: Any, **_: Any) -> Any:
        marker = params.get("marker", [""])[0]
        is_odd = marker == "b" and next(left) > 0
        page = {"": ["a", "b"], "b": ["c", "b"] if is_odd else ["c"]}[marker]
        more = {"servers_links": [{"rel": "next", "href": f"x?marker={page[-1]}"}]} if len(page) > 1 else {}
        body = {"servers": [{"id": item} for item in page], **more}
        return SimpleNamespace(status_code=200, content=b"x", json=lambda: body)

    adapter: Any = SimpleNamespace(request=request)
    if changes == 1:
        assert [item["id"] for item in get_all(adapter, "/servers", "servers")] == ["a", "b", "c"]
    else:
        with pytest.raises(CloudError, match="keeps back the rest"):
            get_all(adapter, "/servers", "servers")


USERS = [{"id": str(number), "name": f"user {number}"} for number in range(3)]


def test_all_pages_of_a_keystone_are_read(there: PlainCloud, connect: Any) -> None:
    there.answers |= {
        "/v3/users?domain_id=d": {
            "users": USERS[:2],
            "truncated": True,
            "links": {"next": "http://other/v3/users?domain_id=d&marker=1"},
        },
        "/v3/users?domain_id=d&marker=1": {"users": USERS[2:], "links": {"next": None}},
    }
    assert [user.id for user in connect().keystone.users.list(domain="d")] == ["0", "1", "2"]


def test_a_keystone_that_keeps_back_the_rest_of_a_list_is_an_error(there: PlainCloud, connect: Any) -> None:
    """As all do that have a list_limit and no pages, before 2025."""
    there.answers["/v3/users"] = {"users": USERS[:2], "truncated": True, "links": {"next": None}}
    with pytest.raises(CloudError, match="keeps back the rest of a long list, that of /users") as caught:
        connect().keystone.users.list()
    assert "list_limit" in caught.value.hint
    with pytest.raises(CloudError, match="keeps back"):
        get_all(connect().adapter("identity"), "/users", "users")
    link = {"next": "http://other/v3/users?marker=1"}
    page = {"users": USERS[:2], "truncated": True, "links": link}
    there.answers |= {"/v3/users": page, "/v3/users?marker=1": page}
    with pytest.raises(CloudError, match="keeps back"):
        connect().keystone.users.list()
    with pytest.raises(CloudError, match="keeps back"):
        get_all(connect().adapter("identity"), "/users", "users")


def test_other_errors_than_404_are_no_nothing(connect: Any) -> None:
    def forbid() -> None:
        raise CloudError("no")

    with pytest.raises(CloudError):
        or_none(forbid)
    assert or_none(int, "7") == 7


def test_what_is_not_there_has_nothing_that_is_not_carried(there: PlainCloud, connect: Any) -> None:
    there.catalog += [
        ("dns", "/dns"),
        ("weather", "/weather"),
        ("placement", "/placement"),
        ("volumev3", "/v3/p"),
    ]
    cloud = connect()
    assert uncarried._neutron(cloud, "/address-scopes", "address_scopes", TENANT) == []
    assert uncarried.services(cloud) == [
        "the source has dns: its zones and records are not carried",
        "the source has weather: what the tenant has there is not looked into, and not carried",
    ]


def test_what_cinder_has_beside_volumes_is_counted(there: PlainCloud, connect: Any) -> None:
    """What says whose it is only since some microversion is taken for the tenant's where Cinder filters by that."""
    there.catalog.append(("block-storage", "/volume/v3"))
    there.offer("/volume", "3", "3.71")
    owner = "os-backup-project-attr:project_id"
    there.answers |= {
        "/volume/v3/backups/detail": {"backups": [{"id": "b", "name": "nightly", owner: TENANT}, {"id": "c", "name": "no", owner: "x"}]},
        "/volume/v3/groups/detail": {"groups": [{"id": "g", "name": ""}]},
        "/volume/v3/group_snapshots/detail": 400,
        "/volume/v3/os-volume-transfer/detail": {"transfers": [{"id": "t", "name": "gift"}, {"id": "u", "name": "sale", "source_project_id": TENANT}]},
    }  # fmt: skip
    notes = [
        n
        for what, found in uncarried._CINDERS.items()
        for n in uncarried._cinder_notes(what, *found, connect(), TENANT)
    ]
    assert notes == [
        "1 volume backups not carried: nightly",
        "1 volume groups not carried: g",
        "whether the tenant has snapshots of volume groups could not be looked at: the cloud answered 400: not for you",
        "1 volume transfers not carried: sale",
    ]
    assert there.microversions["/volume/v3/backups/detail"] == "volume latest"


def test_an_old_glance_is_asked_for_each_visibility_and_loses_no_image(
    there: PlainCloud, connect: Any
) -> None:
    """Before Stein it does not know `all`; before Rocky it takes os_hidden for a property, which no image has."""
    there.catalog.append(("image", "/image"))
    path = "/image/v2/images?visibility={}&owner=p&limit=200"
    there.answers |= {
        "/image/v2/schemas/image": {"name": "image", "properties": {}, "additionalProperties": True},
        "/image/v2/images": {"images": []},
        path.format("all"): 400,
        path.format("all").replace("&limit", "&os_hidden=true&limit"): 400,
        path.format("private"): {"images": [{"id": "mine"}]},
        path.format("public"): {"images": [{"id": "ours"}]},
        path.format("community"): 400,
    }
    assert sorted(image["id"] for image in list_images(connect(), owner=TENANT)) == ["mine", "ours"]
    facts = {"owner": "somebody", "status": "active", "visibility": "public", "name": "x", "tags": []}
    verified = "/image/v2/images?visibility={}&limit=500"
    there.answers |= {
        verified.format("all"): 400,
        f"{verified.format('all')}&os_hidden=true": 400,
        verified.format("private"): {"images": [{"id": "mine", **facts}]},
        verified.format("public"): {"images": [{"id": "ours", **facts}]},
        verified.format("community"): 400,
    }
    assert sorted(item.ref.id for item in verify_glance.read(connect(), TENANT, deep=False)) == [
        "mine",
        "ours",
    ]
    there.answers[path.format("private")] = 400
    with pytest.raises(Exception, match="not for you"):
        list_images(connect(), owner=TENANT)


def test_what_may_not_be_looked_at_is_a_note_and_the_plan_goes_on(there: PlainCloud, connect: Any) -> None:
    there.catalog.append(("network", ""))
    there.answers |= {
        **{f"/v3/{kind}": {kind: []} for kind in ("roles", "projects", "users", "domains")},
        "/v3/role_assignments": {"role_assignments": []},
        "/v3/projects/p": {"project": {"id": "p", "domain_id": "default", "parent_id": "default"}},
        "/v2.0/qos/policies": 403,
        "/v2.0/address-scopes": {"address_scopes": [{"id": "s", "name": "scope", "project_id": TENANT}]},
        "/v3/credentials": 403,
    }
    assert uncarried.notes(connect(), TENANT) == [
        "whether the tenant has QoS policies could not be looked at: the cloud answered 403: not for you;"
        " the operator's role or a quota of the project forbids it",
        "1 address scopes not carried: scope",
        *(
            f"whether the tenant has {what} credentials could not be looked at: the cloud answered 403: not for you;"
            " the operator's role or a quota of the project forbids it"
            for what in ("EC2", "other")
        ),
    ]
    there.answers["/v3/credentials"] = 400
    with pytest.raises(HttpError):
        uncarried.notes(connect(), TENANT)


def test_a_flavor_beyond_the_first_page_was_not_deleted(there: PlainCloud, connect: Any) -> None:
    there.catalog += [("compute", "/compute/v2.1"), ("network", "")]
    there.offer("/compute", "2.1", "2.60")
    sizes = {"ram": 64, "vcpus": 1, "disk": 1, "swap": ""}
    flavors = [
        {"id": name, "name": name, **sizes, "OS-FLV-EXT-DATA:ephemeral": 0} for name in ("first", "second")
    ]
    told = {**sizes, "swap": 0, "ephemeral": 0, "original_name": "second", "extra_specs": {}}
    server = {
        **dict.fromkeys(("id", "name", "user_id"), "s"),
        **dict.fromkeys(("key_name", "config_drive", "image"), ""),
        "tenant_id": TENANT,
        "status": "ACTIVE",
        "metadata": {},
        "addresses": {},
        "flavor": told,
    }
    path = "/compute/v2.1/flavors/detail?is_public=None"
    link = {"rel": "next", "href": f"{there.url}{path}&marker=first"}
    there.answers |= {
        "/compute/v2.1/servers/detail": {"servers": [server]},
        path: {"flavors": flavors[:1], "flavors_links": [link]},
        f"{path}&marker=first": {"flavors": flavors[1:]},
        "/compute/v2.1/os-server-groups": {"server_groups": []},
        "/v2.0/ports": {"ports": []},
    }
    (record,) = KINDS["server"].discover(connect(), TENANT)
    assert record.data["flavor_id"] == "second"


@pytest.mark.parametrize("path", ["/image", "/image/", "/image/v2", "/image/v2/", "/image/v2.1"])
def test_a_glance_is_found_with_and_without_a_version(there: PlainCloud, connect: Any, path: str) -> None:
    there.catalog.append(("image", path))
    there.answers["/image/v2/images"] = {"images": []}
    cloud = connect()
    assert list_images(cloud, owner=TENANT) == []
    assert get_all(cloud.adapter("image"), "/images", "images") == []
    assert there.requests == ["/image/v2/images"] * 3


@pytest.mark.parametrize(
    "path", ["/compute", "/compute/", "/compute/v2.1", "/compute/v2.1/", "/compute/v2/p", "/compute/v2.1/p"]
)
def test_a_nova_is_found_with_and_without_a_version(there: PlainCloud, connect: Any, path: str) -> None:
    there.catalog.append(("compute", path))
    there.offer("/compute", "2.1", "2.60")
    project = "/p" if path.endswith("/p") else ""
    servers = f"/compute/v2.1{project}/servers/detail"
    there.answers[servers] = {"servers": []}
    cloud = connect()
    assert servers_of(cloud, TENANT) == []
    assert cloud.nova.servers.list() == []
    assert there.requests.count(servers) == 2
    assert there.microversions[servers] == "compute 2.60"


def test_a_nova_older_than_its_api_2_1_is_named(there: PlainCloud, connect: Any) -> None:
    there.catalog.append(("compute", "/compute/v2"))
    there.offer("/compute", "2")
    with pytest.raises(CloudError, match=r"compute service does not offer version 2\.1"):
        servers_of(connect(), TENANT)


def test_what_is_asked_of_a_missing_service_is_an_error_that_names_it(connect: Any) -> None:
    cloud = connect()
    for service_type in ("image", "network", "block-storage", "compute"):
        with pytest.raises(EndpointNotFound, match=service_type):
            get_all(cloud.adapter(service_type), "/things", "things")


@pytest.mark.parametrize(
    "settings", [{"compute_api_version": "2.53"}, {"compute_default_microversion": "2.53"}]
)
def test_clouds_yaml_may_choose_a_microversion(
    there: PlainCloud, connect: Any, settings: dict[str, Any]
) -> None:
    there.catalog.append(("compute", "/compute/v2.1"))
    there.offer("/compute", "2.1", "2.60")
    cloud = connect(**settings)
    assert cloud.nova.api_version.get_string() == "2.53"
    assert cloud.adapter("compute").default_microversion == "2.53"


@pytest.mark.parametrize("settings", [{}, {"compute_api_version": "2"}, {"compute_api_version": "2.99"}])
def test_a_microversion_is_never_higher_than_what_the_cloud_knows(
    there: PlainCloud, connect: Any, settings: dict[str, Any]
) -> None:
    there.catalog.append(("compute", "/compute/v2.1"))
    there.offer("/compute", "2.1", "2.60")
    assert connect(**settings).nova.api_version.get_string() == "2.60"


@pytest.mark.parametrize(
    ("service_type", "name", "path", "asked"),
    [
        ("image", "image", "/other", "/other/v2/things"),
        ("image", "image", "/other/v2", "/other/v2/things"),
        ("network", "network", "/other", "/other/v2.0/things"),
        ("identity", "identity", "/other/v3", "/other/v3/things"),
        ("block-storage", "volumev3", "/other/v3/p", "/other/v3/p/things"),
        ("block-storage", "block_storage", "/other/v3/p", "/other/v3/p/things"),
    ],
)
def test_an_endpoint_of_clouds_yaml_comes_before_the_catalog(
    there: PlainCloud, connect: Any, service_type: str, name: str, path: str, asked: str
) -> None:
    there.catalog += [("image", "/image"), ("network", ""), ("volumev3", "/volume/v3/p")]
    there.answers[asked] = {"things": [1]}
    cloud = connect(**{f"{name}_endpoint_override": there.url + path})
    assert get_all(cloud.adapter(service_type), "/things", "things") == [1]
    assert there.requests == [asked]


def test_a_version_of_cinder_may_be_chosen(there: PlainCloud, connect: Any) -> None:
    there.catalog += [("volumev2", "/volume/v2/p")]
    there.answers["/volume/v2/p/types"] = {"volume_types": []}
    assert get_all(connect(volume_api_version="2").cinder, "/types", "volume_types") == []


def test_an_interface_or_region_of_one_service_is_its_alone(there: PlainCloud, connect: Any) -> None:
    there.catalog += [("image", "/image"), ("network", "")]
    cloud = connect(image_interface="internal")
    assert (cloud.has("image"), cloud.has("network")) == (False, True)


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("http://h:1/", "http://h:1"),
        ("http://h/image/v2.10/", "http://h/image"),
        ("http://h/v3", "http://h"),
        ("http://h/v2/p", "http://h/v2/p"),
        ("http://h/server2", "http://h/server2"),
    ],
)
def test_a_version_is_only_what_an_endpoint_ends_in(url: str, root: str) -> None:
    assert unversioned(url) == root


def test_the_types_of_a_catalog_are_the_official_ones() -> None:
    listed = ("volumev3", "block-storage", "compute", "container-infra", "own")
    assert service_types({"type": name} for name in listed) == {
        "block-storage",
        "compute",
        "container-infrastructure-management",
        "own",
    }

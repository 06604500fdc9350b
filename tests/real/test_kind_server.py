"""Servers with what not every cloud takes, and what Nova drops without a word, between two real Novas."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lab import Lab
from lab.sample.base import connect as administrator
from lab.sample.base import until
from lab.sample.inventory import remove_tenant
from pumphouse.cloud import Cloud, call
from pumphouse.model import Json
from pumphouse.tasks.cinder.common import VOLUMES, owned
from pumphouse.tasks.neutron.common import NETWORKS, PORTS, SUBNETS
from pumphouse.tasks.nova import common, server
from pumphouse.tasks.nova.common import list_flavors, servers_of, wait_for_server
from pumphouse.tasks.nova.nics import UNTOLD
from tests.real.by_hand import Clouds, connect
from tests.real.runner import Runner

pytestmark = pytest.mark.exhaustive

OLD_SPECS = {"hw:numa_mempolicy": "strict", "quota:foo": "1"}


@pytest.fixture(scope="module")
def runner(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(lab, tmp_path_factory.mktemp("servers"))


@pytest.fixture(scope="module")
def clouds(lab: Lab) -> Clouds:
    return connect(lab)


class Shop:
    """Tenants of the source that a test fills; all of them go from both clouds at the end."""

    def __init__(self, lab: Lab, clouds: Clouds) -> None:
        self.lab, self.source, self.destination = lab, clouds.source, clouds.destination
        self.tag = f"nova-{uuid.uuid4().hex[:6]}"
        self.names: list[str] = []
        self.flavors: list[str] = []

    def tenant(self, suffix: str = "") -> str:
        self.names.append(self.tag + suffix)
        return str(self.source.keystone.projects.create(self.names[-1], "default").id)

    def network(self, tenant_id: str, name: str, number: int) -> str:
        made = NETWORKS.create(self.source, {"name": name, "project_id": tenant_id})
        subnet = {"network_id": made["id"], "cidr": f"10.{number}.0.0/24", "ip_version": 4}
        SUBNETS.create(self.source, {**subnet, "project_id": tenant_id})
        return str(made["id"])

    def image(self, tenant_id: str, **fields: Any) -> str:
        plain = {"name": "i", "owner": tenant_id, "disk_format": "raw", "container_format": "bare"}
        image = self.source.glance.images.create(**{**plain, **fields})
        self.source.glance.images.upload(image["id"], io.BytesIO(b"x" * 1024))
        return str(image["id"])

    def flavor(self) -> str:
        """One of an old release: with extra specs that a new one does not know."""
        nova = self.source.adapter("compute")
        values = {"name": self.tag, "ram": 64, "vcpus": 1, "disk": 1}
        flavor_id = str(call(nova, "POST", "/flavors", {"flavor": values})["flavor"]["id"])
        path = f"/flavors/{flavor_id}/os-extra_specs"
        call(nova, "POST", path, {"extra_specs": OLD_SPECS}, microversion="2.61")
        return flavor_id

    def boot(self, tenant_id: str, name: str, role: str = "member", **fields: Any) -> str:
        tiny = next(item["id"] for item in list_flavors(self.source) if item["name"] == "m1.tiny")
        body = {"name": name, "flavorRef": tiny, "networks": "none", **fields}
        with self.source.in_tenant(tenant_id, role) as cloud:
            server_id = str(
                call(cloud.adapter("compute"), "POST", "/servers", {"server": body})["server"]["id"]
            )
        wait_for_server(
            self.source, tenant_id, server_id, lambda s: s["status"] == "ACTIVE", title=name, timeout_s=120
        )
        return server_id

    def twin(self, name: str, suffix: str = "") -> Json:
        """The one server of that name in the tenant's twin."""
        (found,) = [server for server in self.twins(suffix) if server["name"] == name]
        return found

    def twins(self, suffix: str = "") -> list[Json]:
        (project,) = [p for p in self.destination.keystone.projects.list() if p.name == self.tag + suffix]
        return servers_of(self.destination, project.id)

    def remove(self) -> None:
        for cloud in (self.source, self.destination):
            for name in reversed(self.names):  # who uses a network of another is gone before that
                remove_tenant(administrator(self.lab.clouds_yaml, cloud.name), name)
            for flavor in list_flavors(cloud):
                if flavor["name"].startswith(self.tag):
                    call(cloud.adapter("compute"), "DELETE", f"/flavors/{flavor['id']}")


@pytest.fixture
def shop(lab: Lab, clouds: Clouds) -> Iterator[Shop]:
    made = Shop(lab, clouds)
    yield made
    made.remove()


def nics(cloud: Cloud, server_id: str) -> list[str]:
    """The MAC addresses of a server in the order in which its guest counts its NICs."""
    told = call(cloud.adapter("compute"), "GET", f"/servers/{server_id}/diagnostics")
    return [nic["mac_address"] for nic in told["nic_details"]]


def nic_tags(cloud: Cloud, server_id: str) -> dict[str, str]:
    listed = call(cloud.adapter("compute"), "GET", f"/servers/{server_id}/os-interface")
    return {item["mac_addr"]: item["tag"] for item in listed["interfaceAttachments"]}


def of_kind(found: Json, kind: str) -> list[Json]:
    return [item for item in found["resources"] if item["kind"] == kind]


def test_a_server_with_odd_fields_arrives_with_them(shop: Shop, runner: Runner) -> None:
    """A key that was deleted, 128 metadata, an old flavor, a name with accents and of 255 letters; tagged NICs."""
    tenant_id, odd = shop.tenant(), "größe " + "x" * 249
    image = shop.image(tenant_id)
    front, back = (shop.network(tenant_id, name, n) for n, name in enumerate(("front", "back"), 81))
    public = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    shop.source.nova.keypairs.create(shop.tag, public_key=public.decode())
    wanted: Json = {
        "metadata": {f"key{n}": str(n) for n in range(128)},
        "tags": ["mine"],
        "accessIPv4": "203.0.113.7",
        "accessIPv6": "fd00::7",
    }
    tagged = [{"uuid": front, "tag": "web"}, {"uuid": back, "tag": "storage"}, {"uuid": front, "tag": "mgmt"}]
    shop.boot(tenant_id, odd, imageRef=image, key_name=shop.tag, flavorRef=shop.flavor())
    server_id = shop.boot(tenant_id, "fw", imageRef=image, networks=tagged, **wanted)
    shop.source.nova.keypairs.delete(shop.tag)
    order, told = nics(shop.source, server_id), nic_tags(shop.source, server_id)

    plan = runner.json("migrate", "tenant", shop.tag, "--dry-run")
    notes = [n for unit in plan["units"] for s in unit["steps"] if s["name"] == odd for n in s["notes"]]
    assert any(f"keypair {shop.tag} does not exist any more" in note for note in notes)
    result = runner.json("migrate", "tenant", shop.tag, "--yes")
    assert {item["outcome"] for item in of_kind(result, "server")} == {"created"}

    twin = shop.twin("fw")
    own = {key: value for key, value in twin["metadata"].items() if not key.startswith("pumphouse")}
    assert {
        **{field: twin[field] for field in wanted},
        "metadata": own,
        "tags": common.own_tags(twin),
    } == wanted
    assert nics(shop.destination, twin["id"]) == order
    assert nic_tags(shop.destination, twin["id"]) == told
    twin = shop.twin(odd)
    assert twin["key_name"] is None
    assert twin["flavor"]["extra_specs"] == OLD_SPECS

    again = runner.json("migrate", "tenant", shop.tag, "--yes")
    assert again["summary"].get("created", 0) == 0
    found = runner.json("verify", "tenant", shop.tag)
    assert {item["outcome"] for item in of_kind(found, "server")} <= {"equal", "noted"}


def test_a_server_on_a_network_of_others_waits_until_that_is_there_and_may_use_it_then(
    shop: Shop, runner: Runner
) -> None:
    own, use = shop.tenant("-own"), shop.tenant("-use")
    network = shop.network(own, "corp", 83)
    policy = {"object_type": "network", "object_id": network, "action": "access_as_shared"}
    body = {"rbac_policy": {**policy, "project_id": own, "target_tenant": use}}
    call(shop.source.neutron, "POST", "/rbac-policies", body)
    server_id = shop.boot(use, "app", imageRef=shop.image(use), networks=[{"uuid": network}])
    (port,) = PORTS.by(shop.source, "device_id", [server_id])

    result = runner.json("migrate", "tenant", f"{shop.tag}-use", "--yes", exit_code=3)
    (server,) = of_kind(result, "server")
    assert server["outcome"] == "skipped"
    assert shop.source.nova.servers.get(server_id).status == "ACTIVE"

    runner.start("migrate", "tenant", f"{shop.tag}-own", "--yes").wait()
    result = runner.json("migrate", "tenant", f"{shop.tag}-use", "--yes")
    # The owner's run has made it: the tenant was there by then.
    assert [item["outcome"] for item in of_kind(result, "rbac_policy")] == ["reused"]
    twin = shop.twin("app", "-use")
    assert nics(shop.destination, twin["id"]) == [port["mac_address"]]

    # One that lost its NIC is completed, not taken as it is; it is not the run's own to remove.
    (there,) = PORTS.by(shop.destination, "device_id", [twin["id"]])
    nova = shop.destination.adapter("compute")
    call(nova, "DELETE", f"/servers/{twin['id']}/os-interface/{there['id']}")
    until(lambda: not PORTS.by(shop.destination, "device_id", [twin["id"]]), "a NIC to go")
    result = runner.json("migrate", "tenant", f"{shop.tag}-use", "--yes")
    assert of_kind(result, "server")[0]["outcome"] == "reused"
    (there,) = PORTS.by(shop.destination, "device_id", [twin["id"]])
    assert there["mac_address"] == port["mac_address"]


def test_servers_that_share_a_volume_boot_one_after_the_other(shop: Shop, runner: Runner) -> None:
    tenant_id, kind = shop.tenant(), {"name": shop.tag, "extra_specs": {"multiattach": "<is> True"}}
    types = [
        (cloud, call(cloud.cinder, "POST", "/types", {"volume_type": kind})["volume_type"]["id"])
        for cloud in (shop.source, shop.destination)
    ]
    with shop.source.in_tenant(tenant_id) as cloud:
        volume = {"name": "shared", "size": 1, "volume_type": shop.tag}
        volume_id = call(cloud.cinder, "POST", "/volumes", {"volume": volume})["volume"]["id"]
    until(lambda: volumes_of(shop.source, tenant_id)[0]["status"] == "available", "a volume")
    image = shop.image(tenant_id)
    for number, name in enumerate(("one", "two"), 1):
        server_id = shop.boot(tenant_id, name, imageRef=image)
        shop.source.nova.volumes.create_server_volume(server_id, volume_id)
        until(lambda n=number: len(volumes_of(shop.source, tenant_id)[0]["attachments"]) == n, "a volume")  # type: ignore[misc]
    try:
        result = runner.json("migrate", "tenant", shop.tag, "--yes")
        assert {item["outcome"] for item in of_kind(result, "server")} == {"created"}
        (twin,) = volumes_of(shop.destination, shop.twin("one")["tenant_id"])
        assert {item["server_id"] for item in twin["attachments"]} == {
            server["id"] for server in shop.twins()
        }
    finally:
        shop.remove()
        for cloud, type_id in types:
            call(cloud.cinder, "DELETE", f"/types/{type_id}")


def volumes_of(cloud: Cloud, tenant_id: str) -> list[Json]:
    return owned(cloud, VOLUMES, tenant_id)


def test_a_server_boots_by_the_twins_of_its_kernel_and_ramdisk(shop: Shop, runner: Runner) -> None:
    """It is skipped before it is stopped when one of them is gone; so is nothing else of the tenant."""
    tenant_id = shop.tenant()
    kernel, ramdisk = (
        shop.image(tenant_id, name=kind, disk_format=kind, container_format=kind) for kind in ("aki", "ari")
    )
    image = {"disk_format": "ami", "container_format": "ami", "kernel_id": kernel, "ramdisk_id": ramdisk}
    shop.boot(tenant_id, "old", imageRef=shop.image(tenant_id, **image))
    runner.json("migrate", "tenant", shop.tag, "--yes")
    twin, names = shop.twin("old"), {i["name"]: i["id"] for i in shop.destination.glance.images.list()}
    assert (twin["OS-EXT-SRV-ATTR:kernel_id"], twin["OS-EXT-SRV-ATTR:ramdisk_id"]) == (
        names["aki"],
        names["ari"],
    )

    other = shop.boot(tenant_id, "orphan", imageRef=shop.image(tenant_id, name="other", **image))
    shop.source.glance.images.delete(ramdisk)
    result = runner.start("migrate", "tenant", shop.tag, "--yes", "-f", "json").wait().json
    reasons = {item["name"]: item["reason"] for item in of_kind(result, "server")}
    assert reasons["orphan"] == f"needs image/{ramdisk}, which the source does not have"
    assert shop.source.nova.servers.get(other).status == "ACTIVE"


def test_an_order_of_nics_that_nobody_tells_is_said(shop: Shop, runner: Runner) -> None:
    """And that of a server which the migration itself has stopped is the one of the plan."""
    tenant_id = shop.tenant()
    front, back = (shop.network(tenant_id, name, n) for n, name in enumerate(("front", "back"), 85))
    wanted = [{"uuid": network} for network in (front, back, front)]
    server_id = shop.boot(tenant_id, "fw", imageRef=shop.image(tenant_id), networks=wanted)
    (record,) = server.discover(shop.source, tenant_id)
    order = nics(shop.source, server_id)
    macs = {port["id"]: port["mac_address"] for port in PORTS.by(shop.source, "device_id", [server_id])}
    assert [macs[port_id] for port_id in record.data["port_ids"]] == order
    shop.source.nova.servers.stop(server_id)
    until(lambda: shop.source.nova.servers.get(server_id).status == "SHUTOFF", "a server to stop")
    (found,) = server.discover(shop.source, tenant_id)
    assert any(note.startswith(UNTOLD) for note in found.notes)
    assert not any(note.startswith(UNTOLD) for note in record.notes)
    runner.json("migrate", "tenant", shop.tag, "--yes")
    verified = runner.json("verify", "tenant", shop.tag)
    assert of_kind(verified, "server")[0]["outcome"] == "noted"


def test_a_server_on_an_external_network_without_its_addresses_is_left_alone(
    shop: Shop, runner: Runner
) -> None:
    """The destination's network of that name has other subnets: what cannot be is said before a server is stopped."""
    tenant_id = shop.tenant()
    (public,) = NETWORKS.by(shop.source, "name", ["public"])
    # Nova lets administrators alone attach a server to one.
    nics = [{"uuid": public["id"]}]
    server_id = shop.boot(tenant_id, "edge", "admin", imageRef=shop.image(tenant_id), networks=nics)
    inner = shop.boot(tenant_id, "inner", imageRef=shop.image(tenant_id))

    plan = runner.json("migrate", "tenant", shop.tag, "--dry-run")
    steps = [s for unit in plan["units"] for s in unit["steps"]]
    (subnet,) = [s for s in steps if s["kind"] == "subnet"]
    assert (subnet["action"], "no subnet of these addresses" in subnet["reason"]) == ("conflict", True)
    done = runner.json("migrate", "tenant", shop.tag, "--yes", exit_code=3)
    outcomes = {item["name"]: item["outcome"] for item in of_kind(done, "server")}
    assert outcomes["inner"] == "created"
    assert outcomes["edge"] in ("blocked", "skipped", "conflict")
    assert shop.source.nova.servers.get(server_id).status == "ACTIVE"
    assert shop.source.nova.servers.get(inner).status == "SHUTOFF"
    assert [server["name"] for server in shop.twins()] == ["inner"]
    found = runner.json("verify", "tenant", shop.tag, exit_code=6)
    assert {item["name"]: item["outcome"] for item in of_kind(found, "server")} == {
        "edge": "missing",
        "inner": "equal",
    }

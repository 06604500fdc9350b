"""What stands in the way of a plan is found before anything is stopped or made."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from keystoneauth1.exceptions import HttpError

from pumphouse.config.settings import CloudConfig, Config, Policies
from pumphouse.errors import ObstacleError
from pumphouse.model import Action, Obstacle, Plan, Ref, Step
from pumphouse.plan import preflight
from pumphouse.plan.data import plan_data, plan_from
from pumphouse.plan.image_contents import mismatches
from tests.unit.test_plan_page import GIB, server
from tests.unit.test_planfile import TENANT, plan_of, step
from tests.unit.test_services import PlainCloud, connect, there

__all__ = ["connect", "there"]

FLAVOR = step(
    "flavor/f",
    Action.REUSE,
    to="f2",
    data={"vcpus": 4, "ram": 2048, "disk": 20, "ephemeral": 1, "swap": 1025},
)


def booted(name: str, **data: Any) -> Step:
    made = server(name)
    return replace(made, record=replace(made.record, data={**made.record.data, "flavor_id": "f", **data}))


def with_data(address: str, **data: Any) -> Step:
    return step(address, data=data, needs=(TENANT,))


@pytest.fixture
def cloud(there: PlainCloud, connect: Any) -> Any:
    for kind in ("compute", "placement", "volumev3", "network", "image"):
        there.catalog.append((kind, f"/{kind}"))
    there.offer("/compute", "2.1", "2.60")
    there.offer("/volumev3", "3", "3.70")
    there.offer("/placement", "1", "1.39")
    return connect()


@pytest.fixture
def found(cloud: Any, tmp_path: Path) -> Callable[..., list[Obstacle]]:
    """What stands in the way of a plan of these steps."""

    def find(*steps: Step, **limits: Any) -> list[Obstacle]:
        plan = plan_of(step("tenant/t", called="demo"), *steps)
        if limits:
            plan = replace(plan, cfg={**plan.cfg, "limits": {**plan.cfg["limits"], **limits}})
        state = f"sqlite:///{tmp_path / 'state.db'}"
        policies = Policies(passwords_file=tmp_path / "passwords.csv")
        config = Config(CloudConfig(), CloudConfig(), policies=policies, state_url=state)
        with ThreadPoolExecutor(4) as pool:
            return list(preflight.obstacles(plan, cloud, cloud, config, pool))

    return find


def computes(*states: tuple[str, str]) -> dict[str, Any]:
    return {"services": [{"status": status, "state": state} for status, state in states]}


@pytest.mark.parametrize(
    ("states", "refused"),
    [
        ([("enabled", "up"), ("disabled", "up")], False),
        ([("disabled", "up"), ("enabled", "down")], True),
        ([], False),
    ],
)
def test_without_a_host_that_is_enabled_nothing_boots(
    there: PlainCloud, found: Any, states: list[tuple[str, str]], refused: bool
) -> None:
    there.answers["/compute/v2.1/os-services"] = computes(*states)
    assert found() == []
    said = [obstacle.what for obstacle in found(FLAVOR, booted("web"))]
    assert [what.startswith("no nova-compute of the destination is enabled and up") for what in said] == (
        [True] * refused
    )


def hosts(*free: tuple[int, int, int]) -> dict[str, Any]:
    names = ("VCPU", "MEMORY_MB", "DISK_GB")
    return {
        "provider_summaries": {
            str(n): {
                "resources": {k: {"capacity": v + 7, "used": 7} for k, v in zip(names, host, strict=True)}
            }
            for n, host in enumerate(free)
        }
    }


# A server takes 20 GiB of its flavor's root disk, 1 of ephemeral disk and 2 for the swap.
@pytest.mark.parametrize(
    ("free", "said"),
    [
        ([(4, 2048, 23), (4, 2048, 23)], []),
        ([(8, 4096, 46)], []),
        ([(7, 4096, 46)], ["7 VCPUs free, and the servers need 8"]),
        ([(8, 4095, 45)], ["4,095 MiB of RAM free, and the", "45 GiB of disk free, and the"]),
        (
            [(3, 9999, 99), (9, 2047, 99)],
            ["no host of the destination has room for the largest server (4 VCPUs"],
        ),
        ([], []),
    ],
)
def test_the_hosts_have_room_for_all_servers_and_for_each(
    there: PlainCloud, found: Any, free: list[tuple[int, int, int]], said: list[str]
) -> None:
    there.answers["/placement/allocation_candidates"] = hosts(*free)
    problems = found(FLAVOR, booted("a"), booted("b"))
    assert len(problems) == len(said)
    assert all(text in problem.what for text, problem in zip(said, problems, strict=True))


def test_a_server_that_boots_from_a_volume_takes_no_root_disk(there: PlainCloud, found: Any) -> None:
    there.answers["/placement/allocation_candidates"] = hosts((4, 2048, 3))
    assert found(FLAVOR, booted("a", image_id=None)) == []


def pool(**told: Any) -> dict[str, Any]:
    return {"pools": [{"capabilities": told}]}


THIN = {"thin_provisioning_support": True, "max_over_subscription_ratio": "2.0"}


@pytest.mark.parametrize(
    ("told", "refused"),
    [
        ({"total_capacity_gb": 100, "free_capacity_gb": 30}, False),
        ({"total_capacity_gb": 100, "free_capacity_gb": 29}, True),
        ({"total_capacity_gb": 100, "free_capacity_gb": 30, "reserved_percentage": 1}, True),
        ({"total_capacity_gb": 100, "free_capacity_gb": 1, "provisioned_capacity_gb": 170, **THIN}, False),
        ({"total_capacity_gb": 100, "free_capacity_gb": 90, "provisioned_capacity_gb": 171, **THIN}, True),
        ({"total_capacity_gb": "infinite", "free_capacity_gb": "infinite"}, False),
        ({"total_capacity_gb": 100, "free_capacity_gb": "unknown"}, False),
    ],
)
def test_the_back_ends_have_room_for_the_volumes(
    there: PlainCloud, found: Any, told: dict[str, Any], refused: bool
) -> None:
    there.answers["/volumev3/v3/scheduler-stats/get_pools"] = pool(**told)
    volumes = [with_data(f"volume/{n}", size=15, status="available", attachments=[]) for n in "ab"]
    assert [obstacle.what[:25] for obstacle in found(*volumes)] == ["the back ends of Cinder a"] * refused


@pytest.mark.parametrize(("most", "warned"), [(-1, 0), (1000, 0), (359, 1), (360, 0)])
def test_the_operators_project_has_room_for_the_copies_that_are_made_at_once(
    there: PlainCloud, found: Any, most: int, warned: int
) -> None:
    limits = {"maxTotalVolumeGigabytes": most, "totalGigabytesUsed": 40}
    there.answers["/volumev3/v3/limits"] = {"limits": {"absolute": limits}}
    attached = [{"server_id": "s", "device": "/dev/vdb"}]
    volumes = [
        with_data(f"volume/{n}", size=size, attachments=attached) for n, size in enumerate((100, 60, 5))
    ]
    # One transfer has two units that copy: a snapshot and a clone of each of the two largest volumes.
    said = found(*volumes, transfers=1)
    assert [obstacle.is_certain for obstacle in said] == [False] * warned


EXTERNAL = step("network/x", Action.REUSE, to="twin")
AVAILABLE = "/network/v2.0/network-ip-availabilities/twin"


def availability(free: int) -> dict[str, Any]:
    subnets = [
        {"ip_version": 4, "total_ips": 10 + free, "used_ips": 10},
        {"ip_version": 6, "total_ips": 1 << 40, "used_ips": 0},
    ]
    return {"network_ip_availability": {"network_name": "public", "subnet_ip_availability": subnets}}


def test_floating_addresses_are_free_and_enough(there: PlainCloud, found: Any) -> None:
    addresses = [
        with_data(f"floating_ip/{a}", floating_network_id="x", floating_ip_address=a)
        for a in ("192.0.2.1", "192.0.2.2")
    ]
    there.answers["/network/v2.0/ports"] = {"ports": [{"fixed_ips": [{"ip_address": "192.0.2.2"}]}]}
    there.answers[AVAILABLE] = availability(1)
    first, second = found(EXTERNAL, *addresses)
    assert "has 1 free address, and the plan needs 2" in first.what
    assert second.what.endswith("become others: 192.0.2.2")
    there.answers["/network/v2.0/ports"] = {"ports": []}
    there.answers[AVAILABLE] = availability(2)
    assert found(EXTERNAL, *addresses) == []


def test_formats_that_glance_refuses_are_said_with_their_images(there: PlainCloud, found: Any) -> None:
    known = {"disk_format": {"enum": [None, "raw"]}, "container_format": {"enum": [None, "bare"]}}
    there.answers["/image/v2/schemas/image"] = {"properties": known}
    images = [
        with_data(f"image/{name}", disk_format=name, container_format="bare")
        for name in ("raw", "vhd", "qcow2")
    ]
    said = [obstacle.what for obstacle in found(*images)]
    assert said == [
        "Glance of the destination takes no images of disk_format qcow2: qcow2",
        "Glance of the destination takes no images of disk_format vhd: vhd",
    ]


def test_images_that_are_there_for_a_while_count(there: PlainCloud, found: Any) -> None:
    told = {
        "image_size_total": {"limit": 40 * 1024, "usage": 1},
        "image_count_total": {"limit": -1, "usage": 9},
    }
    there.answers["/image/v2/info/usage"] = {"usage": told}
    assert found(server("a")) == []
    said = found(server("a"), server("b"))
    # At both clouds, which are the same one here.
    assert ["40.0 GiB of images" in obstacle.what for obstacle in said] == [True, True]
    assert server("a").record.size_bytes == 20 * GIB


def test_what_cannot_be_checked_is_a_warning(there: PlainCloud, found: Any) -> None:
    there.answers["/volumev3/v3/scheduler-stats/get_pools"] = 501
    (said,) = found(with_data("volume/v", size=1, attachments=[]))
    assert said.what == "something could not be checked: the cloud answered 501: not for you"
    assert not said.is_certain


def test_who_is_told_nothing_is_refused_nothing(there: PlainCloud, found: Any) -> None:
    there.answers["/compute/v2.1/os-services"] = 403
    there.answers["/placement/allocation_candidates"] = 406
    assert found(FLAVOR, booted("web"), with_data("volume/v", size=1, attachments=[])) == []


def test_a_token_that_ends_before_the_run_is_said() -> None:
    plan = plan_of(step("tenant/t"), server("web"))
    soon = SimpleNamespace(name="source", login_ends_at=datetime.now(UTC) + timedelta(minutes=5))
    (said,) = preflight._login(plan, soon)  # type: ignore[arg-type]
    assert not said.is_certain
    assert "ends in" in said.what
    late = SimpleNamespace(name="source", login_ends_at=datetime.now(UTC) + timedelta(days=5))
    assert list(preflight._login(plan, late)) == []  # type: ignore[arg-type]
    assert list(preflight._login(plan, SimpleNamespace(login_ends_at=None))) == []  # type: ignore[arg-type]


def test_files_that_cannot_be_written_are_said(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    policies = Policies(passwords_file=tmp_path / "folder")
    there = Config(
        CloudConfig(), CloudConfig(), policies=policies, state_url=f"sqlite:///{tmp_path}/new/state.db"
    )
    users = [step("user/u", needs=(TENANT,))]
    assert [obstacle.what for obstacle in preflight._files(there, users)] == [
        f"the file of passwords cannot be written: {tmp_path / 'folder'}"
    ]
    assert list(preflight._files(there, [])) == []
    assert (
        list(preflight._files(replace(there, policies=replace(policies, user_passwords="disabled")), users))
        == []
    )


def test_a_certain_obstacle_refuses_the_run_unless_it_is_forced() -> None:
    from pumphouse.cli.invocation import Invocation

    plan = replace(plan_of(step("tenant/t")), obstacles=(Obstacle("a", "b", is_certain=False),))
    Invocation().refuse_obstacles([plan])
    blocked = replace(plan, obstacles=(Obstacle("a", "b"),))
    Invocation(force_start=True).refuse_obstacles([blocked])
    with pytest.raises(ObstacleError, match="1 error above stands in the way; nothing was changed"):
        Invocation().refuse_obstacles([plan, blocked])


def test_obstacles_are_shown_and_not_kept() -> None:
    plan: Plan = replace(plan_of(step("tenant/t")), obstacles=(Obstacle("a", "b"),))
    data = plan_data(plan)
    assert data["obstacles"] == [{"what": "a", "remedy": "b", "is_certain": True}]
    assert plan_from(data) == replace(plan, obstacles=())
    assert Ref("tenant", "t") == plan.tenant


def qcow2(size_bytes: int = 1 << 16) -> bytes:
    """The beginning of a qcow2 file: magic, version 3, no backing file, clusters of 64 KiB, a GiB."""
    head = struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 0, 0, 16, 1 << 30) + struct.pack(">I", 0).ljust(64, b"\0")
    return (head + struct.pack(">II", 4, 104)).ljust(size_bytes, b"\0")


ISO = b"\0" * 0x8000 + b"\x01CD001\x01".ljust(0x8000, b"\0")


@pytest.mark.parametrize(
    ("said", "bare", "data", "found_format"),
    [
        ("qcow2", True, qcow2(), None),
        ("qcow2", True, b"no disk" * 10_000, "raw"),
        ("qcow2", False, b"no disk" * 10_000, None),
        ("qcow2", True, ISO, "iso"),
        ("iso", True, ISO, None),
        ("vmdk", True, qcow2(), "qcow2"),
        ("raw", True, qcow2(), None),
        ("raw", True, b"short", None),
        ("ami", True, b"a kernel" * 10_000, None),
        ("aki", True, qcow2(), "qcow2"),
        ("qcow2", True, None, None),
    ],
)
def test_an_image_whose_bytes_are_of_another_format_is_found_by_the_first_of_them(
    said: str, bare: bool, data: bytes | None, found_format: str | None
) -> None:
    asked: list[dict[str, str]] = []

    class Images:
        def get(self, path: str, *, stream: bool, headers: dict[str, str]) -> Any:
            asked.append(headers)
            if data is None:
                raise HttpError(http_status=403)
            raw = io.BytesIO(data)
            return nullcontext(SimpleNamespace(raw=raw))

    image = with_data("image/i", disk_format=said, container_format="bare" if bare else "ovf")
    image = replace(image, record=replace(image.record, size_bytes=1 << 30))
    source: Any = SimpleNamespace(adapter=lambda _: Images())
    obstacles = list(mismatches(source, [image]))
    assert [headers["Range"] for headers in asked] == ["bytes=0-65535"] * bare
    assert [obstacle.is_certain for obstacle in obstacles] == [False] * (found_format is not None)
    if found_format:
        assert f"is said to be {said}, and its first bytes are those of {found_format}: " in obstacles[0].what

"""What an operator reads of a plan: one page of what matters at any size, what happens in the order of the run."""

from __future__ import annotations

import io
from dataclasses import replace
from unittest.mock import patch

import pytest
from rich.text import Text

from pumphouse.model import Action, Obstacle, Plan, PlannedTask, Ref, Selection, Step
from pumphouse.plan import overview
from pumphouse.plan.task_lines import with_tasks
from pumphouse.show.console import PrintableConsole
from pumphouse.show.plan import Detail, print_plan
from pumphouse.tasks.neutron.floating_ip import OUTSIDE
from tests.unit.test_planfile import TENANT, plan_of, step

GIB = 1 << 30
TWIN = "the destination has another of this name (0123456789abcdef0123456789abcdef)"


def server(name: str, *needs: Ref, status: str = "ACTIVE", notes: tuple[str, ...] = ()) -> Step:
    data = {"name": name, "status": status, "image_id": "i", "tenant_id": "t"}
    return step(f"server/{name}", data=data, needs=(TENANT, *needs), size_bytes=20 * GIB, notes=notes)


def volume(name: str, server_id: str | None = None) -> Step:
    attachments = [{"server_id": server_id, "device": "/dev/vdb"}] if server_id else []
    data = {"name": name, "status": "in-use" if server_id else "available", "tenant_id": "t"}
    whole = Ref("server", server_id) if server_id else None
    data["attachments"] = attachments  # type: ignore[assignment]
    return step(f"volume/{name}", data=data, needs=(TENANT,), part_of=whole, size_bytes=100 * GIB)


def lines(plan: Plan, detail: Detail, width: int = 80) -> list[str]:
    file = io.StringIO()
    print_plan(plan, PrintableConsole(file=file, width=width), detail)
    return file.getvalue().splitlines()


@pytest.fixture(scope="module")
def big() -> Plan:
    """A tenant of 1,000 servers, 500 volumes and 200 networks, of everything that is told of a tenant."""
    long = "a-name-of-somebody-who-likes-them-long-" * 2
    volumes = [volume(f"{long}{n}") for n in range(500)]
    servers = [
        replace(
            server(f"{long}{n}", notes=("its ephemeral and swap disks arrive empty",)),
            tasks=(PlannedTask(f"server-{long}{n}-stopped", "stop it", n),),
        )
        for n in range(1000)
    ]
    addresses = [f"172.24.{n // 250}.{n % 250}" for n in range(600)]
    small = [
        step(f"{kind}/{kind}-{n}", needs=(TENANT,), notes=(f"field {n % 30} is not carried",))
        for kind in ("network", "keypair", "user", "role", "group", "image", "flavor", "server_group")
        for n in range(200)
    ]
    return plan_of(
        step("tenant/t", called="demo"),
        *volumes,
        *servers,
        *small,
        *(step(f"floating_ip/{a}", Action.REUSE, to="x", notes=(OUTSIDE.format(a),)) for a in addresses),
        *(step(f"volume/c{n}", Action.CONFLICT, reason=TWIN) for n in range(300)),
        *(step(f"image/s{n}", Action.SKIP, reason="it is queued", skip="it is queued") for n in range(300)),
        *(step(f"group/r{n}", name=f"r{n}-{n}", needs=(TENANT,)) for n in range(50)),
        step("floating_ip/172.24.9.9", needs=(TENANT,), notes=(OUTSIDE.format("172.24.9.9"),)),
        step("router/r", needs=(TENANT,), notes=(OUTSIDE.format("172.24.9.8"),)),
        selection=Selection(skip=("trunk", "port", "quota", "volume_snapshot", "rbac_policy", "membership")),
        obstacles=(Obstacle("there is no room " * 8, "make some"),),
        notes=tuple(f"note {n}" for n in range(30)),
        uncarried=tuple(f"uncarried {n}" for n in range(30)),
    )


def test_the_first_page_of_a_large_tenant_fits_the_smallest_screen(big: Plan) -> None:
    page = lines(big, Detail.SUMMARY)
    assert len(page) < 24
    assert max(map(len, page)) <= 80
    text = "\n".join(page)
    for said in ("1,000 servers", "500 volumes", "200 networks", "copy ", "take ", "1,000 running servers"):
        assert said in text, said
    assert any(line.startswith("error     there is no room") for line in page)


def test_a_page_looks_at_as_many_names_as_there_is_room_for_and_not_at_all(big: Plan) -> None:
    with patch.object(Text, "wrap", autospec=True, side_effect=Text.wrap) as wrap:
        lines(big, Detail.SUMMARY)
    # Five rows of sixty names at most, and each group of notes once.
    assert wrap.call_count < 500


def test_a_small_plan_is_said_in_full_on_its_page() -> None:
    plan = with_tasks(
        plan_of(
            step("tenant/t", called="demo"),
            step("user/u", Action.CONFLICT, reason=TWIN),
            step("image/a", Action.SKIP, reason="it is queued", skip="it is queued"),
            step("image/b", size_bytes=3 << 20, needs=(TENANT,), name="b-2"),
            server("web", notes=("its disks arrive empty",)),
            server("db", notes=("its disks arrive empty",)),
            step("floating_ip/172.24.0.1", needs=(TENANT,), notes=(OUTSIDE.format("172.24.0.1"),),
                 data={"port_id": None, "port_forwardings": []}),
        )
    )  # fmt: skip
    assert lines(plan, Detail.PROBLEMS, 400) == [
        "Migrate tenant demo (t)",
        "  from source https://old",
        "  to   destination https://new",
        "",
        "make      5: 2 servers, 1 image, 1 tenant, 1 floating ip",
        "conflict  1: 1 user",
        "leave out 1: 1 image",
        "copy      at most 40.0 GiB, at 50.0 MiB a second (assumed; pumphouse check --speed measures it)",
        "take      about 22 min for 31 tasks",
        "stop      2 running servers at the source, each for at most about 22 min: db, web",
        "change    1 public address: floating ip 172.24.0.1",
        "change    1 name: image b to b-2",
        "",
        f"conflict  user u: {TWIN}; rename one of them, map it, leave it out, or set policies.on_conflict",
        "leave out image a: it is queued",
        "note      2 servers (db, web): its disks arrive empty",
        f"note      floating ip 172.24.0.1: {OUTSIDE.format('172.24.0.1')}",
    ]


def test_what_the_page_has_no_room_for_is_below_with_every_name() -> None:
    steps = [server(f"web{n}", notes=(f"its disk web{n} arrives empty", f"note {n}")) for n in range(30)]
    plan = plan_of(step("tenant/t", called="demo"), *steps)
    page, problems = lines(plan, Detail.SUMMARY), lines(plan, Detail.PROBLEMS, 2000)
    in_full = lines(plan, Detail.RESOURCES, 2000)
    assert page[-1].endswith("more: leave out --summary to see them")
    names = ", ".join(sorted(item.record.name for item in steps))
    assert f"note      30 servers ({names}): its disk ... arrives empty" in in_full
    assert any(
        line.startswith("note      30 servers (web0, web1, web10, ") and " and 22 more): " in line
        for line in problems
    )
    assert "note      server web17: note 17" in problems


def test_tasks_are_listed_in_the_order_of_the_run() -> None:
    plan = plan_of(
        step("tenant/t", called="demo"), server("web", Ref("volume", "root")), volume("root", "web")
    )
    listed = [line.split(". ", 1)[1] for line in lines(with_tasks(plan), Detail.TASKS) if ". " in line]
    stop, snapshot = "stop server web at the source", "take a snapshot of volume root at the source"
    assert listed.index(stop) < listed.index(snapshot) < listed.index("boot server web")
    assert "copy the image of volume root, at most 100.0 GiB" in listed


def test_a_public_address_that_changes_is_known_by_what_is_said_of_it() -> None:
    address = step("floating_ip/1", needs=(TENANT,), notes=(OUTSIDE.format("172.24.0.1"),))
    router = step(
        "router/2",
        notes=("its external address 172.24.3.88 is not carried: the destination chooses another",),
    )
    plan = plan_of(step("tenant/t"), address, router, step("router/3", notes=("its tags are odd",)))
    assert {item.ref.id for item in overview.readdressed(plan)} == {"1", "2"}


def test_an_estimate_is_made_at_the_slowest_speed_that_is_known() -> None:
    plan = with_tasks(plan_of(step("tenant/t"), server("web"), server("off", status="SHUTOFF")))
    limited = replace(
        plan, cfg={**plan.cfg, "limits": {**plan.cfg["limits"], "bytes_per_second": 10 * overview.MIB}}
    )
    fast = 1000 * overview.MIB
    assumed, slow, measured = (
        overview.estimate(plan),
        overview.estimate(replace(limited, measured_bytes_per_s=fast)),
        overview.estimate(replace(plan, measured_bytes_per_s=fast)),
    )
    assert slow.speed.known == "limits.bytes_per_second"
    assert measured.duration_s < assumed.duration_s < slow.duration_s
    assert assumed.downtimes_s.keys() == {Ref("server", "web")}
    # The disk of the other server may be on its way at the same time.
    assert assumed.downtimes_s[Ref("server", "web")] == pytest.approx(120 + 2 * 20 * 10.24 + 40 * 20.48)

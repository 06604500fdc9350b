"""The report of a run in every format; the page of it in a real browser, where there is one."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner
from taskflow.persistence.base import Backend

from pumphouse.cli import cli
from pumphouse.cloud.check import Check, CloudCheck, Service
from pumphouse.config.schema import load_schema
from pumphouse.run.record import create_run
from pumphouse.run.summary import all_ids, list_runs, report_data, run_data
from pumphouse.show.html import html_text
from pumphouse.show.report import check_data, dump, report_text
from pumphouse.show.verification import verification_data
from pumphouse.verify import Verification
from pumphouse.verify.compare import Difference, Finding, Verdict
from tests.unit.memory import TENANT, World, execute, planned, step

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u202e"
BEGAN = datetime(2026, 11, 27, 2, tzinfo=UTC)


def time(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def resource(kind: str, number: int, **fields: Any) -> dict[str, Any]:
    ids = {"source_id": f"{kind}-{number:04}", "destination_id": f"new-{kind}-{number:04}"}
    other = {
        "reason": "",
        "notes": [],
        "copied_bytes": 0,
        "hashes": {},
        "source_stopped": False,
        "downtime_s": None,
    }
    return {"kind": kind, "name": f"{kind}-{number:04}", "outcome": "created", **ids, **other, **fields}


def unit(kind: str, number: int, began: float, *needs: str) -> dict[str, Any]:
    verbs = ("retrieved", "stopped", "ensured", "settled")
    tasks = [
        {
            "name": f"{kind}-{number:04}-{verb}", "resource": f"{kind} {kind}-{number:04}", "verb": verb,
            "line": f"{verb} {kind} {number}", "state": "SUCCESS", "started_at": time(began + 2 * place),
            "ended_at": time(began + 2 * place + 1), "id": None, "reason": "",
        }
        for place, verb in enumerate(verbs)
    ]  # fmt: skip
    return {"name": f"{kind}/{kind}-{number:04}", "needs": list(needs), "state": "SUCCESS", "tasks": tasks}


def big_run(servers: int) -> dict[str, Any]:
    """The data of a run of many servers, each with a volume, on some networks."""
    networks = range(max(servers // 50, 1))
    resources = [resource("network", number) for number in networks]
    units = [unit("network", number, number / 10) for number in networks]
    for number in range(servers):
        copied = {"copied_bytes": 1 << 30, "hashes": {"sha512": f"{number:0128x}"}}
        resources += [
            resource("volume", number, **copied),
            resource("server", number, **copied, downtime_s=60.5 + number, source_stopped=True),
        ]
        units += [
            unit("volume", number, 20 + number),
            unit(
                "server",
                number,
                40 + number,
                f"volume/volume-{number:04}",
                f"network/network-{number // 50:04}",
            ),
        ]
    return {
        "format": 1, "run": "1a2b3c4d", "state": "SUCCESS", "tenant": {"id": "t", "name": "shop"},
        "source": "source https://old:5000/v3", "destination": "destination https://new:5000/v3",
        "created_at": time(0), "began_at": time(0), "ended_at": time(50 + servers), "owner": None, "version": "1",
        "copied_bytes": 2 * servers << 30, "copying_s": float(servers), "new_passwords": 0, "resources": resources,
        "notes": [], "uncarried": [], "left_behind": [], "summary": {"created": len(resources)}, "units": units,
    }  # fmt: skip


def validate(data: Any, name: str) -> None:
    from jsonschema import Draft202012Validator

    schema = load_schema(name)
    Draft202012Validator.check_schema(schema)
    assert [error.message for error in Draft202012Validator(schema).iter_errors(data)] == []


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    """Opens a page in a browser, with what its address says is chosen; gives its elements as text."""
    if BROWSER is None:
        pytest.skip("there is no Chromium: apt-get install chromium")

    def open_page(data: dict[str, Any], **chosen: str) -> str:
        page = tmp_path / "report.html"
        page.write_text(html_text(data))
        address = f"{page.as_uri()}#{urlencode(chosen)}"
        command = [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path}/profile",
        ]
        shown = subprocess.run([*command, "--dump-dom", address], capture_output=True, text=True, check=True)
        return shown.stdout

    return open_page


def cells(dom: str, table: str, column: str) -> list[str]:
    """What a column of a table shows, from above."""
    body = dom.partition(f'id="section-{table}"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    return [html.unescape(text) for text in re.findall(rf'data-label="{column}">(.*?)</td>', body)]


def test_what_programs_get_of_runs_is_as_the_schemas_say(store: Backend, world: World) -> None:
    world.failing = {"one"}
    run = create_run(store, planned(TENANT, step("thing", "one", TENANT.ref)))
    report, _ = execute(run, world)
    validate(run_data(run), "run")
    validate(report_data(report, run), "run")
    validate(report_data(report, None), "run")
    validate(list_runs(store), "runs")
    validate(all_ids(store), "ids")
    validate(big_run(2), "run")
    found = report_data(report, run)
    assert (found["run"], found["state"]) == (run.id, "FAILURE")
    assert found["began_at"] <= found["ended_at"]


def test_what_programs_get_of_two_clouds_is_as_the_schemas_say() -> None:
    service = Service("network", "neutron", "2.0", None, None)
    cloud = CloudCheck("old", "https://old", None, "u", "p", ("admin",), True, (service,), ("tag",), 0.5)
    more = {"obstacles": [], "bytes_per_s": {"there": 1.0}}
    validate(json.loads(json.dumps({**check_data(Check(cloud, cloud, ("no",))), **more})), "check")
    findings = [
        Finding(verdict, "network", "n", differences=(Difference("f", "a", "b"),)) for verdict in Verdict
    ]
    validate(
        json.loads(dump(verification_data(Verification("t", "u", False, tuple(findings))), "json")),
        "verification",
    )


def test_csv_has_a_row_for_each_resource_and_no_formula() -> None:
    data = big_run(2)
    data["resources"][0]["name"] = "=HYPERLINK(1)"
    rows = list(csv.DictReader(io.StringIO(report_text(data, "csv"))))
    assert [row["source_id"] for row in rows] == [item["source_id"] for item in data["resources"]]
    assert rows[0]["name"] == "'=HYPERLINK(1)"
    assert rows[1]["hashes"] == f"sha512:{0:0128x}"


def test_no_name_gets_out_of_the_data_of_the_page() -> None:
    data = big_run(1)
    data["tenant"]["name"] = data["resources"][0]["name"] = EVIL
    page = html_text(data)
    island = page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    assert json.loads(island)["tenant"]["name"] == EVIL.replace("\u202e", "\\u202e")
    assert page.count("</script>") == html_text(big_run(1)).count("</script>")
    assert "owned" not in page.replace(island, "")


def test_the_page_of_a_thousand_servers_opens_sorted_and_filtered(opened: Any) -> None:
    data = big_run(1000)
    dom = opened(data)
    assert len(cells(dom, "resources", "name")) == 200
    assert "longest downtime of 1000 servers" in dom
    assert "waited for volume volume-0000 until 02:00:27" in dom
    assert "server \u00d7 1,000" in dom
    dom = opened(data, **{"resources": "server-07 created", "resources.sort": "-downtime_s"})
    assert cells(dom, "resources", "name") == [f"server-{n:04}" for n in range(799, 699, -1)]


def test_what_is_noted_of_several_is_one_row_and_failures_come_first(opened: Any) -> None:
    data = big_run(7)
    servers = [item for item in data["resources"] if item["kind"] == "server"]
    for item in servers:
        item["notes"] = ["its disk arrives empty"]
    servers[3] |= {"outcome": "failed", "reason": "no room"}
    dom = opened(data)
    assert cells(dom, "notes", "what") == ["no room", "its disk arrives empty"]
    assert cells(dom, "notes", "how many") == ["", "7"]
    named = ", ".join(f"server server-{number:04}" for number in range(5))
    assert cells(dom, "notes", "of which") == ["server server-0003", f"{named}, and 2 more"]


def test_a_column_of_nothing_is_left_out(opened: Any) -> None:
    data = big_run(1)
    assert cells(opened(data), "resources", "why") == []
    data["resources"][0]["reason"] = "already there"
    assert cells(opened(data), "resources", "why")[0] == "already there"


def test_no_name_is_obeyed_by_the_page(opened: Any) -> None:
    data = big_run(1)
    data["tenant"]["name"] = data["resources"][0]["name"] = data["units"][0]["tasks"][0]["line"] = EVIL
    dom = opened(data)
    assert "<title>Migration of &lt;/script&gt;" in dom
    assert cells(dom, "resources", "name")[0] == EVIL.replace("\u202e", "\\u202e")


def test_what_is_in_no_run_is_said(tmp_path: Path) -> None:
    config = tmp_path / "pumphouse.yaml"
    config.write_text(f"state: {{url: 'sqlite:///{tmp_path}/state.db'}}\n")
    for command in (["report", "last"], ["ids", "x"]):
        result = CliRunner().invoke(cli, [*command, "--config", str(config)])
        assert "no run" in str(result.exception)

"""What is listed, in the formats for shells and spreadsheets, and by chosen columns."""

from __future__ import annotations

import csv
import io
import json

import pytest

from pumphouse.cli.invocation import Invocation
from pumphouse.errors import UsageError
from pumphouse.model import Action
from pumphouse.plan.data import plan_data
from tests.unit.memory import TENANT, planned, step

RUNS = [
    {
        "run": "1a2b",
        "tenant": {"id": "t", "name": "shop\n"},
        "ended_at": None,
        "notes": ["a", "b"],
        "bytes": 7,
    },
    {
        "run": "3c4d",
        "tenant": {"id": "u", "name": "=cmd()"},
        "ended_at": "now",
        "notes": [],
        "parts": [{"a": 1}],
    },
]


def printed(capsys: pytest.CaptureFixture[str], data: object, output_format: str, *columns: str) -> str:
    Invocation(output_format=output_format, columns=columns).print_data(data)
    return capsys.readouterr().out


def test_values_of_a_row_are_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        printed(capsys, RUNS, "value", "run", "tenant.name", "ended_at") == "1a2b shop\\n \n3c4d =cmd() now\n"
    )


def test_csv_has_every_column_of_any_row_and_no_formula(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = csv.DictReader(io.StringIO(printed(capsys, RUNS, "csv")))
    assert list(first) == ["run", "tenant.id", "tenant.name", "ended_at", "notes", "bytes", "parts"]
    assert (first["notes"], first["bytes"], second["parts"]) == ("a; b", "7", '[{"a": 1}]')
    assert second["tenant.name"] == "'=cmd()"


def test_rows_of_what_is_about_resources_are_the_resources(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"run": "1a2b", "resources": [{"kind": "image", "name": "a"}]}
    assert json.loads(printed(capsys, data, "json", "name")) == [{"name": "a"}]
    assert printed(capsys, data, "value") == "image a\n"


@pytest.mark.parametrize("several", [False, True])
def test_rows_of_plans_are_what_they_decide_on_each_resource(
    capsys: pytest.CaptureFixture[str], several: bool
) -> None:
    plan = plan_data(planned(TENANT, step("image", "one", TENANT.ref, action=Action.SKIP)))
    said = printed(capsys, [plan, plan] if several else plan, "value", "kind", "id", "action", "notes")
    assert said == "tenant t create \nimage one skip \n" * (1 + several)
    with pytest.raises(UsageError) as caught:
        printed(capsys, plan, "csv", "actoin")
    assert str(caught.value.hint).startswith(
        "did you mean 'action'? the columns are: kind, id, name, action, "
    )


def test_chosen_columns_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, RUNS, "table", "bytes", "run").split() == ["bytes", "run", "7", "1a2b", "3c4d"]


def test_a_column_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="no column 'rn'") as caught:
        Invocation(output_format="csv", columns=("rn",)).print_data(RUNS)
    assert "tenant.name" in caught.value.hint


def test_nothing_listed_is_nothing_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, [], "value", "run") == ""

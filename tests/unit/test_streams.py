"""Results are on stdout and everything else on stderr, so that a command can stand before a pipe."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pumphouse
from pumphouse.cli import COMMANDS

PACKAGE = Path(pumphouse.__file__).parent
# The functions that print on stdout, each of them a result: what is looked at, or what has come of a run.
RESULTS = {
    "check.check_command",
    "cleanup.cleanup_command",
    "completion.completion_command",
    "config.example_command",
    "doctor._print",
    "doctor.doctor_command",
    "finalize.finalize_command",
    "ids.ids_command",
    "invocation.print_data",
    "plan.refresh_command",
    "plan.show_command",
    "planning.show_plan",
    "planning.show_plans",
    "report.report_command",
    "running.print_end",
    "runs.list_command",
    "runs.prune_command",
    "runs.resume_command",
    "runs.revert_command",
    "runs.show_command",
    "several.migrate_several",
    "verify.tenant_command",
}
# Those that print nothing but messages.
SILENT = {"init"}


def calls(module: Path) -> Iterator[tuple[str, ast.AST]]:
    """What stands in each function of a module, with its name."""
    for node in ast.parse(module.read_text()).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        for function in inner:
            if isinstance(function, ast.FunctionDef):
                yield from ((f"{module.stem}.{function.name}", found) for found in ast.walk(function))


def is_err(call: ast.Call) -> bool:
    return any(word.arg == "err" and ast.unparse(word.value) == "True" for word in call.keywords)


def writes_result(node: ast.AST) -> bool:
    """Whether this prints on stdout, or is the console that does."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("click.echo", "click.secho", "print"):
        return not is_err(node)
    return isinstance(node, ast.Attribute) and ast.unparse(node) in ("invocation.console", "sys.stdout")


def test_only_results_are_printed_on_stdout() -> None:
    found = {
        name
        for module in (PACKAGE / "cli").glob("*.py")
        for name, node in calls(module)
        if writes_result(node)
    }
    assert found == RESULTS


def test_every_command_has_a_result_or_is_known_to_have_none() -> None:
    modules = {name.partition(".")[0] for name in RESULTS}
    # `migrate` prints by these.
    assert {"planning", "running", "several"} <= modules
    without = {command for command, (module, _) in COMMANDS.items() if module not in modules}
    assert without - {"migrate"} == SILENT


def test_what_is_asked_is_on_stderr() -> None:
    asked = [
        node
        for module in (PACKAGE / "cli").glob("*.py")
        for _, node in calls(module)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("click.confirm", "click.prompt")
    ]
    assert len(asked) >= 2
    assert all(map(is_err, asked))


@pytest.mark.parametrize("folder", ["cloud", "config", "plan", "run", "store", "tasks", "verify"])
def test_nothing_but_commands_and_what_they_show_prints(folder: str) -> None:
    printing = [
        name
        for module in (PACKAGE / folder).rglob("*.py")
        for name, node in calls(module)
        if writes_result(node)
    ]
    assert printing == []

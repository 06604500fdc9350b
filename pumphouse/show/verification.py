"""Verifications as text for people and as plain data for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pumphouse.model import Json, Ref, kind_title
from pumphouse.show.console import PrintableConsole, styled
from pumphouse.tasks import KINDS as MIGRATED
from pumphouse.verify import KINDS, Verification
from pumphouse.verify.compare import Difference, Finding, Missing, Named, Verdict

if TYPE_CHECKING:
    from rich.text import Text

_COLOURS = {
    Verdict.EQUAL: "green",
    Verdict.NOTED: "yellow",
    Verdict.DIFFERENT: "bold red",
    Verdict.MISSING: "bold red",
    Verdict.EXTRA: "bold red",
}
_VALUE_LENGTH = 200
# The version of the format of the data; `pumphouse/schemas/verification.json` is its schema.
FORMAT = 1
ALL_OF_IT = "all of it"


def verification_data(found: Verification) -> Json:
    """A verification as plain data."""
    return {
        "format": FORMAT,
        "tenant_id": found.tenant_id,
        "destination_tenant_id": found.destination_id,
        "deep": found.deep,
        "equal": found.is_equal,
        "summary": {verdict.value: found.count()[verdict] for verdict in Verdict},
        "resources": [_finding(finding) for finding in found.findings],
        "not_compared": {kind: dict(fields) for kind, fields in not_compared().items()},
    }


def not_compared() -> dict[str, Mapping[str, str]]:
    """What is not compared, by kind: the field, or all of it, and why."""
    whole = {name: {ALL_OF_IT: kind.not_compared} for name, kind in MIGRATED.items() if kind.not_compared}
    return {**whole, **{kind.name: kind.not_compared for kind in KINDS if kind.not_compared}}


def print_verification(found: Verification, out: PrintableConsole, *, show_equal: bool) -> None:
    """One line for each resource, then its differences; then what could not be compared, and the counts."""
    shown = [f for f in found.findings if show_equal or f.verdict is not Verdict.EQUAL]
    for finding in shown:
        out.print(_line(finding))
        for difference in finding.differences:
            out.print(
                f"             {_sentence(difference)}",
                style="yellow" if difference.excuse else "red",
            )
    kinds = {finding.kind for finding in found.findings}
    for kind, fields in not_compared().items():
        for name, why in fields.items() if kind in kinds else ():
            out.print(f"not compared: {name} of each {kind_title(kind)}: {why}", style="dim")
    if not found.deep:
        out.print("not compared: the bytes of images themselves; --deep reads them", style="dim")
    counts = ", ".join(
        f"{number} {verdict.value}" for verdict in Verdict if (number := found.count()[verdict])
    )
    out.print()
    out.print(f"{len(found.findings)} resources: {counts}", style="bold")


def _line(finding: Finding) -> Text:
    text = styled(f"{finding.verdict.value:9}", _COLOURS[finding.verdict])
    text.append_text(styled(f" {kind_title(finding.kind)} {finding.name}", "default"))
    if finding.verdict is Verdict.EQUAL:
        fields = len(finding.compared)
        text.append_text(styled(f": {fields} fields" if fields else ": it is there", "dim"))
    elif finding.reason:
        text.append_text(styled(f": {finding.reason}", "default"))
    return text


def _sentence(difference: Difference) -> str:
    text = f"{difference.field}: {_short(difference.source)} at the source, {_short(difference.destination)} at the destination"
    return f"{text}; {difference.excuse}" if difference.excuse else text


def _short(value: Any) -> str:
    text = str(value_data(value)) if value not in (None, "", (), frozenset()) else "nothing"
    return text if len(text) <= _VALUE_LENGTH else f"{text[:_VALUE_LENGTH]}..."


def value_data(value: Any) -> Any:
    """A compared value as plain data."""
    match value:
        case Ref():
            return str(value)
        case Missing():
            return f"{value.ref} (not at the destination)"
        case Named():
            return value.name
        case frozenset():
            return sorted((value_data(part) for part in value), key=str)
        case tuple():
            return [value_data(part) for part in value]
        case dict():
            return {key: value_data(part) for key, part in value.items()}
        case None | bool() | int() | float():
            return value
    return str(value)


def _finding(finding: Finding) -> Json:
    return {
        "outcome": finding.verdict.value,
        "kind": finding.kind,
        "name": finding.name,
        "source_id": finding.source_id,
        "destination_id": finding.destination_id,
        "recognised_by": finding.told_by,
        "compared": list(finding.compared),
        "differences": list(_differences(finding.differences)),
        "reason": finding.reason,
    }


def _differences(differences: Iterable[Difference]) -> Iterable[Json]:
    for found in differences:
        yield {
            "field": found.field,
            "source": value_data(found.source),
            "destination": value_data(found.destination),
            "excuse": found.excuse,
        }

"""What becomes of every field of every kind, as a page: docs/fields.md, made of what the kinds say of themselves.

python -m bench.fields
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pumphouse.tasks import KINDS
from pumphouse.tasks.fields import Fields, Noted

PAGE = Path(__file__).parents[1] / "docs" / "fields.md"
ABOVE = """# Fields

Every field that the APIs of the services give of a resource, of all their microversions and of older releases, and what
becomes of it. Made by `python -m bench.fields` of the modules under `pumphouse/tasks/`: change it there.

- **carried**: it arrives as it is.
- **mapped**: it arrives as what stands for it at the destination.
- **derived**: the destination makes it itself.
- **noted**: it is not carried, and the plan says so where it is set.

A part of a field is written `fixed_ips/subnet_id`; `*` is whatever is not named itself. A field that is in an answer and
not here is a note in the plan, too. How a kind is recognised is in [README.md](../README.md).
"""


def page() -> str:
    """The whole page."""
    parts = (
        "\n".join([f"## {kind.title}", "", *_lines(kind.fields)])
        for kind in sorted(KINDS.values(), key=lambda kind: kind.title)
    )
    return "\n".join([ABOVE, *(f"{part}\n" for part in parts)])


def _lines(fields: Fields) -> Iterator[str]:
    if fields.carried:
        yield f"- **carried**: {_names(fields.carried)}"
    for name, by in fields.mapped.items():
        yield f"- **mapped**: `{name}`: {by}"
    if fields.derived:
        yield f"- **derived**: {_names(fields.derived)}"
    for name, why in fields.noted.items():
        reason = why.reason if isinstance(why, Noted) else why
        yield f"- **noted**: `{name}`: {reason.format(name='...', value='...')}"


def _names(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split())


if __name__ == "__main__":
    PAGE.write_text(page())

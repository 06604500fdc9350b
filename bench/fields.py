"""What becomes of every field of every kind: docs/fields.md, and in short the table in README.md, made of the kinds.

python -m bench.fields
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pumphouse.tasks import KINDS
from pumphouse.tasks.fields import Fields, Noted
from pumphouse.tasks.kind import Kind

ROOT = Path(__file__).parents[1]
PAGE, README = ROOT / "docs" / "fields.md", ROOT / "README.md"
BEGIN, END = "<!-- made by python -m bench.fields -->\n", "<!-- the end of what is made -->\n"
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
TABLE = """
| kind | recognised by | carried | mapped | noted |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    kinds = sorted(KINDS.values(), key=lambda kind: kind.title)
    parts = ("\n".join([f"## {kind.title}", "", *_lines(kind.fields)]) for kind in kinds)
    return "\n".join([ABOVE, *(f"{part}\n" for part in parts)])


def readme() -> str:
    """README.md with the table of today."""
    above, _, rest = README.read_text().partition(BEGIN)
    below = rest.partition(END)[2]
    return f"{above}{BEGIN}{TABLE}{''.join(map(_row, KINDS.values()))}\n{END}{below}"


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
    if fields.summary:
        yield f"- **besides**: {fields.summary}"


def _names(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split())


def _row(kind: Kind) -> str:
    fields = kind.fields
    # Of a field with parts the whole is enough here.
    wholes = [name.partition("/")[0] for name in fields.carried.split() if name != "*"]
    carried = "; ".join(filter(None, [_words(wholes), fields.summary]))
    return f"| {kind.title} | {kind.recognised} | {carried} | {_words(fields.mapped)} | {_words(fields.noted)} |\n"


def _words(names: Iterable[str]) -> str:
    """The fields without the marks of APIs, e.g. `tags of security group rules`."""
    parts = (name.removesuffix("/*").split("/") for name in names)
    return ", ".join(dict.fromkeys(" of ".join(map(_word, reversed(each))) for each in parts))


def _word(name: str) -> str:
    return name.rpartition(":")[2].replace("_", " ")


if __name__ == "__main__":
    PAGE.write_text(page())
    README.write_text(readme())

"""What is looked up, made of the code: docs/configuration.md, docs/formats.md and docs/exit-codes.md.

python -m bench.reference
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pumphouse.config.example import example_text
from pumphouse.config.schema import load_schema
from pumphouse.config.settings import CloudConfig, Config, Limits, Mappings, Policies
from pumphouse.errors import EXIT_CODES

DOCS = Path(__file__).parents[1] / "docs"
CONFIGURATION = """# Configuration

Made by `python -m bench.reference` of the schema of the configuration and of `config.example.yaml`: change it there.

One YAML file, taken from `--config`, else `$PUMPHOUSE_CONFIG`, else `./pumphouse.yaml`, else
`~/.config/pumphouse/pumphouse.yaml`. `pumphouse init` writes one for two clouds of `clouds.yaml`, `pumphouse config example`
prints it with every setting, `pumphouse config show` prints what is in force, without secrets. Paths are relative to the
folder of the file. Every problem in it is reported at once, with file and line.

Any value under `auth`, `keystone_database` and `state.url` may be `{env: NAME}` or `{command: "pass show old-cloud"}`
instead: a variable, or the one line that a command prints.
"""
FORMATS = """# Formats

Made by `python -m bench.reference` of the schemas in `pumphouse/schemas/`, which are JSON Schemas and say more: change
it there. Fields of several JSON outputs have one name and one meaning. `[]` stands for each item of a list, `*` for any
name. The events of a run are in [log.md](log.md).
"""
CODES = """# Exit codes

Made by `python -m bench.reference` of `pumphouse/errors.py`: change it there. Of several that apply the worst is given;
`pumphouse migrate && pumphouse verify` is 0 only when the tenant is at the destination as it was.

| code | meaning |
|---|---|
"""
# The section of both clouds.
_CLOUD = "source, destination"
# What the example says by its shape.
_ABOUT = {
    (
        _CLOUD,
        "",
    ): "The cloud that is left, and the cloud that is moved to: each by its name in `clouds.yaml`, or with its `auth`"
    " as written there.",
    (
        _CLOUD,
        "cloud",
    ): "The cloud by its name; only its region, its endpoints and the database of its Keystone may be given"
    " beside it.",
    (_CLOUD, "auth"): "What the login takes.",
}
_SCHEMAS = ("plan-3", "plan", "run", "runs", "ids", "check", "verification")


def pages() -> dict[Path, str]:
    """Each page with its text."""
    return {
        DOCS / "configuration.md": CONFIGURATION + "".join(_configuration()),
        DOCS / "formats.md": FORMATS + "".join(map(_format, _SCHEMAS)),
        DOCS / "exit-codes.md": CODES
        + "".join(f"| {code} | {_cell(meaning)} |\n" for code, meaning in EXIT_CODES.items()),
    }


def settings() -> dict[str, dict[str, Any]]:
    """The schema of each setting, by its section, which is empty for those at the top, and its name."""
    schema = load_schema()
    inline, named = (schema["$defs"][name]["properties"] for name in ("inline_cloud", "named_cloud"))
    elsewhere = {"$ref": "#/$defs/elsewhere"}
    cloud = {**inline, **{name: rules for name, rules in named.items() if rules != elsewhere}}
    found: dict[str, dict[str, Any]] = {_CLOUD: cloud, "": {}}
    for name, rules in schema["properties"].items():
        if "properties" in rules:
            found[name] = rules["properties"]
        elif name not in ("source", "destination"):
            found[""][name] = rules
    return found


def meanings() -> dict[tuple[str, str], str]:
    """What config.example.yaml says above each setting, by its section and its name.

    Settings below one another share what is said above the first. What a section is about has the name ``.
    """
    known, found = settings(), {}
    section, said, is_new = "", [], True
    for line in example_text().splitlines():
        setting = re.match(r"(?P<indent> *)(?:# )?(?P<name>[a-z_]+):", line)
        name = setting["name"] if setting else ""
        group = _CLOUD if name in ("source", "destination") else name
        if setting and not setting["indent"] and not line.startswith("#") and group in known:
            section, name = group, ""
            found.setdefault((section, name), " ".join(said))
            is_new = True
        elif (
            setting
            and name in known[place := section if setting["indent"] else ""]
            and (place, name) not in found
        ):
            found[place, name] = " ".join(said)
            is_new = True
        elif comment := re.match(r" *# (.*)", line):
            said = [comment[1]] if is_new else [*said, comment[1]]
            is_new = False
        elif not line.strip():
            said, is_new = [], True
    return found


def _configuration() -> Iterator[str]:
    said, schema = meanings(), load_schema()
    known = settings()
    for section in sorted(known, key=lambda name: (name == "", list(known).index(name))):
        title = " and ".join(f"`{name}`" for name in section.split(", ")) if section else "At the top"
        yield f"\n## {title}\n"
        if about := _ABOUT.get((section, ""), said.get((section, ""))):
            yield f"\n{about}\n"
        yield "\n| setting | what is expected | default | meaning |\n|---|---|---|---|\n"
        for name, rules in known[section].items():
            resolved = _resolved(rules, schema)
            cells = (
                f"`{name}`",
                _expected(resolved),
                _default(section, name),
                _ABOUT.get((section, name)) or said[section, name],
            )
            yield f"| {' | '.join(map(_cell, cells))} |\n"


def _default(section: str, name: str) -> str:
    """The default, of the dataclasses that the configuration is read into."""
    classes: Mapping[str, Any] = {
        _CLOUD: CloudConfig, "mappings": Mappings, "policies": Policies, "limits": Limits, "": Config
    }  # fmt: skip
    if (section, name) in ((_CLOUD, "auth"), (_CLOUD, "cloud")):
        return ""
    if (section, name) == ("state", "url"):
        return "`sqlite:///~/.local/state/pumphouse/state.db`"
    if name == "passwords_file":
        return "`~/.local/state/pumphouse/passwords.csv`"
    field = getattr(classes[section], "__dataclass_fields__", {}).get(name)
    if field is None:
        return ""
    value = field.default if isinstance(field.default, str | int | bool | None) else {}
    return "" if value is None else f"`{json.dumps(value)}`".replace('"', "")


def _format(name: str) -> str:
    schema = load_schema(name)
    rows = "".join(
        f"| `{path}` | {_cell(kind)} | {_cell(about)} |\n" for path, kind, about in _fields(schema, schema)
    )
    title = schema["title"][0].upper() + schema["title"][1:]
    about = " ".join(filter(None, (f"{title}.", schema.get("description"))))
    return f"\n## {name}.json\n\n{about}\n\n| field | value | meaning |\n|---|---|---|\n{rows}"


def _fields(rules: Any, schema: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Each field below some rules: its path, what it can be, what it means."""
    for name, child in rules.get("properties", {}).items():
        found, home = _resolved_at(child, schema)
        here = f"{path}.{name}" if path else name
        yield here, _value(found), found.get("description", "")
        yield from _fields(found, home, here)
    if isinstance(rules.get("items"), dict):
        found, home = _resolved_at(rules["items"], schema)
        yield from _fields(found, home, f"{path}[]")
    if isinstance(rules.get("additionalProperties"), dict):
        found, home = _resolved_at(rules["additionalProperties"], schema)
        yield from _fields(found, home, f"{path}.*")


def _resolved_at(rules: Any, schema: Any) -> tuple[Any, Any]:
    """Rules, and the schema that they stand in, behind a reference."""
    while "$ref" in rules:
        file, _, pointer = rules["$ref"].partition("#")
        schema = load_schema(file.removesuffix(".json")) if file else schema
        # What is said of properties beside a reference is that they stand elsewhere.
        elsewhere = rules.get("properties", {})
        own = {name: value for name, value in rules.items() if name not in ("$ref", "properties")}
        rules = schema
        for key in pointer.strip("/").split("/"):
            rules = rules[key]
        rules = {**rules, **own}
        if elsewhere:
            rules["properties"] = {k: v for k, v in rules["properties"].items() if k not in elsewhere}
    return rules, schema


def _resolved(rules: Any, schema: Any) -> Any:
    return _resolved_at(rules, schema)[0]


def _expected(rules: Any) -> str:
    return rules.get("title") or ", ".join(f"`{name}`" for name in rules["enum"] if name)


def _value(rules: Any) -> str:
    if "const" in rules:
        return json.dumps(rules["const"])
    if "enum" in rules:
        return ", ".join(f"`{json.dumps(value)}`".replace('"', "") for value in rules["enum"])
    types = rules.get("type", [])
    names = [types] if isinstance(types, str) else types
    return rules.get("title") or " or ".join(names)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)

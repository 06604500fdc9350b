"""The report of a run as one HTML file that loads nothing: a page with a script, and the data that it shows."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from importlib import resources
from typing import Any

from pumphouse.model import Json
from pumphouse.show.text import printable


def html_text(data: Json) -> str:
    """The page of a run."""
    page = resources.files("pumphouse").joinpath("show/report.html").read_text(encoding="utf-8")
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    before, after = page.replace("__SCRIPT_HASH__", digest).split("__DATA__")
    return f"{before}{_script_data(data)}{after}"


def _script_data(data: Json) -> str:
    """JSON that nothing in it can end the element of."""
    text = json.dumps(_printable(data), separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _printable(value: Any) -> Any:
    match value:
        case str():
            return printable(value)
        case dict():
            return {key: _printable(part) for key, part in value.items()}
        case list():
            return [_printable(part) for part in value]
    return value

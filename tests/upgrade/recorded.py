"""What the release of commit a9465a8 wrote about the tenant of shop.py: its plan, and three runs of it.

The run `finished` succeeded. The run `killed` died by SIGKILL while the image's bytes were under way and before it
heard that the network was made; the server was not started. The run `failed`, with on_failure: keep, met another
keypair of that name. The stores are as `sqlite3 state.db .dump` writes them, on a host called ops1; ids.json has the
ids of both clouds by what they are of.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Ids = Mapping[str, str]

FOLDER = Path(__file__).parent / "a9465a8"
RUNS = ("finished", "killed", "failed")
IDS: dict[str, Any] = json.loads((FOLDER / "ids.json").read_text())
PLAN: dict[str, Any] = json.loads((FOLDER / "plan.json").read_text())
PASSWORDS = PLAN["data"]["policies"]["passwords_file"]
DAY = "2026-11-26"


def read(name: str) -> str:
    """A file as it was written."""
    return (FOLDER / name).read_text()


def store(path: Path, dump: str) -> None:
    """Make a state store of a dump."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(dump)


def at_destination(text: str, run: str) -> str:
    """A text with the ids of what a run made of the source's resources."""
    made = IDS["destination"][run]
    return _replaced(text, {old: made[role] for role, old in IDS["source"].items() if role in made})


def moved(name: str, run: str, source: Ids, destination: Ids, urls: Ids, passwords: Path) -> str:
    """A file with the ids and addresses of other clouds, and as if it had been written tomorrow.

    So what is made now, as the run made it then, was not changed since.
    run: that whose ids of the destination are in the file; a plan has those alone that both clouds had before.
    """
    made = IDS["destination"][run]
    changed = {
        **{old: source[role] for role, old in IDS["source"].items()},
        **{old: destination[role] for role, old in made.items() if role in destination},
        **{old: urls[cloud] for cloud, old in IDS["auth_urls"].items()},
        PASSWORDS: str(passwords),
        DAY: f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}",
    }
    return _replaced(read(name), {**changed, **_derived(changed)})


def _derived(changed: Mapping[str, str]) -> dict[str, str]:
    """What a plan says in short of the ids and settings in it."""
    about = PLAN["data"]
    settings = {name: about[name] for name in ("mappings", "policies")}
    subject = [about["tenant"]["id"], about["source"], about["destination"]]
    assert (_digest(settings), _digest(subject)) == (about["settings_digest"], PLAN["key"])
    news = [json.loads(_replaced(json.dumps(old), changed)) for old in (settings, subject)]
    return dict(zip((about["settings_digest"], PLAN["key"]), map(_digest, news), strict=True))


def _digest(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]


def _replaced(text: str, changed: Mapping[str, str]) -> str:
    """A text with all of these replaced at once, so that none is replaced twice."""
    return re.sub("|".join(map(re.escape, changed)), lambda found: changed[found[0]], text)

"""The events of a run as JSON, one a line: for `--log-json` and `notify`; docs/log.md documents them."""

from __future__ import annotations

import json
import logging
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any, TextIO

from pumphouse.errors import mask_secrets
from pumphouse.model import Json, Outcome, Ref, State
from pumphouse.run.events import (
    BytesCopied,
    Event,
    LimitsChanged,
    Noted,
    OutcomeReported,
    RunBegan,
    RunEnded,
    Stopping,
    TaskBegan,
    TaskEnded,
    TaskRetried,
)

LOG = logging.getLogger(__name__)

# Stable: what programs know the events by.
NAMES: dict[type, str] = {
    RunBegan: "run_began",
    TaskBegan: "task_began",
    TaskRetried: "task_retried",
    BytesCopied: "bytes_copied",
    TaskEnded: "task_ended",
    OutcomeReported: "resource",
    Noted: "note",
    LimitsChanged: "limits_changed",
    Stopping: "stopping",
    RunEnded: "run_ended",
}
_TYPES: dict[str, Any] = {name: kind for kind, name in NAMES.items()}
# How often a copy says how far it is: it may take hours.
COPIED_EVERY_S = 5.0
# How long the command of `notify` may take for one event.
NOTIFY_TIMEOUT_S = 30


def event_data(event: Event) -> Json:
    """An event as plain data, without its time."""
    found = asdict(event)
    if isinstance(event, OutcomeReported):
        outcome = found.pop("outcome")
        source = outcome.pop("ref")
        found = {
            "kind": source["kind"],
            "name": outcome["name"],
            "source_id": source["id"],
            "destination_id": outcome["destination_id"],
            "outcome": event.outcome.state.value,
            "reason": outcome["reason"],
            "notes": outcome["notes"],
        }
    return {"event": NAMES[type(event)], **found}


def event_from(data: Json) -> Event:
    """The event that a line of JSON is of.

    Raises KeyError, ValueError or TypeError for one that this release does not know.
    """
    kind = _TYPES[data["event"]]
    if kind is OutcomeReported:
        ref, state = Ref(data["kind"], data["source_id"]), State(data["outcome"])
        notes = tuple(data["notes"])
        return OutcomeReported(
            Outcome(ref, data["name"], state, data["destination_id"], data["reason"], notes)
        )
    values = {item.name: data[item.name] for item in fields(kind)}
    event: Event = kind(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    )
    return event


def event_line(event: Event, run: str) -> str:
    """An event of a run on one line of JSON, without secrets."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return mask_secrets(json.dumps({"time": now, "run": run, **event_data(event)}))


class JsonLog:
    """Writes each event of a run as a line of a file."""

    def __init__(self, file: TextIO, run: str) -> None:
        self._file, self._run = file, run
        self._lock = threading.Lock()
        self._copied_s: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Write the event; of a copy not more than one in some seconds, and its end."""
        with self._lock:
            if isinstance(event, BytesCopied) and not self._is_due(event):
                return
            self._file.write(event_line(event, self._run))
            self._file.write("\n")
            self._file.flush()

    def _is_due(self, event: BytesCopied) -> bool:
        now_s = time.monotonic()
        is_over = event.copied_bytes == event.size_bytes
        if not is_over and now_s - self._copied_s.get(event.task, -COPIED_EVERY_S) < COPIED_EVERY_S:
            return False
        self._copied_s[event.task] = now_s
        return True


class Notifier:
    """Runs a command with the begin, each failure and the end of a run as JSON on its standard input."""

    def __init__(self, command: str, run: str) -> None:
        self._command, self._run = command, run
        self._thread = ThreadPoolExecutor(1, "notify")

    def __call__(self, event: Event) -> None:
        """Tell the command of the event, after those before it; returns at once, but for the end of the run."""
        is_failure = isinstance(event, OutcomeReported) and event.outcome.state is State.FAILED
        if not (is_failure or isinstance(event, RunBegan | RunEnded)):
            return
        told = self._thread.submit(self._tell, event_line(event, self._run))
        if isinstance(event, RunEnded):
            told.result()
            self._thread.shutdown()

    def _tell(self, line: str) -> None:
        command, timeout_s = self._command, NOTIFY_TIMEOUT_S
        try:
            subprocess.check_output(
                command, shell=True, input=line.encode(), stderr=subprocess.DEVNULL, timeout=timeout_s
            )
        except subprocess.TimeoutExpired:
            LOG.warning("the command of notify took longer than %d s", timeout_s)
        except subprocess.CalledProcessError as error:
            LOG.warning("the command of notify failed with exit code %d", error.returncode)

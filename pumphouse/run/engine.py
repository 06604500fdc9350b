"""The engine of one unit: TaskFlow's, made from what is recorded, so that it goes on where it was left."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from oslo_utils import importutils
from taskflow import states, task
from taskflow.engines.action_engine.engine import ParallelActionEngine
from taskflow.exceptions import StorageFailure
from taskflow.persistence.models import AtomDetail, FlowDetail
from taskflow.storage import META_PROGRESS_DETAILS, Storage

from pumphouse.errors import NotFoundError, explain
from pumphouse.model import Json, Outcome, Unit
from pumphouse.run.record import Run
from pumphouse.tasks.base import Migration

LOG = logging.getLogger(__name__)

_UNDOING = (states.REVERTING, states.REVERTED, states.REVERT_FAILURE)


class Listener(Protocol):
    """Is told what happens, from many threads."""

    def task_started(self, line: str) -> None:
        """A task begins; line says what it does."""

    def bytes_copied(self, name: str, copied: int) -> None:
        """A task has copied that many bytes so far."""

    def settled(self, outcome: Outcome) -> None:
        """A resource has its outcome."""


class _Storage(Storage):  # type: ignore[misc]
    def set_task_progress(self, task_name: str, progress: float, details: Json | None = None) -> None:
        """Save what a task reports; what the engine adds before and after it, the state says already."""
        if details is not None:
            super().set_task_progress(task_name, progress, details)

    def _save_atom_detail(self, connection: Any, recorded: AtomDetail, atom: AtomDetail) -> AtomDetail:
        """Save a task, and only when that fails by what tries again: to set that up takes as long as to save."""
        try:
            return Storage._save_atom_detail.__wrapped__(self, connection, recorded, atom)
        except StorageFailure:
            return super()._save_atom_detail(connection, recorded, atom)


class Engine(ParallelActionEngine):  # type: ignore[misc]
    """TaskFlow's parallel engine, which saves a task when it begins and when it ends, and not twice each time."""

    @cached_property
    def storage(self) -> Storage:
        """Where the tasks are saved; what one is given is known once the flow is compiled."""
        return _Storage(self._flow_detail, self._backend, self._scopes)

    def _scopes(self, name: str) -> Any:
        return self._runtime.fetch_scopes_for(name) if self._compiled else None


@dataclass(frozen=True)
class Engines:
    """What the engines of all units of a run share.

    keep: whether the tasks of a failed unit stay done.
    """

    run: Run
    migration: Migration
    listener: Listener
    executor: Executor
    keep: bool = False

    def load(self, unit: Unit, detail: FlowDetail, given: Mapping[str, Json]) -> Any:
        """The engine of a unit; given is what the units before it have made."""
        flow = flow_of(self.migration, unit, detail)
        options = {"executor": self.executor, "never_resolve": self.keep}
        engine = Engine(flow, detail, self.run.store, options)
        # Not as part of what is recorded: a process that dies in that write leaves what no engine can load.
        needed = {name: given[name] for name in flow.requires if name in given}
        engine.storage.inject(needed, transient=True)
        _listen(engine, flow, self.listener)
        return engine


def flow_of(migration: Migration, unit: Unit, detail: FlowDetail) -> Any:
    """The flow of a unit by the factory it was recorded with; its tasks know what an earlier process had begun.

    Raises NotFoundError when this release does not have that factory.
    """
    name = detail.meta["factory"]["name"]
    try:
        factory: Callable[[Migration, Unit], Any] = importutils.import_class(name)
    except ImportError:
        raise NotFoundError(
            f"the run was recorded with {name}, which this release of pumphouse does not have",
            "go on with the release that began it, or plan and migrate anew",
        ) from None
    flow = factory(migration, unit)
    begun = {atom.name for atom in detail if atom.state in (states.RUNNING, states.FAILURE) and _begun(atom)}
    for item, _ in flow.iter_nodes():
        item.begun = item.name in begun
    return flow


def _begun(atom: Any) -> bool:
    """Whether a task has said in its progress that it is about to make something."""
    details = (atom.meta.get(META_PROGRESS_DETAILS) or {}).get("details") or {}
    return bool(details.get("begun"))


def mend(run: Run, detail: FlowDetail) -> None:
    """Call a unit suspended that TaskFlow calls reverted: suspended while all its tasks were still queued."""
    found = {atom.state for atom in detail}
    if (
        detail.state == states.REVERTED
        and states.RUNNING in found
        and not {states.FAILURE, *_UNDOING} & found
    ):
        detail.state = states.SUSPENDED
        save(run, detail)


def save(run: Run, detail: FlowDetail, atoms: Iterable[Any] = ()) -> None:
    """Record the state of a unit, and of some of its tasks, that were changed by hand."""
    with closing(run.store.get_connection()) as connection:
        for atom in atoms:
            connection.update_atom_details(atom)
        connection.update_flow_details(detail)


def is_undoing(detail: FlowDetail, keep: bool) -> bool:
    """Whether a process ended while it undid a unit."""
    half = (*_UNDOING,) if keep else (*_UNDOING, states.FAILURE)
    return detail.state != states.REVERTED and any(atom.state in half for atom in detail)


def forget_failures(run: Run, detail: FlowDetail) -> None:
    """Let the failed tasks of a unit that was kept be executed again."""
    failed = [atom for atom in detail if atom.state == states.FAILURE]
    for atom in failed:
        atom.reset(states.PENDING)
    if failed:
        detail.state = states.SUSPENDED
        save(run, detail, failed)


def _listen(engine: Any, flow: Any, listener: Listener) -> None:
    """Tell the listener what happens, and record why something failed."""
    tasks: dict[str, task.Task] = {item.name: item for item, _ in flow.iter_nodes()}
    storage = engine.storage

    def on_state(new_state: str, details: Mapping[str, Any]) -> None:
        name = details["task_name"]
        if new_state == states.RUNNING:
            listener.task_started(tasks[name].line)
        elif new_state == states.REVERTING:
            listener.task_started(f"undo: {tasks[name].line}")
        elif new_state == states.FAILURE:
            why = str(explain(details["result"].exception or Exception(details["result"].exception_str)))
            storage.update_atom_metadata(name, {"reason": why})

    def on_progress(name: str) -> Callable[[str, Mapping[str, Any]], None]:
        def tell(_event: str, details: Mapping[str, Any]) -> None:
            if "bytes" in details:  # TaskFlow itself says only that a task begins and ends
                listener.bytes_copied(name, details["bytes"])

        return tell

    engine.atom_notifier.register("*", on_state)
    for name, item in tasks.items():
        item.notifier.register(task.EVENT_UPDATE_PROGRESS, on_progress(name))

"""The TaskFlow engine of one unit, loaded from its flow detail, so that it resumes where it stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from taskflow import states, task
from taskflow.engines.action_engine.engine import ParallelActionEngine
from taskflow.persistence.models import FlowDetail
from taskflow.storage import META_PROGRESS_DETAILS, Storage
from taskflow.types.failure import Failure

from pumphouse.errors import NotFoundError, explain, mask_secrets
from pumphouse.flows import unit_flow
from pumphouse.model import Json, Outcome, Unit
from pumphouse.run.outcomes import REVERT_STATES
from pumphouse.run.record import FACTORY, Run
from pumphouse.tasks.base import Migration

LOG = logging.getLogger(__name__)

# By the names in flow details; a closed table, so that no store can make a process call anything else.
FACTORIES: dict[str, Callable[[Migration, Unit], Any]] = {FACTORY: unit_flow}


class Listener(Protocol):
    """Is notified of the progress of a run, from many threads."""

    def task_started(self, line: str) -> None:
        """A task has started; line says what it does."""

    def bytes_copied(self, name: str, copied: int) -> None:
        """A task has copied that many bytes so far."""

    def outcome_reported(self, outcome: Outcome) -> None:
        """The outcome of a resource is known."""


class GuardedListener:
    """Notifies another listener, and logs what that raises: a run must not fail because it cannot be shown."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._has_failed = False

    def task_started(self, line: str) -> None:
        """A task has started."""
        self._notify(self._listener.task_started, line)

    def bytes_copied(self, name: str, copied: int) -> None:
        """A task has copied that many bytes so far."""
        self._notify(self._listener.bytes_copied, name, copied)

    def outcome_reported(self, outcome: Outcome) -> None:
        """The outcome of a resource is known."""
        self._notify(self._listener.outcome_reported, outcome)

    def _notify(self, method: Callable[..., None], *args: Any) -> None:
        try:
            method(*args)
        except Exception as error:
            # What fails once may fail for each task: an operator needs to be told once.
            level = logging.DEBUG if self._has_failed else logging.ERROR
            LOG.log(level, "the progress of the run is not shown: %s", explain(error))
            self._has_failed = True


class _Storage(Storage):  # type: ignore[misc]
    """TaskFlow's storage without the progress that an engine saves before and after each task, and without secrets."""

    def save(self, atom_name: str, result: Any, state: str = states.SUCCESS) -> None:
        """Save what a task returned, or how it failed: services repeat in an error what was sent to them."""
        super().save(atom_name, _masked(result) if isinstance(result, Failure) else result, state)

    def set_task_progress(self, task_name: str, progress: float, details: Json | None = None) -> None:
        """Save the progress that a task reports, which has details; the state says when it begins and ends."""
        if details is not None:
            super().set_task_progress(task_name, progress, details)


def _masked(failure: Failure) -> Failure:
    """A failure whose record has no secrets; in this process it still has its exception."""
    return Failure(
        failure.exc_info,
        exception_str=mask_secrets(failure.exception_str),
        traceback_str=mask_secrets(failure.traceback_str or ""),
        exc_type_names=list(failure),
        causes=tuple(map(_masked, failure.causes)),
    )


class Engine(ParallelActionEngine):  # type: ignore[misc]
    """TaskFlow's parallel engine, which saves a task when it begins and when it ends, and not twice each time."""

    @cached_property
    def storage(self) -> Storage:
        """The storage of the tasks."""
        storage = super().storage
        storage.__class__ = _Storage  # an engine makes its storage by itself and cannot be given another
        return storage


@dataclass(frozen=True)
class Engines:
    """What the engines of all units of a run share.

    keep_failed: whether the tasks of a failed unit stay done.
    """

    run: Run
    migration: Migration
    listener: Listener
    executor: Executor
    keep_failed: bool = False

    def load(self, unit: Unit, detail: FlowDetail, results: Mapping[str, Json]) -> Any:
        """Load the engine of a unit.

        results: what the Ensure tasks of the units before it have provided.
        """
        flow = flow_from_detail(self.migration, unit, detail)
        options = {"executor": self.executor, "never_resolve": self.keep_failed}
        engine = Engine(flow, detail, self.run.store, options)
        # Not as part of what is recorded: a process that dies in that write leaves what no engine can load.
        needed = {name: results[name] for name in flow.requires if name in results}
        engine.storage.inject(needed, transient=True)
        _listen(engine, flow, self.listener)
        return engine


def flow_from_detail(migration: Migration, unit: Unit, detail: FlowDetail) -> Any:
    """Build the flow of a unit with the factory that its record names.

    A task of it knows what an earlier process noted in it before it died, or failed.

    Raises NotFoundError when this release does not have that factory.
    """
    name = detail.meta["factory"]["name"]
    if name not in FACTORIES:
        raise NotFoundError(
            f"the run was recorded with {name}, which this release of pumphouse does not have",
            "go on with the release that began it, or plan and migrate anew",
        )
    flow = FACTORIES[name](migration, unit)
    noted = {atom.name: _noted(atom) for atom in detail if atom.state in (states.RUNNING, states.FAILURE)}
    for item, _ in flow.iter_nodes():
        found = noted.get(item.name, {})
        item.begun, item.before = bool(found.get("begun")), found.get("before")
    return flow


def _noted(atom: Any) -> Json:
    """What a task noted in its progress before it made something."""
    return (atom.meta.get(META_PROGRESS_DETAILS) or {}).get("details") or {}


def correct_suspended_state(run: Run, detail: FlowDetail) -> None:
    """Record a unit as suspended that TaskFlow recorded as reverted.

    TaskFlow does so when it suspends an engine all of whose started tasks are still queued.
    """
    found = {atom.state for atom in detail}
    if (
        detail.state == states.REVERTED
        and states.RUNNING in found
        and not {states.FAILURE, *REVERT_STATES} & found
    ):
        detail.state = states.SUSPENDED
        save(run, detail)


def save(run: Run, detail: FlowDetail, atoms: Iterable[Any] = ()) -> None:
    """Save the state of a unit and of some of its tasks after a change that no engine made."""
    with closing(run.store.get_connection()) as connection:
        for atom in atoms:
            connection.update_atom_details(atom)
        connection.update_flow_details(detail)


def is_revert_unfinished(detail: FlowDetail, *, keep_failed: bool) -> bool:
    """Whether a process died while it reverted a unit.

    keep_failed: whether a unit whose task failed is not reverted.
    """
    reverting = REVERT_STATES if keep_failed else (*REVERT_STATES, states.FAILURE)
    return detail.state != states.REVERTED and any(atom.state in reverting for atom in detail)


def reset_failed_tasks(run: Run, detail: FlowDetail) -> None:
    """Make the failed tasks of a unit pending, so that the next run of it executes them again."""
    failed = [atom for atom in detail if atom.state == states.FAILURE]
    for atom in failed:
        atom.reset(states.PENDING)
    if failed:
        detail.state = states.SUSPENDED
        save(run, detail, failed)


def _listen(engine: Any, flow: Any, listener: Listener) -> None:
    """Notify the listener of the tasks of an engine, and record why a task failed."""
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
        def on_update(_event: str, details: Mapping[str, Any]) -> None:
            if "bytes" in details:  # TaskFlow itself says only that a task begins and ends
                listener.bytes_copied(name, details["bytes"])

        return on_update

    engine.atom_notifier.register("*", on_state)
    for name, item in tasks.items():
        item.notifier.register(task.EVENT_UPDATE_PROGRESS, on_progress(name))

"""The TaskFlow engine of one unit, loaded from its flow detail, so that it resumes where it stopped."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from taskflow import states, task
from taskflow.engines.action_engine.engine import ParallelActionEngine
from taskflow.engines.action_engine.executor import REVERTED
from taskflow.persistence.models import FlowDetail
from taskflow.storage import Storage
from taskflow.types.failure import Failure
from tenacity import RetryCallState, Retrying, wait_exponential

from pumphouse.cloud.outage import Outages
from pumphouse.cloud.transport import request_ids
from pumphouse.errors import Interruption, NotFoundError, explain, is_unavailable, mask_secrets
from pumphouse.flows import REMOVAL_FACTORY, UNMARK_FACTORY, removal_flow, unit_flow, unmark_flow
from pumphouse.model import Json, Unit, symbol
from pumphouse.run.events import BytesCopied, Listener, TaskBegan, TaskEnded, TaskRetried
from pumphouse.run.others import Sharing, is_common
from pumphouse.run.outcomes import REVERT_STATES
from pumphouse.run.record import FACTORY, Run, noted
from pumphouse.tasks.base import Migration, kept_result

LOG = logging.getLogger(__name__)

_UNDER_WAY = {states.RUNNING, states.REVERTING}
# By the names in flow details; a closed table, so that no store can make a process call anything else.
FACTORIES: dict[str, Callable[[Migration, Unit], Any]] = {
    FACTORY: unit_flow,
    REMOVAL_FACTORY: removal_flow,
    UNMARK_FACTORY: unmark_flow,
}


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


class TaskThreads(ThreadPoolExecutor):
    """Threads that run tasks, and run them again through an outage.

    A task that Ctrl-C interrupts is recorded as under way, as if the process had ended, and so begins again.
    under_way: how many tasks run.
    """

    def __init__(self, workers: int, outages: Outages, listener: Listener) -> None:
        super().__init__(workers, "task")
        self._outages = outages
        self._tell = listener
        self._lock = threading.Lock()
        self.under_way = 0

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run one of TaskFlow's calls, which returns what it did to a task, and the result or the failure."""
        return super().submit(self._run, call, *args, **kwargs)

    def _run(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._outages.stop.is_set():
            raise CancelledError
        item = args[0]
        line = f"undo: {item.line}" if item.is_undone else item.line
        self._count(1)
        self._tell(TaskBegan(item.name, line))
        request_ids()  # those of the task before it in this thread
        began_s, outcome, failure, copied_bytes = time.monotonic(), "interrupted", None, 0
        try:
            done, result = self._attempts(item, line)(call, *args, **kwargs)
            failure = result.exception if isinstance(result, Failure) else None
            outcome = "failed" if failure else "undone" if item.is_undone else "done"
            copied_bytes = result.get("size_bytes", 0) if isinstance(result, dict) else 0
            return done, result
        except Interruption as error:
            raise CancelledError from error
        finally:
            self._count(-1)
            reason, seconds = str(explain(failure)) if failure else "", time.monotonic() - began_s
            ended = TaskEnded(item.name, line, outcome, seconds, reason, copied_bytes, request_ids())
            LOG.info("%s", ended)
            self._tell(ended)

    def _attempts(self, item: task.Task, line: str) -> Retrying:
        """Pauses that double, until they are as long together as a service is waited for.

        What a call waits for by itself does not count: it may have been at work for hours.
        """
        limit_s = self._outages.limit_s or 0.0

        def announce(state: RetryCallState) -> None:
            retried = TaskRetried(item.name, line, str(explain(_outcome(state)[1].exception)))
            LOG.info("%s", retried)
            self._tell(retried)

        def give_up(state: RetryCallState) -> Any:
            done, failure = _outcome(state)
            kept = kept_result(f"{item.name}: {explain(failure.exception)}")
            return (done, kept if done == REVERTED else failure)

        return Retrying(
            retry=lambda state: _is_lost(*_outcome(state)),
            stop=lambda state: state.idle_for >= limit_s,
            wait=wait_exponential(max=limit_s / 4),
            sleep=self._outages.pause,
            before_sleep=announce,
            retry_error_callback=give_up,
        )

    def _count(self, difference: int) -> None:
        with self._lock:
            self.under_way += difference


def _outcome(state: RetryCallState) -> tuple[str, Any]:
    """What TaskFlow's call did to a task, and the result or the failure; raises what it raised."""
    assert state.outcome is not None
    outcome: tuple[str, Any] = state.outcome.result()
    return outcome


def _is_lost(_done: str, result: Any) -> bool:
    return isinstance(result, Failure) and is_unavailable(result.exception)


@dataclass(frozen=True)
class Engines:
    """What the engines of all units of a run share.

    keep_failed: whether the tasks of a failed unit stay done.
    """

    run: Run
    migration: Migration
    listener: Listener
    threads: TaskThreads
    keep_failed: bool = False

    def load(self, unit: Unit, detail: FlowDetail, results: Mapping[str, Json]) -> Any:
        """Load the engine of a unit.

        results: what the Ensure tasks of the units before it have provided.
        """
        flow = flow_from_detail(self.migration, unit, detail)
        tasks = {item.name: item for item, _ in flow.iter_nodes()}
        for item in tasks.values():
            item.is_first = len(detail) == 0  # tasks are recorded as soon as an engine prepares their flow
        for step in filter(is_common, unit.steps):
            if ensure := tasks.get(symbol(step.ref, "ensured")):
                ensure.sharing = Sharing(self.run, step.ref.kind, self.migration.destination.outages)
        options = {"executor": self.threads, "never_resolve": self.keep_failed}
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
    known = {atom.name: noted(atom) for atom in detail if atom.state in (states.RUNNING, states.FAILURE)}
    for item, _ in flow.iter_nodes():
        item.recall(known.get(item.name, {}))
    return flow


def correct_suspended_state(run: Run, detail: FlowDetail) -> None:
    """Record a unit as suspended that TaskFlow recorded as reverted.

    TaskFlow does so when it suspends an engine all of whose started tasks are still queued, or interrupted.
    """
    if detail.state == states.REVERTED and _UNDER_WAY & {atom.state for atom in detail}:
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
        tasks[name].is_undone = new_state == states.REVERTING
        if new_state == states.FAILURE:
            why = str(explain(details["result"].exception or Exception(details["result"].exception_str)))
            storage.update_atom_metadata(name, {"reason": why})

    def on_progress(name: str) -> Callable[[str, Mapping[str, Any]], None]:
        def on_update(_event: str, details: Mapping[str, Any]) -> None:
            if "bytes" in details:  # TaskFlow itself says only that a task begins and ends
                listener(BytesCopied(name, details["bytes"], details["of_bytes"]))

        return on_update

    engine.atom_notifier.register("*", on_state)
    for name, item in tasks.items():
        item.notifier.register(task.EVENT_UPDATE_PROGRESS, on_progress(name))

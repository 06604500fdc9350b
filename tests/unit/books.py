"""Logbooks as a run makes them, for the tests of what keeps them."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from oslo_utils import uuidutils
from taskflow import states
from taskflow.persistence.base import Backend
from taskflow.persistence.models import FlowDetail, LogBook, TaskDetail


def book_with(
    store: Backend, *units: str, tasks: int = 0, result: Any = None
) -> tuple[LogBook, dict[str, str]]:
    """A saved book with these flows, each with so many tasks that are done; and the uuids of the flows."""
    book = LogBook("migrate tenant shop")
    book.meta = {"tenant": {"id": "t1", "name": "shop"}, "state": states.RUNNING}
    for unit in units:
        flow = FlowDetail(unit, uuidutils.generate_uuid())
        for number in range(tasks):
            atom = TaskDetail(f"{unit}-{number}", uuidutils.generate_uuid())
            atom.put(states.SUCCESS, result)
            flow.add(atom)
        book.add(flow)
    with closing(store.get_connection()) as connection:
        connection.save_logbook(book)
    return book, {flow.name: flow.uuid for flow in book}


def book_of(store: Backend, uuid: str) -> LogBook:
    """A recorded book with all that is in it."""
    with closing(store.get_connection()) as connection:
        return connection.get_logbook(uuid)


def flow_detail(store: Backend, uuid: str) -> FlowDetail:
    """A recorded flow with its tasks."""
    with closing(store.get_connection()) as connection:
        return connection.get_flow_details(uuid)

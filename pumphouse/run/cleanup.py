"""What runs have made for as long as they worked and left behind: found on both clouds, and removed.

Whoever may write to a cloud may write our marks, and services copy them. So only that is removed of which a run in the
state store has noted that it made it, if that run is over; the rest is listed, with the reason why it stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflow import states
from taskflow.persistence.base import Backend
from taskflow.persistence.models import FlowDetail, LogBook

from pumphouse.errors import LockedError, UsageError
from pumphouse.model import Json, Place, Step, Unit, place, symbol
from pumphouse.run.execute import give_back_loans
from pumphouse.run.lock import locked
from pumphouse.run.outcomes import ensured_results, step_of_task
from pumphouse.run.record import FINALIZED, Run, list_books, load_run, lock_name, noted
from pumphouse.run.summary import CONFLICT, run_state
from pumphouse.tasks import KINDS
from pumphouse.tasks.base import stamp_tag, why_not_removed
from pumphouse.tasks.glance.common import MIGRATIONS, images_by_id
from pumphouse.tasks.neutron.common import PORTS

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

_OVER = (states.SUCCESS, CONFLICT, states.REVERTED, FINALIZED)


@dataclass(frozen=True)
class Leftover:
    """Something that a run has left behind.

    title: what it is and where, in words.
    made_for: the resource for which it was made, in words.
    run: the run that made it, or that may still need it; None when no run is known to have made it.
    kept_reason: why it stays; empty when it is to be removed.
    """

    title: str
    made_for: str
    remove: Callable[[], Any]
    run: Run | None = None
    kept_reason: str = ""

    @property
    def data(self) -> Json:
        """As plain data."""
        run = self.run.id if self.run else None
        action = "keep" if self.kept_reason else "remove"
        what = {"what": self.title, "made_for": self.made_for, "run": run}
        return {**what, "action": action, "reason": self.kept_reason}


class _Past(NamedTuple):
    """A recorded run.

    sources: the titles of what it was to move, by the ids at the source.
    attempts: those that it has noted.
    images: the temporary images of the destination that it has noted, each with the resource that it was made for.
    interfaces: the ports of the source by which routers are connected that it was to move.
    """

    run: Run
    state: str
    sources: Mapping[str, str]
    attempts: Collection[str]
    images: Mapping[str, Step]
    interfaces: Collection[str]

    @property
    def why_kept(self) -> str:
        """Why what it made stays: it may be needed yet, or was to stay."""
        if self.state not in _OVER:
            return f"run {self.run.id} is {self.state} and can be resumed or reverted, which removes it"
        if self.state != states.REVERTED and self.run.plan.settings["policies"].get("keep_snapshots"):
            return f"run {self.run.id} was to keep it (policies.keep_snapshots)"
        return ""

    def was_at_work(self, time: str) -> bool:
        """Whether that was before it ended, by the clock of a cloud."""
        began, ended = (self.run.book.meta[name] for name in ("created_at", "ended_at"))
        return datetime.fromisoformat(began) <= datetime.fromisoformat(time) <= datetime.fromisoformat(ended)


def find_leftovers(
    store: Backend, source: Cloud, destination: Cloud, titles: tuple[str, str]
) -> list[Leftover]:
    """All that runs between two clouds have left behind, or may have; nothing is changed.

    titles: how plans name the clouds.
    """
    clouds = {"source": source, "destination": destination}
    pasts = list(_pasts(store, titles))
    return [
        *_temporaries(source, pasts),
        *_images(destination, pasts),
        *_ports(destination, pasts),
        *_loans(clouds, pasts),
    ]


def remove_leftovers(store: Backend, leftovers: Iterable[Leftover]) -> Iterator[tuple[Leftover, str]]:
    """Remove what is to be removed; gives each with why it stays, empty when it is gone."""
    for leftover in leftovers:
        if leftover.run and not leftover.kept_reason:
            yield leftover, _removed(store, leftover, leftover.run)


def _removed(store: Backend, leftover: Leftover, run: Run) -> str:
    try:
        with locked(store, lock_name(run.book.meta), str):
            return why_not_removed(leftover.remove)
    except LockedError:
        return "a run works on its tenant by now"


def _pasts(store: Backend, titles: tuple[str, str]) -> Iterator[_Past]:
    """The runs between these clouds; what another release has recorded in a format of its own is not known."""
    for book in list_books(store):
        recorded = (book.meta["source"], book.meta["destination"])
        if all(map(Place.is_same, map(place, titles), map(place, recorded))):
            with suppress(UsageError):
                yield _past(store, book)


def _past(store: Backend, book: LogBook) -> _Past:
    run = load_run(store, book)
    details = run.all_details()
    images = [found for unit in run.plan.units for found in _noted_images(unit, details[unit.name])]
    read = [atom.results for detail in details.values() for atom in detail if isinstance(atom.results, dict)]
    return _Past(
        run,
        run_state(store, book),
        {step.ref.id: step.record.title for step in run.plan.steps()},
        {result["attempt"] for result in read if "attempt" in result},
        dict(images),
        {interface["id"] for result in read for interface in result.get("interfaces", ())},
    )


def _noted_images(unit: Unit, detail: FlowDetail) -> Iterator[tuple[str, Step]]:
    """The images that the unit has made besides its resources, or began to."""
    made = dict(ensured_results(detail))
    for atom in detail:
        step = step_of_task(unit, atom.name)
        if step is None or not atom.name.endswith("-ensured") or atom.name == symbol(step.ref, "ensured"):
            continue
        result = made.get(atom.name, {"id": noted(atom).get("before"), "made": True})
        # Tasks that add to a resource note what it had, which is no id.
        if result.get("made") and isinstance(result["id"], str):
            yield result["id"], step


def _temporaries(source: Cloud, pasts: Collection[_Past]) -> Iterator[Leftover]:
    for found in (item for kind in KINDS.values() for item in kind.temporaries(source)):
        concerned = [past for past in pasts if found.source_id in past.sources]
        makers = [past for past in concerned if found.attempt in past.attempts]
        # Of a run that can go on, what an attempt has made of which nothing is noted any more is its own, too.
        past = next((past for past in concerned if past.state not in _OVER), None) or next(iter(makers), None)
        made_for = past.sources[found.source_id] if past else found.source_id
        why = (
            past.why_kept
            if past
            else "no run of this state store is known to have made it, another's may have"
        )
        yield Leftover(f"{found.title} at the source", made_for, found.remove, past and past.run, why)


def _images(destination: Cloud, pasts: Iterable[_Past]) -> Iterator[Leftover]:
    """The images of the destination by whose ids runs have noted them, and that still are what they made."""
    noted_ = {image_id: (past, step) for past in pasts for image_id, step in past.images.items()}
    for image_id, image in images_by_id(destination, list(noted_)).items():
        past, step = noted_[image_id]
        if step.ref.id in {image.get(mark) for mark in MIGRATIONS}:
            title = f"image {image_id} ({image['name']}) at the destination"
            remove = partial(destination.glance.images.delete, image_id)
            yield Leftover(title, step.record.title, remove, past.run, past.why_kept)


def _ports(destination: Cloud, pasts: Iterable[_Past]) -> Iterator[Leftover]:
    """The ports made to connect routers by that did not get to them."""
    makers = {stamp_tag(interface): past for past in pasts for interface in past.interfaces}
    for port in PORTS.by(destination, "description", makers, device_id=""):
        past = makers[port["description"]]
        why = past.why_kept or (
            ""
            if past.was_at_work(port["created_at"])
            else f"it was not made while run {past.run.id} was at work"
        )
        remove = partial(PORTS.delete, destination, port["id"])
        made_for = f"a router of tenant {past.run.plan.tenant_name}"
        yield Leftover(f"port {port['id']} at the destination", made_for, remove, past.run, why)


def _loans(clouds: Mapping[str, Any], pasts: Iterable[_Past]) -> Iterator[Leftover]:
    """What runs have borrowed and not given back: roles of the operator in tenants, keypairs."""
    for past in pasts:
        why, made_for = "" if past.state in _OVER else past.why_kept, f"tenant {past.run.plan.tenant_name}"
        give_back = partial(give_back_loans, past.run, clouds)
        for side, loans in (past.run.book.meta.get("loans") or {}).items():
            for loan in loans:
                yield Leftover(f"{_loan_title(loan)} at the {side}", made_for, give_back, past.run, why)


def _loan_title(loan: Json) -> str:
    if loan["kind"] == "role":
        return "role {role_id} of user {user_id} in tenant {tenant_id}".format_map(loan)
    return "{kind} {name} of user {user_id}".format_map(loan)

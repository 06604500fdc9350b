"""The tasks that end a migration, one of each kind of resource: of all kinds alike, by what the kind says."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pumphouse.cloud import or_none
from pumphouse.model import Json, Step, symbol
from pumphouse.tasks.base import BaseCloudTask
from pumphouse.tasks.kind import Kind

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

REMOVED, UNMARKED = "source-removed", "unmarked"


class RemoveSource(BaseCloudTask):
    """Deletes a resource of the source that was moved; one that is gone is no failure. It is not taken back."""

    def __init__(self, source: Cloud, kind: Kind, step: Step) -> None:
        line = f"delete {step.record.title} at the source"
        super().__init__(source, provides=symbol(step.ref, REMOVED), line=line)
        self.kind, self.record = kind, step.record

    def execute(self) -> Json:
        """Delete it and wait until it is gone."""
        if self.kind.remove:
            or_none(self.kind.remove, self.cloud, self.record)
        return {"id": self.record.ref.id}


class UnmarkTwin(BaseCloudTask):
    """Takes the marks of the migration off what it made; one that is gone is no failure. It is not taken back."""

    def __init__(self, destination: Cloud, kind: Kind, step: Step) -> None:
        line = f"take the marks off {step.record.title}"
        super().__init__(destination, provides=symbol(step.ref, UNMARKED), line=line)
        self.kind, self.twin_id = kind, step.destination_id

    def execute(self) -> Json:
        """Take them off."""
        if self.kind.unmark and self.twin_id:
            with suppress(KeyError):
                or_none(self.kind.unmark, self.cloud, self.twin_id)
        return {"id": self.twin_id}

"""Plans as files: plain data that a person reads and edits, read back with every mistake by its line."""

from pumphouse.planfile.data import offline_migration, plan_data, plan_from, unit_data, unit_from, with_tasks
from pumphouse.planfile.dot import plan_dot
from pumphouse.planfile.files import Loaded, load, save
from pumphouse.planfile.staleness import changes, edits

__all__ = [
    "Loaded",
    "changes",
    "edits",
    "load",
    "offline_migration",
    "plan_data",
    "plan_dot",
    "plan_from",
    "save",
    "unit_data",
    "unit_from",
    "with_tasks",
]

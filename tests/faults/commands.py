"""The commands of these tests."""

from __future__ import annotations

from tests.faults.world import World

# What is said as soon as a run is recorded, and can be resumed.
RECORDED = r"Run ([0-9a-f]{8})"
# What is said when a run starts, or goes on.
STARTED = r"[Rr]un [0-9a-f]{8}"
RESUME = ("resume", "last", "--yes")
REVERT = ("revert", "last", "--yes")
SHOW = ("runs", "show", "last", "-f", "json")


def migrate(world: World) -> tuple[str, ...]:
    """The command that moves the tenant."""
    return ("migrate", "tenant", world.name, "--yes")

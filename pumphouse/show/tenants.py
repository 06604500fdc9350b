"""The progress of tenants that are moved beside each other: one block of lines for all, of what their processes tell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pumphouse.show.console import PrintableConsole, styled
from pumphouse.show.status import ECHO_CELLS, both, duration, fit
from pumphouse.show.tally import Tally
from pumphouse.words import counted, size

if TYPE_CHECKING:
    from rich.console import Group

    from pumphouse.model import Plan
    from pumphouse.run.events import Event

_REFRESHES_PER_S = 4
# Of a screen that is not high, so much is left to the lines above the block.
_ABOVE = 8
_NARROW = 70


class TenantsProgress:
    """Counts the events of several runs, and shows how far they are.

    tenants: how many are moved in all.
    rows: how many are moved at a time.
    """

    def __init__(
        self,
        out: PrintableConsole,
        tenants: int,
        rows: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out, self._tenants, self._rows, self._clock = out, tenants, min(rows, tenants), clock
        self._lock = threading.Lock()
        self._began_s = clock()
        self._tallies: dict[str, Tally] = {}
        self._ended: set[str] = set()

    def begin(self, plan: Plan) -> None:
        """A tenant is being moved."""
        with self._lock:
            self._tallies[plan.tenant.id] = Tally(plan, self._clock)

    def tell(self, plan: Plan, event: Event) -> None:
        """Count an event of the run of a tenant."""
        self._tallies[plan.tenant.id](event)

    def end(self, plan: Plan) -> None:
        """A tenant is not moved any more."""
        with self._lock:
            self._ended.add(plan.tenant.id)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the block on a terminal for as long as the context lasts, and take it away then."""
        if not self._out.is_terminal or self._out.is_dumb_terminal:
            yield
            return
        from rich.live import Live

        with Live(
            get_renderable=self._block, console=self._out, refresh_per_second=_REFRESHES_PER_S, transient=True
        ):
            yield

    def _block(self) -> Group:
        from rich.console import Group

        first, *others = self.lines(self._out.width - ECHO_CELLS, self._out.height)
        return Group(styled(first, "bold"), *(styled(line, "cyan") for line in others))

    def lines(self, width: int, height: int) -> list[str]:
        """The block as lines that fit: all together, then each tenant that is under way."""
        now_s = self._clock()
        with self._lock:
            under_way = [tally for key, tally in self._tallies.items() if key not in self._ended]
            tallies, ended = list(self._tallies.values()), len(self._ended)
        rows = max(1, min(self._rows, height - _ABOVE))
        overall = both(
            width, f"{ended} of {counted(self._tenants, 'tenant')}", duration(now_s - self._began_s)
        )
        if total := sum(tally.total_bytes for tally in tallies):
            copied = sum(tally.copied_bytes for tally in tallies)
            rate = sum(tally.rate.per_second(now_s) for tally in under_way)
            done = (
                f"{min(100, 100 * copied // total)} %  {size(copied)} of {size(total)}  {size(int(rate))}/s"
            )
            overall = both(
                width, f"{ended} of {counted(self._tenants, 'tenant')}  {done}", overall.split()[-1]
            )
        shown = [_row(tally, width, now_s) for tally in under_way[:rows]]
        return [fit(line, width) for line in [overall, *shown, *[""] * (rows - len(shown))]]


def _row(tally: Tally, width: int, now_s: float) -> str:
    """A tenant: what its run is at, how much of it is done, how fast, and how long it has taken."""
    with tally.lock:
        longest = min(tally.active.values(), key=lambda task: task.began_s, default=None)
        percent = f"{min(100, 100 * tally.copied_bytes // tally.total_bytes)} %" if tally.total_bytes else ""
        done = f"{len(tally.outcomes)} of {tally.resources}"
        rate = f"{size(int(tally.rate.per_second(now_s)))}/s"
        text = f"{tally.plan.tenant_name}: {longest.line if longest else 'begins'}"
        wide = f"{done:>14} {percent:>6} {rate:>13} " if width >= _NARROW else f"{percent:>5} "
        return both(width, text, f"{wide}{duration(now_s - tally.began_s):>8}")

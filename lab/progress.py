"""What the lab says while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Say = Callable[[str], None]


@contextmanager
def step(say: Say, text: str) -> Iterator[None]:
    """Say what is being done, and then how long it took: `installing the services ... 48 s`."""
    say(f"{text} ... ")
    started = time.monotonic()
    yield
    say(f"{time.monotonic() - started:.0f} s\n")

"""Numbers as people read them: the same everywhere."""

from __future__ import annotations

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def counted(count: int, what: str) -> str:
    """How many there are, e.g. `1 static route`, `2 static routes`, `1,000 rbac policies`."""
    return f"{count:,} {what if count == 1 else plural(what)}"


def plural(what: str) -> str:
    """A noun for several, e.g. `address groups`, `rbac policies`, `addresses`."""
    if what.endswith("cy"):
        return f"{what[:-1]}ies"
    return f"{what}es" if what.endswith("s") else f"{what}s"


def size(size_bytes: int) -> str:
    """Bytes in the largest binary unit of which there is at least one, e.g. `1.5 GiB`."""
    exponent = min(max(size_bytes.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{size_bytes / (1 << 10 * exponent):.{min(exponent, 1)}f} {_UNITS[exponent]}"


def lasting(seconds: float) -> str:
    """How long something lasts, as exactly as anybody needs it, e.g. `40 s`, `12 min`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    if seconds < 2 * _DAY_S:
        hours, minutes = divmod(round(seconds / _MINUTE_S), 60)
        return f"{hours} h {minutes} min"
    days, hours = divmod(round(seconds / _HOUR_S), 24)
    return f"{days} d {hours} h"

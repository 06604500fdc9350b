"""Which release of OpenStack a cloud is of, by the newest versions of their APIs that its services tell."""

from __future__ import annotations

from collections.abc import Mapping

# Migrations are tested from this release on: tests/releases.
OLDEST_TESTED = "Train"

_TOLD = ("identity", "compute", "block-storage")
# From "What's New" of Keystone's API, and the "REST API Version History" of Nova and of Cinder.
_NEWEST = {
    "Mitaka": ("3.6", "2.25", "3.0"),
    "Newton": ("3.7", "2.38", "3.15"),
    "Ocata": ("3.8", "2.42", "3.27"),
    "Pike": ("3.8", "2.53", "3.43"),
    "Queens": ("3.10", "2.60", "3.50"),
    "Rocky": ("3.11", "2.65", "3.55"),
    "Stein": ("3.12", "2.72", "3.59"),
    "Train": ("3.13", "2.79", "3.59"),
    "Ussuri": ("3.14", "2.87", "3.60"),
    "Victoria": ("3.14", "2.87", "3.62"),
    "Wallaby": ("3.14", "2.88", "3.64"),
    "Xena": ("3.14", "2.90", "3.66"),
    "Yoga": ("3.14", "2.90", "3.68"),
    "Zed": ("3.14", "2.93", "3.70"),
    "2023.1": ("3.14", "2.95", "3.70"),
    "2023.2": ("3.14", "2.95", "3.70"),
    "2024.1": ("3.14", "2.96", "3.71"),
    "2024.2": ("3.14", "2.96", "3.71"),
    "2025.1": ("3.14", "2.100", "3.71"),
    "2025.2": ("3.14", "2.100", "3.71"),
    "2026.1": ("3.14", "2.103", "3.71"),
    "2026.2": ("3.14", "2.104", "3.71"),
}
_NAMES = list(_NEWEST)


def releases(newest: Mapping[str, str]) -> tuple[str, ...]:
    """The releases whose services have just these versions, oldest first; none for a mixture or what is not known.

    newest: the newest version or microversion by the type of the service; of others nothing is concluded.
    """
    told = {
        _TOLD.index(service_type): version
        for service_type, version in newest.items()
        if service_type in _TOLD
    }
    return tuple(
        name
        for name, versions in _NEWEST.items()
        if told and all(versions[index] == version for index, version in told.items())
    )


def is_untested(found: tuple[str, ...]) -> bool:
    """Whether all these releases are older than the oldest one that migrations are tested from."""
    return bool(found) and _NAMES.index(found[-1]) < _NAMES.index(OLDEST_TESTED)

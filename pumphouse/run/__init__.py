"""Doing it, and taking it back: engines, what is recorded, resume and revert."""

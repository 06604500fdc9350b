"""The kinds of Glance."""

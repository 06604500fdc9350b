"""The kinds of Nova."""

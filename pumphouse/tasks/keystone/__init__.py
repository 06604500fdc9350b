"""The kinds of Keystone."""

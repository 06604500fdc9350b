"""The kinds of Cinder."""

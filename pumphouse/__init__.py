"""Pumphouse moves a tenant from one OpenStack cloud to another."""

__version__ = "0.1.0"

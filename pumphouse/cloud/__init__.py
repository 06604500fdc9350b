"""One OpenStack, seen with one set of credentials."""

from pumphouse.cloud.cloud import Cloud, call, get_all, same_keystone

__all__ = ["Cloud", "call", "get_all", "same_keystone"]

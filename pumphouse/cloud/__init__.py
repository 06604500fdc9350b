"""One OpenStack, seen with one set of credentials."""

from pumphouse.cloud.calls import call, get_all, or_none
from pumphouse.cloud.cloud import Cloud, same_keystone

__all__ = ["Cloud", "call", "get_all", "or_none", "same_keystone"]

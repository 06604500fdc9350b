"""The process that the commands of these tests are forked from: the command line with one kind more."""

from __future__ import annotations

from pumphouse.tasks import KINDS
from tests.faults.kill import preload, serve
from tests.toy.namespace import KIND

if __name__ == "__main__":
    KINDS[KIND.name] = KIND
    preload()
    serve()

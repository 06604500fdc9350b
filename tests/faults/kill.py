"""Runs the command line in processes that end, where they are told to, by SIGKILL: nothing is tidied up.

This is the process that they are forked from. It has imported what they import and has run nothing of it,
so that each of hundreds of them is there at once. It reads orders, one line of JSON each, and answers with
the pid and then with the exit code, negative for a signal.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import random
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

_CLIENTS = (
    "openstack.connection",
    "novaclient.v2.client",
    "keystoneclient.v3.client",
    "glanceclient.v2.client",
)


def preload() -> None:
    """Import what a run needs."""
    import pumphouse

    for module in pkgutil.walk_packages(pumphouse.__path__, "pumphouse."):
        if not module.name.endswith("__main__"):
            with suppress(ModuleNotFoundError):  # a state store's driver need not be there
                importlib.import_module(module.name)
    for name in _CLIENTS:
        importlib.import_module(name)
    gc.freeze()  # else each of them copies the pages of all that, as its first search for garbage marks it


def kill_after_new_transitions(log: Path, count: int) -> None:
    """End this process as soon as so many transitions of tasks are recorded that are not in the log yet.

    log: the transitions of all runs before this one, one a line; those of this one are added.
    """
    from pumphouse.store.sql import FastConnection

    connection_class: Any = FastConnection  # where TaskFlow saves the state of a task
    save, lock = connection_class.update_atom_details, threading.Lock()
    seen = set(log.read_text().splitlines()) if log.exists() else set()
    left = count

    def save_and_die(self: Any, atom: Any) -> Any:
        nonlocal left
        # One at a time: what is saved while another ends the process would be missing in the log.
        with lock, log.open("a") as lines:
            result = save(self, atom)
            transition = f"{atom.name} {atom.intention} {atom.state}"
            if transition not in seen:
                seen.add(transition)
                lines.write(f"{transition}\n")
                lines.flush()
                left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return result

    FastConnection.update_atom_details = save_and_die  # type: ignore[assignment,method-assign]


def become(order: dict[str, Any]) -> None:
    """Make this process what was ordered: its output, its environment, its arguments, its end."""
    for number, name in ((0, os.devnull), (1, order["stdout"]), (2, order["stderr"])):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.dup2(os.open(name, flags, 0o600), number)
    os.environ.clear()
    os.environ.update(order["environment"])
    random.seed()
    sys.argv = ["pumphouse", *order["arguments"]]
    if count := order.get("transitions", 0):
        kill_after_new_transitions(Path(order["log"]), count)


def serve() -> None:
    """Fork a process for each order; returns in each of them, and at the end of the orders."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            from pumphouse.cli import main

            become(json.loads(line))
            main()
            return
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    preload()
    serve()

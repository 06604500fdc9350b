"""Cinder in one process: the API, and beside it as threads the volume service and the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import os_brick
import rpc
from cinder import policy, service, utils
from cinder.common import constants
from cinder.privsep import sys_admin_pctxt
from cinder.wsgi import wsgi
from eventlet import patcher, tpool
from oslo_config import cfg

BACKEND = "lab"


def start() -> Callable[..., Iterable[bytes]]:
    """Start all of Cinder and give its API's application."""
    if not patcher.is_monkey_patched("thread"):
        _without_green_threads()
    rpc.wait_for_messages()
    application = wsgi.initialize_application()
    # Cinder leaves it to the first request, and a second one beside that finds rules that are not registered yet.
    policy.init()
    sys_admin_pctxt.set_client_mode(False)
    utils.get_root_helper = lambda: "env"
    if hasattr(os_brick, "setup"):  # since Zed
        os_brick.setup(cfg.CONF)
    # The volume service first: the scheduler waits up to a minute for one.
    host = f"{cfg.CONF.host}@{BACKEND}"
    _start(constants.VOLUME_BINARY, host=host, service_name=BACKEND, coordination=True)
    _start(constants.SCHEDULER_BINARY)
    return application


def _start(binary: str, **options: Any) -> None:
    service.Service.create(binary=binary, **options).start()


def _without_green_threads() -> None:
    # With native threads eventlet's pool hangs on its second use; a direct call is all that is needed.
    def call(method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return method(*args, **options)

    tpool.execute = call
    tpool.Proxy = lambda target, *_args, **_options: target

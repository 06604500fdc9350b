"""Run one OpenStack service of a cloud as one process: python serve.py SERVICE CLOUD_DIR PORT

Its port is open once the service is ready, its background threads included. The process ends by a signal; the
RPC threads of Nova and Cinder outlive an ordinary exit, therefore a failed start ends with os._exit.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mysql_driver

# Of releases that know no native threads: Nova, Neutron and Cinder run on eventlet's.
GREEN_THREADS = bool(os.environ.get("LAB_GREEN_THREADS"))
THREADS = 16
IDLE_CONNECTIONS = 256  # kept open between requests; cheroot's own limit is 10
IDLE_TIMEOUT_S = 120
YOUNG_OBJECTS = 50_000  # Python's own 700 has a request interrupted by dozens of searches for garbage

if TYPE_CHECKING:  # Python before 3.9 cannot read it
    Application = Callable[..., Iterable[bytes]]


class KeptInput:
    """A request's body whose reader may close it without ending the connection, as Glance does."""

    def __init__(self, body: Any):
        self._body = body

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def __iter__(self) -> Any:
        return iter(self._body)

    def close(self) -> None:
        """Leave the connection open for the next request."""


def keep_input_open(application: Application) -> Application:
    """Hand the application a body that it may close."""

    def wrapped(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["wsgi.input"] = KeptInput(environ["wsgi.input"])
        return application(environ, start_response)

    return wrapped


def serve(application: Application, port: int) -> None:
    """Answer requests until the process is ended."""
    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", port), keep_input_open(application), numthreads=THREADS)
    server.request_queue_size = 128
    server.timeout = IDLE_TIMEOUT_S
    server.keep_alive_conn_limit = IDLE_CONNECTIONS
    server.start()


def serve_green(application: Application, port: int) -> None:
    """Answer requests on green threads until the process is ended."""
    import eventlet
    import eventlet.wsgi

    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # some of the services have taken it for their launcher
    eventlet.wsgi.server(
        eventlet.listen(("127.0.0.1", port), backlog=128),
        application,
        max_size=THREADS,
        log_output=False,
        socket_timeout=IDLE_TIMEOUT_S,
    )


def _green_threads() -> None:
    import eventlet

    eventlet.monkey_patch()
    # Python's own current_thread looks into a dictionary that the patched module no longer fills:
    # https://bugs.launchpad.net/bugs/1863021
    import threading

    import __original_module_threading as original

    original.current_thread.__globals__["_active"] = threading._active  # type: ignore[attr-defined]


def _native_threads() -> None:
    import oslo_service.backend

    oslo_service.backend.init_backend(oslo_service.backend.BackendType.THREADING)


def _keystone() -> Application:
    try:
        from keystone.wsgi.api import application
    except ImportError:  # before 2025.1
        from keystone.server.wsgi import initialize_public_application

        application = initialize_public_application()
    from keystone_setup import bootstrap

    bootstrap(os.environ["LAB_URL"], os.environ["LAB_PASSWORD"], os.environ["LAB_REGION"])
    return application


def _plain(service: str) -> Application:
    return importlib.import_module(f"{service}.wsgi.api").application


def _glance() -> Application:
    if not GREEN_THREADS:
        return _plain("glance")
    from glance.common.wsgi_app import init_app

    return init_app()


def _placement() -> Application:
    if not GREEN_THREADS:
        return _plain("placement")
    from placement.wsgi import init_application

    return init_application()


def _neutron() -> Application:
    if not GREEN_THREADS:
        _native_threads()
        return _plain("neutron")
    from neutron import server
    from neutron.common import config

    server._init_configuration()
    return config.load_paste_app("neutron")


def _nova() -> Application:
    if not GREEN_THREADS:
        from nova import monkey_patch

        monkey_patch.patch(backend="threading")
    from nova_services import start

    return start()


def _cinder() -> Application:
    if not GREEN_THREADS:
        from cinder import monkey_patch

        monkey_patch.patch()
    from cinder_services import start

    return start()


APPLICATIONS: dict[str, Callable[[], Application]] = {
    "keystone": _keystone,
    "glance": _glance,
    "placement": _placement,
    "neutron": _neutron,
    "nova": _nova,
    "cinder": _cinder,
}


def main() -> None:
    """Start the service that the command line names."""
    service, cloud_dir, port = sys.argv[1:]
    conf = Path(cloud_dir) / "etc" / service / f"{service}.conf"
    # The services parse sys.argv themselves, some of them when they are imported.
    green = GREEN_THREADS and service in ("nova", "neutron", "cinder")
    named = service in ("nova", "cinder") or green
    sys.argv = [f"{service}-api"] + (["--config-file", str(conf)] if named else [])
    # Thousands of modules are loaded and stay: looking for garbage among them costs a fifth of the start.
    gc.disable()
    try:
        if green:
            _green_threads()
        else:
            mysql_driver.use_compiled()  # it would stop all green threads while one of them waits
        application = APPLICATIONS[service]()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
        gc.enable()
        (serve_green if green else serve)(application, int(port))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()

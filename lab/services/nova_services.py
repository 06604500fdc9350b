"""Nova in one process: the API, and beside it as threads the conductor, the scheduler, the compute service.

They meet over oslo.messaging's in-memory transport, so no message broker is needed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import nova.conf
import nova.config
import nova_driver
import os_brick
import os_vif
import rpc
from nova import context, objects, service
from nova.api.openstack import wsgi_app
from nova.compute import rpcapi as compute_rpcapi
from nova.conductor import rpcapi as conductor_rpcapi
from nova.objects import host_mapping
from nova.scheduler import rpcapi as scheduler_rpcapi
from oslo_privsep import priv_context
from oslo_utils import uuidutils

CONF = nova.conf.CONF
# With native threads (2025.2) came a second topic, and the program's name beside the service's.
NATIVE_THREADS = hasattr(compute_rpcapi, "RPC_TOPIC_ALT")
PROGRAM = ("nova-api",) if NATIVE_THREADS else ()
ALTERNATIVE = {"topic_alt": compute_rpcapi.RPC_TOPIC_ALT} if NATIVE_THREADS else {}


def start() -> Callable[..., Iterable[bytes]]:
    """Start all of Nova and give its API's application."""
    # Nova loads a virt driver only from its own package.
    sys.modules["nova.virt.pumphouse_lab"] = nova_driver
    objects.register_all()
    rpc.wait_for_messages()
    _configure()
    _map_cells()
    priv_context.init(root_helper=["env"])
    if hasattr(os_brick, "setup"):  # since Zed
        os_brick.setup(CONF)
    os_vif.initialize()
    _start("nova-conductor", conductor_rpcapi.RPC_TOPIC)
    _start("nova-scheduler", scheduler_rpcapi.RPC_TOPIC)
    _start("nova-compute", compute_rpcapi.RPC_TOPIC, **ALTERNATIVE)
    host_mapping.discover_hosts(context.get_admin_context())
    return wsgi_app.init_application("osapi_compute", *PROGRAM)


def _configure() -> None:
    files = wsgi_app._get_config_files()
    if hasattr(wsgi_app, "init_global_data"):
        # It is told the service since Xena, and the program since 2025.2.
        told = inspect.signature(wsgi_app.init_global_data).parameters
        wsgi_app.init_global_data(*(files, "osapi_compute", *PROGRAM)[: len(told)])
    else:  # before Ussuri the application reads the files itself, which can be done only once
        nova.config.parse_args([], default_config_files=files)
        wsgi_app.config = SimpleNamespace(parse_args=lambda *_, **__: None)


def _start(binary: str, topic: str, **options: Any) -> None:
    service.Service.create(binary=binary, topic=topic, **options).start()


def _map_cells() -> None:
    admin = context.get_admin_context()
    if objects.CellMappingList.get_all(admin):
        return
    database = CONF.database.connection
    cell0 = database.replace("/nova?", "/nova_cell0?")
    _map_cell(admin, objects.CellMapping.CELL0_UUID, "cell0", "none:///", cell0)
    _map_cell(admin, uuidutils.generate_uuid(), "cell1", CONF.transport_url, database)


def _map_cell(admin: Any, uuid: str, name: str, transport_url: str, database_connection: str) -> None:
    objects.CellMapping(
        admin, uuid=uuid, name=name, transport_url=transport_url, database_connection=database_connection
    ).create()

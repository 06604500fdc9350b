"""Nova in one process: the API, and beside it as threads the conductor, the scheduler, the compute service.

They meet over oslo.messaging's in-memory transport, so no message broker is needed.
"""

from __future__ import annotations

from nova import monkey_patch

monkey_patch.patch(backend="threading")

import sys  # noqa: E402
from collections.abc import Callable, Iterable  # noqa: E402
from typing import Any  # noqa: E402

import nova.conf  # noqa: E402
import nova_driver  # noqa: E402
import os_brick  # noqa: E402
import os_vif  # noqa: E402
import rpc  # noqa: E402
from nova import context, objects, service  # noqa: E402
from nova.api.openstack import wsgi_app  # noqa: E402
from nova.compute import rpcapi as compute_rpcapi  # noqa: E402
from nova.conductor import rpcapi as conductor_rpcapi  # noqa: E402
from nova.objects import host_mapping  # noqa: E402
from nova.scheduler import rpcapi as scheduler_rpcapi  # noqa: E402
from oslo_privsep import priv_context  # noqa: E402
from oslo_utils import uuidutils  # noqa: E402

CONF = nova.conf.CONF


def start() -> Callable[..., Iterable[bytes]]:
    """Start all of Nova and give its API's application."""
    # Nova loads a virt driver only from its own package.
    sys.modules["nova.virt.pumphouse_lab"] = nova_driver
    objects.register_all()
    rpc.wait_for_messages()
    wsgi_app.init_global_data(wsgi_app._get_config_files(), "osapi_compute", "nova-api")
    _map_cells()
    priv_context.init(root_helper=["env"])
    os_brick.setup(CONF)
    os_vif.initialize()
    _start("nova-conductor", conductor_rpcapi.RPC_TOPIC)
    _start("nova-scheduler", scheduler_rpcapi.RPC_TOPIC)
    _start("nova-compute", compute_rpcapi.RPC_TOPIC, topic_alt=compute_rpcapi.RPC_TOPIC_ALT)
    host_mapping.discover_hosts(context.get_admin_context())
    return wsgi_app.init_application("osapi_compute", "nova-api")


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

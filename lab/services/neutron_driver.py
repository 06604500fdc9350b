"""Neutron without agents: what an agent would report as done is done at once."""

from __future__ import annotations

from typing import Any

from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.callbacks import events, registry, resources
from neutron_lib.plugins import constants as plugin_constants
from neutron_lib.plugins import directory
from neutron_lib.plugins.ml2 import api

ROUTER_OWNERS = (*constants.ROUTER_INTERFACE_OWNERS, constants.DEVICE_OWNER_ROUTER_GW)


class AtOnceMechanismDriver(api.MechanismDriver):
    """Binds ports to their network's first segment; settles the status of router ports and floating IPs."""

    def initialize(self) -> None:
        """Follow the floating IPs from now on."""
        for event in (events.AFTER_CREATE, events.AFTER_UPDATE):
            registry.subscribe(_settle_floating_ip, resources.FLOATING_IP, event)

    def bind_port(self, context: Any) -> None:
        """Bind a port of a server as the Open vSwitch driver would."""
        segment = context.segments_to_bind[0]
        details = {portbindings.CAP_PORT_FILTER: True}
        context.set_binding(
            segment[api.ID], portbindings.VIF_TYPE_OVS, details, status=constants.PORT_STATUS_ACTIVE
        )

    def create_port_postcommit(self, context: Any) -> None:
        """Report a new port of a router as up."""
        _activate_router_port(context)

    def update_port_postcommit(self, context: Any) -> None:
        """Report a port that became a router's as up."""
        _activate_router_port(context)


def _activate_router_port(context: Any) -> None:
    port = context.current
    if port["device_owner"] in ROUTER_OWNERS and port["status"] != constants.PORT_STATUS_ACTIVE:
        directory.get_plugin().update_port_status(
            context._plugin_context, port["id"], constants.PORT_STATUS_ACTIVE
        )


def _settle_floating_ip(_resource: str, _event: str, _trigger: Any, payload: Any = None, **old: Any) -> None:
    if payload:
        _settle(payload.context, payload.resource_id, payload.latest_state["port_id"])
    else:  # before Victoria
        _settle(old["context"], old["floating_ip_id"], old["fixed_port_id"])


def _settle(context: Any, floating_ip_id: str, port_id: str | None) -> None:
    # As with a real L3 agent: ACTIVE while it leads to a port, DOWN otherwise.
    status = constants.FLOATINGIP_STATUS_ACTIVE if port_id else constants.FLOATINGIP_STATUS_DOWN
    routers = directory.get_plugin(plugin_constants.L3)
    routers.update_floatingip_status(context.elevated(), floating_ip_id, status)

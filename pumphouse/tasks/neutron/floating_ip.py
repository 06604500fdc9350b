"""Floating IPs: the same address where the destination allows it, given to its port when that has arrived."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.errors import explain, http_status
from pumphouse.model import Json, Record, Ref, Step, Twin, symbol
from pumphouse.tasks.base import (
    REFUSED,
    BaseCloudTask,
    Ensured,
    Migration,
    Search,
    differences,
    ensure,
    ensured_id,
    kept_result,
    retrieve_record,
    stamp_tag,
    why_not_undone,
    without_stamps,
)
from pumphouse.tasks.fields import Fields, parts
from pumphouse.tasks.kind import Kind, removal
from pumphouse.tasks.neutron.common import (
    DERIVED,
    FLOATING_IPS,
    NO_QOS,
    PORTS,
    SUBNETS,
    TWIN_TENANT,
    UNFINISHED,
    EnsureItem,
    blocks,
    carried,
    finish,
    held_ips,
    is_stamped,
    is_unfinished,
    is_within,
    own_description,
    strangers_in,
    tag_notes,
    unmark,
)
from pumphouse.tasks.neutron.port_forwardings import (
    EnsurePortForwardings,
    delete,
    listed,
    missing,
    ports,
    read,
)
from pumphouse.words import counted

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "floating_ip"
# Whoever has the address of a floating IP in the tenant uses it for something else.
# Sent only when they are set: many clouds do not have the extension that knows them.
OPTIONAL = ("dns_name", "dns_domain")
FIELDS = ("description", "tags", *OPTIONAL)
OUTSIDE = "its address {} is not carried: the external network of the destination does not have it, and gives another"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The floating IPs that the tenant owns; a call more for each that forwards ports."""
    return [_record(_data(source, item), item) for item in FLOATING_IPS.owned(source, tenant_id)]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The floating IPs of the given ids."""
    return {i: _record(_data(source, item), item) for i, item in FLOATING_IPS.items(source, ids).items()}


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records with a note where the destination's external network does not have the address."""
    networks = {r.ref: search.ids.get(Ref("network", r.data["floating_network_id"])) for r in records}
    found = SUBNETS.by(search.destination, "network_id", {i for i in networks.values() if i})
    near = {i: blocks(s for s in found if s["network_id"] == i) for i in networks.values()}
    # Members do not see the subnets of every external network.
    outside = {
        r.ref
        for r in records
        if (n := near[networks[r.ref]]) and not is_within(r.data["floating_ip_address"], n)
    }
    return [
        replace(r, notes=(*r.notes, OUTSIDE.format(r.data["floating_ip_address"]))) if r.ref in outside else r
        for r in records
    ]


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The one that carries the stamp, or else the tenant's with the same address in the mapped network."""
    tenants = {record.ref: search.ids.get(Ref("tenant", record.data["project_id"])) for record in records}
    found = {t: FLOATING_IPS.owned(search.destination, t) for t in set(tenants.values()) if t}
    return {r.ref: _twins(search, r, found.get(tenants[r.ref] or "", [])) for r in records}


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the floating IP, make it, and let it lead to its port or ports."""
    ref, data, title = step.ref, step.record.data, step.record.title
    retrieved, ensured, associated = (symbol(ref, verb) for verb in ("retrieved", "ensured", "associated"))
    needs = [symbol(need, "ensured") for need in step.record.needs]
    count = counted(len(data["port_forwardings"]), "port forwarding")
    return [
        retrieve_record(fetch, migration, step),
        ensure(EnsureFloatingIp, [migration.destination], step),
        AssociateFloatingIp(
            migration.destination,
            provides=associated,
            rebind={"data": retrieved, "floating_ip": ensured},
            requires=needs,
            line=f"let {title} lead to its port" if data["port_id"] else f"leave {title} without a port",
        ),
        EnsurePortForwardings(
            migration.destination,
            provides=symbol(ref, "forwarded"),
            rebind={"data": retrieved, "floating_ip": associated},
            requires=needs,
            line=f"give {title} its {count}",
        ),
    ]


class EnsureFloatingIp(EnsureItem):
    """Finds or creates the floating IP; it leads nowhere yet."""

    collection = FLOATING_IPS
    complete = False

    def leftovers(self, data: Json, ensured: Mapping[str, Ensured]) -> list[str]:
        """The stamped one; else, where the plan found one without a stamp, that of the same address."""
        stamped = super().leftovers(data, ensured)
        if stamped or self.fresh:
            return stamped
        tenant_id = ensured_id(ensured, "tenant", data["project_id"])
        owned = FLOATING_IPS.owned(self.cloud, tenant_id)
        network_id = ensured_id(ensured, "network", data["floating_network_id"])
        return [str(item["id"]) for item in owned if _has_address(item, data, network_id)]

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Ask for the same address, and take another where that is refused."""
        fields, address = self.wanted(data, ensured), data["floating_ip_address"]
        try:
            return self.create_known({**fields, "floating_ip_address": address})
        except Exception as error:
            if http_status(error) not in REFUSED:
                raise
            refusal = error
        created = self.create_known(fields)
        other = self.item["floating_ip_address"]
        if http_status(refusal) == 400:
            self.notes += [OUTSIDE.format(address), f"its address is {other}"]
        else:
            self.notes.append(f"its address is {other} and not {address}: {explain(refusal).what}")
        return created

    def wanted(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """All but its address; it has no name."""
        return {
            **{field: data[field] for field in OPTIONAL if data.get(field)},
            "floating_network_id": ensured_id(ensured, "network", data["floating_network_id"]),
            "description": stamp_tag(data["id"]),
            "project_id": ensured_id(ensured, "tenant", data["project_id"]),
        }

    def may_differ(self, field: str, wanted: Any) -> bool:
        """Its address."""
        return field == "floating_ip_address"

    def remove(self, destination_id: str) -> None:
        """Delete the floating IP and what it forwards."""
        for forwarding in listed(self.cloud, destination_id):
            delete(self.cloud, destination_id, forwarding["id"])
        super().remove(destination_id)


class AssociateFloatingIp(BaseCloudTask):
    """Lets a floating IP lead to the twin of its port; the clients of the address are cut over by this."""

    def execute(self, data: Json, floating_ip: Json, **ensured: Ensured) -> Json:
        """Associate it; provides whether it led nowhere before."""
        actual = self.cloud.batch(FLOATING_IPS.items).get(floating_ip["id"])
        port_id = ensured_id(ensured, "port", data["port_id"]) if data["port_id"] else None
        if actual["port_id"] not in (None, port_id):
            finish(self.cloud, FLOATING_IPS, actual["id"], data)
            return {"id": actual["id"], "made": False}
        if port_id and not actual["port_id"]:
            self.journal()
        # Neutron takes no other change of an address that leads to one of several addresses of a port.
        place = {"port_id": port_id, **self._address(port_id, data)} if port_id else {}
        try:
            finish(self.cloud, FLOATING_IPS, actual["id"], data, **place)
        except Exception as error:
            if not place or http_status(error) not in REFUSED:
                raise
            refusal = explain(error).what
        else:
            return {"id": actual["id"], "made": self.begun}
        finish(self.cloud, FLOATING_IPS, actual["id"], data)
        return {"id": actual["id"], "made": False, "notes": [f"it leads to no port: {refusal}"]}

    def revert(self, result: Any, floating_ip: Json, **_: Any) -> Json | None:
        """Let it lead nowhere again."""
        associated = result["made"] if isinstance(result, dict) else self.begun
        left = why_not_undone(self.name, self._release, floating_ip["id"]) if associated else ""
        if self.begun and not left:
            self.journal(False)
        return kept_result(left)

    def _address(self, port_id: str, data: Json) -> Json:
        """To which address of the port it is to lead; Neutron knows where the port has another one."""
        address = data["fixed_ip_address"]
        port = self.cloud.batch(PORTS.items).get(port_id)
        return {"fixed_ip_address": address} if address in held_ips(port) else {}

    def _release(self, floating_ip_id: str) -> None:
        FLOATING_IPS.update(self.cloud, floating_ip_id, port_id=None)


def _data(source: Cloud, item: Json) -> Json:
    fields = ("id", "project_id", "floating_network_id", "floating_ip_address")
    return {
        **{field: item[field] for field in (*fields, "port_id", "fixed_ip_address", "router_id")},
        **carried(item, OPTIONAL),
        "tags": without_stamps(item.get("tags", ())),
        "description": own_description(item),
        "port_forwardings": read(source, item),
    }


def _record(data: Json, item: Json) -> Record:
    port_ids = [data["port_id"]] if data["port_id"] else ports(data["port_forwardings"])
    needs = [Ref("tenant", data["project_id"]), Ref("network", data["floating_network_id"])]
    needs += [Ref("port", port_id) for port_id in port_ids]
    if data["router_id"]:
        needs.append(Ref("router", data["router_id"]))
    address = data["floating_ip_address"]
    return Record(Ref(NAME, data["id"]), address, data, tuple(needs), notes=tag_notes(data), answer=item)


def _has_address(item: Json, data: Json, network_id: str | None) -> bool:
    there = item["floating_ip_address"] == data["floating_ip_address"]
    return bool(there and item["floating_network_id"] == network_id)


def _twins(search: Search, record: Record, items: Iterable[Json]) -> list[Twin]:
    network_id = search.ids.get(Ref("network", record.data["floating_network_id"]))
    items = list(items)
    stamped = [item for item in items if is_stamped(item, record.ref.id)]
    return [
        _twin(search, record, item)
        for item in stamped or [item for item in items if _has_address(item, record.data, network_id)]
    ]


def _twin(search: Search, record: Record, item: Json) -> Twin:
    """The item as a candidate; an address is unique in its network, so that one which leads nowhere is ours."""
    data, stamped = record.data, is_stamped(item, record.ref.id)
    port_id = search.ids.get(Ref("port", data["port_id"] or ""))
    ours = stamped or item["port_id"] in (None, port_id)
    actual = {**item, "tags": without_stamps(item.get("tags", ())), "description": own_description(item)}
    found = differences(data, actual, [field for field in FIELDS if field in data])
    address = (data["floating_ip_address"], item["floating_ip_address"])
    if address[0] != address[1]:
        found = (f"its address is {address[1]}, source has {address[0]}", *found)
    if item["port_id"] not in (None, port_id):
        found = (f"it leads to port {item['port_id']}", *found)
    return Twin(item["id"], ours, found, _unfinished(search, record, item) if ours else "")


def _unfinished(search: Search, record: Record, item: Json) -> str:
    if is_unfinished(item):
        return UNFINISHED
    if record.data["port_id"] and not item["port_id"]:
        return "it leads to no port"
    return ", ".join(missing(search, record, item))


KIND = Kind(
    NAME,
    "network",
    discover,
    fetch,
    find,
    tasks,
    extension="router",
    adapt=adapt,
    reusable=False,
    strangers=partial(strangers_in, FLOATING_IPS),
    unmark=partial(unmark, FLOATING_IPS),
    remove=removal(EnsureFloatingIp),
    fields=Fields(
        carried="description dns_name dns_domain tags floating_ip_address fixed_ip_address "
        + parts(
            "port_forwardings",
            "protocol internal_ip_address internal_port internal_port_range external_port external_port_range "
            "description",
        ),
        mapped={
            **TWIN_TENANT,
            "floating_network_id": "the external network's twin",
            "router_id": "the router's twin",
            "port_id": "the port's twin",
            "port_forwardings/internal_port_id": "the port's twin",
        },
        derived=f"{DERIVED} status port_details qos_network_policy_id port_forwardings/id",
        noted={**NO_QOS, "distributed": "that it is distributed is not carried"},
        summary="the same address where the destination allows it, else another with a note; last of all",
    ),
)

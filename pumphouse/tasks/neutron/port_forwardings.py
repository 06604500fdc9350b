"""The port forwardings of floating IPs: which there are, and the task that makes those of one address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pumphouse.cloud import call, get_all, or_none
from pumphouse.errors import MadeOtherwiseError
from pumphouse.model import Json, Record, Ref
from pumphouse.tasks.base import (
    BaseCloudTask,
    Ensured,
    Search,
    as_asked,
    ensured_id,
    in_doubt,
    kept_result,
    why_not_undone,
)
from pumphouse.tasks.neutron.common import PORTS as NEUTRON_PORTS
from pumphouse.tasks.neutron.common import held_ips

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

# With ranges (Neutron 20, Yoga) the single ports of a forwarding are empty where it has a real range.
SPANS = (("internal_port", "internal_port_range"), ("external_port", "external_port_range"))
FIELDS = ("protocol", "internal_ip_address", "description")
Key = tuple[Any, ...]


class EnsurePortForwardings(BaseCloudTask):
    """Makes those forwardings of a floating IP that it lacks."""

    def execute(self, data: Json, floating_ip: Json, **ensured: Ensured) -> Json:
        """Make them; provides the ids of those that were made."""
        wanted = [at_port(self.cloud, mapped(item, ensured)) for item in data["port_forwardings"]]
        if not wanted:
            return {"id": floating_ip["id"], "added": []}
        there = self._keys(floating_ip["id"])
        self.journal_before(sorted(there.values()))
        for forwarding in wanted:
            if key(forwarding) not in there:
                there[key(forwarding)] = self._add(floating_ip["id"], forwarding)
        return {"id": floating_ip["id"], "added": self._added(there, wanted)}

    def revert(self, result: Any, data: Json, floating_ip: Json, **ensured: Ensured) -> Json | None:
        """Delete those that were made, also by an attempt that did not come to its end."""
        if isinstance(result, dict):
            return kept_result(
                *(
                    why_not_undone(self.name, delete, self.cloud, floating_ip["id"], i)
                    for i in result["added"]
                )
            )
        if self.before is None:
            return None
        return kept_result(why_not_undone(self.name, self._delete_unknown, data, floating_ip["id"], ensured))

    def _delete_unknown(self, data: Json, floating_ip_id: str, ensured: Mapping[str, Ensured]) -> None:
        wanted = [mapped(forwarding, ensured) for forwarding in data["port_forwardings"]]
        for forwarding_id in self._added(self._keys(floating_ip_id), wanted):
            delete(self.cloud, floating_ip_id, forwarding_id)

    def _added(self, there: Mapping[Key, str], wanted: Iterable[Json]) -> list[str]:
        """Those of the wanted forwardings that were not there before the first attempt."""
        ids = (there.get(key(forwarding)) for forwarding in wanted)
        return [found for found in ids if found is not None and found not in self.before]

    def _keys(self, floating_ip_id: str) -> dict[Key, str]:
        return {key(item): item["id"] for item in listed(self.cloud, floating_ip_id)}

    def _add(self, floating_ip_id: str, forwarding: Json) -> str:
        try:
            made = _send(self.cloud, "POST", _path(floating_ip_id), forwarding)
        except Exception as error:
            found = self._keys(floating_ip_id).get(key(forwarding)) if in_doubt(error) else None
            if found is None:
                raise
            return found
        path = f"{_path(floating_ip_id)}/{made['id']}"
        try:
            as_asked(forwarding, made, partial(_send, self.cloud, "PUT", path))
        except MadeOtherwiseError:
            delete(self.cloud, floating_ip_id, made["id"])
            raise
        return str(made["id"])


def read(cloud: Cloud, floating_ip: Json) -> list[Json]:
    """The forwardings of a floating IP as they are to be carried; no call is made for an address that has none."""
    # An address that is associated with a port has no forwardings; Neutron 14 (Stein) and later list them briefly.
    if floating_ip["port_id"] or floating_ip.get("port_forwardings") == []:
        return []
    return sorted((_data(item) for item in listed(cloud, floating_ip["id"])), key=str)


def listed(cloud: Cloud, floating_ip_id: str) -> list[Json]:
    """The forwardings of a floating IP; none where the cloud does not have the extension."""
    return or_none(get_all, cloud.neutron, _path(floating_ip_id), "port_forwardings") or []


def _send(cloud: Cloud, method: str, path: str, forwarding: Json) -> Json:
    answer: Json = call(cloud.neutron, method, path, {"port_forwarding": forwarding})["port_forwarding"]
    return answer


def delete(cloud: Cloud, floating_ip_id: str, forwarding_id: str) -> None:
    """Delete a forwarding."""
    call(cloud.neutron, "DELETE", f"{_path(floating_ip_id)}/{forwarding_id}")


def key(forwarding: Json) -> Key:
    """What tells one forwarding of an address from another, however its ports are written.

    Not to which address of the port it leads: the destination may have given the port others.
    """
    ports = (_range(forwarding, single, span) for single, span in SPANS)
    return forwarding["protocol"], forwarding["internal_port_id"], *ports


def mapped(forwarding: Json, ensured: Mapping[str, Ensured]) -> Json:
    """The forwarding as the destination is to have it."""
    port_id = ensured_id(ensured, "port", forwarding["internal_port_id"])
    return {**{k: v for k, v in forwarding.items() if v is not None}, "internal_port_id": port_id}


def at_port(cloud: Cloud, forwarding: Json) -> Json:
    """The forwarding to an address that its port has, where the destination gave the port others than it was to have."""
    held = held_ips(cloud.batch(NEUTRON_PORTS.items).get(forwarding["internal_port_id"]))
    own = sorted(address for address in held if ":" not in address)
    if not own or forwarding["internal_ip_address"] in own:
        return forwarding
    return {**forwarding, "internal_ip_address": own[0]}


def missing(search: Search, record: Record, floating_ip: Json) -> list[str]:
    """Which of the record's forwardings a floating IP of the destination lacks, in words."""
    if not record.data["port_forwardings"]:
        return []
    there = {key(item) for item in listed(search.destination, floating_ip["id"])}
    wanted: Sequence[Json] = [
        {**item, "internal_port_id": search.ids.get(Ref("port", item["internal_port_id"]))}
        for item in record.data["port_forwardings"]
    ]
    return [f"lacks the forwarding {_text(item)}" for item in wanted if key(item) not in there]


def ports(forwardings: Iterable[Json]) -> list[str]:
    """The ids of the ports that are forwarded to."""
    return sorted({item["internal_port_id"] for item in forwardings})


def _path(floating_ip_id: str) -> str:
    return f"/floatingips/{floating_ip_id}/port_forwardings"


def _data(item: Json) -> Json:
    data = {field: item.get(field) for field in (*FIELDS, "internal_port_id")}
    for single, span in SPANS:
        field = single if item.get(single) else span
        data[field] = item[field]
    return data


def _range(forwarding: Json, single: str, span: str) -> str:
    port = forwarding.get(single)
    return f"{port}:{port}" if port else str(forwarding.get(span))


def _text(forwarding: Json) -> str:
    outer, inner = (forwarding.get(single) or forwarding.get(span) for single, span in reversed(SPANS))
    return f"{forwarding['protocol']} {outer} to {forwarding['internal_ip_address']} {inner}"

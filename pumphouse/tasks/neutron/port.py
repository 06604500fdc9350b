"""Ports: those of servers, made before the servers, and detached ones, such as virtual addresses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.errors import ConflictError, explain, http_status
from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    Ensured,
    Migration,
    Search,
    differences,
    ensure,
    ensured_id,
    holds,
    retrieve_record,
)
from pumphouse.tasks.fields import Fields, Noted, parts
from pumphouse.tasks.kind import Kind, removal
from pumphouse.tasks.neutron.common import (
    DERIVED,
    NETWORKS,
    NO_QOS,
    PORTS,
    TWIN_TENANT,
    EnsureItem,
    asked_addresses,
    carried,
    common_data,
    dependencies,
    describe_holder,
    held_ips,
    holder,
    is_stamped,
    shares_with,
    strangers_in,
    tag_notes,
    trusted,
    twin,
    unmark,
)

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "port"
# What has the address of a port is somebody else's: a DHCP port, or another server's.
SERVER_OWNER = "compute:"
TRUNK_OWNER = "trunk:subport"
CREATED = (
    "admin_state_up",
    "mac_address",
    "port_security_enabled",
    "allowed_address_pairs",
    "binding:vnic_type",
)
# Sent only when they are set: many clouds do not have the extensions that know them.
OPTIONAL = ("dns_name", "dns_domain", "extra_dhcp_opts")
FIELDS = ("name", "description", "tags", "fixed_ips", "security_groups", *CREATED, *OPTIONAL)
REMEDY = "give the server a port of its own tenant"
# Neutron keeps these in no order.
LISTS = ("allowed_address_pairs", "extra_dhcp_opts")
# What only the owner of a network chooses for its ports by Neutron's default policies, or an administrator, in words.
CHOSEN = {
    "mac_address": "MAC",
    "fixed_ips": "addresses",
    "port_security_enabled": "port security",
    "allowed_address_pairs": "allowed address pairs",
}
# What is left to Neutron where policies forbid even administrators to choose, the least first.
LEFT_TO_NEUTRON = (("mac_address",), ("fixed_ips",), ("mac_address", "fixed_ips"), tuple(CHOSEN))
NOT_CHOSEN = "its MAC, addresses, port security and allowed address pairs are not carried: only the owner of its network or an administrator of the destination chooses them"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The ports that the tenant owns, without those that Neutron makes for its own use."""
    ports = PORTS.owned(source, tenant_id)
    shares = shares_with(source, tenant_id) if ports else {}
    return [_record(port, shares) for port in ports if not port["device_owner"].startswith("network:")]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The ports of the given ids, as those of others: to be found at the destination, not made."""
    return dependencies(source, _read(source, ids).values(), REMEDY)


def _read(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    return {i: _record(port, {}) for i, port in PORTS.items(source, ids).items()}


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records with notes on what only the owner of a network chooses for its ports, or an administrator."""
    if search.destination.is_admin:
        return list(records)
    twins = {record.ref: search.ids.get(_network(record)) for record in records}
    networks = NETWORKS.items(search.destination, {twin_id for twin_id in twins.values() if twin_id})
    foreign = {i for i, network in networks.items() if network["project_id"] != search.destination.project_id}
    return [replace(r, notes=(*r.notes, NOT_CHOSEN)) if twins[r.ref] in foreign else r for r in records]


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The port of the network's twin that carries the stamp, or else whichever has one of the addresses."""
    networks = {record.ref: search.ids.get(_network(record)) for record in records}
    found = PORTS.by(search.destination, "network_id", {n for n in networks.values() if n})
    by_network: dict[str | None, list[Json]] = {}
    for port in found:
        by_network.setdefault(port["network_id"], []).append(port)
    beside = {r.ref: by_network.get(networks[r.ref], []) for r in records}
    stamped = {r.ref: [port for port in beside[r.ref] if is_stamped(port, r.ref.id)] for r in records}
    ours = {
        r.ref: [p for p in stamped[r.ref] if p["project_id"] == search.ids.get(_tenant(r))]
        for r in records
        if not r.must_exist
    } | trusted(search, stamped, [r for r in records if r.must_exist])
    return {r.ref: _twins(search, r, ours[r.ref], beside[r.ref]) for r in records}


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the port and make it."""
    return [
        retrieve_record(_read, migration, step),
        ensure(EnsurePort, [migration.destination], step),
    ]


class EnsurePort(EnsureItem):
    """Finds or creates the port with the same MAC and addresses; nothing is attached to it yet."""

    collection = PORTS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A plan calls a port without a name by its address, which is not to become its name.
        super().__init__(*args, **{**kwargs, "target_name": None})

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Make the port; ConflictError names the port that has one of its addresses."""
        try:
            return super().create(data, ensured)
        except Exception as error:
            self._explain(error, data, ensured_id(ensured, "network", data["network_id"]))
            raise

    def fields(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """Everything explicitly: security groups that are absent would be the default one."""
        network_id = ensured_id(ensured, "network", data["network_id"])
        fixed_ips = [
            {**fixed, "subnet_id": ensured_id(ensured, "subnet", fixed["subnet_id"])}
            for fixed in data["fixed_ips"]
        ]
        fields = {
            **carried(data, CREATED),
            **{field: data[field] for field in OPTIONAL if data.get(field) and not _is_novas(field, data)},
            **{field: data[field] for field in _of_detached(data) if data[field]},
            "network_id": network_id,
            **asked_addresses(self.cloud, {**data, "fixed_ips": fixed_ips}),
            "security_groups": [ensured_id(ensured, "security_group", i) for i in data["security_groups"]],
        }
        if self._may_choose(network_id):
            return fields
        self.notes.append(NOT_CHOSEN)
        return _without(fields, CHOSEN)

    def _created(self, fields: Json) -> str:
        """Make the port; without what the destination's policies forbid even administrators to choose."""
        try:
            return super()._created(fields)
        except Exception as error:
            if http_status(error) != 403:
                raise
            refusal = error
        for left in LEFT_TO_NEUTRON:
            try:
                created = super()._created(_without(fields, left))
            except Exception as error:
                if http_status(error) != 403:
                    raise
                continue
            what = ", ".join(CHOSEN[field] for field in left)
            self.notes.append(f"Neutron chooses its {what}: {explain(refusal).what}")
            return created
        raise refusal

    def may_differ(self, field: str, wanted: Any) -> bool:
        """Its addresses, by those that Neutron adds itself in subnets with automatic ones."""
        if field != "fixed_ips":
            return False
        others = [fixed for fixed in self.item[field] if not any(holds(one, fixed) for one in wanted)]
        added = len(self.item[field]) - len(wanted) == len(others) > 0
        return added and all(":" in fixed["ip_address"] for fixed in others)

    def _may_choose(self, network_id: str) -> bool:
        if self.cloud.is_admin:
            return True
        network = self.cloud.batch(NETWORKS.items).get(network_id)
        return bool(network["project_id"] == self.cloud.project_id)

    def _explain(self, error: Exception, data: Json, network_id: str) -> None:
        port = (
            holder(self.cloud, network_id, held_ips(data), data["mac_address"])
            if http_status(error) == 409
            else None
        )
        if port is not None:
            raise ConflictError(
                f"an address of the port is taken: {describe_holder(port)}",
                "delete that port, or free the address",
            ) from error


def _without(fields: Json, left: Collection[str]) -> Json:
    """What to ask for that leaves fields of CHOSEN to Neutron: of addresses, in which subnets they are."""
    subnets = [{"subnet_id": fixed["subnet_id"]} for fixed in fields["fixed_ips"]]
    kept = {field: value for field, value in fields.items() if field not in left}
    return {**kept, "fixed_ips": subnets if "fixed_ips" in left else fields["fixed_ips"]}


def _tenant(record: Record) -> Ref:
    return Ref("tenant", record.data["project_id"])


def _network(record: Record) -> Ref:
    return Ref("network", record.data["network_id"])


def _data(port: Json) -> Json:
    fixed_ips = [{key: fixed[key] for key in ("subnet_id", "ip_address")} for fixed in port["fixed_ips"]]
    return {
        **common_data(port),
        **carried(port, (*CREATED, *OPTIONAL, "network_id", "device_id", "device_owner")),
        **{key: sorted(port[key], key=str) for key in LISTS if key in port},
        "fixed_ips": sorted(fixed_ips, key=lambda fixed: str(fixed["ip_address"])),
        "security_groups": sorted(port.get("security_groups", ())),
    }


def _record(port: Json, shares: Mapping[str, Ref]) -> Record:
    """A port; shares: those with its tenant, by what is shared: it needs those of its network and its groups."""
    owner = port["device_owner"]
    groups = sorted(port.get("security_groups", ()))
    needs = (
        Ref("tenant", port["project_id"]),
        Ref("network", port["network_id"]),
        *(Ref("subnet", fixed["subnet_id"]) for fixed in port["fixed_ips"]),
        *(Ref("security_group", i) for i in groups),
        *(shares[i] for i in (port["network_id"], *groups) if i in shares),
    )
    data = _data(port)
    return Record(
        Ref(NAME, port["id"]),
        port["name"] or _address(port),
        data,
        tuple(dict.fromkeys(needs)),
        part_of=Ref("server", port["device_id"]) if owner.startswith(SERVER_OWNER) else None,
        notes=tag_notes(data),
        answer=port,
        skip="" if _is_migratable(owner) else f"made by and for {owner} {port['device_id']}",
    )


def _is_migratable(owner: str) -> bool:
    return owner in ("", TRUNK_OWNER) or owner.startswith(SERVER_OWNER)


def _address(port: Json) -> str:
    """What a port without a name is called: its first address."""
    return min(held_ips(port), default=str(port["mac_address"]))


def _twins(search: Search, record: Record, ours: Sequence[Json], ports: Iterable[Json]) -> list[Twin]:
    """Of the ports of one network: the stamped one, or those that have an address of the record."""
    if ours:
        return [twin(port, record, _differences(search, record, port)) for port in ours]
    ips, mac = held_ips(record.data), record.data["mac_address"]
    holders = [port for port in ports if port["mac_address"] == mac or held_ips(port) & ips]
    return [Twin(port["id"], ours=False, differences=(f"{describe_holder(port)}",)) for port in holders]


def _differences(search: Search, record: Record, port: Json) -> tuple[str, ...]:
    data = record.data
    fixed_ips = [
        {**fixed, "subnet_id": search.ids.get(Ref("subnet", fixed["subnet_id"]))}
        for fixed in data["fixed_ips"]
    ]
    groups = sorted(search.ids.get(Ref("security_group", i), i) for i in data["security_groups"])
    wanted = {**data, "fixed_ips": fixed_ips, "security_groups": groups}
    fields = (*FIELDS, *_of_detached(data))
    return differences(wanted, _data(port), [field for field in fields if field in wanted])


def _is_novas(field: str, data: Json) -> bool:
    """Whether Nova sets a field when it boots the server; it refuses a port that has another DNS name than its own."""
    return field == "dns_name" and data["device_owner"].startswith(SERVER_OWNER)


def _of_detached(data: Json) -> tuple[str, ...]:
    """What a port has by itself that is attached to nothing: a name of the tenant's own for what uses it."""
    return () if data["device_owner"] else ("device_id",)


KIND = Kind(
    NAME,
    "network",
    discover,
    fetch,
    find,
    tasks,
    reusable=False,
    adapt=adapt,
    strangers=partial(strangers_in, PORTS),
    unmark=partial(unmark, PORTS),
    remove=removal(EnsurePort),
    fields=Fields(
        carried="name description admin_state_up mac_address port_security_enabled allowed_address_pairs "
        "binding:vnic_type dns_name dns_domain extra_dhcp_opts tags fixed_ips/ip_address",
        mapped={
            **TWIN_TENANT,
            "network_id": "the network's twin",
            "fixed_ips/subnet_id": "the subnet's twin",
            "security_groups": "the security group's twin",
            "device_id": "the server's twin",
            "trunk_details": "the trunk's twin",
        },
        derived=f"{DERIVED} status device_owner dns_assignment ip_allocation resource_request qos_network_policy_id "
        "binding:host_id binding:vif_type binding:vif_details "
        + parts(
            "binding:profile",
            "pci_vendor_info pci_slot allocation arq_uuid physical_network card_serial_number vf_num pf_mac_address "
            "device_mac_address migrating_to",
        ),
        noted={
            **NO_QOS,
            "binding:profile/*": "{name} ({value}) is not carried: set it at the destination where it is wanted",
            "data_plane_status": "the state of its data plane ({value}) is not carried",
            "device_profile": "its device profile {value} is not carried: accelerators are the source's",
            "hardware_offload_type": "its hardware offload ({value}) is not carried",
            "hints": "its hints are not carried: set them at the destination",
            "numa_affinity_policy": "its NUMA affinity policy {value} is not carried: set it at the destination",
            "propagate_uplink_status": Noted(
                "whether it follows the state of its uplink ({value}) is not carried", (None, True)
            ),
            "pvlan_type": "its type in a private VLAN ({value}) is not carried",
            "pvlan_community": "its community in a private VLAN ({value}) is not carried",
            "trusted": "that its virtual function is trusted is not carried: set it at the destination",
        },
        summary="those of servers, and detached ones with their device id",
    ),
)

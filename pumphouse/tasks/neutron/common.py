"""What the kinds of Neutron share: its collections, the stamp, and the task that finds or creates.

Neutron takes no tags in its create calls, except those of ports where the operator has loaded an extension
for it; its extension `tag-creation` is another call as well. So a resource is created with its stamp as the
description, then gets its tags, the stamp among them, and last the description that it is to have. A description
that is still a stamp tells what is unfinished. Networks, subnets and security groups, of which there may be
thousands, are spared the last call in a tenant that the run has made, where nobody else makes anything: there they
have their own description from the start, and their tags complete them. That they are begun is in the state store
before, so that one that lacks its stamp is known.
"""

from __future__ import annotations

import re
from collections.abc import Collection as Ids
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from pumphouse.cloud import call, get_all, or_none
from pumphouse.cloud.bulk import SharedCallError
from pumphouse.cloud.transport import NOT_THE_API
from pumphouse.errors import AnswerError, ConflictError, explain, http_status
from pumphouse.model import Json, Record, Ref, Twin
from pumphouse.tasks.base import (
    STAMP,
    BaseEnsureTask,
    Ensured,
    Search,
    as_asked,
    ensured_id,
    in_doubt,
    look_again,
    stamp_tag,
    stamps_among,
    tenant_made,
    unlike,
    without_stamps,
)
from pumphouse.tasks.keystone.common import tenant_names, twin_tenant

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

# A query of this many ids stays under 4 KiB; many servers refuse URLs over 8 KiB.
_VALUES_PER_QUERY = 50
_UNKNOWN = re.compile(r"Unrecognized attribute\(s\) '([^']*)'")
RELEASE_TIMEOUT_S = 60.0
# By which the items of an answer are told from each other; those that agree in them are the same to their tasks.
_TELLING = ("name", "description", "project_id", "network_id", "cidr", "mac_address", "fixed_ips")
# What of an item only administrators may set by Neutron's default policies, besides what is never carried.
_ADMINISTRATORS = {"network": ("shared",), "subnet": ("service_types",), "subnetpool": ("shared",)}
# Neutron's limits for the tags of an item and for its description.
TAGS_MAX = 50
_DESCRIPTION_MAX_LENGTH = 255
_STAMP_AT_END = re.compile(rf" ?\({STAMP}=[^()]*\)$")
# The modes of an IPv6 subnet in which addresses follow from MACs.
AUTOMATIC = ("slaac", "dhcpv6-stateless")
UNFINISHED = "an earlier run ended before it was complete"
# What Neutron itself writes into every item, for the fields of the kinds.
DERIVED = "id tenant_id created_at updated_at revision_number standard_attr_id"
TWIN_TENANT = {"project_id": "the tenant's twin"}
NO_QOS = {"qos_policy_id": "its QoS policy {value} is not carried: set one at the destination"}
# The action of an RBAC policy that lets a tenant use what is another's, and whom it says who means all.
SHARED = "access_as_shared"
EVERYBODY = "*"


@dataclass(frozen=True)
class Collection:
    """A collection of the Networking API v2.0, https://docs.openstack.org/api-ref/network/v2/

    name: what one item of it is called in a request.
    in_bulk: whether one call makes several of them, all or none.
    """

    name: str
    in_bulk: bool = False

    @property
    def path(self) -> str:
        """Where it is, e.g. `/security-groups`."""
        return f"/{self.name.replace('_', '-')}s"

    def all(self, cloud: Cloud, **filters: Any) -> list[Json]:
        """All items that pass the filters; none where there is no Neutron, or none with the extension that they are of."""
        if not cloud.has("network"):
            return []
        return or_none(get_all, cloud.neutron, self.path, f"{self.name}s", **filters) or []

    def owned(self, cloud: Cloud, tenant_id: str) -> list[Json]:
        """All items of a tenant; for an administrator, services list those of others as well."""
        items = self.all(cloud, project_id=self._projects(cloud, tenant_id))
        return [item for item in items if item["project_id"] == tenant_id]

    def _projects(self, cloud: Cloud, tenant_id: str) -> list[str]:
        # Neutron makes the default group of the first project that security groups are listed of: that
        # is the operator's own, because reading a tenant must not change it.
        return [cloud.project_id, tenant_id] if self.name == "security_group" else [tenant_id]

    def by(self, cloud: Cloud, field: str, values: Iterable[str], **filters: Any) -> list[Json]:
        """All items of which a field has one of the values."""
        parts = _parts(sorted(set(values)))
        return [item for part in parts for item in self.all(cloud, **{field: part}, **filters)]

    def items(self, cloud: Cloud, ids: Ids[str]) -> dict[str, Json]:
        """The items of the given ids, by id; those that are missing are left out."""
        return {item["id"]: item for item in self.by(cloud, "id", ids)}

    def stamped(self, cloud: Cloud, source_ids: Ids[str]) -> dict[str, list[Json]]:
        """The items that carry the stamps of the given source ids, as a tag or still as the description."""
        stamps = [stamp_tag(source_id) for source_id in source_ids]
        tagged = [item for part in _parts(stamps) for item in self.all(cloud, **{"tags-any": ",".join(part)})]
        found = {item["id"]: item for item in [*tagged, *self.by(cloud, "description", stamps)]}
        return {i: [item for item in found.values() if is_stamped(item, i)] for i in source_ids}

    def create(self, cloud: Cloud, fields: Json) -> Json:
        """Make an item."""
        item: Json = call(cloud.neutron, "POST", self.path, {self.name: fields})[self.name]
        return item

    def create_all(self, cloud: Cloud, items: Sequence[Json]) -> list[Json]:
        """Make several items in one call, all or none."""
        if len(items) == 1:
            return [self.create(cloud, items[0])]
        made = call(cloud.neutron, "POST", self.path, {f"{self.name}s": items})[f"{self.name}s"]
        if len(made) != len(items):
            raise AnswerError(f"{len(items)} {self.name}s were to be made, and {len(made)} were", NOT_THE_API)
        return [_take_like(made, item) for item in items]

    def update(self, cloud: Cloud, item_id: str, **fields: Any) -> Json:
        """Change fields of an item; returns all of it."""
        item: Json = call(cloud.neutron, "PUT", f"{self.path}/{item_id}", {self.name: fields})[self.name]
        return item

    def put(self, cloud: Cloud, item_id: str, what: str, **body: Any) -> Json:
        """Act on an item: `tags`, `add_router_interface` and the like."""
        return call(cloud.neutron, "PUT", f"{self.path}/{item_id}/{what}", body)

    def delete(self, cloud: Cloud, item_id: str) -> None:
        """Delete an item."""
        call(cloud.neutron, "DELETE", f"{self.path}/{item_id}")

    def remove(self, cloud: Cloud, item_id: str) -> None:
        """Delete an item as soon as whatever uses it has let it go: Nova and DHCP take a while for that."""
        retrying = Retrying(
            retry=retry_if_exception(lambda error: http_status(error) == 409),
            stop=stop_after_delay(RELEASE_TIMEOUT_S),
            wait=wait_exponential(multiplier=0.2, max=5),
            reraise=True,
        )
        retrying(self.delete, cloud, item_id)


def _take_like(made: list[Json], item: Json) -> Json:
    """The first of what was made that is like an item that was asked for; else the first, and its task compares it."""
    told = [field for field in _TELLING if field in item]
    likeness = (number for number, one in enumerate(made) if not unlike({f: item[f] for f in told}, one))
    return made.pop(next(likeness, 0))


NETWORKS = Collection("network", in_bulk=True)
SUBNETS = Collection("subnet", in_bulk=True)
SUBNET_POOLS = Collection("subnetpool")
SECURITY_GROUPS = Collection("security_group", in_bulk=True)
ROUTERS = Collection("router")
PORTS = Collection("port", in_bulk=True)
FLOATING_IPS = Collection("floatingip")
TRUNKS = Collection("trunk")
ADDRESS_GROUPS = Collection("address_group")


def _parts(values: Sequence[str]) -> Iterable[Sequence[str]]:
    return (values[i : i + _VALUES_PER_QUERY] for i in range(0, len(values), _VALUES_PER_QUERY))


def is_stamped(item: Json, source_id: str) -> bool:
    """Whether an item was made from the source resource of that id."""
    stamp, description = stamp_tag(source_id), str(item["description"])
    return stamp in item.get("tags", ()) or description == stamp or description.endswith(f"({stamp})")


def carries_stamp(item: Json) -> bool:
    """Whether an item was made by any migration."""
    is_tagged = bool(stamps_among(item.get("tags", ())))
    return is_tagged or is_unfinished(item) or own_description(item) != item["description"]


def with_stamp(data: Json) -> tuple[list[str], str]:
    """The tags and the description of an item when it is complete: its stamp is a tag, or where that is one too many
    for Neutron it ends the description; an item that has room for neither loses its last tag.
    """
    stamp, tags, description = stamp_tag(data["id"]), data.get("tags", []), data["description"]
    if len(tags) < TAGS_MAX:
        return [*tags, stamp], description
    marked = f"{description} ({stamp})".strip()
    if len(marked) <= _DESCRIPTION_MAX_LENGTH:
        return list(tags), marked
    return [*tags[: TAGS_MAX - 1], stamp], description


def tag_notes(data: Json) -> tuple[str, ...]:
    """What to say of an item that has as many tags as Neutron takes, so that the stamp is one too many."""
    if len(data["tags"]) < TAGS_MAX:
        return ()
    lost = set(data["tags"]) - set(with_stamp(data)[0])
    where = (
        f"instead of its tag {lost.pop()}, which is not carried" if lost else "at the end of its description"
    )
    return (f"it has {TAGS_MAX} tags, and Neutron takes no more: the stamp of the migration is {where}",)


def own_description(item: Json) -> str:
    """The description that somebody gave an item."""
    return _STAMP_AT_END.sub("", str(item["description"] or ""))


def strangers_in(collection: Collection, cloud: Cloud, tenant_id: str) -> list[str]:
    """The ids of the items of a tenant that no migration has made, nor Neutron for DHCP and routers."""
    items = collection.owned(cloud, tenant_id)
    own = [item for item in items if not item.get("device_owner", "").startswith("network:")]
    return [item["id"] for item in own if not carries_stamp(item)]


def is_unfinished(item: Json) -> bool:
    """Whether an item still has the description that it was created with."""
    return str(item["description"]).startswith(f"{STAMP}=")


def common_data(item: Json) -> Json:
    """The fields that all kinds carry; stamps of earlier migrations are no tags of the tenant."""
    common = {
        **{key: item[key] for key in ("id", "name", "project_id")},
        "tags": without_stamps(item.get("tags", ())),
    }
    return {**common, "description": own_description(item)}


def carried(item: Json, fields: Iterable[str]) -> Json:
    """Those of the fields that the cloud knows."""
    return {field: item[field] for field in fields if field in item}


def list_shares(cloud: Cloud, **filters: Any) -> list[Json]:
    """The shares with single tenants or with all; none where there is no Neutron, or none with the extension."""
    if not cloud.has("network"):
        return []
    return or_none(get_all, cloud.neutron, "/rbac-policies", "rbac_policies", action=SHARED, **filters) or []


def shares_with(cloud: Cloud, tenant_id: str) -> dict[str, Ref]:
    """The shares by which other tenants let this one alone use what is theirs, by the id of that."""
    given = list_shares(cloud, target_tenant=tenant_id)
    return {p["object_id"]: Ref("rbac_policy", p["id"]) for p in given if p["project_id"] != tenant_id}


def used_networks(cloud: Cloud, tenant_id: str, network_ids: Iterable[str]) -> dict[str, str]:
    """Why networks of a tenant stay, by id: others have ports on them, or may have."""
    ids = set(network_ids)
    ports = PORTS.by(cloud, "network_id", ids)
    foreign = [port["network_id"] for port in ports if port["project_id"] not in ("", tenant_id)]
    shared = [share["object_id"] for share in list_shares(cloud) if share["object_id"] in ids]
    return dict.fromkeys(foreign, "other tenants have ports on it") | dict.fromkeys(
        shared, "it is shared with other tenants"
    )


def of_others(cloud: Cloud, _tenant_id: str, records: Iterable[Record]) -> dict[Ref, str]:
    """Why items of a tenant stay that it shares with others."""
    shared = {share["object_id"] for share in list_shares(cloud)}
    return {record.ref: "it is shared with other tenants" for record in records if record.ref.id in shared}


def closed_networks(cloud: Cloud, network_ids: Ids[str], tenant_id: str | None) -> dict[str, str]:
    """The names, by id, of those of the networks on which servers of a tenant get no NIC: others', not shared with it.

    tenant_id: None for a tenant that is yet to be made.
    """
    networks = NETWORKS.items(cloud, network_ids)
    if not cloud.is_admin:  # who is shown what it may use and nothing else
        return {i: i for i in network_ids if i not in networks}
    others = {i: network for i, network in networks.items() if network["project_id"] != tenant_id}
    shares = list_shares(cloud) if others else []
    named = {share["object_id"] for share in shares if share["target_tenant"] in (EVERYBODY, tenant_id)}
    # Without the extension for shares, what everybody may use is told by a field alone.
    shared = named if shares else {i for i, network in others.items() if network["shared"]}
    return {i: network["name"] or i for i, network in others.items() if i not in shared}


def candidates(search: Search, collection: Collection, records: Iterable[Record]) -> dict[Ref, list[Json]]:
    """The items of the twin tenants that may be twins: those stamped, or else those of the same name."""
    tenants = {record.ref: search.ids.get(Ref("tenant", record.data["project_id"])) for record in records}
    items = {t: collection.owned(search.destination, t) for t in set(tenants.values()) if t is not None}
    taken = set[str]()
    return {r.ref: _best(left_by(search, r, items.get(tenants[r.ref] or "", []), taken), r) for r in records}


def left_by(search: Search, record: Record, items: Sequence[Json], taken: set[str]) -> Sequence[Json]:
    """The items; one that an earlier run has left without its stamp has it as its description, as what is unfinished.

    taken: the ids of those that were found to be left of others; the one that is found is added.
    """
    if record.ref not in search.begun or any(is_stamped(item, record.ref.id) for item in items):
        return items
    left = (i["id"] for i in items if i["id"] not in taken and is_left(i, record.data))
    if (found := next(left, None)) is None:
        return items
    taken.add(found)
    stamp = stamp_tag(record.ref.id)
    return [{**item, "description": stamp} if item["id"] == found else item for item in items]


def is_left(item: Json, data: Json) -> bool:
    """Whether an item may be what was begun to be made of a resource of the source, and lacks its tags yet."""
    there = (item["name"], item["description"], item.get("tags", []), item.get("cidr"))
    return there == (data["name"], with_stamp(data)[1], [], data.get("cidr"))


def _best(items: Iterable[Json], record: Record) -> list[Json]:
    stamped = [item for item in items if is_stamped(item, record.ref.id)]
    return stamped or [item for item in items if item["name"] and item["name"] == record.name]


def dependencies(source: Cloud, records: Iterable[Record], remedy: str) -> dict[str, Record]:
    """The records by id, as those of other tenants: to be found at the destination, not made.

    remedy: what else to do than to migrate the tenant that owns it.
    """
    listed = list(records)
    names = tenant_names(source) if listed else {}
    return {record.ref.id: _dependency(record, remedy, names) for record in listed}


def _dependency(record: Record, remedy: str, names: Mapping[str, str]) -> Record:
    tenant_id = record.data["project_id"]
    owner = names.get(tenant_id)
    missing = f"belongs to tenant {owner or tenant_id}: migrate that tenant first, or {remedy}"
    data = {**record.data, "owner_name": owner}
    return replace(record, data=data, needs=(), part_of=None, notes=(), skip="", must_exist=missing)


def trusted(
    search: Search, found: Mapping[Ref, Sequence[Json]], records: Iterable[Record]
) -> dict[Ref, list[Json]]:
    """Those of the items found for other tenants' records that may be their twins, whatever their stamps say.

    They are those of the owner's twin, and the operator's: anybody can write a stamp on what is his own.
    """
    owners = {record.ref: _owner(record) for record in records}
    twins = {owner: twin_tenant(search.destination, *owner) for owner in set(owners.values())}
    allowed = {ref: (twins[owner] or "", search.destination.project_id) for ref, owner in owners.items()}
    return {
        ref: [item for item in found.get(ref, ()) if item["project_id"] in tenants]
        for ref, tenants in allowed.items()
    }


def _owner(record: Record) -> tuple[str, str | None]:
    return record.data["project_id"], record.data.get("owner_name")


def stamped_twins(search: Search, collection: Collection, records: Iterable[Record]) -> dict[Ref, list[Twin]]:
    """The twins of what other tenants own: whatever carries the stamp and may be trusted."""
    wanted = {record.ref.id: record for record in records}
    stamped = collection.stamped(search.destination, list(wanted)) if wanted else {}
    found = {wanted[i].ref: items for i, items in stamped.items()}
    return {
        ref: [Twin(item["id"], ours=True) for item in items]
        for ref, items in trusted(search, found, wanted.values()).items()
    }


def twin(item: Json, record: Record, differences: tuple[str, ...], unfinished: str = "") -> Twin:
    """The item as a candidate for the record; ours when it is stamped."""
    ours = is_stamped(item, record.ref.id)
    return Twin(item["id"], ours, differences, UNFINISHED if ours and is_unfinished(item) else unfinished)


def asked_addresses(cloud: Cloud, port: Json) -> Json:
    """What to ask for so that a port that is made has the addresses of this one, whose subnets are the cloud's.

    Of subnets with automatic addresses Neutron takes none: it makes the one that follows from the MAC.
    """
    six = {fixed["subnet_id"] for fixed in port["fixed_ips"] if ":" in fixed["ip_address"]}
    modes = {i: subnet["ipv6_address_mode"] for i, subnet in SUBNETS.items(cloud, six).items()}
    automatic = {i for i, mode in modes.items() if mode in AUTOMATIC}
    fixed_ips = [
        {"subnet_id": f["subnet_id"]} if f["subnet_id"] in automatic else f for f in port["fixed_ips"]
    ]
    return {"fixed_ips": fixed_ips, **({"mac_address": port["mac_address"]} if automatic else {})}


def holder(cloud: Cloud, network_id: str, ips: Ids[str], mac: str | None = None) -> Json | None:
    """The port of a network that has one of the addresses."""
    for port in PORTS.all(cloud, network_id=network_id):
        if port["mac_address"] == mac or held_ips(port) & set(ips):
            return port
    return None


def blocks(subnets: Iterable[Json]) -> list[IPv4Network | IPv6Network]:
    """The blocks of addresses of subnets."""
    return [ip_network(subnet["cidr"]) for subnet in subnets]


def is_within(address: str, found: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Whether an address is in one of the blocks."""
    return any(ip_address(address) in block for block in found)


def held_ips(port: Json) -> set[str]:
    """The fixed IP addresses of a port."""
    return {fixed["ip_address"] for fixed in port["fixed_ips"]}


def describe_holder(port: Json) -> str:
    """Which port it is that has an address, in words."""
    owner = f" of {port['device_owner']} {port['device_id']}" if port["device_owner"] else ""
    return f"port {port['id']}{owner} has {' and '.join([port['mac_address'], *sorted(held_ips(port))])}"


def unmark(collection: Collection, cloud: Cloud, item_id: str) -> None:
    """Take the stamp off an item."""
    item = cloud.batch(collection.items).get(item_id)
    tags = without_stamps(item.get("tags", ()))
    if len(tags) < len(item.get("tags", ())):
        collection.put(cloud, item_id, "tags", tags=tags)
    if own_description(item) != (item["description"] or ""):
        collection.update(cloud, item_id, description=own_description(item))


def complete(cloud: Cloud, collection: Collection, item: Json, data: Json) -> None:
    """Give an item that is made what it lacks of its tags, its stamp among them, and its description."""
    tags, description = with_stamp(data)
    if set(item.get("tags", ())) != set(tags):
        as_asked({"tags": tags}, collection.put(cloud, item["id"], "tags", tags=tags))
    if item["description"] != description:
        finish(cloud, collection, item["id"], data)


def finish(cloud: Cloud, collection: Collection, item_id: str, data: Json, **fields: Any) -> None:
    """Give an item its own description, which says that it is complete; MadeOtherwiseError when it has not got all."""
    asked = {"description": with_stamp(data)[1], **fields}
    as_asked(asked, collection.update(cloud, item_id, **asked))


class EnsureItem(BaseEnsureTask):
    """Finds or creates one item of a collection in the tenant's twin.

    complete: whether nothing follows that must be done before the item is complete.
    stamped_last: whether one that lacks only its stamp is known in a tenant of this run.
    alone: whether it is made in a call of its own.
    asked: what the item was asked to be that this has made.
    item: what Neutron has said of that.
    """

    collection: Collection
    complete = True
    stamped_last = alone = False
    asked: Json
    item: Json

    def execute(self, data: Json, **ensured: Ensured) -> Ensured:
        """Find or create the twin, and note what the destination did not take."""
        self.notes, self.asked, self.item = list[str](), {}, {}
        return {**super().execute(data, **ensured), "notes": list(dict.fromkeys(self.notes))}

    def find(self, data: Json, ensured: Mapping[str, Ensured]) -> str | None:
        """The one item of the tenant that carries the stamp."""
        ids = self.leftovers(data, ensured)
        if len(ids) > 1:
            what = self.collection.name.replace("_", " ")
            raise ConflictError(
                f"{len(ids)} {what}s of the destination carry the stamp of {data['id']}: {', '.join(ids)}",
                "delete those that are not in use",
            )
        return ids[0] if ids else None

    def leftovers(self, data: Json, ensured: Mapping[str, Ensured]) -> list[str]:
        """All items of the tenant that carry the stamp; else the one that was begun and lacks it."""
        tenant_id = ensured_id(ensured, "tenant", data["project_id"])
        if stamp_tag(data["id"]) in with_stamp(data)[0]:
            found = self.cloud.batch(self.collection.stamped).get(data["id"])
        else:
            found = self.collection.owned(self.cloud, tenant_id)
        mine = [item for item in found if is_stamped(item, data["id"])]
        stamped = [str(item["id"]) for item in mine if item["project_id"] == tenant_id]
        if stamped or not self.stamped_last or (self.fresh and not self.begun):
            return stamped
        there = self.collection.owned(self.cloud, tenant_id)
        left = [str(item["id"]) for item in there if self.is_left(item, data, ensured)]
        return next(([item_id] for item_id in left if self.cloud.claim(item_id, self.name)), [])

    def is_left(self, item: Json, data: Json, ensured: Mapping[str, Ensured]) -> bool:
        """Whether an item of the tenant may be what this has begun to make, and lacks its tags yet."""
        return is_left(item, data)

    def create(self, data: Json, ensured: Mapping[str, Ensured]) -> str:
        """Make the item; what a call shared with others may have made is looked for before it is made alone."""
        wanted = self.wanted(data, ensured)
        if self.has_own_description(data, ensured):
            self.journal()
        try:
            return self._create_or_find(wanted, data, ensured)
        except Exception as error:
            if self.begun and not in_doubt(error):
                self.journal(False)  # else a revert would look for it, and could take an equal one for it
            raise

    def _create_or_find(self, wanted: Json, data: Json, ensured: Mapping[str, Ensured]) -> str:
        try:
            return self.create_known(wanted)
        except SharedCallError:
            found = look_again(lambda: self.find(data, ensured))
        self.alone, self.made_id = True, found or ""
        return found or self.create_known(wanted)

    def wanted(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """What the item is created with."""
        return {
            **self.fields(data, ensured),
            "name": data["name"],
            "description": with_stamp(data)[1]
            if self.has_own_description(data, ensured)
            else stamp_tag(data["id"]),
            "project_id": ensured_id(ensured, "tenant", data["project_id"]),
        }

    def has_own_description(self, data: Json, ensured: Mapping[str, Ensured]) -> bool:
        """Whether it is made with its own description, and its tags complete it."""
        return self.stamped_last and tenant_made(data, ensured)

    def create_known(self, fields: Json) -> str:
        """Make the item with those of the fields that the destination knows and allows; the others are noted."""
        refused = beyond_rights(self.cloud, self.collection, fields)
        self.notes += [not_allowed(field) for field in refused]
        fields = {field: value for field, value in fields.items() if field not in refused}
        try:
            return self._created(fields)
        except Exception as error:
            unknown = _unknown(error) & fields.keys() - {"name", "description", "project_id"}
            if not unknown:
                raise
        self.notes += [
            f"{field} is not carried: the destination does not know it" for field in sorted(unknown)
        ]
        known = {field: value for field, value in fields.items() if field not in unknown}
        return self._created(known)

    def _created(self, fields: Json) -> str:
        self.asked, self.item = fields, self._made(fields)
        # One that lacks its stamp may have been taken, before its answer came, for what an equal one had left.
        while self.stamped_last and not self.cloud.claim(self.item["id"], self.name):
            self.item = self._made(fields)
        self.made_id = str(self.item["id"])
        return self.made_id

    def _made(self, fields: Json) -> Json:
        """A new item, in one call with others where Neutron takes them together."""
        if self.alone or not self.collection.in_bulk:
            return self.collection.create(self.cloud, fields)
        return self.cloud.bulk(self.collection.create_all).make(fields)

    def fields(self, data: Json, ensured: Mapping[str, Ensured]) -> Json:
        """What the item is created with, besides what all kinds have."""
        raise NotImplementedError

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Ensured]) -> None:
        """Set the tags, what was made otherwise than it was asked for, and the description when nothing follows.

        The last of them says that the item is complete.
        """
        if not self.item:
            self._recall(destination_id, data, ensured)
        is_marked, tags = is_unfinished(self.item), with_stamp(data)[0]
        if is_marked:
            self._set_tags(destination_id, tags)
        if self.complete:
            self.asked["description"] = with_stamp(data)[1]
        as_asked(self._told(), self.item, partial(self._update, destination_id))
        is_left_to_another = self.stamped_last and not self.complete
        if not is_marked and not is_left_to_another and set(tags) != set(self.item.get("tags", ())):
            self._set_tags(destination_id, tags)
        self.notes += [
            f"its {field} is {self.item.get(field)!r} at the destination, which was asked for {wanted!r}"
            for field, wanted in unlike(self.asked, self.item).items()
        ]

    def _set_tags(self, destination_id: str, tags: list[str]) -> None:
        as_asked({"tags": tags}, self.collection.put(self.cloud, destination_id, "tags", tags=tags))

    def _recall(self, destination_id: str, data: Json, ensured: Mapping[str, Ensured]) -> None:
        """Know what an item was asked to be that an earlier attempt has left unfinished."""
        self.item = self.cloud.batch(self.collection.items).get(destination_id)
        was_left = self.stamped_last and not is_stamped(self.item, data["id"])
        asked = self.wanted(data, ensured) if was_left or is_unfinished(self.item) else {}
        self.asked = {field: value for field, value in asked.items() if field in self.item}

    def _told(self) -> Json:
        """What has to be as it was asked for: what Neutron tells, and the destination may not choose otherwise."""
        return {f: v for f, v in self.asked.items() if f in self.item and not self.may_differ(f, v)}

    def may_differ(self, field: str, wanted: Any) -> bool:
        """Whether the destination may give the item another value: a note."""
        return False

    def _update(self, destination_id: str, fields: Json) -> Json:
        self.item = self.collection.update(self.cloud, destination_id, **fields)
        return self.item

    def remove(self, destination_id: str) -> None:
        """Delete the item."""
        self.collection.remove(self.cloud, destination_id)


def beyond_rights(cloud: Cloud, collection: Collection, fields: Json) -> list[str]:
    """Those of the fields that are set and that the login may not set."""
    known = () if cloud.is_admin else _ADMINISTRATORS.get(collection.name, ())
    return [field for field in known if fields.get(field)]


def not_allowed(field: str) -> str:
    """What to say of a field that the login may not set."""
    return f"its {field} is not carried: only an administrator of the destination may set it"


def as_allowed(search: Search, collection: Collection, records: Iterable[Record]) -> list[Record]:
    """The records with notes on what the destination does not let the login set."""
    return [
        replace(r, notes=(*r.notes, *map(not_allowed, beyond_rights(search.destination, collection, r.data))))
        for r in records
    ]


def _unknown(error: Exception) -> set[str]:
    """The fields of a create call that Neutron refused because an extension is missing."""
    match = _UNKNOWN.search(str(explain(error))) if http_status(error) == 400 else None
    return set(match[1].split(", ")) if match else set()

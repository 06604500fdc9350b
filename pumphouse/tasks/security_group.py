"""Security groups: first the groups, then their rules, which may refer to each other in circles."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.cloud import call
from pumphouse.errors import http_status
from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    BaseCloudTask,
    BaseRetrieveTask,
    Migration,
    Search,
    differences,
    ensure,
    ensured_id,
    retrieve,
    symbol,
    undo,
)
from pumphouse.tasks.neutron import (
    SECURITY_GROUPS,
    EnsureItem,
    candidates,
    carried,
    common_data,
    finish,
    foreign,
    stamped_twins,
    twin,
)

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "security_group"
RENAMABLE = True
DEFAULT = "default"
FIELDS = ("name", "description", "stateful", "tags")
RULE_FIELDS = (
    *("direction", "ethertype", "protocol", "port_range_min", "port_range_max"),
    *("remote_ip_prefix", "remote_group_id", "remote_address_group_id", "description"),
)
# The names that Neutron takes for protocol numbers, neutron_lib.constants.IP_PROTOCOL_MAP.
PROTOCOLS = {
    "hopopt": 0,
    "icmp": 1,
    "igmp": 2,
    "ipip": 4,
    "tcp": 6,
    "egp": 8,
    "udp": 17,
    "dccp": 33,
    "ipv6-encap": 41,
    "ipv6-route": 43,
    "ipv6-frag": 44,
    "rsvp": 46,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "ipv6-icmp": 58,
    "icmpv6": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ospf": 89,
    "vrrp": 112,
    "pgm": 113,
    "sctp": 132,
    "udplite": 136,
}
ANYWHERE = ("0.0.0.0/0", "::/0", None)
Key = tuple[Any, ...]


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The security groups that the tenant owns, with their rules."""
    groups = SECURITY_GROUPS.owned(source, tenant_id)
    ids = {group["id"] for group in groups}
    return [_record(group, ids) for group in groups]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The groups of the given ids, as those of others: to be found at the destination, not made."""
    return {i: _dependency(group) for i, group in SECURITY_GROUPS.items(source, ids).items()}


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The tenant's default group for the default one; else the stamped group, or that of the same name."""
    owned = [record for record in records if not record.must_exist]
    found = candidates(search, SECURITY_GROUPS, owned)
    sources = {item["id"]: ref.id for ref, items in found.items() for item in items}
    twins = {r.ref: [_twin(r, item, sources) for item in found[r.ref]] for r in owned}
    return twins | stamped_twins(search, SECURITY_GROUPS, [r for r in records if r.must_exist])


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the group, make it, and when all groups that its rules refer to are there, its rules."""
    ref, data = step.ref, step.record.data
    retrieved, ensured = symbol(ref, "retrieved"), symbol(ref, "ensured")
    tenant = Ref("tenant", data["project_id"])
    count = len([rule for rule in data["rules"] if not rule["remote_address_group_id"]])
    return [
        retrieve(RetrieveSecurityGroup, migration, step),
        ensure(EnsureSecurityGroup, [migration.destination], step, needs=[tenant]),
        EnsureSecurityGroupRules(
            migration.destination,
            provides=symbol(ref, "rules-ensured"),
            rebind={"data": retrieved},
            requires=[ensured, *(symbol(need, "ensured") for need in step.record.needs)],
            line=f"give {step.record.title} its {count} rules",
        ),
    ]


class RetrieveSecurityGroup(BaseRetrieveTask):
    """Reads a security group of the source with its rules."""

    def retrieve(self, resource_id: str) -> Json:
        """Its fields as Neutron has them."""
        return self.cloud.batch(fetch).get(resource_id).data


class EnsureSecurityGroup(EnsureItem):
    """Finds or creates the group without its rules; Neutron itself makes the default group of a tenant."""

    collection = SECURITY_GROUPS
    complete = False

    def execute(self, data: Json, **ensured: Json) -> Json:
        """Find or create the twin; the default group came with the tenant, and goes with it."""
        result = super().execute(data, **ensured)
        return {**result, "made": _tenant_made(data, ensured)} if _is_default(data) else result

    def find(self, data: Json, ensured: Mapping[str, Json]) -> str | None:
        """The group that carries the stamp, or the default group."""
        if not _is_default(data):
            return super().find(data, ensured)
        # To list the groups of a tenant by its id alone makes Neutron create the default one.
        tenant_id = ensured_id(ensured, "tenant", data["project_id"])
        groups = self.collection.all(self.cloud, project_id=tenant_id, name=DEFAULT)
        return str(next(group["id"] for group in groups if group["project_id"] == tenant_id))

    def fields(self, data: Json, ensured: Mapping[str, Json]) -> Json:
        """Whether it follows connections."""
        return carried(data, ["stateful"])

    def finish(self, destination_id: str, data: Json, ensured: Mapping[str, Json]) -> None:
        """Set the tags; a default group that was there before is left as it is."""
        if not _is_default(data):
            super().finish(destination_id, data, ensured)
        elif _tenant_made(data, ensured):
            self.collection.put(self.cloud, destination_id, "tags", tags=data["tags"])
            finish(self.cloud, self.collection, destination_id, data, **self.fields(data, ensured))


class EnsureSecurityGroupRules(BaseCloudTask):
    """Gives a group the rules that it lacks, and takes those from it that Neutron gave it by itself."""

    def execute(self, data: Json, **ensured: Json) -> Json:
        """Make the rules equal; those of a default group are only added to. Provides what was added."""
        group_id = ensured_id(ensured, NAME, data["id"])
        group = self.cloud.batch(SECURITY_GROUPS.items).get(group_id)
        actual = {_key(rule): rule["id"] for rule in group["security_group_rules"]}
        wanted = {_key(rule): rule for rule in _mapped_rules(data, ensured)}
        added = self._add(group, [rule for key, rule in wanted.items() if key not in actual])
        if not _is_default(data):
            for key in actual.keys() - wanted.keys():
                _delete_rule(self.cloud, actual[key])
            finish(self.cloud, SECURITY_GROUPS, group_id, data)
        return {"id": group_id, "added": added}

    def revert(self, result: Any, **_: Any) -> None:
        """Delete the rules that were added."""
        for rule_id in result["added"] if isinstance(result, dict) else ():
            undo(self.name, _delete_rule, self.cloud, rule_id)

    def _add(self, group: Json, rules: Sequence[Json]) -> list[str]:
        """Create the rules, all in one call; one by one when Neutron finds that one of them exists."""
        owner = {"security_group_id": group["id"], "project_id": group["project_id"]}
        bodies = [{**rule, **owner} for rule in rules]
        if not bodies:
            return []
        try:
            return _create_rules(self.cloud, bodies)
        except Exception as error:
            if http_status(error) != 409 or len(bodies) == 1:
                raise
        return [rule_id for body in bodies for rule_id in self._add_one(body)]

    def _add_one(self, body: Json) -> list[str]:
        try:
            return _create_rules(self.cloud, [body])
        except Exception as error:
            if http_status(error) == 409:
                return []
            raise


def _create_rules(cloud: Cloud, bodies: Sequence[Json]) -> list[str]:
    answer = call(cloud.neutron, "POST", "/security-group-rules", {"security_group_rules": bodies})
    return [rule["id"] for rule in answer["security_group_rules"]]


def _delete_rule(cloud: Cloud, rule_id: str) -> None:
    call(cloud.neutron, "DELETE", f"/security-group-rules/{rule_id}")


def _mapped_rules(data: Json, ensured: Mapping[str, Json]) -> Iterable[Json]:
    """The rules as the destination is to have them; those that cannot be carried are left out."""
    ids = {
        group_id: ensured.get(symbol(Ref(NAME, group_id), "ensured"))
        for group_id in _remote_ids(data["rules"])
    }
    for rule in data["rules"]:
        remote_id = rule["remote_group_id"]
        remote = ids.get(remote_id)
        if (remote_id and not remote) or rule["remote_address_group_id"]:
            continue
        mapped = {**rule, "remote_group_id": remote["id"] if remote else None}
        yield {key: value for key, value in mapped.items() if value is not None}


def _key(rule: Json) -> Key:
    """What makes two rules the same for Neutron, whichever way they are written."""
    prefix = rule.get("remote_ip_prefix")
    return (
        *(rule.get(field) for field in ("direction", "ethertype", "port_range_min", "port_range_max")),
        _protocol(rule),
        None if prefix in ANYWHERE else prefix,
        *(rule.get(field) for field in ("remote_group_id", "remote_address_group_id")),
    )


def _protocol(rule: Json) -> int | str | None:
    name = rule.get("protocol")
    if name is None:
        return None
    number = int(name) if str(name).isdecimal() else PROTOCOLS.get(name, name)
    return 58 if number == 1 and rule["ethertype"] == "IPv6" else number


def _automatic(group_id: str) -> dict[Key, str]:
    """The rules that Neutron gives to a default group, each in words."""
    rules: dict[Key, str] = {}
    for ethertype in ("IPv4", "IPv6"):
        rules[_key({"direction": "egress", "ethertype": ethertype})] = f"egress {ethertype}"
        inward = {"direction": "ingress", "ethertype": ethertype, "remote_group_id": group_id}
        rules[_key(inward)] = f"ingress {ethertype} from the group itself"
    return rules


def _is_default(data: Json) -> bool:
    return bool(data["name"] == DEFAULT)


def _tenant_made(data: Json, ensured: Mapping[str, Json]) -> bool:
    return bool(ensured[symbol(Ref("tenant", data["project_id"]), "ensured")]["made"])


def _remote_ids(rules: Iterable[Json]) -> set[str]:
    return {rule["remote_group_id"] for rule in rules if rule["remote_group_id"]}


def _data(group: Json) -> Json:
    rules = [{field: rule.get(field) for field in RULE_FIELDS} for rule in group["security_group_rules"]]
    return {**common_data(group), **carried(group, ["stateful"]), "rules": sorted(rules, key=str)}


def _record(group: Json, owned: Collection[str]) -> Record:
    data = _data(group)
    remote = sorted(_remote_ids(data["rules"]) & set(owned) - {group["id"]})
    needs = (Ref("tenant", group["project_id"]), *(Ref(NAME, i) for i in remote))
    return Record(Ref(NAME, group["id"]), group["name"], data, needs, notes=tuple(_notes(data, owned)))


def _dependency(group: Json) -> Record:
    missing = foreign("a security group", group["project_id"])
    return Record(Ref(NAME, group["id"]), group["name"], _data(group), must_exist=missing)


def _notes(data: Json, owned: Collection[str]) -> Iterable[str]:
    for group_id in sorted(_remote_ids(data["rules"]) - set(owned)):
        yield f"its rules for security group {group_id} of another tenant are not carried: add them afterwards"
    for address_group in sorted({rule["remote_address_group_id"] for rule in data["rules"]} - {None}):
        yield f"its rules for address group {address_group} are not carried: add them afterwards"
    if _is_default(data):
        automatic = _automatic(data["id"])
        kept = automatic.keys() - {_key(rule) for rule in data["rules"]}
        for text in sorted(automatic[key] for key in kept):
            yield f"the destination's own rule is kept, which the source does not have: {text}"


def _twin(record: Record, group: Json, sources: Mapping[str, str]) -> Twin:
    """The group as a candidate; sources: the source ids of the destination's groups, as far as they are known."""
    missing, extra = _rule_differences(record, group, sources)
    fields = [field for field in FIELDS if field in record.data]
    found = twin(group, record, (*differences(record.data, _data(group), fields), *missing, *extra))
    if not _is_default(record.data):
        return found
    return Twin(found.id, True, found.differences, f"{len(missing)} rules are missing" if missing else "")


def _rule_differences(record: Record, group: Json, sources: Mapping[str, str]) -> tuple[list[str], list[str]]:
    wanted = {_key(rule): rule for rule in record.data["rules"] if _is_carried(record, rule)}
    renamed = [
        {**rule, "remote_group_id": sources.get(rule["remote_group_id"], rule["remote_group_id"])}
        for rule in group["security_group_rules"]
    ]
    actual = {_key(rule): rule for rule in renamed}
    missing = [f"lacks the rule {_text(wanted[key])}" for key in wanted.keys() - actual.keys()]
    extra = [
        f"has the rule {_text(actual[key])}, which the source has not"
        for key in actual.keys() - wanted.keys()
    ]
    return sorted(missing), sorted(extra)


def _is_carried(record: Record, rule: Json) -> bool:
    remote = {need.id for need in record.needs if need.kind == NAME} | {record.ref.id, None}
    return rule["remote_group_id"] in remote and not rule["remote_address_group_id"]


def _text(rule: Json) -> str:
    ports = "-".join(str(rule[end]) for end in ("port_range_min", "port_range_max") if rule[end] is not None)
    remote = rule["remote_group_id"] or rule["remote_ip_prefix"] or "anywhere"
    words = (rule["direction"], rule["ethertype"], rule["protocol"] or "any protocol", ports, remote)
    return " ".join(word for word in words if word)

"""The rules of security groups: when two are the same, and the task that makes those of a group equal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pumphouse.cloud import call, or_none
from pumphouse.errors import MadeOtherwiseError, http_status
from pumphouse.model import Json, Record, Ref, symbol
from pumphouse.tasks.base import (
    ASK,
    BaseCloudTask,
    Ensured,
    ensured_id,
    in_doubt,
    kept_result,
    why_not_undone,
)
from pumphouse.tasks.neutron.common import SECURITY_GROUPS, complete

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

KIND = SECURITY_GROUPS.name
DEFAULT = "default"
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
# The fields that refer to groups.
REMOTES = ("remote_group_id", "remote_address_group_id")
ANYWHERE = ("0.0.0.0/0", "::/0", None)
Key = tuple[Any, ...]


class EnsureSecurityGroupRules(BaseCloudTask):
    """Gives a group the rules that it lacks, and takes those from it that Neutron gave it by itself."""

    def execute(self, data: Json, **ensured: Ensured) -> Json:
        """Make the rules equal; those of a default group that was there are only added to. Provides what was added."""
        group_id = ensured_id(ensured, KIND, data["id"])
        group = self.cloud.batch(SECURITY_GROUPS.items).get(group_id)
        actual = {rule_key(rule): rule["id"] for rule in group["security_group_rules"]}
        wanted = {rule_key(rule): rule for rule in _mapped_rules(data, ensured)}
        before = self.journal_before(sorted(actual.values()))
        earlier = [actual[key] for key in wanted if key in actual and actual[key] not in before]
        # The rules of a default group that Neutron has made for this run are nobody's.
        if not is_default(data) or ensured[symbol(Ref(KIND, data["id"]), "ensured")]["made"]:
            for key in actual.keys() - wanted.keys():
                _drop_rule(self.cloud, actual[key])
        added = [*earlier, *self._add(group, [rule for key, rule in wanted.items() if key not in actual])]
        if not is_default(data):
            complete(self.cloud, SECURITY_GROUPS, group, data)
        return {"id": group_id, "added": added}

    def revert(self, result: Any, data: Json, **ensured: Ensured) -> Json | None:
        """Delete the rules that were added, also by an attempt that did not come to its end."""
        if isinstance(result, dict):
            return kept_result(*self._delete(result["added"]))
        if self.before is None:
            return None
        return kept_result(why_not_undone(self.name, self._delete_unknown, data, ensured))

    def _delete(self, rule_ids: Iterable[str]) -> list[str]:
        return [why_not_undone(self.name, _delete_rule, self.cloud, rule_id) for rule_id in rule_ids]

    def _delete_unknown(self, data: Json, ensured: Mapping[str, Ensured]) -> None:
        wanted = {rule_key(rule) for rule in _mapped_rules(data, ensured)}
        for group in SECURITY_GROUPS.items(self.cloud, [ensured_id(ensured, KIND, data["id"])]).values():
            for rule in group["security_group_rules"]:
                if rule_key(rule) in wanted and rule["id"] not in self.before:
                    _drop_rule(self.cloud, rule["id"])

    def _add(self, group: Json, rules: Sequence[Json]) -> list[str]:
        """Create the rules, all in one call; one by one when Neutron finds that one of them exists."""
        owner = {"security_group_id": group["id"], "project_id": group["project_id"]}
        bodies = [{**rule, **owner} for rule in rules]
        if not bodies:
            return []
        try:
            return _create_rules(self.cloud, bodies)
        except Exception as error:
            if in_doubt(error):
                return self._made_all_the_same(group, bodies, error)
            if http_status(error) != 409 or len(bodies) == 1:
                raise
        return [rule_id for body in bodies for rule_id in self._add_one(body)]

    def _made_all_the_same(self, group: Json, bodies: Sequence[Json], error: Exception) -> list[str]:
        """The rules of a call that ended without an answer, when they are there; else raises its error."""
        rules = self.cloud.batch(SECURITY_GROUPS.items).get(group["id"])["security_group_rules"]
        ids = {rule_key(rule): rule["id"] for rule in rules}
        if not ids.keys() >= {rule_key(body) for body in bodies}:
            raise error
        return [str(ids[rule_key(body)]) for body in bodies]

    def _add_one(self, body: Json) -> list[str]:
        try:
            return _create_rules(self.cloud, [body])
        except Exception as error:
            if http_status(error) == 409:
                return []
            raise


def _create_rules(cloud: Cloud, bodies: Sequence[Json]) -> list[str]:
    """The ids of new rules; those of a call that made others than it was asked for are deleted again."""
    answer = call(cloud.neutron, "POST", "/security-group-rules", {"security_group_rules": bodies})
    rules = answer["security_group_rules"]
    there = {_said(rule) for rule in rules}
    if lacking := [body for body in bodies if _said(body) not in there]:
        for rule in rules:
            _drop_rule(cloud, rule["id"])
        wanted = "; ".join(map(_text, lacking))
        raise MadeOtherwiseError(f"the destination made other rules than it was asked for: {wanted}", ASK)
    return [rule["id"] for rule in rules]


def _said(rule: Json) -> tuple[Any, ...]:
    """All that a rule says, and whose it is."""
    owners = (rule["security_group_id"], rule["project_id"], rule.get("description") or "")
    return (*rule_key(rule), *owners)


def _delete_rule(cloud: Cloud, rule_id: str) -> None:
    call(cloud.neutron, "DELETE", f"/security-group-rules/{rule_id}")


def _drop_rule(cloud: Cloud, rule_id: str) -> None:
    """Delete a rule that may have been deleted by an attempt that got no answer."""
    or_none(_delete_rule, cloud, rule_id)


def _mapped_rules(data: Json, ensured: Mapping[str, Ensured]) -> Iterable[Json]:
    """The rules as the destination is to have them; those that cannot be carried are left out."""
    ids = {
        group_id: ensured.get(symbol(Ref(KIND, group_id), "ensured"))
        for group_id in remote_ids(data["rules"])
    }
    for rule in data["rules"]:
        remote_id = rule["remote_group_id"]
        remote = ids.get(remote_id)
        if remote_id and not remote:
            continue
        mapped = {**rule, "remote_group_id": remote["id"] if remote else None}
        if rule["remote_address_group_id"]:
            mapped["remote_address_group_id"] = ensured_id(
                ensured, "address_group", rule["remote_address_group_id"]
            )
        yield {key: value for key, value in mapped.items() if value is not None}


def rule_key(rule: Json) -> Key:
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


def is_default(data: Json) -> bool:
    """Whether it is the group that Neutron itself makes for every tenant; no other can have its name."""
    return bool(data["name"] == DEFAULT)


def remote_ids(rules: Iterable[Json]) -> set[str]:
    """The groups that rules refer to."""
    return {rule["remote_group_id"] for rule in rules if rule["remote_group_id"]}


def address_group_ids(rules: Iterable[Json]) -> set[str]:
    """The address groups that rules refer to."""
    return {rule["remote_address_group_id"] for rule in rules if rule["remote_address_group_id"]}


def rule_differences(record: Record, group: Json, sources: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What rules of the record a group of the destination lacks, and which it has besides, in words.

    sources: the source's ids of the destination's groups and address groups, as far as they are known.
    """
    wanted = {rule_key(rule): rule for rule in record.data["rules"] if _is_carried(record, rule)}
    renamed = [
        {**rule, **{field: sources.get(rule.get(field), rule.get(field)) for field in REMOTES}}
        for rule in group["security_group_rules"]
    ]
    actual = {rule_key(rule): rule for rule in renamed}
    missing = [f"lacks the rule {_text(wanted[key])}" for key in wanted.keys() - actual.keys()]
    extra = [
        f"has the rule {_text(actual[key])}, which the source has not"
        for key in actual.keys() - wanted.keys()
    ]
    return sorted(missing), sorted(extra)


def _is_carried(record: Record, rule: Json) -> bool:
    remote = {need.id for need in record.needs if need.kind == KIND} | {record.ref.id, None}
    return rule["remote_group_id"] in remote


def _text(rule: Json) -> str:
    ends = (rule.get(end) for end in ("port_range_min", "port_range_max"))
    ports = "-".join(str(end) for end in ends if end is not None)
    remotes = (rule.get(field) for field in (*REMOTES, "remote_ip_prefix"))
    remote = next((remote for remote in remotes if remote), "anywhere")
    words = (rule["direction"], rule["ethertype"], rule.get("protocol") or "any protocol", ports, remote)
    return " ".join(word for word in words if word)

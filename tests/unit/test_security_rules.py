"""When two rules of security groups are the same."""

from __future__ import annotations

from typing import Any

import pytest

from pumphouse.model import Json, Record, Ref
from pumphouse.tasks.neutron.security_rules import RULE_FIELDS, rule_differences, rule_key

WEB, DB, OTHER = "group-web", "group-db", "group-of-another-tenant"


def rule(**fields: Any) -> Json:
    return {**dict.fromkeys(RULE_FIELDS), "direction": "ingress", "ethertype": "IPv4", **fields}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"remote_ip_prefix": "0.0.0.0/0"}, {}),
        ({"ethertype": "IPv6", "remote_ip_prefix": "::/0"}, {"ethertype": "IPv6"}),
        ({"protocol": "tcp"}, {"protocol": "6"}),
        ({"protocol": "vrrp"}, {"protocol": "112"}),
        ({"protocol": "icmp", "ethertype": "IPv6"}, {"protocol": "ipv6-icmp", "ethertype": "IPv6"}),
        ({"protocol": "icmpv6", "ethertype": "IPv6"}, {"protocol": "58", "ethertype": "IPv6"}),
        ({"description": "one"}, {"description": "other"}),
    ],
)
def test_the_same_rule_written_in_two_ways(one: Json, other: Json) -> None:
    assert rule_key(rule(**one)) == rule_key(rule(**other))


@pytest.mark.parametrize(
    "fields",
    [
        {"direction": "egress"},
        {"ethertype": "IPv6"},
        {"protocol": "tcp"},
        {"protocol": "0"},
        {"port_range_min": 1},
        {"port_range_max": 1},
        {"remote_ip_prefix": "10.0.0.0/8"},
        {"remote_group_id": WEB},
        {"remote_address_group_id": "addresses"},
    ],
)
def test_every_field_but_the_description_makes_another_rule(fields: Json) -> None:
    assert rule_key(rule(**fields)) != rule_key(rule())


def test_differences_are_told_with_the_groups_of_the_source() -> None:
    rules = [
        rule(remote_group_id=DB),
        rule(protocol="tcp", port_range_min=22, port_range_max=22),
        rule(remote_group_id=OTHER),
        rule(remote_address_group_id="addresses"),
    ]
    record = Record(Ref("security_group", WEB), "web", {"rules": rules}, (Ref("security_group", DB),))
    twin = {
        "security_group_rules": [
            rule(remote_group_id="new-db"),
            rule(protocol="udp", remote_ip_prefix="10.0.0.0/8"),
        ]
    }
    assert rule_differences(record, twin, {"new-db": DB}) == (
        [
            "lacks the rule ingress IPv4 any protocol addresses",
            "lacks the rule ingress IPv4 tcp 22-22 anywhere",
        ],
        ["has the rule ingress IPv4 udp 10.0.0.0/8, which the source has not"],
    )

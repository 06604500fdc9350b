"""Creates of which something else comes, or something else is said: the run mends it or says so, whatever it is."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from lab import Lab
from lab.populate import Sample, populate
from lab.sample.sizes import Sizes
from tests.conftest import Seen
from tests.faults.commands import REVERT, migrate
from tests.faults.driver import LONG_S, Nursery, Operator
from tests.faults.proxy import Proxy
from tests.faults.reference import Reference, undo
from tests.faults.rules import Change, Rule
from tests.faults.world import World
from tests.real.conftest import discard, make_partner
from tests.real.listing import NOTHING, changes, listing

Values = Mapping[str, Mapping[str, Any]]

# Where things are made of each kind, and by which method where that is not POST.
PATHS = {
    "project": "keystone /projects",
    "user": "keystone /users",
    "role": "keystone /roles",
    "group": "keystone /groups",
    "flavor": "nova /flavors",
    "extra_specs": "nova /os-extra_specs",
    "access": "nova /flavors/.*/action",
    "keypair": "nova /os-keypairs",
    "server_group": "nova /os-server-groups",
    "server": "nova /servers",
    "nova_quota": "nova /os-quota-sets/[0-9a-f]+ PUT",
    "cinder_quota": "cinder /os-quota-sets/[0-9a-f]+ PUT",
    "neutron_quota": "neutron /quotas/[0-9a-f]+ PUT",
    "image": "glance /images",
    "member": "glance /members",
    "volume": "cinder /volumes",
    "network": "neutron /networks",
    "subnetpool": "neutron /subnetpools",
    "subnet": "neutron /subnets",
    "address_group": "neutron /address-groups",
    "security_group": "neutron /security-groups",
    "rules": "neutron /security-group-rules",
    "rbac_policy": "neutron /rbac-policies",
    "router": "neutron /routers",
    "port": "neutron /ports",
    "trunk": "neutron /trunks",
    "floatingip": "neutron /floatingips",
    "forwarding": "neutron /port_forwardings",
}
# What an update sets.
FEW: Values = {
    "project": {"project.description": "x"},
    "user": {"user.description": "x", "user.email": "x@y.z", "user.enabled": False},
    "network": {"network.mtu": 1281, "network.name": "x", "network.admin_state_up": False},
    "subnet": {"subnet.dns_nameservers": [], "subnet.name": "x", "subnet.description": "x"},
    "security_group": {"security_group.name": "x", "security_group.description": "x"},
    "router": {"router.name": "x", "router.admin_state_up": False},
    "port": {"port.name": "x", "port.admin_state_up": False, "port.security_groups": []},
    "image": {"name": "x", "min_disk": 2, "os_distro": "x"},
}
MENDED: Values = {
    **FEW,
    "role": {"role.description": "x"},
    "group": {"group.description": "x"},
    "subnetpool": {"subnetpool.name": "x", "subnetpool.default_quota": 7},
    "address_group": {"address_group.name": "x", "address_group.description": "x"},
    "rbac_policy": {"rbac_policy.target_tenant": "*"},
    "trunk": {"trunk.name": "x"},
    # An address is a note.
    "floatingip": {"floatingip.description": "x", "floatingip.floating_ip_address": "172.25.0.9"},
    "forwarding": {"port_forwarding.external_port": 7, "port_forwarding.description": "x"},
    "volume": {"volume.name": "x", "volume.description": "x", "volume.metadata": {}},
}
# What none sets; in several runs, because what needs one of these is not made.
LASTING: dict[str, Values] = {
    "keys and sizes": {
        "keypair": {"keypair.name": "x"},
        "flavor": {"flavor.ram": 65},
        "address_group": {"address_group.addresses": ["192.0.2.1/32"]},
        "volume": {"volume.size": 2},
        "nova_quota": {"quota_set.cores": 999},
        "cinder_quota": {"quota_set.gigabytes": 9999},
        "neutron_quota": {"quota.port": 999},
    },
    "rules and groups": {
        "server_group": {"server_group.policy": "affinity"},
        "rules": {"security_group_rules.0.description": "x"},
        "extra_specs": {"extra_specs.shop:rack": "x"},
        "member": {"member": "x"},
    },
    "servers": {
        "server": {"server.name": "x", "server.config_drive": True},
        "access": {"addTenantAccess.tenant": "x"},
    },
}
# Nova's answers to a boot and to an access tell no field: what it lists afterwards is compared.
CASES = [
    pytest.param(what, of_answer, id=f"{what}-{'answer' if of_answer else 'request'}")
    for what in ("what can be mended", *LASTING)
    for of_answer in (False, True)
    if (what, of_answer) != ("servers", True)
]


def rules(values: Values, *, of_answer: bool) -> dict[str, Rule]:
    """The rules that change what is made of each kind."""
    found = {}
    for kind, changed in values.items():
        service, path, *method = PATHS[kind].split()
        where = {"service": f"destination/{service}", "path": f"{path}$", "method": (*method, "POST")[0]}
        found[kind] = Rule([Change(changed, of_answer)], **where)
    return found


def unchanged(harmful: Mapping[str, Rule]) -> list[str]:
    """The kinds of which nothing was changed."""
    return [k for k, rule in harmful.items() if not any(each.changed for each in rule.actions)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("of_answer", [False, True], ids=["request", "answer"])
def test_what_was_made_otherwise_is_mended(
    world: World, operator: Operator, proxy: Proxy, reference: Reference, of_answer: bool
) -> None:
    harmful = rules(FEW, of_answer=of_answer)
    proxy.rules = list(harmful.values())
    operator.run(*migrate(world)).expect(0)
    proxy.rules = ()
    assert unchanged(harmful) == []
    reference.assert_same()
    undo(operator, reference)


@pytest.fixture(scope="module")
def sample(lab: Lab) -> Iterator[Sample]:
    """A tenant with something of every kind."""
    sample = populate(lab.clouds_yaml, f"changed-{uuid.uuid4().hex[:6]}", Sizes())
    make_partner(lab, sample)
    yield sample
    discard(lab, sample.name)


@pytest.mark.exhaustive
@pytest.mark.timeout(LONG_S)
@pytest.mark.parametrize(("what", "of_answer"), CASES)
def test_nothing_that_was_made_otherwise_is_passed_over(
    lab: Lab,
    sample: Sample,
    nursery: Nursery,
    proxy: Proxy,
    tmp_path: Any,
    seen: Seen,
    what: str,
    of_answer: bool,
) -> None:
    """Each difference that verify finds is of something that failed, or has a note that the plan had not."""
    operator, before = (
        Operator(nursery, lab, tmp_path, proxy.environment),
        listing(lab.clouds_yaml, "destination"),
    )
    operator.configure(volume_format="qcow2")
    command = ("migrate", "tenant", sample.tenant_id)
    planned = operator.run(*command, "--dry-run", "-f", "json").expect(0).json
    harmful = rules(LASTING.get(what, MENDED), of_answer=of_answer)
    proxy.rules = list(harmful.values())
    try:
        report = operator.run(*command, "--yes", "-f", "json").expect(0, 3).json
        proxy.rules = ()
        verified = operator.run("verify", "tenant", sample.tenant_id, "-f", "json").expect(0, 6).json
    finally:
        proxy.rules = ()
        operator.run(*REVERT).expect(0)
    failed = [(item["kind"], item["reason"]) for item in report["resources"] if item["outcome"] == "failed"]
    assert bool(failed) == (what in LASTING), failed
    assert unchanged(harmful) == []
    bad = [found for found in verified["resources"] if found["outcome"] in ("different", "missing", "extra")]
    assert [found for found in bad if not is_said(found, report, planned)] == []
    counts = {verdict: count for verdict, count in verified["summary"].items() if count}
    seen(f"{what}, {'answer' if of_answer else 'request'}: {report['summary']}, verify {counts}")
    assert changes(before, listing(lab.clouds_yaml, "destination")) == NOTHING


def is_said(found: Mapping[str, Any], report: Any, planned: Any) -> bool:
    """Whether a run has said that what verify finds is not there, or not as it was to be, or what it refers to."""
    notes = {(s["kind"], s["id"]): s.get("notes", []) for unit in planned["units"] for s in unit["steps"]}
    outcomes = {(item["kind"], item["source_id"]): item for item in report["resources"]}
    key = found["kind"], planned_id(found, report["tenant"]["id"])
    if key not in outcomes:
        return False
    lost = [item["source_id"] for item in report["resources"] if item["outcome"] not in ("created", "reused")]
    of_lost = any(source_id in json.dumps(found["differences"]) for source_id in lost)
    return key[1] in lost or of_lost or outcomes[key]["notes"] != notes[key]


def planned_id(found: Mapping[str, Any], tenant_id: str) -> str:
    """The id by which a plan knows what verify has found.

    Each limit is a resource for verify, and those of a service are one for a plan; in a plan the id of an assignment
    begins with its tenant's.
    """
    source_id = str(found["source_id"])
    if found["kind"] == "quota":
        return ".".join(source_id.split(".")[:2])
    if found["kind"] == "assignment":
        actor, _, rest = source_id.partition(".")
        return f"{tenant_id}.{'group=' if actor == 'group' else ''}{rest}"
    return source_id

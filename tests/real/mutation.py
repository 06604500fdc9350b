"""What a cloud said of a tenant, said again with one thing changed: whether verify notices any change at all.

What is changed is the answer of the service, and not the resource: most of it no API lets anybody change.
"""

from __future__ import annotations

import copy
import ipaddress
import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

from lab import Lab
from pumphouse.cloud import Cloud
from pumphouse.errors import NotFoundError, http_status
from pumphouse.verify import Finding, Known, Verification, verify
from pumphouse.verify.fields import MARK, STAMP

Json = dict[str, Any]
Path = tuple[str | int, ...]
# The value of what is not there any more.
GONE = object()
# What is put into lists that are empty, and into fields that are, where not any text will do.
EXAMPLES: dict[str, Any] = {
    "allowed_address_pairs": {"ip_address": "192.0.2.9", "mac_address": "fa:16:3e:00:00:09"},
    "attachments": {"server_id": "another", "device": "/dev/sdz"},
    "extra_dhcp_opts": {"opt_name": "mtu", "opt_value": "1400", "ip_version": 4},
    "fixed_ips": {"subnet_id": "another", "ip_address": "192.0.2.9"},
    "host_routes": {"destination": "192.0.2.0/29", "nexthop": "192.0.2.9"},
    "remote_ip_prefix": "192.0.2.0/29",
}
MAPPINGS: dict[str, dict[str, str]] = {}
# A field of each kind, for those who have no time for all.
SOME = {
    ("flavor", "extra_specs.shop:rack"),
    ("floating_ip", "port_id"),
    ("image", "hw_machine_type"),
    ("keypair", "public_key"),
    ("network", "port_security_enabled"),
    ("port", "allowed_address_pairs.*.ip_address"),
    ("router", "routes.*.nexthop"),
    ("security_group", "security_group_rules.*.direction"),
    ("server", "interfaceAttachments.*.tag"),
    ("server_group", "policy"),
    ("subnet", "gateway_ip"),
    ("tenant", "description"),
    ("trunk", "sub_ports.*.segmentation_id"),
    ("user", "enabled"),
    ("volume", "size"),
}
_TIMES = {"created_at", "updated_at", "revision_number", "tenant_id"}
_QOS = {"qos_policy_id"}
# The fields that no migration carries over, by kind: times and numbers of the service, what it says in another place
# again, and what the destination gives. Of all others verify has to notice every change.
NOT_COMPARED: dict[str, set[str]] = {
    "address_group": _TIMES,
    # Each of them is said where it is: the user, the group, the project and the role by themselves.
    "assignment": {
        *("links.assignment", "scope.OS-INHERIT:inherited_to", "role.name"),
        *(
            f"{what}{name}"
            for what in ("group", "user", "scope.project")
            for name in (".name", ".domain.name")
        ),
    },
    "flavor": {"links.*", "links.*.href", "links.*.rel", "flavor_access.*.flavor_id"},
    "floating_ip": {
        *_TIMES,
        *_QOS,
        # The destination gives another, and its router and port say the rest.
        *("floating_ip_address", "router_id", "status", "port_details"),
        *(
            f"port_details.{name}"
            for name in (
                *("admin_state_up", "device_id", "device_owner", "mac_address"),
                *("name", "network_id", "status"),
            )
        ),
        # In the list; verify reads each from its own address.
        "port_forwardings",
        *(
            f"port_forwardings.*.{name}"
            for name in (
                *("external_port", "internal_ip_address", "internal_port", "internal_port_id", "protocol"),
                *("internal_port_range", "external_port_range"),
            )
        ),
    },
    "group": {"links.self"},
    # With another algorithm the checksum is compared.
    "image": {
        *_TIMES,
        *("file", "schema", "self", "stores", "virtual_size", "os_hash_algo"),
        *(f"members.*.{name}" for name in ("created_at", "updated_at", "image_id", "schema")),
    },
    "keypair": set(),
    "network": {
        *_TIMES,
        *_QOS,
        *("availability_zones", "ipv4_address_scope", "ipv6_address_scope", "status", "subnets.*"),
        *(f"provider:{name}" for name in ("network_type", "physical_network", "segmentation_id")),
    },
    "port": {
        *_TIMES,
        *_QOS,
        # Behind the colon of the owner of a server's port is where its host is.
        *("qos_network_policy_id", "resource_request", "status", "device_owner"),
        *(f"binding:{name}" for name in ("host_id", "profile", "vif_details", "vif_type")),
        *("binding:vif_details.bound_drivers.0", "binding:vif_details.port_filter"),
        "dns_assignment.*",
        *(f"dns_assignment.*.{name}" for name in ("fqdn", "hostname", "ip_address")),
        *("trunk_details.trunk_id", "trunk_details.sub_ports.*"),
        *(
            f"trunk_details.sub_ports.*.{name}"
            for name in ("mac_address", "port_id", "segmentation_id", "segmentation_type")
        ),
    },
    "rbac_policy": {"tenant_id"},
    # Of single domains there are roles that no list has: one that is missing in it is asked for by its id.
    "role": {"links.self", "all of it"},
    "router": {
        *_TIMES,
        *("availability_zones", "distributed", "flavor_id", "ha", "status"),
        *(f"external_gateway_info.external_fixed_ips.*{name}" for name in ("", ".ip_address", ".subnet_id")),
    },
    "security_group": {
        *_TIMES,
        "shared",
        *(
            f"security_group_rules.*.{name}"
            for name in (
                *("belongs_to_default_sg", "created_at", "normalized_cidr", "project_id", "revision_number"),
                *("security_group_id", "standard_attr_id", "tenant_id", "updated_at"),
            )
        ),
    },
    "server": {
        *(
            f"OS-EXT-SRV-ATTR:{name}"
            for name in (
                *("host", "hypervisor_hostname", "instance_name"),
                *("launch_index", "reservation_id"),
            )
        ),
        *(f"OS-EXT-STS:{name}" for name in ("power_state", "task_state", "vm_state")),
        *("OS-SRV-USG:launched_at", "OS-SRV-USG:terminated_at", "created", "updated"),
        *("hostId", "host_status", "pinned_availability_zone", "progress", "user_id"),
        *("image.links.*", "image.links.*.href", "image.links.*.rel", "security_groups.*"),
        *("links.*", "links.*.href", "links.*.rel", "security_groups.*.name"),
        # That it has any is all that is read there; they themselves are asked for.
        *(f"os-extended-volumes:volumes_attached{name}" for name in ("", ".*", ".*.delete_on_termination")),
        # The last of them is a floating address, which is compared by itself.
        *(f"addresses.{net}.*" for net in ("front", "back", "storage")),
        *(
            f"addresses.{net}.*.{name}"
            for net in ("front", "back", "storage")
            for name in ("OS-EXT-IPS:type", "version")
        ),
        *(f"volumeAttachments.*.{name}" for name in ("attachment_id", "bdm_uuid", "serverId")),
        *(f"interfaceAttachments.*{name}" for name in ("", ".fixed_ips.*", ".net_id", ".port_state")),
        *(f"interfaceAttachments.*.fixed_ips.*.{name}" for name in ("ip_address", "subnet_id")),
        *("interfaceAttachments.*.mac_addr", "interfaceAttachments.*.port_id"),
    },
    "server_group": {"user_id"},
    "subnet": {*_TIMES, "router:external"},
    "subnet_pool": {*_TIMES, "address_scope_id", "is_default"},
    "tenant": {"is_domain", "links.self"},
    "trunk": {*_TIMES, "status"},
    "user": {"links.self", "password_expires_at"},
    "volume": {
        *_TIMES,
        *("links.*", "links.*.href", "links.*.rel"),
        *(f"attachments.*.{name}" for name in ("attached_at", "attachment_id", "host_name", "volume_id")),
        *("consistencygroup_id", "migration_status", "replication_status", "snapshot_id", "source_volid"),
        *("os-vol-host-attr:host", "os-vol-mig-status-attr:migstat", "os-vol-mig-status-attr:name_id"),
        *("user_id", "volume_image_metadata.signature_verified"),
    },
}


@dataclass
class Recorded:
    """A cloud that repeats its answers: the first time it is asked it asks the service."""

    cloud: Cloud
    answers: dict[str, str] = field(default_factory=dict)
    changed: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ask = self.cloud.session.request
        self.cloud.session.request = self._answer

    def _answer(self, url: str, method: str, **options: Any) -> Any:
        service = (options.get("endpoint_filter") or {}).get("service_type")
        if service is None or options.get("authenticated") is False:
            return self._ask(url, method, **options)
        key = json.dumps([service, method, url, options.get("params") or {}], default=list)
        if key not in self.answers:
            answer = self._ask(url, method, **options)
            if answer.status_code >= 400:
                return answer
            self.answers[key] = answer.text
        body = self.changed[key] if key in self.changed else json.loads(self.answers[key])
        return SimpleNamespace(status_code=200, content=b"{}", json=lambda: copy.deepcopy(body))


class Mutation(NamedTuple):
    """One change of an answer.

    finding: the resource that verify has to name; path: where in the answer it is; field: where in the resource.
    """

    finding: Finding
    answer: str
    path: Path
    field: Path
    value: Any

    @property
    def name(self) -> str:
        """The field as a table calls it."""
        return ".".join("*" if isinstance(part, int) else part for part in self.field) or "all of it"


@dataclass
class Bench:
    """A tenant that has moved, and what both clouds say of it."""

    source: Recorded
    destination: Recorded
    tenant_id: str
    known: Known

    @classmethod
    def of(cls, lab: Lab, tenant_id: str, known: Known) -> Bench:
        """Read both clouds once."""
        clouds = [
            Recorded(Cloud.from_clouds_yaml(name, clouds_file=lab.clouds_yaml, read_only=True))
            for name in ("source", "destination")
        ]
        return cls(clouds[0], clouds[1], tenant_id, known)

    def verify(self) -> Verification:
        """What verify says of what both clouds say."""
        return verify(self.source.cloud, self.destination.cloud, self.tenant_id, MAPPINGS, self.known)

    def is_noticed(self, mutation: Mutation) -> bool:
        """Whether verify finds the resource wrong, or ends because it is not there at all."""
        body = json.loads(self.destination.answers[mutation.answer])
        _change(body, (*mutation.path, *mutation.field), mutation.value)
        self.destination.changed = {mutation.answer: body}
        wanted = mutation.finding
        try:
            found = self.verify().findings
        except NotFoundError:
            return True
        except Exception as error:
            if http_status(error) is None:
                raise
            return True
        finally:
            self.destination.changed = {}
        return any(f.is_bad and (f.kind, f.source_id) == (wanted.kind, wanted.source_id) for f in found)

    def mutations(self) -> Iterator[Mutation]:
        """Each field of each resource of the destination, changed; and each resource, gone."""
        found = self.verify()
        assert found.is_equal, [each for each in found.findings if each.is_bad]
        compared = {each.destination_id: each for each in found.findings if each.compared}
        for answer, text in sorted(self.destination.answers.items()):
            _, _, url, params = json.loads(answer)
            # Counted by itself, and no part of the user that it is asked of.
            if url.endswith("/application_credentials"):
                continue
            part_of = next((compared[part] for part in url.split("/") if part in compared), None)
            if part_of and part_of.kind != "tenant" and not url.startswith("/groups/"):
                for where, value in _changes(json.loads(text)):
                    yield Mutation(part_of, answer, (), where, value)
                continue
            # The ports of routers, and what is asked for by its name, are in other lists as well.
            if {"network_id", "device_id", "name"} & params.keys() or url.startswith("/groups/"):
                continue
            for path, item in _items(json.loads(text)):
                finding = compared.get(_id(answer, item))
                if finding is None or (finding.kind == "assignment") != ("role" in item and "scope" in item):
                    continue
                yield Mutation(finding, answer, path, (), GONE)
                for where, value in _changes(item):
                    yield Mutation(finding, answer, path, where, value)

    def noticed(self, only: Collection[tuple[str, str]] = ()) -> dict[tuple[str, str], list[bool]]:
        """Whether verify notices each change, by kind and field; each of them at one resource, and each resource gone.

        only: the fields to change; all where none is named.
        """
        found: dict[tuple[str, str], list[bool]] = defaultdict(list)
        for mutation in self.mutations():
            key = (mutation.finding.kind, mutation.name)
            # By its id, its stamp and its mark a resource is found: they are no part of it.
            if mutation.name.rpartition(".")[2] in ("id", STAMP, MARK) or (only and key not in only):
                continue
            if key not in found or (not only and mutation.value is GONE):
                found[key].append(self.is_noticed(mutation))
        return dict(found)


def _items(body: Any) -> Iterator[tuple[Path, Json]]:
    """The resources of a list call."""
    for key, listed in body.items() if isinstance(body, dict) else ():
        for number, item in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(item, dict):
                yield (
                    ((key, number, "keypair"), item["keypair"])
                    if "keypair" in item
                    else ((key, number), item)
                )


def _id(answer: str, item: Json) -> str:
    """The id of a resource as verify writes it."""
    if "public_key" in item:
        return f"{json.loads(answer)[3]['user_id']}.{item['name']}"
    if "role" in item and "scope" in item:
        actor = "user" if "user" in item else "group"
        inherited = ["inherited"] * ("OS-INHERIT:inherited_to" in item["scope"])
        return ".".join((actor, item[actor]["id"], item["role"]["id"], *inherited))
    return str(item.get("id"))


def _change(body: Any, path: Path, value: Any) -> None:
    if value is GONE and path[-1] == "keypair":
        path = path[:-1]
    for part in path[:-1]:
        body = body[part]
    if value is GONE:
        del body[path[-1]]
    else:
        body[path[-1]] = value


def _changes(value: Any, name: str = "") -> Iterator[tuple[Path, Any]]:
    """Other values of the parts of a value, each with where it is."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            for path, other in _changes(part, key):
                yield (key, *path), other
    elif isinstance(value, list) and value:
        if own := [n for n, part in enumerate(value) if not str(part).startswith(STAMP)]:
            yield (own[-1],), GONE
        for path, other in _changes(value[0], name):
            yield (0, *path), other
    else:
        yield (), _other(value, name)


def _other(value: Any, name: str) -> Any:
    """Another value that the services might tell."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case None:
            return EXAMPLES.get(name, "another")
        case dict():
            return {"another": "another"}
        case list():
            return [EXAMPLES.get(name, "another")]
    if value.lower() in ("true", "false"):
        return "false" if value.lower() == "true" else "true"
    for kind, other in ((ipaddress.ip_address, "192.0.2.77"), (ipaddress.ip_network, "192.0.2.64/29")):
        try:
            kind(value)
        except ValueError:
            continue
        return other
    return str(int(value) + 1) if value.isdigit() else f"{value}x"

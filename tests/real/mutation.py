"""What a cloud said of a tenant, said again with one thing changed: whether verify notices any change at all.

What is changed is the answer of the service, and not the resource: some of it no API lets anybody change.
"""

from __future__ import annotations

import copy
import ipaddress
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

from lab import Lab
from pumphouse.cloud import Cloud
from pumphouse.verify import Finding, Known, Verification, verify

Json = dict[str, Any]
Path = tuple[str | int, ...]
MAPPINGS: dict[str, dict[str, str]] = {}


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
        params = options.get("params") or {}
        key = json.dumps([service, method, url, params], default=list)
        if key not in self.answers:
            answer = self._ask(url, method, **options)
            if answer.status_code >= 400:
                return answer
            self.answers[key] = answer.text
        body = self.changed[key] if key in self.changed else json.loads(self.answers[key])
        return SimpleNamespace(status_code=200, content=b"{}", json=lambda: copy.deepcopy(body))


class Mutation(NamedTuple):
    """One change: the resource that verify has to name, the field, and the answer that is changed.

    path: where in the answer the resource is; field: where in the resource, empty where all of it is gone.
    """

    finding: Finding
    answer: str
    path: Path
    field: Path
    value: Any = None

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
        bench = cls(clouds[0], clouds[1], tenant_id, known)
        bench.verify()
        return bench

    def verify(self) -> Verification:
        """What verify says of what both clouds say."""
        return verify(self.source.cloud, self.destination.cloud, self.tenant_id, MAPPINGS, self.known)

    def named(self, mutation: Mutation) -> list[Finding]:
        """What verify finds wrong with it."""
        body = json.loads(self.destination.answers[mutation.answer])
        _change(body, (*mutation.path, *mutation.field), mutation.value)
        self.destination.changed = {mutation.answer: body}
        try:
            return [found for found in self.verify().findings if found.is_bad]
        finally:
            self.destination.changed = {}

    def mutations(self) -> Iterator[Mutation]:
        """Each field of each resource of the destination, changed; and each resource, gone."""
        found = self.verify()
        assert found.is_equal, [each for each in found.findings if each.is_bad]
        compared = {each.destination_id: each for each in found.findings if each.compared}
        for answer, text in sorted(self.destination.answers.items()):
            for path, item in _items(json.loads(text)):
                finding = compared.get(_id(answer, item))
                if finding is None:
                    continue
                yield Mutation(finding, answer, path, ())
                for where, value in _changes(item):
                    yield Mutation(finding, answer, path, where, value)


def _items(body: Any) -> Iterator[tuple[Path, Json]]:
    """The resources of a list call."""
    for key, listed in body.items() if isinstance(body, dict) else ():
        if isinstance(listed, list):
            for number, item in enumerate(listed):
                if isinstance(item, dict):
                    inner = "keypair" if "keypair" in item else None
                    yield (key, number, inner) if inner else (key, number), item[inner] if inner else item


def _id(answer: str, item: Json) -> str:
    """The id of a resource as verify writes it."""
    if "public_key" in item:
        user_id = json.loads(answer)[3]["user_id"]
        return f"{user_id}.{item['name']}"
    if "role" in item and "scope" in item:
        actor = "user" if "user" in item else "group"
        inherited = ["inherited"] * ("OS-INHERIT:inherited_to" in item["scope"])
        return ".".join((actor, item[actor]["id"], item["role"]["id"], *inherited))
    return str(item.get("id"))


def _change(body: Any, path: Path, value: Any) -> None:
    for part in path[:-1]:
        body = body[part]
    if value is GONE:
        del body[path[-1]]
    else:
        body[path[-1]] = value


GONE = object()


def _changes(value: Any) -> Iterator[tuple[Path, Any]]:
    """Other values of the parts of a value, each with where it is."""
    if isinstance(value, dict):
        for key, part in value.items():
            for path, other in (
                _changes(part) if isinstance(part, dict | list) and part else [((), _other(part))]
            ):
                yield (key, *path), other
    elif isinstance(value, list):
        yield (len(value) - 1,), GONE
        if isinstance(value[0], dict | list):
            for path, other in _changes(value[0]):
                yield (0, *path), other
        else:
            yield (0,), _other(value[0])


def _other(value: Any) -> Any:
    """Another value that the services might tell."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case None:
            return "another"
        case dict():
            return {"another": "another"}
        case list():
            return ["another"]
    for kind in (ipaddress.ip_address, ipaddress.ip_network):
        try:
            address = kind(value)
        except ValueError:
            continue
        return (
            "192.0.2.77"
            if kind is ipaddress.ip_address
            else "192.0.2.64/29"
            if address.version == 4
            else "2001:db8:77::/64"
        )
    return str(int(value) + 1) if value.isdigit() else f"{value}x"

"""What can be odd about a cloud, each as a change of what it is asked and answers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.faults.rules import Action, Answer, Request

NOWHERE = "http://127.0.0.1:9"


class Trait:
    """Nothing odd, as long as no method is overridden."""

    def path(self, kind: str, path: str) -> str:
        """What is asked for of a service of a type."""
        return path

    def action(self, request: Request) -> Action | None:
        """What is done to a request; None for nothing."""
        return None

    def answer(self, request: Request, body: Any) -> Any:
        """What is answered in JSON."""
        token = body.get("token") if isinstance(body, dict) else None
        if isinstance(token, dict) and "catalog" in token:
            return {**body, "token": {**token, "catalog": self.catalog(token["catalog"], token)}}
        return self.body(request, body)

    def catalog(self, entries: list[Any], token: Mapping[str, Any]) -> list[Any]:
        """The catalog of a token."""
        return entries

    def body(self, request: Request, body: Any) -> Any:
        """What is answered to anything but a login."""
        return body


@dataclass(frozen=True)
class Without(Trait):
    """Services that the catalog does not have."""

    kinds: Collection[str]

    def catalog(self, entries: list[Any], token: Mapping[str, Any]) -> list[Any]:
        return [entry for entry in entries if entry["type"] not in self.kinds]


@dataclass(frozen=True)
class Versioned(Trait):
    """What the endpoints of services end with; `{project}` is the project's id."""

    ends: Mapping[str, str]
    types: Mapping[str, str]

    def catalog(self, entries: list[Any], token: Mapping[str, Any]) -> list[Any]:
        project = token.get("project", {}).get("id", "")
        for entry in entries:
            for endpoint in entry["endpoints"]:
                endpoint["url"] += self.ends.get(entry["type"], "").format(project=project)
            entry["type"] = self.types.get(entry["type"], entry["type"])
        return entries


@dataclass(frozen=True)
class OldCinders(Trait):
    """The catalog has the first two APIs of Cinder as well, as all had until Stein, and they come first."""

    def catalog(self, entries: list[Any], token: Mapping[str, Any]) -> list[Any]:
        (third,) = [entry for entry in entries if entry["type"].startswith(("block", "volume"))][:1]
        others = [entry for entry in entries if entry is not third and entry["type"] != third["type"]]
        older = [
            {
                **third,
                "id": f"{third['id']}{version}",
                "type": kind,
                "endpoints": [
                    {**item, "id": f"{item['id']}{version}", "url": f"{item['url']}/{version}/p"}
                    for item in third["endpoints"]
                ],
            }
            for kind, version in (("volume", "v1"), ("volumev2", "v2"))
        ]
        newest = [{**item, "url": f"{item['url']}/v3"} for item in third["endpoints"]]
        return [*older, {**third, "type": "volumev3", "endpoints": newest}, *others]


@dataclass(frozen=True)
class Regions(Trait):
    """Another region whose endpoints come first and lead nowhere."""

    name: str = "elsewhere"

    def catalog(self, entries: list[Any], token: Mapping[str, Any]) -> list[Any]:
        changed = {"region": self.name, "region_id": self.name, "url": NOWHERE}
        return [
            {
                **e,
                "endpoints": [
                    *({**i, **changed, "id": f"{i['id']}e"} for i in e["endpoints"]),
                    *e["endpoints"],
                ],
            }
            for e in entries
        ]


@dataclass(frozen=True)
class Only(Trait):
    """One of the interfaces leads to the services, the others nowhere."""

    interface: str

    def catalog(self, entries: list[Any], token: Mapping[str, Any]) -> list[Any]:
        for endpoint in (endpoint for entry in entries for endpoint in entry["endpoints"]):
            endpoint["url"] = endpoint["url"] if endpoint["interface"] == self.interface else NOWHERE
        return entries


@dataclass(frozen=True)
class Paged(Trait):
    """Lists have so many items at most."""

    most: int
    lists: ClassVar = {
        "compute": r"^/v2.1/(servers|servers/detail|flavors|flavors/detail|os-keypairs|os-server-groups)$",
        "network": r"^/v2.0/([a-z-]+|floatingips/[^/]+/port_forwardings)$",
        "image": r"^/v2/images$",
        "block-storage": r"^/v3/[^/]+/(volumes|snapshots|backups|types|groups)(/detail)?$|^/v3/(volumes|snapshots|backups|types|groups)(/detail)?$",
        "identity": r"^/v3/(users|projects|groups|domains|credentials)$",
    }

    def path(self, kind: str, path: str) -> str:
        parts = urlsplit(path)
        if not re.search(self.lists.get(kind, "^$"), parts.path):
            return path
        query = parse_qs(parts.query, keep_blank_values=True)
        asked = int(query.get("limit", [str(self.most)])[0])
        query["limit"] = [str(min(asked, self.most))]
        return f"{parts.path}?{urlencode(query, doseq=True)}"


@dataclass(frozen=True)
class NoExtensions(Trait):
    """Extensions of Neutron that are not loaded, with their paths and fields."""

    aliases: Collection[str]
    paths: str
    fields: Collection[str] = ()

    def action(self, request: Request) -> Action | None:
        if request.service.endswith("/neutron") and re.search(self.paths, request.path):
            return Answer(404)
        return None

    def body(self, request: Request, body: Any) -> Any:
        if not request.service.endswith("/neutron") or not isinstance(body, dict):
            return body
        if "extensions" in body:
            return {"extensions": [e for e in body["extensions"] if e["alias"] not in self.aliases]}
        return _stripped(body, self.fields)


def _stripped(value: Any, fields: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {k: _stripped(v, fields) for k, v in value.items() if k not in fields}
    return [_stripped(item, fields) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class NoHashes(Trait):
    """Glance has no hashes but MD5, no hidden images, and cannot be asked for all visibilities: as before Rocky."""

    def action(self, request: Request) -> Action | None:
        is_unknown = "visibility=all" in request.path and request.service.endswith("/glance")
        return Answer(400) if is_unknown else None

    def body(self, request: Request, body: Any) -> Any:
        if not request.service.endswith("/glance"):
            return body
        if "os_hidden=" in request.path:  # a property that no image has
            return {**body, "images": []}
        return _stripped(body, ("os_hash_algo", "os_hash_value", "os_hidden"))


@dataclass(frozen=True)
class Forbidden(Trait):
    """Requests that a policy forbids even to administrators.

    service: the last part of a service's name; method, place, sent: regular expressions, of which the last two match
        somewhere in the path and in the body.
    """

    service: str
    method: str
    place: str
    sent: str = ""

    def action(self, request: Request) -> Action | None:
        is_forbidden = (
            request.service.endswith(f"/{self.service}")
            and re.fullmatch(self.method, request.method)
            and re.search(self.place, request.path)
            and re.search(self.sent.encode(), request.body)
        )
        return Answer(403) if is_forbidden else None


@dataclass(frozen=True)
class Zones(Trait):
    """What a tenant has is in several availability zones.

    zones: of servers and volumes by their names.
    """

    zones: Mapping[str, str]

    def body(self, request: Request, body: Any) -> Any:
        return _zoned(body, self.zones)


def _zoned(value: Any, zones: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_zoned(item, zones) for item in value]
    if not isinstance(value, dict):
        return value
    zone = zones.get(str(value.get("name")))
    return {k: zone if zone and "availability_zone" in k else _zoned(v, zones) for k, v in value.items()}


@dataclass(frozen=True)
class Limits(Trait):
    """All quotas have one value."""

    value: int

    def body(self, request: Request, body: Any) -> Any:
        return self._limited(body) if re.search(r"/(os-quota-sets|quotas)/", request.path) else body

    def _limited(self, value: Any) -> Any:
        if isinstance(value, dict):
            kept = ("in_use", "used", "reserved")
            return {k: v if k in kept else self._limited(v) for k, v in value.items()}
        return self.value if isinstance(value, int) else value


@dataclass(frozen=True)
class Capped(Trait):
    """A service has no later microversion."""

    most: str
    service: str = "nova"

    def body(self, request: Request, body: Any) -> Any:
        if request.service.endswith(f"/{self.service}") and isinstance(body, dict):
            for version in [*body.get("versions", ()), *([body["version"]] if "version" in body else ())]:
                if version.get("version"):
                    version["version"] = self.most
        return body

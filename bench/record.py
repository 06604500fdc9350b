"""Record what clouds of releases of OpenStack answer while a plan is made, for tests without a cloud.

    python -m bench.record [RELEASE ...]

For each release that the lab knows, or those that are named: makes a lab with a source of it, migrates a small tenant
to the newest release and another one back, and writes what both clouds then answer to plans of both as
tests/recorded/RELEASE.json. No answer to a login is among it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from keystoneauth1.exceptions import from_response

from bench.fidelity import run, write_config
from lab import Lab
from lab.populate import populate
from lab.release import NEWEST, RELEASES
from lab.sample.base import Sizes
from pumphouse.cloud import Cloud
from pumphouse.cloud.check import check_clouds
from pumphouse.cloud.services import service_types
from pumphouse.config.settings import CloudConfig, Config
from pumphouse.plan.make import make_plan

OLDER = [release for release in RELEASES if release != NEWEST.name]
RECORDED = Path(__file__).parents[1] / "tests" / "recorded"
# One of each form that differs between releases.
FORTH = Sizes(users=2, images=3, networks=3, security_groups=2, volumes=2, servers=3, image_mib=1, disk_mib=1)
BACK = Sizes(users=2, images=1, networks=1, security_groups=1, volumes=1, servers=1, image_mib=1, disk_mib=1)


class Recorder:
    """A cloud whose answers to what is read are kept."""

    def __init__(self, name: str, clouds_yaml: Path) -> None:
        self.cloud = Cloud.from_clouds_yaml(name, clouds_file=clouds_yaml, read_only=True)
        self._responses: list[Any] = []
        self._send = self.cloud.session.request
        self.cloud.session.request = self._request  # type: ignore[method-assign]

    def _request(self, url: str, method: str, **options: Any) -> Any:
        response = self._send(url, method, **{**options, "raise_exc": False})
        if method == "GET":
            self._responses.append(response)
        if options.get("raise_exc", True) and response.status_code >= 400:
            raise from_response(response, method, url)
        return response

    def recorded(self) -> dict[str, Any]:
        """The catalog and the answers by their URLs, which have @ and the service's type for host and port."""
        catalog = self.cloud.access.service_catalog.catalog
        urls = {kind: entry["endpoints"][0]["url"] for entry in catalog for kind in service_types([entry])}

        def placed(text: str) -> str:
            for kind, url in urls.items():
                text = text.replace(f"http://{urlsplit(url).netloc}", f"@/{kind}")
            return text

        return {
            "user": self.cloud.user_id,
            "project": self.cloud.project_id,
            "catalog": {kind: placed(url) for kind, url in urls.items()},
            "answers": merged(
                {
                    _sorted(placed(r.request.url)): (
                        _cut(json.loads(placed(r.text))) if r.status_code < 400 else r.status_code
                    )
                    for r in self._responses
                }
            ),
        }


def merged(answers: dict[str, Any]) -> dict[str, Any]:
    """The answers, with one list of each path in the place of those that a query by fields has parts of."""
    kept: dict[str, Any] = {}
    items: dict[str, dict[str, Any]] = {}
    for asked, answer in answers.items():
        path, _, query = asked.partition("?")
        if not _is_part(answer, [name for name, _ in parse_qsl(query)]):
            kept[asked] = answer
            continue
        ((name, listed),) = ((name, value) for name, value in answer.items() if isinstance(value, list))
        items.setdefault(path, {}).update({item["id"]: item for item in listed})
        kept[path] = {**answer, name: list(items[path].values())}
    return kept


def _is_part(answer: Any, names: list[str]) -> bool:
    """Whether an answer is a list of what has ids, and all that was asked for are plain fields of each."""
    lists = (
        [value for value in answer.values() if isinstance(value, list)] if isinstance(answer, dict) else []
    )
    return len(lists) == 1 and bool(lists[0]) and all(_has(item, ["id", *names]) for item in lists[0])


def _has(item: Any, names: list[str]) -> bool:
    return isinstance(item, dict) and all(not isinstance(item.get(name, []), list) for name in names)


def _sorted(path: str) -> str:
    """A path with its query in order, by which it is found again."""
    parts = urlsplit(path)
    return "?".join(filter(None, [parts.path.rstrip("/"), urlencode(sorted(parse_qsl(parts.query)))]))


def _cut(answer: Any) -> Any:
    """An answer without the addresses of what is in it; those of the versions of an API are needed."""
    if isinstance(answer, list):
        return [_cut(item) for item in answer]
    if not isinstance(answer, dict) or {"version", "versions"} & answer.keys():
        return answer
    if "extensions" in answer:
        return {"extensions": [{"alias": extension["alias"]} for extension in answer["extensions"]]}
    return {name: _cut(value) for name, value in answer.items() if name != "links"}


def record(lab: Lab, folder: Path) -> dict[str, Any]:
    """What both clouds of a lab answer, after a tenant has moved each way."""
    tenants = {"forth": _move(lab, folder / "forth", FORTH), "back": _move(lab, folder / "back", BACK)}
    recorders = [Recorder(name, lab.clouds_yaml) for name in ("source", "destination")]
    clouds = [recorder.cloud for recorder in recorders]
    found = check_clouds(*clouds)
    releases = [found.source.release, found.destination.release]
    for tenant_id, pair in zip(tenants.values(), (clouds, clouds[::-1]), strict=True):
        _plan(*pair, tenant_id)
    return {
        "releases": releases,
        **tenants,
        **{recorder.cloud.name: recorder.recorded() for recorder in recorders},
    }


def _move(lab: Lab, folder: Path, sizes: Sizes) -> str:
    """Migrate a sample tenant named as the way that it goes; its id."""
    folder.mkdir()
    way = ("source", "destination") if folder.name == "forth" else ("destination", "source")
    sample = populate(lab.clouds_yaml, folder.name, sizes, cloud=way[0])
    config = write_config(folder, lab.clouds_yaml)
    clouds = ("--source-cloud", way[0], "--destination-cloud", way[1])
    run(config, "migrate", "tenant", sample.tenant_id, "--yes", *clouds)
    return sample.tenant_id


def _plan(source: Cloud, destination: Cloud, tenant_id: str) -> None:
    config = Config(source=CloudConfig(), destination=CloudConfig())
    with ThreadPoolExecutor(8) as pool:
        make_plan(source, destination, tenant_id, config, pool)


def text_of(recorded: dict[str, Any]) -> str:
    """What was recorded as JSON, with a line for each answer."""
    text = json.dumps(recorded, separators=(",", ":"), sort_keys=True)
    return re.sub(r',"@/', r',\n"@/', text) + "\n"


def main() -> int:
    """Record each release that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("releases", nargs="*", help=f"of {', '.join(OLDER)}; all by default")
    for release in parser.parse_args().releases or OLDER:
        with tempfile.TemporaryDirectory(prefix="record-") as folder:
            lab = Lab(Path(folder) / "lab")
            try:
                lab.up(releases={"source": release})
                (RECORDED / f"{release}.json").write_text(text_of(record(lab, Path(folder))))
            finally:
                lab.down(purge=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The proxy itself: what it lets through arrives unchanged, and what it harms is harmed as it says."""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from lab import Lab
from lab.sample.base import MIB, connect, until
from tests.conftest import Seen
from tests.faults.proxy import Proxy
from tests.faults.rules import (
    IMAGE_BYTES,
    Action,
    Answer,
    Corrupt,
    CutAfter,
    CutBefore,
    Delay,
    Hold,
    RefuseUpload,
    Request,
    Rule,
    Truncate,
    one_in_ten,
)

CONTENT = random.Random("proxy").randbytes(3 * MIB)


class Glance:
    """The source's Glance, as a client behind the proxy sees it."""

    def __init__(self, lab: Lab, proxy: Proxy) -> None:
        self.url = f"{lab.clouds()[0].url('glance')}/v2/images"
        self.connection = connect(lab.clouds_yaml, "source")
        self.name = f"proxy-{time.time_ns()}"
        self.client = requests.Session()
        self.client.trust_env = False
        self.client.proxies = {"http": proxy.environment["http_proxy"]}
        self.client.headers["X-Auth-Token"] = str(self.connection.auth_token)

    def make(self) -> requests.Response:
        body = {"name": self.name, "disk_format": "raw", "container_format": "bare"}
        return self.client.post(self.url, json=body)

    def upload(self, image_id: str, content: bytes = CONTENT) -> requests.Response:
        headers = {"Content-Type": "application/octet-stream"}
        return self.client.put(f"{self.url}/{image_id}/file", data=content, headers=headers)

    def download(self, image_id: str) -> bytes:
        return self.client.get(f"{self.url}/{image_id}/file").content

    def statuses(self) -> list[str]:
        """Of all images of this test, asked without the proxy."""
        return [image.status for image in self.connection.image.images(name=self.name)]


@pytest.fixture
def glance(lab: Lab, proxy: Proxy) -> Iterator[Glance]:
    glance = Glance(lab, proxy)
    yield glance
    for image in glance.connection.image.images(name=glance.name):
        glance.connection.image.delete_image(image)


@pytest.fixture
def image_id(glance: Glance) -> str:
    image_id = str(glance.make().json()["id"])
    assert glance.upload(image_id).status_code == 204
    return image_id


def test_pumphouse_talks_to_both_clouds_through_it(lab: Lab, proxy: Proxy, tmp_path: Path) -> None:
    config = tmp_path / "pumphouse.yaml"
    clouds = "source: {cloud: source}\ndestination: {cloud: destination}\n"
    config.write_text(f"clouds_file: {lab.clouds_yaml}\n{clouds}")
    command = [sys.executable, "-m", "pumphouse", "check", "--config", str(config)]
    subprocess.run(command, env={**os.environ, **proxy.environment}, check=True, capture_output=True)
    services = {exchange.request.service for exchange in proxy.exchanges}
    assert services >= {
        f"{cloud.name}/{name}" for cloud in lab.clouds() for name in ("keystone", "glance", "nova")
    }


def test_bytes_arrive_unchanged_and_are_counted(proxy: Proxy, glance: Glance, image_id: str) -> None:
    assert glance.download(image_id) == CONTENT
    assert proxy.uploaded == proxy.downloaded == {f"source/{image_id}": len(CONTENT)}


def test_one_connection_carries_request_after_request(lab: Lab, proxy: Proxy) -> None:
    address = urlsplit(proxy.environment["http_proxy"])
    connection = http.client.HTTPConnection(str(address.hostname), address.port)
    connection.connect()
    connection.auto_open = 0
    proxy.rules = [Rule([Answer(503)], skip=3, count=1)]
    found = []
    for _ in range(6):
        connection.request("GET", f"{lab.clouds()[0].url('keystone')}/v3")
        response = connection.getresponse()
        found.append((response.status, bool(response.read())))
    connection.close()
    assert found == [(200, True)] * 3 + [(503, True)] + [(200, True)] * 2


def test_memory_stays_bounded(glance: Glance, seen: Seen) -> None:
    size_bytes = 96 * MIB
    image_id = str(glance.make().json()["id"])
    process, peak_bytes, done = psutil.Process(), 0, threading.Event()
    before_bytes = process.memory_info().rss

    def watch() -> None:
        nonlocal peak_bytes
        while not done.wait(0.02):
            peak_bytes = max(peak_bytes, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with Path("/dev/zero").open("rb") as zeros, Path("/dev/null").open("wb") as nowhere:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
        url = f"{glance.url}/{image_id}/file"
        blocks = (zeros.read(MIB) for _ in range(size_bytes // MIB))
        prepared = glance.client.prepare_request(requests.Request("PUT", url, headers=headers))
        prepared.body = blocks
        assert glance.client.send(prepared, proxies=glance.client.proxies).status_code == 204
        with glance.client.get(url, stream=True) as response:
            copied = sum(nowhere.write(block) for block in response.iter_content(MIB))
    done.set()
    watcher.join()
    seen(f"{size_bytes >> 20} MiB each way: {(peak_bytes - before_bytes) / MIB:.1f} MiB more memory")
    assert copied == size_bytes
    assert peak_bytes - before_bytes < 24 * MIB


@pytest.mark.parametrize("status", [401, 403, 409, 413, 429, 500, 503])
def test_an_answer_of_its_own_reaches_the_client_and_the_request_no_service(
    proxy: Proxy, glance: Glance, status: int
) -> None:
    proxy.rules = [Rule([Answer(status, 7 if status == 429 else None)], method="POST", path="/v2/images$")]
    response = glance.make()
    assert response.status_code == status
    assert response.headers.get("Retry-After") == ("7" if status == 429 else None)
    assert response.json()["error"]["code"] == status
    assert glance.statuses() == []
    assert (proxy.exchanges[-1].status, proxy.exchanges[-1].action) == (status, str(status))


@pytest.mark.parametrize(("action", "left"), [(CutBefore(), []), (CutAfter(), ["queued"])])
def test_a_cut_leaves_the_client_in_doubt(
    proxy: Proxy, glance: Glance, action: Action, left: list[str]
) -> None:
    proxy.rules = [Rule([action], method="POST")]
    with pytest.raises(requests.ConnectionError):
        glance.make()
    assert glance.statuses() == left
    assert proxy.exchanges[-1].status is None


def test_a_truncated_download_ends_in_the_middle(proxy: Proxy, glance: Glance, image_id: str) -> None:
    proxy.rules = [Rule([Truncate()], method="GET", path=IMAGE_BYTES)]
    with glance.client.get(f"{glance.url}/{image_id}/file", stream=True) as response:
        assert int(response.headers["Content-Length"]) == len(CONTENT)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(response.iter_content(MIB))
    assert proxy.downloaded[f"source/{image_id}"] == len(CONTENT) // 2


def test_a_corrupted_download_has_one_wrong_byte(proxy: Proxy, glance: Glance, image_id: str) -> None:
    proxy.rules = [Rule([Corrupt()], method="GET", path=IMAGE_BYTES)]
    found = glance.download(image_id)
    assert len(found) == len(CONTENT)
    assert [at for at in range(len(CONTENT)) if found[at] != CONTENT[at]] == [len(CONTENT) // 2]


def test_an_upload_is_refused_half_way(proxy: Proxy, glance: Glance) -> None:
    image_id = str(glance.make().json()["id"])
    proxy.rules = [Rule([RefuseUpload()], method="PUT")]
    assert glance.upload(image_id).status_code == 413
    assert proxy.uploaded[f"source/{image_id}"] == len(CONTENT) // 2
    assert glance.statuses() != ["active"]


def test_a_delayed_request_is_late(proxy: Proxy, glance: Glance) -> None:
    proxy.rules = [Rule([Delay(0.4)], method="POST")]
    start_s = time.monotonic()
    assert glance.make().status_code == 201
    assert time.monotonic() - start_s >= 0.4


@pytest.mark.parametrize(("where", "left"), [("before", "queued"), ("upload", "saving"), ("after", "active")])
def test_a_held_upload_goes_on_when_it_is_told(proxy: Proxy, glance: Glance, where: str, left: str) -> None:
    image_id = str(glance.make().json()["id"])
    hold = Hold(where)
    proxy.rules = [Rule([hold], method="PUT")]
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(glance.upload(image_id).status_code), daemon=True)
    thread.start()
    assert hold.reached.wait(30)
    until(lambda: glance.statuses() == [left], f"{where} the upload the image is {left}", timeout_s=20)
    assert answers == []
    hold.go_on.set()
    thread.join()
    assert (glance.statuses(), answers) == (["active"], [204])


def test_a_rule_looks_at_service_method_path_and_body() -> None:
    body = json.dumps({"createImage": {"name": "x"}}).encode()
    request = Request("source/nova", "POST", "/v2.1/servers/1/action", body)
    fitting = {"service": "*/nova", "method": "POST|PUT", "path": "/action$", "body": "createImage"}
    assert Rule([CutBefore()], **fitting).action(request)
    for name in fitting:
        assert not Rule([CutBefore()], **{**fitting, name: "nothing"}).action(request)


def test_a_rule_skips_and_counts() -> None:
    request = Request("source/nova", "GET", "/servers")
    rule = Rule([CutBefore()], skip=2, count=3)
    assert [bool(rule.action(request)) for _ in range(7)] == [False] * 2 + [True] * 3 + [False] * 2


def test_a_seed_does_the_same_again_whatever_the_order_and_the_ids() -> None:
    def harmed(order: int, image_id: str) -> set[str]:
        rules = one_in_ten(seed=7)
        requests = [Request("source/nova", "GET", f"/{number}/{image_id}") for number in range(2000)]
        random.Random(order).shuffle(requests)
        hits = [(request, rule.action(request)) for request in requests for rule in rules]
        return {f"{request.path.split('/')[1]} {action}" for request, action in hits if action}

    first = harmed(1, "0" * 32)
    assert first == harmed(2, "00000000-1111-2222-3333-444444444444")
    assert 150 < len(first) < 250
    ways = {hit.partition(" ")[2] for hit in first}
    assert ways == {"401", "403", "409", "413", "429", "500", "503", "cutbefore", "cutafter", "delay"}

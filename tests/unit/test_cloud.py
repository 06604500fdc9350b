"""The settings of a cloud, before it is reached."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pumphouse.cloud import Cloud
from pumphouse.config.settings import CloudConfig
from pumphouse.errors import CloudError, ConfigError
from tests.shapes.certificates import make_certificates

CLOUDS = """
clouds:
  old:
    auth: {auth_url: "https://old:5000/v3", username: operator, password: hidden-word, project_name: admin}
    region_name: one
    interface: internal
    verify: false
  new:
    auth: {auth_url: "https://new:5000/v3", username: operator, password: hidden-word, project_name: admin}
    cacert: ~/ca.pem
"""


@pytest.fixture
def clouds_file(tmp_path: Path) -> Path:
    path = tmp_path / "clouds.yaml"
    path.write_text(CLOUDS)
    return path


def test_clouds_yaml_decides(clouds_file: Path) -> None:
    old = Cloud.from_clouds_yaml("old", clouds_file=clouds_file)
    assert (old.name, old.auth_url, old.region_name) == ("old", "https://old:5000/v3", "one")
    assert (old.interface, old.session.verify) == ("internal", False)
    new = Cloud.from_clouds_yaml("new", clouds_file=clouds_file, name="destination")
    assert (new.name, new.region_name, new.interface) == ("destination", None, "public")
    assert new.session.verify == str(Path("~/ca.pem").expanduser())


def test_the_configuration_may_choose_region_and_interface(clouds_file: Path) -> None:
    config = CloudConfig(cloud="new", clouds_file=clouds_file, region_name="two", interface="admin")
    cloud = Cloud(config, name="source")
    assert (cloud.region_name, cloud.interface) == ("two", "admin")


def test_a_region_that_is_not_the_cloud_s_is_named(clouds_file: Path) -> None:
    with pytest.raises(CloudError, match="Region two is not a valid region name for cloud old"):
        Cloud(CloudConfig(cloud="old", clouds_file=clouds_file, region_name="two"), name="source")


def test_the_environment_does_not_leak_into_inline_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_AUTH_URL", "http://elsewhere:5000/v3")
    monkeypatch.setenv("OS_PASSWORD", "other-word")
    with pytest.raises(CloudError, match="auth_url"):
        Cloud(CloudConfig(auth={"username": "operator"}), name="source")


def test_a_cloud_shows_no_secret(clouds_file: Path) -> None:
    cloud = Cloud.from_clouds_yaml("old", clouds_file=clouds_file)
    assert repr(cloud) == "<Cloud old https://old:5000/v3>"
    assert "hidden-word" not in f"{vars(cloud)} {vars(cloud.session)}"


def test_a_wrong_auth_type_is_named() -> None:
    auth = {"auth_url": "http://old:5000/v3"}
    with pytest.raises(CloudError, match="plugin pasword could not be found"):
        Cloud(CloudConfig(auth_type="pasword", auth=auth), name="source")
    with pytest.raises(CloudError, match="does not log in to Keystone"):
        Cloud(CloudConfig(auth_type="none", auth={"endpoint": "http://old"}), name="source")


def test_an_unknown_cloud_is_named(clouds_file: Path) -> None:
    with pytest.raises(CloudError, match="there is no cloud odl in") as caught:
        Cloud.from_clouds_yaml("odl", clouds_file=clouds_file)
    assert caught.value.hint == "the clouds are: new, old"


def test_a_broken_clouds_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "clouds.yaml"
    path.write_text("clouds:\n  source:\n    auth: {a: b\n  c: d\n")
    with pytest.raises(
        ConfigError, match=rf"^{path}:3: a mapping is opened and not closed; expected ',' or '}}'$"
    ):
        Cloud.from_clouds_yaml("source", clouds_file=path)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        Cloud.from_clouds_yaml("source", clouds_file=tmp_path / "absent.yaml")


def test_a_cloud_imports_no_client_before_it_is_used() -> None:
    heavy = ("openstack", "novaclient", "keystoneclient", "glanceclient")
    program = f"import sys, pumphouse.cloud; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_named_clouds_file_goes_before_the_one_of_the_environment(
    clouds_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(CLOUDS.replace("old:5000", "elsewhere:5000"))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(other))
    assert Cloud.from_clouds_yaml("old", clouds_file=clouds_file).auth_url == "https://old:5000/v3"
    assert Cloud.from_clouds_yaml("old").auth_url == "https://elsewhere:5000/v3"


class NoKeystone(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


def test_a_cloud_that_wants_a_certificate_of_its_clients_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pumphouse.cloud.outage.LOGIN_S", 0.0)
    certificates = make_certificates(tmp_path)
    clouds_file = tmp_path / "clouds.yaml"
    with ThreadingHTTPServer(("127.0.0.1", 0), NoKeystone) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = certificates.server.wrap_socket(server.socket, True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        auth = {"auth_url": f"https://127.0.0.1:{server.server_port}/v3", "username": "u", "password": "p"}
        known = {"auth": {**auth, "project_name": "p"}, "cacert": str(certificates.authority)}
        own = {"cert": str(certificates.client_cert), "key": str(certificates.client_key)}
        clouds_file.write_text(json.dumps({"clouds": {"without": known, "with": {**known, **own}}}))
        for name, said in (
            ("without", "wants a certificate of its clients"),
            ("with", "answered 501"),
        ):
            config = CloudConfig(cloud=name, clouds_file=clouds_file, interface="")
            with pytest.raises(CloudError, match=said):
                Cloud(config, name="source").login()
        server.shutdown()

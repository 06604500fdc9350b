"""The configuration: a YAML file into frozen dataclasses, every problem at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from platformdirs import site_config_path, user_config_path, user_state_path

from pumphouse.errors import ConfigError
from pumphouse.yamlfile import Document, Where, did_you_mean, read
from pumphouse.yamlfile import load as load_document

PATH_VARIABLE = "PUMPHOUSE_CONFIG"
STATE_DIR = user_state_path("pumphouse")
_SECRET = frozenset({"auth", "state"})
_COMMAND_TIMEOUT_S = 60
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|[KMGT]i?B)?(?:/s)?")
_OTHERS_READ = 0o044


@dataclass(frozen=True)
class CloudConfig:
    """One cloud: by its name in a clouds.yaml, or by the same settings inline.

    clouds_file: the clouds.yaml; None for the one that openstacksdk finds.
    """

    cloud: str | None = None
    clouds_file: Path | None = None
    auth_type: str = "password"
    auth: Mapping[str, str] = field(default_factory=dict, repr=False)
    region_name: str | None = None
    interface: str = "public"
    cacert: str | None = None
    verify: bool = True


@dataclass(frozen=True)
class Mappings:
    """Names that are others at the destination: the source's name to the destination's."""

    domains: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    flavors: Mapping[str, str] = field(default_factory=dict)
    external_networks: Mapping[str, str] = field(default_factory=dict)
    availability_zones: Mapping[str, str] = field(default_factory=dict)
    volume_types: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Policies:
    """What to do where there is a choice; config.example.yaml explains each."""

    on_conflict: str = "fail"
    user_passwords: str = "generate"
    passwords_file: str = str(STATE_DIR / "passwords.csv")
    root_disk: str = "snapshot"
    source_servers: str = "stop"
    keep_snapshots: bool = False
    allow_same_cloud: bool = False


@dataclass(frozen=True)
class Limits:
    """How much at a time: workers are tasks, transfers are copies of images."""

    workers: int = 16
    transfers: int = 4
    bytes_per_second: int | None = None


@dataclass(frozen=True)
class Config:
    """The whole configuration.

    state_url: where runs are recorded, a TaskFlow persistence URL.
    warnings: what is not wrong but should be known.
    """

    source: CloudConfig
    destination: CloudConfig
    mappings: Mappings = field(default_factory=Mappings)
    policies: Policies = field(default_factory=Policies)
    limits: Limits = field(default_factory=Limits)
    state_url: str = field(default=f"sqlite:///{STATE_DIR / 'state.db'}", repr=False)
    warnings: tuple[str, ...] = ()


def schema() -> dict[str, Any]:
    """The JSON Schema of the configuration file."""
    text = files("pumphouse").joinpath("schemas/config.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def load(
    path: Path | None = None, *, source_cloud: str | None = None, destination_cloud: str | None = None
) -> Config:
    """Read the configuration, with secrets taken from where it says.

    path: the file; without it the first that there is of $PUMPHOUSE_CONFIG, ./pumphouse.yaml and the user's.
    source_cloud, destination_cloud: names in clouds.yaml that replace the file's sections.

    Raises ConfigError with every problem.
    """
    named = {"source": source_cloud, "destination": destination_cloud}
    found = path or _search()
    if found is None and not all(named.values()):
        raise ConfigError(
            ["no configuration: neither --config nor $PUMPHOUSE_CONFIG, ./pumphouse.yaml nor "
             f"{user_config_path('pumphouse') / 'pumphouse.yaml'}"],
            "copy config.example.yaml, or name both clouds by --source-cloud and --destination-cloud",
        )  # fmt: skip
    document = (
        load_document(read(found), str(found), schema(), _SECRET) if found else Document("flags", {}, {(): 0})
    )
    for section, name in named.items():
        if name:
            document.data[section] = {"cloud": name}
            document.lines.setdefault((section,), 0)
    if document.problems:
        raise ConfigError(document.problems)
    config = _config(document, found)
    if document.problems:
        raise ConfigError(document.problems)
    return config


def _search() -> Path | None:
    if os.environ.get(PATH_VARIABLE):
        return Path(os.environ[PATH_VARIABLE])
    places = (Path("pumphouse.yaml"), user_config_path("pumphouse") / "pumphouse.yaml")
    return next((place for place in places if place.exists()), None)


def _config(document: Document, path: Path | None) -> Config:
    data = document.data
    clouds_file = Path(data["clouds_file"]).expanduser() if data.get("clouds_file") else None
    if clouds_file and path:
        clouds_file = path.parent / clouds_file
    state = data.get("state", {})
    limits = dict(data.get("limits", {}))
    if isinstance(limits.get("bytes_per_second"), str):
        limits["bytes_per_second"] = _bytes(document, limits["bytes_per_second"])
    optional = {"state_url": _secret(document, ("state", "url"), state["url"])} if "url" in state else {}
    return Config(
        source=_cloud(document, "source", clouds_file),
        destination=_cloud(document, "destination", clouds_file),
        mappings=Mappings(**data.get("mappings", {})),
        policies=_policies(data.get("policies", {})),
        limits=Limits(**limits),
        warnings=tuple(_warnings(data, path)),
        **optional,
    )


def _policies(data: Mapping[str, Any]) -> Policies:
    policies = dict(data)
    if "passwords_file" in policies:
        policies["passwords_file"] = str(Path(policies["passwords_file"]).expanduser())
    return Policies(**policies)


def _cloud(document: Document, section: str, clouds_file: Path | None) -> CloudConfig:
    settings = document.data.get(section)
    if settings is None:
        document.problem((), f"{section} is missing; expected a cloud: its name or its auth")
        return CloudConfig()
    if "cloud" in settings:
        for other in settings.keys() - {"cloud", "region_name", "interface"}:
            document.problem(
                (section, other), f"{section}.{other} is of no effect beside {section}.cloud; give one"
            )
        _check_name(document, section, settings["cloud"], clouds_file)
        return CloudConfig(clouds_file=clouds_file, **{k: settings[k] for k in settings if k != "auth"})
    if not settings.get("auth"):
        document.problem((section,), f"{section} has neither cloud nor auth; expected one of them")
        return CloudConfig()
    if "auth_url" not in settings["auth"]:
        document.problem(
            (section, "auth"), f"{section}.auth has no auth_url; expected the address of Keystone"
        )
    auth = {
        name: _secret(document, (section, "auth", name), value) for name, value in settings["auth"].items()
    }
    return CloudConfig(**{**settings, "auth": auth})


def _secret(document: Document, where: Where, value: str | Mapping[str, str] | None) -> str:
    """The text itself, or what an environment variable or a command says; never repeated in a message."""
    title = ".".join(map(str, where))
    if isinstance(value, str):
        return value
    if not value or len(value) != 1:
        document.problem(where, f"{title} is not usable; expected text, or one of env and command")
        return ""
    if "env" in value:
        if value["env"] not in os.environ:
            document.problem(where, f"{title}: the environment variable {value['env']} is not set")
        return os.environ.get(value["env"], "")
    return _output(document, where, value["command"])


def _output(document: Document, where: Where, command: str) -> str:
    title = ".".join(map(str, where))
    try:
        result = subprocess.run(
            command, shell=True, capture_output=True, text=True, check=False, timeout=_COMMAND_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        document.problem(where, f"{title}: its command gave no text ({type(error).__name__})")
        return ""
    if result.returncode or not result.stdout.strip("\n"):
        document.problem(
            where, f"{title}: its command ended with {result.returncode}; expected 0 and a line of text"
        )
    return result.stdout.rstrip("\n")


def _bytes(document: Document, text: str) -> int | None:
    match = _RATE.fullmatch(text.strip())
    if not match:
        message = f"limits.bytes_per_second is {text!r}; expected a number such as 5000000 or 100 MiB"
        document.problem(("limits", "bytes_per_second"), message)
        return None
    unit = match[2] or "B"
    return int(
        float(match[1]) * (1024 if "i" in unit else 1000) ** " KMGT".index(unit[0] if unit != "B" else " ")
    )


def _check_name(document: Document, section: str, name: str, clouds_file: Path | None) -> None:
    """openstacksdk passes over a clouds.yaml with a syntax error, so it is parsed here before."""
    path = clouds_file or next((place for place in _clouds_files() if place.exists()), None)
    if path is None:
        document.problem(
            (section, "cloud"), f"{section}.cloud is {name!r}, but there is no clouds.yaml; give clouds_file"
        )
        return
    try:
        clouds = load_document(read(path), str(path), {"type": "object"}, frozenset({"clouds"})).data.get(
            "clouds"
        )
    except ConfigError as error:
        document.problems += [problem for problem in error.problems if problem not in document.problems]
        return
    if not isinstance(clouds, dict) or not clouds:
        document.problem((section, "cloud"), f"{path} has no clouds; expected a mapping named clouds")
    elif name not in clouds:
        document.problem((section, "cloud"), f"{path} has no cloud {name!r}; {did_you_mean(name, clouds)}")


def _clouds_files() -> Iterator[Path]:
    """Where openstacksdk looks, in its order."""
    if os.environ.get("OS_CLIENT_CONFIG_FILE"):
        yield Path(os.environ["OS_CLIENT_CONFIG_FILE"])
    for folder in (
        Path(),
        user_config_path("openstack"),
        site_config_path("openstack"),
        Path("/etc/openstack"),
    ):
        yield from (folder / f"clouds.{suffix}" for suffix in ("yaml", "yml", "json"))


def _warnings(data: Mapping[str, Any], path: Path | None) -> Iterator[str]:
    literal = [
        f"{section}.auth.{name}"
        for section in ("source", "destination")
        for name, value in (data.get(section) or {}).get("auth", {}).items()
        if isinstance(value, str) and ("password" in name or "secret" in name or "token" in name)
    ]
    if path and literal and path.stat().st_mode & _OTHERS_READ:
        yield f"{path} holds {' and '.join(literal)} and others can read it: chmod 600 {path}"

"""The configuration: one YAML file, read into frozen dataclasses; every problem is said at once."""

from __future__ import annotations

import logging
import os
import re
import stat
import subprocess
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pumphouse.config import yamlfile
from pumphouse.config.schema import closest, load_schema, validate
from pumphouse.config.yamlfile import Document, Keys, dotted
from pumphouse.errors import ConfigError, mask_secrets

LOG = logging.getLogger(__name__)

SIDES = ("source", "destination")
# After how long it is said that a command is waited for.
COMMAND_NOTICE_S = 3.0
# openstacksdk's name for the cloud that the OS_* variables describe.
_ENVVARS = "envvars"
# Where a configuration is found without being named; the folder may be anybody's.
_HERE = Path("pumphouse.yaml")
_ROOT = 0
_WRITTEN = ("policies", "passwords_file")
_PATHS = (("clouds_file",), ("source", "cacert"), ("destination", "cacert"), _WRITTEN)
# What makes a setting one that nobody else may read.
_SECRET = re.compile(
    r"[a-z_]*(password|passcode|secret|token): |(url|keystone_database): [^/]*//[^/@]*:[^/@]*@"
)

# What of a login is no secret; all else may be one.
_IN_CLEAR = re.compile(
    r"auth_url|[a-z_]*(username|user_id|domain_(name|id)|project_(name|id)|tenant_(name|id)|system_scope)"
)


def _state_file(name: str) -> Path:
    from platformdirs import user_state_path

    return user_state_path("pumphouse") / name


def _default_state_url() -> str:
    return f"sqlite:///{_state_file('state.db')}"


@dataclass(frozen=True)
class CloudConfig:
    """How to log in to a cloud: either by its name in a clouds.yaml, or with settings as written there.

    keystone_database: SQLAlchemy's URL of its Keystone's database, for the policy `hash` for passwords.
    """

    cloud: str | None = None
    clouds_file: Path | None = None
    auth_type: str = "password"
    auth: Mapping[str, str] = field(default_factory=dict, repr=False)
    region_name: str | None = None
    interface: str | None = None
    cacert: Path | None = None
    verify: bool = True
    keystone_database: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Mappings:
    """What has another name at the destination: source name to destination name."""

    domains: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    flavors: Mapping[str, str] = field(default_factory=dict)
    external_networks: Mapping[str, str] = field(default_factory=dict)
    availability_zones: Mapping[str, str] = field(default_factory=dict)
    volume_types: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Policies:
    """What is done where there is a choice; config.example.yaml explains each."""

    on_conflict: Literal["fail", "reuse", "rename"] = "fail"
    user_passwords: Literal["generate", "disabled", "file", "map", "hash"] = "generate"
    passwords_file: Path = field(default_factory=lambda: _state_file("passwords.csv"))
    root_disk: Literal["snapshot", "image"] = "snapshot"
    source_servers: Literal["stop", "leave"] = "stop"
    paused_servers: Literal["stopped", "started"] = "stopped"
    broken_servers: Literal["skip", "move"] = "skip"
    keep_snapshots: bool = False
    on_failure: Literal["revert", "keep"] = "revert"
    fail_fast: bool = False
    allow_same_cloud: bool = False
    volume_format: Literal["auto", "raw", "qcow2"] = "auto"
    volume_snapshots: Literal["undecided", "leave", "copy"] = "undecided"
    raw_volume_types: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Limits:
    """How much is done at a time, and for how long a service that does not answer is waited for.

    workers: API calls at once.
    transfers: images copied at once.
    bytes_per_second: of all transfers together; None for no limit.
    outage_s: seconds until what needs a service that does not answer has failed.
    login_s, answer_s: seconds that one answer may take, of Keystone to the first login and of any service later.
    command_s: seconds that a command may take that prints a secret.
    plan_fresh_s: seconds for which what a plan has read of the source is not read again.
    """

    workers: int = 16
    transfers: int = 4
    bytes_per_second: int | None = None
    outage_s: int = 600
    login_s: int = 30
    answer_s: int = 300
    # Long enough for somebody to type a PIN.
    command_s: int = 120
    plan_fresh_s: int = 60


@dataclass(frozen=True)
class Config:
    """The whole configuration.

    state_url: where runs are recorded, a TaskFlow persistence URL, which may hold a password.
    notify: the command line that is told when a run begins, fails and ends.
    warnings: what is no error, but the operator should know.
    """

    source: CloudConfig
    destination: CloudConfig
    mappings: Mappings = field(default_factory=Mappings)
    policies: Policies = field(default_factory=Policies)
    limits: Limits = field(default_factory=Limits)
    state_url: str = field(default_factory=_default_state_url, repr=False)
    notify: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def state_folder(self) -> Path:
        """Where the log is kept."""
        return state_folder(self.state_url)


def state_folder(state_url: str) -> Path:
    """Where the log is kept: beside the records of the runs, or where those are by default."""
    scheme, _, path = state_url.partition(":///")
    found = Path(path).parent if scheme in ("sqlite", "dir") else _state_file("")
    return found if found.is_absolute() else Path.cwd() / found


def shown(config: Config) -> dict[str, Any]:
    """A configuration as plain data, with every secret masked."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(part) for name, part in value.items()}
        return mask_secrets(str(value)) if isinstance(value, Path | str) else value

    data: dict[str, Any] = plain(
        {name: value for name, value in asdict(config).items() if name != "warnings"}
    )
    if config.notify:
        data["notify"] = f"{config.notify.split()[0]} ..."  # its arguments may have a token
    for side in SIDES:
        data[side]["auth"] = {
            name: value if _IN_CLEAR.fullmatch(name) else "***" for name, value in data[side]["auth"].items()
        }
    return data


def known_clouds() -> tuple[Path | None, list[str]]:
    """The clouds.yaml that is found, and the names of its clouds in their order."""
    path = _clouds_file(None)
    if path is None:
        return None, []
    clouds = _get(yamlfile.load(yamlfile.read(path), str(path)).data, "clouds")
    return path, list(clouds) if isinstance(clouds, dict) else []


def load(
    path: Path | None = None, *, source_cloud: str | None = None, destination_cloud: str | None = None
) -> Config:
    """Read the configuration for use: secrets are fetched from where the file says.

    path: the file; None for the first of $PUMPHOUSE_CONFIG, ./pumphouse.yaml and the user's own. Paths in
        it are relative to its folder.
    source_cloud, destination_cloud: names in clouds.yaml, instead of the file's sections. With both, no
        file is needed.

    Raises ConfigError with every problem, one `file:line: what; what was expected` each.
    """
    flags = {"source": source_cloud, "destination": destination_cloud}
    named = {side: name for side, name in flags.items() if name is not None}
    document = _located(validate(_read(path, named), load_schema()))
    problems = [*_cloud_problems(document, named), *_strange_commands(path, document)]
    warnings = _warnings(document)
    document = _with_secrets(document, load_schema(), run_commands=not (problems or document.problems))
    if problems := [*document.lines(), *problems]:
        raise ConfigError(problems, "config.example.yaml explains every setting")
    return _config(document.data, warnings)


def load_state_url(path: Path | None = None) -> str:
    """Where runs are recorded, without asking for what the clouds need; the default where there is no file.

    Raises ConfigError as `load` does, with the problems of that setting alone.
    """
    found = path or _find()
    if found is None:
        return _default_state_url()
    document = yamlfile.load(yamlfile.read(found), str(found))
    state = _get(document.data, "state")
    rules = {**load_schema(), "required": []}
    alone = validate(replace(document, data={} if state is None else {"state": state}), rules)
    strange = _strange_commands(path, alone)
    alone = _with_secrets(alone, rules, run_commands=not (strange or alone.problems))
    if problems := [*alone.lines(), *strange]:
        raise ConfigError(problems, "config.example.yaml explains every setting")
    return str(_get(alone.data, "state", "url") or _default_state_url())


def _read(path: Path | None, named: Mapping[str, str]) -> Document:
    """The configuration file, with the clouds that were named instead of its own."""
    path = path or _find()
    if path:
        document = yamlfile.load(yamlfile.read(path), str(path))
    elif named.keys() == set(SIDES):
        document = Document("command line", {})
    else:
        raise ConfigError(
            ["no configuration; expected ./pumphouse.yaml, or a file named by --config or $PUMPHOUSE_CONFIG"],
            "copy config.example.yaml to pumphouse.yaml, or give --source-cloud and --destination-cloud",
        )
    if not named or not isinstance(document.data, dict | None):
        return document
    clouds = {side: {"cloud": name} for side, name in named.items()}
    return replace(document, data={**(document.data or {}), **clouds})


def _find() -> Path | None:
    """The configuration file where none is named."""
    from platformdirs import user_config_path

    if path := os.environ.get("PUMPHOUSE_CONFIG"):
        return Path(path)
    standard = (_HERE, user_config_path("pumphouse") / "pumphouse.yaml")
    return next((path for path in standard if os.path.exists(path)), None)


def _get(data: Any, *keys: str) -> Any:
    """The value at these keys; None where there is none, or no mapping on the way."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _located(document: Document) -> Document:
    """The document with absolute paths; a file that is to be read and does not exist is a problem."""
    folder = Path(document.name).absolute().parent
    problems = []
    for keys in _PATHS:
        given = _get(document.data, *keys)
        if not given or not isinstance(given, str):
            continue
        path = folder / os.path.expanduser(given)
        yamlfile.put(document.data, keys, str(path))
        if keys != _WRITTEN and not os.path.exists(path):
            problems.append(document.problem(keys, f"{dotted(keys)} is {given!r}; expected what exists"))
    return replace(document, problems=(*document.problems, *problems))


def _cloud_problems(document: Document, flags: Collection[str]) -> list[str]:
    """What is wrong with the clouds given by name, or with the clouds.yaml that is to have them."""
    names = {
        f"--{side}-cloud" if side in flags else document.where((side, "cloud")): name
        for side in SIDES
        if isinstance(name := _get(document.data, side, "cloud"), str) and name not in ("", _ENVVARS)
    }
    path = _clouds_file(document.data)
    if path is None:
        expected = (
            "expected one here, in ~/.config/openstack or in /etc/openstack, or the setting clouds_file"
        )
        return [f"{where}: no clouds.yaml to find {name!r} in; {expected}" for where, name in names.items()]
    if not names or not os.path.exists(path):
        return []
    try:
        file = yamlfile.load(yamlfile.read(path), str(path))
    except ConfigError as error:
        return list(error.problems)
    clouds = _get(file.data, "clouds")
    known = sorted(clouds) if isinstance(clouds, dict) else []
    unknown = {where: name for where, name in names.items() if name not in known}
    return file.lines() + [f"{where}: {_no_cloud(name, path, known)}" for where, name in unknown.items()]


def _no_cloud(name: str, path: Path, known: list[str]) -> str:
    if not known:
        return f"no cloud {name!r} in {path}, which has none; expected it under 'clouds:'"
    close = closest(name, known)
    hint = f"did you mean {close!r}?" if close else "expected one of them"
    return f"no cloud {name!r} in {path}, which has {', '.join(known)}; {hint}"


def _clouds_file(data: Any) -> Path | None:
    """The clouds.yaml that is used: the one that is named, else the first where openstacksdk looks.

    https://docs.openstack.org/openstacksdk/latest/user/config/configuration.html
    """
    from platformdirs import site_config_path, user_config_path

    given = _get(data, "clouds_file")
    if isinstance(given, str):
        return Path(given)
    own = os.path.expanduser("~/.config/openstack")
    folders = (Path(), user_config_path("openstack"), Path(own), site_config_path("openstack"))
    names = ("clouds.yaml", "clouds.yml", "clouds.json")
    files = [folder / name for folder in (*folders, Path("/etc/openstack")) for name in names]
    if override := os.environ.get("OS_CLIENT_CONFIG_FILE"):
        files.insert(0, Path(override))
    return next((path.absolute() for path in files if os.path.isfile(path)), None)


def _warnings(document: Document) -> tuple[str, ...]:
    """A warning when others can read a file that holds a secret itself."""
    written = [f"{keys[-1]}: {value}" for keys, value in _secrets(document.data) if isinstance(value, str)]
    if not any(map(_SECRET.match, written)) or not Path(document.name).stat().st_mode & stat.S_IROTH:
        return ()
    return (f"{document.name} holds a secret and can be read by everybody; run: chmod 600 {document.name}",)


def _strange_commands(named: Path | None, document: Document) -> list[str]:
    """What is wrong with a configuration that is only found, if it has commands of whoever could write it.

    named: the file that the operator named, if any.
    """
    if named or document.name != str(_HERE) or os.environ.get("PUMPHOUSE_CONFIG"):
        return []
    commands = [
        value for _, value in _secrets(document.data) if isinstance(value, dict) and "command" in value
    ]
    if not (commands or _get(document.data, "notify")):
        return []
    found = _HERE.stat()
    if found.st_uid in (os.geteuid(), _ROOT) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return []
    expected = f"expected it to be yours and chmod go-w {_HERE}, or --config {_HERE} if you trust it"
    return [f"{_HERE} has commands, and others own it or may write to it; {expected}"]


def _secrets(data: Any) -> Iterator[tuple[Keys, Any]]:
    """All that may be given as {env: ...} or {command: ...}."""
    for side in SIDES:
        auth = _get(data, side, "auth")
        if isinstance(auth, dict):
            yield from (((side, "auth", name), value) for name, value in auth.items())
        yield (side, "keystone_database"), _get(data, side, "keystone_database")
    yield ("state", "url"), _get(data, "state", "url")


def _with_secrets(document: Document, rules: Mapping[str, Any], *, run_commands: bool) -> Document:
    """The document with every secret in its place."""
    problems = []
    timeout_s = _get(document.data, "limits", "command_s") or Limits.command_s
    for keys, value in list(_secrets(document.data)):
        try:
            match value:
                case {"env": str(name), **more} if name and not more:
                    yamlfile.put(document.data, keys, _variable(name))
                case {"command": str(command)} if run_commands:
                    yamlfile.put(document.data, keys, _output(command, dotted(keys), timeout_s))
        except ValueError as error:
            problems.append(document.problem(keys, f"{dotted(keys)}: {error}"))
    if problems or document.problems:
        return replace(document, problems=(*document.problems, *problems))
    return validate(document, rules)


def _variable(name: str) -> str:
    if value := os.environ.get(name):
        return value
    raise ValueError(f"the environment variable {name} is not set; expected the value in it")


def _output(command: str, setting: str, timeout_s: int) -> str:
    """The line that a command prints. Neither the command nor its output is ever shown."""
    wanted = "expected it to print one line"
    null = subprocess.DEVNULL
    said = f"the command of {setting} is waited for, up to {timeout_s} s"
    notice = threading.Timer(COMMAND_NOTICE_S, lambda: LOG.warning("%s", said))
    notice.start()
    try:
        printed: bytes = subprocess.check_output(
            command, shell=True, stdin=null, stderr=null, timeout=timeout_s
        )
        text = printed.decode().rstrip("\r\n")
    except subprocess.TimeoutExpired:
        raise ValueError(f"its command took longer than {timeout_s} s; {wanted}") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"its command failed with exit code {error.returncode}; {wanted}") from None
    except UnicodeDecodeError:
        raise ValueError(f"its command printed what is not text; {wanted}") from None
    finally:
        notice.cancel()
    if not text or "\n" in text:
        raise ValueError(f"its command printed {'several lines' if text else 'nothing'}; {wanted}")
    return text


def _config(data: dict[str, Any], warnings: tuple[str, ...]) -> Config:
    limits = {name: number(value) for name, value in _given(data, "limits").items()}
    return Config(
        source=_cloud(data, "source"),
        destination=_cloud(data, "destination"),
        mappings=Mappings(**_given(data, "mappings")),
        policies=Policies(**_given(data, "policies")),
        limits=Limits(**limits),
        notify=data.get("notify"),
        warnings=warnings,
        **{f"state_{name}": value for name, value in _given(data, "state").items()},
    )


def _cloud(data: dict[str, Any], side: str) -> CloudConfig:
    settings = _given(data, side)
    if "cloud" in settings:
        settings["clouds_file"] = _clouds_file(data)
    return CloudConfig(**settings)


def _given(data: dict[str, Any], section: str) -> dict[str, Any]:
    """The settings of a section that are not left to their default."""
    settings = {name: value for name, value in data.get(section, {}).items() if value is not None}
    paths = {keys[-1] for keys in _PATHS if keys[0] == section} & settings.keys()
    return {**settings, **{name: Path(settings[name]) for name in paths}}


def number(value: float | str) -> int:
    """A number, or bytes with a unit such as 100 MiB; k is 1000 and Ki is 1024."""
    if not isinstance(value, str):
        return int(value)
    number, unit = re.findall(r"[0-9]+|[A-Za-z]+", value)
    base = 1024 if "i" in unit else 1000
    return int(number) * int(base ** "bkmgt".index(unit[0].lower()))

"""The configuration files of a cloud's services."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.layout import HOST, SERVICES, LabCloud, write_private

Options = Mapping[str, Mapping[str, Any]]
REGION = "lab"

# A service whose process runs is up, however late a heartbeat would be on a busy machine or after a reset.
ALWAYS_UP = {"report_interval": 0, "service_down_time": 10 * 365 * 86400}

# The quotas of Nova and Neutron; -1 is unlimited. Cinder's are rows of its database: see furnish.py.
NOVA_QUOTAS = ("instances", "cores", "ram", "key_pairs", "server_groups", "server_group_members")
NEUTRON_QUOTAS = ("network", "subnet", "port", "router", "floatingip", "rbac_policy", "trunk")
NEUTRON_SECURITY_QUOTAS = ("security_group", "security_group_rule")


def write_configuration(cloud: LabCloud, venv: Path) -> None:
    """Write the configuration of every service of a cloud, and Keystone's keys if they are not there."""
    for service in SERVICES:
        directory = cloud.dir / "etc" / service
        directory.mkdir(parents=True, exist_ok=True)
        if (venv / "etc" / service).exists():
            shutil.copytree(venv / "etc" / service, directory, dirs_exist_ok=True)
        file_name = "glance-api.conf" if service == "glance" else f"{service}.conf"
        write_private(directory / file_name, _ini(_OPTIONS[service](cloud)))
    _write_keys(cloud.dir / "keys")


def administrator(cloud: LabCloud) -> dict[str, str]:
    """The credentials of a cloud's administrator, as clouds.yaml has them."""
    return {
        "auth_url": f"{cloud.url('keystone')}/v3",
        "username": "admin",
        "password": cloud.password,
        "project_name": "admin",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }


def _ini(options: Options) -> str:
    sections = (
        f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in values.items())
        for section, values in options.items()
    )
    return "\n".join(sections)


def _write_keys(directory: Path) -> None:
    # "0" is the staged key and "1" the one in use: what `keystone-manage fernet_setup` writes.
    directory.mkdir(mode=0o700, exist_ok=True)
    for name in ("0", "1"):
        if not (directory / name).exists():
            write_private(directory / name, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())


def _service_user(cloud: LabCloud, user: str) -> dict[str, Any]:
    return {
        "auth_type": "password",
        "auth_url": cloud.url("keystone") + "/v3",
        "username": user,
        "password": cloud.password,
        "project_name": "service",
        "user_domain_id": "default",
        "project_domain_id": "default",
        "region_name": REGION,
    }


def _database(cloud: LabCloud, database: str) -> dict[str, Any]:
    return {"connection": cloud.database_url(database), "max_pool_size": 20, "max_overflow": 40}


def _common(cloud: LabCloud, service: str, **default: Any) -> dict[str, dict[str, Any]]:
    return {
        "DEFAULT": {"transport_url": "fake:/", "host": cloud.name, **default},
        "database": _database(cloud, service),
        "keystone_authtoken": {
            **_service_user(cloud, service),
            "www_authenticate_uri": cloud.url("keystone") + "/v3",
            "service_token_roles": "service",
            "service_token_roles_required": True,
        },
        "oslo_concurrency": {"lock_path": cloud.dir / "locks"},
        "oslo_policy": {"policy_file": _policy_file(cloud.dir / "etc" / service)},
        "service_user": {"send_service_user_token": True, **_service_user(cloud, service)},
        "oslo_messaging_notifications": {"driver": "noop"},
    }


def _policy_file(directory: Path) -> Path:
    """Where the rules are that are not as the service has them in its code; in the files of old ones are all."""
    old = directory / "policy.json"
    return old if old.exists() else directory / "policy.yaml"


def _keystone(cloud: LabCloud) -> Options:
    keys = {"key_repository": cloud.dir / "keys"}
    return {
        "DEFAULT": {"public_endpoint": cloud.url("keystone")},
        "database": _database(cloud, "keystone"),
        "fernet_tokens": keys,
        "fernet_receipts": keys,
        "credential": keys,
        "api": {"response_validation": "ignore"},
        "identity": {"password_hash_rounds": 4, "max_password_length": 72},
        "cache": {"enabled": True, "backend": "oslo_cache.dict"},
        "oslo_messaging_notifications": {"driver": "noop"},
    }


def _glance(cloud: LabCloud) -> Options:
    return {
        **_common(
            cloud,
            "glance",
            enabled_backends="file:file",
            show_multiple_locations=False,
            node_staging_uri=f"file://{cloud.dir}/glance/staging",
        ),
        "paste_deploy": {"flavor": "keystone", "config_file": cloud.dir / "etc/glance/glance-api-paste.ini"},
        "glance_store": {"default_backend": "file"},
        "file": {"filesystem_store_datadir": cloud.dir / "glance/images"},
        "os_glance_staging_store": {"filesystem_store_datadir": cloud.dir / "glance/staging"},
        "os_glance_tasks_store": {"filesystem_store_datadir": cloud.dir / "glance/tasks"},
    }


def _placement(cloud: LabCloud) -> Options:
    common = _common(cloud, "placement")
    return {**common, "placement_database": common["database"]}


def _neutron(cloud: LabCloud) -> Options:
    plugins = ("router", "trunk", "qos", "port_forwarding", "network_ip_availability")
    return {
        **_common(
            cloud,
            "neutron",
            core_plugin="ml2",
            service_plugins=",".join(plugins),
            api_paste_config=cloud.dir / "etc/neutron/api-paste.ini",
            dns_domain="lab.example.",
            notify_nova_on_port_status_changes=True,
            notify_nova_on_port_data_changes=True,
            send_events_interval=1,
            rpc_workers=0,
            rpc_state_report_workers=0,
            max_allowed_address_pair=100,
            allow_overlapping_ips=True,  # which all do since Zed
        ),
        "nova": _service_user(cloud, "nova"),
        "ml2": {
            "type_drivers": "flat,vlan,vxlan",
            "tenant_network_types": "vxlan",
            # Ours comes first and binds; Open vSwitch's is there for what trunks and QoS rules it supports.
            "mechanism_drivers": "pumphouse_lab,openvswitch",
            "extension_drivers": "port_security,qos,dns_domain_ports",
        },
        "ml2_type_flat": {"flat_networks": "*"},
        "ml2_type_vlan": {"network_vlan_ranges": "physnet1:100:999"},
        "ml2_type_vxlan": {"vni_ranges": "1:100000"},
        "quotas": {f"quota_{name}": -1 for name in NEUTRON_QUOTAS + NEUTRON_SECURITY_QUOTAS},
    }


def _nova(cloud: LabCloud) -> Options:
    return {
        **_common(
            cloud,
            "nova",
            **ALWAYS_UP,
            compute_driver="pumphouse_lab.FileBackedDriver",
            state_path=cloud.dir / "nova",
            instances_path=cloud.dir / "nova/instances",
            my_ip=HOST,
            allow_resize_to_same_host=True,
            vif_plugging_is_fatal=False,
            vif_plugging_timeout=0,
            max_concurrent_builds=16,
            max_concurrent_snapshots=16,
            sync_power_state_interval=-1,
        ),
        "api_database": _database(cloud, "nova_api"),
        "api": {"response_validation": "ignore"},
        "quota": dict.fromkeys(NOVA_QUOTAS, -1),
        "glance": _service_user(cloud, "nova"),
        "placement": _service_user(cloud, "nova"),
        "neutron": _service_user(cloud, "nova"),
        "cinder": {**_service_user(cloud, "nova"), "os_region_name": REGION},
        "keystone": _service_user(cloud, "nova"),
        "scheduler": {"discover_hosts_in_cells_interval": -1},
        "vnc": {"enabled": False},
    }


def _cinder(cloud: LabCloud) -> Options:
    return {
        **_common(
            cloud,
            "cinder",
            **ALWAYS_UP,
            enabled_backends="lab",
            default_volume_type="standard",
            api_paste_config=cloud.dir / "etc/cinder/api-paste.ini",
            resource_query_filters_file=cloud.dir / "etc/cinder/resource_filters.json",
            state_path=cloud.dir / "cinder",
            image_conversion_dir=cloud.dir / "cinder/conversion",
            my_ip=HOST,
            glance_api_servers=cloud.url("glance"),
        ),
        "lab": {
            "volume_driver": "cinder_driver.SparseFileDriver",
            "volume_backend_name": "lab",
            "lab_volumes_dir": cloud.dir / "cinder/volumes",
        },
        "glance": _service_user(cloud, "cinder"),
        "nova": {**_service_user(cloud, "cinder"), "interface": "internal"},
        "coordination": {"backend_url": f"file://{cloud.dir}/cinder/coordination"},
    }


_OPTIONS = {
    "keystone": _keystone,
    "glance": _glance,
    "placement": _placement,
    "neutron": _neutron,
    "nova": _nova,
    "cinder": _cinder,
}


def environment(cloud: LabCloud, service: str) -> dict[str, str]:
    """The environment in which a service of a cloud runs."""
    directory = str(cloud.dir / "etc" / service)
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        f"OS_{service.upper()}_CONFIG_DIR": directory,
        "OS_NEUTRON_CONFIG_FILES": "neutron.conf",
        "OS_NOVA_DISABLE_EVENTLET_PATCHING": "1",
        "OS_CINDER_DISABLE_EVENTLET_PATCHING": "1",
        "PYTHONPATH": str(Path(__file__).parent / "services"),
        "PYTHONWARNINGS": "ignore",
        **({"LAB_GREEN_THREADS": "1"} if cloud.release.green_threads else {}),
        **_bootstrap(cloud, service),
    }


def _bootstrap(cloud: LabCloud, service: str) -> dict[str, str]:
    if service != "keystone":
        return {}
    return {"LAB_URL": cloud.url("keystone"), "LAB_PASSWORD": cloud.password, "LAB_REGION": REGION}

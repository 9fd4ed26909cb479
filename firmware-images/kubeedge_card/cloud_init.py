"""What Raspberry Pi Imager writes to the boot partition (cloud-init's `user-data` and `network-config`), as fields of kubeedge.yaml. Pure.

Of user-data: hostname (or fqdn), timezone, ssh_authorized_keys, of the users too, ntp.servers; and `kubeedge`, a mapping of ours with any field of
kubeedge.yaml. Of network-config (netplan, version 2): the first of `wifis` with its first access point, or else of `ethernets`: addresses, the default
route, name servers. Everything else is ignored, and named, so that nobody waits for what will not happen. kubeedge.yaml has the last word.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

import yaml

from kubeedge_card import document

_USED = ("hostname", "fqdn", "timezone", "ssh_authorized_keys", "users", "ntp", "kubeedge")
_SILENT = (
    "manage_etc_hosts",
    "preserve_hostname",
    "ssh_pwauth",
    "enable_ssh",
    "network",
)  # what they ask for is so, or is not of interest here
_SECRETS = {"token", "joinKey"}
_TOKEN_LINE = re.compile(r"^[ \t]+(?:token|joinKey)[ \t]*:[^\n]*\n?", re.MULTILINE)
_MAX_NAMED = 12  # ignored fields


def fields(user_data: object, network_config: object) -> tuple[dict[str, Any], list[str]]:
    """Fields of kubeedge.yaml, not checked yet, and what was ignored. Raises ValueError for what is no mapping."""
    data = _mapping(user_data, "user-data")
    found, ignored = _of_user_data(data)
    network = _mapping(network_config, "network-config")
    if network := _mapping(network.get("network", network), "network-config: network"):
        wanted, more = _of_network(network)
        ignored += more
        if wanted:
            found["network"] = wanted
    found.update(_mapping(data.get("kubeedge"), "user-data: kubeedge"))
    return found, ignored[:_MAX_NAMED]


def without_token(text: str) -> str:
    """user-data without the token in `kubeedge`; everything else stays as it was where the token is a line of its own, and its fields where not."""
    try:
        before = document.plain(text)
        ours = before.get("kubeedge") if isinstance(before, dict) else None
        if not isinstance(ours, dict) or not _SECRETS & set(ours):
            return text
        wanted = {**before, "kubeedge": {name: value for name, value in ours.items() if name not in _SECRETS}}
        shorter = _TOKEN_LINE.sub("", text)
        same = document.plain(shorter) == wanted
    except yaml.YAMLError:
        return _TOKEN_LINE.sub("", text)
    return shorter if same else "#cloud-config\n" + yaml.safe_dump(wanted, sort_keys=False)


def _of_user_data(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    name = data.get("hostname") or data.get("fqdn")
    keys = _keys(data)
    for user in data["users"] if isinstance(data.get("users"), list) else ():
        keys += _keys(user) if isinstance(user, dict) else []
    ntp = data.get("ntp")
    servers = ntp.get("servers") if isinstance(ntp, dict) else None
    found = {
        # cloud-init takes a full name here, and capital letters; a node has neither
        "name": name.partition(".")[0].lower() if isinstance(name, str) else name,
        "timeZone": data.get("timezone"),
        "sshKeys": list(dict.fromkeys(keys)),
        "timeServers": servers,
    }
    ignored = [f"user-data: {str(key)[:40]}" for key in data if key not in (*_USED, *_SILENT)]
    return {key: value for key, value in found.items() if value}, ignored


def _keys(data: Mapping[str, Any]) -> list[str]:
    found = data.get("ssh_authorized_keys") or data.get("ssh-authorized-keys") or []
    if isinstance(found, str):
        found = [found]
    return [key.strip() for key in found if isinstance(key, str) and key.strip()] if isinstance(found, list) else []


def _of_network(network: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    if network.get("version") not in (2, "2"):
        raise ValueError("network-config: version 2 is expected, with ethernets and wifis")
    ignored = [
        f"network-config: {str(key)[:40]}"
        for key in network
        if key not in ("version", "renderer", "ethernets", "wifis")
    ]
    wired, wireless = (_mapping(network.get(kind), f"network-config: {kind}") for kind in ("ethernets", "wifis"))
    chosen: dict[str, Any] = {}
    for kind, interfaces in (("wifis", wireless), ("ethernets", wired)):
        for name, value in interfaces.items():
            settings = _mapping(value, f"network-config: {kind}.{str(name)[:15]}")
            if chosen:
                ignored.append(f"network-config: {kind}.{str(name)[:15]}")
                continue
            chosen = {"interface": name, **_addresses(settings)}
            if kind == "wifis":
                chosen["wifi"], more = _access_point(settings, str(name)[:15])
                ignored += more
    return chosen, ignored


def _addresses(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A static address; of several the first one of IPv4, or else the first."""
    listed = settings.get("addresses")
    addresses = [text for text in listed if isinstance(text, str)] if isinstance(listed, list) else []
    if not addresses:
        return {}
    address = next((text for text in addresses if "." in text), addresses[0])
    found: dict[str, Any] = {"address": address, "gateway": settings.get("gateway4" if "." in address else "gateway6")}
    for route in settings["routes"] if isinstance(settings.get("routes"), list) else ():
        if (
            isinstance(route, dict)
            and route.get("to") in ("default", "0.0.0.0/0", "::/0")
            and _same(route.get("via"), address)
        ):
            found["gateway"] = route["via"]
    servers = settings.get("nameservers")
    found["nameservers"] = servers.get("addresses") if isinstance(servers, dict) else None
    return {key: value for key, value in found.items() if value}


def _same(gateway: object, address: str) -> bool:
    """Whether both are of one version of IP."""
    try:
        return ipaddress.ip_address(str(gateway)).version == ipaddress.ip_interface(address).version
    except ValueError:
        return False


def _access_point(settings: Mapping[str, Any], name: str) -> tuple[dict[str, Any], list[str]]:
    points = _mapping(settings.get("access-points"), f"network-config: {name}.access-points")
    if not points:
        raise ValueError(f"network-config: {name} has no access-points")
    (ssid, value), *others = points.items()
    point = _mapping(value, f"network-config: an access point of {name}")
    found = {
        "ssid": ssid,
        "password": point.get("password"),
        "hidden": point.get("hidden"),
        "country": settings.get("regulatory-domain"),
    }
    ignored = [f"network-config: a further access point of {name}"] if others else []
    ignored += [f"network-config: {key} of an access point" for key in ("auth",) if key in point]
    return {key: value for key, value in found.items() if value}, ignored


def _mapping(value: object, where: str) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{where}: fields are expected here, as `name: value`")
    return value

"""`kubeedge.yaml` on the boot partition: who this machine is, how it reaches the cloud, and the token by which it joins.

    name: cam7
    cloud: cloud.example:10002
    token: ...                      # removed from the file once the machine has joined
    joinKey: ...                    # in place of name and token, on many cards: the board is known by its serial number, once that is approved
    network:                        # without it: DHCP on eth0
      interface: eth0
      address: 192.168.1.7/24
      gateway: 192.168.1.1
      nameservers: [192.168.1.1]
      wifi:                         # on wlan0, where no interface is named
        ssid: plant
        password: ...               # 8 to 63 characters, or the key of 64 hexadecimal digits; without it the network is open
        country: DE                 # whose radio regulations apply
        hidden: false
    timeServers: [pool.ntp.org]
    timeZone: Europe/Berlin
    sshKeys: ["ssh-ed25519 AAAA..."]   # SSH for root with these keys; without any there is no SSH
    updates:
      good: cloud                      # an image is good once its agent has reached the cloud; running: once it works
      minutes: 10                      # for that; then the machine starts again
    agent: {}                          # as in /etc/kubeedge/kubeedge.yaml

The file is whoever's who holds the card, so its form is checked, and an error says where it is. Nothing here reads or writes files.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from kubeedge_card import document

MAX_BYTES = 64 * 1024  # of the file
_MAX_ITEMS = 16  # of each list
_MAX_TEXT = 1024  # characters of a value
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME_FORM = "at most 63 lower-case letters, digits and '-'"
_INTERFACE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")
_CLOUD = re.compile(r"[A-Za-z0-9.:\[\]-]{1,260}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,252})")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}")
_SSH_KEY = re.compile(r"(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]{16,}( [^\n\r\0]*)?")
_COUNTRY = re.compile(r"[A-Z]{2}")
_PASSWORD = re.compile(r"[ -~]{8,63}|[0-9a-fA-F]{64}")
_GOOD = re.compile(r"cloud|running")
_MAX_SSID = 32  # bytes
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,1024}")
_SECRETS = ("token", "joinKey")
_TOKEN_LINE = re.compile(r"^(?:token|joinKey)[ \t]*:.*(?:\n(?:[ \t]+.*)?)*?(?=\n\S|\Z)\n?", re.MULTILINE)


class BadConfig(ValueError):
    """The text says which field is wrong, and what is expected there."""


@dataclass(frozen=True, slots=True)
class Wifi:
    """An access point; without a password it is an open one."""

    ssid: str
    password: str = field(default="", repr=False)
    country: str = ""
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Network:
    """`address` with its prefix length, as 192.168.1.7/24; "" asks DHCP."""

    interface: str = "eth0"
    address: str = ""
    gateway: str = ""
    nameservers: tuple[str, ...] = ()
    wifi: Wifi | None = None


@dataclass(frozen=True, slots=True)
class Updates:
    """When an image that is new here is good."""

    good: str = "cloud"
    minutes: int = 10


@dataclass(frozen=True, slots=True)
class CardConfig:
    """What the file says. `token` and `join_key` are "" once the machine has joined; `name` is where the cloud says it: a board that is
    known by its serial number has it from there, and the file says nothing of it afterwards either."""

    name: str
    cloud: str
    token: str = field(default="", repr=False)
    join_key: str = field(default="", repr=False)
    network: Network = Network()
    time_servers: tuple[str, ...] = ()
    time_zone: str = ""
    ssh_keys: tuple[str, ...] = ()
    updates: Updates = Updates()
    agent: Mapping[str, Any] = field(default_factory=dict)


def parse(found: object) -> CardConfig:
    """Of what the file says in YAML. Raises BadConfig."""
    fields = _mapping(found, "kubeedge.yaml")
    known = ("name", "cloud", "token", "joinKey", "network", "timeServers", "timeZone", "sshKeys", "updates", "agent")
    _refuse_unknown(fields, known, "")
    zone = _text(fields, "timeZone", _ZONE, "a name such as Europe/Berlin")
    join_key = _text(fields, "joinKey", _TOKEN, "what `kubeedge token create --join-key` printed")
    if join_key and (fields.get("name") or fields.get("token")):
        raise BadConfig("joinKey: only without name and token; whoever approves the board says its name")
    return CardConfig(
        name=_required(fields, "name", _NAME, _NAME_FORM) if "name" in fields else "",
        join_key=join_key,
        cloud=_required(fields, "cloud", _CLOUD, "HOST or HOST:PORT"),
        token=_text(fields, "token", _TOKEN, "what `kubeedge token create` printed"),
        network=_network(_mapping(fields.get("network") or {}, "network")),
        time_servers=_texts(fields, "timeServers", _HOST, "names or addresses"),
        time_zone=zone,
        ssh_keys=_texts(fields, "sshKeys", _SSH_KEY, "public keys, as in authorized_keys"),
        updates=_updates(_mapping(fields.get("updates") or {}, "updates")),
        agent=_mapping(fields.get("agent") or {}, "agent"),
    )


def without_token(text: str) -> str:
    """The file without its token. Everything else stays as it was, comments too, where the token is a line, or lines, of its own; where it is
    not, as in JSON, the other fields stay."""
    shorter = _TOKEN_LINE.sub("", text)
    with contextlib.suppress(yaml.YAMLError):
        before, after = document.plain(text), document.plain(shorter)
        if not isinstance(before, dict):  # empty, where all that is wanted is in the files of Imager
            return text
        wanted = {name: value for name, value in before.items() if name not in _SECRETS}
        if after == wanted:
            return shorter
        return yaml.safe_dump(wanted, sort_keys=False)
    return shorter


def _updates(fields: Mapping[str, Any]) -> Updates:
    _refuse_unknown(fields, ("good", "minutes"), "updates.")
    good = _text(fields, "good", _GOOD, "cloud or running", "updates.") or "cloud"
    return Updates(good, _number(fields, "minutes", 1, 240, 10))


def _number(fields: Mapping[str, Any], name: str, least: int, most: int, default: int) -> int:
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadConfig(f"updates.{name}: expected is a number from {least} to {most}")
    return value


def _network(fields: Mapping[str, Any]) -> Network:
    _refuse_unknown(fields, ("interface", "address", "gateway", "nameservers", "wifi"), "network.")
    wifi = _wifi(_mapping(fields["wifi"], "network.wifi")) if fields.get("wifi") else None
    interface = _text(fields, "interface", _INTERFACE, "the name of an interface", "network.") or (
        "wlan0" if wifi else "eth0"
    )
    servers = _texts(fields, "nameservers", _HOST, "addresses", "network.")
    address, gateway = (
        _text(fields, name, _HOST_OR_NETWORK, "an address", "network.") for name in ("address", "gateway")
    )
    try:
        if address:
            if "/" not in address:
                raise BadConfig(f"network.address: {address} is without the length of its network, such as /24")
            ipaddress.ip_interface(address)
        for text in (*servers, *([gateway] if gateway else [])):
            ipaddress.ip_address(text)
    except ValueError as exc:
        raise exc if isinstance(exc, BadConfig) else BadConfig(f"network: {exc}") from exc
    if gateway and not address:
        raise BadConfig("network.gateway: only beside an address; DHCP says which gateway it is")
    return Network(interface, address, gateway, servers, wifi)


def _wifi(fields: Mapping[str, Any]) -> Wifi:
    _refuse_unknown(fields, ("ssid", "password", "country", "hidden"), "network.wifi.")
    ssid = _scalar(fields, "ssid")
    if not 1 <= len(ssid.encode(errors="replace")) <= _MAX_SSID or not ssid.isprintable():
        raise BadConfig(f"network.wifi.ssid: expected are 1 to {_MAX_SSID} bytes")
    hidden = fields.get("hidden") or False
    if not isinstance(hidden, bool):
        raise BadConfig("network.wifi.hidden: expected is true or false")
    password = _scalar(fields, "password")  # blanks at its ends are part of it
    if password and not _PASSWORD.fullmatch(password):
        raise BadConfig("network.wifi.password: expected are 8 to 63 characters of ASCII, or 64 hexadecimal digits")
    return Wifi(ssid, password, _text(fields, "country", _COUNTRY, "two letters, such as DE", "network.wifi."), hidden)


_HOST_OR_NETWORK = re.compile(r"[0-9A-Fa-f.:/]{1,64}")


def _scalar(fields: Mapping[str, Any], name: str) -> str:
    """A text, or what YAML has read as a number; nothing that may be larger when it is written out than it was."""
    value = fields.get(name) or ""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise BadConfig(f"network.wifi.{name}: expected is a text")
    return str(value)


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise BadConfig(f"{where}: fields are expected here, as `name: value`")
    return value


def _refuse_unknown(fields: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    if unknown := sorted(set(fields) - set(known)):
        raise BadConfig(f"{where}{unknown[0][:40]}: unknown; there are {', '.join(known)}")


def _required(fields: Mapping[str, Any], name: str, form: re.Pattern[str], what: str) -> str:
    if not (text := _text(fields, name, form, what)):
        raise BadConfig(f"{name}: missing; it is {what}")
    return text


def _text(fields: Mapping[str, Any], name: str, form: re.Pattern[str], what: str, where: str = "") -> str:
    value = fields.get(name)
    return "" if value is None or value == "" else _one(value, where + name, form, what)


def _one(value: object, name: str, form: re.Pattern[str], what: str) -> str:
    # YAML reads some names as numbers
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or len(text) > _MAX_TEXT or not form.fullmatch(text.strip()):
        raise BadConfig(f"{name}: expected is {what}")
    return text.strip()


def _texts(fields: Mapping[str, Any], name: str, form: re.Pattern[str], what: str, where: str = "") -> tuple[str, ...]:
    value = fields.get(name) or []
    if not isinstance(value, list) or len(value) > _MAX_ITEMS:
        raise BadConfig(f"{where}{name}: expected is a list of at most {_MAX_ITEMS}: {what}")
    return tuple(_one(item, where + name, form, what) for item in value)

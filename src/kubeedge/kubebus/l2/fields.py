"""Checked fields of a CONTROL frame's JSON object. Pure. All raise PeerError for what a peer may not send."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

from kubeedge.api.node_ipv6 import NodeIpv6, decode
from kubeedge.errors import Invalid, PeerError

MAX_LIST = 256  # entries of a list in one message, which has 16 KiB
MAX_WORD = 64  # characters of an instance or a relay's name


def parse(payload: bytes) -> dict[str, Any]:
    """The JSON object of a CONTROL frame."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as exc:
        raise PeerError("a control frame is not JSON") from exc
    if not isinstance(message, dict):
        raise PeerError("a control frame is not a JSON object")
    return message


def mtu(message: dict[str, Any], key: str) -> int:
    """The MTU in one entry of the list `key`; 0: not known."""
    value = integer(message, "mtu", 0)
    if value and not 68 <= value <= 65_535:
        raise PeerError(f"{key}: {value} is not an MTU")
    return value


def prefixes(message: dict[str, Any], key: str) -> tuple[str, ...]:
    """Networks in their normal form."""
    return tuple(prefix(text, key) for text in texts(message, key))


def prefix(value: object, key: str) -> str:
    """One network of the list `key`, in its normal form."""
    try:
        if not isinstance(value, str):
            raise ValueError
        return str(ip_network(value))
    except ValueError as exc:
        raise PeerError(f"{key}: {str(value)[:40]!r} is not a network") from exc


def ipv6(message: dict[str, Any], key: str) -> NodeIpv6:
    """What a node has of IPv6; nothing when it is absent."""
    try:
        return decode(message.get(key))
    except Invalid as exc:
        raise PeerError(str(exc)) from exc


def word(message: dict[str, Any], key: str) -> str:
    """At most 64 printable characters; "" when it is absent."""
    value = message.get(key, "")
    if not isinstance(value, str) or len(value) > MAX_WORD or not value.isprintable():
        raise PeerError(f"{key} is not a short word")
    return value


def text(message: dict[str, Any], key: str) -> str:
    """Text of any length that fits a frame."""
    value = message.get(key)
    if not isinstance(value, str):
        raise PeerError(f"{key} is not text")
    return value


def integer(message: dict[str, Any], key: str, default: int | None = None) -> int:
    """32 bits without a sign; `default` None: it must be there."""
    value = message.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 32:
        raise PeerError(f"{key} is not a number of 32 bits")
    return value


def texts(message: dict[str, Any], key: str) -> tuple[str, ...]:
    """A list of text; () when it is absent."""
    value = message.get(key, [])
    if not isinstance(value, list) or len(value) > MAX_LIST or not all(isinstance(v, str) for v in value):
        raise PeerError(f"{key} is not a list of text")
    return tuple(value)

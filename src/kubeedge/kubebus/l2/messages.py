"""What hello and welcome carry, and the JSON objects of it on a link. Pure.

Lives elsewhere: when they are said (core.py), checks of single fields (fields.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubeedge.api.names import NodeNumber
from kubeedge.api.node_ipv6 import NONE, NodeIpv6
from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kubebus.l2 import fields

VERSION = 1
MAX_ROUTES = fields.MAX_LIST  # in one message
MAX_SLOTS = 8  # links of one node: what the data plane takes


@dataclass(frozen=True, slots=True)
class Subnet:
    """A network behind a node. mtu: the smallest of its interfaces, 0 when it is not known."""

    prefix: str
    mtu: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """`instance` is random for each start of an agent: links of one instance belong together, those of another replace them."""

    features: Sequence[str] = ("gso",)
    instance: str = ""
    slot: int = 0  # which of the instance's links this is
    keepalive: float = 0.0  # seconds of silence until the edge asks; 0: it does not say
    subnets: Sequence[Subnet] = ()  # networks behind the node that the others may reach
    relay: str = ""  # of a relay that dials another: its own name


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the relay says of the node, and of itself."""

    number: NodeNumber
    address: str
    pod_cidr: str
    routes: Sequence[Subnet]
    mtu: int
    relay: str = ""  # which process of the cloud this is
    relay_number: NodeNumber = NodeNumber(0)  # where its own services are
    refused: Sequence[str] = ()  # subnets that the tenant does not allow
    ipv6: NodeIpv6 = NONE  # of the node; a relay of before does not say it


def of_hello(hello: Hello) -> dict[str, Any]:
    """The JSON object of a hello; that of a relay has its name alone."""
    message: dict[str, Any] = {"type": "hello", "version": VERSION, "features": list(hello.features)}
    if hello.relay:
        return {**message, "relay": hello.relay}
    return {
        **message,
        "instance": hello.instance,
        "slot": hello.slot,
        "keepalive": hello.keepalive,
        "subnets": of_subnets(hello.subnets),
    }


def hello(message: dict[str, Any]) -> Hello:
    """Raises PeerError for what a peer may not send."""
    slot = fields.integer(message, "slot", 0)
    if slot >= MAX_SLOTS:
        raise PeerError(f"slot {slot}; a node has at most {MAX_SLOTS} links")
    keepalive = message.get("keepalive", 0)
    if not isinstance(keepalive, int | float) or not 0 <= keepalive <= 86_400:
        raise PeerError("keepalive is not a number of seconds")
    return Hello(
        features=fields.texts(message, "features"),
        instance=fields.word(message, "instance"),
        slot=slot,
        keepalive=float(keepalive),
        subnets=subnets(message, "subnets"),
        relay=fields.word(message, "relay"),
    )


def of_welcome(welcome: Welcome) -> dict[str, Any]:
    """A welcome as the JSON object of its CONTROL frame."""
    message = {
        "type": "welcome",
        "number": welcome.number,
        "address": welcome.address,
        "podCIDR": welcome.pod_cidr,
        "routes": of_subnets(welcome.routes),
        "mtu": welcome.mtu,
        "relay": welcome.relay,
        "relayNumber": welcome.relay_number,
        "refused": list(welcome.refused),
    }
    return {**message, "ipv6": welcome.ipv6.encode()} if welcome.ipv6 else message


def welcome(message: dict[str, Any]) -> Welcome:
    """Raises PeerError for what a relay may not send."""
    return Welcome(
        NodeNumber(fields.integer(message, "number")),
        fields.text(message, "address"),
        fields.text(message, "podCIDR"),
        subnets(message, "routes"),
        fields.integer(message, "mtu"),
        fields.word(message, "relay"),
        NodeNumber(fields.integer(message, "relayNumber", 0)),
        fields.texts(message, "refused"),
        fields.ipv6(message, "ipv6"),
    )


def of_subnets(subnets: Sequence[Subnet]) -> list[dict[str, Any]]:
    """A list of networks, as routes and hello have it."""
    return [{"prefix": s.prefix, "mtu": s.mtu} if s.mtu else {"prefix": s.prefix} for s in subnets]


def subnets(message: dict[str, Any], key: str) -> tuple[Subnet, ...]:
    """The list of networks at `key`; none when there is none. Raises PeerError."""
    value = message.get(key, [])
    if not isinstance(value, list) or len(value) > MAX_ROUTES or not all(isinstance(v, dict) for v in value):
        raise PeerError(f"{key} is not a list of networks")
    return tuple(Subnet(fields.prefix(v.get("prefix"), key), fields.mtu(v, key)) for v in value)

"""What a node has of IPv6, beside its number and its addresses of IPv4: of its record, of what it is told when it joins, of a welcome. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

MAX_TEXT = 64  # characters of an address with its prefix length; the longest has 43


def _interface(text: str) -> None:
    if text and (len(text) > MAX_TEXT or "/" not in text or not _is(ipaddress.IPv6Interface, text) or "%" in text):
        raise ValueError("is not an IPv6 address with its prefix length, like fd00:100:64::1/64")


def _network(text: str) -> None:
    if text and (len(text) > MAX_TEXT or not _is(ipaddress.IPv6Network, text)):
        raise ValueError("is not an IPv6 network, like fd00:10:244::/48")


def _is(kind: type[ipaddress.IPv6Interface | ipaddress.IPv6Network], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIpv6:
    """All three are "" on a node that has IPv4 alone."""

    address: str = field(
        default="", metadata={"doc": 'on the overlay, for example "fd00:100:64::1/64"', "form": _interface}
    )
    pod_cidr: str = field(default="", metadata={"doc": "addresses of the pods of this node", "form": _network})
    pod_network: str = field(default="", metadata={"doc": "addresses of the pods of all nodes", "form": _network})

    def __bool__(self) -> bool:
        return bool(self.address and self.pod_cidr)

    @property
    def ip(self) -> str:
        """The address without its prefix length; "" for none."""
        return self.address.split("/")[0]

    @property
    def own(self) -> tuple[str, ...]:
        """The networks that are this node: its address and its pods."""
        return (f"{self.ip}/128", self.pod_cidr) if self else ()

    @property
    def networks(self) -> tuple[str, ...]:
        """Those of all nodes and of all pods."""
        if not self:
            return ()
        return str(ipaddress.IPv6Interface(self.address).network), self.pod_network or self.pod_cidr

    def encode(self) -> dict[str, str]:
        """JSON without what there is not."""
        found = {"address": self.address, "podCIDR": self.pod_cidr, "podNetwork": self.pod_network}
        return {name: text for name, text in found.items() if text}


NONE = NodeIpv6()


def decode(values: Any) -> NodeIpv6:
    """What encode() made, from a record or a peer; NONE for None. Raises Invalid."""
    if values is None:
        return NONE
    if not isinstance(values, Mapping):
        raise Invalid("a mapping of addresses is required", path="ipv6")
    texts = {name: values.get(name, "") for name in ("address", "podCIDR", "podNetwork")}
    for name, check in (("address", _interface), ("podCIDR", _network), ("podNetwork", _network)):
        if not isinstance(texts[name], str):
            raise Invalid("text is required", path=f"ipv6.{name}")
        try:
            check(texts[name])
        except ValueError as exc:
            raise Invalid(f"{texts[name]!r:.80} {exc}", path=f"ipv6.{name}") from exc
    return NodeIpv6(address=texts["address"], pod_cidr=texts["podCIDR"], pod_network=texts["podNetwork"])

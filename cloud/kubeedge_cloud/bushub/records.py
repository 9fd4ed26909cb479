"""What relays register of themselves and of their nodes in the store. Pure.

    /bus/relays/ID       RelayRecord   {"addresses": ["203.0.113.1:10010"], "number": 256, "tun": [1, "100.64.255.254/16"]}
    /bus/nodes/T/N       NextHop       {"relay": ID, "number", "tenant", "instance", "prefixes", "subnets"}

Other cloud processes wrote them, of other versions perhaps: what cannot be read does not count as a record.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from kubeedge.api.names import NodeNumber, TenantNumber
from kubeedge.kubebus.l2.messages import Subnet


@dataclass(frozen=True, slots=True)
class NextHop:
    """The relay that a node is linked to."""

    relay: str
    tenant: TenantNumber  # its number
    number: NodeNumber
    instance: str
    prefixes: Sequence[str]
    subnets: Sequence[Subnet]

    def encode(self) -> bytes:
        """Compact JSON, the value of /bus/nodes/T/N."""
        value = {
            "relay": self.relay, "tenant": self.tenant, "number": self.number, "instance": self.instance,
            "prefixes": list(self.prefixes), "subnets": [[s.prefix, s.mtu] for s in self.subnets],
        }  # fmt: skip
        return json.dumps(value, separators=(",", ":")).encode()


def decode_next_hop(value: bytes) -> NextHop | None:
    """The next hop that NextHop.encode() wrote; None for a value that cannot be read."""
    try:
        v = json.loads(value)
        subnets = [Subnet(str(prefix), int(mtu)) for prefix, mtu in v["subnets"]]
        return NextHop(
            v["relay"],
            TenantNumber(int(v["tenant"])),
            NodeNumber(int(v["number"])),
            v["instance"],
            list(v["prefixes"]),
            subnets,
        )
    except (ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class RelayRecord:
    """A relay, while it lives. `tun`: the tenant number and address of its own interface."""

    addresses: Sequence[str]  # "host:port"
    number: NodeNumber  # in L4
    tun: tuple[TenantNumber, str] | None

    def encode(self) -> bytes:
        """The value of /bus/relays/ID, as JSON."""
        value = {
            "addresses": list(self.addresses),
            "number": self.number,
            "tun": list(self.tun) if self.tun else None,
        }
        return json.dumps(value).encode()


def decode_relay(value: bytes) -> RelayRecord | None:
    """The record that RelayRecord.encode() wrote; None for a value that cannot be read."""
    try:
        v = json.loads(value)
        tun = (TenantNumber(int(v["tun"][0])), str(v["tun"][1])) if v.get("tun") else None
        return RelayRecord([str(a) for a in v["addresses"]], NodeNumber(int(v["number"])), tun)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None

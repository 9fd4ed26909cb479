"""What this node has of IPv6: kept beside its credentials, told by the relay to a node that joined before the cloud had any, and left out where the
kernel has none."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from kubeedge.api.node_ipv6 import NONE, NodeIpv6
from kubeedge.config.node_credentials import NodeCredentials, ipv6_path
from kubeedge.kit import ipv6
from kubeedge.kit.dataclasses import replace
from kubeedge.pki.files import write_secret

log = logging.getLogger("kubeedge.agent")


def save(path: Path, found: NodeIpv6) -> None:
    """Beside node.json, whose path is given; nothing is left there for none. Raises OSError."""
    if found:
        write_secret(ipv6_path(path), json.dumps(found.encode(), indent=2).encode() + b"\n")
    else:
        ipv6_path(path).unlink(missing_ok=True)


def usable(credentials: NodeCredentials) -> tuple[NodeCredentials, str]:
    """What this machine can have of it, and why it has no IPv6 though the cloud has some for it; "" for no reason."""
    if not credentials.ipv6 or not (why := ipv6.problem()):
        return credentials, ""
    log.warning("pods of this node have IPv4 alone: %s", why)
    return replace(credentials, ipv6=NONE), why


class ToldAddresses:
    """Told by the relay with each link. Others than those that are kept are kept from then on, and the agent starts anew with them: containers go on,
    and pods that start have both versions."""

    def __init__(self, path: Path, kept: NodeIpv6, restart: Callable[[], None]) -> None:
        self._path = path
        self._kept = kept
        self._restart = restart

    def __call__(self, told: NodeIpv6) -> None:
        """A relay that says nothing, of an earlier version or without IPv6 now, takes nothing away."""
        if not told or told == self._kept:
            return
        try:
            save(self._path, told)
        except OSError as exc:
            log.warning("addresses of IPv6 are not kept: %s", exc)
            return
        self._kept = told
        log.info("addresses of IPv6 from now on: %s, pods %s", told.ip, told.pod_cidr)
        self._restart()

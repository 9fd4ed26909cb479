"""What a CRI runtime and the kernel count of pods beyond processor and memory. Blocking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kubeedge.api.names import Object
from kubeedge.appengine.runtime import detail_files
from kubeedge.appengine.runtime.cri.configs import CONTAINER, POD_UID
from kubeedge.appengine.runtime.cri.found import label
from kubeedge.appengine.runtime.detail import GroupDetail, InterfaceCount, PodDetail

_MAX_INTERFACES = 16


def pod_details(
    running: Iterable[Object], sandboxes: Iterable[Object], group_of: Callable[[str], str]
) -> list[PodDetail]:
    """Of Containers and PodSandboxStats of CRI. `group_of`: the control group of a pod, by uid; "": it is not known."""
    networks = {label(entry.get("attributes", {}), POD_UID): interfaces(entry) for entry in sandboxes}
    containers: dict[str, dict[str, GroupDetail]] = {}
    for container in running:
        uid = label(container, POD_UID)
        of = containers.setdefault(uid, {})
        if group := group_of(uid):
            of[label(container, CONTAINER)] = detail_files.of_group(f"{group}/{container['id']}")
    return [
        PodDetail(
            uid, detail_files.of_group(group) if (group := group_of(uid)) else GroupDetail(), own, networks.get(uid, [])
        )
        for uid, own in containers.items()
    ]


def interfaces(sandbox: Object) -> list[InterfaceCount]:
    """CRI counts bytes and errors, and neither packets nor what was dropped."""
    network = sandbox.get("linux", {}).get("network", {})
    first = network.get("default_interface")
    each = [*([first] if first else []), *network.get("interfaces", ())]
    return [_interface(entry) for entry in each[:_MAX_INTERFACES]]


def _interface(entry: Mapping[str, Any]) -> InterfaceCount:
    def count(name: str) -> int:
        return int(entry.get(name, {}).get("value", 0))

    return InterfaceCount(
        name=str(entry.get("name", "")),
        received_bytes=count("rx_bytes"),
        received_packets=None,
        received_errors=count("rx_errors"),
        received_dropped=None,
        sent_bytes=count("tx_bytes"),
        sent_packets=None,
        sent_errors=count("tx_errors"),
        sent_dropped=None,
    )

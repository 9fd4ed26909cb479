"""The pod's network, by CNI plugins (containernetworking/cni, SPEC.md 0.4.0): one process a call, JSON in, JSON out."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from kubeedge.api.pod import Port
from kubeedge.appengine.runtime.base import StartError
from kubeedge.kit import ipv6
from kubeedge.kit.dataclasses import dataclass

_TIMEOUT = 120.0  # seconds for one plugin, or for nft; both end at once on a machine that is not overloaded
TABLE = "kubeedge"  # of nftables: ours alone; `kubeedge reset` removes it
_VERSION = "0.4.0"
#: a plugin is a Go program of 10 MB and more, and bridge calls another one: more of them than processors is memory for nothing
_turns = threading.BoundedSemaphore(os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Network:
    """A bridge on this node, with addresses of the node's pod CIDRs: of IPv4, and of IPv6 if there is one."""

    bridge: str
    pod_cidrs: Sequence[str]
    data: Path  # where host-local keeps which address is whose
    bin_dirs: Sequence[str]
    mtu: int = 1500

    def add(self, container_id: str, netns: Path, ports: Sequence[dict[str, Any]] = ()) -> list[str]:
        """Connect a network namespace, `ports` of the node with it; its addresses, that of IPv4 first. Blocking. Raises StartError."""
        result = self._call("ADD", "bridge", self._bridge(), container_id, netns, "eth0")
        if ports:
            self._call("ADD", "portmap", {**_portmap(ports), "prevResult": result}, container_id, netns, "eth0")
        found = [str(ip["address"]).split("/")[0] for ip in result.get("ips", ())]
        if not found:
            raise StartError("FailedCreatePodSandBox", "the CNI plugin gave no address")
        return sorted(found, key=lambda address: ":" in address)

    def remove(self, container_id: str, netns: Path, ports: Sequence[dict[str, Any]] = ()) -> None:
        """Disconnect and give the address back; what is gone already is success."""
        if ports:
            self._call("DEL", "portmap", _portmap(ports), container_id, netns, "eth0")
        self._call("DEL", "bridge", self._bridge(), container_id, netns, "eth0")

    def has(self, address: str) -> bool:
        """Whether it is one of this node's addresses for pods; "" is none of another node's."""
        return not address or ip_address(address) in ip_network(self.pod_cidrs[0], strict=False)

    def conflist(self) -> dict[str, Any]:
        """The same network as a configuration list, for a runtime that calls the plugins itself."""
        ports = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
        return {"cniVersion": _VERSION, "name": "kubeedge", "plugins": [self._bridge(), ports]}

    def _bridge(self) -> dict[str, Any]:
        return {
            "type": "bridge",
            "bridge": self.bridge,
            "isGateway": True,
            "forceAddress": True,  # that of an earlier pod CIDR gives way: the node joined again
            "ipMasq": False,  # one rule of ours for the whole node, see masquerade
            "hairpinMode": True,
            "mtu": self.mtu,
            "ipam": {
                "type": "host-local",
                "dataDir": str(self.data),
                "ranges": [[{"subnet": pod_cidr}] for pod_cidr in self.pod_cidrs],
                "routes": [{"dst": "::/0" if ":" in pod_cidr else "0.0.0.0/0"} for pod_cidr in self.pod_cidrs],
            },
        }

    def _call(
        self, command: str, plugin: str, config: dict[str, Any], container_id: str, netns: Path, interface: str
    ) -> dict[str, Any]:
        path = next((Path(d) / plugin for d in self.bin_dirs if (Path(d) / plugin).exists()), None)
        if path is None:
            raise StartError(
                "FailedCreatePodSandBox",
                f"CNI plugin {plugin!r} is not in {', '.join(self.bin_dirs)}; install containernetworking-plugins",
            )
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": str(netns),
            "CNI_IFNAME": interface,
            "CNI_PATH": ":".join(self.bin_dirs),
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        }
        request = json.dumps({"cniVersion": _VERSION, "name": "kubeedge", **config})
        try:
            with _turns:
                done = subprocess.run(
                    [str(path)], input=request, capture_output=True, text=True, env=environment, timeout=_TIMEOUT
                )
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise StartError("FailedCreatePodSandBox", f"CNI plugin {plugin}: {exc}") from exc
        try:
            answer: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
        except ValueError:
            answer = {}
        if done.returncode:
            message = answer.get("msg") or done.stderr.strip() or f"exit status {done.returncode}"
            raise StartError("FailedCreatePodSandBox", f"CNI plugin {plugin}: {message}")
        return answer


def port_mapping(port: Port) -> dict[str, Any]:
    """A port in the form of the capability portMappings (containernetworking/cni, CONVENTIONS.md)."""
    mapping = {"hostPort": port.host, "containerPort": port.container, "protocol": port.protocol.lower()}
    return {**mapping, "hostIP": port.host_ip} if port.host_ip else mapping


def _portmap(ports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    config = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    return {**config, "runtimeConfig": {"portMappings": list(ports)}}


def masquerade(pod_cidrs: Sequence[str], overlay: Sequence[str]) -> None:
    """Pods reach the outside with the node's addresses, and the overlay with their own. Blocking, idempotent. Raises OSError when a kernel has no
    translation of one family; the other one is there all the same."""
    problems = []
    for pod_cidr in pod_cidrs:
        family = "ip6" if ":" in pod_cidr else "ip"
        near = ", ".join(network for network in overlay if (":" in network) == (family == "ip6"))
        rules = (
            f"table {family} {TABLE} {{\n}}\nflush table {family} {TABLE}\ntable {family} {TABLE} {{\n"
            "  chain postrouting {\n    type nat hook postrouting priority 100;\n"
            f"    {family} saddr {pod_cidr} {family} daddr != {{ {near} }} masquerade\n  }}\n}}\n"
        )
        done = subprocess.run(["nft", "-f", "-"], input=rules, capture_output=True, text=True, timeout=_TIMEOUT)
        if done.returncode:
            problems.append(f"nft: {done.stderr.strip()}")
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    if forwarding.read_text().strip() != "1":
        forwarding.write_text("1")
    if any(":" in pod_cidr for pod_cidr in pod_cidrs):
        ipv6.forward()
    if problems:
        raise OSError("; ".join(problems))

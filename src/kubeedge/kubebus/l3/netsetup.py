"""Addresses and routes of an interface, by netlink, in a short-lived helper process.

pyroute2 costs more memory than the rest of the agent's network code together; an address is set once in the agent's life, and routes
change rarely. So a helper does it and ends: `python -m kubeedge.kubebus.l3.netsetup` reads one JSON object and exits with 0, or says
why not.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubeedge.errors import Unavailable

_PATIENCE = 15.0  # seconds; a loaded Raspberry Pi needs two
_RTN_UNICAST = 1  # rtnetlink(7)
_METRIC = 5000  # of learned routes: what the machine knows by itself comes first


async def configure(interface: str, address: str, *, mtu: int, routes: Sequence[str]) -> None:
    """Set the address ("100.64.0.1/16"), bring the interface up, route `routes` to it, allow forwarding. Idempotent.

    Raises Unavailable with the kernel's reason.
    """
    request = {"do": "configure", "interface": interface, "address": address, "mtu": mtu, "routes": list(routes)}
    await _help(request, f"set up {interface}")


async def change_routes(interface: str, add: Sequence[tuple[str, int]], withdraw: Sequence[str]) -> None:
    """Routes (prefix, mtu; 0 is the interface's) to and from the interface. Idempotent. Raises Unavailable."""
    request = {"do": "routes", "interface": interface, "add": [list(a) for a in add], "withdraw": list(withdraw)}
    await _help(request, f"change the routes of {interface}")


async def mtu_of(networks: Sequence[str]) -> dict[str, int]:
    """The MTU of the interface that leads to each network; what has no route is left out. Raises Unavailable."""
    answer = await _help({"do": "mtu", "networks": list(networks)}, "look up the interfaces of subnets")
    return {str(k): int(v) for k, v in answer.items()}


async def forward_ipv6() -> None:
    """Let this machine forward IPv6. Raises Unavailable.

    A machine that forwards does not listen to router advertisements any more (accept_ra 1, Linux: networking/ip-sysctl), and its own default
    route may come from them: interfaces that listened go on (2).
    """
    await _help({"do": "forward6"}, "let this machine forward IPv6")


async def _help(request: dict[str, Any], what: str) -> dict[str, Any]:
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "kubeedge.kubebus.l3.netsetup",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as exc:  # no descriptors, no processes, no memory left: that may pass
        raise Unavailable(f"cannot {what}: {exc}") from exc
    try:
        async with asyncio.timeout(_PATIENCE):
            answer, said = await process.communicate(json.dumps(request).encode())
    except TimeoutError as exc:
        raise Unavailable(f"to {what} took more than {_PATIENCE:g} s") from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        raise Unavailable(f"cannot {what}: {lines[-1] if lines else 'no reason given'}")
    result: dict[str, Any] = json.loads(answer or b"{}")
    return result


def apply(request: dict[str, Any]) -> dict[str, int]:
    if request["do"] == "forward6":
        _forward_ipv6(Path("/proc/sys/net/ipv6/conf"))
        return {}
    from pyroute2 import IPRoute

    with IPRoute() as ip:
        match request["do"]:
            case "routes":
                (index,) = ip.link_lookup(ifname=request["interface"])
                _change_routes(ip, index, request["add"], request["withdraw"])
                return {}
            case "mtu":
                return {network: mtu for network in request["networks"] if (mtu := _mtu_of(ip, network))}
        (index,) = ip.link_lookup(ifname=request["interface"])
        address, bits = request["address"].split("/")
        ip.addr("replace", index=index, address=address, prefixlen=int(bits))
        ip.link("set", index=index, mtu=request["mtu"], state="up")
        for route in request["routes"]:
            ip.route("replace", dst=route, oif=index)
    with open("/proc/sys/net/ipv4/ip_forward", "r+") as forwarding:
        if forwarding.read().strip() != "1":
            forwarding.seek(0)
            forwarding.write("1")
    return {}


def _forward_ipv6(settings: Path) -> None:
    forwarding = settings / "all/forwarding"
    if forwarding.read_text().strip() == "1":
        return
    for accept in settings.glob("*/accept_ra"):
        if accept.read_text().strip() == "1":
            accept.write_text("2")
    forwarding.write_text("1")


def _change_routes(ip: Any, index: int, add: list[list[Any]], withdraw: list[str]) -> None:
    from pyroute2.netlink.exceptions import NetlinkError

    for prefix in withdraw:
        try:
            ip.route("del", dst=prefix, oif=index, priority=_METRIC)
        except NetlinkError as exc:
            if exc.code != 3:  # ESRCH: it is gone already
                raise
    for prefix, mtu in add:
        more = {"metrics": {"mtu": mtu}} if mtu else {}
        ip.route("replace", dst=prefix, oif=index, priority=_METRIC, **more)


def _mtu_of(ip: Any, network: str) -> int:
    """Of the interface that a packet into the network would leave by."""
    from ipaddress import ip_network

    subnet = ip_network(network)
    last = min(subnet.num_addresses - 1, 5)
    for address in {str(subnet[min(n, last)]): None for n in (1, 2, 3, 4, 5, 0)}:
        try:
            (route,) = ip.route("get", dst=address)
            if route["type"] != _RTN_UNICAST:
                continue  # this machine's own address: its interface would be lo
            (link,) = ip.get_links(route.get_attr("RTA_OIF"))
        except Exception:
            return 0
        return min(int(link.get_attr("IFLA_MTU") or 0), 65_535)
    return 0


def main() -> int:
    try:
        print(json.dumps(apply(json.loads(sys.stdin.read(65536)))))
    except Exception as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

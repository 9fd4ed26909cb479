"""Addresses and routes of an interface, by netlink, in a short-lived helper process.

pyroute2 costs more memory than the rest of the agent's network code together; an address is set once in the agent's life. So a
helper does it and ends: `python -m kubeedge.kubebus.l3.netsetup` reads one JSON object and exits with 0, or says why not.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

from kubeedge.errors import Unavailable

_PATIENCE = 15.0  # seconds; a loaded Raspberry Pi needs two


async def configure(interface: str, address: str, *, mtu: int, routes: Sequence[str]) -> None:
    """Set the address ("100.64.0.1/16"), bring the interface up, route `routes` to it, allow forwarding. Idempotent.

    Raises Unavailable with the kernel's reason.
    """
    request = json.dumps({"interface": interface, "address": address, "mtu": mtu, "routes": list(routes)})
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kubeedge.kubebus.l3.netsetup",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_PATIENCE):
            _, said = await process.communicate(request.encode())
    except TimeoutError as exc:
        raise Unavailable(f"setting up {interface} took more than {_PATIENCE:g} s") from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        raise Unavailable(f"cannot set up {interface}: {lines[-1] if lines else 'no reason given'}")


def apply(request: dict[str, Any]) -> None:
    from pyroute2 import IPRoute

    with IPRoute() as ip:
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


def main() -> int:
    try:
        apply(json.loads(sys.stdin.read(65536)))
    except Exception as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

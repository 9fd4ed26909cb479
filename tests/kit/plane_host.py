"""One data plane in one host, for tests of the plane alone: no conversation, the identity decides everything.

    python -m tests.kit.plane_host '{"role": "relay", "listen": 7000, "tun": "100.64.255.254/16", ...}'

A relay admits node <n> of tenant <t> by its certificate .../tenant/t<T>/node/n<N>, with the addresses 100.64.0.N, fd64::N and
10.244.N.0/24; "mtus" says what is behind which node. "offload": what the kernel takes for the TUN (OFFLOADS).
Reads commands from stdin ("counters") and writes JSON lines: {"event": ...}.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import socket
import sys
from typing import Any

if built := os.environ.get("KUBEEDGE_TEST_PLANE"):  # a build of the extension that is watched, instead of the usual one
    import kubeedge._fastpath

    found = importlib.util.spec_from_file_location("kubeedge._fastpath.plane", built)
    assert found and found.loader
    sys.modules["kubeedge._fastpath.plane"] = kubeedge._fastpath.plane = importlib.util.module_from_spec(found)
    found.loader.exec_module(sys.modules["kubeedge._fastpath.plane"])

from kubeedge.kubebus.l3 import tun as tun_module
from kubeedge.kubebus.l3.netsetup import configure
from kubeedge.kubebus.l3.plane import Plane, PortClosed, PortConnected, SegmentReceived, TlsContext
from kubeedge.kubebus.l3.tun import open_tun

OFFLOADS = {"all": 0, "no uso": 1, "checksums": 2, "header": 3, "none": 4}  # how many of the tries the kernel refuses


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


async def main(config: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    relay = config["role"] == "relay"
    plane = Plane(config["number"])
    ports: set[int] = set()

    def on_events() -> None:
        for event in plane.events():
            match event:
                case PortConnected(port, uri):
                    ports.add(port)
                    if relay:
                        _, tenant, _, node = uri.removeprefix("spiffe://kubeedge/").split("/")
                        t, n = int(tenant[1:]), int(node[1:])
                        prefixes = [f"100.64.0.{n}/32", f"10.244.{n}.0/24", f"fd64::{n}/128"]
                        plane.set_source(t, "100.64.255.254")
                        plane.set_source(t, "fd64::fffe")
                        plane.admit(port, tenant=t, number=n, prefixes=prefixes)
                        for prefix in prefixes:
                            plane.add_route(t, prefix, n, mtu=config.get("mtus", {}).get(str(n), 0))
                    else:
                        plane.admit(port, tenant=0, number=0, prefixes=[])
                    say(event="up", uri=uri, port=port)  # not before: what arrives until then is dropped
                case PortClosed(port, reason):
                    ports.discard(port)
                    say(event="down", reason=reason, port=port)
                case SegmentReceived(_, tenant, source, payload):
                    say(event="segment", tenant=tenant, source=source, text=payload.decode())
                    if payload == b"hello":
                        plane.send_segment(tenant, source, b"welcome")

    loop.add_reader(plane.fileno(), on_events)
    if config.get("tun"):
        first = OFFLOADS[config.get("offload", "all")]
        tun_module._OFFLOADS = tun_module._OFFLOADS[first:]  # what an older kernel takes
        tun = open_tun("kb0", offload=bool(tun_module._OFFLOADS))
        own = [] if relay else [f"10.244.{config['number']}.0/24"]
        await configure("kb0", config["tun"], mtu=1500, routes=["10.244.0.0/16"], own=own)
        tenant = config.get("tenant", 0)
        if not relay:
            for prefix in ("100.64.0.0/16", "10.244.0.0/16", "fd64::/64"):
                plane.add_route(tenant, prefix, 0)
        port = plane.add_tun(tun.fd, tenant=tenant, vnet_hdr=tun.vnet_hdr, uso=tun.uso)
        plane.add_route(tenant, config["tun"].split("/")[0] + "/32", config["number"])
        plane.add_route(tenant, f"10.244.{config['number']}.0/24", config["number"])
        own6 = "fd64::fffe" if relay else f"fd64::{config['number']}"
        plane.add_route(tenant, f"{own6}/128", config["number"])
        plane.set_source(tenant, config["tun"].split("/")[0])
        plane.set_source(tenant, own6)
        plane.set_source(tenant, "100.64.255.253" if relay else "100.64.255.254", tun=True)
        plane.set_source(tenant, "fd64::fffd" if relay else "fd64::fffe", tun=True)
        say(event="tun", vnet_hdr=tun.vnet_hdr, uso=tun.uso, port=port)
    tls = TlsContext(config["ca"], config["cert"], config["key"], server=relay)
    if relay:
        listener = socket.create_server(("0.0.0.0", config["listen"]), backlog=256)
        listener.setblocking(False)

        async def accept() -> None:
            while True:
                link, _ = await loop.sock_accept(listener)
                plane.add_link(link.detach(), tls)

        accepting = asyncio.create_task(accept())
        say(event="listening")
    else:
        accepting = None
        link = socket.create_connection((config["relay"], config["port"]), timeout=5)
        plane.add_link(link.detach(), tls, server_name=config["relay"])
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := (await commands.readline()).decode().strip():
        if line == "counters":
            total: dict[str, int] = {}
            for port in sorted(ports):
                counters = plane.counters(port)
                if counters:
                    for name in counters.__slots__:
                        total[name] = total.get(name, 0) + getattr(counters, name)
            say(event="counters", **total)
        elif line.startswith("segment "):
            _, destination, text = line.split()
            address = int(destination).to_bytes(4, "big") + config["number"].to_bytes(4, "big")
            for port in ports:
                plane.send(port, 3, address + text.encode())
    if accepting:
        accepting.cancel()
    plane.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))

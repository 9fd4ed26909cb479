"""The fast path lets go of requests for host names that are not for published services, and of no others."""

from __future__ import annotations

import asyncio

from kubeedge.kit.http1 import close_writer
from tests.unit.kubebus_http.world import World, get, scenario

NAMES = ("shop.example", "*.wild.example", "*.a.b", "x")
#: Host -> is it one of them?
HOSTS = {
    "shop.example": True,
    "SHOP.Example:8080": True,
    "shop.example.": True,
    "shop.example.:80": True,
    "a.wild.example": True,
    "b.a.wild.example:1": True,
    "z.a.b": True,
    "x": True,
    "wild.example": False,
    "ashop.example": False,
    "shop.example.org": False,
    "shop.exampl": False,
    "b": False,
    ".b": False,
    "[::1]:8080": False,
    "203.0.113.1:8080": False,
    "y" * 255 + ".example": True,  # too long to be a name: the slow path says what it thinks of it
}


def request(host: str) -> bytes:
    return get("/t1/n1/shop/").replace(b"shop.example:8080", host.encode())


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    await close_writer(writer)


def test_hosts_of_gateways_are_handed_over() -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", hello)
        assert (await world.ask(request("shop.example"))).endswith(b"ok")
        for names, wanted in ((NAMES, HOSTS), ((), dict.fromkeys(HOSTS, False)), (NAMES[:1], {"shop.example": True})):
            world.client_fast_path.set_hosts(names)
            for host, routed in wanted.items():
                before = world.client_fast_path.counters()["handed_over"]
                assert (await world.ask(request(host))).startswith(b"HTTP/1.1 200")
                assert world.client_fast_path.counters()["handed_over"] - before == routed, host

    scenario(tell, fast=True)

"""The DNS server over UDP: real sockets of several clients on loopback, its thread, and what it leaves to the event loop."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import select
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from kubeedge._fastpath.dns import Answers, Responder

from kubeedge.mesh.dns.message import Code, Record, Type, check_answer, name_of, parse_query, reply
from kubeedge.mesh.dns.server import DnsServer
from kubeedge.mesh.dns.upstream import Said, Upstream
from kubeedge.mesh.dns.zone import Zone
from kubeedge.mesh.table import MeshTable
from tests.kit.ports import ADDRESS, ports
from tests.unit.mesh.test_dns import put, query

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
PATIENCE = 30.0


class World:
    def __init__(self, port: int, upstream: Upstream | None = None, *, outside: bool = False) -> None:
        self.table = MeshTable("edge1", [ipaddress.ip_network("10.244.0.0/16")])
        self.service("10.96.0.1")
        zone = Zone(self.table, "cluster.local", outside=outside)
        asked = None if outside else upstream or Upstream(lambda: ())
        self.server = DnsServer(zone, asked, ADDRESS, (), port=port, rate=100_000 if outside else 0)
        self._where = (ADDRESS, port)

    def service(self, address: str, name: str = "web") -> None:
        spec = {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80}]}
        put(self.table, f"/desired/services/default/{name}", {"spec": spec})

    def client(self, address: str = "127.0.0.1") -> socket.socket:
        link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        link.bind((address, 0))
        link.connect(self._where)
        link.settimeout(PATIENCE)
        return link

    async def ask(self, data: bytes, client: str = "127.0.0.1") -> bytes:
        with self.client(client) as link:
            link.send(data)
            return await asyncio.to_thread(link.recv, 4096)


def serving(
    scenario: Callable[[World], Awaitable[None]], upstream: Upstream | None = None, *, outside: bool = False
) -> None:
    async def run() -> None:
        (port,) = ports(1)
        world, ready = World(port, upstream, outside=outside), asyncio.Event()
        running = asyncio.create_task(world.server.run(ready))
        try:
            async with asyncio.timeout(120):
                await ready.wait()
                await scenario(world)
                assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


WEB = query("web.default.svc.cluster.local")


def test_a_second_query_is_answered_without_the_event_loop() -> None:
    async def scenario(world: World) -> None:
        first = await world.ask(WEB)
        with world.client("127.0.0.2") as link:  # nothing of Python runs in this loop until it has the answer
            link.send(b"\xaa\xbb" + WEB[2:])
            assert link.recv(512) == b"\xaa\xbb" + first[2:]
        counters = world.server.counters
        assert (counters.udp, counters.kept, counters.cluster, counters.refused) == (2, 1, 1, 0)

    serving(scenario)


def test_an_answer_follows_the_table_at_once() -> None:
    async def scenario(world: World) -> None:
        for n in range(1, 50):
            world.service(f"10.96.0.{n}")
            world.server.changed()
            for _ in range(2):
                assert (await world.ask(WEB))[-4:] == bytes((10, 96, 0, n))
        assert world.server.counters.kept >= 49

    serving(scenario)


def test_what_upstream_said_of_an_address_goes_when_a_service_may_have_it() -> None:
    said: list[bytes] = []

    class Nobody(Upstream):
        async def ask(self, question: bytes, *, tcp: bool, edns: bool) -> Said:
            said.append(question)
            asked = b"\0\1\1\0\0\1\0\0\0\0\0\0" + question
            found = reply(
                parse_query(asked),
                Code.NXDOMAIN,
                (),
                [Record(name_of("arpa"), Type.SOA, 90, bytes(22) + b"\0\0\0\x5a")],
            )
            return Said(found, check_answer(found, 1, question))

    async def scenario(world: World) -> None:
        asked = query("9.0.96.10.in-addr.arpa", type=Type.PTR)
        for _ in range(2):
            assert (await world.ask(asked))[3] & 15 == Code.NXDOMAIN
        assert len(said) == 1, "it was kept"
        world.service("10.96.0.9", "other")
        world.server.changed()
        answer = await world.ask(asked)
        assert answer[3] & 15 == Code.NOERROR and b"\x05other\x07default" in answer

    serving(scenario, Nobody(lambda: ()))


def test_the_thread_sleeps_while_nobody_asks() -> None:
    async def scenario(world: World) -> None:
        await world.ask(WEB)
        await world.ask(WEB)
        (thread,) = (
            {int(p.name) for p in Path("/proc/self/task").iterdir()}
            - {t.native_id for t in threading.enumerate()}
            - before
        )

        def switches() -> list[str]:
            lines = Path(f"/proc/self/task/{thread}/status").read_text().splitlines()
            return [line for line in lines if "ctxt_switches" in line]

        for _ in range(1000):  # until it is back in its sleep
            if " S " in Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2][:3]:
                break
            await asyncio.sleep(0.01)
        seen = switches()
        await asyncio.sleep(0.5)
        assert switches() == seen

    before = {int(p.name) for p in Path("/proc/self/task").iterdir()}
    serving(scenario)


def test_machines_of_the_lan_hear_of_services_and_of_nothing_else() -> None:
    async def scenario(world: World) -> None:
        spec: dict[str, object] = {"clusterIP": "10.96.0.7", "ports": [{"port": 80}], "externalIPs": ["192.168.1.5"]}
        put(world.table, "/desired/services/default/shop", {"spec": spec})
        out = {"type": "ExternalName", "externalName": "www.example.com"}
        put(world.table, "/desired/services/default/out", {"spec": out})
        world.server.changed()
        for name, last in (
            ("web.default.svc", bytes((10, 96, 0, 1))),
            ("web.default.svc.cluster.local", bytes((10, 96, 0, 1))),
            ("shop.default.svc", bytes((192, 168, 1, 5))),  # its cluster IP leads nowhere from there
        ):
            for _ in range(2):
                found = await world.ask(query(name))
                assert (found[3] & 15, found[-4:]) == (0, last), name
        assert (await world.ask(query("nothing.default.svc")))[3] & 15 == Code.NXDOMAIN
        aliased = await world.ask(query("out.default.svc"))
        assert aliased[3] & 15 == Code.NOERROR and aliased[7] == 1 and b"\x03www\x07example" in aliased
        for name in ("www.example.com", "svc.example.com", "svcs", "8.8.8.8.in-addr.arpa", "web.default.svc.example"):
            refused = await world.ask(query(name))
            assert refused[3] & 15 == Code.REFUSED and len(refused) <= len(query(name)), name
        assert world.server.counters.forwarded == 0

    serving(scenario, outside=True)


class Alone:
    """A responder without a server: nobody takes what it queues."""

    def __init__(
        self, networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network], host: str = "127.0.0.1", rate: int = 0
    ) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.answers, self.others = Answers(64, 1 << 16), Answers(64, 1 << 16)
        self.responder = Responder(self.socket.fileno(), self.answers, self.others, networks, rate)

    def client(self, host: str) -> socket.socket:
        link = socket.socket(self.socket.family, socket.SOCK_DGRAM)
        link.bind((host, 0))
        link.connect(self.socket.getsockname()[:2])
        link.settimeout(PATIENCE)
        return link

    def seen(self, count: int) -> tuple[int, int, int, int]:
        """The counts, once it has seen that many."""
        deadline = time.monotonic() + PATIENCE
        while sum(self.responder.counts[index] for index in (0, 2)) < count:
            assert time.monotonic() < deadline, self.responder.counts
            time.sleep(0.001)
        return self.responder.counts

    def close(self) -> None:
        self.responder.close()
        self.socket.close()


def test_only_clients_of_the_networks_are_heard() -> None:
    alone = Alone([ipaddress.ip_network("127.0.16.0/21"), ipaddress.ip_network("fd00::/8")])
    try:
        for host in ("127.0.15.255", "127.0.16.0", "127.0.23.255", "127.0.24.0"):
            with alone.client(host) as link:
                link.send(WEB)
        assert alone.seen(4) == (2, 0, 2, 0)
        assert [peer[0] for _, peer in alone.responder.take(9)] == ["127.0.16.0", "127.0.23.255"]
    finally:
        alone.close()


def test_ipv6_clients_are_answered() -> None:
    alone = Alone([ipaddress.ip_network("::1/128")], "::1")
    try:
        answer = reply(parse_query(WEB), 0)
        alone.others.put(WEB, answer, (), time.monotonic(), time.monotonic() + 60)
        with alone.client("::1") as link:
            link.send(WEB)
            assert link.recv(512) == answer
            link.send(query("other"))
            alone.seen(2)
            ((data, peer),) = alone.responder.take(9)
            assert data == query("other") and peer == link.getsockname()
    finally:
        alone.close()


def test_a_flood_of_one_client_leaves_room_in_the_queue_for_others() -> None:
    alone = Alone([LOOPBACK])
    try:
        answer = reply(parse_query(WEB), 0)
        alone.answers.put(WEB, answer, (), time.monotonic(), time.monotonic() + 600)
        sent = 0
        with alone.client("127.0.0.2") as hostile, alone.client("127.0.0.3") as other:
            for n in range(200):
                hostile.send(query(f"n{n}.example.com"))
                sent += 1
                alone.seen(sent)
            other.send(query("friend.example.com"))
            assert alone.seen(sent + 1) == (201, 0, 0, 136)
            other.send(WEB)
            assert other.recv(512) == answer, "what is kept is answered meanwhile"
        found = []
        while part := alone.responder.take(10):
            found += part
        assert len(found) == 65 and found[-1][0] == query("friend.example.com")
        assert not select.select([alone.responder], [], [], 0)[0]
        with alone.client("127.0.0.2") as again:
            again.send(query("again.example.com"))
            assert select.select([alone.responder], [], [], PATIENCE)[0], "there is room again, and Python is woken"
    finally:
        alone.close()


def test_the_queue_is_bounded_for_all_clients_together() -> None:
    alone = Alone([LOOPBACK])
    try:
        for n in range(40):
            with alone.client(f"127.0.1.{n}") as link:
                for k in range(10):
                    link.send(query(f"n{k}.example.com"))
                    alone.seen(10 * n + k + 1)
        queries, answered, refused, dropped = alone.responder.counts
        waiting = len(alone.responder.take(1000))
        assert (queries, answered, refused) == (400, 0, 0) and waiting + dropped == 400 and waiting <= 256
    finally:
        alone.close()


def test_a_client_that_asks_too_often_is_not_answered_and_others_are() -> None:
    alone = Alone([LOOPBACK], rate=1)
    try:
        began = time.monotonic()
        answer = reply(parse_query(WEB), 0)
        alone.answers.put(WEB, answer, (), began, began + 600)
        with alone.client("127.0.0.2") as hostile:
            for n in range(300):
                hostile.send(WEB)
                alone.seen(n + 1)
        queries, answered, _, dropped = alone.responder.counts
        assert queries == 300 and answered + dropped == 300
        assert 2 <= answered <= 2 + 1 + (time.monotonic() - began)
        hosts = [f"127.0.2.{n}" for n in range(8)]  # one of them may share its bucket with the other client
        for n, host in enumerate(hosts):
            with alone.client(host) as link:
                link.send(WEB)
                alone.seen(301 + n)
        assert alone.responder.counts[1] - answered >= 6
    finally:
        alone.close()


def test_a_responder_that_is_closed_ends_its_thread_and_keeps_its_counts() -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    had = threads(), descriptors()
    for _ in range(50):
        alone = Alone([LOOPBACK])
        with alone.client("127.0.0.2") as link:
            link.send(WEB)
        alone.seen(1)
        alone.close()
        alone.close()
        assert alone.responder.counts == (1, 0, 0, 0) and alone.responder.take(5) == []
    deadline = time.monotonic() + PATIENCE
    while (threads(), descriptors()) != had:
        assert time.monotonic() < deadline, "threads or descriptors are left"
        time.sleep(0.01)


def test_what_is_too_long_or_damaged_is_refused_and_never_answered_from_what_is_kept() -> None:
    async def scenario(world: World) -> None:
        await world.ask(WEB)
        assert (await world.ask(WEB[:-1]))[3] & 15 == Code.FORMERR
        assert (await world.ask(WEB + bytes(3000)))[3] & 15 == Code.FORMERR
        assert world.server.counters.refused == 2

    serving(scenario)

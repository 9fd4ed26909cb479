"""Shares of tenants and of clients: at the literal second, and at the listener."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.kit import acceptor
from kubeedge.kit.bucket import Bucket, Buckets
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus.http import limits, listener
from kubeedge.kubebus.http.limits import Busy, LocalLimiter, ProxyLimits, TooFast
from tests.unit.kubebus_http.test_publishing import head_then_quiet, mirror, status_and_error
from tests.unit.kubebus_http.world import World, get, scenario, until


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = Bucket(rate=2.0, burst=3.0, now=10.0)
    assert [bucket.take(10.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 0.5]
    assert bucket.take(10.25) == 0.25  # asking took nothing away
    assert bucket.take(10.5) == 0.0
    assert bucket.take(10.5) == 0.5
    assert [bucket.take(99.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(50.0) == 0.5  # a clock that goes back gives nothing


def test_what_has_happened_is_charged_and_paid_off_in_time() -> None:
    bucket = Bucket(rate=2.0, burst=3.0, now=10.0)
    assert bucket.charge(3.0, 10.0) == 0.0
    assert bucket.charge(5.0, 10.0) == 2.5 and bucket.charge(0.0, 11.0) == 1.5
    assert bucket.take(12.5) == 0.5 and bucket.charge(0.0, 12.5) == 0.0
    assert bucket.charge(4.0, 99.0) == 0.5, "no more than the burst was saved"


def test_buckets_of_names_are_forgotten_the_least_used_first() -> None:
    buckets: Buckets[str] = Buckets(rate=1.0, burst=1.0, most=2)
    assert [buckets.of(name, 0.0).take(0.0) for name in "aba"] == [0.0, 0.0, 1.0]
    assert buckets.of("c", 0.0).take(0.0) == 0.0 and len(buckets) == 2
    assert buckets.of("a", 0.0).take(0.0) == 1.0, "known still"
    assert buckets.of("b", 0.0).take(0.0) == 0.0, "full, as it was forgotten"


@given(st.floats(0.1, 1000), st.floats(0.1, 100), st.lists(st.floats(0, 5), max_size=200))
def test_no_pattern_of_asking_gets_more_than_burst_and_rate(rate: float, burst: float, gaps: list[float]) -> None:
    bucket, now, given_ = Bucket(rate, burst, 0.0), 0.0, 0
    for gap in gaps:
        now += gap
        given_ += bucket.take(now) == 0.0
        assert given_ <= max(1.0, burst) + rate * now + 1e-6


def test_a_name_has_its_rate_and_others_have_theirs() -> None:
    now = 0.0
    slots = LocalLimiter(100, "tenant", rate=1.0, burst=2.0, now=lambda: now)
    for _ in range(2):
        slots.take("a")()
    with pytest.raises(TooFast, match="tenant a has sent more than 1 requests a second") as refused:
        slots.take("a")
    assert refused.value.retry_after == 1.0
    slots.take("b")()
    now = 1.0
    slots.take("a")()
    assert slots.in_progress() == 0


def test_what_is_refused_for_its_number_costs_no_rate() -> None:
    slots = LocalLimiter(1, "web service", rate=1.0, burst=2.0)
    give_back = slots.take("a")
    for _ in range(5):
        with pytest.raises(Busy, match="web service a has 1 requests in progress"):
            slots.take("a")
    give_back()
    give_back()  # once is enough
    slots.take("a")
    assert slots.by_name() == {"a": 1}


def test_names_that_clients_invent_take_bounded_memory() -> None:
    slots = LocalLimiter(100, "tenant", rate=1.0, burst=1.0)
    for n in range(3 * limits._MOST_BUCKETS):
        slots.take(f"t{n}")()
    assert len(slots._buckets) == limits._MOST_BUCKETS and slots.by_name() == {}


def test_a_tenant_that_asks_too_often_is_told_when_to_come_back() -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", mirror)
        for _ in range(3):
            assert b" 200 " in await world.ask(get("/t1/n1/shop/"))
        answer = await world.ask(get("/t1/n1/shop/"))
        status, body = status_and_error(answer)
        assert status == 429 and "tenant t1 has sent more than 0.01 requests" in body["error"]
        assert b"retry-after: 100\r\n" in answer
        assert status_and_error(await world.ask(get("/t2/n1/shop/")))[0] == 404  # of others nobody thinks
        accounts = world.client_proxy.accounts.all()
        assert (accounts["t1"].answers, accounts["t1"].refused) == ([0, 0, 3, 0, 1, 0], 1)
        assert (accounts[""].answers[4], accounts.keys()) == (1, {"", "t1"})

    scenario(tell, client=ProxyLimits(rate=0.01, burst=3.0))


def test_bytes_of_bodies_and_of_upgraded_connections_are_counted() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching\r\nUpgrade: chat\r\nConnection: upgrade\r\n\r\n")
        while data := await reader.read(100):
            writer.write(data * 2)

    async def tell(world: World) -> None:
        await world.serve("shop", mirror)
        await world.serve("chat", shout)
        answer = await world.ask(get("/t1/n1/shop/", "Content-Length: 5", method="PUT") + b"12345")
        account = world.client_proxy.accounts.of("t1")
        assert (account.bytes_in, account.bytes_out) == (5, len(answer.partition(b"\r\n\r\n")[2]))
        account.bytes_in = account.bytes_out = 0
        async with world.client() as (reader, writer):
            writer.write(get("/t1/n1/chat/", "Connection: upgrade", "Upgrade: chat", close=False))
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"hello")
            assert await reader.readexactly(10) == b"hellohello"
            assert (account.bytes_in, account.bytes_out, account.answers[1]) == (5, 10, 1)

    scenario(tell)


def test_one_greedy_client_gets_429_and_every_client_503_when_all_connections_are_taken() -> None:
    refused: list[int] = []

    async def run() -> None:
        async with TaskSet("clients") as tasks:

            async def handle(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rests: Callable[[bool], None]
            ) -> None:
                rests(False)  # a request in progress: it gives way to nobody
                await reader.read()
                writer.close()

            async def told(port: int, source: str) -> tuple[int, str]:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
                writer.write(get("/t1/n1/shop/"))
                answer = await asyncio.wait_for(reader.read(), 60)
                writer.close()
                assert b"retry-after: 1\r\n" in answer and b"connection: close\r\n" in answer
                head, _, body = answer.partition(b"\r\n\r\n")
                return int(head.split()[1]), json.loads(body)["error"]

            bounds = ProxyLimits(connections=3, per_client=2)
            async with listener.listening("127.0.0.1", 0, handle, limits=bounds, refused=refused.append) as (
                (_, port),
                _,
            ):
                inside = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
                status, why = await told(port, "127.0.0.1")
                assert status == 429 and "2 connections from your address" in why
                inside.append(await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0)))
                status, why = await told(port, "127.0.0.3")
                assert status == 503 and "3 connections are open already" in why
                assert refused == [429, 503]
                for _, writer in inside:
                    writer.close()
                async with asyncio.timeout(60):
                    while True:  # until the listener has seen that they left
                        reader, writer = await asyncio.open_connection("127.0.0.1", port)
                        writer.write_eof()
                        answer = await reader.read()
                        writer.close()
                        if not answer:  # it was let in, and served to its end
                            break
            assert len(tasks) == 0

    asyncio.run(run())


def test_a_client_that_never_finishes_its_handshake_takes_one_slot_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    from kubeedge.pki.trust import server_context
    from tests.kit.certs import TestAuthority

    monkeypatch.setattr(acceptor, "HANDSHAKE", 0.3)
    pair = TestAuthority(tmp_path).issue("web", uri="spiffe://kubeedge/cloud/cloud", hosts=["127.0.0.1"])
    refused: list[int] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rests: Callable[[bool], None]) -> None:
        raise AssertionError("nobody gets this far")

    async def run() -> None:
        tls = server_context(pair.cert, pair.key, client_ca=None)
        bounds = ProxyLimits(connections=2)
        server = listener.listening("127.0.0.1", 0, handle, limits=bounds, tls=tls, refused=refused.append)
        async with server as ((_, port), _):
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            assert await asyncio.wait_for(silent[2][0].read(), 60) == b"" and refused == [503]
            for reader, _ in silent[:2]:
                try:
                    assert await asyncio.wait_for(reader.read(), 60) == b""
                except ConnectionResetError:
                    pass
            for _, writer in silent:
                writer.close()

    asyncio.run(run())


def test_requests_in_progress_are_known_by_tenant() -> None:
    async def tell(world: World) -> None:
        await world.serve("slow", head_then_quiet)
        async with world.client() as (_, writer):
            writer.write(get("/t1/n1/slow/"))
            await until(lambda: world.client_proxy.slots.by_name() == {"t1": 1})
        await until(lambda: world.client_proxy.slots.by_name() == {})

    scenario(tell)

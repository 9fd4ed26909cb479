"""Values of devices in real servers: Redis, Mosquitto, MariaDB, PostgreSQL, and VictoriaMetrics by InfluxDB's protocol. Each dies while values come, is
back, and has every one of them once; also those that were sent twice."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import paho.mqtt.client as paho
import pg8000.native
import pymysql
import pytest

from kubeedge.api import keys
from kubeedge.devices.sinks import formats
from kubeedge.devices.sinks.module import DevicePush
from kubeedge.devices.sinks.queue import PushQueue
from kubeedge.devices.sinks.redis import command
from kubeedge.kit.streams import close_writer, splice
from kubeedge.store.memory import MemoryStore
from tests.kit import data_servers
from tests.kit.certs import TestAuthority
from tests.kit.data_servers import DataServer
from tests.kit.ports import ADDRESS, ports
from tests.unit.devices.modules import running, until
from tests.unit.devices.test_sinks import NOON, QUICK, listening, pusher, spec, value

Server = Callable[..., contextlib.AbstractAsyncContextManager[DataServer]]
COUNT = 40


def credentials(folder: Path, port: int, user: str = "", password: str = "secret") -> Path:
    path = folder / "credentials.yaml"
    path.write_text(json.dumps([{"endpoint": f"{ADDRESS}:{port}", "userName": user, "password": password}]))
    return path


async def through_an_outage(
    push: DevicePush, to: str, server: Callable[[], Any], check: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Half of the values with the server there, half without; then it is back, and gets some of them once more."""
    values = [value(str(n), time=NOON + n * 1000) for n in range(COUNT)]
    async with running(push):
        async with server():
            await push.append([(to, one) for one in values[: COUNT // 2]], NOON)
            await until(lambda: push.sent == COUNT // 2)
        await push.append([(to, one) for one in values[COUNT // 2 :]], NOON)
        await until(lambda: bool(push.problems))
        async with server():
            await until(lambda: not push.queue.waiting())
            assert push.sent == COUNT and push.refused == 0
            await check()


async def sent_again(push: DevicePush, to: str) -> None:
    """A value whose answer is lost is sent again: with the same number."""
    active = next(iter(push._active.values()))
    assert active.spec == to and active.sender is not None
    again = [value(str(n), time=NOON + n * 1000, number=n + 1) for n in range(3)]
    taken: list[Any] = []
    await active.sender.deliver(again, taken)
    assert taken == again


def test_redis(tmp_path: Path) -> None:
    async def inside() -> None:
        (port,) = ports(1)
        push = pusher(tmp_path, credentials(tmp_path, port))
        to = spec({"dbMethod": {"redis": {"redisClientConfig": {"addr": f"{ADDRESS}:{port}", "db": 2}}}})

        async def check() -> None:
            await sent_again(push, to)
            reader, writer = await asyncio.open_connection(ADDRESS, port)
            writer.write(command("AUTH", "secret") + command("SELECT", "2") + command("ZRANGE", "hall", "0", "-1"))
            assert [await reader.readline() for _ in range(2)] == [b"+OK\r\n", b"+OK\r\n"]
            found = []
            for _ in range(int((await reader.readline())[1:])):
                size = int((await reader.readline())[1:])
                found.append(json.loads((await reader.readexactly(size + 2))[:-2]))
            writer.close()
            assert [one["value"] for one in found] == [str(n) for n in range(COUNT)]
            assert found[0] == formats.model(push.queue.uid, value("0", number=1))

        await through_an_outage(push, to, lambda: data_servers.redis(tmp_path, port, password="secret"), check)

    asyncio.run(inside())


def test_a_broker_elsewhere(tmp_path: Path) -> None:
    async def inside() -> None:
        port, behind = ports(2)
        push = pusher(tmp_path, credentials(tmp_path, port, "edge"))
        to = spec({"mqtt": {"address": f"tcp://{ADDRESS}:{port}", "topic": "plant/hall", "qos": 1, "retained": True}})
        got: list[str] = []

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            upstream = await asyncio.open_connection(ADDRESS, behind)
            try:
                await splice((reader, writer), upstream)
            finally:
                await close_writer(upstream[1])

        @contextlib.asynccontextmanager
        async def server() -> AsyncIterator[None]:
            """Values cannot come before the subscription is there."""
            async with data_servers.mosquitto(tmp_path, behind, login=("edge", "secret")):
                client = paho.Client(paho.CallbackAPIVersion.VERSION2)
                client.username_pw_set("edge", "secret")
                client.on_message = lambda _client, _data, message: got.append(json.loads(message.payload)["value"])
                ready = asyncio.Event()
                loop = asyncio.get_running_loop()
                client.on_subscribe = lambda *_: loop.call_soon_threadsafe(ready.set)
                client.on_connect = lambda client_, *_: client_.subscribe("plant/#", 1)
                client.connect(ADDRESS, behind)
                client.loop_start()
                try:
                    await asyncio.wait_for(ready.wait(), 90)
                    async with listening(port, forward):
                        yield
                finally:
                    await asyncio.to_thread(client.loop_stop)
                    client.disconnect()

        async def check() -> None:
            await until(lambda: {str(n) for n in range(COUNT)} <= set(got))

        await through_an_outage(push, to, server, check)

    asyncio.run(inside())


def test_mariadb(tmp_path: Path) -> None:
    async def inside() -> None:
        (port,) = ports(1)
        push = pusher(tmp_path, credentials(tmp_path, port, "edge"))
        client = {"addr": f"{ADDRESS}:{port}", "database": "plant", "userName": "edge"}
        to = spec({"dbMethod": {"mysql": {"mysqlClientConfig": client}}})

        def rows() -> list[Any]:
            with pymysql.connect(host=ADDRESS, port=port, user="edge", password="secret", database="plant") as db:
                with db.cursor() as cursor:
                    cursor.execute("SELECT ts, field, message_id FROM `default/hall/t` ORDER BY id")
                    return list(cursor.fetchall())

        async def check() -> None:
            await sent_again(push, to)
            found = await asyncio.to_thread(rows)
            assert [one[1] for one in found] == [str(n) for n in range(COUNT)]
            assert str(found[0][0]) == "2026-09-21 14:13:20" and found[0][2] == f"{push.queue.uid}-1"

        await through_an_outage(push, to, lambda: data_servers.mariadb(tmp_path, port), check)

    asyncio.run(inside())


def test_postgresql(tmp_path: Path) -> None:
    async def inside() -> None:
        (port,) = ports(1)
        push = pusher(tmp_path, credentials(tmp_path, port, "edge"))
        to = spec(
            {"dbMethod": {"postgres": {"postgresClientConfig": {"addr": f"{ADDRESS}:{port}", "database": "postgres"}}}}
        )

        def rows() -> list[Any]:
            db = pg8000.native.Connection("edge", host=ADDRESS, port=port, password="secret", database="postgres")
            try:
                return list(db.run("SELECT value, device, extract(epoch from ts) FROM device_values ORDER BY ts"))
            finally:
                db.close()

        async def check() -> None:
            await sent_again(push, to)
            found = await asyncio.to_thread(rows)
            assert [one[0] for one in found] == [str(n) for n in range(COUNT)]
            assert found[0][1] == "hall" and int(found[0][2]) == NOON // 1000

        with tempfile.TemporaryDirectory() as folder:
            await through_an_outage(push, to, lambda: data_servers.postgres(Path(folder), port), check)

    asyncio.run(inside())


def test_the_protocol_of_influxdb(tmp_path: Path) -> None:
    async def inside() -> None:
        (port,) = ports(1)
        folder = tmp_path / "victoria"
        folder.mkdir()
        push = pusher(tmp_path)
        client = {"url": f"http://{ADDRESS}:{port}", "org": "o", "bucket": "b"}
        data = {"measurement": "plant", "fieldKey": "temperature", "tag": {"room": "the hall"}}
        to = spec({"dbMethod": {"influxdb2": {"influxdb2ClientConfig": client, "influxdb2DataConfig": data}}})

        def exported() -> dict[str, Any]:
            query = urlencode({"match[]": "plant_temperature"})
            with urlopen(Request(f"http://{ADDRESS}:{port}/api/v1/export?{query}"), timeout=30) as answer:
                series: dict[str, Any] = {"values": []}
                for line in answer.read().splitlines():
                    series = json.loads(line)
                return series

        async def check() -> None:
            found: dict[str, Any] = {}

            def complete() -> bool:
                return len(found.get("values", ())) >= COUNT

            for _ in range(900):  # it shows what came after a moment
                found = await asyncio.to_thread(exported)
                if complete():
                    break
                await asyncio.sleep(0.1)
            assert sorted(set(found["values"])) == list(range(COUNT))
            assert found["metric"]["room"] == "the hall" and found["metric"]["device"] == "hall"

        await through_an_outage(push, to, lambda: data_servers.victoria(folder, port), check)

    asyncio.run(inside())


# TLS


def tls_methods(port: int) -> dict[str, Any]:
    """Each method with the address of a server with TLS."""
    influx = {
        "influxdb2ClientConfig": {"url": f"https://{ADDRESS}:{port}", "org": "o", "bucket": "b"},
        "influxdb2DataConfig": {"measurement": "plant", "fieldKey": "t"},
    }
    at = f"tls://{ADDRESS}:{port}"
    return {
        "redis": {"dbMethod": {"redis": {"redisClientConfig": {"addr": at}}}},
        "mosquitto": {"mqtt": {"address": f"mqtts://{ADDRESS}:{port}", "topic": "plant/hall", "qos": 1}},
        "mariadb": {"dbMethod": {"mysql": {"mysqlClientConfig": {"addr": at, "database": "plant"}}}},
        "postgres": {"dbMethod": {"postgres": {"postgresClientConfig": {"addr": at, "database": "postgres"}}}},
        "victoria": {"dbMethod": {"influxdb2": influx}},
    }


@pytest.mark.parametrize("name", tls_methods(1))
def test_a_certificate_counts_by_the_authority_of_a_config_map_and_a_wrong_one_is_said(
    name: str, tmp_path: Path
) -> None:
    """First the server has a certificate of somebody else's, then one of another name, then the right one; users come from a Secret."""
    authority, stranger = TestAuthority(tmp_path), TestAuthority(tmp_path, "a stranger")
    good = authority.issue("server", hosts=[ADDRESS])
    bad = [
        (stranger.issue("server", hosts=[ADDRESS], file="strange"), "certificate verify failed"),
        (authority.issue("server", hosts=["10.9.8.7"], file="other"), "IP address mismatch"),
    ]

    async def inside(folder: Path) -> None:
        (port,) = ports(1)
        to, store = spec(tls_methods(port)[name]), MemoryStore()
        path = tmp_path / "credentials.yaml"
        path.write_text(
            json.dumps([{"endpoint": f"{ADDRESS}:{port}", "secret": "plant/it", "caConfigMap": "plant/ca"}])
        )
        made = PushQueue(tmp_path / "push.db", 1 << 20, 86400.0)
        push = DevicePush(made, "edge1", path, wall=lambda: NOON / 1000, backoff=QUICK, store=store)
        server: Server = getattr(data_servers, name)
        more = {"redis": {"password": "secret"}, "mosquitto": {"login": ("edge", "secret")}}.get(name, {})
        user = {"redis": {}, "victoria": {}}.get(name, {"userName": base64.b64encode(b"edge").decode()})
        data = {**user, "password": base64.b64encode(b"secret").decode()}

        def problem() -> str:
            return push.problems.get(f"{ADDRESS}:{port}", "")

        async with running(push):
            await push.append([(to, value(str(n), time=NOON + n)) for n in range(5)], NOON)
            await until(lambda: "plant/it is not on this node" in problem())
            await store.put(keys.desired("secrets", "plant", "it"), json.dumps({"data": data}).encode())
            await until(lambda: "plant/ca is not on this node" in problem())
            await store.put(keys.desired("configmaps", "plant", "ca"), b'{"data": {"ca.crt": "no PEM"}}')
            await until(lambda: "PEM" in problem())
            pem = json.dumps({"data": {"ca.crt": authority.ca.read_text()}}).encode()
            await store.put(keys.desired("configmaps", "plant", "ca"), pem)
            for certificate, why in bad:
                async with server(folder, port, tls=certificate, **more):
                    await until(lambda why=why: why in problem())  # type: ignore[misc]
                    assert push.sent == 0 and push.refused == 0
            async with server(folder, port, tls=good, **more):
                await until(lambda: not push.queue.waiting())
                assert push.sent == 5 and not problem()

    with tempfile.TemporaryDirectory() as folder:  # of postgres, which is not root
        asyncio.run(inside(Path(folder)))

"""The event bus on Debian's mosquitto: with TLS and a password, while it is away, and while the agent is."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from kubeedge.api import node_messages
from kubeedge.config.devices import DevicesConfig, ExternalBrokerConfig
from kubeedge.config.forms import broker
from kubeedge.devices import topics
from kubeedge.devices.eventbus import external
from kubeedge.devices.eventbus.external import external_broker
from kubeedge.devices.eventbus.module import EventBus
from kubeedge.devices.module import DeviceTwins
from kubeedge.devices.upstream.module import MessageUpstream
from kubeedge.devices.upstream.queue import UpstreamQueue
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.mapper import Mapper, Property
from kubeedge.mapper.broker import node_broker
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite
from tests.kit import certs
from tests.unit.devices.modules import running, until
from tests.unit.devices.test_twins import REPORT, ROW, desired

MOSQUITTO = Path("build/debian/usr/sbin/mosquitto").resolve()
ADDRESS = f"127.81.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"  # of our own: no port of it is anybody's
TOPIC = "$hw/events/device/default/hall"
WITHIN = 60.0


class Mosquitto:
    """One that keeps its sessions on the disk. `secured`: with TLS and a password; `certified`: with TLS, and clients are known by their certificates."""

    def __init__(self, directory: Path, *, secured: bool = False, certified: bool = False) -> None:
        self.directory = directory
        self.url = f"mqtt://{ADDRESS}"
        self.ca = directory
        lines = [f"listener 1883 {ADDRESS}", "persistence true", f"persistence_location {directory}/", "user root"]
        lines += ["allow_anonymous false" if secured or certified else "allow_anonymous true", "autosave_interval 1"]
        if certified:
            self.authority = certs.TestAuthority(directory)
            pair, self.ca = self.authority.issue("broker", hosts=[ADDRESS]), self.authority.ca
            lines += [f"certfile {pair.cert}", f"keyfile {pair.key}", f"cafile {self.ca}"]
            lines += ["require_certificate true", "use_identity_as_username true"]
            self.url = f"mqtts://{ADDRESS}:1883"
        if secured:
            pair = certs.TestAuthority(directory).issue("broker", hosts=[ADDRESS])
            (directory / "passwords").write_text("edge1:secret\n")
            subprocess.run([MOSQUITTO.parents[1] / "bin/mosquitto_passwd", "-U", directory / "passwords"], check=True)
            lines += [f"certfile {pair.cert}", f"keyfile {pair.key}", f"password_file {directory}/passwords"]
            self.ca = pair.ca
            self.url = f"mqtts://{ADDRESS}:1883"
        (directory / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.directory / "mosquitto.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [MOSQUITTO, "-c", self.directory / "mosquitto.conf"], stdout=log, stderr=log
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def log(self) -> str:
        return (self.directory / "mosquitto.log").read_text()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The daemon wants one that it may write in."""
    (tmp_path / "broker").mkdir()
    (tmp_path / "password").write_text("secret\n")
    return tmp_path


def run(scenario: Callable[[Store], Awaitable[None]], directory: Path, *brokers: Mosquitto) -> None:
    async def whole() -> None:
        store = await open_sqlite(directory / "edge.db")
        try:
            async with asyncio.timeout(WITHIN):
                await scenario(store)
        finally:
            await store.close()

    try:
        asyncio.run(whole())
    finally:
        for one in brokers:
            one.stop()


@asynccontextmanager
async def event_bus(store: Store, config: ExternalBrokerConfig) -> AsyncIterator[external.ExternalBroker]:
    """The modules of a node, whose broker is there."""
    found = external_broker(config, "edge1")
    assert found is not None
    twins = DeviceTwins(store, wall=lambda: 1_790_000_000.0)
    bus = EventBus(twins, "edge1", "127.0.0.1", 0, external=found)
    tasks = []
    try:
        for module in (twins, bus):
            ready = asyncio.Event()
            tasks.append(asyncio.create_task(module.run(ready)))
            await ready.wait()
        await attached(found)
        yield found
    finally:
        await cancel_and_wait(*tasks)


async def attached(found: external.ExternalBroker) -> None:
    while not found.is_attached:
        await asyncio.sleep(0.01)


@asynccontextmanager
async def program(mosquitto: Mosquitto, name: str = "", **more: Any) -> AsyncIterator[aiomqtt.Client]:
    """Any program of the node; the broker may still be starting."""
    while True:
        client = aiomqtt.Client(ADDRESS, 1883, identifier=name or None, clean_session=not name, **more)
        try:
            await client.__aenter__()
        except aiomqtt.MqttError:
            await asyncio.sleep(0.05)
            continue
        try:
            yield client
        finally:
            await client.__aexit__(None, None, None)
        return


async def heard(client: aiomqtt.Client, topic: str) -> dict[str, Any]:
    async for message in client.messages:
        if str(message.topic) == topic:
            assert isinstance(message.payload, bytes)
            found: dict[str, Any] = json.loads(message.payload)
            return found
    raise AssertionError


def update(value: str) -> bytes:
    return json.dumps({"event_id": "e", "twin": {"temperature": {"actual": {"value": value}}}}).encode()


async def stored(store: Store, value: str) -> None:
    while (kv := await store.get(REPORT)) is None or f'"{value}"'.encode() not in kv.value:
        await asyncio.sleep(0.01)


def test_twins_through_a_broker_with_tls_and_a_password(directory: Path) -> None:
    mosquitto = Mosquitto(directory / "broker", secured=True)
    config = ExternalBrokerConfig(
        url=mosquitto.url, user_name="edge1", password_file=directory / "password", ca_file=mosquitto.ca
    )

    async def scenario(store: Store) -> None:
        tls = aiomqtt.TLSParameters(ca_certs=str(mosquitto.ca))
        async with (
            event_bus(store, config),
            program(mosquitto, username="edge1", password="secret", tls_params=tls) as client,
        ):
            await client.subscribe(f"{TOPIC}/#", qos=1)
            await client.subscribe("$ke/events/devices/get/result", qos=1)
            await store.put(ROW, desired("20"))
            assert (await heard(client, f"{TOPIC}/twin/update/delta"))["delta"] == {"target": "20"}
            await client.publish(f"{TOPIC}/twin/update", update("19.5"), qos=1)
            assert "twin" in await heard(client, f"{TOPIC}/twin/update/result")
            await stored(store, "19.5")
            await client.publish(f"{TOPIC}/state/update", b'{"state": "online"}', qos=0)
            assert (await heard(client, f"{TOPIC}/state/update/result"))["device"]["state"] == "online"
            await client.publish("$ke/events/devices/get", b'{"event_id": "g"}', qos=1)
            page = await heard(client, "$ke/events/devices/get/result")
            assert [device["id"] for device in page["devices"]] == ["default/hall"]

    mosquitto.start()
    run(scenario, directory, mosquitto)


@pytest.mark.parametrize("certified", [False, True])
def test_a_mapper_logs_in_at_a_broker_of_somebody_else_s(directory: Path, certified: bool) -> None:
    mosquitto = Mosquitto(directory / "broker", secured=not certified, certified=certified)
    login = {"ca_file": str(mosquitto.ca)}
    if certified:
        own, other = (mosquitto.authority.issue(name) for name in ("edge1", "acme-mapper"))
        config = ExternalBrokerConfig(url=mosquitto.url, ca_file=mosquitto.ca, cert_file=own.cert, key_file=own.key)
        login |= {"cert_file": str(other.cert), "key_file": str(other.key)}
    else:
        password = directory / "password"
        config = ExternalBrokerConfig(
            url=mosquitto.url, user_name="edge1", password_file=password, ca_file=mosquitto.ca
        )
        login |= {"user": "edge1", "password_file": str(password)}
    mapper, values = Mapper("acme"), {"temperature": 19.5, "target": 20}

    @mapper.read
    async def read(client: None, prop: Property) -> float:
        return values[prop.name]

    @mapper.write
    async def write(client: None, prop: Property, value: Any) -> None:
        values[prop.name] = value

    async def scenario(store: Store) -> None:
        row = json.loads(desired("25")) | {"protocol": {"protocolName": "acme"}}
        del row["properties"]["secret"]
        await store.put(ROW, json.dumps(row).encode())
        async with event_bus(store, config):
            serving = asyncio.create_task(mapper.serve(node_broker(mosquitto.url, login)))
            try:
                await stored(store, "25")
                assert values["target"] == 25
            finally:
                await cancel_and_wait(serving)
            with pytest.raises(KubeEdgeError if not certified else (OSError, KubeEdgeError)):
                await node_broker(mosquitto.url, {"ca_file": str(mosquitto.ca)}).connect("x", lambda message: None)

    mosquitto.start()
    run(scenario, directory, mosquitto)


def test_nothing_is_lost_while_the_agent_is_away_and_wishes_are_said_again_when_the_broker_was(directory: Path) -> None:
    mosquitto = Mosquitto(directory / "broker")
    config = ExternalBrokerConfig(url=mosquitto.url)

    async def scenario(store: Store) -> None:
        await store.put(ROW, desired("20"))
        async with event_bus(store, config):
            pass
        async with program(mosquitto) as client:
            await client.publish(f"{TOPIC}/twin/update", update("18.5"), qos=1)  # the broker alone has it
        async with event_bus(store, config) as bus:
            await stored(store, "18.5")
            async with program(mosquitto, "listener") as client:
                await client.subscribe(f"{TOPIC}/twin/update/delta", qos=1)
            await asyncio.to_thread(mosquitto.stop)
            await store.put(ROW, desired("23"))
            while bus.is_attached:
                await asyncio.sleep(0.01)
            mosquitto.start()
            await attached(bus)
            async with program(mosquitto, "listener") as client:  # its session has what came meanwhile
                while (await heard(client, f"{TOPIC}/twin/update/delta"))["delta"] != {"target": "23"}:
                    pass

    mosquitto.start()
    run(scenario, directory, mosquitto)


def test_messages_for_the_cloud_come_once_also_what_was_not_acknowledged_and_topics_of_rules(directory: Path) -> None:
    """The agent ends between the disk and the acknowledgement: the broker sends them again."""
    mosquitto = Mosquitto(directory / "broker")
    mosquitto.start()
    config = ExternalBrokerConfig(url=mosquitto.url)

    async def scenario(store: Store) -> None:
        waiting = UpstreamQueue(directory / "messages.db", 1 << 20, 1e9)

        @asynccontextmanager
        async def agent() -> AsyncIterator[MessageUpstream]:
            upstream = MessageUpstream(store, waiting, wall=lambda: 1_790_000_000.0)
            found = external_broker(config, "edge1", messages=True)
            assert found is not None
            bus = EventBus(
                DeviceTwins(store, wall=lambda: 1_790_000_000.0), "edge1", "", 0, external=found, upstream=upstream
            )
            async with running(upstream, bus._twins, bus):
                await attached(found)
                yield upstream

        def kept() -> list[tuple[str, bytes]]:
            return [(m.topic, m.payload) for m in waiting.after(0, 100, 1 << 20)]

        async with program(mosquitto) as client:
            async with agent() as upstream:
                acknowledge = asyncio.Event()

                async def late(*arguments: Any, **more: Any) -> None:
                    await acknowledge.wait()

                real = upstream.append

                def append(*arguments: Any, **more: Any) -> asyncio.Future[None]:
                    real(*arguments, **more)
                    return asyncio.ensure_future(late())

                upstream.append = append  # type: ignore[method-assign]
                for n in range(5):
                    await client.publish("SYS/dis/upload_records", f"{n}", qos=1)
                await until(lambda: len(kept()) == 5)
            async with agent():  # and it has them again
                await client.publish("me/user/x", "5", qos=1)
                await client.publish("default/test", "for no rule", qos=1)
                await until(lambda: len(kept()) == 6)
                await store.put(
                    node_messages.ANSWERS + node_messages.TOPICS, node_messages.encode_topics(["default/#"])
                )
                for n in range(6, 1000):
                    await client.publish("default/test", f"{n}", qos=1)
                    if len(kept()) == 7:
                        break
                    await asyncio.sleep(0.05)
            assert [payload for _, payload in kept()[:6]] == [b"0", b"1", b"2", b"3", b"4", b"5"]
            assert kept()[6][0] == "default/test"

    run(scenario, directory, mosquitto)


def test_what_is_too_large_for_the_cloud_or_finds_a_full_disk_stops_nothing(directory: Path) -> None:
    mosquitto = Mosquitto(directory / "broker")
    mosquitto.start()

    async def scenario(store: Store) -> None:
        waiting = UpstreamQueue(directory / "messages.db", 1 << 20, 1e9)
        upstream = MessageUpstream(store, waiting, wall=lambda: 1_790_000_000.0)
        found = external_broker(ExternalBrokerConfig(url=mosquitto.url), "edge1", messages=True)
        assert found is not None
        twins = DeviceTwins(store, wall=lambda: 1_790_000_000.0)
        bus = EventBus(twins, "edge1", "", 0, external=found, upstream=upstream)
        async with running(upstream, twins), program(mosquitto) as client:
            (directory / "messages.db").mkdir()  # as on a full disk
            serving = asyncio.create_task(bus.run(asyncio.Event()))
            await attached(found)
            await client.publish("a/user/b", b"x" * (node_messages.MAX_PAYLOAD + 1), qos=1)
            await client.publish("a/user/" + "b" * node_messages.MAX_TOPIC, b"x", qos=1)
            await client.publish("a/user/b", b"1", qos=1)
            await until(lambda: not found.is_attached)
            (directory / "messages.db").rmdir()
            await client.publish("a/user/b", b"2", qos=1)
            await until(lambda: waiting.count == 2)
            assert [m.payload for m in waiting.after(0, 9, 1 << 20)] == [b"1", b"2"] and upstream.refused >= 2
            assert not serving.done(), "the event bus has never ended"
            await cancel_and_wait(serving)

    run(scenario, directory, mosquitto)


def test_a_message_that_several_filters_mean_comes_once(directory: Path) -> None:
    """Mosquitto sends a copy for each subscription."""
    mosquitto = Mosquitto(directory / "broker")
    mosquitto.start()
    row = node_messages.ANSWERS + node_messages.TOPICS

    async def scenario(store: Store) -> None:
        waiting = UpstreamQueue(directory / "messages.db", 1 << 20, 1e9)
        for last in ("default/+", "default/+"):  # the second agent finds the subscriptions of the first
            upstream = MessageUpstream(store, waiting, wall=lambda: 1_790_000_000.0)
            found = external_broker(ExternalBrokerConfig(url=mosquitto.url), "edge1", messages=True)
            assert found is not None
            twins = DeviceTwins(store, wall=lambda: 1_790_000_000.0)
            bus = EventBus(twins, "edge1", "", 0, external=found, upstream=upstream)
            filters = ["default/user/#", "default/x", "default/y", last]
            await store.put(row, node_messages.encode_topics(filters))
            async with running(upstream, twins, bus), program(mosquitto) as client:
                await attached(found)
                while not waiting.count or waiting.after(0, 1000, 1 << 20)[-1].topic != "default/last":
                    await client.publish("default/last", b"", qos=1)
                    await asyncio.sleep(0.2)
                first = waiting.after(0, 1000, 1 << 20)[-1].number
                for topic in ("default/x", "default/user/b", "default/y", "default/last"):
                    await client.publish(topic, b"1", qos=1)
                while (topics_of := [m.topic for m in waiting.after(first, 9, 1 << 20)])[-1:] != ["default/last"]:
                    await asyncio.sleep(0.02)
                assert topics_of == ["default/x", "default/user/b", "default/y", "default/last"]

    run(scenario, directory, mosquitto)


def test_a_message_that_filters_mean_which_overlap_in_part_comes_once(directory: Path) -> None:
    """None of them is the wider one. What is published twice comes twice; also what was said while a filter came or went is there."""
    mosquitto = Mosquitto(directory / "broker")
    mosquitto.start()
    row = node_messages.ANSWERS + node_messages.TOPICS

    async def scenario(store: Store) -> None:
        waiting = UpstreamQueue(directory / "messages.db", 1 << 20, 1e9)
        upstream = MessageUpstream(store, waiting, wall=lambda: 1_790_000_000.0)
        found = external_broker(ExternalBrokerConfig(url=mosquitto.url), "edge1", messages=True)
        assert found is not None
        twins = DeviceTwins(store, wall=lambda: 1_790_000_000.0)
        bus = EventBus(twins, "edge1", "", 0, external=found, upstream=upstream)

        async def filters(client: aiomqtt.Client, *names: str) -> None:
            await store.put(row, node_messages.encode_topics(names))
            while found._numbers.keys() != set(names) or found._is_changing:
                await asyncio.sleep(0.01)

        async def got(number: int, last: str) -> list[tuple[str, bytes]]:
            while not (messages := waiting.after(number, 1000, 1 << 20)) or messages[-1].topic != last:
                await asyncio.sleep(0.02)
            return [(one.topic, one.payload) for one in messages]

        async with running(upstream, twins, bus), program(mosquitto) as client:
            await attached(found)
            await filters(client, "plant/+/temp", "plant/hall/+", "+/hall/temp", "plant/last")
            said = [
                ("plant/hall/temp", b"1"),
                ("plant/hall/temp", b"1"),
                ("plant/hall/temp", b"2"),
                ("plant/hall/x", b"1"),
            ]
            said += [
                ("plant/roof/temp", b"1"),
                ("hall/user/hall", b"1"),
                ("plant/hall/temp", b"1"),
                ("plant/last", b""),
            ]
            for topic, payload in said:
                await client.publish(topic, payload, qos=1)
            assert await got(0, "plant/last") == said
            for n in range(10):  # the one by which the first copy came goes, and another one comes
                after = waiting.after(0, 1000, 1 << 20)[-1].number
                names = ("plant/+/temp", "+/hall/temp") if n % 2 else ("plant/hall/+", "+/hall/temp")
                changing = asyncio.create_task(filters(client, *names, "plant/last"))
                for _ in range(5):
                    await client.publish("plant/hall/temp", b"meanwhile", qos=1)
                await changing
                for _ in range(5):
                    await client.publish("plant/hall/temp", b"same", qos=1)
                await client.publish("plant/last", b"", qos=1)
                payloads = [payload for _, payload in await got(after, "plant/last")]
                assert payloads.count(b"meanwhile") >= 5, "one that is lost is worse than one that comes twice"
                assert payloads.count(b"same") == 5

    run(scenario, directory, mosquitto)


@pytest.mark.parametrize(
    ("wide", "narrow", "is_wider"),
    [
        ("a/#", "a/b", True), ("a/#", "a", True), ("a/+", "a/b", True), ("a/+", "a/#", False), ("a/+/#", "a/#", False),
        ("a/+/#", "a/b/#", True), ("+/user/#", "a/user/#", True), ("+/user/#", "a/+/x", False), ("a/+/x", "a/+/x", True), ("a", "a/#", False),
    ],
)  # fmt: skip
def test_which_filter_means_all_that_another_one_does(wide: str, narrow: str, is_wider: bool) -> None:
    assert external.covers(wide, narrow) is is_wider


def test_what_is_not_durable_is_not_acknowledged(directory: Path) -> None:
    mosquitto = Mosquitto(directory / "broker")
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def scenario(store: Store) -> None:
        for _ in range(2):  # the second agent gets what the first one did not acknowledge
            found = external_broker(ExternalBrokerConfig(url=mosquitto.url), "edge1")
            assert found is not None

            def handle(message: Any, client: str) -> asyncio.Future[None]:
                seen.put_nowait(message.payload)
                return asyncio.get_running_loop().create_future()

            task = asyncio.create_task(found.serve(handle, lambda: None))
            await attached(found)
            if seen.empty():
                async with program(mosquitto) as client:
                    await client.publish(f"{TOPIC}/twin/update", b"one", qos=1)
            assert await seen.get() == b"one"
            seen.put_nowait(b"")
            await cancel_and_wait(task)
            assert await seen.get() == b""

    mosquitto.start()
    run(scenario, directory, mosquitto)


def test_a_wrong_password_is_tried_again_and_said_once(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    mosquitto = Mosquitto(directory / "broker", secured=True)
    (directory / "password").write_text("wrong")
    config = ExternalBrokerConfig(
        url=mosquitto.url, user_name="edge1", password_file=directory / "password", ca_file=mosquitto.ca
    )

    async def scenario(store: Store) -> None:
        async def mended() -> None:
            while mosquitto.log().count("not authorised") < 2:
                await asyncio.sleep(0.02)
            (directory / "password").write_text("secret")

        mending = asyncio.create_task(mended())
        async with event_bus(store, config):
            await mending

    mosquitto.start()
    run(scenario, directory, mosquitto)
    lines = [
        record.getMessage()
        for record in caplog.records
        if record.name == "kubeedge.devices" and "broker" in record.getMessage()
    ]
    assert sum("attached" not in line for line in lines) in (1, 2), lines  # it may have been starting at first
    assert "secret" not in caplog.text and "wrong" not in caplog.text


def test_a_message_of_ours_that_is_not_taken_is_bounded(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    mosquitto = Mosquitto(directory / "broker")
    monkeypatch.setattr(external, "_WAITING", 1000)

    async def scenario(store: Store) -> None:
        async with event_bus(store, ExternalBrokerConfig(url=mosquitto.url)) as bus:
            for _ in range(100):
                bus.publish("a/b", b"x" * 100)
            while bus.is_attached:  # a new session, without them
                await asyncio.sleep(0.01)
            await attached(bus)

    mosquitto.start()
    run(scenario, directory, mosquitto)


def test_a_flood_without_acknowledgements_is_bounded() -> None:
    async def whole() -> int:
        found = external._IncomingMessages()
        for qos in (0, 1):
            for _ in range(64):
                found.put_nowait(aiomqtt.Message("a", b"x" * 256 * 1024, qos, False, 1, None))
        kept = found.qsize()
        for _ in range(kept):
            await found.get()
        found.put_nowait(aiomqtt.Message("a", b"x", 0, False, 1, None))
        assert found.qsize() == 1, "there is room again"
        return kept

    assert asyncio.run(whole()) == 64 + 15


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://a", ("a", 1883, False)),
        ("mqtts://a", ("a", 8883, True)),
        ("mqtt://a:1", ("a", 1, False)),
        ("mqtts://[::1]", ("::1", 8883, True)),
        ("mqtts://[::1]:9", ("::1", 9, True)),
    ],
)
def test_addresses_of_brokers(url: str, address: tuple[str, int, bool]) -> None:
    assert broker(url) == address


@pytest.mark.parametrize("url", ["a", "http://a", "mqtt://", "mqtt://a:0", "mqtt://a:b", "mqtt:a"])
def test_what_is_no_broker_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        broker(url)


def test_every_topic_that_is_asked_is_heard_and_no_answer() -> None:
    filters = topics.filters("edge1")
    for topic in (f"{TOPIC}/twin/update", "$hw/events/device/hall/twin/get", f"{TOPIC}/state/update"):
        assert sum(aiomqtt.Topic(topic).matches(each) for each in filters) == 1, topic
    for topic in (f"{TOPIC}/twin/update/delta", f"{TOPIC}/twin/get/result", "$ke/events/devices/get/result", "a"):
        assert not any(aiomqtt.Topic(topic).matches(each) for each in filters), topic
    assert DevicesConfig().external_broker.url == "" and external_broker(ExternalBrokerConfig(), "edge1") is None

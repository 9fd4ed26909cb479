"""The embedded broker and KubeEdge's topics, judged by a client that nobody here wrote (Eclipse Paho), over real sockets and a real store."""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from kubeedge.api import keys
from kubeedge.devices.eventbus.module import EventBus
from kubeedge.devices.module import DeviceTwins
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite
from tests.unit.devices.modules import running
from tests.unit.devices.test_twins import REPORT, ROW, desired

WITHIN = 60.0  # seconds that a client waits for what has to come
TOPIC = "$hw/events/device/default/hall"
VERSIONS = [paho.MQTTv311, paho.MQTTv5]


class Client:
    """A paho client whose callbacks run in its own thread."""

    def __init__(self, port: int, version: int, name: str = "", *, clean: bool = True, will: str = "") -> None:
        more = {} if version == paho.MQTTv5 else {"clean_session": clean}
        self._paho = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=version, **more)  # type: ignore[arg-type]
        self._received: queue.Queue[tuple[str, bytes, bool]] = queue.Queue()
        self._subscribed: queue.Queue[Any] = queue.Queue()
        self._connected: queue.Queue[Any] = queue.Queue()
        self._paho.on_message = lambda client, data, m: self._received.put((m.topic, m.payload, m.retain))
        self._paho.on_subscribe = lambda client, data, mid, codes, properties: self._subscribed.put(codes)
        self._paho.on_connect = lambda client, data, flags, code, properties: self._connected.put((flags, code))
        if will:
            self._paho.will_set(will, b"gone", 1)
        self._paho.connect("127.0.0.1", port)
        self._paho.loop_start()
        flags, code = self._connected.get(timeout=WITHIN)
        assert not code.is_failure, code
        self.present = flags.session_present

    def subscribe(self, *filters: str) -> None:
        self._paho.subscribe([(text, 1) for text in filters])
        codes = self._subscribed.get(timeout=WITHIN)
        assert not any(code.is_failure for code in codes), codes

    def publish(self, topic: str, value: object, *, qos: int = 1, retain: bool = False) -> None:
        """Returns when it is acknowledged."""
        payload = value if isinstance(value, bytes) else json.dumps(value).encode()
        info = self._paho.publish(topic, payload, qos, retain)
        info.wait_for_publish(WITHIN)
        assert info.is_published()

    def get(self, topic: str) -> Any:
        """The next message, which is on that topic."""
        found, payload, _ = self._received.get(timeout=WITHIN)
        assert found == topic, (found, payload)
        return json.loads(payload)

    def next(self) -> tuple[str, bytes, bool]:
        return self._received.get(timeout=WITHIN)

    def close(self, *, politely: bool = True) -> None:
        if politely:
            self._paho.disconnect()
        else:
            sock = self._paho.socket()
            assert sock is not None
            self._paho.loop_stop()
            sock.close()
        self._paho.loop_stop()


def with_bus(path: Path, scenario: Callable[[Store, int], Awaitable[None]]) -> None:
    async def run() -> None:
        store = await open_sqlite(path / "edge.db")
        twins = DeviceTwins(store, wall=lambda: 1_790_000_000.0)
        bus = EventBus(twins, "edge1", "127.0.0.1", 0)
        try:
            async with running(twins, bus):
                await asyncio.wait_for(scenario(store, bus.port), 60)
        finally:
            await store.close()

    asyncio.run(run())


def in_thread(path: Path, act: Callable[[int, Callable[[str, bytes | None], None]], None]) -> None:
    """`act(port, put)` runs beside the loop; `put` writes the store's rows."""

    async def scenario(store: Store, port: int) -> None:
        loop = asyncio.get_running_loop()

        def put(key: str, value: bytes | None) -> None:
            done: Any = store.delete(key) if value is None else store.put(key, value)
            asyncio.run_coroutine_threadsafe(done, loop).result(WITHIN)

        await asyncio.to_thread(act, port, put)

    with_bus(path, scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_desired_goes_out_reported_comes_in_and_is_on_the_disk_when_it_is_acknowledged(
    tmp_path: Path, version: int
) -> None:
    async def scenario(store: Store, port: int) -> None:
        client = await asyncio.to_thread(Client, port, version)
        await asyncio.to_thread(client.subscribe, f"{TOPIC}/#", "$hw/events/node/edge1/membership/updated")
        await store.put(ROW, desired("20"))
        added = await asyncio.to_thread(client.get, "$hw/events/node/edge1/membership/updated")
        assert added["added_devices"][0]["id"] == "default/hall"
        delta = await asyncio.to_thread(client.get, f"{TOPIC}/twin/update/delta")
        assert delta["delta"] == {"target": "20"} and delta["twin"]["target"]["expected"] == {"value": "20"}
        update = {
            "event_id": "e1",
            "twin": {
                "target": {"actual": {"value": "20"}, "expected": {"value": "20"}},
                "temperature": {"actual": {"value": "19.5", "metadata": {"timestamp": 1_789_999_999_000}}},
            },
        }
        await asyncio.to_thread(client.publish, f"{TOPIC}/twin/update", update)
        kv = await store.get(REPORT)  # at once: it was acknowledged
        assert kv is not None
        twins = json.loads(kv.value)["twins"]
        assert twins["target"] == {"value": "20", "time": 1_790_000_000_000, "desired": "20"}
        assert twins["temperature"] == {"value": "19.5", "time": 1_789_999_999_000}
        assert (await asyncio.to_thread(client.next))[0] == f"{TOPIC}/twin/update"
        result = await asyncio.to_thread(client.get, f"{TOPIC}/twin/update/result")
        assert result["event_id"] == "e1" and result["twin"]["temperature"]["actual"]["value"] == "19.5"
        document = await asyncio.to_thread(client.get, f"{TOPIC}/twin/update/document")
        assert document["twin"]["temperature"]["current"]["actual"]["value"] == "19.5"
        await asyncio.to_thread(client.close)

    with_bus(tmp_path, scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_programs_ask_set_states_and_hear_what_was_wrong(tmp_path: Path, version: int) -> None:
    def act(port: int, put: Callable[[str, bytes | None], None]) -> None:
        put(ROW, desired("20"))
        client = Client(port, version)
        client.subscribe("$hw/events/device/+/twin/get/result", "$hw/events/device/+/twin/update/result")
        client.publish("$hw/events/device/hall/twin/get", b"")  # an id of one level
        got = client.get("$hw/events/device/hall/twin/get/result")
        assert got["twin"]["target"]["expected"] == {"value": "20"}
        client.publish("$hw/events/device/none/twin/get", {"event_id": "x"})
        assert client.get("$hw/events/device/none/twin/get/result")["code"] == 404
        for payload in (
            b"{",
            b"[]",
            b'{"twin": 7}',
            b'{"twin": {"target": {"actual": {"value": null}}}}',
            b"\xff" * 999,
        ):
            client.publish("$hw/events/device/hall/twin/update", payload)
            assert client.get("$hw/events/device/hall/twin/update/result")["code"] == 400
        client.publish("$hw/events/device/hall/twin/update", {"twin": {"target": {"actual": {"value": "31"}}}})
        said = client.get("$hw/events/device/hall/twin/update/result")
        assert said["code"] == 400 and "greater than the maximum" in said["reason"]
        client.subscribe("$hw/events/device/hall/state/update/result")
        wrong = {"event_id": "s", "state": "unhealthy", "reason": "property target: no answer\n" + "x" * 999}
        client.publish("$hw/events/device/hall/state/update", wrong)
        assert client.get("$hw/events/device/hall/state/update/result")["device"]["state"] == "unhealthy"
        client.subscribe("$ke/events/devices/get/result")
        client.publish("$ke/events/devices/get", {"event_id": "g", "protocol": ""})
        (listed,) = client.get("$ke/events/devices/get/result")["devices"]
        assert listed["reason"] == ("property target: no answer?" + "x" * 999)[:500]
        client.subscribe("$hw/events/node/edge1/membership/get/result")
        client.publish("$hw/events/node/edge1/membership/get", {"event_id": "m"})
        assert client.get("$hw/events/node/edge1/membership/get/result")["devices"][0]["state"] == "unhealthy"
        client.close()

    in_thread(tmp_path, act)


@pytest.mark.parametrize("version", VERSIONS)
def test_retained_messages_wills_and_other_programs(tmp_path: Path, version: int) -> None:
    def act(port: int, put: Callable[[str, bytes | None], None]) -> None:
        one, two = Client(port, version, "one", will="left/one"), Client(port, version, "two")
        one.publish("kept/a", b"1", retain=True)
        two.subscribe("kept/#", "left/+")
        assert two.next() == ("kept/a", b"1", True)
        one.publish("kept/a", b"2", retain=True)
        assert two.next() == ("kept/a", b"2", False)
        one.close(politely=False)
        assert two.next() == ("left/one", b"gone", False)
        three = Client(port, version, "two")  # the same client again: the first one is cut off
        three.subscribe("kept/#")
        assert three.next() == ("kept/a", b"2", True)
        three.close()
        two.close()

    in_thread(tmp_path, act)


def test_a_session_lasts_while_its_client_is_away(tmp_path: Path) -> None:
    def act(port: int, put: Callable[[str, bytes | None], None]) -> None:
        client = Client(port, paho.MQTTv311, "lasting", clean=False)
        client.subscribe("t/#")
        client.close()
        other = Client(port, paho.MQTTv311)
        for number in range(100):
            other.publish("t/x", b"%d" % number)
        client = Client(port, paho.MQTTv311, "lasting", clean=False)
        assert client.present
        assert [client.next()[1] for _ in range(100)] == [b"%d" % number for number in range(100)]
        client.close()
        other.close()

    in_thread(tmp_path, act)


def test_noise_on_the_port_harms_nobody(tmp_path: Path) -> None:
    async def scenario(store: Store, port: int) -> None:
        await store.put(ROW, desired("20"))
        for noise in (b"\x10\xff\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n", b"\x30\x00", b"\x00" * 100, b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(noise)
            if noise:
                while await reader.read(1000):  # it is closed, with or without a word
                    pass
            writer.close()
        client = await asyncio.to_thread(Client, port, paho.MQTTv5)
        await asyncio.to_thread(
            client.publish, f"{TOPIC}/twin/update", {"twin": {"temperature": {"actual": {"value": 7}}}}
        )
        kv = await store.get(keys.reported("devices", "default", "hall"))
        assert kv is not None and json.loads(kv.value)["twins"]["temperature"]["value"] == "7"
        await asyncio.to_thread(client.close)

    with_bus(tmp_path, scenario)

"""What devices, mappers, clocks and clients do wrong: the rest of the node does not notice, and the Device says what happened."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable

import pytest

from kubeedge.api import keys
from kubeedge.api.devices import DEVICEMODELS, DEVICES
from kubeedge.devices import topics
from kubeedge.devices.core import REFRESH, Twins
from kubeedge.devices.eventbus.module import EventBus
from kubeedge.devices.module import DeviceTwins
from kubeedge.devices.reporters import TURNS, Reporters
from kubeedge.mqtt import codec, requests
from kubeedge.store.memory import MemoryStore
from tests.kit import virtual_time
from tests.unit.controllers.world import World, in_world
from tests.unit.devices.modules import WITHIN, running, until
from tests.unit.devices.test_controller import MODEL, cloud, device, ready, report

NOON = 1_790_000_000_000
HALL, ATTIC = ("default", "hall"), ("default", "attic")
DAY = 86_400_000


def row(**properties: dict[str, object]) -> bytes:
    known = properties or {"t": {"type": "FLOAT", "minimum": "0", "maximum": "100"}, "s": {"type": "STRING"}}
    return json.dumps({"metadata": {"uid": "u"}, "generation": 1, "properties": known}).encode()


def reported(twins: Twins) -> dict[str, object]:
    return dict(json.loads(twins.rows(HALL)[keys.reported("devices", *HALL)] or b"{}"))


# Devices


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("t", "NaN", "finite"),
        ("t", "-inf", "finite"),
        ("t", "1e999", "finite"),
        ("t", "101", "maximum"),
        ("t", "-0.001", "minimum"),
        ("t", "hot", "number"),
        ("s", "x" * (1 << 20), "65536"),
        ("other", "1", "not in the DeviceModel"),
        ("../../etc", "1", "not in the DeviceModel"),
    ],
)
def test_a_device_that_lies_keeps_its_last_good_value_and_says_so(name: str, value: str, why: str) -> None:
    twins = Twins()
    twins.desire(HALL, row())
    assert twins.report(HALL, {"t": "20", "s": "good"}, NOON) == {}
    refused = twins.report(HALL, {name: value, **({"t": "21"} if name != "t" else {})}, NOON + 1)
    assert list(refused) == [name] and why in refused[name], refused
    shown = reported(twins)
    assert shown["refused"] == {name: refused[name]} and len(json.dumps(shown)) < 1000
    values = {prop: twin["value"] for prop, twin in shown["twins"].items()}  # type: ignore[attr-defined]
    assert values == {"t": "20" if name == "t" else "21", "s": "good"}, "the others of the report count"
    twins.report(HALL, {name: "5"}, NOON + 2)
    assert (name in reported(twins).get("refused", {})) == (name not in ("t", "s"))  # type: ignore[operator]


def test_a_model_that_changes_under_a_device_takes_what_it_lacks_and_checks_what_comes() -> None:
    twins = Twins()
    twins.desire(HALL, row())
    twins.report(HALL, {"t": "90", "s": "x"}, NOON)
    twins.desire(HALL, row(t={"type": "INT", "maximum": "50"}, new={"type": "BOOLEAN"}))
    assert set(reported(twins)["twins"]) == {"t"}, "a property that is gone is not reported any more"  # type: ignore[call-overload]
    assert set(twins.report(HALL, {"t": "90", "s": "x", "new": "true"}, NOON)) == {"t", "s"}
    assert twins.report(HALL, {"t": "40"}, NOON) == {}
    twins.desire(HALL, row())
    assert twins.report(HALL, {"s": "y"}, NOON) == {}


def test_a_clock_that_jumps_stops_nothing_and_dates_nothing_wrongly() -> None:
    twins = Twins()
    twins.desire(HALL, row(t={"type": "INT", "history": True}))
    for number, now in enumerate((NOON, NOON + 3650 * DAY, NOON - 3650 * DAY, 0, NOON + 1)):
        twins.dirty.clear()
        assert twins.report(HALL, {"t": str(number)}, now) == {}
        assert HALL in twins.dirty and twins.devices[HALL].twins["t"].reported == str(number), (
            "the newest value, always"
        )
    assert twins.devices[HALL].twins["t"].time == NOON + 1
    values = twins.take_history()["u"]["t"]
    assert [value for _, value in values] == list("01234"), "in the order in which they came"
    twins.dirty.clear()
    twins.report(HALL, {"t": "4"}, NOON + 3650 * DAY)
    twins.report(HALL, {"t": "4"}, NOON + 1)
    assert twins.dirty, "what is from the future is written again"
    assert twins.report(HALL, {"t": "5"}, NOON, times={"t": NOON + 10 * DAY}) == {}
    assert twins.devices[HALL].twins["t"].time == NOON, "a device cannot be days ahead"


# Mappers


def test_two_mappers_for_one_device_are_found_and_one_after_another_is_none() -> None:
    one = Reporters()
    assert not any(one.heard(source, NOON + at) for at, source in enumerate(("a", "a", "b", "b", "c", "", "c")))
    assert one.both == (), "each took the place of the one before"
    assert one.heard("b", NOON + 100) and one.both == ("b", "c")
    assert not one.heard("c", NOON + 200) and one.at == NOON + 200
    assert not one.settled(NOON + TURNS)
    for at in range(5):
        one.heard("c", NOON + 300 + at * TURNS)
    assert one.settled(NOON + 5 * TURNS) and one.both == () and not one.settled(NOON + 5 * TURNS)
    assert not one.heard("b", NOON + 9 * TURNS), "a mapper of before that is back takes its place, too"


def module(store: MemoryStore, now: Callable[[], float]) -> DeviceTwins:
    return DeviceTwins(store, wall=now)


def test_a_mapper_that_is_silent_is_missed_where_values_have_a_cycle() -> None:
    async def scenario() -> None:
        loop, store = asyncio.get_running_loop(), MemoryStore()

        def now() -> float:
            return NOON / 1000 + loop.time()

        await store.put(keys.desired("devices", *HALL), row(t={"type": "INT", "collectCycle": 1000}))
        await store.put(keys.desired("devices", *ATTIC), row(t={"type": "INT"}))
        async with running(twins := module(store, now)):  # type: ignore[arg-type]
            devices = twins.twins.devices
            for key in (HALL, ATTIC):
                twins.report(key, {"t": "1"}, durable=False, source="m")
            await asyncio.sleep(50)
            assert devices[HALL].state == "online"
            twins.report(HALL, {"t": "1"}, durable=False, source="m")
            await asyncio.sleep(50)
            assert devices[HALL].state == "online"
            await asyncio.sleep(40)
            assert devices[HALL].state == "unknown" and devices[ATTIC].state == "online"
            kv = await store.get(keys.reported("devices", *HALL))
            assert kv is not None and json.loads(kv.value)["state"] == "unknown"
            assert json.loads(kv.value)["seen"] < now() * 1000 - 80_000, "when it was heard of last"
            twins.report(HALL, {"t": "2"}, durable=False, source="m")
            assert devices[HALL].state == "online"
            twins.set_state(HALL, "offline", durable=False)
            await asyncio.sleep(1000)
            assert devices[HALL].state == "offline", "its mapper has said why nothing comes"
            twins.set_state(HALL, "online", durable=False)
            for turn in range(6):
                twins.report(HALL, {"t": "2"}, durable=False, source=f"m{turn % 2}")
            await asyncio.sleep(1)
            kv = await store.get(keys.reported("devices", *HALL))
            assert kv is not None and json.loads(kv.value)["mappers"] == ["m0", "m1"]
            for _ in range(20):
                await asyncio.sleep(15)
                twins.report(HALL, {"t": "2"}, durable=False, source="m1")
            kv = await store.get(keys.reported("devices", *HALL))
            assert kv is not None and "mappers" not in json.loads(kv.value)
        async with running(again := module(store, now)):  # type: ignore[arg-type]  # after a reboot, without its mapper
            assert again.twins.devices[HALL].state == "online"
            await asyncio.sleep(120)
            assert again.twins.devices[HALL].state == "unknown"

    virtual_time.run(scenario())


@in_world
async def test_the_device_says_that_its_mapper_is_silent_or_not_the_only_one_and_when_all_was_well(
    world: World,
) -> None:
    async with cloud(world):
        await world.api().create(DEVICES, "default", device())
        await world.api().create(DEVICEMODELS, "default", MODEL)
        agent = await world.join("edge1")
        await world.settle()
        twins = {"target": {"value": "20", "time": NOON}}
        good = {"generation": 1, "state": "online", "seen": NOON, "twins": twins}
        await report(world, **good)
        await world.settle()
        assert await ready(world) == ("True", "Ready")

        async def condition() -> tuple[str, str, str]:
            status = (await world.get(DEVICES, "hall"))["status"]
            (one,) = status["conditions"]
            assert status["lastOnlineTime"] in (one["message"] + status["lastOnlineTime"])
            return one["status"], one["reason"], one["message"]

        last = (await world.get(DEVICES, "hall"))["status"]["lastOnlineTime"]
        await report(world, **{**good, "mappers": ["modbus-1", "x" * 5000]})
        await world.settle()
        status, reason, message = await condition()
        assert (status, reason) == ("False", "TwoMappers") and "modbus-1" in message and len(message) < 300
        for nonsense in ("both", [], 7, {"a": 1}, [None, {}]):
            await report(world, **{**good, "mappers": nonsense})
            await world.settle()
            assert (await condition())[1] in ("Ready", "TwoMappers")
        await report(world, **{**good, "state": "unknown"})
        await world.settle()
        status, reason, message = await condition()
        assert (status, reason) == ("Unknown", "MapperSilent") and last in message
        assert "no mapper of protocol virtual" in message
        await report(world, **{**good, "refused": {"temperature": "101 is above the maximum 100"}})
        await world.settle()
        status, reason, message = await condition()
        assert (status, reason) == ("False", "ReportRefused") and "101 is above" in message
        await agent.detach()
        await world.settle(1000)
        status, reason, message = await condition()
        assert (status, reason) == ("Unknown", "NodeOffline") and last in message
        assert (await world.get(DEVICES, "hall"))["status"]["twins"], "the last values stay"


# Clients of the broker


def packets() -> dict[str, bytes]:
    """One good packet of each kind, with all of its fields."""

    def text(value: str) -> bytes:
        return len(value).to_bytes(2, "big") + value.encode()

    def packet(first: int, body: bytes) -> bytes:
        return bytes((first, len(body))) + body

    will = b"\x05\x18\0\0\0\1" + text("w/t") + text("bye")
    properties = b"\x11\0\0\0\x10" + b"\x21\0\x10" + b"\x27\0\1\0\0" + b"\x26" + text("a") + text("b")
    first = text("MQTT") + b"\5\xee\0\x3c" + bytes((len(properties),)) + properties
    connect = first + text("me") + will + text("u") + text("p")
    return {
        "connect": packet(0x10, connect),
        "connect 3.1.1": packet(0x10, text("MQTT") + b"\4\xc2\0\x3c" + text("me") + text("u") + text("p")),
        "publish": packet(0x33, text("a/b") + b"\0\7" + b"\2\1\1" + b"payload"),
        "puback": packet(0x40, b"\0\7\x10\0"),
        "subscribe": packet(0x82, b"\0\7\0" + text("a/+") + b"\1" + text("$hw/#") + b"\x2d"),
        "unsubscribe": packet(0xA2, b"\0\7\0" + text("a/+")),
        "pingreq": b"\xc0\0",
        "disconnect": packet(0xE0, b"\4\5\x11\0\0\0\1"),
    }


@pytest.mark.parametrize("kind", packets())
def test_no_byte_of_a_packet_that_is_wrong_harms_others(kind: str) -> None:
    """Each byte of each field becomes each of some values, on a connection of its own or after a good CONNECT."""

    async def scenario() -> None:
        store = MemoryStore()
        await store.put(keys.desired("devices", *HALL), row())
        bus = EventBus(module(store, lambda: NOON / 1000), "edge1", "127.0.0.1", 0)
        async with running(bus._twins, bus):
            good = packets()[kind]
            tried = 0
            for at in range(len(good)):
                for value in {0, 0x7F, 0xFF, good[at] ^ 1, good[at] ^ 0x80}:
                    reader, writer = await asyncio.open_connection("127.0.0.1", bus.port)
                    if not kind.startswith("connect"):
                        writer.write(requests.connect(f"hostile{at}", 60))
                    writer.write(good[:at] + bytes((value,)) + good[at + 1 :])
                    writer.write_eof()
                    with contextlib.suppress(ConnectionError):
                        assert len(await asyncio.wait_for(reader.read(), WITHIN)) < 1000
                    writer.close()
                    tried += 1
            assert tried > len(good)
            assert bus._server is not None
            reader, writer = await asyncio.open_connection("127.0.0.1", bus.port)
            topic = f"{topics.DEVICE}default/hall/twin/update"
            payload = b'{"twin": {"t": {"actual": {"value": "7"}}}}'
            body = len(topic).to_bytes(2, "big") + topic.encode() + b"\0\1" + payload
            writer.write(requests.connect("good", 60) + bytes((0x32, len(body))) + body)
            answers = await asyncio.wait_for(reader.readexactly(8), WITHIN)
            assert answers == b"\x20\2\0\0\x40\2\0\1", "it is served, and acknowledged"
            writer.close()
            await until(lambda: not bus._server._connections)  # type: ignore[union-attr]
            assert len(bus._server.broker.sessions) <= bus._server.broker.limits.sessions
            assert len(bus._server.broker.retained) <= 64

    asyncio.run(scenario())


def test_the_good_packets_are_good() -> None:
    """Otherwise the test above would show nothing."""
    good = packets()
    for version in ("connect", "connect 3.1.1"):
        decoder = codec.PacketDecoder()
        (found,) = decoder.feed(good[version])
        assert isinstance(found, codec.Connect) and (found.user, found.password) == ("u", b"p")
    decoder = codec.PacketDecoder()
    decoder.feed(good["connect"])
    for kind in ("publish", "puback", "subscribe", "unsubscribe", "pingreq", "disconnect"):
        assert len(decoder.feed(good[kind])) == 1, kind


def test_what_a_report_may_say_is_refreshed_and_no_more() -> None:
    twins = Twins()
    twins.desire(HALL, row())
    for number in range(10_000):
        twins.report(HALL, {f"unknown{number}": "1"}, NOON + number)
    assert len(reported(twins)["refused"]) <= 16 and len(twins.devices[HALL].twins) == 0  # type: ignore[arg-type]
    assert twins.devices[HALL].errors == 10_000 and REFRESH

"""Scans that the cloud asks a node for, in a process of their own, and what programs of the node have found."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from kubeedge.api import keys
from kubeedge.devices.eventbus.module import EventBus
from kubeedge.devices.module import DeviceTwins
from kubeedge.devices.scans import core
from kubeedge.devices.scans.module import DeviceScans
from kubeedge.errors import Invalid
from kubeedge.mqtt.client import MqttClient
from kubeedge.mqtt.codec import Publish
from kubeedge.store.memory import MemoryStore
from kubeedge.store.reflector import read_all
from tests.unit.devices.modules import running, until

ORDER = {"id": "s1", "networks": ["127.0.0.1/32"], "finders": ["modbus"], "units": [1], "seconds": 5, "until": 2e12}
FINDING: dict[str, Any] = {
    "name": "modbus-10-0-0-1-1",
    "finder": "modbus",
    "protocol": "modbus",
    "config": {"host": "10.0.0.1", "slaveID": 1},
    "info": {"vendor": "Acme"},
}
NOW = 1_800_000_000.0


def order(**more: Any) -> bytes:
    return json.dumps({**ORDER, **more}).encode()


def test_a_scan_of_the_cloud_runs_once_and_is_answered() -> None:
    async def run() -> None:
        store = MemoryStore()
        status = keys.reported("scans", "", "scan")

        async def said() -> Any:
            found = await store.get(status)
            return json.loads(found.value) if found is not None else {}

        async def ended(scan: str) -> Any:
            async with asyncio.timeout(120):
                while (answer := await said()).get("id") != scan or answer["state"] != "done":
                    await asyncio.sleep(0.05)
            return answer

        await store.put(keys.desired("scans", "", "scan"), order())
        async with running(DeviceScans(store, wall=lambda: NOW)):
            assert await ended("s1") == {"id": "s1", "state": "done", "found": [], "errors": {}}
            await store.put(keys.desired("scans", "", "scan"), order(id="s2", finders=["acme"]))
            assert "status 2" in (await ended("s2"))["errors"]["scan"]
            await store.put(keys.desired("scans", "", "scan"), order(id="s3", until=1.7e12))
        async with running(
            DeviceScans(store, wall=lambda: NOW)
        ):  # another start: neither the old one nor one that is too late
            await store.put(keys.desired("scans", "", "scan"), order(id="s4", networks=["; rm"]))
            await store.put(keys.desired("scans", "", "scan"), order(id="s5", networks=["127.0.0.1/32"]))
            await ended("s5")

    asyncio.run(run())


@pytest.mark.parametrize("row", [b'{"id":"s1","state":"running"}', b"[]", b"{", b'{"id":7,"state":[]}'])
def test_a_scan_that_ended_with_the_agent_is_over_and_is_not_made_again(row: bytes) -> None:
    async def run() -> None:
        store = MemoryStore()
        status = keys.reported("scans", "", "scan")
        await store.put(status, row)
        async with running(DeviceScans(store, wall=lambda: NOW)):
            await store.put(keys.desired("scans", "", "scan"), order(id="s1", finders=["acme"]))
            async with asyncio.timeout(120):
                while b'"done"' not in (found := await store.get(status) or pytest.fail("no status")).value:
                    await asyncio.sleep(0.05)
            said = json.loads(found.value)["errors"]["scan"]
            assert ("started anew" in said) == (b"running" in row), said

    asyncio.run(run())


def test_what_programs_have_found_goes_to_the_cloud_when_it_is_on_the_disk() -> None:
    async def run() -> None:
        store = MemoryStore()
        answers: list[dict[str, Any]] = []

        def received(message: Publish) -> None:
            answers.append(json.loads(message.payload))

        twins, scans = DeviceTwins(store, wall=lambda: NOW), DeviceScans(store, wall=lambda: NOW)
        bus = EventBus(twins, "edge1", "127.0.0.1", 0, found=scans.found)
        async with running(twins, bus):
            client = await MqttClient.open("127.0.0.1", bus.port, "scan", received)
            serving = asyncio.create_task(client.serve())
            await client.subscribe("$ke/events/devices/found/result")
            for findings in ([FINDING], "x", [FINDING | {"name": "../x"}]):
                await client.publish("$ke/events/devices/found", json.dumps({"findings": findings}).encode())
            await until(lambda: len(answers) == 3)
            assert answers[0]["names"] == ["modbus-10-0-0-1-1"]
            assert [("reason" in one) for one in answers] == [False, True, True]
            rows = await read_all(store, "/reported/discoveries/")
            assert list(rows) == ["/reported/discoveries/_/modbus-10-0-0-1-1"]
            assert json.loads(rows[next(iter(rows))])["config"] == {"host": "10.0.0.1", "slaveID": 1}
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(run())


def test_a_node_keeps_so_many_discoveries_and_for_so_long() -> None:
    rows = {f"a{n}": json.dumps({"time": 1000 + n}).encode() for n in range(core.MAX_DISCOVERIES)}
    assert core.outdated(rows, [], 2000) == []
    assert core.outdated(rows, ["b1", "b2", "a1"], 2000) == ["a0", "a2"]
    assert core.outdated({"old": b'{"time": 0}', "odd": b"[]"}, [], core.KEEP + 1) == ["odd", "old"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": 7},
        {"seconds": 0},
        {"seconds": 1e9},
        {"seconds": True},
        {"until": None},
        {"networks": "10.0.0.0/8"},
        {"networks": ["--broker"]},
        {"networks": ["10.0.0.0/8 x"]},
        {"finders": ["a"] * 17},
        {"radios": [{}]},
    ],
)
def test_an_order_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        core.order(order(**wrong))
    assert core.order(order()).arguments == (
        "127.0.0.1/32", "--seconds", "5", "--finder", "modbus", "--unit", "1",
    )  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "x" * 64},
        {"name": None},
        {"protocol": "a b"},
        {"finder": 7},
        {"config": []},
        {"config": {"a": {}}},
        {"config": {"a": "x" * 513}},
        {"config": dict.fromkeys(map(str, range(17)), 1)},
        {"info": {"k" * 65: "x"}},
    ],
)
def test_a_finding_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        core.discoveries([FINDING | wrong], 0)
    with pytest.raises(Invalid):
        core.discoveries([FINDING] * 129, 0)

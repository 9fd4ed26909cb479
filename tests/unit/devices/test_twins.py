"""The twins at the edge: what is kept, what is refused, what survives."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api import keys
from kubeedge.devices import topics
from kubeedge.devices.core import REFRESH, Twins
from kubeedge.devices.module import DeviceTwins
from kubeedge.errors import Invalid
from kubeedge.store.memory import MemoryStore
from kubeedge.store.sqlite import open_sqlite
from tests.kit import virtual_time

NOON = 1_790_000_000_000
HALL = ("default", "hall")
ROW = keys.desired("devices", *HALL)
REPORT = keys.reported("devices", *HALL)


def desired(target: str = "20", uid: str = "u1", generation: int = 1) -> bytes:
    properties = {
        "temperature": {"type": "FLOAT"},
        "target": {"type": "INT", "minimum": "5", "maximum": "30", "desired": target},
        "secret": {"type": "STRING", "reportToCloud": False},
    }
    metadata = {"name": "hall", "namespace": "default", "uid": uid}
    return json.dumps({"metadata": metadata, "generation": generation, "properties": properties}).encode()


def clean(twins: Twins) -> None:
    twins.dirty.clear()


def test_one_row_has_the_newest_values_and_what_has_not_changed_is_not_written() -> None:
    twins = Twins()
    assert twins.desire(HALL, desired()).added
    assert twins.devices[HALL].delta() == {"target": "20"}
    clean(twins)
    assert twins.report(HALL, {"temperature": "19.5", "target": "20"}, NOON) == {}
    assert list(twins.dirty) == [HALL] and twins.devices[HALL].delta() == {}
    clean(twins)
    for later in range(1, REFRESH, 500):
        twins.report(HALL, {"temperature": "19.5"}, NOON + later)
    assert not twins.dirty, "a chatty device costs nothing"
    twins.report(HALL, {"temperature": "19.5"}, NOON + REFRESH)
    assert twins.dirty, "its time is kept every now and then"
    row = json.loads(twins.rows(HALL)[REPORT] or b"")
    assert row["twins"]["temperature"] == {"value": "19.5", "time": NOON + REFRESH} and row["state"] == "online"


def test_what_is_refused_is_said_and_changes_nothing() -> None:
    twins = Twins()
    twins.desire(HALL, desired())
    refused = twins.report(HALL, {"temperature": "nan", "other": "1", "target": "31", "secret": "x" * 70_000}, NOON)
    assert refused.keys() == {"temperature", "other", "target", "secret"} and not twins.devices[HALL].twins
    assert json.loads(twins.rows(HALL)[REPORT] or b"")["refused"].keys() == refused.keys()
    twins.report(HALL, {"target": "30"}, NOON)
    assert "target" not in twins.devices[HALL].refused
    for number in range(1000):
        twins.report(HALL, {f"p{number}": "1"}, NOON)
    assert len(twins.devices[HALL].refused) <= 16


def test_a_machine_without_a_clock_does_not_date_its_values() -> None:
    twins = Twins()
    twins.desire(HALL, desired())
    twins.report(HALL, {"temperature": "1"}, 5_000)
    assert twins.devices[HALL].twins["temperature"].time == 0
    twins.report(HALL, {"temperature": "2"}, 6_000, times={"temperature": NOON})
    assert twins.devices[HALL].twins["temperature"].time == NOON, "the device has one"
    twins.report(HALL, {"temperature": "3"}, NOON, times={"temperature": NOON * 9})
    assert twins.devices[HALL].twins["temperature"].time == NOON


def test_what_the_node_keeps_for_itself_is_not_reported() -> None:
    twins = Twins()
    twins.desire(HALL, desired())
    twins.report(HALL, {"secret": "s", "temperature": "1"}, NOON)
    rows = twins.rows(HALL)
    assert b'"s"' not in (rows[REPORT] or b"") and b'"s"' in (rows[keys.local_device(*HALL)] or b"")


def test_what_is_wrong_is_in_the_row_until_it_is_over_and_after_a_restart() -> None:
    twins = Twins()
    twins.desire(HALL, desired())
    twins.set_state(HALL, "offline", NOON, why="no answer in time")
    kept = twins.rows(HALL)[REPORT]
    assert kept is not None and json.loads(kept)["why"] == "no answer in time"
    again = Twins()
    again.restore(HALL, kept)
    again.desire(HALL, desired())
    assert (again.devices[HALL].state, again.devices[HALL].why) == ("offline", "no answer in time")
    again.dirty.clear()
    again.set_state(HALL, "offline", NOON, why="no answer in time")
    assert not again.dirty
    again.set_state(HALL, "online", NOON)
    row = again.rows(HALL)[REPORT]
    assert row is not None and "why" not in json.loads(row)


def test_a_device_of_the_same_name_is_another_one() -> None:
    twins = Twins()
    twins.desire(HALL, desired())
    twins.report(HALL, {"temperature": "1"}, NOON)
    twins.desire(HALL, desired(uid="u2"))
    assert twins.devices[HALL].twins == {}


def test_values_survive_a_restart_offline_and_leave_with_the_device(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "edge.db"
        for life in range(3):
            store = await open_sqlite(path)
            if life == 0:
                await store.put(ROW, desired())
            module = DeviceTwins(store, wall=lambda: NOON / 1000)
            ready = asyncio.Event()
            task = asyncio.create_task(module.run(ready))
            await ready.wait()
            if life == 0:
                refused, written = module.report(HALL, {"temperature": "19.5", "secret": "s"}, durable=True)
                assert refused == {} and written is not None
                await written
            twins = module.twins.devices[HALL].twins
            assert (twins["temperature"].reported, twins["secret"].reported) == ("19.5", "s")
            if life == 2:
                ending = json.dumps({"metadata": {"uid": "u1"}, "deleting": True}).encode()
                await store.put(ROW, ending)
                while json.loads((await store.get(REPORT)).value) != {"uid": "u1", "gone": True}:  # type: ignore[union-attr]
                    await asyncio.sleep(0)
                await store.delete(ROW)
                while await store.get(REPORT) is not None:
                    await asyncio.sleep(0)
                assert await store.get(keys.local_device(*HALL)) is None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await store.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_flood_is_few_writes_and_the_last_value_is_there() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await store.put(ROW, desired())
        module = DeviceTwins(store, wall=lambda: NOON / 1000)
        ready = asyncio.Event()
        task = asyncio.create_task(module.run(ready))
        await ready.wait()
        for number in range(10_000):  # ten seconds
            module.report(HALL, {"temperature": str(number)}, durable=False)
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        kv = await store.get(REPORT)
        assert kv is not None and json.loads(kv.value)["twins"]["temperature"]["value"] == "9999"
        assert module.commits <= 45
        task.cancel()

    virtual_time.run(scenario())


@given(st.binary(max_size=200))
def test_no_payload_breaks_the_topics(payload: bytes) -> None:
    for parse in (topics.update, topics.state, topics.event_of):
        try:
            parse(payload)  # type: ignore[operator]
        except Invalid:
            continue


@given(st.text(max_size=60))
def test_no_topic_breaks_them_either(rest: str) -> None:
    found = topics.device_topic(topics.DEVICE + rest)
    assert found is None or 1 <= len(found.identifier) <= 2


def test_devices_have_one_or_two_levels() -> None:
    found = topics.device_topic("$hw/events/device/default/hall/twin/update")
    assert (
        found is not None
        and found.identifier == HALL
        and found.topic("twin/get") == "$hw/events/device/default/hall/twin/get"
    )
    found = topics.device_topic("$hw/events/device/hall/state/update")
    assert found is not None and found.identifier == ("hall",)
    assert topics.device_topic("$hw/events/device/hall/twin/update/result") is None
    twins = Twins()
    twins.desire(HALL, desired())
    twins.desire(("other", "cellar"), desired())
    assert twins.find(["hall"]) == HALL and twins.find(["cellar"]) == ("other", "cellar")
    assert twins.find(["default", "cellar"]) is None and twins.find(["x"]) is None


def test_who_waits_for_the_disk_does_not_wait_for_what_others_report_meanwhile() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        names = [("default", f"d{n}") for n in range(2)]
        for _, name in names:
            await store.put(keys.desired("devices", "default", name), desired(uid=name))
        module = DeviceTwins(store, wall=lambda: NOON / 1000)
        ready = asyncio.Event()
        task = asyncio.create_task(module.run(ready))
        await ready.wait()
        txn = store.txn

        async def slow(*arguments: Any) -> Any:  # somebody reports while each transaction is on its way
            done = await txn(*arguments)
            await asyncio.sleep(0.01)
            module.report(names[1], {"temperature": str(next(numbers))}, durable=True)
            return done

        numbers = itertools.count()
        store.txn = slow  # type: ignore[method-assign]
        _, written = module.report(names[0], {"temperature": "1"}, durable=True)
        assert written is not None
        await asyncio.wait_for(written, 1)
        task.cancel()

    virtual_time.run(scenario())

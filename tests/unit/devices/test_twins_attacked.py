"""Twins whose model changes under them, and clients that ask for all of them without end."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from kubeedge.api import keys
from kubeedge.devices import topics
from kubeedge.devices.core import Device, Twins
from kubeedge.devices.eventbus.module import EventBus
from kubeedge.devices.module import DeviceTwins
from kubeedge.mqtt.codec import Publish
from kubeedge.store.sqlite import open_sqlite
from tests.unit.devices.modules import running, until

NOON = 1_790_000_000_000
HALL = ("default", "hall")
GET = "$hw/events/node/edge1/membership/get"


def row(uid: str = "u", **properties: dict[str, object]) -> bytes:
    return json.dumps({"metadata": {"uid": uid}, "generation": 1, "properties": properties}).encode()


def reported(twins: Twins) -> dict[str, object]:
    """What the cloud gets, when the row is to be written."""
    assert HALL in twins.dirty
    del twins.dirty[HALL]
    return dict(json.loads(twins.rows(HALL)[keys.reported("devices", *HALL)] or b"{}"))


def test_a_property_that_its_model_lacks_for_a_while_has_no_former_value() -> None:
    """The Device is the same: its generation does not say that anything has changed."""
    twins = Twins()
    twins.desire(HALL, row(t={"type": "INT"}, s={"type": "STRING"}))
    twins.report(HALL, {"t": "20", "s": "good"}, NOON)
    reported(twins)
    twins.desire(HALL, row(s={"type": "STRING"}))
    assert reported(twins)["twins"] == {"s": {"value": "good", "time": NOON}}
    twins.desire(HALL, row(t={"type": "INT"}, s={"type": "STRING"}))
    assert HALL not in twins.dirty


def test_a_value_that_was_refused_is_not_wrong_any_more_when_the_model_allows_it() -> None:
    twins = Twins()
    twins.desire(HALL, row(t={"type": "INT", "maximum": "10"}))
    twins.report(HALL, {"t": "5"}, NOON)
    twins.report(HALL, {"t": "20"}, NOON)
    assert "t" in dict(reported(twins)["refused"])  # type: ignore[call-overload]
    twins.desire(HALL, row(t={"type": "INT", "maximum": "30"}))
    assert "refused" not in reported(twins)


@pytest.mark.parametrize("devices", [200, 4000], ids=["they fit", "they do not"])
def test_who_asks_for_all_devices_without_end_holds_up_nobody(
    devices: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn, described = 0, Counter[int]()
    real = topics.described

    def counted(key: tuple[str, str], device: Device) -> dict[str, object]:
        described[turn] += 1
        return real(key, device)

    monkeypatch.setattr(topics, "described", counted)

    async def turning() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def inside() -> None:
        store = await open_sqlite(tmp_path / "edge.db")
        twins = DeviceTwins(store, wall=lambda: NOON / 1000)
        bus = EventBus(twins, "edge1", "127.0.0.1", 0)
        said: list[dict[str, object]] = []
        async with running(twins, bus):
            for number in range(devices):
                twins.twins.desire(("default", f"d{number}"), row(f"u{number}", t={"type": "INT"}))
                twins.twins.report(("default", f"d{number}"), {"t": "1"}, NOON)
            monkeypatch.setattr(bus, "_publish", lambda topic, payload: said.append(json.loads(payload)))
            clock = asyncio.create_task(turning())
            for number in range(50):
                bus._received(Publish(GET, b'{"event_id":"%d"}' % number), "c")
            await until(lambda: len(said) == 50)
            clock.cancel()
        await store.close()
        assert max(described.values()) <= 8, described.most_common(3)
        refused = [one for one in said if one.get("code") == 503]
        assert len(refused) == 46, "so many at once are answered, and no more"
        for one in said:
            if one not in refused and devices == 200:
                found = one["devices"]
                assert isinstance(found, list) and len(found) == 200
                assert found[7] == json.loads(json.dumps(real(("default", "d7"), twins.twins.devices["default", "d7"])))
            elif one not in refused:
                assert one["code"] == 413 and "$ke/events/devices/get" in str(one["reason"])

    asyncio.run(inside())


def test_a_device_that_floods_costs_no_other_its_history_nor_its_values_for_other_servers() -> None:
    """Both are acknowledged with the report."""
    twins = Twins(pushing=True)
    push = {"http": {"hostName": "http://10.0.0.1"}}
    for name in ("flood", "calm"):
        twins.desire(("default", name), row(name, s={"type": "STRING", "history": True, "pushMethod": push}))
    assert twins.pushes is not None
    for number in range(200):
        twins.report(("default", "flood"), {"s": f"{number}" + "x" * 60_000}, NOON + number)
    lost, unsent = twins.history_lost, twins.pushes.lost
    assert lost and unsent
    for number in range(20):
        twins.report(("default", "calm"), {"s": f"{number}"}, NOON + number)
    assert (twins.history_lost, twins.pushes.lost) == (lost, unsent)
    assert [value for _, value in twins.take_history()["calm"]["s"]] == [str(number) for number in range(20)]
    assert [one.value for _, one in twins.pushes.take() if one.device == "calm"] == [str(n) for n in range(20)]


def test_many_devices_that_flood_have_a_bound_together() -> None:
    twins = Twins()
    for device in range(400):
        twins.desire(("default", f"d{device}"), row(f"u{device}", s={"type": "STRING", "history": True}))
        twins.report(("default", f"d{device}"), {"s": f"{device}" + "x" * 30_000}, NOON)
    assert twins.history_lost > 300
    assert len(twins.take_history()) < 80
    twins.report(("default", "d399"), {"s": "later"}, NOON)
    assert twins.take_history()["u399"]["s"] == [(NOON, "later")]

"""A node whose clock is set while values and messages wait: none is given up for an age that it has not."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.devices.ages import EPOCH, ClockLeaps
from kubeedge.devices.core import Twins
from kubeedge.devices.history.driver import HistoryFiles
from kubeedge.devices.sinks import formats
from kubeedge.devices.sinks.core import PushedValue
from kubeedge.devices.sinks.queue import PushQueue
from kubeedge.devices.upstream.module import MessageUpstream
from kubeedge.devices.upstream.queue import IncomingMessage, UpstreamQueue
from kubeedge.store.sqlite import open_sqlite
from tests.unit.devices.modules import running

NOON = 1_790_000_000_000
DAY = 86_400_000
UNSET = 60_000  # a minute after 1970 began
KEY, UID = ("default", "hall"), "00000000-0000-4000-8000-000000000001"


class Elapsed:
    """Seconds since boot, by hand."""

    def __init__(self) -> None:
        self.seconds = 10.0

    def __call__(self) -> float:
        return self.seconds


def pushed(text: str) -> tuple[str, PushedValue]:
    return "to", PushedValue(0, *KEY, "t", "INT", NOON, text)


@pytest.mark.parametrize(
    ("wrong", "is_restarted"),
    [(UNSET, False), (UNSET, True), (NOON - 90 * DAY, False)],  # after a start a clock that can be right tells nothing
    ids=["unset", "unset, and started anew", "of its last shutdown"],
)
def test_what_waits_is_not_given_up_when_the_clock_is_set(wrong: int, is_restarted: bool, tmp_path: Path) -> None:
    elapsed = Elapsed()
    messages = UpstreamQueue(tmp_path / "m.db", 1 << 20, 7 * 86400.0, elapsed)
    values = PushQueue(tmp_path / "p.db", 1 << 20, 7 * 86400.0, elapsed)
    history = HistoryFiles(tmp_path / "h", 64 * 1024, 7 * 86400.0, elapsed)
    for number in range(8):
        messages.append([IncomingMessage("a/user/b", f"{number}".encode(), wrong)], wrong)
        values.append([pushed(str(number))], wrong)
        history.append({UID: {"t": [(0, f"{number}" + "x" * 3000)]}}, wrong)
        elapsed.seconds += 1
    if is_restarted:
        for one in (messages, values, history):
            one.close()
        for path in (tmp_path / "h").iterdir():  # by the clock of this test
            os.utime(path, (wrong / 1000, wrong / 1000))
        messages = UpstreamQueue(tmp_path / "m.db", 1 << 20, 7 * 86400.0, elapsed)
        values = PushQueue(tmp_path / "p.db", 1 << 20, 7 * 86400.0, elapsed)
        history = HistoryFiles(tmp_path / "h", 64 * 1024, 7 * 86400.0, elapsed)
    for second in range(2):
        messages.append([IncomingMessage("a/user/b", b"late", NOON)], NOON + second * 1000)
        values.append([pushed("late")], NOON + second * 1000)
        history.append({UID: {"t": [(NOON + second, "late" + "x" * 3000)]}}, NOON + second * 1000)
        elapsed.seconds += 1
    assert [one.payload for one in messages.after(0, 100, 1 << 20)][:8] == [f"{number}".encode() for number in range(8)]
    assert [one.value for one in values.first("to", 100, 1 << 20)][:8] == [f"{number}" for number in range(8)]
    assert len(history.read(KEY, UID, "t", 0, 100)) == 10
    assert messages.lost == values.lost == 0
    elapsed.seconds += 8 * 86400  # and their age is counted from there on
    after = NOON + 8 * DAY
    messages.append([IncomingMessage("a/user/b", b"new", after)], after)
    values.append([pushed("new")], after)
    for number in range(2):
        history.append({UID: {"t": [(after + number, "new" + "x" * 3000)]}}, after + number)
    assert [one.payload for one in messages.after(0, 100, 1 << 20)] == [b"new"]
    assert [one.value for one in values.first("to", 100, 1 << 20)] == ["new"]
    assert {text[:3] for _, text in history.read(KEY, UID, "t", NOON + 2, 100)} == {"new"}
    assert not any("0x" in text for _, text in history.read(KEY, UID, "t", 0, 100))


def test_a_clock_that_is_wrong_for_a_moment_costs_nothing(tmp_path: Path) -> None:
    elapsed = Elapsed()
    messages = UpstreamQueue(tmp_path / "m.db", 1 << 20, 7 * 86400.0, elapsed)
    for now in (NOON, NOON + 3650 * DAY, NOON + 1000, UNSET, NOON + 2000):
        messages.append([IncomingMessage("a/user/b", b"x", now)], now)
        elapsed.seconds += 1
    assert messages.lost == 0 and messages.count == 5


def test_a_leap_on_a_full_disk_is_made_up_for_later(tmp_path: Path) -> None:
    elapsed = Elapsed()
    messages = UpstreamQueue(tmp_path / "m.db", 1 << 20, 7 * 86400.0, elapsed)
    messages.append([IncomingMessage("a/user/b", b"x", NOON)], NOON)
    with pytest.raises(OSError, match="large"):
        messages.append([IncomingMessage("a/user/b", b"x", 1 << 70)], NOON + 90 * DAY)
    messages.append([IncomingMessage("a/user/b", b"y", NOON)], NOON + 90 * DAY)
    assert messages.lost == 0 and messages.count == 2


@given(st.lists(st.tuples(st.integers(-(10**13), 10**13), st.floats(0, 1e9)), max_size=8))
def test_no_stamp_is_ever_in_the_future_or_older_than_it_was(steps: list[tuple[int, float]]) -> None:
    elapsed = Elapsed()
    leaps = ClockLeaps(elapsed)
    for now, seconds in steps:
        elapsed.seconds += seconds
        ahead = leaps.ahead(now)
        assert ahead >= 0
        for old in (0, UNSET, EPOCH, now - DAY, now + DAY):
            assert min(old, now) <= leaps.stamp(old, ahead, now) <= max(old, now)


def test_a_time_that_no_calendar_has_is_none() -> None:
    """Without a clock of its own the node takes the device's word, up to a point: such numbers break whatever shows or keeps a time."""
    twins = Twins(pushing=True)
    push = {"http": {"hostName": "http://10.0.0.1"}}
    row = {
        "metadata": {"uid": UID},
        "generation": 1,
        "properties": {"t": {"type": "INT", "history": True, "pushMethod": push}},
    }
    twins.desire(KEY, json.dumps(row).encode())
    assert twins.pushes is not None
    for stamp in (10**30, 253_402_300_800_000, 10**15 - 1, -1, 1):
        assert twins.report(KEY, {"t": "1"}, UNSET, times={"t": stamp}) == {}
        assert twins.devices[KEY].twins["t"].time == 0
        ((_, value),) = twins.pushes.take()
        assert formats.date(value.time) == "1970-01-01 00:00:00"
    twins.report(KEY, {"t": "1"}, UNSET, times={"t": NOON})
    assert twins.devices[KEY].twins["t"].time == NOON


def test_a_value_that_the_queue_cannot_hold_ends_nothing(tmp_path: Path) -> None:
    values = PushQueue(tmp_path / "p.db", 1 << 20, 86400.0)
    with pytest.raises(OSError, match="large"):
        values.append([("to", PushedValue(0, *KEY, "t", "INT", 1 << 70, "1"))], NOON)
    values.append([pushed("2")], NOON)
    assert [one.value for one in values.first("to", 10, 1 << 20)] == ["2"]


def test_messages_of_a_node_without_a_clock_have_no_time(tmp_path: Path) -> None:
    async def inside() -> None:
        queue = UpstreamQueue(tmp_path / "m.db", 1 << 20, 86400.0)
        upstream = MessageUpstream(await open_sqlite(tmp_path / "edge.db"), queue, wall=lambda: UNSET / 1000)
        async with running(upstream):
            kept = upstream.append("a/user/b", b"x")
            assert kept is not None
            await kept
            assert [one.time for one in queue.after(0, 10, 1 << 20)] == [0]

    asyncio.run(inside())

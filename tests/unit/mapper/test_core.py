"""What a mapper reads, writes and reports, and when."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import Invalid, PeerError
from kubeedge.mapper import documents, values
from kubeedge.mapper.core import REFRESH, DeviceCycle
from kubeedge.mapper.listing import DeviceListing
from kubeedge.mapper.values import MappedProperty
from kubeedge.mqtt.client import MqttClient

ITEM = {
    "id": "default/hall",
    "protocol": {"protocolName": "virtual", "configData": {"host": "h"}},
    "properties": {
        "a": {"type": "FLOAT", "accessMode": "ReadOnly", "desired": "1", "collectCycle": 500},
        "b": {"type": "INT", "desired": "20", "reportCycle": 2000, "visitors": {"configData": {"offset": "7"}}},
    },
}


def cycle(**more: Any) -> DeviceCycle:
    return DeviceCycle(*values.mapped(ITEM), **more)


def names(props: list[MappedProperty]) -> list[str]:
    return [prop.name for prop in props]


def test_a_device_is_what_the_node_says_of_it() -> None:
    device, wanted = values.mapped(ITEM)
    assert wanted == {"b": "20"}, "nobody writes what is read-only"
    assert device.config == {"host": "h"} and device.properties["b"].number("offset", 0, 9) == 7
    assert [(p.collect_cycle, p.report_cycle, p.writable) for p in device.properties.values()] == [
        (0.5, 0.0, False),
        (1.0, 2.0, True),
    ]
    with pytest.raises(Invalid, match="device default/hall: property b: offset must be an integer from 0 to 6"):
        device.properties["b"].number("offset", 0, 6)
    assert values.mapped(ITEM)[0] == device


def test_each_property_is_read_in_its_cycle_and_what_was_missed_is_not_made_up_for() -> None:
    one = cycle()
    one.connected()
    assert names(one.due(0.0)) == ["a", "b"]
    for name in ("a", "b"):
        one.read(name, 0.0)
    assert one.due(0.4) == [] and names(one.due(0.5)) == ["a"]
    one.read("a", 60.0)
    assert names(one.due(60.4)) == ["b"] and names(one.due(60.5)) == ["a", "b"]


def test_a_property_that_fails_is_tried_later_and_later_and_holds_no_other_up() -> None:
    one, now, waits = cycle(), 0.0, []
    one.connected()
    one.read("a", now)
    one.wrote("b", "20", now)
    for _ in range(8):
        one.not_read("b", "it is cold", now)
        one.read("a", now)
        waits.append(one._read_turn("b").at - now)
        now = one._read_turn("b").at
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60] and one.state == "unhealthy"
    assert one.why == "property b: it is cold"
    one.read("b", now)
    assert one.state == "online" and one.errors == {} and one.why == ""


def test_the_state_goes_out_with_what_is_wrong_and_again_when_something_else_is() -> None:
    one = cycle()
    one.connected()
    one.not_read("b", "device default/hall: property b: offset is missing", 0.0)
    first = one.take(0.0)
    assert first is not None and (first.state, first.why) == ("unhealthy", "property b: offset is missing")
    one.sent(first, 0.0)
    assert one.take(0.0) is None
    one.not_read("b", "it is " + "cold" * 999, 1.0)
    again = one.take(1.0)
    assert again is not None and again.state == "unhealthy" and len(again.why) == 500
    one.sent(again, 1.0)
    one.lost("no answer in time")
    lost = one.take(2.0)
    assert lost is not None and (lost.state, lost.why) == ("offline", "no answer in time"), (
        "the device before its properties"
    )


def test_a_value_is_written_until_the_device_has_it_and_again_after_a_reconnection() -> None:
    one = cycle()
    one.connected()
    ((prop, text),) = one.to_write(0.0)
    one.not_written("b", "busy", 0.0)
    assert one.to_write(0.9) == [] and one.to_write(1.0) == [(prop, text)]
    assert one.want({"b": "21", "a": "3", "unknown": "1"}) and not one.want({"b": "21"})
    assert one.to_write(0.0) == [(prop, "21")], "a new value does not wait for the old one's turn"
    one.wrote("b", "21", 0.0)
    assert one.to_write(9.0) == [] and names(one.due(0.0))[-1] == "b", "it is read back at once"
    batch = one.take(0.0)
    assert batch is not None and batch.applied == {"b": "21"}
    one.lost("no power")
    one.connected()
    assert one.to_write(9.0) == [(prop, "21")]
    assert not one.want({}, all_of_them=True) and one.to_write(9.0) == []


def test_the_newest_values_are_reported_and_nothing_twice() -> None:
    one = cycle()
    one.connected()
    one.report({"a": "1"}, 0.0, 100)
    one.report({"a": "2"}, 0.1, 200)
    batch = one.take(0.1)
    assert batch is not None and batch.values == {"a": ("2", 200)} and batch.state == "online"
    one.report({"a": "3"}, 0.2, 300)
    one.not_sent(batch)
    again = one.take(0.2)
    assert again is not None and again.values == {"a": ("3", 300)} and again.state == "online"
    one.sent(again, 0.2)
    one.report({"a": "3"}, 1.0, 1100)
    assert one.take(1.0) is None
    one.report({"a": "3"}, 0.2 + REFRESH, 11000)
    assert one.take(0.2 + REFRESH) is not None, "the device lives"


def test_a_report_cycle_bounds_the_messages_and_the_newest_value_comes() -> None:
    one = cycle()
    one.connected()
    one.report({"b": "1"}, 0.0, 0)
    first = one.take(0.0)
    assert first is not None and first.values
    one.sent(first, 0.0)
    for n in range(2, 9):
        one.report({"b": str(n)}, n / 10, n)
    assert one.take(1.9) is None and one.report_at() == 2.0
    second = one.take(2.0)
    assert second is not None and second.values == {"b": ("8", 8)}


def test_large_values_have_messages_of_their_own() -> None:
    one = cycle()
    one.report({"a": "1" * 60_000, "b": "2" * 60_000}, 0.0, 0)
    batches = [one.take(0.0), one.take(0.0), one.take(0.0)]
    assert [list(batch.values) if batch else None for batch in batches] == [["a"], ["b"], None]


def test_a_device_without_polling_has_nothing_due() -> None:
    one = cycle(is_polled=False)
    one.connected()
    one.wrote("b", "20", 0.0)
    assert one.due(99.0) == [] and one.next_at() == float("inf")


@pytest.mark.parametrize(
    ("type_", "value", "text"),
    [
        ("INT", 7, "7"),
        ("INT", 7.0, "7"),
        ("FLOAT", 21.5, "21.5"),
        ("DOUBLE", 1, "1"),
        ("FLOAT", float("nan"), "nan"),
        ("BOOLEAN", 1, "true"),
        ("BOOLEAN", False, "false"),
        ("STRING", "wärm", "wärm"),
        ("BYTES", b"\0\1", "AAE="),
    ],
)
def test_values_of_handlers_become_text(type_: str, value: Any, text: str) -> None:
    assert MappedProperty("default/hall", "x", type_).text(value) == text


@pytest.mark.parametrize(
    ("type_", "value"),
    [("INT", 1.5), ("INT", True), ("INT", float("inf")), ("FLOAT", "1"), ("BOOLEAN", 2), ("STRING", 1), ("STRING", "x" * 65537),
     ("STRING", "ä" * 40000), ("BYTES", "AAE="), ("INT", None)],
)  # fmt: skip
def test_values_of_another_type_are_refused_by_name(type_: str, value: Any) -> None:
    with pytest.raises(Invalid, match="^device default/hall: property x: "):
        MappedProperty("default/hall", "x", type_).text(value)


@given(st.sampled_from(["INT", "FLOAT", "DOUBLE", "BOOLEAN", "BYTES", "STRING"]), st.text(max_size=80))
def test_a_text_is_a_value_of_its_type_or_refused(type_: str, text: str) -> None:
    prop = MappedProperty("default/hall", "x", type_)
    try:
        value = prop.typed(text)
    except Invalid as exc:
        assert str(exc).startswith("device default/hall: property x: ")
        return
    assert prop.typed(prop.text(value)) == value


def test_a_report_is_what_the_node_reads() -> None:
    from kubeedge.devices import topics

    update = topics.update(values.update("e", {"a": ("1", 5)}, {"a": "2", "b": "3"}))
    assert (
        update.values == {"a": "1", "b": None} and update.observed == {"a": "2", "b": "3"} and update.times == {"a": 5}
    )
    assert json.loads(values.update("e", {}, {})) == {"event_id": "e", "twin": {}}


KEYS = {
    "id",
    "protocol",
    "properties",
    "configData",
    "type",
    "visitors",
    "collectCycle",
    "reportCycle",
    "desired",
    "accessMode",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(KEYS)), inner, max_size=5),
    max_leaves=12,
)


@given(JSON, JSON, JSON)
def test_whatever_answers_is_a_device_or_refused(item: Any, prop: Any, config: Any) -> None:
    described = {"id": "a/b", "protocol": {"configData": config}, "properties": {"x": prop}}
    for one in (item, described):
        try:
            device, wanted = values.mapped(one)
        except Invalid:
            continue
        assert wanted.keys() <= device.properties.keys()
        for found in device.properties.values():
            assert 0.01 <= found.collect_cycle <= 1e9 and 0 <= found.report_cycle <= 1e9


@pytest.mark.parametrize(
    "pages",
    [
        [{"devices": None}],
        [{"devices": [], "continue": 7}],
        [{"devices": [], "continue": "b"}, {"devices": [], "continue": "b"}],
        [{"reason": "no"}],
    ],
)
def test_pages_that_lead_nowhere_are_refused(pages: list[dict[str, Any]]) -> None:
    class Node:
        async def publish(self, topic: str, payload: bytes) -> None:
            listing.answered({"event_id": "another's", "reason": "no"})
            listing.answered({"event_id": json.loads(payload)["event_id"], **pages.pop(0)})

    listing = DeviceListing()
    with pytest.raises(PeerError):
        asyncio.run(listing.all(cast(MqttClient, Node())))
    assert not listing.is_under_way and not pages


@pytest.mark.parametrize(
    ("type_", "value", "why"),
    [
        ("INT", 10**400, "a very large integer (int) is no INT"),
        ("INT", float("inf"), "'inf' (float) is no INT"),
        ("FLOAT", 10**5000, "a very large integer (int) is no FLOAT"),
        ("STRING", "a\ud800", "is not Unicode"),
        ("BOOLEAN", 10**5000, "a very large integer"),
    ],
    ids=range(5),
)
def test_a_value_that_no_property_can_have_is_refused_by_name(type_: str, value: Any, why: str) -> None:
    """No other error: it would end the connection, or cost the other values of its message."""
    prop = MappedProperty("default/hall", "p", type_)
    with pytest.raises(Invalid, match="device default/hall: property p: ") as caught:
        prop.text(value)
    assert why in str(caught.value)
    with pytest.raises(Invalid):
        documents.Document(b'{"a":%s}' % (b"9" * 4000)).value(
            MappedProperty("d", "p", "INT", visitor={"pointer": "/a"})
        )
    assert MappedProperty("d", "p", "INT").text((1 << 64) - 1) == "18446744073709551615"
    assert MappedProperty("d", "p", "DOUBLE").text(float("nan")) == "nan"

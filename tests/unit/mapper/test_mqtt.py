"""Devices with topics of their own at Debian's mosquitto, their values and what is set, while the broker comes and goes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from kubeedge.errors import Invalid
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.mapper.mqtt import core
from kubeedge.mapper.mqtt.driver import mqtt_mapper
from kubeedge.mapper.values import MappedDevice, MappedProperty
from tests.unit.devices.test_external_broker import Mosquitto, program
from tests.unit.mapper import test_mapper
from tests.unit.mapper.test_mapper import HALL, Node, on_a_node, until

PROPERTIES: dict[str, Any] = {
    "temperature": {"type": "FLOAT", "visitors": {"configData": {"topic": "hall/state", "pointer": "/t"}}},
    "on": {"type": "BOOLEAN", "visitors": {"configData": {"topic": "hall/+", "pointer": "/on"}}},
    "text": {"type": "STRING", "visitors": {"configData": {"topic": "hall/text"}}},
    "target": {
        "type": "INT",
        "desired": "21",
        "visitors": {"configData": {"write": {"topic": "hall/set", "body": '{"target": {value}}', "retain": True}}},
    },
}


@pytest.mark.parametrize("secured", [False, True])
def test_a_device_with_topics_of_its_own(tmp_path: Path, secured: bool) -> None:
    (tmp_path / "broker").mkdir()
    mosquitto = Mosquitto(tmp_path / "broker", secured=secured)
    config: dict[str, Any] = {"url": mosquitto.url}
    more: dict[str, Any] = {}
    if secured:
        config |= {"userName": "edge1", "password": "secret", "caFile": str(mosquitto.ca)}
        more = {
            "username": "edge1",
            "password": "secret",
            "tls_params": aiomqtt.TLSParameters(ca_certs=str(mosquitto.ca)),
        }

    async def scenario(node: Node) -> None:
        await node.desire(HALL, PROPERTIES, "mqtt", **config)
        mapper = mqtt_mapper()
        task = asyncio.create_task(mapper.serve(f"{test_mapper.ADDRESS}:{node.port}"))
        try:
            await until(lambda: node.state() == "offline", node.state)  # there is no broker yet
            mosquitto.start()
            await until(lambda: node.state() == "online", lambda: mapper.health)
            async with program(mosquitto, **more) as device:
                await device.subscribe("hall/set", qos=1)
                assert json.loads((await anext(device.messages)).payload) == {"target": 21}  # it was retained
                await device.publish("hall/state", b'{"t": 21.5, "on": true}', qos=1)
                await device.publish("hall/text", "grün".encode(), qos=1)
                wanted = {"temperature": "21.5", "on": "true", "text": "grün", "target": "21"}
                await until(lambda: node.reported() == wanted, node.reported)
                await device.publish("hall/state", b'{"t": [], "on": false}', qos=1)
                await until(lambda: node.state() == "unhealthy" and node.reported()["on"] == "false", node.reported)
                await device.publish("hall/state", b'{"t": "22.5", "on": false}', qos=1)
                await until(lambda: node.state() == "online", lambda: mapper.health)
                await until(lambda: node.reported()["temperature"] == "22.5", node.reported)
            await asyncio.to_thread(mosquitto.stop)
            await until(lambda: node.state() == "offline", node.state)
            mosquitto.start()
            await until(lambda: node.state() == "online", lambda: mapper.health)
        finally:
            await cancel_and_wait(task)

    try:
        on_a_node(tmp_path, scenario)
    finally:
        mosquitto.stop()


def test_a_property_without_a_topic_concerns_itself_alone(tmp_path: Path) -> None:
    mosquitto = Mosquitto(tmp_path, secured=False)
    mosquitto.start()

    async def scenario(node: Node) -> None:
        await node.desire(HALL, {**PROPERTIES, "spare": {"type": "INT"}}, "mqtt", url=mosquitto.url)
        task = asyncio.create_task((mapper := mqtt_mapper()).serve(f"{test_mapper.ADDRESS}:{node.port}"))
        try:
            await until(lambda: node.state() == "unhealthy", lambda: mapper.health)
            async with program(mosquitto) as device:
                await device.publish("hall/text", b"a", qos=1)
                await until(lambda: node.reported().get("text") == "a", node.reported)
            assert list(mapper.health["devices"]["default/hall"]["errors"]) == ["spare"]
        finally:
            await cancel_and_wait(task)

    try:
        on_a_node(tmp_path, scenario)
    finally:
        mosquitto.stop()


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({}, "url is no MQTT broker"),
        ({"url": 7}, "url must be a text"),
        ({"url": "http://a"}, "url is no MQTT broker"),
        ({"url": "mqtt://a", "caFile": "x"}, "caFile must be an absolute path"),
        ({"url": "mqtt://a", "password": []}, "password must be a text"),
        ({"url": "mqtt://a", "userName": "a" * 2000}, "userName must be a text"),
    ],
)
def test_a_configuration_that_names_no_broker_is_refused_by_name(config: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=f"^device default/hall: {why}"):
        core.address_of(MappedDevice("default/hall", "mqtt", config, {}))


@pytest.mark.parametrize("topic", [None, 7, "", "a#", "#/a", "a/b+", "a\0", "a" * 1025, ["a"]])
def test_what_is_no_topic_is_refused_by_name(topic: Any) -> None:
    prop = MappedProperty("default/hall", "x", "INT", visitor={"topic": topic})
    with pytest.raises(Invalid, match="^device default/hall: property x: topic"):
        core.topic_of(prop)


@pytest.mark.parametrize(
    "write", [None, {}, 7, {"topic": "a/+"}, {"topic": "a", "body": 7}, {"topic": "a", "retain": "yes"}]
)
def test_a_property_that_does_not_say_how_it_is_set_is_refused_by_name(write: Any) -> None:
    prop = MappedProperty("default/hall", "x", "INT", visitor={"topic": "a", "write": write})
    with pytest.raises(Invalid, match="^device default/hall: property x: write"):
        core.writing(prop, 1)


def test_the_body_of_what_is_set() -> None:
    def payload(value: Any, **write: Any) -> bytes:
        return core.writing(
            MappedProperty("d/h", "x", "STRING", visitor={"write": {"topic": "a", **write}}), value
        ).payload

    assert payload("on") == b"on" and payload('a"b', body='{"x": {value}}') == rb'{"x": "a\"b"}'
    assert (
        core.writing(MappedProperty("d/h", "x", "BOOLEAN", visitor={"write": {"topic": "a"}}), True).payload == b"true"
    )

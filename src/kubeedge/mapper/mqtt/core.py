"""Where the values of an MQTT device are, and how they are set. Pure.

The protocol's configData:

    url                      mqtt://HOST[:PORT] or mqtts://HOST[:PORT] of the broker that the device uses
    userName, password
    caFile                   a file of the node with the authorities of the broker's certificate; the system's without it

The visitor's configData:

    topic                    that the device publishes to; it may be a filter, as tele/+/state
    pointer                  where the value is in a JSON message (RFC 6901); without it the whole text is the value
    write                    topic, body ("{value}", which stands for the value as JSON), retain (false) of the message that sets it
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeGuard

from kubeedge.config import forms
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass
from kubeedge.mapper.documents import Document, NoSuchValue
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

_MAX_TOPIC = 1024  # bytes
_MAX_BODY = 4096  # characters of a body without its value


@dataclass(frozen=True, slots=True)
class MqttAddress:
    """The broker of a device."""

    host: str
    port: int
    is_tls: bool
    user: str
    password: str
    ca_file: str


@dataclass(frozen=True, slots=True)
class MqttWrite:
    """The message that sets one value."""

    topic: str
    payload: bytes
    retain: bool


def address_of(device: MappedDevice) -> MqttAddress:
    """Raises Invalid, with the device's name, for a configuration that names no broker."""
    texts = {key: device.config.get(key, "") for key in ("url", "userName", "password", "caFile")}
    for key, value in texts.items():
        if not isinstance(value, str) or len(value) > _MAX_TOPIC or "\0" in value:
            raise device.invalid(f"{key} must be a text")
    try:
        host, port, is_tls = forms.broker(texts["url"])
    except ValueError as exc:
        raise device.invalid(f"url {exc}") from exc
    if texts["caFile"] and not texts["caFile"].startswith("/"):
        raise device.invalid("caFile must be an absolute path")
    return MqttAddress(host, port, is_tls, texts["userName"], texts["password"], texts["caFile"])


def topic_of(prop: MappedProperty) -> str:
    """The filter of what has the property's value; "": nothing has it, it can be set alone. Raises Invalid."""
    found = prop.visitor.get("topic", "")
    if found == "" and "write" in prop.visitor:
        return ""
    levels = found.split("/") if isinstance(found, str) else []
    wrong = any("#" in level and level != "#" or "+" in level and level != "+" for level in levels)
    if not _is_topic(found) or wrong or "#" in levels[:-1]:
        raise prop.invalid("topic must be a topic, or a filter of topics")
    return str(found)


def _is_topic(text: Any) -> TypeGuard[str]:
    return isinstance(text, str) and 0 < len(text.encode("utf-8", "replace")) <= _MAX_TOPIC and "\0" not in text


def writing(prop: MappedProperty, value: TypedValue) -> MqttWrite:
    """The message that sets a property to this value. Raises Invalid for a visitor that cannot say it."""
    given = prop.visitor.get("write")
    if not isinstance(given, Mapping):
        raise prop.invalid("write must say with which topic it is set")
    topic, body, retain = given.get("topic"), given.get("body", "{value}"), given.get("retain", False)
    if not _is_topic(topic) or "+" in topic or "#" in topic:
        raise prop.invalid("write.topic must be a topic")
    if not isinstance(body, str) or len(body) > _MAX_BODY or not isinstance(retain, bool):
        raise prop.invalid("write.body must be a text, and write.retain true or false")
    if body == "{value}" and isinstance(value, str):
        return MqttWrite(topic, value.encode(), retain)  # a text by itself needs no quotes
    as_json = json.dumps(prop.text(value) if isinstance(value, bytes) else value)
    return MqttWrite(topic, body.replace("{value}", as_json).encode(), retain)


def values_of(payload: bytes, props: list[MappedProperty]) -> dict[str, Any]:
    """Property -> value, or the exception that came instead; devices send what has changed alone, so that others may not be in a message."""
    document, found = Document(payload), dict[str, Any]()
    for prop in props:
        try:
            found[prop.name] = document.value(prop)
        except NoSuchValue:
            pass
        except Invalid as exc:
            found[prop.name] = exc
    return found

"""Events of a camera: what is asked of its pull point, what it says, and what that means for properties. Pure.

"Event Service" of ONVIF's Core Specification, WS-BaseNotification 1.3 and WS-Addressing 1.0 (OASIS, W3C).
"""

from __future__ import annotations

import datetime
import json
from typing import Any
from xml.parsers import expat

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.mapper.markup import escape
from kubeedge.mapper.onvif.elements import XmlElement
from kubeedge.mapper.onvif.messages import OnvifRequest, path_of
from kubeedge.mapper.values import MappedProperty, TypedValue

PULL = 10.0  # seconds that a camera may wait for events before it answers
_LIFETIME = 60.0  # seconds of a subscription that is not renewed
_LIFETIMES = (10.0, 3600.0)
_MAX_EVENTS = 256  # of one answer
_MAX_ITEMS = 16
_MAX_TEXT = 256
_MAX_PARAMETERS = 1024  # characters of what a reference asks to be sent along

_TRUE, _FALSE = ("true", "1", "on", "active"), ("false", "0", "off", "inactive")
ANY = "any"
#: topics of what cameras of different makers call differently
NAMED: dict[str, tuple[str, ...]] = {
    "motion": (
        "RuleEngine/CellMotionDetector/Motion",
        "RuleEngine/MotionRegionDetector/Motion",
        "VideoSource/MotionAlarm",
    ),
    "tamper": (
        "RuleEngine/TamperDetector/Tamper",
        "VideoSource/GlobalSceneChange/ImagingService",
        "VideoSource/GlobalSceneChange/AnalyticsService",
    ),
    "input": ("Device/Trigger/DigitalInput",),
    "relay": ("Device/Trigger/Relay",),
}

CREATE = OnvifRequest(
    "tev",
    "CreatePullPointSubscription",
    f"<tev:InitialTerminationTime>PT{_LIFETIME:g}S</tev:InitialTerminationTime>",
    "EventPortType",
)
PULL_MESSAGES = OnvifRequest(
    "tev",
    "PullMessages",
    f"<tev:Timeout>PT{PULL:g}S</tev:Timeout><tev:MessageLimit>64</tev:MessageLimit>",
    "PullPointSubscription",
)
RENEW = OnvifRequest(
    "wsnt", "Renew", f"<wsnt:TerminationTime>PT{_LIFETIME:g}S</wsnt:TerminationTime>", "SubscriptionManager"
)
UNSUBSCRIBE = OnvifRequest("wsnt", "Unsubscribe", "", "SubscriptionManager")


@dataclass(frozen=True, slots=True)
class PullPoint:
    """A subscription at a camera. `path`: where it is asked; `address` and `parameters` (XML): what its headers say; `lifetime` in seconds."""

    path: str
    address: str
    parameters: str
    lifetime: float


@dataclass(frozen=True, slots=True)
class CameraEvent:
    """`topic` without prefixes; `operation`: Initialized, Changed, Deleted, or "" of what has no state."""

    topic: str
    source: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    operation: str = ""
    time: str = ""

    @property
    def text(self) -> str:
        """All of it, as JSON."""
        said: dict[str, Any] = {"topic": self.topic, "source": self.source, "data": self.data}
        said |= {name: value for name, value in (("operation", self.operation), ("time", self.time)) if value}
        return json.dumps(said, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The events that are values of a property. No `topics`: all of them."""

    topics: tuple[str, ...]
    data: str
    source: str


def pull_point_of(answer: XmlElement, whole: bytes) -> PullPoint:
    """`whole`: the document that `answer` is in. Raises Invalid for an answer that names no address."""
    address = answer.value("SubscriptionReference", "Address")
    if not address or len(address) > 1024:
        raise Invalid("the device says no address of its events")
    return PullPoint(path_of(address), address, _parameters(whole), lifetime_of(answer))


def lifetime_of(answer: XmlElement) -> float:
    """Seconds until a subscription ends, by the device's own clock."""
    try:
        now, end = (datetime.datetime.fromisoformat(answer.value(name)) for name in ("CurrentTime", "TerminationTime"))
        found = (end - now).total_seconds()
    except (ValueError, TypeError):  # TypeError: one of them has no zone
        found = _LIFETIME
    return min(max(found, _LIFETIMES[0]), _LIFETIMES[1])


def events_of(answer: XmlElement) -> list[CameraEvent]:
    """In the device's order; the first ones, when there are too many."""
    found: list[CameraEvent] = []
    for one in answer.all("NotificationMessage"):
        if len(found) >= _MAX_EVENTS:
            break
        topic = "/".join(level.rpartition(":")[2] for level in one.value("Topic").split("/"))
        outer = one.first("Message") or XmlElement("")
        message = outer.first("Message") or outer
        if not topic or len(topic) > _MAX_TEXT:
            continue
        source, data = (_items(message.first(name)) for name in ("Source", "Data"))
        operation, time = (message.attributes.get(name, "")[:64] for name in ("PropertyOperation", "UtcTime"))
        found.append(CameraEvent(topic, source, data, operation, time))
    return found


def _items(element: XmlElement | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in element.all("SimpleItem") if element is not None else ():
        if len(found) < _MAX_ITEMS and (name := one.attributes.get("Name", "")[:_MAX_TEXT]):
            found[name] = one.attributes.get("Value", "")[:_MAX_TEXT]
    return found


def filter_of(prop: MappedProperty) -> EventFilter:
    """Raises Invalid for a visitor that names no event."""
    texts = {name: prop.visitor.get(name, "") for name in ("event", "data", "source")}
    for name, value in texts.items():
        if not isinstance(value, str) or len(value) > _MAX_TEXT:
            raise prop.invalid(f"{name} must be a text of at most {_MAX_TEXT} characters")
    event = texts["event"]
    if not event or (event not in NAMED and event != ANY and "/" not in event):
        raise prop.invalid(f"event must be a topic, or one of {', '.join((*NAMED, ANY))}")
    topics = () if event == ANY else NAMED.get(event) or ("/".join(one.rpartition(":")[2] for one in event.split("/")),)
    return EventFilter(topics, texts["data"], texts["source"])


def value_of(prop: MappedProperty, wanted: EventFilter, event: CameraEvent) -> TypedValue | None:
    """What an event makes of a property; None: nothing. Raises Invalid for a value of another type."""
    if not wanted.topics:
        return event.text
    if event.topic not in wanted.topics or event.operation == "Deleted":
        return None
    if wanted.source and wanted.source not in event.source.values():
        return None
    text = event.data.get(wanted.data) if wanted.data else next(iter(event.data.values()), None)
    if text is None:
        return None
    if prop.type == "BOOLEAN" and text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    return prop.typed(text)


def _parameters(data: bytes) -> str:
    """What is in ReferenceParameters, written anew with its namespaces; "" without it. The document was read before, within bounds (elements.py), but
    there the prefixes were left out, which matter here."""
    parser = expat.ParserCreate(namespace_separator=" ")
    pieces: list[str] = []
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        if depth:
            space, _, local = name.rpartition(" ")
            mark = ' wsa:IsReferenceParameter="true"' if depth == 1 else ""
            pieces.append(f'<{local} xmlns="{escape(space)}"{mark}>')
        if depth or name.rpartition(" ")[2] == "ReferenceParameters":
            depth += 1

    def end(name: str) -> None:
        nonlocal depth
        if depth:
            depth -= 1
        if depth:
            pieces.append(f"</{name.rpartition(' ')[2]}>")

    def text(said: str) -> None:
        if depth > 1:
            pieces.append(escape(said))

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError):
        return ""  # prefixes that are never declared
    found = "".join(pieces)
    return found if len(found) <= _MAX_PARAMETERS else ""

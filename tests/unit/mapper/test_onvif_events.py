"""Events of ONVIF cameras. The camera of these tests is ours: IPyCam has no events, and no other program with a pull point can be installed here.
So a client of others (onveef) judges it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kubeedge.errors import Invalid, PeerError
from kubeedge.kit.http1 import Response
from kubeedge.mapper.onvif import events, pull_point, soap
from kubeedge.mapper.onvif.driver import onvif_mapper
from kubeedge.mapper.onvif.elements import parse
from kubeedge.mapper.simulated import SimulatedDevice
from kubeedge.mapper.values import MappedProperty
from tests.fuzz.decoders import mutations
from tests.kit.foreign import environment
from tests.unit.mapper.test_onvif import ANSWERS, FAULT, camera, envelope_of

TIMES = "<tev:CurrentTime>2026-11-29T10:00:00Z</tev:CurrentTime><tev:TerminationTime>2026-11-29T10:01:00Z</tev:TerminationTime>"
NOTIFICATION = (
    '<wsnt:NotificationMessage><wsnt:Topic Dialect="http://www.onvif.org/ver10/tev/topicExpression/ConcreteSet">{topic}</wsnt:Topic>'
    '<wsnt:Message><tt:Message UtcTime="2026-11-29T10:00:00Z" PropertyOperation="{operation}"><tt:Source>'
    '<tt:SimpleItem Name="VideoSourceConfigurationToken" Value="{source}"/></tt:Source><tt:Data>'
    '<tt:SimpleItem Name="{name}" Value="{value}"/></tt:Data></tt:Message></wsnt:Message></wsnt:NotificationMessage>'
)
SPACES = (
    'xmlns:tds="http://www.onvif.org/ver10/device/wsdl" '
    'xmlns:tev="http://www.onvif.org/ver10/events/wsdl" xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2" '
    'xmlns:tt="http://www.onvif.org/ver10/schema" xmlns:wsa5="http://www.w3.org/2005/08/addressing" '
    'xmlns:tns1="http://www.onvif.org/ver10/topics"'
)


def said(body: str) -> bytes:
    return f'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" {SPACES}><s:Body>{body}</s:Body></s:Envelope>'.encode()


def event(value: str, topic: str = "tns1:RuleEngine/CellMotionDetector/Motion", **more: str) -> str:
    return NOTIFICATION.format(
        **{"topic": topic, "value": value, "operation": "Changed", "source": "v1", "name": "IsMotion"} | more
    )


class EventCamera:
    """Waits for events as cameras do. `refuses`: operations that are answered by a fault."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[str] = asyncio.Queue()
        self.headers: list[str] = []
        self.live: set[str] = set()
        self.made = 0
        self.operations: list[str] = []
        self.refuses: set[str] = set()
        self.port = 0
        self.by_address = False  # subscriptions are told apart by their addresses alone

    async def answer(self, name: str, body: str) -> bytes | Response:
        whole = parse(body.encode()).first("Body")
        assert whole is not None
        name = whole.children[0].name
        self.operations.append(name)
        if name in self.refuses:
            return Response(500, [], FAULT.replace(b"ter:NotAuthorized", b"ter:ActionNotSupported"))
        match name:
            case "GetCapabilities":
                at = f"http://127.0.0.1:{self.port}"
                services = "".join(
                    f"<tt:{one}><tt:XAddr>{at}/{one}</tt:XAddr></tt:{one}>" for one in ("Media", "Events")
                )
                return said(f"<tds:{name}Response><tds:Capabilities>{services}</tds:Capabilities></tds:{name}Response>")
            case "GetServices":
                space = "<tds:Namespace>http://www.onvif.org/ver10/events/wsdl</tds:Namespace>"
                at = f"<tds:XAddr>http://127.0.0.1:{self.port}/Events</tds:XAddr>"
                version = "<tds:Version><tt:Major>2</tt:Major><tt:Minor>6</tt:Minor></tds:Version>"
                return said(f"<tds:{name}Response><tds:Service>{space}{at}{version}</tds:Service></tds:{name}Response>")
            case "CreatePullPointSubscription":
                self.made += 1
                self.live.add(f"n{self.made}")
                if self.by_address:
                    address = f"<wsa5:Address>http://127.0.0.1:{self.port}/n{self.made}</wsa5:Address>"
                    return said(
                        f"<tev:{name}Response><tev:SubscriptionReference>{address}</tev:SubscriptionReference>{TIMES}</tev:{name}Response>"
                    )
                parameters = f'<a:Id xmlns:a="http://vendor.example/events">n{self.made}</a:Id>'
                reference = f"<wsa5:Address>http://203.0.113.9/pull?x=1</wsa5:Address><wsa5:ReferenceParameters>{parameters}</wsa5:ReferenceParameters>"
                return said(
                    f"<tev:{name}Response><tev:SubscriptionReference>{reference}</tev:SubscriptionReference>{TIMES}</tev:{name}Response>"
                )
            case "PullMessages" | "Renew" | "Unsubscribe":
                header = parse(body.encode()).first("Header")
                assert header is not None and header.value("Action").endswith(f"/{name}Request")
                if not self.by_address:
                    assert header.value("To") == "http://203.0.113.9/pull?x=1"
                point = f"n{self.made}" if self.by_address else header.value("Id")
                if point not in self.live:
                    return Response(400, [], FAULT.replace(b"ter:NotAuthorized", b"ter:InvalidArgVal"))
                if name == "PullMessages":
                    messages = await self.waiting.get()
                    return said(f"<tev:PullMessagesResponse>{TIMES}{messages}</tev:PullMessagesResponse>")
                if name == "Unsubscribe":
                    self.live.discard(point)
                return said(f"<wsnt:{name}Response>{TIMES.replace('tev:', 'wsnt:')}</wsnt:{name}Response>")
        if name not in ANSWERS:
            return Response(500, [], FAULT.replace(b"ter:NotAuthorized", b"ter:ActionNotSupported"))
        return envelope_of(ANSWERS[name])

    @asynccontextmanager
    async def device(self, properties: dict[str, Any]) -> AsyncIterator[SimulatedDevice]:
        async with asyncio.timeout(60), camera(self.answer) as (port, _):
            self.port = port
            mapper = onvif_mapper()
            mapper.device = lambda id: None  # type: ignore[method-assign]
            async with SimulatedDevice(mapper, properties, config={"url": f"127.0.0.1:{port}"}) as device:
                yield device


def pushed(type: str = "BOOLEAN", **visitor: str) -> dict[str, Any]:
    return {"type": type, "visitors": {"configData": {"push": True, **visitor}}}


PROPERTIES = {
    "motion": pushed(event="motion"),
    "line": pushed("INT", event="tns1:RuleEngine/LineDetector/Crossed", data="ObjectId"),
    "second": pushed(event="motion", source="v2"),
    "last": pushed("STRING", event="any"),
}


def test_events_are_values_of_properties() -> None:
    async def run() -> None:
        found = EventCamera()
        async with found.device(PROPERTIES) as device:
            found.waiting.put_nowait(event("false", operation="Initialized") + event("true"))
            await device.sends("motion", "true")
            assert '"topic": "RuleEngine/CellMotionDetector/Motion"' in device.reported["last"]
            assert "second" not in device.reported and "line" not in device.reported
            found.waiting.put_nowait(event("17", "tns1:RuleEngine/LineDetector/tnsx:Crossed", name="ObjectId"))
            await device.sends("line", "17")
            found.waiting.put_nowait(event("1", "tns1:VideoSource/MotionAlarm", source="v2", name="State"))
            await device.sends("second", "true")
            found.waiting.put_nowait(event("perhaps"))
            found.waiting.put_nowait(event("false"))
            await device.sends("motion", "false")
            assert found.made == 1
        assert found.live == set() and found.operations[-1] == "Unsubscribe", "a camera has few to give"

    asyncio.run(run())


FOREIGN = """
import json, sys
from onveef import OnvifClient
with OnvifClient("127.0.0.1", int(sys.argv[1])) as client, client.pull_point() as point:
    print(json.dumps(point.pull()))
    point.renew()
"""


def test_a_client_of_others_understands_the_camera_of_these_tests() -> None:
    def ask(port: int) -> str:
        command = [
            sys.executable,
            "-O",
            "-c",
            FOREIGN,
            str(port),
        ]  # -O: it gives httpx a timeout in a way that httpx asserts against
        done = subprocess.run(command, env=environment("onvif"), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def run() -> None:
        found = EventCamera()
        found.by_address = True
        found.waiting.put_nowait(event("true"))
        async with asyncio.timeout(90), camera(found.answer) as (found.port, _):
            (seen,) = json.loads(await asyncio.to_thread(ask, found.port))
        assert "CellMotionDetector/Motion" in json.dumps(seen) and '"IsMotion"' in json.dumps(seen), seen
        assert "Renew" in found.operations and found.live == set()

    asyncio.run(run())


def test_a_subscription_that_has_ended_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_point, "_AGAIN", pull_point.Backoff(0.01, 0.01))

    async def run() -> None:
        found = EventCamera()
        async with found.device(PROPERTIES) as device:
            found.waiting.put_nowait(event("true"))
            await device.sends("motion", "true")
            found.live.clear()
            found.waiting.put_nowait(event("true"))
            found.waiting.put_nowait(event("false"))
            await device.sends("motion", "false")
            assert found.made == 2 and not device.errors

    asyncio.run(run())


def test_a_subscription_is_renewed_where_the_camera_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_point.CameraEvents, "_renew_in", lambda self, lifetime: setattr(self, "_renew_at", 0.0))

    async def run() -> None:
        for refuses in (set[str](), {"Renew"}):
            found = EventCamera()
            found.refuses = refuses
            async with found.device(PROPERTIES) as device:
                for value in ("true", "false", "true"):
                    found.waiting.put_nowait(event(value))
                    await device.sends("motion", value)
                count = found.operations.count("Renew")
                assert count == 1 if refuses else count > 1

    asyncio.run(run())


def test_a_camera_without_events_says_so_at_the_properties_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_point, "_AGAIN", pull_point.Backoff(0.01, 0.01))

    async def run() -> None:
        found = EventCamera()
        found.refuses = {"CreatePullPointSubscription"}
        properties = {"motion": pushed(event="motion"), "odd": pushed(event="nothing"), "model": {"type": "STRING"}}
        async with found.device(properties) as device:
            while set(device.errors) != {"motion", "odd"}:
                await asyncio.sleep(0.01)
            assert "property motion: the device answers: Sender not Authorized" in device.errors["motion"]
            assert "property odd: event must be a topic, or one of motion" in device.errors["odd"]
            assert await device.read("model") == "M", "the rest of the camera is as before"
            found.refuses.clear()
            found.waiting.put_nowait(event("true"))
            with pytest.raises(ConnectionResetError, match="events again"):
                await device.sends("motion", "never")  # the mapper connects anew, and nothing is wrong then

    asyncio.run(run())


def test_a_camera_that_does_not_wait_is_not_asked_without_end() -> None:
    async def run() -> None:
        found = EventCamera()
        for _ in range(1000):
            found.waiting.put_nowait("")
        async with found.device(PROPERTIES):
            await asyncio.sleep(0.5)
            assert found.operations.count("PullMessages") <= 2

    asyncio.run(run())


def test_what_a_pull_point_says() -> None:
    whole = said(
        "<R><tev:SubscriptionReference><wsa5:Address>http://10.0.0.1:99/p</wsa5:Address></tev:SubscriptionReference></R>"
    )
    point = events.pull_point_of(soap.answer(whole, "R"), whole)
    assert (point.path, point.address, point.parameters, point.lifetime) == ("/p", "http://10.0.0.1:99/p", "", 60.0)
    for body in ("<R/>", f"<R><Address>http://{'x' * 1100}</Address></R>"):
        with pytest.raises(Invalid):
            events.pull_point_of(parse(body.encode()), body.encode())
    many = parse(f"<R>{event('1') * 300}</R>".encode())
    assert len(events.events_of(many)) == 256
    large = event("x" * 1000, topic="a/" * 200)
    assert events.events_of(parse(f"<R>{large}</R>".encode())) == []
    (short,) = events.events_of(parse(f"<R>{event('x' * 1000)}</R>".encode()))
    assert len(short.data["IsMotion"]) == 256
    long = soap.answer(
        said(
            "<R><CurrentTime>2026-01-01T00:00:00Z</CurrentTime><TerminationTime>2036-01-01T00:00:00Z</TerminationTime></R>"
        ),
        "R",
    )
    assert events.lifetime_of(long) == 3600.0


def test_what_a_reference_asks_for_is_sent_along_as_it_is_and_no_more() -> None:
    inner = '<a:Id xmlns:a="urn:a&amp;b">7<a:More>&lt;</a:More></a:Id>'
    found = events._parameters(said(f"<R><wsa5:ReferenceParameters>{inner}</wsa5:ReferenceParameters></R>"))
    assert parse(f"<x>{found}</x>".encode()).value("Id", "More") == "<" and 'xmlns="urn:a&amp;b"' in found
    for wrong in (
        said(f"<R><wsa5:ReferenceParameters>{'<b/>' * 400}</wsa5:ReferenceParameters></R>"),
        b"<R><p:x/></R>",
    ):
        assert events._parameters(wrong) == ""


@pytest.mark.parametrize("seed", range(4))
def test_damaged_events_are_refused_or_understood(seed: int) -> None:
    prop = MappedProperty("default/gate", "x", type="INT")
    wanted = events.EventFilter(("RuleEngine/CellMotionDetector/Motion",), "", "")
    for damaged in mutations(said(f"<R>{event('7')}</R>"), 300, seed):
        try:
            answer = soap.answer(damaged, "R")
            events.lifetime_of(answer)
            for one in events.events_of(answer):
                events.value_of(prop, wanted, one)
        except (PeerError, Invalid):
            pass
        events._parameters(damaged)


def test_a_deleted_state_is_no_value() -> None:
    prop = MappedProperty("default/gate", "x", type="BOOLEAN")
    wanted = events.filter_of(MappedProperty("default/gate", "x", visitor={"event": "motion"}))
    topic = "VideoSource/MotionAlarm"
    assert events.value_of(prop, wanted, events.CameraEvent(topic, {}, {"State": "true"})) is True
    assert events.value_of(prop, wanted, events.CameraEvent(topic, {}, {"State": "true"}, "Deleted")) is None
    assert events.value_of(prop, wanted, events.CameraEvent(topic)) is None

"""ONVIF: what is said and what answers mean; XML that wants to be large, cameras that lead elsewhere. Against a camera: tests/netns/test_cameras.py."""

from __future__ import annotations

import asyncio
import base64
import datetime
import inspect
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kubeedge.errors import Invalid, PeerError, Refused
from kubeedge.kit.http1 import Request, Response, serve_connection
from kubeedge.mapper.onvif import core, discovery, messages, soap
from kubeedge.mapper.onvif.driver import onvif_mapper
from kubeedge.mapper.onvif.elements import MAX_BYTES, parse
from kubeedge.mapper.onvif.messages import PtzVector
from kubeedge.mapper.simulated import SimulatedDevice
from kubeedge.mapper.values import MappedDevice, MappedProperty
from tests.fuzz.decoders import mutations


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE a [<!ENTITY x "xxxx">]><a>&x;</a>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b"<a>&unknown;</a>",
        b"<a>" * 65,
        b"<a>" + b"<b/>" * 8193 + b"</a>",
        b"<a " + b" ".join(b'x%d="1"' % n for n in range(40)) + b"/>",
        b"<a>" + b"x" * MAX_BYTES + b"</a>",
        b"<a></b>",
        b"",
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        b"<a/><b/>",
    ],
)
def test_xml_that_is_none_or_too_much_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError):
        parse(data)


def test_xml_in_bounds_is_read_in_little_time() -> None:
    text = b"<a>" + b"&lt;" * (MAX_BYTES // 4 - 8) + b"</a>"
    began = time.process_time()
    assert len(parse(text).text) == MAX_BYTES // 4 - 8
    assert time.process_time() - began < 5, "as many pieces as that are not joined one by one"


def test_names_are_local_and_prefixes_need_no_declaration() -> None:
    root = parse(b'<s:E xmlns:s="x"><q:A tt:token="1">t<B/>u</q:A><A>second</A></s:E>')
    assert root.name == "E" and root.value("A") == "tu"
    assert [one.attributes for one in root.all("A")] == [{"token": "1"}, {}]
    assert root.first("A", "B") is not None and root.first("B", "A") is None and root.value("C") == ""


def test_a_user_is_proved_by_a_digest_and_not_by_the_password() -> None:
    """The worked example of ONVIF's Application Programmer's Guide (WS-UsernameToken)."""
    nonce = base64.b64decode("LKqI6G/AikKCQrN0zqZFlg==")
    token = soap.username_token("us<er", "userpassword", nonce, "2010-09-16T07:50:45Z")
    assert ">tuOSpGlFlIXsozq4HFNeeGeFLEI=<" in token and "userpassword" not in token
    assert "us&lt;er" in token and "#PasswordDigest" in token
    text = soap.envelope(messages.PROFILES.xml, token)
    assert parse(text).value("Header", "UsernameToken", "Created") == "2010-09-16T07:50:45Z"


FAULT = (
    b'<s:Envelope xmlns:s="x"><s:Body><s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>ter:NotAuthorized'
    b"</s:Value></s:Subcode></s:Code><s:Reason><s:Text>Sender not Authorized</s:Text></s:Reason></s:Fault></s:Body></s:Envelope>"
)


def envelope_of(body: str) -> bytes:
    return f'<s:Envelope xmlns:s="x"><s:Body>{body}</s:Body></s:Envelope>'.encode()


def test_faults_are_told_and_other_answers_are_none() -> None:
    with pytest.raises(soap.OnvifFault, match="the device answers: Sender not Authorized") as found:
        soap.answer(FAULT, "X")
    assert found.value.is_of_sender
    for data in (envelope_of("<Y/>"), b"<html/>", b"<Envelope/>"):
        with pytest.raises(Invalid):
            soap.answer(data, "X")


def test_answers_are_read_as_far_as_they_go() -> None:
    when = parse(
        b"<a><UTCDateTime><Time><Hour>7</Hour><Minute>50</Minute><Second>60</Second></Time><Date><Year>2026</Year><Month>9</Month><Day>16</Day></Date></UTCDateTime></a>"
    )
    assert messages.clock_of(when) == datetime.datetime(2026, 9, 16, 7, 50, 59, tzinfo=datetime.UTC)
    far = b"<a><UTCDateTime><Time><Hour>7</Hour><Minute>5</Minute><Second>6</Second></Time><Date><Year>99999999999999999999</Year><Month>9</Month><Day>1</Day></Date></UTCDateTime></a>"
    for text in (b"<a/>", b"<a><UTCDateTime/></a>", far):
        with pytest.raises(Invalid):
            messages.clock_of(parse(text))
    profiles = messages.profiles_of(
        parse(
            b'<a><Profiles token="a"><Name>x</Name></Profiles><Profiles/><Profiles token="b"><VideoEncoderConfiguration><Encoding>H264</Encoding><Resolution><Width>-1</Width></Resolution></VideoEncoderConfiguration></Profiles></a>'
        )
    )
    assert [(one.token, one.encoding, one.width) for one in profiles] == [("a", "", 0), ("b", "H264", 0)]
    assert messages.profile_of(profiles, "").token == "b" and messages.profile_of(profiles, "x").token == "a"
    played = messages.OnvifProfile("c", "", "JPEG")
    hevc = messages.OnvifProfile("h", "", "H265")
    assert messages.profile_of([hevc, played], "") == played, "what can be shown comes first"
    assert messages.profile_of([hevc, played], "h") == hevc == messages.profile_of([hevc], "")
    with pytest.raises(Invalid, match="'y' is none of the device's: x, b"):
        messages.profile_of(profiles, "y")
    status = messages.status_of(parse(b'<a><Position><PanTilt x="nan" y="0.5"/></Position></a>'))
    assert (
        status.position == PtzVector(None, 0.5, None) and status.moving == "UNKNOWN" and status.position.text == ",0.5,"
    )
    services = messages.services_of(
        parse(b"<a><Capabilities><Media><XAddr>http://10.0.0.1:99/m?x=1</XAddr></Media></Capabilities></a>")
    )
    assert services == {"trt": "/m?x=1"}, "of another host's address only the path counts"
    with pytest.raises(Invalid):
        messages.path_of("http://x/a\r\nX: y")


PROFILE = b'<s:Envelope xmlns:s="x"><s:Body><GetProfilesResponse><Profiles token="a"><Name>n</Name></Profiles></GetProfilesResponse></s:Body></s:Envelope>'


@pytest.mark.parametrize("seed", range(4))
def test_damaged_answers_are_refused_or_understood(seed: int) -> None:
    for damaged in mutations(PROFILE, 300, seed):
        try:
            messages.profiles_of(soap.answer(damaged, "GetProfilesResponse"))
        except (PeerError, Invalid):
            pass


def test_who_sets_one_of_pan_and_tilt_leaves_the_other_one() -> None:
    now = PtzVector(0.1, 0.2, 0.3)
    assert '<tt:PanTilt x="0.5" y="0.2"/>' in core.move_of(prop("pan"), 0.5, "p", now).xml
    assert '<tt:PanTilt x="0.1" y="0.5"/>' in core.move_of(prop("tilt"), 0.5, "p", now).xml


def prop(item: str) -> MappedProperty:
    return MappedProperty("default/gate", "x", visitor={"item": item})


@pytest.mark.parametrize(
    ("item", "value", "name", "has"),
    [
        ("position", "0.5,-0.25,0.3", "AbsoluteMove", '<tt:PanTilt x="0.5" y="-0.25"/><tt:Zoom x="0.3"/>'),
        ("position", ",,0.3", "AbsoluteMove", '<tptz:Position><tt:Zoom x="0.3"/></tptz:Position>'),
        ("pan", 0.5, "AbsoluteMove", '<tt:PanTilt x="0.5" y="0"/>'),
        ("step", "0.1,0,-0.5", "RelativeMove", "<tptz:Translation>"),
        ("move", "-1,0,0", "ContinuousMove", "<tptz:Timeout>PT1S</tptz:Timeout>"),
        ("move", "-1,0,0,2.5", "ContinuousMove", "<tptz:Timeout>PT2.5S</tptz:Timeout>"),
        ("move", "stop", "Stop", "<tptz:Zoom>true</tptz:Zoom>"),
    ],
)
def test_moves(item: str, value: Any, name: str, has: str) -> None:
    request = core.move_of(prop(item), value, "profile<1>")
    assert request.name == name and has in request.xml
    assert parse(soap.envelope(request.xml)).value("ProfileToken") == "profile<1>"


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("position", "2,0,0"),
        ("position", "0,0,-1"),
        ("position", "0,0"),
        ("move", "0,0,0,9999"),
        ("move", "nan,0,0"),
        ("step", "x,0,0"),
        ("zoom", 1.5),
    ],
)
def test_what_is_no_move(item: str, value: Any) -> None:
    with pytest.raises(Invalid, match="^device default/gate: property x: "):
        core.move_of(prop(item), value, "p")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({}, "url"),
        ({"url": "ftp://x"}, "url"),
        ({"url": "http://user:pw@x"}, "url"),
        ({"url": "http://x:99999"}, "url"),
        ({"url": "http://x/a b"}, "url"),
        ({"url": "x", "caFile": "../x"}, "caFile"),
        ({"url": "x", "video": "yes"}, "video"),
        ({"url": "x", "userName": 5}, "userName"),
        ({"url": "x", "password": "a\nb"}, "password"),
    ],
)
def test_a_configuration_that_names_no_camera_is_refused(config: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=f"^device default/gate: {why}") as found:
        core.address_of(MappedDevice("default/gate", "onvif", config, {}))
    assert "pw" not in str(found.value)


def test_a_host_alone_is_a_configuration() -> None:
    found = core.address_of(MappedDevice("default/gate", "onvif", {"url": "192.168.1.9:80", "password": "secret"}, {}))
    assert (found.host, found.port, found.path, found.user) == ("192.168.1.9", 80, "/onvif/device_service", None)
    found = core.address_of(
        MappedDevice("default/gate", "onvif", {"url": "https://[fe80::1]/x", "userName": "a", "password": "secret"}, {})
    )
    assert (found.host, found.port, found.path, found.is_tls) == ("fe80::1", 443, "/x", True)
    assert "secret" not in repr(found)


# Discovery

ID = "5c1e3c1a-0000-4000-8000-000000000001"


def match(addresses: str, scopes: str = "", relates: str = f"urn:uuid:{ID}") -> bytes:
    return (
        f'<s:Envelope xmlns:s="x"><s:Header><a:RelatesTo>{relates}</a:RelatesTo></s:Header><s:Body><d:ProbeMatches><d:ProbeMatch>'
        f"<a:EndpointReference><a:Address>urn:uuid:1</a:Address></a:EndpointReference><d:Scopes>{scopes}</d:Scopes>"
        f"<d:XAddrs>{addresses}</d:XAddrs></d:ProbeMatch></d:ProbeMatches></s:Body></s:Envelope>"
    ).encode()


def test_a_camera_is_where_it_answers_from() -> None:
    said = match(
        "http://10.0.0.9/x http://192.168.1.9:8080/onvif",
        "onvif://www.onvif.org/name/Front%20gate onvif://www.onvif.org/name/2 x",
    )
    (camera,) = discovery.matches_of(said, ID)
    assert camera.scopes == {"name": "Front gate"}
    assert discovery.address_at(camera, "192.168.1.9") == "http://192.168.1.9:8080/onvif"
    assert discovery.address_at(camera, "192.168.1.10") == ""
    assert discovery.matches_of(match("http://x", relates="urn:uuid:other"), ID) == []
    assert discovery.matches_of(match("file:///etc/passwd javascript:x http://u:p@x"), ID) == []
    assert parse(discovery.probe(ID)).value("MessageID") == f"uuid:{ID}"


# A camera that leads elsewhere


@asynccontextmanager
async def camera(answer: Callable[[str, str], Any]) -> AsyncIterator[tuple[int, list[str]]]:
    """(port, names of the operations that were asked for)."""
    asked: list[str] = []

    async def handle(request: Request) -> Response:
        body = (await request.read(100_000)).decode()
        name = request.header("content-type") or request.target
        asked.append(name.rpartition("/")[2].rstrip('"'))
        found = answer(asked[-1], body)
        if inspect.isawaitable(found):
            found = await found
        return found if isinstance(found, Response) else Response(200, [], found)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_connection(reader, writer, handle)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


ANSWERS = {
    "GetSystemDateAndTime": "<GetSystemDateAndTimeResponse/>",
    "GetCapabilities": "<GetCapabilitiesResponse><Capabilities><Media><XAddr>http://203.0.113.9/media</XAddr></Media><PTZ><XAddr>http://203.0.113.9/ptz</XAddr></PTZ></Capabilities></GetCapabilitiesResponse>",
    "GetProfiles": '<GetProfilesResponse><Profiles token="a"><PTZConfiguration/></Profiles></GetProfilesResponse>',
    "GetDeviceInformation": "<GetDeviceInformationResponse><Model>M</Model></GetDeviceInformationResponse>",
    "GetStreamUri": "<GetStreamUriResponse><Uri>rtsp://203.0.113.9:9554/live?x=1</Uri></GetStreamUriResponse>",
    "GetSnapshotUri": "<GetSnapshotUriResponse><Uri>http://203.0.113.9:{port}/picture.jpg</Uri></GetSnapshotUriResponse>",
    "GetPresets": '<GetPresetsResponse><Preset token="1"><Name>door</Name></Preset></GetPresetsResponse>',
    "GotoPreset": "<GotoPresetResponse/>",
    "RelativeMove": "<RelativeMoveResponse/>",
}
PROPERTIES = {
    "model": {"type": "STRING"},
    "snapshot": {"type": "BYTES"},
    "preset": {"type": "STRING"},
    "step": {"type": "STRING"},
    "pan": {"type": "FLOAT"},
}


def test_a_camera_that_leads_elsewhere_is_asked_itself_and_actions_are_done_once() -> None:
    port = 0

    def answer(name: str, body: str) -> bytes | Response:
        if name == "picture.jpg":
            return b"jpeg"
        if name == "GetStatus":
            return Response(500, [], FAULT.replace(b"ter:NotAuthorized", b"ter:ActionNotSupported"))
        return envelope_of(ANSWERS[name].replace("{port}", str(port)))

    async def run() -> None:
        nonlocal port
        async with asyncio.timeout(30), camera(answer) as (port, asked):
            mapper = onvif_mapper()
            mapper.device = lambda id: None if id != "default/simulated" else device.device  # type: ignore[method-assign]
            for _ in range(2):  # the connection is another one
                async with SimulatedDevice(mapper, PROPERTIES, config={"url": f"127.0.0.1:{port}"}) as device:
                    assert await device.read("model") == "M" and await device.read("snapshot") == "anBlZw=="
                    assert await device._client.client.stream_uri() == "rtsp://127.0.0.1:9554/live?x=1"
                    await device.write("preset", "door")
                    await device.write("step", "0.1,0,0")
                    assert await device.read("step") == "0.1,0,0"
                    with pytest.raises(Invalid, match="'window' is none of the camera's presets: door"):
                        await device.write("preset", "window")
                    with pytest.raises(Invalid, match="property pan: the device answers: Sender not Authorized"):
                        await device.read("pan")
            assert asked.count("RelativeMove") == asked.count("GotoPreset") == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        (Response(401, [("www-authenticate", 'Basic realm="x"')], b""), Refused, "allowBasic"),
        (Response(401, [], FAULT), Refused, "the user of the camera is refused"),
        (Response(400, [], FAULT), Refused, "the user of the camera is refused"),
        (Response(404, [], b"no"), Invalid, "the camera answers 404"),
        (Response(200, [], b"<html>"), PeerError, "no XML"),
        (Response(200, [], b"x" * (MAX_BYTES + 1)), Invalid, "more than"),
        (Response(302, [("location", "http://203.0.113.9/")], b""), Invalid, "answers 302"),
    ],
)
def test_what_a_camera_says_instead_of_an_answer(answer: Response, error: type[Exception], why: str) -> None:
    async def run() -> None:
        async with asyncio.timeout(30), camera(lambda name, body: answer) as (port, _):
            config = {"url": f"127.0.0.1:{port}", "userName": "admin", "password": "secret"}
            with pytest.raises(error, match=why) as found:
                async with SimulatedDevice(onvif_mapper(), {}, config=config):
                    pass
            assert "secret" not in str(found.value)

    asyncio.run(run())


def test_addresses_that_are_none_cost_their_own_property_alone_and_a_clock_at_its_end_nothing() -> None:
    def answer(name: str, body: str) -> bytes:
        found = ANSWERS[name]
        if name == "GetSystemDateAndTime":
            date = "<Date><Year>9999</Year><Month>12</Month><Day>31</Day></Date>"
            time = "<Time><Hour>23</Hour><Minute>59</Minute><Second>59</Second></Time>"
            found = f"<{name}Response><UTCDateTime>{time}{date}</UTCDateTime></{name}Response>"
        elif name.endswith("Uri"):
            found = f"<{name}Response><Uri>http://[::1</Uri></{name}Response>"
        return envelope_of(found)

    async def run() -> None:
        async with asyncio.timeout(30), camera(answer) as (port, _):
            config = {"url": f"127.0.0.1:{port}", "userName": "admin", "password": "secret"}
            mapper = onvif_mapper()
            mapper.device = lambda id: None  # type: ignore[method-assign]
            async with SimulatedDevice(mapper, PROPERTIES, config=config) as device:
                await asyncio.sleep(1.1)  # until the second after the camera's last one
                found = await device._client.read([device.device.properties[name] for name in ("snapshot", "model")])
                assert found["model"] == "M" and "an address that is none" in str(found["snapshot"])
                with pytest.raises(Invalid, match="an address that is none"):
                    await device._client.client.stream_uri()

    asyncio.run(run())

"""OPC-UA against a server that nobody here wrote (asyncua), and against answers that lie."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import Invalid, PeerError
from kubeedge.mapper.mapper import Mapper
from kubeedge.mapper.opcua import binary, channel, core, messages
from kubeedge.mapper.opcua.binary import DataValue, NodeId, OpcuaDecoder, TypedVariant
from kubeedge.mapper.opcua.channel import SecureChannel
from kubeedge.mapper.opcua.connection import OpcuaConnection
from kubeedge.mapper.opcua.driver import OpcuaClient, opcua_mapper
from kubeedge.mapper.opcua.security import NONE, NoSuite
from kubeedge.mapper.simulated import SimulatedDevice
from kubeedge.mapper.values import MappedDevice, MappedProperty, mapped
from tests.kit.opcua_server import certificate, fingerprint, server_process

TYPES = {
    "temperature": "FLOAT", "target": "INT", "running": "BOOLEAN", "label": "STRING", "raw": "BYTES", "zones": "STRING",
}  # fmt: skip


def properties(**more: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: {"type": kind, "visitors": {"configData": {"nodeID": f"ns=2;s=Boiler.{name}"}}}
        for name, kind in TYPES.items()
    }
    found["second"] = {"type": "INT", "visitors": {"configData": {"nodeID": "ns=2;s=Boiler.zones", "index": 1}}}
    found["none"] = {"type": "INT", "visitors": {"configData": {"nodeID": "ns=2;s=Nothing"}}}
    return found | more


def simulated(url: str, **config: Any) -> SimulatedDevice:
    return SimulatedDevice(opcua_mapper(), properties(), config={"url": url, **config})


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(120):
            await scenario()

    asyncio.run(within())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    directory = tmp_path_factory.mktemp("opcua")
    return {name: certificate(directory, name) for name in ("server", "client")} | {
        "large": certificate(directory, "large", 4096)
    }


@pytest.fixture(scope="module")
def url(files: dict[str, tuple[str, str]]) -> Iterator[str]:
    with server_process(files["server"]) as (_, found):
        yield found


def secured(files: Mapping[str, tuple[str, str]], own: str = "client", **more: Any) -> dict[str, Any]:
    cert, key = files[own]
    return {"certificate": cert, "privateKey": key, "serverFingerprint": fingerprint(files["server"][0]), **more}


async def use(device: SimulatedDevice) -> None:
    """Every type, read and written."""
    assert await device.read("label") == "boiler" and await device.read("zones") == "[1,2,3]"
    assert await device.read("second") == "2", "one item of an array"
    for turn in (("-7", "true", "19.25", "AwQ="), ("20", "false", "21.5", "AQI=")):
        for name, text in zip(("target", "running", "temperature", "raw"), turn, strict=True):
            await device.write(name, text)
            assert await device.read(name) == text


def test_nodes_are_read_and_written_without_security_when_that_is_asked_for(url: str) -> None:
    async def scenario() -> None:
        async with simulated(url, securityPolicy="None") as device:
            await use(device)
            with pytest.raises(Invalid, match="default/simulated: property none: the server answers BadNodeIdUnknown"):
                await device.read("none")
            with pytest.raises(Invalid, match="property second: the server does not write single items"):
                await device.write("second", "9")  # it would be all that is left of the array
            with pytest.raises(Invalid, match="property label: the server answers Bad"):
                await device.write("label", "other")
            with pytest.raises(Invalid, match="property target: '40000' does not fit into the type"):
                await device.write("target", "40000")
        with pytest.raises(Invalid, match="certificate and privateKey, our files, are required"):
            async with simulated(url):
                pass

    run(scenario)


@pytest.mark.parametrize("mode, own", [("Sign", "client"), ("SignAndEncrypt", "client"), ("SignAndEncrypt", "large")])
def test_nodes_are_read_and_written_over_a_secure_channel(
    url: str, files: dict[str, tuple[str, str]], mode: str, own: str
) -> None:
    async def scenario() -> None:
        async with simulated(url, securityMode=mode, **secured(files, own)) as device:
            await use(device)
            client = device._client
            before = client._connection._channel._token
            client._connection._renew_at = 0.0  # an hour later
            await use(device)
            assert client._connection._channel._token != before

    run(scenario)


def test_a_server_with_another_certificate_gets_nothing(url: str, files: dict[str, tuple[str, str]]) -> None:
    async def scenario() -> None:
        have = fingerprint(files["server"][0]).replace(":", "").lower()
        for config, why in (
            ({"serverFingerprint": "ab" * 32}, f"another certificate than the Device says: {have}"),
            ({"serverFingerprint": ""}, f"is required; the server's certificate has {have}"),
            ({"serverFingerprint": "", "serverCertificate": files["client"][0]}, "another certificate"),
            ({"privateKey": files["client"][0]}, "has no RSA key without a password"),
            ({"certificate": "/nowhere.pem"}, "/nowhere.pem cannot be read"),
        ):
            with pytest.raises(Invalid, match=why):
                async with simulated(url, **secured(files) | config):
                    pass
        trusted = secured(files, serverCertificate=files["server"][0])
        async with simulated(url, **trusted | {"serverFingerprint": ""}) as device:
            assert await device.read("label") == "boiler"

    run(scenario)


def test_users_prove_who_they_are(url: str, files: dict[str, tuple[str, str]]) -> None:
    async def scenario() -> None:
        config = secured(files)
        alice = {"userName": "alice", "password": "s3cret"}
        async with simulated(url, **alice, **config) as device:
            assert await device.read("label") == "boiler"
        with pytest.raises(Invalid, match="the server answers Bad"):
            async with simulated(url, **alice | {"password": "x"}, **config):
                pass
        cert, key = files["large"]
        async with simulated(url, userCertificate=cert, userPrivateKey=key, **config) as device:
            assert await device.read("label") == "boiler"
        # without a channel that is encrypted a password is, or it stays here
        with pytest.raises(Invalid, match="without encryption|is required; the server's certificate"):
            async with simulated(url, securityPolicy="None", **alice):
                pass

    run(scenario)


def test_what_the_server_sends_by_itself_is_reported_and_its_end_noticed(files: dict[str, tuple[str, str]]) -> None:
    def prop(name: str, kind: str, **more: Any) -> dict[str, Any]:
        return {"type": kind, "collectCycle": 100, "visitors": {"configData": {"push": True, **more}}}

    pushed = {
        "pushed": prop("pushed", "DOUBLE", nodeID="ns=2;s=Boiler.pushed"),
        "zones": prop("zones", "STRING", nodeID="ns=2;s=Boiler.zones"),
        "none": prop("none", "INT", nodeID="ns=2;s=Nothing"),
        "odd": prop("odd", "INT"),
    }

    async def scenario(process: Any, url: str) -> None:
        config = {"url": url, "securityPolicy": "None"}
        item = {"id": "default/b", "protocol": {"protocolName": "opcua", "configData": config}, "properties": pushed}
        device = mapped(item)[0]
        client, writer = await OpcuaClient.open(device), await OpcuaClient.open(device)
        got: dict[str, Any] = {}
        listening = asyncio.create_task(client.listen(got.update))

        async def has(name: str, value: object) -> None:
            while got.get(name) != value:
                await asyncio.sleep(0.02)
                assert not listening.done(), listening

        await has("pushed", 1.0)
        for value in (22.5, 23.0):
            await writer.write(device.properties["pushed"], value)
            await has("pushed", value)
        await has("zones", "[1,2,3]")
        assert "BadNodeIdUnknown" in str(got["none"]) and "nodeID is missing" in str(got["odd"])
        process.kill()
        with pytest.raises((OSError, EOFError, PeerError)):
            await listening
        await client.aclose()
        await writer.aclose()

    with server_process(files["server"]) as started:
        run(lambda: scenario(*started))


@contextlib.asynccontextmanager
async def liar(words: bytes) -> AsyncIterator[tuple[str, list[None]]]:
    """(url, a mark for each connection) of who says that, whatever it is asked, and then nothing."""
    connections: list[None] = []
    ended = asyncio.Condition()
    left = 0

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        connections.append(None)
        left += 1
        try:
            writer.write(words)
            while await reader.read(1024):
                pass
        except ConnectionError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            left -= 1
            async with ended:
                ended.notify_all()

    server = await asyncio.start_server(lie, "127.0.0.1", 0)
    async with server:
        yield f"opc.tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", connections
        async with ended:
            await ended.wait_for(lambda: not left)


def test_a_server_that_says_nothing_is_given_up_and_tried_again() -> None:
    """An answer that does not come ends the connection (TimeoutError), and another is made."""

    async def scenario() -> None:
        async with liar(b"") as (url, connections):
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    async with simulated(url, securityPolicy="None", timeout=200):
                        pass
            assert len(connections) == 2

    run(scenario)


GUID = uuid.UUID("72962b91-fa75-4ae6-8d28-b404dc7daf63")
LIES = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"ACKF" + struct.pack("<I", 7),
    b"ACKF" + struct.pack("<I", 0xFFFFFFFF),
    b"ACKF" + struct.pack("<6I", 28, 0, 16, 16, 0, 0) + b"\0" * 4,
    b"ERRF" + struct.pack("<III", 24, 0x80830000, 8) + b"\x1b[2Jnope",
    b"ACKF" + struct.pack("<6I", 28, 0, 65536, 65536, 0, 0) + b"MSGF" + struct.pack("<IIIII", 24, 1, 1, 1, 1),
    b"ACKF"
    + struct.pack("<6I", 28, 0, 65536, 65536, 0, 0)
    + b"OPNF"
    + struct.pack("<IIi", 65536, 1, 2**31 - 1)
    + b"\0" * 65520,
]


@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
def test_a_server_that_lies_is_an_error_of_its_device(lie: bytes) -> None:
    async def scenario() -> None:
        async with liar(lie) as (url, _):
            with pytest.raises((PeerError, TimeoutError)) as caught:
                async with simulated(url, securityPolicy="None", timeout=500):
                    pass
        assert len(str(caught.value)) < 400

    run(scenario)


@given(st.binary(max_size=400))
def test_bytes_of_a_server_are_read_or_refused(data: bytes) -> None:
    readers: list[Callable[[OpcuaDecoder], Any]] = [
        OpcuaDecoder.variant, OpcuaDecoder.data_value, OpcuaDecoder.node, OpcuaDecoder.extension, OpcuaDecoder.diagnostic, messages.endpoints,
        messages.created_session, messages.opened_channel, messages.notification, lambda d: messages.values(d, 1),
        lambda d: messages.created_items(d, 1),
    ]  # fmt: skip
    for reader in readers:
        with contextlib.suppress(PeerError):
            reader(OpcuaDecoder(data))
    with contextlib.suppress(PeerError, Invalid, ConnectionError):
        messages.answer(data, messages.READ[1])
    made = SecureChannel(NoSuite(), NONE, None, None, 65536)
    made.use(7, 9, NoSuite())
    with contextlib.suppress(PeerError):
        made.received(b"MSGF" + struct.pack("<I", 8 + len(data)), data)


def test_what_nests_or_promises_too_much_is_refused() -> None:
    for bomb in (
        b"\x18" * 5000,
        b"\x98" + struct.pack("<i", 2**31 - 1),
        b"\x17\x01" * 5000,
        b"\x8c" + struct.pack("<i", 5000) + b"\xff" * 20000,
    ):
        with pytest.raises(PeerError):
            OpcuaDecoder(bomb).variant()
    with pytest.raises(PeerError):
        OpcuaDecoder(b"\x40" * 5000).diagnostic()
    made = SecureChannel(NoSuite(), NONE, None, None, 65536)
    made.use(7, 9, NoSuite())

    def part(n: int, mark: bytes = b"C", request: int = 1) -> None:
        made.received(b"MSG" + mark + b"\0" * 4, struct.pack("<IIII", 7, 9, n, request) + b"x" * 60000)

    part(1)
    with pytest.raises(PeerError, match="missing, or comes again"):
        part(1)
    with pytest.raises(PeerError, match=f"more than {channel.MAX_MESSAGE}"):
        for n in range(2, 40):
            part(n)
    made = SecureChannel(NoSuite(), NONE, None, None, 65536)
    made.use(7, 9, NoSuite())
    with pytest.raises(PeerError, match="more than"):
        for n in range(1, 40):
            made.received(b"MSGC" + b"\0" * 4, struct.pack("<IIII", 7, 9, n, n))


def test_large_messages_are_sent_in_chunks_and_put_together() -> None:
    made = SecureChannel(NoSuite(), NONE, None, None, 8192)
    made.use(7, 9, NoSuite())
    body = bytes(range(256)) * 200
    data, found = made.message(5, body), None
    other = SecureChannel(NoSuite(), NONE, None, None, 8192)
    other.use(7, 9, NoSuite())
    while data:
        header, data = data[: channel.HEADER], data[channel.HEADER :]
        size = channel.size_of(header)
        assert found is None and size + channel.HEADER <= 8192
        found, data = other.received(header, data[:size]), data[size:]
    assert found is not None and (found.request, found.body) == (5, body)


@pytest.mark.parametrize(
    "text, node",
    [
        ("ns=2;s=Boiler;1=x", NodeId(2, "Boiler;1=x")),
        ("i=2258", NodeId(0, 2258)),
        (f"ns=3;g={GUID}", NodeId(3, binary.Guid(GUID.bytes_le))),
        ("ns=1;b=01ff", NodeId(1, b"\x01\xff")),
    ],
)
def test_node_ids_are_as_everybody_writes_them(text: str, node: NodeId) -> None:
    assert str(binary.Guid(GUID.bytes_le)) == str(GUID)
    assert NodeId.parse(text) == node == OpcuaDecoder(bytes(binary.OpcuaEncoder().node(node).data)).node()


@pytest.mark.parametrize(
    "text", ["", "x", "ns=70000;i=1", "i=-1", "i=4294967296", "i=x", "g=1", "b=0", "ns=;i=1", "s="]
)
def test_what_is_no_node_id_is_refused(text: str) -> None:
    prop = MappedProperty("default/b", "p", visitor={"nodeID": text})
    with pytest.raises(Invalid, match="default/b: property p: .*is no node id"):
        core.node_of(prop)


@pytest.mark.parametrize(
    "kind, variant, text",
    [
        ("FLOAT", TypedVariant(binary.INT32, 7), "7"),
        ("INT", TypedVariant(binary.DOUBLE, 7.0), "7"),
        ("INT", TypedVariant(binary.STRING, " 7 "), "7"),
        ("STRING", TypedVariant(binary.DATETIME, 116444736000000000 + 15_000_000), "1.5"),
        ("DOUBLE", TypedVariant(binary.DATETIME, 116444736000000000), "0.0"),
        ("BOOLEAN", TypedVariant(binary.STRING, "TRUE"), "true"),
        ("STRING", TypedVariant(binary.BYTESTRING, b"\xff"), "�"),
        ("BYTES", TypedVariant(binary.STRING, "x"), "eA=="),
    ],
)
def test_values_become_what_the_property_is(kind: str, variant: TypedVariant, text: str) -> None:
    prop = MappedProperty("default/b", "p", kind)
    assert prop.text(core.value_of(prop, DataValue(variant))) == text


@pytest.mark.parametrize(
    "kind, value",
    [
        ("INT", DataValue(TypedVariant(binary.DOUBLE, 7.5))),
        ("INT", DataValue(TypedVariant(binary.INT32, [1, 2]))),
        ("BOOLEAN", DataValue(TypedVariant(binary.INT32, 7))),
        ("FLOAT", DataValue(None)),
        ("FLOAT", DataValue(TypedVariant(binary.FLOAT, 1.0), 0x808C0000)),
        ("STRING", DataValue(TypedVariant(binary.EXTENSION, None))),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(kind: str, value: DataValue) -> None:
    with pytest.raises(Invalid, match="default/b: property p"):
        core.value_of(MappedProperty("default/b", "p", kind), value)


@pytest.mark.parametrize(
    "config, why",
    [
        ({"url": "http://h"}, "url must be like"),
        ({"url": "opc.tcp://h:0"}, "url must be like"),
        ({"url": "opc.tcp://h:99999"}, "url must be like"),
        ({"url": 7}, "url must be a text"),
        ({"url": "opc.tcp://h", "securityPolicy": "Basic128Rsa15"}, "securityPolicy must be"),
        ({"url": "opc.tcp://h", "securityMode": "None"}, "securityMode must be"),
        ({"url": "opc.tcp://h", "serverFingerprint": "ab"}, "serverFingerprint must be"),
        ({"url": "opc.tcp://h", "securityPolicy": "None", "userCertificate": "/x"}, "go together"),
    ],
)
def test_a_device_that_lacks_something_says_so(config: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=f"device default/b: .*{why}"):
        core.device_of(MappedDevice("default/b", "opcua", config, {}))


def test_a_password_is_not_shown() -> None:
    config = {"url": "opc.tcp://[::1]", "securityPolicy": "None", "userName": "a", "password": "s3cret"}
    device = core.device_of(MappedDevice("default/b", "opcua", config, {}))
    assert "s3cret" not in repr(device) and (device.host, device.port) == ("::1", 4840)
    assert isinstance(opcua_mapper(), Mapper)


def test_what_is_read_item_by_item_has_a_bound_for_the_whole_message() -> None:
    """A message has room for a million items, over which the mapper would be busy for seconds."""

    def arrays(kind: int, item: bytes, count: int) -> bytes:
        one = b"\1" + bytes((0x80 | kind,)) + struct.pack("<i", 4000) + 4000 * item
        return struct.pack("<i", count) + count * one

    for kind, item in ((binary.VARIANT, b"\0"), (binary.LOCALIZED, b"\0"), (binary.DATAVALUE, b"\0")):
        assert len(messages.values(OpcuaDecoder(arrays(kind, item, 8)), 8)) == 8
        with pytest.raises(PeerError, match="arrays of more than 32768 items"):
            messages.values(OpcuaDecoder(arrays(kind, item, 9)), 9)
    numbers = messages.values(OpcuaDecoder(arrays(binary.INT16, b"\xfe\xff", 128)), 128)
    assert numbers[127].variant == TypedVariant(binary.INT16, 4000 * [-2])
    change = struct.pack("<i", 1) + struct.pack("<I", 1) + b"\1\x98" + struct.pack("<i", 4000) + 4000 * b"\0"
    extension = b"\1\0" + struct.pack("<HB", 811, 1) + struct.pack("<i", len(change)) + change
    body = struct.pack("<IiBIq", 7, 0, 0, 1, 0) + struct.pack("<i", 9) + 9 * extension
    with pytest.raises(PeerError, match="arrays of more than"):
        messages.notification(OpcuaDecoder(body))


def test_a_channel_is_opened_once_for_each_time_it_is_asked_for() -> None:
    """What opens one is decrypted with the private key, in the time of all devices."""

    def answer(made: SecureChannel, n: int, size: int = 20, mark: bytes = b"F") -> object:
        head = struct.pack("<I", 7) + 3 * struct.pack("<i", -1)
        return made.received(b"OPN" + mark + bytes(4), head + struct.pack("<II", n, n) + size * b"x")

    made = SecureChannel(NoSuite(), NONE, None, None, 65536)
    with pytest.raises(PeerError, match="unasked"):
        answer(made, 1)
    made.open_request(1, b"")
    assert answer(made, 1) is not None
    with pytest.raises(PeerError, match="unasked"):
        answer(made, 2)
    for more in ({"mark": b"C"}, {"size": 60_000}):
        made.open_request(2, b"")
        with pytest.raises(PeerError, match="opens a channel"):
            answer(made, 2, **more)


def test_a_session_with_slow_subscriptions_is_kept() -> None:
    """A server ends a session in which nothing is asked for longer than `timeout`, however long the intervals of its subscriptions are."""

    class Server:
        timeout = 1.0

        def __init__(self) -> None:
            self.asked: list[tuple[int, int]] = []

        async def call(
            self, kind: tuple[int, int], token: NodeId, body: bytes, *, timeout: float | None = None
        ) -> OpcuaDecoder:
            self.asked.append(kind)
            if kind == messages.CREATE_SUBSCRIPTION:
                return OpcuaDecoder(struct.pack("<IdII", 3, 600_000.0, 10, 1))
            if kind == messages.CREATE_ITEMS:
                return OpcuaDecoder(struct.pack("<iIIdI", 1, 0, 1, 600_000.0, 1) + bytes(3))
            if kind == messages.PUBLISH:
                await asyncio.Event().wait()
            raise messages.OpcuaRefusal("the server answers BadServiceUnsupported")

    async def scenario() -> None:
        visitor = {"nodeID": "ns=2;s=Boiler.pushed", "push": True}
        prop = MappedProperty("default/boiler", "pushed", "DOUBLE", visitor=visitor, collect_cycle=600.0)
        server = Server()
        session = messages.CreatedSession(NodeId(0, 1), 0.06, b"", b"", (), b"")
        device = MappedDevice("default/boiler", "opcua", {}, {"pushed": prop})
        client = OpcuaClient(device, cast(OpcuaConnection, server), session)
        listening = asyncio.create_task(client.listen(lambda values: None))
        while server.asked.count(messages.READ) < 3:
            await asyncio.sleep(0.01)
        assert server.asked.count(messages.PUBLISH) == 2 and not listening.done()
        listening.cancel()
        await asyncio.wait([listening])

    run(scenario)


@pytest.mark.parametrize("content", [b"-----BEGIN A-----" + b" " * 60_000, b"-----BEGIN A-----\nMII\n-----END A-----"])
def test_a_file_that_is_nearly_pem_is_refused_at_once(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(content)
    begin = time.process_time()

    async def scenario() -> None:
        with pytest.raises(Invalid, match="has no RSA key"):
            async with simulated("opc.tcp://127.0.0.1:9", certificate=str(file), privateKey=str(file)):
                pass

    run(scenario)
    assert time.process_time() - begin < 5.0, "quadratic time takes longer by far"


def test_arrays_of_bytes_are_texts_too() -> None:
    prop = MappedProperty("default/boiler", "p", "STRING")
    assert core.value_of(prop, DataValue(TypedVariant(binary.BYTESTRING, [b"a", b"\xff"]))) == '["a","\\ufffd"]'
    item = MappedProperty("default/boiler", "p", "STRING", visitor={"index": 0})
    assert core.value_of(item, DataValue(TypedVariant(binary.VARIANT, [[b"a"]]))) == '["a"]'

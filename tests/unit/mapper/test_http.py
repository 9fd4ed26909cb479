"""HTTP devices against a server that nobody here wrote (http.server), devices that send by themselves, and answers that lie."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import Invalid, PeerError
from kubeedge.kit.http1 import Connection
from kubeedge.kit.streams import listening_socket
from kubeedge.mapper import documents
from kubeedge.mapper.http import core
from kubeedge.mapper.http.driver import http_mapper
from kubeedge.mapper.http.push import PushServer
from kubeedge.mapper.simulated import SimulatedDevice
from kubeedge.mapper.values import MappedDevice, MappedProperty
from tests.unit.mapper.test_mapper import ADDRESS, Node, on_a_node, until


class Device(BaseHTTPRequestHandler):
    """A thermostat with a status in JSON, one value as text, and a relay that is set by a query."""

    protocol_version = "HTTP/1.1"
    requests: list[tuple[str, str, str | None, bytes]]
    target = 20

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.requests.append((self.command, self.path, self.headers.get("Authorization"), body))
        if self.path == "/api/status":
            status = {"sensors": [{"t": 21.5, "text": "19"}], "on": True, "a/b": "x", "target": type(self).target}
            self.answer(200, json.dumps(status).encode())
        elif self.path == "/api/humidity":
            self.answer(200, b" 55\n")
        elif self.path == "/api/target" and self.command == "PUT":
            type(self).target = json.loads(body)["target"]
            self.answer(204, b"")
        elif self.path.startswith("/api/relay?turn=") or self.command == "POST":
            self.answer(200, b"{}")
        elif self.path == "/api/large":
            self.answer(200, b"1" * (core.MAX_ANSWER + 1))
        else:
            self.answer(404, b"no")

    do_GET = do_PUT = do_POST = handle_any

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served() -> Iterator[tuple[str, list[tuple[str, str, str | None, bytes]]]]:
    """(base URL, the requests that came)."""
    kind = type("OneDevice", (Device,), {"requests": [], "target": 20})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/", kind.requests
        finally:
            server.shutdown()
            thread.join()


def visitor(**data: Any) -> dict[str, Any]:
    return {"visitors": {"configData": data}}


PROPERTIES: dict[str, dict[str, Any]] = {
    "temperature": {"type": "FLOAT", **visitor(path="status", pointer="/sensors/0/t")},
    "text": {"type": "INT", **visitor(path="/status", pointer="/sensors/0/text")},
    "on": {"type": "BOOLEAN", **visitor(path="/status", pointer="/on")},
    "odd": {"type": "STRING", **visitor(path="/status", pointer="/a~1b")},
    "all": {"type": "STRING", **visitor(path="/status", pointer="/sensors")},
    "humidity": {"type": "INT", **visitor(path="/humidity")},
    "target": {
        "type": "INT",
        **visitor(path="/status", pointer="/target", write={"path": "/target", "body": '{"target": {value}}'}),
    },
    "relay": {"type": "STRING", **visitor(write={"method": "GET", "path": "/relay?turn={value}"})},
    "name": {"type": "STRING", **visitor(write={"method": "POST", "path": "/name"})},
    "missing": {"type": "INT", **visitor(path="/status", pointer="/none")},
    "none": {"type": "INT", **visitor(path="/none")},
    "large": {"type": "STRING", **visitor(path="/large")},
    "wrong": {"type": "INT", **visitor(path="/status", pointer="/sensors")},
}


def with_device(scenario: Callable[[SimulatedDevice, list[Any]], Awaitable[None]], **config: Any) -> None:
    async def run(url: str, requests: list[Any]) -> None:
        config.setdefault("url", url)
        async with asyncio.timeout(60), SimulatedDevice(http_mapper(), PROPERTIES, config=config) as device:
            await scenario(device, requests)

    with served() as (url, requests):
        asyncio.run(run(url, requests))


def test_values_are_read_from_json_and_text_by_one_request_for_a_path() -> None:
    async def scenario(device: SimulatedDevice, requests: list[Any]) -> None:
        names = ("temperature", "text", "on", "odd", "all", "humidity")
        found = await device._client.read([device._property(name) for name in names])
        assert found == {
            "temperature": 21.5,
            "text": 19,
            "on": True,
            "odd": "x",
            "all": '[{"t":21.5,"text":"19"}]',
            "humidity": 55,
        }
        assert [request[1] for request in requests] == ["/api/status", "/api/humidity"]
        assert {request[2] for request in requests} == {"Bearer secret"}

    with_device(scenario, token="secret")


def test_values_are_written_as_the_visitor_says() -> None:
    async def scenario(device: SimulatedDevice, requests: list[Any]) -> None:
        await device.write("target", "22")
        assert await device.read("target") == "22"
        await device.write("relay", "on&off /?")
        await device.write("name", 'a "b"\n')
        assert [request[:2] for request in requests[2:]] == [
            ("GET", "/api/relay?turn=on%26off%20%2F%3F"),
            ("POST", "/api/name"),
        ]
        assert requests[3][3] == rb'"a \"b\"\n"' and requests[0][2] == "Basic dTpw"

    with_device(scenario, userName="u", password="p")


def test_what_is_wrong_concerns_that_property_alone() -> None:
    async def scenario(device: SimulatedDevice, requests: list[Any]) -> None:
        names = ("missing", "none", "large", "wrong", "temperature")
        found = await device._client.read([device._property(name) for name in names])
        assert found["temperature"] == 21.5
        for name, why in (
            ("missing", "no 'none'"),
            ("none", "answers 404"),
            ("large", "more than"),
            ("wrong", "is no INT"),
        ):
            assert (
                isinstance(found[name], Invalid)
                and why in str(found[name])
                and f"property {name}: " in str(found[name])
            )
        assert await device.read("humidity") == "55", "a connection that was given up is made again"

    with_device(scenario)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({}, "url must be"),
        ({"url": 7}, "url must be"),
        ({"url": "ftp://a"}, "url must be"),
        ({"url": "http://u:p@a"}, "url must be"),
        ({"url": "http://a/?x=1"}, "url must be"),
        ({"url": "http://a:99999"}, "url: "),
        ({"url": "http://a/b c"}, "url has characters"),
        ({"url": "http://a", "timeout": 1}, "timeout"),
        ({"url": "http://a", "caFile": "x"}, "caFile must be an absolute path"),
        ({"url": "http://a", "headers": {"a b": "c"}}, "headers: 'a b' cannot be set"),
        ({"url": "http://a", "headers": {"Host": "c"}}, "headers: 'Host' cannot be set"),
        ({"url": "http://a", "headers": {"x": "c\r\nd: e"}}, "headers: x is no line of text"),
        ({"url": "http://a", "token": "c\r\nd: e"}, "headers: Authorization is no line of text"),
        ({"url": "http://a", "headers": {str(n): "" for n in range(33)}}, "headers must be an object"),
    ],
)
def test_a_configuration_that_says_nothing_is_refused_by_name(config: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=f"^device default/boiler: {why}"):
        core.device_of(MappedDevice("default/boiler", "http", config, {}))


@pytest.mark.parametrize(
    "data",
    [
        {"path": 7},
        {"path": "/a b"},
        {"path": "/a\r\nb"},
        {"path": "/" + "a" * 3000},
        {"write": 7},
        {"write": {"method": "DELETE"}},
        {"write": {"body": 7}},
        {"write": {"contentType": "a\nb"}},
    ],
)
def test_a_visitor_that_says_nothing_is_refused_by_name(data: dict[str, Any]) -> None:
    device = core.device_of(MappedDevice("default/boiler", "http", {"url": "http://a"}, {}))
    prop = MappedProperty("default/boiler", "x", "INT", visitor=data)
    with pytest.raises(Invalid, match="^device default/boiler: property x: "):
        core.writing(device, prop, 1)


@given(
    st.binary(max_size=200) | st.just(b"[" * 5000),
    st.sampled_from(["", "/", "/a", "/0", "a", "/~", "/a/0/b"]) | st.text(max_size=9),
)
def test_any_answer_is_a_value_or_an_error(body: bytes, pointer: str) -> None:
    for kind in ("INT", "FLOAT", "BOOLEAN", "STRING", "BYTES"):
        for data in ({}, {"pointer": pointer}, {"pointer": 7}):
            prop = MappedProperty("default/boiler", "x", kind, visitor=data)
            try:
                prop.text(documents.Document(body).value(prop))
            except Invalid as exc:
                assert str(exc).startswith("device default/boiler: property x: ")


@pytest.mark.parametrize(
    "answer",
    [b"", b"\0" * 100, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 9999],
)
def test_a_device_that_breaks_http_loses_its_connection(answer: bytes) -> None:
    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(lie, "127.0.0.1", 0) as server, asyncio.timeout(30):
            config = {"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}
            async with SimulatedDevice(http_mapper(), PROPERTIES, config=config) as device:
                with pytest.raises((PeerError, OSError, EOFError)):
                    await device.read("humidity")

    asyncio.run(run())


@asynccontextmanager
async def pushing(node: Node, tokens: Mapping[str, str]) -> AsyncIterator[PushServer]:
    """The mapper on a node, with a device for each token."""
    properties = {
        "temperature": {"type": "FLOAT", **visitor(push=True)},
        "count": {"type": "INT", "minimum": "0", **visitor(push=True)},
    }
    for name, token in tokens.items():
        await node.desire(("default", name), properties, "http", pushToken=token)
    mapper = http_mapper()
    server = PushServer(mapper, "127.0.0.1", 0)
    mapper.background(server.run)
    task = asyncio.ensure_future(mapper.serve(f"{ADDRESS}:{node.port}"))
    try:
        await until(
            lambda: all(mapper.device(f"default/{name}") for name in tokens) and server.bound, lambda: mapper.health
        )
        yield server
    finally:
        task.cancel()
        await asyncio.wait([task])


async def post(port: int, path: str, body: bytes, token: str | None, method: str = "POST") -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection = Connection(reader, writer)
    headers = [] if token is None else [("Authorization", f"Bearer {token}")]
    answer = await connection.request(method, path, headers, body)
    text = (await answer.read(10_000)).decode()
    await connection.close()
    return answer.status, text


def test_a_device_sends_its_values_and_no_other_s(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        async with pushing(node, {"hall": "secret", "attic": "", "cellar": "other"}) as server:
            good = b'{"temperature": 21.5, "count": "7"}'
            assert await post(server.bound, "/default/hall", good, "secret") == (204, "")
            await until(lambda: node.reported() == {"temperature": "21.5", "count": "7"}, node.reported)
            for path, token in (
                ("/default/hall", "other"),
                ("/default/hall", None),
                ("/default/attic", "secret"),
                ("/default/none", "secret"),
                ("/", "secret"),
                ("/default/hall", "sécret"),
            ):
                assert (await post(server.bound, path, good, token))[0] == 401, (path, token)
            assert (await post(server.bound, "/default/hall", b"", "secret", "GET"))[0] == 405
            for body in (b"", b"[]", b"{", b"[" * 20000, b"\xff"):
                assert (await post(server.bound, "/default/hall", body, "secret"))[0] == 400, body[:9]
            assert (await post(server.bound, "/default/hall", b'"' + b"x" * 70_000 + b'"', "secret"))[0] == 413
            status, text = await post(
                server.bound, "/default/hall", b'{"temperature": 22, "count": [], "odd": 1}', "secret"
            )
            assert (
                status == 400 and "property count: '[]' is no INT" in text and "odd is not in its DeviceModel" in text
            )
            await until(lambda: node.reported().get("temperature") == "22", node.reported)
            assert node.reported(("default", "cellar")) in ({}, {"temperature": None, "count": None})

    on_a_node(tmp_path, scenario)


def test_a_port_that_is_taken_ends_the_mapper(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        with listening_socket("127.0.0.1", 0) as taken:
            mapper = http_mapper(("127.0.0.1", taken.getsockname()[1]))
            with pytest.raises(OSError):
                await mapper.serve(f"{ADDRESS}:{node.port}")

    on_a_node(tmp_path, scenario)

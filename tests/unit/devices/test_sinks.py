"""Values on their way to other servers: what pushMethod may say, the queue on the disk, and what becomes of it when a server, the agent or the
disk is away. Real servers are in test_sink_servers.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from kubeedge.api import keys
from kubeedge.devices.core import Twins
from kubeedge.devices.module import DeviceTwins
from kubeedge.devices.sinks import credentials, formats, observe
from kubeedge.devices.sinks.core import Destination, PushedValue, ValueRefused, destinations, parsed
from kubeedge.devices.sinks.module import DevicePush
from kubeedge.devices.sinks.queue import PushQueue
from kubeedge.errors import Invalid
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.http1 import Request, Response, serve_connection
from kubeedge.kit.streams import close_writer
from kubeedge.store.sqlite import open_sqlite
from tests.kit.ports import ADDRESS, ports
from tests.unit.devices.modules import running, until

NOON = 1_790_000_000_000
HALL, ATTIC = ("default", "hall"), ("default", "attic")
DAY = 86_400_000
QUICK = Backoff(0.01, 0.05)


def value(
    text: str = "20", *, device: str = "hall", kind: str = "INT", prop: str = "t", time: int = NOON, number: int = 0
) -> PushedValue:
    return PushedValue(number, "default", device, prop, kind, time, text)


def http(port: int = 80, **more: Any) -> dict[str, Any]:
    return {"http": {"hostName": f"http://{ADDRESS}", "port": port, "requestPath": "/data", **more}}


def row(push: Any, uid: str = "u") -> bytes:
    return json.dumps(
        {
            "metadata": {"uid": uid},
            "generation": 1,
            "properties": {"t": {"type": "INT", "pushMethod": push}, "u": {"type": "INT"}},
        }
    ).encode()


# What pushMethod may say


def test_each_method_of_kubeedge_is_a_destination() -> None:
    found = destinations(
        {
            "http": {"hostName": "http://10.0.0.1", "port": 8080, "requestPath": "/a?b=c", "timeout": 5},
            "mqtt": {"address": "tcp://10.0.0.1:1884", "topic": "a/b", "qos": 2, "retained": True},
            "otel": {"endpointURL": "https://[fd00::1]:4318"},
            "dbMethod": {
                "influxdb2": {
                    "influxdb2ClientConfig": {"url": "http://10.0.0.1:8086/x/", "org": "o", "bucket": "b"},
                    "influxdb2DataConfig": {"measurement": "m", "tag": {"a": "b"}, "fieldKey": "f"},
                },
                "redis": {"redisClientConfig": {"addr": "10.0.0.1", "db": 3, "poolsize": 30, "minIdleConns": 30}},
                "TDEngine": {"TDEngineClientConfig": {"addr": "10.0.0.1:6041", "dbName": "d"}},
                "mysql": {"mysqlClientConfig": {"addr": "10.0.0.1:3307", "database": "d", "userName": "u"}},
                "postgres": {"postgresClientConfig": {"addr": "tls://db.example", "database": "d"}},
            },
        }
    )
    assert [(one.kind, one.host, one.port, one.tls) for one in found] == [
        ("http", "10.0.0.1", 8080, False),
        ("mqtt", "10.0.0.1", 1884, False),
        ("otel", "fd00::1", 4318, True),
        ("influxdb2", "10.0.0.1", 8086, False),
        ("redis", "10.0.0.1", 6379, False),
        ("TDEngine", "10.0.0.1", 6041, False),
        ("mysql", "10.0.0.1", 3307, False),
        ("postgres", "db.example", 5432, True),
    ]
    assert [parsed(one.spec) for one in found] == found
    assert (
        found[0].settings["path"] == "/a?b=c" and found[0].timeout == 5 and found[2].settings["path"] == "/v1/metrics"
    )


@pytest.mark.parametrize(
    "push",
    [
        7,
        {"http": {}},
        {"http": {"hostName": "http://a", "port": 0}},
        {"http": {"hostName": "http://a", "port": "80"}},
        {"http": {"hostName": "file:///etc", "port": 80}},
        {"http": {"hostName": "http://u:p@a", "port": 80}},
        {"http": {"hostName": "http://a\r\nx: y", "port": 80}},
        {"http": {"hostName": "a", "requestPath": "/a b"}},
        {"http": {"hostName": "a", "requestPath": "/" + "a" * 9000}},
        {"http": {"hostName": "a", "timeout": -1}},
        {"mqtt": {"address": "tcp://a", "topic": "a/#"}},
        {"mqtt": {"address": "ws://a", "topic": "a"}},
        {"mqtt": {"address": "tcp://a", "topic": "a", "qos": 3}},
        {"otel": {"endpointURL": "http://[::1"}},
        {"htpp": {"hostName": "http://a", "port": 80}},
        {"dbMethod": {"reddis": {"redisClientConfig": {"addr": "a"}}}},
        {"dbMethod": {"redis": {}}},
        {"dbMethod": {"redis": {"redisClientConfig": {"addr": "a", "db": -1}}}},
        {"dbMethod": {"mysql": {"mysqlClientConfig": {"addr": "a:99999", "database": "d"}}}},
        {"dbMethod": {"influxdb2": {"influxdb2ClientConfig": {"url": "http://a", "bucket": "b"}, "influxdb2DataConfig": {"tag": 1}}}},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_field(push: Any) -> None:
    with pytest.raises(Invalid, match="pushMethod"):
        destinations(push)


def test_a_database_that_there_is_none_of_is_named() -> None:
    with pytest.raises(Invalid, match="but dbMethod.postgre$"):
        destinations({"dbMethod": {"postgre": {}}})
    with pytest.raises(Invalid, match="but dbMethod$"):
        destinations({"dbMethod": {}})


@pytest.mark.parametrize("push", [{}, {"anomalyDetection": {"a": 1}}, {"http": None}])
def test_what_is_not_for_servers_is_left_out(push: Any) -> None:
    assert destinations(push) == []


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.sampled_from(["http", "mqtt", "otel", "dbMethod", "redis", "redisClientConfig", "addr", "hostName", "address", "topic", "endpointURL"]), inner), max_leaves=8))  # fmt: skip
def test_no_push_method_breaks_the_reader(push: Any) -> None:
    with contextlib.suppress(Invalid):
        for one in destinations(push):
            assert parsed(one.spec) == one


# Formats


def destination(push: Any) -> Destination:
    (found,) = destinations(push)
    return found


def influx(**data: Any) -> Destination:
    client = {"url": "http://a:8086", "org": "o", "bucket": "b"}
    return destination({"dbMethod": {"influxdb2": {"influxdb2ClientConfig": client, "influxdb2DataConfig": data}}})


def test_lines_of_influxdb() -> None:
    found = influx(measurement="m, x", tag={"ro=om": "the hall"}, fieldKey="f")
    values = [
        value("20"),
        value("1.50", kind="FLOAT"),
        value("true", kind="BOOLEAN"),
        value('a "b" \\', kind="STRING"),
    ]
    tags = "m\\,\\ x,device=hall,namespace=default,ro\\=om=the\\ hall f="
    assert formats.lines(found, values).decode().split("\n") == [
        f"{tags}20i {NOON}",
        f"{tags}1.5 {NOON}",
        f"{tags}true {NOON}",
        f'{tags}"a \\"b\\" \\\\" {NOON}',
    ]
    assert formats.lines(influx(), [value()]).decode() == f"hall,namespace=default t=20i {NOON}"


def test_otlp_is_what_opentelemetry_itself_reads() -> None:
    values = [value(), value("1.5", kind="FLOAT", prop="u"), value("true", kind="BOOLEAN", device="attic", number=7)]
    found = json_format.Parse(formats.metrics("edge1", values, "q"), ExportMetricsServiceRequest())
    first, second = found.resource_metrics
    attributes = {one.key: one.value.string_value for one in first.resource.attributes}
    assert attributes == {
        "service.name": "kubeedge",
        "k8s.node.name": "edge1",
        "k8s.namespace.name": "default",
        "device.name": "hall",
    }
    metrics = {one.name: one.gauge.data_points[0] for one in first.scope_metrics[0].metrics}
    assert (
        metrics["t"].as_int == 20 and metrics["t"].time_unix_nano == NOON * 1_000_000 and metrics["u"].as_double == 1.5
    )
    (point,) = second.scope_metrics[0].metrics[0].gauge.data_points
    assert point.as_int == 1 and point.attributes[0].value.string_value == "q-7"
    with pytest.raises(ValueRefused):
        formats.metrics("edge1", [value("x", kind="STRING")], "q")


def test_sql_of_tdengine_quotes_what_a_device_says() -> None:
    found = formats.tdengine_insert([value("it's \\ a\nvalue", kind="STRING")])
    assert found == (
        "INSERT INTO `default/hall/t` USING `default/hall` TAGS ('t') "
        f"VALUES ({NOON}, 'default/hall', 't', 'it\\'s \\\\ a value', 'string')"
    )
    with pytest.raises(ValueRefused):
        formats.tdengine_insert([value("x" * 5000)])


def test_a_form_is_that_of_kubeedge() -> None:
    assert parse_qs(formats.form(value("a&b=c")).decode()) == {"t": ["a&b=c"], "time": ["2026-09-21 14:13:20"]}


# The queue


def queue(path: Path, most: int = 1 << 20, age: float = 86400.0) -> PushQueue:
    made = PushQueue(path / "push.db", most, age)
    made.open()
    return made


def test_values_wait_in_order_and_survive_the_process(tmp_path: Path) -> None:
    first = queue(tmp_path)
    first.append([("a", value(str(n))) for n in range(5)] + [("b", value("x"))], NOON)
    (one, *rest) = first.first("a", 2, 1 << 20)
    assert [one.value, *(other.value for other in rest)] == ["0", "1"] and one.device == "hall" and one.time == NOON
    first.done("a", [one])
    uid, size = first.uid, first.bytes  # and it is not closed
    again = queue(tmp_path)
    assert again.uid == uid and again.bytes == size and again.waiting() == {"a": 4, "b": 1}
    values = again.first("a", 9, 1 << 20)
    assert [other.value for other in values] == ["1", "2", "3", "4"] and values[0].number == one.number + 1
    again.done("a", values)
    again.append([("a", value("5"))], NOON)
    assert again.first("a", 9, 1 << 20)[0].number > values[-1].number  # no number is used again
    first.close()
    again.close()
    assert (os.stat(tmp_path / "push.db").st_mode & 0o777) == 0o600


def test_a_batch_has_a_size_and_is_never_empty(tmp_path: Path) -> None:
    made = queue(tmp_path)
    made.append([("a", value("x" * 1000)) for _ in range(9)], NOON)
    assert len(made.first("a", 9, 3000)) == 2 and len(made.first("a", 9, 10)) == 1
    made.close()


def test_one_that_floods_loses_its_own(tmp_path: Path) -> None:
    made = queue(tmp_path, most=64 * 1024)
    made.append([("a", value(f"calm {n}", device="attic")) for n in range(50)], NOON)
    for n in range(40):
        made.append([("a", value(f"{n} " + "x" * 100)) for _ in range(50)], NOON)
        assert made.bytes <= 64 * 1024
    left = made.first("a", 10_000, 1 << 30)
    assert [one.value for one in left if one.device == "attic"] == [f"calm {n}" for n in range(50)]
    assert left[-1].value.startswith("39 ") and made.lost == 2050 - len(left)
    assert queue(tmp_path).bytes == made.bytes
    made.close()


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    made = queue(tmp_path, age=3600.0)
    made.append([("a", value(str(n))) for n in range(600)], NOON)
    for minute in range(4):
        made.append([("a", value("new"))], NOON + DAY + minute)
    assert {one.value for one in made.first("a", 999, 1 << 30)} == {"new"} and made.lost == 600
    made.close()


def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "push.db").write_bytes(b"no database" * 500)
    made = queue(tmp_path)
    made.append([("a", value())], NOON)
    assert made.waiting() == {"a": 1} and (tmp_path / "push.damaged").exists()
    made.close()


def test_a_disk_that_takes_nothing_is_an_error_and_no_half_of_a_commit(tmp_path: Path) -> None:
    made = queue(tmp_path)
    made.append([("a", value("kept"))], NOON)
    other = sqlite3.connect(tmp_path / "push.db", isolation_level=None)
    other.execute(
        "CREATE TRIGGER full BEFORE INSERT ON waiting WHEN NEW.value = 'x' BEGIN SELECT RAISE(FAIL, 'full'); END"
    )
    with pytest.raises(OSError, match="full"):
        made.append([("b", value("y")), ("b", value("x"))], NOON)
    other.close()
    assert made.first("b", 9, 999) == [] and made.waiting() == {"a": 1}
    made.append([("b", value("y"))], NOON)
    assert made.waiting() == {"a": 1, "b": 1}
    made.close()


# Twins


def test_values_with_a_push_method_wait_and_others_do_not() -> None:
    twins = Twins(pushing=True)
    twins.desire(HALL, row(http()))
    assert "pushMethod" not in twins.devices[HALL].properties["t"]  # no mapper sends it again
    assert twins.report(HALL, {"t": "1", "u": "2"}, NOON) == {}
    assert "t" in twins.report(HALL, {"t": "no number"}, NOON)
    assert twins.pushes is not None
    ((spec, one),) = twins.pushes.take()
    assert parsed(spec).kind == "http" and (one.prop, one.value, one.kind, one.time) == ("t", "1", "INT", NOON)
    mapped = Twins()
    mapped.desire(HALL, row(http()))
    assert mapped.devices[HALL].properties["t"]["pushMethod"] == http()


def test_the_device_says_what_is_wrong_with_its_push_method() -> None:
    twins = Twins(pushing=True)
    twins.desire(HALL, row({"http": {"hostName": ""}}))
    twins.report(HALL, {"t": "1"}, NOON)
    reported = json.loads(twins.rows(HALL)[keys.reported("devices", *HALL)] or b"")
    assert (
        reported["refused"] == {"t.pushMethod.http.hostName": "must be a text"}
        and reported["twins"]["t"]["value"] == "1"
    )
    twins.desire(HALL, row(http()))
    assert twins.devices[HALL].refused == {}


def test_what_waits_for_the_disk_is_bounded() -> None:
    twins = Twins(pushing=True)
    twins.desire(
        HALL,
        json.dumps({"metadata": {"uid": "u"}, "properties": {"t": {"type": "STRING", "pushMethod": http()}}}).encode(),
    )
    for n in range(40):
        twins.report(HALL, {"t": f"{n} " + "x" * 60_000}, NOON)
    assert twins.pushes is not None and twins.pushes.lost > 0
    assert sum(len(one.value) for _, one in twins.pushes.take()) < 1_200_000


# Credentials


def test_a_server_gets_the_credentials_of_its_address_alone(tmp_path: Path) -> None:
    path = tmp_path / "push.yaml"
    path.write_text("- {endpoint: 'a:1', userName: me, password: secret}\n- {endpoint: 'b:1', token: abc}\n")
    found = credentials.read(path, "a:1")
    assert (found.user, found.password, found.token) == ("me", "secret", "") and "secret" not in repr(found)
    assert credentials.read(path, "c:1") == credentials.NONE == credentials.read(None, "a:1")
    path.write_text("- {endpoint: 'a:1', password: 7}\n")
    with pytest.raises(Invalid):
        credentials.read(path, "a:1")


# Sending


@contextlib.asynccontextmanager
async def listening(
    port: int, handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, Any]]
) -> AsyncIterator[None]:
    """Each connection has ended at the end of the block."""
    tasks = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await handle(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            await close_writer(writer)

    async with await asyncio.start_server(connected, ADDRESS, port):
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class Web:
    """A server of HTTP that a test makes misbehave."""

    def __init__(self) -> None:
        self.port = ports(1)[0]
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self.refuses: bytes | None = None  # bodies that have this

    def serving(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Until the end of the block."""
        return listening(self.port, lambda reader, writer: serve_connection(reader, writer, self._handle))

    async def _handle(self, request: Request) -> Response:
        body = await request.read(1 << 20)
        if self.refuses is not None and self.refuses in body:
            return Response(400, [], b"no")
        if self.status == 200:
            self.requests.append((request.target, dict(request.headers), body))
        return Response(self.status, [], b"")

    @property
    def values(self) -> list[str]:
        return [parse_qs(body.decode())["t"][0] for _, _, body in self.requests]


def pusher(path: Path, credentials_file: Path | None = None, **more: Any) -> DevicePush:
    made = PushQueue(path / "push.db", more.pop("most", 1 << 20), 86400.0)
    return DevicePush(made, "edge1", credentials_file, wall=lambda: NOON / 1000, backoff=QUICK)


def spec(push: Any) -> str:
    return destination(push).spec


def test_reports_of_a_device_arrive_where_its_push_method_says(tmp_path: Path) -> None:
    async def inside() -> None:
        web, push = Web(), pusher(tmp_path)
        store = await open_sqlite(tmp_path / "store.db")
        twins = DeviceTwins(store, wall=lambda: NOON / 1000, push=push)
        await store.put(keys.desired("devices", *HALL), row(http(web.port)))
        async with web.serving(), running(push, twins):
            for n in range(30):
                refused, kept = twins.report(HALL, {"t": str(n), "u": "1"}, durable=True)
                assert not refused and kept is not None
                await kept
            await until(lambda: len(web.requests) == 30)
            await until(lambda: not push.queue.waiting())
        target, headers, body = web.requests[0]
        assert target == "/data" and headers["x-kubeedge-device"] == "default/hall" and b"time=" in body
        assert headers["idempotency-key"].startswith(push.queue.uid)
        assert web.values == [str(n) for n in range(30)]
        assert len({headers["idempotency-key"] for _, headers, _ in web.requests}) == 30
        text = {family.name: family.samples for family in observe.families(push)}
        assert [sample.value for sample in text["kubeedge_device_push_values_total"]] == [30, 0, 0, 0]
        await store.close()

    asyncio.run(inside())


def test_nothing_is_lost_while_the_server_the_module_and_the_node_are_away(tmp_path: Path) -> None:
    async def inside() -> None:
        web, to = Web(), {"numbers": 0}

        async def some(push: DevicePush, count: int) -> None:
            start = to["numbers"]
            to["numbers"] += count
            await push.append([(spec(http(web.port)), value(str(n))) for n in range(start, start + count)], NOON)

        first = pusher(tmp_path)
        async with running(first):  # no server
            await some(first, 5)
            await until(lambda: bool(first.problems))
        await some(first, 5)  # and the module does not run
        second = pusher(tmp_path)  # as after a crash: nothing was said goodbye to
        async with running(second):
            web.status = 503
            async with web.serving():
                await until(lambda: "503" in str(second.problems))
                await some(second, 5)
                web.status = 200
                await until(lambda: len(web.requests) >= 15)
                await until(lambda: not second.queue.waiting())
        assert web.values == [str(n) for n in range(15)] and not second.problems

    asyncio.run(inside())


def test_what_waits_for_a_server_that_no_device_names_any_more_is_given_up(tmp_path: Path) -> None:
    async def inside() -> None:
        push = pusher(tmp_path)
        to = [http(port) for port in ports(2)]
        gone, kept = map(spec, to)
        await push.append([(one, value(str(n))) for n in range(300) for one in (gone, kept)], NOON)
        store = await open_sqlite(tmp_path / "store.db")
        twins = DeviceTwins(store, wall=lambda: NOON / 1000, push=push)
        assert twins.destinations() is None, "the devices are not known yet"
        push.named = twins.destinations
        await push._give_up()
        await store.put(keys.desired("devices", *HALL), row(to[1]))
        async with running(twins):
            await until(lambda: twins.destinations() == {kept})
            for seconds in (0, 500):
                push._unnamed = {one: since - seconds for one, since in push._unnamed.items()}
                await push._give_up()
                assert push.queue.waiting() == {gone: 300, kept: 300} and set(push._unnamed) == {gone}
            push._unnamed = {one: since - 101 for one, since in push._unnamed.items()}
            await push._give_up()
        assert push.queue.waiting() == {kept: 300} and push.unnamed == 300
        assert push.queue.first(gone, 1, 1000) == [] and len(push.queue.first(kept, 400, 1 << 20)) == 300
        push.queue.close()
        await store.close()

    asyncio.run(inside())


def test_an_answer_that_is_lost_makes_a_value_come_twice_with_one_id(tmp_path: Path) -> None:
    async def inside() -> None:
        seen: list[str] = []

        async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            seen.append(next(line for line in head.split("\r\n") if line.lower().startswith("idempotency-key")))
            if len(seen) > 2:
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            writer.close()

        port = ports(1)[0]
        push = pusher(tmp_path)
        async with listening(port, rude), running(push):
            await push.append([(spec(http(port)), value())], NOON)
            await until(lambda: push.sent == 1)
            await until(lambda: not push.queue.waiting())
        assert len(seen) == 3 and len(set(seen)) == 1

    asyncio.run(inside())


def test_a_value_that_a_server_refuses_goes_and_those_around_it_arrive(tmp_path: Path) -> None:
    async def inside() -> None:
        web, push = Web(), pusher(tmp_path)
        web.refuses = b"f=13i"
        client = {"url": f"http://{ADDRESS}:{web.port}", "org": "o", "bucket": "b"}
        to = spec(
            {"dbMethod": {"influxdb2": {"influxdb2ClientConfig": client, "influxdb2DataConfig": {"fieldKey": "f"}}}}
        )
        async with web.serving(), running(push):
            await push.append([(to, value(str(n), time=NOON + n)) for n in range(30)], NOON)
            await until(lambda: push.sent + push.refused == 30)
            await until(lambda: not push.queue.waiting())
        assert push.refused == 1
        got = [line.split(" f=")[1].split("i")[0] for _, _, body in web.requests for line in body.decode().split("\n")]
        assert got == [str(n) for n in range(30) if n != 13]
        assert web.requests[0][0] == "/api/v2/write?org=o&bucket=b&precision=ms"

    asyncio.run(inside())


def test_servers_that_are_away_hold_up_no_other(tmp_path: Path) -> None:
    """More of them than are sent to at once, which accept connections and say nothing."""

    async def inside() -> None:
        web, push = Web(), pusher(tmp_path)
        holes = ports(12)
        async with contextlib.AsyncExitStack() as stack:
            for port in holes:
                await stack.enter_async_context(listening(port, lambda reader, writer: reader.read()))
            await stack.enter_async_context(web.serving())
            await stack.enter_async_context(running(push))
            await push.append([(spec(http(port, timeout=1)), value()) for port in holes], NOON)
            await until(lambda: len(push.problems) == 12)
            await push.append([(spec(http(web.port)), value(str(n))) for n in range(20)], NOON)
            await until(lambda: len(web.requests) == 20)
            assert len(push.queue.waiting()) >= 12

    asyncio.run(inside())


def test_tdengine_over_its_rest_interface(tmp_path: Path) -> None:
    """A server of the specification: a failure is a 200 with a code."""

    async def inside() -> None:
        statements: list[str] = []
        codes = iter([0, 0x2603])

        async def handle(request: Request) -> Response:
            assert request.target == "/rest/sql/plant" and request.header("authorization") == formats.basic(
                "root", "taos"
            )
            statement = (await request.read(1 << 20)).decode()
            code = next(codes, 0)
            if not code:
                statements.append(statement)
            return Response(200, [("content-type", "application/json")], json.dumps({"code": code, "rows": 1}).encode())

        port = ports(1)[0]
        server = listening(port, lambda reader, writer: serve_connection(reader, writer, handle))
        path = tmp_path / "push.yaml"
        path.write_text(f"- {{endpoint: '{ADDRESS}:{port}', userName: root, password: taos}}\n")
        push = pusher(tmp_path, path)
        to = spec(
            {"dbMethod": {"TDEngine": {"TDEngineClientConfig": {"addr": f"{ADDRESS}:{port}", "dbName": "plant"}}}}
        )
        async with server, running(push):
            await push.append([(to, value("1")), (to, value("2", time=NOON + 1))], NOON)
            await until(lambda: push.sent == 2)
        assert statements[0].startswith("CREATE STABLE IF NOT EXISTS `default/hall`")
        assert statements[-1].startswith("INSERT INTO `default/hall/t`")

    asyncio.run(inside())


@pytest.mark.parametrize("answer", [b"-ERR\r\n" * 9, b"$5\r\nhello\r\n", b"+" + b"x" * 200_000, b"\0\0\0", b""])
def test_a_server_that_is_no_redis_is_an_error_and_no_more(tmp_path: Path, answer: bytes) -> None:
    async def inside() -> None:
        async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(answer)
            writer.close()

        port = ports(1)[0]
        push = pusher(tmp_path)
        async with listening(port, rude), running(push):
            to = spec({"dbMethod": {"redis": {"redisClientConfig": {"addr": f"{ADDRESS}:{port}"}}}})
            await push.append([(to, value())], NOON)
            await until(lambda: bool(push.problems))
            assert push.queue.waiting() == {to: 1} and push.sent == 0

    asyncio.run(inside())

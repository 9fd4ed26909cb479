"""DNS: messages of friends and enemies, the cluster's zone."""

from __future__ import annotations

import ipaddress
import json
import random
import struct
from typing import Any

import pytest

from kubeedge.mesh.dns import message
from kubeedge.mesh.dns.message import Code, Malformed, Type, check_answer, name_of, parse_query, reply, text_of
from kubeedge.mesh.dns.zone import Zone
from kubeedge.mesh.table import MeshTable

HEADER = struct.Struct("!HHHHHH")


def query(name: str, type: int = Type.A, *, id: int = 7, edns: int = 0, flags: int = 0x0100) -> bytes:
    question = message.encode_name(name_of(name)) + struct.pack("!HH", type, 1)
    opt = b"\0" + struct.pack("!HHIH", Type.OPT, edns, 0, 0) if edns else b""
    return HEADER.pack(id, flags, 1, 0, 0, int(bool(edns))) + question + opt


def answer(to: bytes, *records: bytes, code: int = 0, authority: tuple[bytes, ...] = ()) -> bytes:
    parsed = parse_query(to)
    head = HEADER.pack(parsed.id, 0x8180 | code, 1, len(records), len(authority), 0)
    return head + parsed.question + b"".join(records) + b"".join(authority)


def record(type: int, data: bytes, ttl: int = 60, name: bytes = b"\xc0\x0c") -> bytes:
    return name + struct.pack("!HHIH", type, 1, ttl, len(data)) + data


# -- messages ----------------------------------------------------------------------------------------------------------


def test_a_query_is_read_and_answered_in_its_own_spelling() -> None:
    asked = query("web.Default.svc").replace(b"default", b"DeFault")
    parsed = parse_query(asked)
    assert text_of(parsed.name) == "web.default.svc." and parsed.payload == 512 and not parsed.edns
    made = reply(parsed, 0, [message.Record(parsed.name, Type.A, 5, b"\x0a\0\0\1")])
    assert b"DeFault" in made and made.endswith(b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + b"\x0a\0\0\1")
    assert parse_query(query("a.b", edns=4096)).payload == 4096


def test_what_does_not_fit_is_truncated_to_its_question() -> None:
    parsed = parse_query(query("web", edns=512))
    many = [message.Record(parsed.name, Type.A, 5, bytes(4))] * 60
    cut = reply(parsed, 0, many, limit=512)
    assert HEADER.unpack_from(cut)[1] & 0x0200 and HEADER.unpack_from(cut)[3] == 0 and len(cut) < 512
    assert HEADER.unpack_from(reply(parsed, 0, many))[3] == 60


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 12,
        query("a")[:-1],
        query("a", flags=0x8100),
        HEADER.pack(1, 0x100, 2, 0, 0, 0) + query("a")[12:],
        HEADER.pack(1, 0x100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",  # a name that points to itself
        HEADER.pack(1, 0x100, 1, 0, 0, 0) + b"\x40" + b"a" * 64 + b"\0\0\1\0\1",
        HEADER.pack(1, 0x100, 1, 0, 0, 0) + (b"\x3f" + b"a" * 63) * 5 + b"\0\0\1\0\1",  # 320 bytes of name
        query("a", edns=1232)[:-1],
        query("a") + bytes(2000),
        HEADER.pack(1, 0x100, 1, 0, 0, 2) + query("a")[12:] + (b"\0" + struct.pack("!HHIH", 41, 512, 0, 0)) * 2,
    ],
)
def test_a_malformed_query_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_query(data)


def test_an_answer_counts_only_for_the_question_that_was_asked() -> None:
    asked = query("example.com", id=9)
    good = answer(asked, record(Type.A, b"\1\2\3\4", ttl=30), record(Type.A, b"\1\2\3\5", ttl=20))
    said = check_answer(good, 9, parse_query(asked).question)
    assert said.ttl == 20 and len(said.lifetimes) == 2
    for id, question in ((10, parse_query(asked).question), (9, parse_query(query("evil.com")).question)):
        with pytest.raises(Malformed):
            check_answer(good, id, question)
    soa = record(Type.SOA, b"\0\0" + struct.pack("!5I", 1, 2, 3, 4, 11), ttl=900)
    assert check_answer(answer(asked, code=3, authority=(soa,)), 9, parse_query(asked).question).ttl == 11
    assert check_answer(answer(asked, code=2), 9, parse_query(asked).question).ttl == 0, "a failure is not kept"


def test_pointers_lead_backwards_and_lengths_end_in_the_message() -> None:
    asked = query("example.com", id=9)
    question = parse_query(asked).question
    for bad in (
        record(1, bytes(4), name=b"\xc0\xff"),
        record(1, bytes(4), name=b"\xff\xff"),
        record(1, bytes(4))[:-1],
        b"\x80",
    ):
        with pytest.raises(Malformed):
            check_answer(answer(asked, bad), 9, question)


def test_garbage_in_the_shape_of_dns_raises_malformed_and_nothing_else() -> None:
    seed = 20261128
    rng = random.Random(seed)
    good = [
        query("web.default.svc.cluster.local", edns=1232),
        answer(query("example.com"), record(1, bytes(4)), record(33, bytes(9))),
    ]
    question = parse_query(query("example.com")).question
    for _ in range(5_000):
        data = bytearray(rng.choice(good))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 0x3F, 0x40, 0xC0, 0xFF, rng.randrange(256)))
        data = data[: rng.randint(0, len(data))] if rng.random() < 0.3 else data
        for read in (parse_query, lambda d: check_answer(d, 7, question), lambda d: list(message.records(d))):
            try:
                read(bytes(data))
            except Malformed:
                pass
        assert len(message.refusal(bytes(data), Code.FORMERR)) in (0, 12)


# -- the zone ----------------------------------------------------------------------------------------------------------


def put(table: MeshTable, key: str, value: Any) -> None:
    table.apply(key, json.dumps(value).encode())


@pytest.fixture
def zone() -> Zone:
    table = MeshTable("edge1", [ipaddress.ip_network("10.244.0.0/16")])
    web = {"clusterIPs": ["10.96.0.1", "fd96::1"], "ports": [{"name": "http", "port": 80}], "selector": {"app": "web"}}
    put(table, "/desired/services/default/web", {"spec": web})
    db = {"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}
    put(table, "/desired/services/store/db", {"spec": db})
    inner = {"labels": {"kubernetes.io/service-name": "db"}}
    endpoints: list[Any] = [
        {"addresses": ["10.244.2.2"], "hostname": "db-0", "nodeName": "edge2"},
        {"addresses": ["10.244.2.3"], "conditions": {"ready": True}},
        {"addresses": ["10.244.2.4"], "conditions": {"ready": False}},
    ]
    value = {"metadata": inner, "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "sql", "port": 5432}]}
    put(table, "/desired/endpointslices/store/db-1", value)
    for name, target in (("out", "www.example.com"), ("inside", "web.default.svc.cluster.local"), ("bad", "a..b")):
        put(table, f"/desired/services/default/{name}", {"spec": {"type": "ExternalName", "externalName": target}})
    return Zone(table, "cluster.local")


def found(zone: Zone, name: str, type: int = Type.A) -> tuple[int, list[bytes]]:
    answered = zone.find(name_of(name), type)
    assert answered is not None
    return answered.code, [r.data for r in answered.answers]


def test_names_of_services(zone: Zone) -> None:
    assert found(zone, "web.default.svc.cluster.local") == (0, [bytes((10, 96, 0, 1))])
    assert found(zone, "web.default.svc.cluster.local", Type.AAAA) == (0, [ipaddress.ip_address("fd96::1").packed])
    assert found(zone, "web.default.svc.cluster.local", Type.TXT) == (0, [])
    (srv,) = found(zone, "_http._tcp.web.default.svc.cluster.local", Type.SRV)[1]
    assert srv == struct.pack("!HHH", 0, 100, 80) + message.encode_name(name_of("web.default.svc.cluster.local"))
    for name in ("web.other.svc", "nothing.default.svc", "a.web.default.svc", "_x._tcp.web.default.svc", "x", "a.b.c"):
        code, answers = found(zone, f"{name}.cluster.local")
        assert (code, answers) == (Code.NXDOMAIN, []), name
    for name in ("svc.cluster.local", "default.svc.cluster.local", "cluster.local"):
        assert found(zone, name) == (0, []), f"{name} exists, without an address"
    assert zone.find(name_of("www.example.com"), Type.A) is None


def test_a_no_says_for_how_long(zone: Zone) -> None:
    for name in ("nothing.default.svc.cluster.local", "web.default.svc.cluster.local"):
        answered = zone.find(name_of(name), Type.TXT)
        assert answered is not None and [r.type for r in answered.authority] == [Type.SOA]


def test_a_headless_service_is_its_ready_endpoints(zone: Zone) -> None:
    two, three = bytes((10, 244, 2, 2)), bytes((10, 244, 2, 3))
    assert found(zone, "db.store.svc.cluster.local") == (0, [two, three])
    assert found(zone, "db-0.db.store.svc.cluster.local") == (0, [two])
    assert found(zone, "10-244-2-3.db.store.svc.cluster.local") == (0, [three])
    assert found(zone, "10-244-2-4.db.store.svc.cluster.local")[0] == Code.NXDOMAIN
    targets = found(zone, "_sql._tcp.db.store.svc.cluster.local", Type.SRV)[1]
    assert [message.skip_name(t, 6) == len(t) for t in targets] == [True, True] and b"db-0" in targets[0]
    assert found(zone, "2.2.244.10.in-addr.arpa", Type.PTR)[1] == [
        message.encode_name(name_of("db-0.db.store.svc.cluster.local"))
    ]
    assert found(zone, "1.0.96.10.in-addr.arpa", Type.PTR)[1] == [
        message.encode_name(name_of("web.default.svc.cluster.local"))
    ]
    assert zone.find(name_of("8.8.8.8.in-addr.arpa"), Type.PTR) is None, "addresses of others are upstream's"


def test_an_external_name_is_another_name(zone: Zone) -> None:
    answered = zone.find(name_of("out.default.svc.cluster.local"), Type.A)
    assert answered is not None and answered.target == name_of("www.example.com")
    assert found(zone, "bad.default.svc.cluster.local")[0] == Code.NXDOMAIN
    assert found(zone, "1-2-3-4.default.pod.cluster.local") == (0, [bytes((1, 2, 3, 4))])
    assert found(zone, "dns-version.cluster.local", Type.TXT) == (0, [b"\x051.1.0"])

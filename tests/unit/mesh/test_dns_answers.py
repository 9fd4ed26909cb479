"""Kept answers in C: what is found is what Python would say, for another client, later; bounds; hostile queries."""

from __future__ import annotations

import random
import struct

import pytest
from kubeedge._fastpath.dns import Answers

from kubeedge.mesh.dns import message
from kubeedge.mesh.dns.message import Malformed, Record, Type, check_answer, name_of, parse_query, reply
from tests.unit.mesh.test_dns import HEADER, answer, query, record


def kept(*names: str, answers: Answers | None = None) -> Answers:
    found = Answers(entries=64, most=64 * 1024) if answers is None else answers
    for name in names:
        for edns in (0, 1232):
            asked = query(name, edns=edns)
            parsed = parse_query(asked)
            assert found.put(asked, reply(parsed, 0, [Record(parsed.name, Type.A, 5, bytes(4))]), (), 0.0, 60.0)
    return found


def test_an_answer_is_for_the_client_that_asks_in_its_own_spelling() -> None:
    answers = kept("web.default.svc")
    asked = query("web.default.svc", id=0xBEEF).replace(b"default", b"DeFauLT")
    found = answers.find(asked, 1.0, whole=False)
    assert found == reply(parse_query(asked), 0, [Record(name_of("web.default.svc"), Type.A, 5, bytes(4))])
    for flags in (0x0000, 0x0100, 0x0010, 0x0110):  # RD and CD are the client's
        asked = query("web.default.svc", flags=flags)
        found = answers.find(asked, 1.0, whole=False)
        assert found == reply(parse_query(asked), 0, [Record(name_of("web.default.svc"), Type.A, 5, bytes(4))])


def test_an_answer_with_edns_is_for_those_who_ask_with_edns() -> None:
    answers = Answers(entries=8, most=8192)
    asked = query("web", edns=4096)
    answers.put(asked, reply(parse_query(asked), 0), (), 0.0, 60.0)
    assert answers.find(query("web"), 1.0, whole=False) is None
    assert answers.find(query("web", type=Type.AAAA, edns=4096), 1.0, whole=False) is None
    cookie = query("web")[:-4] + struct.pack("!HH", Type.A, 1)
    cookie = (
        cookie[:10] + b"\0\1" + cookie[12:] + b"\0" + struct.pack("!HHIH", 41, 512, 0x8000, 12)
    )  # DO, and an option
    cookie += struct.pack("!HH", 10, 8) + bytes(8)
    assert answers.find(cookie, 1.0, whole=False) == reply(parse_query(cookie), 0)


def test_lifetimes_run_on_and_end() -> None:
    answers = Answers(entries=8, most=8192)
    asked = query("example.com")
    data = answer(asked, record(Type.A, b"\1\2\3\4", ttl=60), record(Type.A, b"\1\2\3\5", ttl=20))
    lifetimes = check_answer(data, 7, parse_query(asked).question).lifetimes
    assert answers.put(asked, data, lifetimes, 100.0, 120.0)
    found = answers.find(query("example.com", id=99), 113.5, whole=False)
    assert found is not None and check_answer(found, 99, parse_query(asked).question).ttl == 7
    assert answers.find(asked, 120.0, whole=False) is None and answers.size == len(answers) == 0


@pytest.mark.parametrize("edns", [0, 512, 1232, 4096])
def test_what_a_client_cannot_take_is_truncated_as_python_does_it(edns: int) -> None:
    answers = Answers(entries=8, most=1 << 20)
    asked = query("many", edns=edns)
    parsed = parse_query(asked)
    many = [Record(parsed.name, Type.A, 5, bytes(4))] * 100
    answers.put(asked, reply(parsed, 0, many), (), 0.0, 60.0)
    limit = min(parsed.payload, message.MAX_UDP)
    assert answers.find(asked, 1.0, whole=False) == reply(parsed, 0, many, limit=limit)
    assert answers.find(asked, 1.0, whole=True) == reply(parsed, 0, many)


def test_answers_are_kept_within_their_bounds_and_the_one_that_is_used_stays() -> None:
    answers = Answers(entries=16, most=4096)
    kept("used", answers=answers)
    for n in range(100):
        kept(f"n{n}", answers=answers)
        assert answers.find(query("used"), 1.0, whole=False) and len(answers) <= 16
    large = query("large")
    answers.put(large, reply(parse_query(large), 0), (), 0.0, 60.0)
    many = [Record(name_of("x"), Type.TXT, 5, bytes(100))] * 10
    assert not answers.put(large, reply(parse_query(large), 0, many), (), 0.0, 60.0)
    assert answers.find(large, 1.0, whole=True) is None, "nothing older is left for it"
    assert not answers.put(large, reply(parse_query(large), 0), (), 10.0, 10.0), "nothing is kept for no time"
    answers.clear()
    assert len(answers) == answers.size == 0 and answers.find(query("used"), 1.0, whole=False) is None


def test_no_answer_to_another_question_and_no_lifetime_outside_is_kept() -> None:
    answers, asked = Answers(entries=8, most=8192), query("web")
    other = reply(parse_query(query("wep")), 0)
    good = reply(parse_query(asked), 0, [Record(name_of("web"), Type.A, 5, bytes(4))])
    for data, lifetimes in (
        (other, ()), (asked, ()), (good[:15], ()), (b"", ()), (good, (len(good) - 3,)), (good, (4,)), (good, (20,) * 20),
    ):  # fmt: skip
        assert not answers.put(asked, data, lifetimes, 0.0, 60.0)
    with pytest.raises(OverflowError):
        answers.put(asked, good, (1 << 16,), 0.0, 60.0)
    assert len(answers) == 0


def test_what_python_would_refuse_or_answer_otherwise_is_never_found() -> None:
    answers = kept("web.default.svc")
    good = query("web.default.svc", edns=1232)
    for asked in (
        b"",
        good[:11],
        good[:-1],
        good + b"\0",
        good + bytes(2000),
        query("web.default.svc", flags=0x8100),  # an answer
        query("web.default.svc", flags=0x2900),  # an operation that is no query
        HEADER.pack(7, 0x100, 2, 0, 0, 0) + good[12:],
        HEADER.pack(7, 0x100, 1, 1, 0, 0) + good[12:],
        HEADER.pack(7, 0x100, 1, 0, 0, 2) + good[12:] + good[-11:],
        HEADER.pack(7, 0x100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
        HEADER.pack(7, 0x100, 1, 0, 0, 0) + b"\x40" + b"a" * 64 + b"\0\0\1\0\1",
        HEADER.pack(7, 0x100, 1, 0, 0, 0) + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1",
        good[:-5] + b"\1" + good[-4:],  # version 1 of EDNS
        good[:-10].replace(b"\0\1\0\1", b"\0\1\0\3"),
    ):
        assert answers.find(asked, 1.0, whole=False) is None, asked


def test_the_longest_name_is_kept_and_one_byte_more_is_no_name() -> None:
    answers = Answers(entries=8, most=8192)
    for last, fits in ((61, True), (62, False)):
        name = b"".join(bytes((n,)) + b"a" * n for n in (63, 63, 63, last)) + b"\0"
        asked = HEADER.pack(7, 0x100, 1, 0, 0, 0) + name + b"\0\1\0\1"
        if fits:
            assert answers.put(asked, reply(parse_query(asked), 0), (), 0.0, 60.0)
        else:
            with pytest.raises(Malformed):
                parse_query(asked)
        assert (answers.find(asked, 1.0, whole=False) is not None) == fits


def test_damaged_queries_find_what_python_would_answer_or_nothing() -> None:
    rng = random.Random(20261129)
    names = ["web.default.svc", "a", "x.y.z.example.com"]
    answers = kept(*names)
    hits = 0
    for _ in range(20_000):
        data = bytearray(query(rng.choice(names), edns=rng.choice((0, 512, 1232)), id=rng.randrange(1 << 16)))
        for _ in range(rng.randint(0, 2)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        asked = bytes(data[: rng.randint(0, len(data))] if rng.random() < 0.1 else data)
        found = answers.find(asked, 1.0, whole=False)
        if found is not None:
            parsed = parse_query(asked)
            assert not parsed.opcode and parsed.klass == 1 and parsed.type == Type.A and not parsed.edns_version
            assert found == reply(parsed, 0, [Record(parsed.name, Type.A, 5, bytes(4))])
            hits += 1
    assert hits > 5_000

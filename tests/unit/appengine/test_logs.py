"""Container logs as kubectl reads them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kubeedge.appengine import logs
from kubeedge.appengine.logs import LogOptions
from kubeedge.appengine.server import KubeletServer
from kubeedge.kit.http1 import Request, Response
from tests.kit import virtual_time

LINES = [
    "2026-11-22T07:24:54.100000000+00:00 stdout F one",
    "2026-11-22T07:24:55.200000000+00:00 stderr F two",
    "2026-11-22T07:24:56.300000000+00:00 stdout P thr",
    "2026-11-22T07:24:56.300000001+00:00 stdout F ee",
    "2026-11-22T07:24:57.400000000+00:00 stdout F four",
]


async def read_all(path: Path, options: LogOptions) -> bytes:
    return b"".join([part async for part in logs.read(path, options, lambda: False)])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    path.write_text("\n".join(LINES) + "\n")
    return path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (LogOptions(), b"one\ntwo\nthree\nfour\n"),
        (LogOptions(tail=2), b"three\nfour\n"),
        (LogOptions(tail=0), b""),
        (LogOptions(tail=100), b"one\ntwo\nthree\nfour\n"),
        (LogOptions(limit_bytes=6), b"one\ntw"),
        (LogOptions(limit_bytes=0), b""),
        (LogOptions(since=1795332295.9), b"three\nfour\n"),
        (LogOptions(tail=1, timestamps=True), b"2026-11-22T07:24:57.400000000Z four\n"),
    ],
)
def test_options_of_kubectl_logs(log: Path, options: LogOptions, expected: bytes) -> None:
    assert asyncio.run(read_all(log, options)) == expected


def test_the_last_lines_are_no_more_than_were_asked_for_while_others_are_written(log: Path) -> None:
    """Between the look for them and the answer; who follows gets them, too."""

    async def tail(*, follow: bool) -> bytes:
        found, more = b"", f"{LINES[0]}\n" * 3

        def runs() -> bool:
            with log.open("a") as file:
                file.write(more)
            return False

        async for part in logs.read(log, LogOptions(tail=1, follow=follow), runs):
            found += part
        return found

    assert asyncio.run(tail(follow=False)) == b"four\n"
    assert asyncio.run(tail(follow=True)) == b"one\n" * 4


def test_why_there_is_no_log_is_plain_text_which_an_api_server_quotes() -> None:
    async def nothing() -> AsyncIterator[bytes]:
        for part in ():
            yield part

    engine: Any = SimpleNamespace(find_log=lambda *_, previous: "container is waiting to start")
    request = Request("GET", "/containerLogs/default/web/c", [], lambda name: None, nothing())
    answer = asyncio.run(KubeletServer(engine).answer(request))
    assert isinstance(answer, Response) and answer.status == 400 and answer.body == b"container is waiting to start"
    assert dict(answer.headers)["content-type"].startswith("text/plain")


def test_one_stream_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(
        "2026-11-22T07:24:55.1+00:00 stdout F out\n2026-11-22T07:24:55.2+00:00 stderr P half \n"
        "2026-11-22T07:24:55.3+00:00 stdout F more\n2026-11-22T07:24:55.4+00:00 stderr F a line\n"
    )
    assert asyncio.run(read_all(path, LogOptions(stream=b"stdout"))) == b"out\nmore\n"
    assert asyncio.run(read_all(path, LogOptions(stream=b"stderr"))) == b"half a line\n"


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert asyncio.run(read_all(tmp_path / "none.log", LogOptions())) == b""
    assert asyncio.run(read_all(tmp_path / "none.log", LogOptions(tail=5))) == b""


def test_a_line_that_is_no_log_line_is_passed_over_and_half_a_line_waits(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"garbage\n\n" + LINES[0].encode() + b"\n2026-11-22T07:24:57.4+00:00 stdout F hal")
    assert asyncio.run(read_all(path, LogOptions())) == b"one\n"


def test_following_shows_what_comes_past_rotations_until_the_container_ends(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    alive = True

    def line(text: str) -> str:
        return f"2026-11-22T07:24:54.1+00:00 stdout F {text}\n"

    async def scenario() -> bytes:
        nonlocal alive
        out = b""
        path.write_text(line("a"))

        async def write() -> None:
            nonlocal alive
            await asyncio.sleep(1)
            with path.open("a") as file:
                file.write(line("b"))
            path.replace(path.with_suffix(".log.1"))  # what rotation does; the rest of the old file still counts
            with path.with_suffix(".log.1").open("a") as file:
                file.write(line("c"))
            path.write_text(line("d"))
            await asyncio.sleep(1)
            with path.open("a") as file:
                file.write(line("e"))
            alive = False

        writing = asyncio.create_task(write())
        async for part in logs.read(path, LogOptions(follow=True), lambda: alive):
            out += part
        await writing
        return out

    assert virtual_time.run(scenario()) == b"a\nb\nc\nd\ne\n"


def test_rotation_moves_a_full_log_aside_and_asks_for_a_new_one(tmp_path: Path) -> None:
    path, asked = tmp_path / "0.log", []
    path.write_bytes(b"x" * 99)
    assert not logs.rotate(path, 100, lambda: asked.append(1)) and not asked
    path.write_bytes(b"x" * 100)
    assert logs.rotate(path, 100, lambda: asked.append(1)) and asked
    assert (tmp_path / "0.log.1").stat().st_size == 100 and not path.exists()


def test_clients_that_follow_and_do_not_read_keep_no_rotated_logs_on_disk(tmp_path: Path) -> None:
    """Each held a log of its own, of any size, that nobody could see in the directory."""
    path = tmp_path / "0.log"

    def line(text: str) -> bytes:
        return f"2026-11-22T07:24:54.1+00:00 stdout F {text}\n".encode()

    async def scenario() -> None:
        files, clients = [], []
        for n in range(8):
            path.write_bytes(line(f"{n} " + "x" * 1000) * 100)
            file = path.open("rb")  # it stays, whoever removes its name
            files.append(file)
            client = logs.read(path, LogOptions(follow=True), lambda: False)
            await anext(client)  # and then it does not read
            clients.append(client)
            assert logs.rotate(path, 1000, lambda: None)
        kept = [os.fstat(file.fileno()).st_size for file in files]
        assert kept[:-1] == [0] * 7 and kept[-1] > 100_000  # the one that a user still can see
        path.write_bytes(line("newest"))
        for client in clients:  # who reads again goes on with what there is; half a line is nobody's
            rest = b"".join([part async for part in client])
            assert rest.endswith(b"newest\n") and all(
                one.strip(b"x") in (b"newest", *(b"%d " % n for n in range(8))) for one in rest.splitlines()
            )
        for file in files:
            file.close()

    asyncio.run(scenario())


def test_logs_of_earlier_runs_go_from_the_disk_though_somebody_follows_them(tmp_path: Path) -> None:
    with (tmp_path / "0.log").open("w+b") as followed:
        followed.write(b"x" * 1000)
        followed.flush()
        logs.prune(tmp_path, 2)
        assert os.fstat(followed.fileno()).st_size == 0 and not (tmp_path / "0.log").exists()


@pytest.mark.parametrize(
    ("delay", "growth", "expected"),
    [(10.0, 0, 10.0), (1.0, 0, 2.0), (5.0, 0, 10.0), (10.0, 10_000_000, 2.5), (10.0, 100_000_000, 1.0), (10.0, 1, 10.0)],
)  # fmt: skip
def test_the_next_look_comes_before_a_log_outgrows_its_limit_and_at_least_every_ten_seconds(
    delay: float, growth: int, expected: float
) -> None:
    assert logs.next_check(delay, growth, 10_000_000) == expected


def test_logs_of_the_last_two_runs_are_kept(tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / f"{n}.log").touch()
    (tmp_path / "1.log.1").touch()
    logs.prune(tmp_path, 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3.log", "4.log"]
    logs.prune(tmp_path / "none", 4)


@pytest.mark.parametrize("follow", [False, True])
def test_a_log_that_is_rotated_while_its_last_lines_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, follow: bool
) -> None:
    path, found = tmp_path / "0.log", logs._seek_tail
    path.write_text("".join(f"2026-11-22T07:24:56.1Z stdout F {n}\n" for n in range(1000)))

    def rotated(*arguments: Any) -> int:
        position = found(*arguments)
        path.rename(tmp_path / "0.log.1")
        path.write_text("2026-11-22T07:24:57.1Z stdout F new\n")
        return position

    monkeypatch.setattr(logs, "_seek_tail", rotated)
    shown = asyncio.run(read_all(path, LogOptions(tail=2, follow=follow)))
    assert shown == (b"998\n999\nnew\n" if follow else b"998\n999\n")


@pytest.mark.parametrize("tail", [0, 1, 2])
def test_a_text_that_looks_like_a_tag_is_a_text(tmp_path: Path, tail: int) -> None:
    """`kubectl logs --tail` of a container that writes " P " itself."""
    path = tmp_path / "0.log"
    path.write_text("".join(f"2026-11-22T07:24:5{n}.100000000+00:00 stdout F a P {n}\n" for n in range(5)))
    expected = "".join(f"a P {n}\n" for n in range(5 - tail, 5))
    assert asyncio.run(read_all(path, LogOptions(tail=tail))).decode() == expected


def test_the_termination_message_of_a_container(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    assert logs.last_words(path) == ""
    path.write_text("".join(f"2026-11-22T07:24:54.1+00:00 stderr F line {n}\n" for n in range(5000)))
    said = logs.last_words(path)
    assert said.splitlines()[-1] == "line 4999" and len(said.splitlines()) == 80
    path.write_text(
        "2026-11-22T07:24:54.1+00:00 stderr F " + "x" * 9000 + "\n2026-11-22T07:24:54.1+00:00 stderr F end\n"
    )
    assert len(logs.last_words(path)) <= 2048 and logs.last_words(path).endswith("end\n")

"""Log lines, tasks, joined streams."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import socket
from collections.abc import Iterator

import pytest

from kubeedge.errors import Misuse
from kubeedge.kit import logs, streams
from kubeedge.kit.signal import Signal
from kubeedge.kit.streams import close_writer, reset_writer, splice
from kubeedge.kit.tasks import TaskSet, cancel_and_wait


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root, raising = logging.getLogger(), logging.raiseExceptions
    level, stream = root.level, io.StringIO()
    yield stream
    for handler in [h for h in root.handlers if getattr(h, "_kubeedge", False)]:
        root.removeHandler(handler)
    root.setLevel(level)
    logging.raiseExceptions = raising


def test_a_record_is_one_line_whatever_a_peer_put_into_it(lines: io.StringIO) -> None:
    logs.setup("info", stream=lines)
    logs.setup("info", stream=lines)  # the last call counts: one line, not two
    logging.getLogger("kubeedge.hub").info("attached name=%s", "x\r\n2026 error kubeedge: forged\x1b[2J\u2028é")
    logging.getLogger("kubeedge.hub").debug("not this one")
    [line] = lines.getvalue().splitlines()
    moment, level, logger, text = line.split(" ", 3)
    assert (len(moment), level, logger) == (24, "info", "kubeedge.hub:")
    assert text == "attached name=x\\r\\n2026 error kubeedge: forged\\x1b[2J\\u2028é"


def test_a_traceback_stays_on_the_line_of_its_record(lines: io.StringIO) -> None:
    logs.setup("warning", stream=lines)
    try:
        raise ValueError("of two\nlines")
    except ValueError:
        logging.getLogger("kubeedge.x").exception("it failed")
    [line] = lines.getvalue().splitlines()
    assert " error kubeedge.x: it failed\\nTraceback" in line and line.endswith("ValueError: of two\\nlines")


def test_a_huge_line_is_cut(lines: io.StringIO) -> None:
    logs.setup("info", stream=lines)
    logging.getLogger("kubeedge.x").info("x" * 1_000_000)
    assert len(lines.getvalue()) < 17_000


def test_json_lines_have_the_same_parts(lines: io.StringIO) -> None:
    logs.setup("info", json=True, stream=lines)
    logging.getLogger("kubeedge.x").warning("one\ntwo")
    record = json.loads(lines.getvalue())
    assert record.pop("time").endswith("Z")
    assert record == {"level": "warning", "logger": "kubeedge.x", "message": "one\ntwo"}


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="'loud' is not one of debug, info, warning, error"):
        logs.setup("loud")


def test_a_moment_is_written_in_utc() -> None:
    assert logs.moment(1_700_000_000.9996) == "2023-11-14T22:13:20.999Z"


def test_a_task_that_fails_is_logged_and_its_neighbours_live(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise RuntimeError("broken")

    async def run() -> None:
        async with TaskSet("test") as tasks:
            neighbour = tasks.start(asyncio.sleep(3600), "neighbour")
            await asyncio.wait((tasks.start(fails(), "failing"),))
            await asyncio.sleep(0)
            assert len(tasks) == 1 and not neighbour.done()
        assert neighbour.cancelled() and len(tasks) == 0
        late = asyncio.sleep(0)
        with pytest.raises(Misuse, match="test has ended"):
            tasks.start(late, "late")

    asyncio.run(run())
    assert "task failed name=failing" in caplog.text and "broken" in caplog.text


def test_a_task_set_waits_for_what_its_tasks_still_have_to_do() -> None:
    done = []

    async def careful() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            done.append(True)

    async def run() -> None:
        async with TaskSet("test") as tasks:
            tasks.start(careful(), "careful")
            await asyncio.sleep(0)

    asyncio.run(run())
    assert done == [True]


def test_cancelling_reports_what_fails_on_its_way_out(caplog: pytest.LogCaptureFixture) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise RuntimeError("on the way out")

    async def run() -> None:
        task = asyncio.create_task(stubborn(), name="stubborn")
        await asyncio.sleep(0)
        await cancel_and_wait(task)
        await cancel_and_wait()

    asyncio.run(run())
    assert "on the way out" in caplog.text


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def pair() -> tuple[Streams, Streams]:
    ours, theirs = socket.socketpair()
    return await asyncio.open_connection(sock=ours), await asyncio.open_connection(sock=theirs)


def test_joined_streams_pass_bytes_and_ends() -> None:
    async def run() -> None:
        (a, a_far), (b, b_far) = await pair(), await pair()
        joined = asyncio.create_task(splice(a_far, b_far))
        a[1].write(b"question")
        a[1].write_eof()
        assert await b[0].read() == b"question"
        b[1].write(b"answer")
        b[1].write_eof()
        assert await a[0].read() == b"answer"
        await asyncio.wait_for(joined, 60)
        for _, writer in (a, a_far, b, b_far):
            await close_writer(writer)

    asyncio.run(run())


def test_who_reads_slowly_gets_the_end_too_and_who_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of which 60 KB are still here when the connection is closed."""
    size = 60_000

    async def close(read: int) -> int:
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        theirs.setblocking(False)
        got = 0

        def taken(writer: asyncio.StreamWriter) -> tuple[int, int]:
            """After each look for progress the peer reads a little."""
            nonlocal got
            found = look(writer)
            with contextlib.suppress(BlockingIOError):
                got += len(theirs.recv(read)) if read else 0
            return found

        with theirs:
            _, writer = await asyncio.open_connection(sock=ours)
            writer.write(bytes(size))
            assert writer.transport.get_write_buffer_size() > 2 * read
            monkeypatch.setattr(streams, "_taken", taken)
            await streams.close_writer(writer, timeout=0.01)
            with contextlib.suppress(ConnectionResetError, BlockingIOError):
                while data := theirs.recv(65536):
                    got += len(data)
        return got

    look = streams._taken
    assert asyncio.run(close(16_000)) == size
    assert asyncio.run(close(0)) < size


def test_joined_streams_stop_the_fast_side_for_the_slow_one() -> None:
    async def run() -> None:
        (a, a_far), (b, b_far) = await pair(), await pair()
        b[1].transport.pause_reading()  # type: ignore[attr-defined]
        joined = asyncio.create_task(splice(a_far, b_far))

        async def flood() -> None:
            for _ in range(1000):
                a[1].write(bytes(65536))
                await a[1].drain()

        flooding = asyncio.create_task(flood())
        await asyncio.sleep(0.2)
        assert not flooding.done() and b_far[1].transport.get_write_buffer_size() < 1_000_000
        await cancel_and_wait(flooding, joined)
        for _, writer in (a, a_far, b, b_far):
            writer.transport.abort()
            await close_writer(writer)

    asyncio.run(run())


def test_joined_streams_end_when_one_breaks() -> None:
    async def run() -> None:
        server_side: asyncio.Queue[Streams] = asyncio.Queue()
        async with await asyncio.start_server(lambda r, w: server_side.put_nowait((r, w)), "127.0.0.1", 0) as server:
            (a, a_far), b = await pair(), await asyncio.open_connection(*server.sockets[0].getsockname())
            b_far = await server_side.get()
            joined = asyncio.create_task(splice(a_far, b_far))
            reset_writer(b[1])
            await asyncio.wait_for(joined, 60)
            for _, writer in (a, a_far, b, b_far):
                await close_writer(writer)

    asyncio.run(run())


def test_a_signal_wakes_its_waiter_remembers_and_has_one_waiter() -> None:
    async def scenario() -> None:
        signal = Signal()
        waiting = asyncio.create_task(signal.wait())
        await asyncio.sleep(0)
        with pytest.raises(Misuse):
            await signal.wait()
        signal.set()
        signal.clear()
        await waiting  # it was set, though not any more
        signal.set()
        await signal.wait()
        assert signal.is_set()
        signal.clear()
        cancelled = asyncio.create_task(signal.wait())
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        signal.set()  # nobody waits any more, and that is no error
        await signal.wait()

    asyncio.run(scenario())

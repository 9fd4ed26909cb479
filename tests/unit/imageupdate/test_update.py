"""A bundle into the slot that does not run, from files and a real HTTP server: nothing that is not verified is written, and what was begun goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kubeedge.errors import Conflict, Invalid, NotFound, Unavailable
from kubeedge.imageupdate import card, core, driver, source
from kubeedge.imageupdate.bundle import CHUNK
from kubeedge.imageupdate.card import Card
from kubeedge.imageupdate.core import SlotLayout, UpdateOutcome
from kubeedge.imageupdate.source import FileSource, HttpSource, open_source
from tests.kit.card_images import FIRST, SLOT, contents, disk, machine, manifest, packed

OLD, NEW = contents(1), contents(2)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Card]:
    disk(tmp_path / "disk", OLD)
    found = Card(tmp_path / "disk")
    yield found
    found.close()


def quiet(text: str) -> None:
    pass


def update(
    own: Card, tmp_path: Path, data: bytes, *, running: int = 0, say: Callable[[str], None] = quiet, again: bool = False
) -> core.Slots:
    (tmp_path / "bundle").write_bytes(data)
    with closing(FileSource(tmp_path / "bundle")) as found:
        return driver.update(found, own, running, machine(5), say, again=again)


def test_the_other_slot_has_it_and_is_tried_next(own: Card, tmp_path: Path) -> None:
    slots = update(own, tmp_path, packed(NEW, manifest(NEW, 6)))
    assert own.record() == slots and (slots.armed, slots.trial, slots.tries, slots.good) == (1, 1, 2, 0)
    assert own.read(1, 0, len(NEW)) == NEW and own.read(0, 0, len(OLD)) == OLD
    layout = slots.layouts[1]
    assert layout.kernel == FIRST + SLOT // 512 + 16 and slots.images[1] == manifest(NEW, 6).image()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (packed(NEW, manifest(NEW, 4)), "older"),
        (packed(NEW, manifest(NEW, 6, "rpi4")), "board"),
        (b"PK\3\4" + bytes(100), "no bundle"),
        (packed(NEW)[:40], "truncated"),
        (packed(NEW)[:300], "truncated"),
        (packed(contents(3, SLOT + 4096), manifest(contents(3, SLOT + 4096), 6)), "slot"),
        (packed(NEW, manifest(NEW, 6)).replace(b"tiny", b"tinx"), "not signed"),
    ],
)
def test_what_this_machine_does_not_take_changes_nothing(own: Card, tmp_path: Path, data: bytes, why: str) -> None:
    before = (tmp_path / "disk").read_bytes()
    with pytest.raises(Invalid, match=why):
        update(own, tmp_path, data)
    assert (tmp_path / "disk").read_bytes() == before


def test_damage_is_found_before_it_is_written_and_nothing_starts_the_slot(own: Card, tmp_path: Path) -> None:
    data = bytearray(packed(NEW, manifest(NEW, 6)))
    data[-CHUNK] ^= 1
    with pytest.raises(Invalid, match="damaged"):
        update(own, tmp_path, bytes(data))
    slots = own.record()
    assert slots.armed is None and slots.layouts[1] == SlotLayout() and own.read(1, 2 * CHUNK, CHUNK) == bytes(CHUNK)
    assert update(own, tmp_path, packed(NEW, manifest(NEW, 6))).armed == 1


def test_a_truncated_file_goes_on_where_it_was_cut(own: Card, tmp_path: Path) -> None:
    whole = packed(NEW, manifest(NEW, 6))
    with pytest.raises(Invalid, match="truncated"):
        update(own, tmp_path, whole[:-CHUNK])
    said: list[str] = []
    update(own, tmp_path, whole, say=said.append)
    assert "2 of 4 MiB were written" in said[-1]


def test_the_same_and_what_was_given_up_are_not_taken_again(own: Card, tmp_path: Path) -> None:
    before = own.record()
    assert update(own, tmp_path, packed(OLD, manifest(OLD, 1, version="1.0"))) == before == own.record()
    data = packed(NEW, manifest(NEW, 6))
    slots = update(own, tmp_path, data)
    with pytest.raises(Conflict, match="not proved"):
        update(own, tmp_path, data, running=1)
    for _ in range(core.TRIES):
        slots = core.started(slots, 0)[1] or slots
    own.write_record(slots)
    assert slots.outcome is UpdateOutcome.GIVEN_UP
    with pytest.raises(Conflict, match="given up"):
        update(own, tmp_path, data)
    assert update(own, tmp_path, data, again=True).armed == 1


def test_a_card_that_does_not_keep_what_is_written_is_not_started_from(
    own: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = own.write
    monkeypatch.setattr(own, "write", lambda slot, offset, data: write(slot, offset, data[:-1] + b"?"))
    with pytest.raises(Unavailable, match="worn"):
        update(own, tmp_path, packed(NEW, manifest(NEW, 6)))
    assert own.record().armed is None


def test_a_disk_without_slots_is_said(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(4096))
    with pytest.raises(NotFound, match="no card"):
        Card(tmp_path / "disk")
    with pytest.raises(Unavailable):
        Card(tmp_path / "none")
    disk(tmp_path / "disk", OLD)
    with (tmp_path / "disk").open("r+b") as file:
        for sector in core.COPIES:
            file.seek(sector * 512)
            file.write(bytes(512))
    with card.opened(tmp_path / "disk") as own, pytest.raises(NotFound, match="record"):
        own.record()


def test_a_record_that_is_half_written_leaves_the_one_before(own: Card, tmp_path: Path) -> None:
    first = own.record()
    own.write_record(core.begin(first))
    second = own.record()
    own.write_record(core.begin(second))
    with (tmp_path / "disk").open("r+b") as file:
        file.seek(core.COPIES[0] * 512 + 100)
        file.write(b"torn")
    assert own.record() == second


class Server(ThreadingHTTPServer):
    """Of one bundle; `answer` says how."""

    daemon_threads = True

    def __init__(self, data: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.asked, self.ranges = data, list[int](), True
        self.drip = 0.0  # seconds between two bytes
        self.cut: list[int] = []  # after so many bytes the connections break, one after the other
        self.statuses: list[tuple[int, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/x.bundle?v=1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        if server.statuses:
            status, location = server.statuses.pop(0)
            self.send_response(status)
            self.send_header("location", location)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        first = int(self.headers["range"].removeprefix("bytes=").rstrip("-"))
        server.asked.append(first)
        first = first if server.ranges else 0
        if first >= len(server.data):
            self.send_error(416)
            return
        body = server.data[first:]
        self.send_response(206 if server.ranges else 200)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-range", f"bytes {first}-{len(server.data) - 1}/{len(server.data)}")
        self.end_headers()
        try:
            for n in range(len(body)) if server.drip else ():
                self.wfile.write(body[n : n + 1])
                time.sleep(server.drip)
            self.wfile.write(body[: server.cut.pop(0)] if server.cut else body)
        except OSError:
            pass
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(packed(NEW, manifest(NEW, 6))) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def fetch(own: Card) -> Callable[[str], core.Slots]:
    def get(url: str) -> core.Slots:
        with closing(HttpSource(url, sleep=lambda seconds: None)) as found:
            return driver.update(found, own, 0, machine(5), quiet)

    return get


def test_a_url_is_read_in_one_go(server: Server, fetch: Callable[[str], core.Slots], own: Card) -> None:
    assert fetch(server.url).armed == 1 and server.asked == [0]
    assert own.read(1, 0, len(NEW)) == NEW


def test_a_connection_that_breaks_goes_on_where_it_was(server: Server, fetch: Callable[[str], core.Slots]) -> None:
    server.cut = [50, 0, CHUNK + 5, 1]
    assert fetch(server.url).armed == 1
    assert server.asked[:3] == [0, 50, 50] and len(server.asked) == 5


def test_what_is_there_already_is_not_fetched(server: Server, fetch: Callable[[str], core.Slots], own: Card) -> None:
    own.write(1, 0, NEW[: 3 * CHUNK])
    assert fetch(server.url).armed == 1
    assert server.asked[-1] == len(server.data) - 4096


def test_a_server_without_ranges_serves_too(server: Server, fetch: Callable[[str], core.Slots]) -> None:
    server.ranges, server.cut = False, [2 * CHUNK]
    assert fetch(server.url).armed == 1 and len(server.asked) == 2


def test_a_server_that_gives_nothing_is_given_up(server: Server, fetch: Callable[[str], core.Slots], own: Card) -> None:
    server.cut = [0] * 20
    with pytest.raises(Unavailable, match="stopped after 0 bytes"):
        fetch(server.url)
    assert len(server.asked) == 8 and own.record().generation == 1


def test_who_waits_for_a_server_is_told_once_for_each_stop(server: Server, own: Card) -> None:
    server.cut, said = [0, 0, 50, 0], list[str]()
    url = f"{server.url}&sig=s3cr3t"
    with closing(HttpSource(url, said.append, sleep=lambda seconds: None)) as found:
        driver.update(found, own, 0, machine(5), quiet)
    assert [line.partition("; ")[2] for line in said] == ["it is asked again, for two minutes or more"] * 2
    assert "s3cr3t" not in "".join(said) and server.url.partition("?")[0] in said[0]


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(
    server: Server, fetch: Callable[[str], core.Slots], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_LONGEST", 0.5)
    server.drip = 0.05
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="too slow"):
        fetch(server.url)
    assert time.monotonic() - begun < 20


def test_statuses_and_redirections(server: Server, fetch: Callable[[str], core.Slots]) -> None:
    server.statuses = [(503, ""), (302, "/elsewhere"), (307, server.url)]
    assert fetch(server.url).armed == 1
    server.statuses = [(404, "")]
    with pytest.raises(Invalid, match="status 404"):
        fetch(server.url)
    server.statuses = [(302, "/again")] * 9
    with pytest.raises(Invalid, match="redirections"):
        fetch(server.url)
    for target in ("file:///etc/passwd", "http://[::1", f"http://{'a' * 64}.x/", "http://a..b/"):
        server.statuses = [(302, target)]
        with pytest.raises(Invalid, match="no URL"):
            fetch(server.url)


def test_no_message_has_what_may_be_secret_in_a_url(server: Server, fetch: Callable[[str], core.Slots]) -> None:
    url = f"{server.url}?X-Amz-Signature=s3cr3t"
    for status, target in ((404, ""), (416, ""), (302, "http://[::1?s3cr3t"), (302, "ftp://u:s3cr3t@h/?s3cr3t")):
        server.statuses = [(status, target)]
        with pytest.raises(Invalid) as refused:
            fetch(url)
        assert "s3cr3t" not in str(refused.value)
    server.cut = [0] * 20
    with pytest.raises(Unavailable) as failed:
        fetch(url)
    assert "s3cr3t" not in str(failed.value) and f"{server.url.partition('?')[0]}?..." in str(failed.value)


def test_a_bundle_that_ends_early_on_the_server(server: Server, fetch: Callable[[str], core.Slots]) -> None:
    server.data = server.data[:-4096]
    with pytest.raises(Invalid, match="truncated"):
        fetch(server.url)


@pytest.mark.parametrize(
    "url", ["ftp://x/y", "http:///y", "http://a b/", "http://u:p@x/", "http://x:99999/", "http://x/\r\nA: b", "http://a..b/", "http://[::1", "http://x/" + "y" * 3000]
)  # fmt: skip
def test_what_is_no_url_of_a_bundle_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        open_source(url)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="No such file"):
        open_source(str(tmp_path / "none"))

"""The clock of a card's machine: by the first time server that answers, and later where none answers at first."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeedge_card import machine, sntp, time_servers

NOW = 1_900_000_000


class Server:
    """Of time, on this machine; it answers once it is told to."""

    def __init__(self) -> None:
        self.channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.channel.bind(("127.0.0.1", 0))
        self.port: int = self.channel.getsockname()[1]
        self.answers, self.asked = False, 0
        self.channel.settimeout(0.05)
        self._over, self._thread = False, threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._over = True
        self._thread.join()
        self.channel.close()

    def answer(self, patch: pytest.MonkeyPatch) -> None:
        """From now on; whoever asks is patient, for this machine may have much else to do."""
        patch.setattr(time_servers, "_PATIENCE", 60.0)
        self.answers = True

    def _serve(self) -> None:
        while not self._over:
            try:
                request, client = self.channel.recvfrom(512)
            except TimeoutError:
                continue
            self.asked += 1
            if self.answers:
                stamp = struct.pack("!II", NOW + 2_208_988_800, 0)
                self.channel.sendto(struct.pack("!BBbb3I", 0x24, 1, 0, 0, 0, 0, 0) + bytes(8) + request[40:48] + bytes(8) + stamp, client)  # fmt: skip


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    found = Server()
    (tmp_path / "epoch").write_text("1800000000\n")
    monkeypatch.setattr(time_servers, "_EPOCH", tmp_path / "epoch")
    monkeypatch.setattr(time_servers, "_PID", tmp_path / "pid")
    monkeypatch.setattr(time_servers, "_PATIENCE", 0.2)
    monkeypatch.setattr(sntp, "PORT", found.port)
    yield found
    found.close()


def waits_for(what: object, until: float = 30.0) -> None:
    end = time.monotonic() + until
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_server_that_answers_sets_the_clock(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[float] = []
    monkeypatch.setattr(time, "clock_settime", lambda clock, now: said.append(now))
    assert not time_servers.set_clock(["127.0.0.1"]) and server.asked == 1 and said == []
    server.answer(monkeypatch)
    assert time_servers.set_clock(["nobody.invalid", "a..b", "a" * 64, "127.0.0.1"]) and said == [NOW]


def test_where_none_answers_they_are_asked_until_one_does(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router is often later than the machine behind it; the machine has become the agent by then."""
    question = tmp_path / "python"
    question.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\n[ -e {tmp_path}/network ]\n')
    question.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(question))
    monkeypatch.setattr(time_servers, "_FIRST_PAUSE", 0)
    asked = tmp_path / "asked"
    assert "asked until one does" in machine.clock(("127.0.0.1",))
    waits_for(asked.exists)
    number = int((tmp_path / "pid").read_text())
    assert machine.clock(("127.0.0.1",)), "the agent has ended, and is started again"
    assert int((tmp_path / "pid").read_text()) == number, "one process asks"
    assert Path(f"/proc/{number}/stat").read_text().split()[3] != str(os.getpid()), "it is no child of the agent"
    (tmp_path / "network").touch()
    waits_for(lambda: not Path(f"/proc/{number}").exists())
    lines = asked.read_text().splitlines()
    assert set(lines) == {"-OO -m kubeedge_card.time_servers 127.0.0.1"}
    server.answer(monkeypatch)
    monkeypatch.setattr(time, "clock_settime", lambda clock, now: None)
    assert machine.clock(("127.0.0.1",)) == ""


def test_the_number_of_a_process_that_has_ended_may_be_another_s(server: Server, tmp_path: Path) -> None:
    for text in ("", "x", str(os.getpid()), "999999999"):
        (tmp_path / "pid").write_text(text)
        assert not time_servers._waits()

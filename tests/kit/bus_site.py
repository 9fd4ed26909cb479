"""Relays and agents of KubeBus as processes in hosts, driven over their standard streams (bus_host.py)."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.kit import log_tails
from tests.kit.topology import DEFAULT_TIMEOUT, Host, descendants

ROOT = Path(__file__).parents[2]


class BusProcess:
    def __init__(self, host: Host, log: Path, **config: Any) -> None:
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                host.command(sys.executable, "-m", "tests.kit.bus_host", json.dumps(config, default=str)),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        log_tails.keep(log, self.process)
        self.host, self.log, self.config = host, log, config
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        begun = self.answer()
        assert begun.get("ready"), log.read_text()[-2000:]

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._answers.put(json.loads(line))
        self._answers.put({"ended": True})

    def answer(self, timeout: float = DEFAULT_TIMEOUT) -> dict[str, Any]:
        try:
            return self._answers.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no answer within {timeout:g} s") from None

    def say(self, **command: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def get(self, node: str, port: int, **more: Any) -> None:
        self.say(get=[node, port], **more)

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        self.say(do=do, **more)
        return self.answer()

    def close(self) -> None:
        """kill -9."""
        _kill(self.process)
        self._thread.join(5)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


def _kill(process: subprocess.Popen[str]) -> None:
    """With what it started: nsenter waits outside of the host."""
    for pid in [*descendants(process.pid), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


PAIR = """
import hashlib, random, socket, sys, time
kind, address, size, rate = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
data = random.Random(5).randbytes(size)
if kind == "serve":
    with socket.create_server((address, 9000), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as server:
        print("ready", flush=True)
        peer, _ = server.accept()
        peer.settimeout(90)
        received = bytearray()
        while chunk := peer.recv(1 << 16):
            received += chunk
            peer.sendall(chunk)
    assert bytes(received) == data, f"{len(received)} bytes, not the same"
    print(hashlib.sha256(received).hexdigest(), flush=True)
else:
    with socket.create_connection((address, 9000), timeout=90) as peer:
        print("ready", flush=True)
        at = echoed = 0
        back = hashlib.sha256()
        while at < size:
            chunk = data[at : at + 4096]
            peer.sendall(chunk)
            at += len(chunk)
            want = len(chunk)
            while want:
                got = peer.recv(want)
                assert got, "closed"
                back.update(got)
                want -= len(got)
            time.sleep(4096 / rate)
        peer.shutdown(socket.SHUT_WR)
    print(back.hexdigest(), flush=True)
"""


class TcpPair:
    """A TCP connection between two hosts that lasts a while: every byte goes there and back and is compared."""

    def __init__(self, client: Host, server: Host, address: str, *, seconds: float, rate: float = 400_000.0) -> None:
        self._processes = []
        for kind, host in (("serve", server), ("call", client)):
            process = subprocess.Popen(
                host.command(sys.executable, "-c", PAIR, kind, address, str(int(seconds * rate)), str(rate)),
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line == "ready\n", line + process.stdout.read()
            self._processes.append(process)

    def result(self, timeout: float = 2 * DEFAULT_TIMEOUT) -> None:
        """AssertionError when a byte was lost or changed, or the connection broke."""
        said = [p.communicate(timeout=timeout)[0] for p in reversed(self._processes)]
        assert all(p.returncode == 0 for p in self._processes), said
        assert said[0] == said[1], said

    @property
    def running(self) -> bool:
        return all(p.poll() is None for p in self._processes)

    def close(self) -> None:
        for process in self._processes:
            _kill(process)
            if process.stdout:
                process.stdout.close()


class Outage:
    """How long an address was away: pings 20 ms apart until stopped."""

    def __init__(self, host: Host, address: str) -> None:
        self._process = subprocess.Popen(
            host.command("ping", "-n", "-D", "-i", "0.05", "-W", "0.5", address),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
        )  # fmt: skip
        self.times: list[float] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if "bytes from" in line and "time=" in line:
                self.times.append(time.time())

    def longest(self, since: float) -> float:
        """Seconds of the longest gap between two answers after `since`; up to now."""
        times = [since, *(t for t in self.times if t > since), time.time()]
        return max(b - a for a, b in zip(times, times[1:], strict=False))

    def answered_after(self, moment: float) -> bool:
        return bool(self.times) and self.times[-1] > moment

    def close(self) -> None:
        _kill(self._process)
        self._thread.join(5)
        if self._process.stdout:
            self._process.stdout.close()

"""A slow, lossy, far wire between two hosts, in user space: many kernels have no netem.

One TUN in each host; a process of its own carries the packets from one to the other with a rate, a one-way delay, random loss
from a seed, and a drop-tail queue in bytes. Conditions can be changed while packets flow. Good to about 200 Mbit/s; with
fast=True the same in C (wire.c, compiled when first used), for benches.

    wire = LossyWire(net, edge, "10.9.0.1/24", nat, "10.9.0.2/24", Conditions(delay=0.010, loss=0.01, rate=20e6), seed=7)
    wire.change(Conditions(loss=1.0))     # cut
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from kubeedge._fastpath import libc

from tests.kit.compiled import compiled
from tests.kit.topology import Host, Topology, _die_with_parent

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_serial = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Conditions:
    rate: float = 1e9  # bits a second, each direction
    delay: float = 0.0  # seconds, one way
    loss: float = 0.0  # probability that a packet vanishes
    queue: int = 500_000  # bytes that wait at most for their turn on the wire; more are dropped


class Direction:
    """One direction of the wire, as a function of packets and time: no I/O."""

    def __init__(self, conditions: Conditions, rng: random.Random) -> None:
        self.conditions = conditions
        self._rng = rng
        self._free_at = 0.0  # when the last queued bit leaves
        self._serial = itertools.count()
        self._flying: list[tuple[float, int, bytes]] = []

    def send(self, packet: bytes, now: float) -> bool:
        """False: lost, or dropped at the full queue."""
        c = self.conditions
        start = max(now, self._free_at)
        if (start - now) * c.rate / 8 + len(packet) > c.queue:
            return False
        self._free_at = start + len(packet) * 8 / c.rate
        if self._rng.random() < c.loss:
            return False
        heapq.heappush(self._flying, (self._free_at + c.delay, next(self._serial), packet))
        return True

    def next_arrival(self) -> float | None:
        return self._flying[0][0] if self._flying else None

    def arrivals(self, now: float) -> list[bytes]:
        arrived = []
        while self._flying and self._flying[0][0] <= now:
            arrived.append(heapq.heappop(self._flying)[2])
        return arrived


class LossyWire:
    """Owned by a Topology: it ends with it."""

    def __init__(self, net: Topology, a: Host, a_address: str, b: Host, b_address: str,
                 conditions: Conditions | None = None, *, seed: int = 1, fast: bool = False) -> None:  # fmt: skip
        conditions = conditions or Conditions()
        n = next(_serial)
        self.names = (f"wan{n}a", f"wan{n}b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.wire", str(a.pid), self.names[0], str(b.pid), self.names[1], str(seed)]
            + ([str(compiled("wire.c"))] if fast else []),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            preexec_fn=_die_with_parent,
        )
        net._stack.callback(self.close)
        self._fast = fast
        self.change(conditions)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the wire did not start")
        for host, name, address in ((a, self.names[0], a_address), (b, self.names[1], b_address)):
            host.ip("addr", "add", address, "dev", name)
            host.ip("link", "set", name, "up")

    def change(self, conditions: Conditions) -> None:
        assert self._process.stdin is not None
        if self._fast:
            c = conditions
            self._process.stdin.write(f"{c.rate} {c.delay} {c.loss} {c.queue}\n")
        else:
            self._process.stdin.write(json.dumps(asdict(conditions)) + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


def _open_tun(pid: int, name: str) -> int:
    with open(f"/proc/{pid}/ns/net") as ns:
        libc.setns(ns.fileno(), libc.CLONE_NEWNET)
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return fd


def _carry(read_from: int, direction: Direction, now: float) -> None:
    for _ in range(64):
        try:
            packet = os.read(read_from, 65536)
        except BlockingIOError:
            return
        except OSError:  # the interface is down
            return
        direction.send(packet, now)


def _deliver(write_to: int, direction: Direction, now: float) -> None:
    for packet in direction.arrivals(now):
        with contextlib.suppress(OSError):
            os.write(write_to, packet)


def main(argv: list[str], clock: Callable[[], float] = time.monotonic) -> None:
    pid_a, name_a, pid_b, name_b, seed = argv[:5]
    a, b = _open_tun(int(pid_a), name_a), _open_tun(int(pid_b), name_b)
    if len(argv) > 5:
        for fd in (a, b):
            os.set_inheritable(fd, True)
        os.execv(argv[5], [argv[5], str(a), str(b), seed])
    rng = random.Random(int(seed))
    conditions = Conditions(**json.loads(sys.stdin.readline()))
    there, back = Direction(conditions, rng), Direction(conditions, rng)
    print("ready", flush=True)
    poll = select.poll()
    for fd in (a, b, sys.stdin.fileno()):
        poll.register(fd, select.POLLIN)
    while True:
        arrivals = [t for d in (there, back) if (t := d.next_arrival()) is not None]
        wait = None if not arrivals else max(0.0, min(arrivals) - clock()) * 1000
        # poll() rounds up to whole milliseconds; below one, spin: a test wire may cost processor time
        for fd, _ in poll.poll(wait if wait is None or wait >= 1 else 0):
            if fd == sys.stdin.fileno():
                line = sys.stdin.readline()
                if not line:
                    return
                there.conditions = back.conditions = Conditions(**json.loads(line))
            else:
                _carry(fd, there if fd == a else back, clock())
        now = clock()
        _deliver(b, there, now)
        _deliver(a, back, now)


if __name__ == "__main__":
    main(sys.argv[1:])

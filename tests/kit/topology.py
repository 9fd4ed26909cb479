"""Hosts and wires made of namespaces. A host is a machine of its own: network, mounts, process ids, host name.

    with Topology() as net:
        #   edge 192.168.7.2 ── 192.168.7.1 nat 203.0.113.7 ── 203.0.113.1 cloud
        edge, nat, cloud = net.host("edge"), net.host("nat"), net.host("cloud")
        net.wire(edge, "192.168.7.2/24", nat, "192.168.7.1/24")
        net.wire(nat, "203.0.113.7/24", cloud, "203.0.113.1/24")
        nat.masquerade("192.168.7.0/24")
        edge.ip("route", "add", "default", "via", "192.168.7.1")
        edge.run("ping", "-c1", "-W1", "203.0.113.1")
        agent = edge.spawn("kubeedge", "edge", log=path)
        edge.power_cut()          # SIGKILL to everything in the host at once
        nat.cut(); nat.heal()     # packets through this router vanish, silently

Everything in a host dies with it: its PID 1 is killed, the kernel kills the rest and frees the namespaces, also when the
test process itself is killed. The pytest fixture `topology` is in tests/conftest.py; the demo uses the class.

Needs root. cgroups are not namespaced: what runs containers must use a cgroup prefix of its own and remove it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from kubeedge._fastpath import libc

from tests.kit import log_tails
from tests.kit.condition import explained

T = TypeVar("T")
DEFAULT_TIMEOUT = (
    90.0  # seconds: a loaded machine is slow, not wrong. What a test asserts of time it measures or counts itself
)
_serial = itertools.count(1)


class CommandFailed(RuntimeError):
    """A command ended with another status than 0; the text has what it said."""


#: what a look at something raises that is not there yet, or not there any more: a command is refused, a file is being replaced, a list is empty
NOT_YET = (CommandFailed, OSError, LookupError, StopIteration, json.JSONDecodeError, subprocess.TimeoutExpired)


def _die_with_parent() -> None:
    libc.set_parent_death_signal(signal.SIGKILL)


def run(*argv: str, check: bool = True, timeout: float = DEFAULT_TIMEOUT, input: str | None = None) -> str:
    """Run one command outside of the hosts; stdout. Raises CommandFailed, which carries what the command said."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, input=input)
    if check and done.returncode:
        raise CommandFailed(
            f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()} {done.stdout.strip()}"
        )
    return done.stdout


def until(
    condition: Callable[[], object], *, what: str, timeout: float = DEFAULT_TIMEOUT, interval: float = 0.02
) -> float:
    """Wait for a condition; seconds it took. AssertionError naming `what`, and what was seen instead, when it does not come.

    A `timeout` is said where it is a bound of the product, or where a look takes long. A look that raises NOT_YET is one more that did not see it.
    """
    start = time.monotonic()
    while True:
        begun = time.monotonic()
        try:
            if condition():
                return time.monotonic() - start
            raised = ""
        except NOT_YET as exc:
            raised = f"\n  the last look raised {type(exc).__name__}: {exc}"
        now = time.monotonic()
        if now - start > timeout:
            raise AssertionError(f"{what}: not within {timeout:g} s{raised}{explained(condition)}")
        # one that starts kubectl leaves as much time to what it waits for as it takes itself: there are two processors
        time.sleep(max(interval, min(now - begun, 0.5)))


def descendants(pid: int) -> list[int]:
    """Process ids below `pid`, children before grandchildren."""
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                children = [int(p) for p in Path(f"/proc/{parent}/task/{task}/children").read_text().split()]
                found += children
                todo += children
    return found


@dataclass(slots=True)
class Host:
    name: str
    pid: int  # of its PID 1, as seen from outside
    _holder: subprocess.Popen[str]
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(self, *argv: str) -> list[str]:
        """The argument vector that runs `argv` inside this host."""
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-p", "-u", "--", *argv]

    def run(self, *argv: str, check: bool = True, timeout: float = DEFAULT_TIMEOUT, input: str | None = None) -> str:
        return run(*self.command(*argv), check=check, timeout=timeout, input=input)

    def ip(self, *argv: str) -> str:
        return self.run("ip", *argv)

    def spawn(self, *argv: str, log: Path | None = None, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a long-running command inside; it is killed with the host."""
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(open(log, "ab")) if log else subprocess.DEVNULL
            process = subprocess.Popen(
                self.command(*argv),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self._processes.append(process)
        if log:
            log_tails.keep(log, process)
        return process

    def signal(self, process: subprocess.Popen[bytes], number: int) -> None:
        """Send a signal to what `spawn` started (the Popen itself is nsenter, which waits outside)."""
        until(lambda: descendants(process.pid) or process.poll() is not None, what="nsenter's child, or its end")
        for pid in descendants(process.pid)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if number == signal.SIGCONT:  # nsenter has stopped itself with its child, and would never hear of its end
            process.send_signal(number)

    def stop(self, process: subprocess.Popen[bytes], *, timeout: float = DEFAULT_TIMEOUT) -> int:
        """SIGTERM and wait; the exit status."""
        self.signal(process, signal.SIGTERM)
        status = process.wait(timeout=timeout)
        self._processes.remove(process)
        return status

    def processes(self) -> list[int]:
        """Ids, as seen from outside, of everything that runs in this host except its PID 1.

        What `spawn` and `run` start is a child of ours and not of the host's PID 1: it is found by its pid namespace.
        """
        inside = {p for p in descendants(self.pid)}
        ours = os.readlink(f"/proc/{self.pid}/ns/pid")
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != self.pid:
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{entry}/ns/pid") == ours:
                        inside.add(int(entry))
                        inside.update(descendants(int(entry)))
        return sorted(inside)

    def running(self, words: bytes) -> list[int]:
        """The ids of `processes` whose command line contains `words`; arguments are separated by NUL, as in proc(5).

        A process may end between the look at the list and the look at it: it is not running then, and no error.
        """
        found = []
        for pid in self.processes():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if words in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def process(self, words: bytes) -> int:
        """The id of the one process whose command line contains `words`, which is waited for.

        A child that was forked has the words of its parent until it starts its own program.
        """
        found: list[int] = []

        def one() -> bool:
            found[:] = self.running(words)
            return len(found) == 1

        until(one, what=f"one process of {self.name} with {words!r}")
        return found[0]

    def power_cut(self) -> int:
        """SIGKILL to every process of the host at once, in rounds until none is left; how many there were."""
        killed = 0
        deadline = time.monotonic() + DEFAULT_TIMEOUT
        while time.monotonic() < deadline:  # one that the kernel keeps for a while, in a system call, ends later
            victims = [p for p in self.processes() if not _is_zombie(p)]
            if not victims:
                break
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            time.sleep(0.01)
        for process in self._processes:
            process.wait(timeout=DEFAULT_TIMEOUT)
        self._processes.clear()
        return killed

    def masquerade(self, source: str) -> None:
        """Become a NAT router for `source`; also what cut() and heal() act on."""
        self.run("tee", "/proc/sys/net/ipv4/ip_forward", input="1")
        rules = f"""
            table ip nat {{
                chain post {{ type nat hook postrouting priority 100;
                    ip saddr {source} ip daddr != {source} masquerade; }}
            }}
            table ip wire {{
                chain forward {{ type filter hook forward priority 0; }}
            }}
        """
        self.run("nft", "-f", "-", input=rules)

    def cut(self) -> None:
        """Everything that this router should forward vanishes, in both directions, without an answer."""
        self.run("nft", "add", "rule", "ip", "wire", "forward", "drop")

    def heal(self) -> None:
        self.run("nft", "flush", "chain", "ip", "wire", "forward")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout:
            self._holder.stdout.close()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


class Topology:
    """Makes hosts and wires; leaves none behind."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Topology:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def host(self, name: str) -> Host:
        holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--uts", "--propagation", "private", "--kill-child",
             sys.executable, "-I", str(Path(__file__).with_name("host_init.py")), name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )  # fmt: skip
        assert holder.stdout is not None
        line = holder.stdout.readline()
        children = descendants(holder.pid)
        if line != "ready\n" or not children:
            holder.kill()
            holder.wait()
            holder.stdout.close()
            raise RuntimeError(f"host {name} did not start (is this root with CAP_SYS_ADMIN?)")
        host = Host(name, children[0], holder)
        self._stack.callback(host.close)
        return host

    def wire(self, a: Host, a_address: str, b: Host, b_address: str) -> tuple[str, str]:
        """A veth pair between two hosts with one address at each end; the names of both ends."""
        n = next(_serial)
        x, y = f"veth{n}a", f"veth{n}b"
        run("ip", "link", "add", x, "netns", str(a.pid), "type", "veth", "peer", "name", y, "netns", str(b.pid))
        for host, device, address in ((a, x, a_address), (b, y, b_address)):
            host.ip("addr", "add", address, "dev", device)
            host.ip("link", "set", device, "up")
        return x, y

    def bridge(self, host: Host, address: str, members: Sequence[tuple[Host, str]]) -> None:
        """`host` becomes a switch with an address of its own; each member gets a port on it."""
        name = f"br{next(_serial)}"
        host.ip("link", "add", name, "type", "bridge")
        host.ip("addr", "add", address, "dev", name)
        host.ip("link", "set", name, "up")
        for member, member_address in members:
            n = next(_serial)
            x, y = f"veth{n}a", f"veth{n}b"
            run("ip", "link", "add", x, "netns", str(member.pid), "type", "veth",
                "peer", "name", y, "netns", str(host.pid))  # fmt: skip
            member.ip("addr", "add", member_address, "dev", x)
            member.ip("link", "set", x, "up")
            host.ip("link", "set", y, "master", name, "up")


def enter(host: Host) -> None:
    """This thread is in the network of that host from now on."""
    with open(f"/proc/{host.pid}/ns/net") as ns:
        libc.setns(ns.fileno(), libc.CLONE_NEWNET)


def inside(host: Host, do: Callable[[], T]) -> T:
    """The result of a function that runs in the network of a host."""
    found: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            enter(host)
            found.append(do())
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return found[0]


@contextlib.contextmanager
def edges_behind_nat(count: int = 2) -> Iterator[tuple[Topology, Host, list[Host], list[Host], Host]]:
    """(net, cloud, edges, nats, internet): the demo's picture.

    internet 203.0.113.200 ──┐
    cloud    203.0.113.1   ──┤ (a switch inside cloud)
    nat N    203.0.113.10N ──┘── 192.168.N.1 ── 192.168.N.2 edge N
    """
    with Topology() as net:
        cloud, internet = net.host("cloud"), net.host("internet")
        edges = [net.host(f"edge{n}") for n in range(1, count + 1)]
        nats = [net.host(f"nat{n}") for n in range(1, count + 1)]
        net.bridge(
            cloud,
            "203.0.113.1/24",
            [(internet, "203.0.113.200/24"), *((nat, f"203.0.113.{100 + n}/24") for n, nat in enumerate(nats, 1))],
        )
        for n, (edge, nat) in enumerate(zip(edges, nats, strict=True), 1):
            net.wire(edge, f"192.168.{n}.2/24", nat, f"192.168.{n}.1/24")
            edge.ip("route", "add", "default", "via", f"192.168.{n}.1")
            nat.masquerade(f"192.168.{n}.0/24")
        yield net, cloud, edges, nats, internet

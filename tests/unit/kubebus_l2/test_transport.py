"""Links do not care what carries them: a transport without TCP and without TLS, in virtual time."""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

from kubeedge.kubebus.l2.core import HelloHeard, LinkCore, LinkEvent, Role
from kubeedge.kubebus.l2.messages import Welcome
from kubeedge.kubebus.l3.plane import CONTROL, Plane
from kubeedge.kubebus.links.core import LinksSettings
from kubeedge.kubebus.links.driver import Links
from kubeedge.kubebus.links.transport import Path
from tests.kit import virtual_time


class Relay:
    """The other end, and the data plane on our side: frames go over straight away."""

    def __init__(self) -> None:
        self.links: Links | None = None
        self.cores: dict[int, LinkCore] = {}
        self.dropped: list[tuple[int, str]] = []

    def connect(self) -> int:
        port = len(self.cores) + 1
        self.cores[port] = LinkCore(Role.RELAY)
        self.cores[port].open(_now())
        asyncio.get_running_loop().call_soon(self._up, port)
        return port

    def _up(self, port: int) -> None:
        assert self.links is not None
        self.links.on_up(port, "spiffe://kubeedge/cloud/relay")

    def send(self, port: int, kind: int, payload: bytes) -> bool:
        assert kind == CONTROL and self.links is not None
        core = self.cores[port]
        for event in core.receive(payload, _now()):
            if isinstance(event, HelloHeard):
                core.welcome(Welcome(1, "100.64.0.1", "10.244.1.0/24", (), 1500, "r1"))
        for answer in core.payloads_to_send():
            asyncio.get_running_loop().call_soon(self.links.on_control, port, answer)
        return True

    def admit(self, port: int, **_: Any) -> bool:
        return True

    def drop(self, port: int, reason: str) -> None:
        self.dropped.append((port, reason))

    def congestion(self, port: int) -> tuple[str, str]:
        return "", ""

    def counters(self, port: int) -> None:
        return None


class InMemory:
    """A transport and its paths."""

    def __init__(self, relay: Relay, *, attach_fails: int = 0) -> None:
        self.dialled: list[str] = []
        self.closed = 0
        self._relay = relay
        self._attach_fails = attach_fails

    async def dial(self, relay: str) -> Path:
        self.dialled.append(relay)
        await asyncio.sleep(0.01)
        return _Path(self)

    def attach(self) -> int:
        if self._attach_fails:
            self._attach_fails -= 1
            raise OSError("no port is left")
        return self._relay.connect()


class _Path:
    local = remote = "127.0.0.1"

    def __init__(self, transport: InMemory) -> None:
        self._transport = transport

    def attach(self, plane: Plane) -> int:
        return self._transport.attach()

    def close(self) -> None:
        self._transport.closed += 1


def _now() -> float:
    return asyncio.get_running_loop().time()


def run(
    seconds: float, *, attach_fails: int = 0, relays: tuple[str, ...] = ("relay:1",)
) -> tuple[InMemory, Links, list[bool]]:
    """A node with one link for so long: its transport, its links, and when it was up."""
    changes: list[bool] = []

    def fine(*_: Any) -> LinkEvent | None:
        return None

    async def scenario() -> tuple[InMemory, Links]:
        relay = Relay()
        transport = InMemory(relay, attach_fails=attach_fails)
        links = relay.links = Links(
            LinksSettings(relays=relays, connections=1), cast(Plane, relay), transport,
            check=cast(Any, fine), changed=changes.append, lost=cast(Any, fine), rng=random.Random(1),
        )  # fmt: skip
        task = asyncio.create_task(links.run())
        await asyncio.sleep(seconds)
        assert [(i.relay, i.relay_name, i.state) for i in links.infos()] == [(relays[0], "r1", "up")]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert relay.dropped[-1][1] == "the agent stops"
        return transport, links

    return *virtual_time.run(scenario()), changes


def test_a_link_comes_up_and_stays_on_a_transport_that_is_not_tcp() -> None:
    transport, links, changes = run(300.0)
    assert transport.dialled == ["relay:1"] and changes == [True]
    assert links.totals == (1, 0) and links.last_error == ""


def test_a_relay_that_answers_soon_is_the_only_one_that_is_asked() -> None:
    transport, _, _ = run(5.0, relays=("relay:1", "relay:2"))
    assert transport.dialled == ["relay:1"] and transport.closed == 0


def test_a_path_that_the_data_plane_does_not_take_is_an_attempt_that_failed() -> None:
    transport, links, changes = run(5.0, attach_fails=2)
    assert len(transport.dialled) == 3 and changes == [True]
    assert links.totals == (1, 2)

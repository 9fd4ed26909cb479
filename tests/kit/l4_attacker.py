"""A node that turned bad: a link with its own certificate, and L4 segments made by hand.

    python -m tests.kit.l4_attacker ROOT ROUNDS

ROOT is where the node joined. Each round begins six connections to the cloud's echo of KubeBus, sends 1,024 overlapping pieces beyond a hole in
each and leaves 2,000 more connections half open; then prints "round N". After the last it keeps the link until it is killed.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from kubeedge.config.edge import at_root
from kubeedge.config.node_credentials import load_credentials
from kubeedge.kubebus import ping
from kubeedge.kubebus.l2.core import LinkEvent, LinkUp
from kubeedge.kubebus.l3.plane import FrameReceived, Plane, PortClosed, PortConnected, SegmentReceived, TlsContext
from kubeedge.kubebus.links.core import LinksSettings
from kubeedge.kubebus.links.driver import Links
from kubeedge.kubebus.links.link import Link
from kubeedge.kubebus.links.transport import TlsTransport
from tests.reference.l4.segment import ACK, MAX_PAYLOAD, SYN, Segment, decode, encode

_PIECES, _CONNECTIONS, _HALF_OPEN = 1024, 6, 2000
_TIMEOUT = 60.0  # seconds for an answer to a SYN


class Attacker:
    def __init__(self, root: Path) -> None:
        paths = at_root(root)
        own = load_credentials(paths.pki.parent / "node.json")
        self.plane = Plane(own.number)
        self.cloud: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.answers: dict[int, asyncio.Future[Segment]] = {}
        self.port = 2000
        self.links = Links(
            LinksSettings(relays=own.relays, connections=1),
            self.plane,
            TlsTransport(
                TlsContext(paths.pki / "ca.crt", paths.pki / "node.crt", paths.pki / "node.key", server=False)
            ),
            check=self._check_event,
            changed=lambda up: None,
            lost=lambda link: None,
            rng=random.Random(1),
        )
        asyncio.get_running_loop().add_reader(self.plane.fileno(), self._on_plane)

    def _check_event(self, link: Link, event: LinkEvent) -> str | None:
        if isinstance(event, LinkUp) and not self.cloud.done():
            self.cloud.set_result(event.welcome.relay_number)
        return None

    def _on_plane(self) -> None:
        for event in self.plane.events():
            match event:
                case SegmentReceived(_, _, _, payload):
                    s = decode(payload)
                    future = self.answers.get(s.destination_port)
                    if future is not None and not future.done():
                        future.set_result(s)
                case PortConnected(port, uri):
                    self.links.on_up(port, uri)
                case FrameReceived(port, _, payload):
                    self.links.on_control(port, payload)
                case PortClosed(port, reason):
                    self.links.on_down(port, reason)

    def say(self, port: int, sequence: int, acknowledgement: int, flags: int, payload: bytes = b"") -> None:
        s = Segment(port, ping.PORT, sequence, acknowledgement, 1 << 20, flags, (), payload)
        self.plane.send_segment(0, self.cloud.result(), encode(s))

    async def round(self) -> None:
        await self.cloud
        for _ in range(_CONNECTIONS):
            self.port += 1
            answered = self.answers[self.port] = asyncio.get_running_loop().create_future()
            self.say(self.port, 1000, 0, SYN)
            try:
                async with asyncio.timeout(_TIMEOUT):
                    answer = await answered
            except TimeoutError:
                continue
            if answer.flags & SYN:
                await self._pieces(self.port, answer)
        for _ in range(_HALF_OPEN):
            self.port = self.port + 1 if self.port < 60_000 else 2000
            self.say(self.port, 1000, 0, SYN)
            await asyncio.sleep(0)

    async def _pieces(self, port: int, answer: Segment) -> None:
        acknowledgement = (answer.sequence + 1) & 0xFFFFFFFF
        self.say(port, 1001, acknowledgement, ACK)
        for n in range(_PIECES):
            at = 1002 + n * (answer.window - MAX_PAYLOAD - 1) // _PIECES
            self.say(port, at, acknowledgement, ACK, bytes(MAX_PAYLOAD))
            if n % 32 == 31:
                await asyncio.sleep(0.01)  # the queue of the link is short


async def main(root: Path, rounds: int) -> None:
    attacker = Attacker(root)
    links = asyncio.create_task(attacker.links.run())
    for n in range(rounds):
        await attacker.round()
        print(f"round {n}", flush=True)
    await links


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))

"""How the links of a node look for a relay, in virtual time, on a network that takes everything and answers nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, cast

import pytest

from kubeedge.kubebus.l3.plane import Plane
from kubeedge.kubebus.links.core import LinksSettings
from kubeedge.kubebus.links.driver import Links
from kubeedge.kubebus.links.transport import Path
from tests.kit import virtual_time

NEAR, FAR = "203.0.113.1:1", "203.0.113.2:1"


class Silent:
    """A transport on such a network; `refused`: which relays refuse at once."""

    def __init__(self, refused: Callable[[str], bool]) -> None:
        self.heard: list[tuple[float, str]] = []
        self._refused = refused

    async def dial(self, relay: str) -> Path:
        self.heard.append((asyncio.get_running_loop().time(), relay))
        if self._refused(relay):
            raise ConnectionRefusedError("refused")
        await asyncio.Event().wait()
        raise AssertionError


def looking(relays: tuple[str, ...], transport: Silent) -> Links:
    def nothing(*_: Any) -> None:
        return None

    return Links(
        LinksSettings(relays=relays, connections=1), cast(Plane, None), transport,
        check=nothing, changed=nothing, lost=nothing, rng=random.Random(7),
    )  # fmt: skip


def knocks(relays: tuple[str, ...], seconds: float, refused: Callable[[str], bool]) -> list[tuple[float, str]]:
    """(when, at which relay) within the first seconds."""
    transport = Silent(refused)

    async def scenario() -> None:
        task = asyncio.create_task(looking(relays, transport).run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual_time.run(scenario())
    return transport.heard


@pytest.mark.parametrize("relays", [(NEAR,), (NEAR, FAR)])
def test_a_silent_relay_is_asked_again_within_a_second_and_a_half(relays: tuple[str, ...]) -> None:
    """So that a path that comes back while nobody here can see it is used within 2 s, handshake included."""
    heard = knocks(relays, 55.0, lambda relay: False)
    for relay in relays:
        times = [0.0, *(at for at, where in heard if where == relay), 55.0]
        assert max(b - a for a, b in zip(times, times[1:], strict=False)) <= 1.5
        assert len(times) < 70  # and it is no flood


def test_who_refuses_is_not_asked_again_in_the_same_race() -> None:
    heard = knocks((NEAR, FAR), 3.0, lambda relay: relay == NEAR)
    assert heard == [(0.0, NEAR), (0.0, FAR), (1.25, FAR), (2.5, FAR)]


def test_a_long_outage_costs_less() -> None:
    heard = knocks((NEAR,), 3600.0, lambda relay: False)
    assert 400 < len([at for at, _ in heard if at > 120.0]) < 3500 / 5.5

"""How the links of a node look for a relay, in virtual time, on a network that takes everything and answers nothing."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from kubeedge.kubebus import links
from kubeedge.kubebus.l3.plane import Plane, TlsContext
from kubeedge.kubebus.links import Links, LinksSettings
from tests.kit import virtual_time

NEAR, FAR = "203.0.113.1:1", "203.0.113.2:1"


def looking(relays: tuple[str, ...]) -> Links:
    def nothing(*_: Any) -> None:
        return None

    return Links(
        LinksSettings(relays=relays, connections=1), cast(Plane, None), cast(TlsContext, None),
        judge=nothing, changed=nothing, lost=nothing, rng=random.Random(7),
    )  # fmt: skip


def knocks(
    monkeypatch: pytest.MonkeyPatch, relays: tuple[str, ...], seconds: float, refused: Callable[[str], bool]
) -> list[tuple[float, str]]:
    """(when, at which relay) within the first seconds."""
    heard: list[tuple[float, str]] = []

    async def open_connection(host: str, port: int) -> socket.socket:
        heard.append((asyncio.get_running_loop().time(), f"{host}:{port}"))
        if refused(f"{host}:{port}"):
            raise ConnectionRefusedError("refused")
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(links, "open_connection", open_connection)

    async def scenario() -> None:
        task = asyncio.create_task(looking(relays).run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual_time.run(scenario())
    return heard


@pytest.mark.parametrize("relays", [(NEAR,), (NEAR, FAR)])
def test_a_silent_relay_is_asked_again_within_a_second_and_a_half(
    monkeypatch: pytest.MonkeyPatch, relays: tuple[str, ...]
) -> None:
    """So that a path that comes back while nobody here can see it is used within 2 s, handshake included."""
    heard = knocks(monkeypatch, relays, 55.0, lambda relay: False)
    for relay in relays:
        times = [0.0, *(at for at, where in heard if where == relay), 55.0]
        assert max(b - a for a, b in zip(times, times[1:], strict=False)) <= 1.5
        assert len(times) < 70  # and it is no flood


def test_who_refuses_is_not_asked_again_in_the_same_race(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = knocks(monkeypatch, (NEAR, FAR), 3.0, lambda relay: relay == NEAR)
    assert heard == [(0.0, NEAR), (0.0, FAR), (1.25, FAR), (2.5, FAR)]


def test_a_long_outage_costs_less(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = knocks(monkeypatch, (NEAR,), 3600.0, lambda relay: False)
    assert 400 < len([at for at, _ in heard if at > 120.0]) < 3500 / 5.5
